//! report(): the page that it gives is about what has happened, shows each reader what is his, and is never large. What it looks like is
//! tried where it is drawn.

use autoembed_stub::Fault;
use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};
use std::time::Instant;

fn report(db: &mut Db) -> String {
    let page = db.text("SELECT autoembed.report()");
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">") && page.ends_with("</html>\n") && page.is_ascii());
    assert!(!page.contains("<script") && !page.contains("://"), "it needs nothing else");
    page
}

fn says(page: &str, words: &str) {
    let (_, body) = page.split_once("<body>").expect("it has a body");
    assert!(body.contains(words), "{words:?} is not said: {body}");
}

#[test]
fn it_tells_what_has_happened() {
    let mut site =
        Site::builder().model("max_batch_inputs => 10, options => '{\"price_per_million_tokens\": 1000}'").start();
    let page = report(&mut site.db);
    says(&page, "There is no table here that is kept embedded");
    says(&page, "No row was embedded in this time.");
    site.messages("");
    site.insert(1, 30);
    site.settle("messages", "content");
    site.fault(Fault::Poison("zebra".to_owned()));
    site.db.run("INSERT INTO messages (content) VALUES ('zebra')");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    let page = report(&mut site.db);
    let requests = site.db.int("SELECT count(*) FROM autoembed.requests WHERE inputs > 0");
    let failed = site.db.int("SELECT count(error_code) FROM autoembed.requests");
    for words in [
        "30 rows in all",
        "<h3>public.messages</h3><p class=\"model\">stub</p>",
        "1 row was given up and waits for somebody",
        &format!("<dt>rows embedded</dt><dd><b>30</b> <small>by {requests} requests</small>"),
        &format!("<p>{failed} of {requests} ("),
        "<h2>Rows given up</h2>",
        "<h2>Use of each day</h2>",
        &format!("<td>{}</td>", site.db.text("SELECT code FROM autoembed.failed_jobs")),
        &format!("PostgreSQL {}", site.db.text("SHOW server_version")),
        "<td>worker</td>",
    ] {
        says(&page, words);
    }
    assert!(!page.contains("zebra"), "texts of rows are nobody's business");
    assert!(page.matches("<svg").count() >= 9 + 4);
    // It reads, and no more; another time, another zone.
    site.db.run("SET TimeZone = 'Asia/Kathmandu'; BEGIN READ ONLY");
    let page = site.db.text("SELECT autoembed.report('1 hour')");
    says(&page, "The last 1 h, until");
    says(&page, "(Asia/Kathmandu)");
    site.db.run("COMMIT");
    says(&site.db.text("SELECT autoembed.report('10 years')"), "the log of requests is kept for 7 d");
    for none in ["0 s", "-1 day"] {
        site.db.error(&format!("SELECT autoembed.report('{none}')")).assert("22023", "since is not more than no time");
    }
    assert_eq!(site.db.maybe("SELECT autoembed.report(NULL)"), None);
    assert_eq!(site.db.text("SELECT provolatile::text || prosecdef FROM pg_proc WHERE proname = 'report'"), "sfalse");
}

/// What stops the work is said, with what to do; and what names say stays a name.
#[test]
fn names_and_messages_are_texts() {
    let mut site = Site::new();
    let name = "<script>alert(\"1\")</script> 'q' & \u{1F600}";
    let table = format!("\"{}\"", name.replace('"', "\"\""));
    site.db.run(&format!("CREATE SCHEMA \"<b>\"; CREATE TABLE \"<b>\".{table} (id int PRIMARY KEY, body text)"));
    site.enable(&format!("\"<b>\".{table}"), "body", "embedding => '<img src=x>'");
    site.db.run(&format!("INSERT INTO \"<b>\".{table} VALUES (1, 'one')"));
    site.db.until("SELECT sum(rows) FROM autoembed.requests", "1", PATIENCE);
    site.db.run(&format!("ALTER TABLE \"<b>\".{table} DISABLE TRIGGER USER; INSERT INTO autoembed.job (vectorizer_id, lane, key) VALUES (1, 0, '1')"));
    site.db.until("SELECT state LIKE 'blocked%' FROM autoembed.status", "t", PATIENCE);
    let page = report(&mut site.db);
    says(
        &page,
        "&quot;&lt;b&gt;&quot;.&quot;&lt;script&gt;alert(&quot;&quot;1&quot;&quot;)&lt;/script&gt; &#39;q&#39; &amp; &#128512;&quot;.&lt;img src=x&gt;",
    );
    says(&page, "is disabled, so changes are not seen");
    assert!(!page.contains("<img"));
}

