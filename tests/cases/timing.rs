//! What one tenant could learn of another without being shown a row: from the time of an answer, from numbers, and from what a
//! comparison does that should never have come to a foreign row.

use autoembed_stub::{Fault, Script};
use autoembed_tests::site::{self, PATIENCE};
use autoembed_tests::{Cluster, Db, Site};
use std::time::{Duration, Instant};

/// Calls of each side of a comparison.
const ROUNDS: usize = 40;
/// Times that are no farther apart tell nothing. What this is about takes four times as long, of hybrid searches 1.4 times.
const MOST_APART: f64 = 1.3;

/// A time that a tenth of the calls keep to: what else the machine does makes calls longer, never shorter.
fn quick(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 10].as_secs_f64()
}

/// How many times as long the first of two takes. The calls take turns, so that what else the machine does meets both.
fn apart(db: &mut Db, pair: &[String; 2]) -> f64 {
    let mut took = |sql: &String| {
        let begun = Instant::now();
        db.rows(sql);
        begun.elapsed()
    };
    for sql in pair {
        took(sql);
    }
    let times: Vec<[Duration; 2]> = (0..ROUNDS).map(|_| [took(&pair[0]), took(&pair[1])]).collect();
    let [one, other] = [0, 1].map(|which| quick(times.iter().map(|pair| pair[which]).collect()));
    println!("{:.2} ms and {:.2} ms: {} and {}", one * 1e3, other * 1e3, pair[0], pair[1]);
    one / other
}

/// By the median of five comparisons: a difference that tells something is there each time, and on the same side; what the machine does
/// besides is not.
fn assert_alike(db: &mut Db, pair: [String; 2]) {
    let is_alike = |ratio: f64| ratio.max(1.0 / ratio) <= MOST_APART;
    let mut ratios = Vec::new();
    // Where three of them are alike, the median is.
    while ratios.len() < 5 && ratios.iter().filter(|ratio| is_alike(**ratio)).count() < 3 {
        ratios.push(apart(db, &pair));
    }
    ratios.sort_by(f64::total_cmp);
    assert!(ratios.len() < 5 || is_alike(ratios[2]), "one of these takes longer: {ratios:?}, {pair:#?}");
}

/// Two tenants with 2,000 rows each, of red's all about one thing: in `notes`, with words, and in `pages`, in chunks.
fn two_tenants() -> (Db, Cluster) {
    const TEXTS: &str = "INSERT INTO # SELECT i, 'blue', 'the ' || (ARRAY['dog', 'cat', 'horse', 'garden', 'car', 'engine', 'kitchen', 'school', 'teacher', 'doctor'])[1 + i % 10] || ' of number ' || i
           FROM generate_series(1, 2000) i;
         INSERT INTO # SELECT 100000 + i, 'red', 'zanzibar spice merger contract, secret plan ' || i FROM generate_series(1, 2000) i";
    let (mut db, cluster) = site::bare();
    db.run("CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN");
    for (table, more) in [("notes", "text_search => 'english'"), ("pages", "chunk_size => 64")] {
        db.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, tenant name, body text)"));
        db.run(&TEXTS.replace('#', table));
        // 2,000 rows are few enough for the index to be made first.
        db.run(&format!(
            "SELECT autoembed.enable('{table}', 'body', {more}); ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON {table} USING (tenant = current_user); GRANT SELECT ON {table} TO red, blue"
        ));
    }
    db.run("GRANT SELECT ON pages_chunks TO red, blue");
    assert!(db.yes("SELECT autoembed.wait(timeout => '2 min')"));
    db.until("SELECT count(*) FROM autoembed.progress", "0", PATIENCE);
    db.run("INSERT INTO notes VALUES (200001, 'red', '🤷')");
    db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    db.run("SELECT autoembed.pause('notes'); INSERT INTO notes VALUES (200002, 'red', 'zanzibar waits')");
    db.rows("VACUUM ANALYZE");
    (db, cluster)
}

/// A search for what another tenant writes about takes no longer than one for what nobody does, though a scan of the index would come by
/// all of his rows; and what is asked of a foreign key is answered as quickly as of a key that is not there.
#[test]
fn g36_the_time_of_an_answer_tells_nothing() {
    let (mut db, cluster) = two_tenants();
    let mut red = cluster.client_as("app", "red");
    let mut blue = cluster.client_as("app", "blue");
    let (theirs, nobodys) = ("zanzibar spice merger contract", "volcano bishop violin harvest");
    for around in [
        "similar_notes('#', 5)",
        "similar_notes('#', 50)",
        "similar_notes('#', 5, min_similarity => 0.9)",
        "similar_notes('#', 5, filter => '{\"tenant\": [\"red\", \"blue\"]}')",
        "similar_notes('#', 20, mode => 'hybrid')",
        "similar_pages('#', 5)",
        "similar_pages('#', 5, filter => '{\"tenant\": \"blue\"}')",
    ] {
        assert_alike(&mut blue, [theirs, nobodys].map(|query| format!("SELECT * FROM {}", around.replace('#', query))));
    }
    for around in [
        "similar_notes_to(#)",
        "similar_notes_to(#, 50, filter => '{\"tenant\": \"red\"}')",
        "similar_notes('dog', 5, filter => '{\"id\": #}')",
        "similar_pages('dog', 5, filter => '{\"id\": [#]}')",
        "autoembed.job_status('notes', '#')",
        "autoembed.job_status('pages', '#')",
    ] {
        assert_alike(&mut blue, ["100001", "99999"].map(|key| format!("SELECT * FROM {}", around.replace('#', key))));
    }
    for key in ["200001", "200002"] {
        let calls = [key, "200003"].map(|key| format!("SELECT * FROM autoembed.job_status('notes', '{key}')"));
        assert_alike(&mut blue, calls);
    }
    // There is something to find.
    assert_eq!(red.rows(&format!("SELECT * FROM similar_notes('{theirs}', 5, min_similarity => 0.5)")).len(), 5);
    assert_eq!(red.rows("SELECT * FROM similar_pages('merger contract', 5)").len(), 5);
    assert_eq!(db.text("SELECT string_agg(state, ' ' ORDER BY k) FROM unnest(ARRAY['100001', '200001', '200002']) k, autoembed.job_status('notes', k)"), "embedded failed waiting");
}

/// Whatever another tenant does, what a reader is told of the table stays as it was. Who sees all rows is told.
#[test]
fn g36_numbers_tell_nothing() {
    const TOLD: [&str; 8] = [
        "SELECT * FROM autoembed.status",
        "SELECT * FROM autoembed.progress",
        "SELECT * FROM autoembed.failed_jobs",
        "SELECT * FROM autoembed.requests",
        "SELECT * FROM autoembed.stats()",
        "SELECT * FROM autoembed.index_builds()",
        "SELECT autoembed.health() - 'workers'",
        "SELECT count(*) FROM notes",
    ];
    let mut site = Site::new();
    site.db.run("CREATE ROLE keeper LOGIN; CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN; GRANT CREATE ON SCHEMA public TO keeper");
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE TABLE notes (id int PRIMARY KEY, tenant name DEFAULT current_user, body text);
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (tenant = current_user);
         GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO red, blue; SELECT autoembed.enable('notes', 'body', model => 'stub')",
    );
    site.db.until("SELECT count(*) FROM autoembed.progress", "0", PATIENCE);
    let (mut red, mut blue) = (site.session_as("red"), site.session_as("blue"));
    let told = |db: &mut Db| TOLD.map(|sql| format!("{:?}", db.rows(sql)));
    let before = told(&mut blue);
    assert!(before[0].contains("active") && before[0].matches("None").count() == 8, "{}", before[0]);
    assert!(keeper.yes("SELECT pending = 0 AND failed = 0 AND embedded = 0 FROM autoembed.status"));
    let same = |blue: &mut Db, when: &str| assert_eq!(told(blue), before, "{when}");
    // Embedded, given up, in flight, waiting, walked again, waited for.
    site.stub.script(Script::always(Fault::Poison("bad".to_owned())));
    red.run("INSERT INTO notes SELECT i, 'red', 'note ' || i FROM generate_series(1, 20) i; INSERT INTO notes VALUES (21, 'red', 'bad')");
    keeper.until("SELECT embedded || ' ' || failed FROM autoembed.status", "20 1", PATIENCE);
    same(&mut blue, "twenty vectors and a failed row");
    site.stub.hold();
    red.run("UPDATE notes SET body = body || ' edited' WHERE id < 10");
    site.wait_held(1);
    keeper.until("SELECT in_flight > 0 FROM autoembed.status", "t", PATIENCE);
    same(&mut blue, "rows in flight");
    red.run("INSERT INTO notes SELECT i, 'red', 'note ' || i FROM generate_series(31, 60) i");
    keeper.run("SELECT autoembed.backfill('notes', force => true)");
    // The nine, and some more, which are in flight as well in a moment.
    keeper.until("SELECT pending + in_flight > 9 FROM autoembed.status", "t", PATIENCE);
    assert_eq!(keeper.int("SELECT count(*) FROM autoembed.progress WHERE kind = 'backfill'"), 1);
    same(&mut blue, "a backfill");
    site.stub.release();
    site.stub.clear();
    keeper.until("SELECT pending + in_flight FROM autoembed.status", "0", PATIENCE);
    red.run("DELETE FROM notes");
    same(&mut blue, "all of it gone");
    // A change of model is known to everybody, how far it is to those who see all rows.
    site.create_model("other", "");
    red.run("INSERT INTO notes SELECT i, 'red', 'note ' || i FROM generate_series(1, 20) i");
    keeper.until("SELECT pending + in_flight FROM autoembed.status", "0", PATIENCE);
    site.stub.hold();
    keeper.run("SELECT autoembed.set_model('notes', 'other')");
    keeper.until("SELECT state ~ '[0-9]+ of about [0-9]+ rows' FROM autoembed.status", "t", PATIENCE);
    assert_eq!(blue.text("SELECT state FROM autoembed.status"), "active: changing to model \"other\"");
    site.stub.release();
}