#[test]
fn each_reader_is_shown_what_the_views_show_him() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE secret (id int PRIMARY KEY, body text); INSERT INTO secret VALUES (1, 'one')");
    site.enable("secret", "body", "");
    site.insert(1, 5);
    site.settle("messages", "content");
    site.until_idle("secret");
    site.db.run("CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; GRANT SELECT ON messages TO reader");
    let page = report(&mut site.session_as("reader"));
    says(&page, "5 rows in all");
    says(&page, "<h3>public.messages</h3>");
    assert!(!page.contains("secret") && !page.contains("Use of each day"), "{page}");
    let page = report(&mut site.session_as("stranger"));
    says(&page, "There is no table here");
    assert!(!page.contains("messages") && !page.contains("stub"), "{page}");
    let page = report(&mut site.session_as("watcher"));
    says(&page, "Use of each day");
    assert!(!page.contains("messages"));
    // From whom a policy hides rows, the figures are hidden as well.
    site.db.run("ALTER TABLE messages ENABLE ROW LEVEL SECURITY; CREATE POLICY first ON messages USING (id = 1)");
    let page = report(&mut site.session_as("reader"));
    says(&page, "Policies hide rows of this table from the reader");
    says(&page, "No row was embedded in this time.");
    assert!(!page.contains("5 rows"));
    // Who has taken the rights from him.
    site.db.run("REVOKE SELECT ON autoembed.requests FROM PUBLIC");
    assert_eq!(site.session_as("reader").error("SELECT autoembed.report()").code, "42501");
}

/// A day of requests, of which some have failed: of each of `tables`, which are there.
fn fill(db: &mut Db, requests: usize) {
    db.run(&format!(
        "INSERT INTO autoembed.request (at, vectorizer_id, model, inputs, rows, cached, tokens, cost, ms, waited_ms, pending, status, error_code)
         SELECT now() - i * interval '1 day' / {requests}, v.id, v.model, 40, 45, 5, 1800, 3.6e-5, 40 + i % 700, 90 + i % 9000,
             CASE WHEN i % 10 = 0 THEN i % 1000 END, 200, CASE WHEN i % 250 = 0 THEN 'http_503' WHEN i % 777 = 0 THEN 'timeout' END
         FROM generate_series(1, {requests}) i
         JOIN (SELECT *, row_number() OVER () AS n, count(*) OVER () AS of FROM autoembed.vectorizer) v ON v.n = i % v.of + 1;
         ANALYZE autoembed.request"
    ));
}