/// What a filter compares, and what an input calculates, may raise an error or be watched: neither comes to a row before the policy has
/// let it through.
#[test]
fn g36_nothing_is_compared_with_foreign_rows() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE keeper LOGIN; CREATE ROLE blue LOGIN; GRANT CREATE ON SCHEMA public TO keeper");
    // A type whose comparison says what it sees.
    site.db.run(
        "CREATE FUNCTION watching(a text, b text) RETURNS int LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$
         BEGIN IF a || b LIKE '%zanzibar%' AND 'a' NOT IN (a, b) THEN RAISE 'it has seen %', a || b; END IF; RETURN bttextcmp(a, b); END $$;
         CREATE FUNCTION less(a text, b text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT watching(a, b) < 0';
         CREATE FUNCTION same(a text, b text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT watching(a, b) = 0';
         CREATE FUNCTION more(a text, b text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT watching(a, b) > 0';
         CREATE OPERATOR <<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = less);
         CREATE OPERATOR ==== (LEFTARG = text, RIGHTARG = text, FUNCTION = same);
         CREATE OPERATOR >>>> (LEFTARG = text, RIGHTARG = text, FUNCTION = more);
         CREATE OPERATOR CLASS watching_ops FOR TYPE text USING btree AS
           OPERATOR 1 <<<<, OPERATOR 3 ====, OPERATOR 5 >>>>, FUNCTION 1 watching(text, text);
         CREATE TYPE span AS RANGE (SUBTYPE = text, SUBTYPE_OPCLASS = watching_ops)",
    );
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE TABLE notes (id int PRIMARY KEY, tenant name, number int, body text, s span);
         SELECT autoembed.enable('notes', 'body || 10 / number', model => 'stub', text_search => 'simple');
         CREATE TABLE pages (id int PRIMARY KEY, tenant name, number int, body text, s span);
         SELECT autoembed.enable('pages', 'body || 10 / number', model => 'stub', chunk_size => 64);
         GRANT SELECT ON notes, pages, pages_chunks TO blue",
    );
    for table in ["notes", "pages"] {
        keeper.run(&format!(
            "INSERT INTO {table} SELECT i, 'blue', i, 'note ' || i, '[a,b]' FROM generate_series(1, 5) i;
             INSERT INTO {table} SELECT i, 'red', i, 'note ' || i, '[a,zanzibar]' FROM generate_series(6, 10) i"
        ));
    }
    assert!(keeper.yes("SELECT autoembed.wait(timeout => '30 s')"));
    // Now a foreign row cannot be calculated with any more.
    keeper.run("UPDATE notes SET number = 0 WHERE id = 8; UPDATE pages SET number = 0 WHERE id = 8");
    keeper.until("SELECT count(*) FROM autoembed.failed_jobs", "2", PATIENCE);
    let searches = [
        ("similar_notes('note', 10)", 5),
        ("similar_notes('note', NULL)", 5),
        ("similar_notes('note', 10, mode => 'hybrid')", 5),
        ("similar_notes('note', 10, filter => '{\"s\": \"[a,b]\"}')", 5),
        ("similar_notes('note', 10, filter => '{\"s\": [\"[a,b]\", \"[a,c]\"]}')", 5),
        ("similar_notes('note', NULL, filter => '{\"s\": \"[a,b]\"}')", 5),
        ("similar_notes('note', 10, filter => '{\"s\": \"[a,b]\"}', mode => 'hybrid')", 5),
        ("similar_notes_to(1, 10)", 4),
        ("similar_notes_to(1, 10, filter => '{\"s\": \"[a,b]\"}')", 4),
        ("similar_pages('note', 10, filter => '{\"s\": \"[a,b]\"}')", 5),
        ("similar_pages('note', NULL, filter => '{\"s\": \"[a,b]\"}')", 5),
    ];
    // To who sees those rows it all happens.
    let raised = |db: &mut Db| {
        searches.iter().filter(|(search, _)| db.try_rows(&format!("SELECT * FROM {search}")).is_err()).count()
    };
    assert_eq!(raised(&mut keeper), searches.len());
    for table in ["notes", "pages"] {
        keeper.run(&format!(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON {table} USING (tenant = current_user)"
        ));
    }
    let mut blue = site.session_as("blue");
    for settings in ["RESET ALL", "SET enable_seqscan = off", "SET enable_indexscan = off; SET enable_bitmapscan = off"]
    {
        blue.run(settings);
        for (search, rows) in searches {
            assert_eq!(blue.rows(&format!("SELECT * FROM {search}")).len(), rows, "{settings}: {search}");
        }
    }
}