#[test]
fn a_long_log_makes_no_long_page() {
    let mut site = Site::with_messages();
    site.db
        .run("CREATE TABLE notes (id int PRIMARY KEY, body text); CREATE TABLE pages (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "");
    site.enable("pages", "body", "");
    let mut sizes = Vec::new();
    for requests in [1_000, 100_000] {
        fill(&mut site.db, requests);
        let start = Instant::now();
        let page = report(&mut site.db);
        println!("{} bytes about {requests} requests more, in {:?}", page.len(), start.elapsed());
        sizes.push(page.len());
        assert!(start.elapsed().as_secs() < 30);
        assert!(page.matches("<title>").count() <= 1 + 9 * 97 + 4 * 5);
    }
    assert!(sizes[1] < 210_000, "{sizes:?}");
    // As many as there were, whatever part they are in.
    let rows = site.db.int("SELECT sum(rows) FROM autoembed.request WHERE at > now() - interval '23 hours'");
    let page = report(&mut site.db);
    let told = page.split(" rows in all").next().unwrap().rsplit(['<', '>']).next().unwrap().replace(',', "");
    assert!((rows..=45 * 101_000).contains(&told.parse::<i64>().unwrap()), "{told}, and {rows} in 23 hours");
}

/// The queue was counted in the midst of a burst, and not at its end: what was written then does not wait until the next request.
#[test]
fn a_backlog_is_what_was_left() {
    let mut site = Site::with_messages();
    let hour = site.db.text("SELECT date_trunc('hour', now()) - interval '5 h'");
    site.db.run(&format!(
        "INSERT INTO autoembed.request (at, vectorizer_id, model, inputs, rows, ms, pending)
         SELECT timestamptz '{hour}' + n * interval '1 s', v.id, v.model, 10, 400, 5, CASE n WHEN 1 THEN 1000 END
         FROM autoembed.vectorizer v, generate_series(1, 3) n ORDER BY n"
    ));
    let page = report(&mut site.db);
    for (minutes, figures) in
        [(0, "<td>1,200</td><td>1,000</td>"), (15, "<td>0</td><td>200</td>"), (60, "<td>0</td><td>200</td>")]
    {
        let sql = format!("timestamptz '{hour}' + {minutes} * interval '1 min'");
        let part = site.db.text(&format!("SELECT to_char({sql}, 'YYYY-MM-DD HH24:MI')"));
        says(&page, &format!("<th scope=\"row\">{part}</th>{figures}"));
    }
}

#[test]
fn fifty_tables_fit() {
    let mut site = Site::new();
    for n in 0..50 {
        let name = format!("a_table_of_many_{n}");
        site.db.run(&format!("CREATE TABLE {name} (id int PRIMARY KEY, body text)"));
        site.db.run(&format!("SELECT autoembed.enable({}, 'body', 'stub', backfill => false)", literal(&name)));
    }
    fill(&mut site.db, 50_000);
    let page = report(&mut site.db);
    println!("{} bytes with 50 tables", page.len());
    assert!(page.len() < 330_000, "{}", page.len());
    assert_eq!(page.matches("<article>").count(), 50);
}

/// Who does not want it any more does not wait until it is drawn.
#[test]
fn it_ends_when_it_is_not_wanted() {
    const TABLES: i64 = 40;
    let mut site = Site::new();
    site.db.run(&format!(
        "DO $$BEGIN FOR i IN 1..{TABLES} LOOP
           EXECUTE format('CREATE TABLE t_%s (id int PRIMARY KEY, body text)', i);
           PERFORM autoembed.enable(format('t_%s', i)::regclass, 'body', model => 'stub', index => 'none');
         END LOOP; END$$;
         INSERT INTO autoembed.request (at, vectorizer_id, model, inputs, rows, tokens, ms)
         SELECT now() - i * interval '0.16 s', 1 + i % {TABLES}, 'model ' || i % 7, 1, 1, 10, 5 FROM generate_series(1, 500000) i"
    ));
    let mut took = || {
        let begun = Instant::now();
        report(&mut site.db);
        begun.elapsed()
    };
    // The first also reads the table from the disk.
    let whole = took().min(took());
    for part in [0.1, 0.3] {
        let limit = whole.mul_f64(part);
        site.db.run(&format!("SET statement_timeout = {}", limit.as_millis().max(1)));
        let begun = Instant::now();
        let ended = site.db.error("SELECT autoembed.report()");
        assert_eq!(ended.code, "57014", "{ended:?}");
        let late = begun.elapsed().saturating_sub(limit);
        println!("after {limit:?} of {whole:?}: {late:?} late");
        assert!(late < whole.mul_f64(0.4).max(std::time::Duration::from_millis(200)), "{late:?} late");
    }
    site.db.run("RESET statement_timeout");
    report(&mut site.db);
}