/// Servers that take a session from a pool tell users apart by a setting under one role: the time of an answer tells none of them what
/// another one has asked for. Where no policies are, what is remembered is so whatever the settings are.
#[test]
fn g36_what_is_remembered_is_remembered_by_setting() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE web LOGIN; CREATE TABLE notes (id int PRIMARY KEY, who text, body text); GRANT SELECT ON notes TO web;
         CREATE POLICY own ON notes USING (who = current_setting('app.user_id', true))",
    );
    site.enable("notes", "body", "");
    let mut web = site.session_as("web");
    let sent = |site: &Site| site.inputs().iter().filter(|input| input.contains("nobody else")).count();
    let mut ask = |site: &Site, text: &str, setting: &str| {
        web.run(&format!("BEGIN; {setting}"));
        web.rows(&format!("SELECT * FROM similar_notes('{text}', 5)"));
        web.rows(&format!("SELECT autoembed.embed('{text}', 'stub')"));
        web.run("COMMIT");
        sent(site)
    };
    const ANN: &str = "SET LOCAL app.user_id = 'ann'";
    const BEN: &str = "SET LOCAL app.user_id = 'ben'";
    assert_eq!([ANN, BEN, "SELECT 1", ANN].map(|setting| ask(&site, "nobody else", setting)), [1; 4]);
    site.db.run("ALTER TABLE notes ENABLE ROW LEVEL SECURITY");
    assert_eq!(ask(&site, "nobody else", "SELECT 1"), 1, "without a setting it is as before");
    let found = [ANN, BEN, ANN, BEN].map(|setting| ask(&site, "nobody else may know", setting));
    assert_eq!(found, [2, 3, 3, 3]);
    // Another setting that a request has, or none.
    let claims = |name: &str| format!("SET LOCAL request.jwt.claims = '{{\"sub\": \"{name}\"}}'");
    let found = ["ann", "ben", "ann"].map(|name| ask(&site, "nobody else may know", &claims(name)));
    assert_eq!(found, [4, 5, 5]);
    assert_eq!(ask(&site, "nobody else may know", "SELECT 1"), 6);
}

/// Who writes what another tenant has written does not have his vector sooner for it: neither from memory nor from a request under way.
/// A row's own text is remembered, and without row security that of every row.
#[test]
fn g36_equal_texts_of_others_are_asked_for_again() {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN;
         CREATE TABLE notes (id int PRIMARY KEY, tenant name DEFAULT current_user, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON notes USING (tenant = current_user); GRANT SELECT, INSERT, UPDATE ON notes TO red, blue",
    );
    site.enable("notes", "body", "");
    let (mut red, mut blue) = (site.session_as("red"), site.session_as("blue"));
    red.run("INSERT INTO notes (id, body) VALUES (1, 'the merger is on')");
    site.settle("notes", "body");
    blue.run("INSERT INTO notes (id, body) VALUES (2, 'the merger is on')");
    site.settle("notes", "body");
    assert_eq!(site.inputs(), ["the merger is on", "the merger is on"]);
    // Under way.
    site.stub.hold();
    red.run("UPDATE notes SET body = 'the merger is off' WHERE id = 1");
    site.wait_held(1);
    blue.run("UPDATE notes SET body = 'the merger is off' WHERE id = 2");
    site.wait_held(2);
    site.stub.release();
    site.settle("notes", "body");
    site.until_idle("notes");
    assert_eq!(site.inputs()[2..], ["the merger is off", "the merger is off"]);
    // A row's own.
    site.stub.reset_stats();
    blue.run("UPDATE notes SET body = 'the merger is on' WHERE id = 2");
    site.settle("notes", "body");
    assert_eq!(site.inputs(), [""; 0]);
    site.db.run("ALTER TABLE notes DISABLE ROW LEVEL SECURITY; INSERT INTO notes (id, body) VALUES (3, 'is it on?')");
    site.settle("notes", "body");
    site.db.run("INSERT INTO notes (id, body) VALUES (4, 'is it on?')");
    site.settle("notes", "body");
    assert_eq!(site.inputs(), ["is it on?"]);
}
