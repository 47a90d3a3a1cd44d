//! Chunks, and all else that a vectorizer can have: metrics, indexes, estimates, what people look at; and what is refused.

use autoembed_stub::{Fault, Stub, StubConfig, Vectors};
use autoembed_tests::db::literal;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Site, eventually};
use postgres::fallible_iterator::FallibleIterator;

/// A text of paragraphs, each of which is a chunk of its own.
fn text(paragraphs: &[&str]) -> String {
    let filled = |words: &&str| {
        format!("{words} begins here, with a few more words that say what {words} is about, as one does in {words}.")
    };
    paragraphs.iter().map(filled).collect::<Vec<_>>().join("\n\n")
}

fn table(site: &mut Site) {
    site.db.run("CREATE TABLE pages (id int PRIMARY KEY, body text)");
}

fn fill(site: &mut Site, rows: i64) {
    for id in 1..=rows {
        let (one, two) = (format!("page {id} one"), format!("page {id} two"));
        site.db.run(&format!("INSERT INTO pages VALUES ({id}, {})", literal(&text(&[&one, &two]))));
    }
}

fn done(site: &mut Site) {
    site.db.until(
        "SELECT count(*) FROM pages p WHERE NOT EXISTS (SELECT FROM pages_chunks c WHERE c.id = p.id)",
        "0",
        PATIENCE,
    );
    site.until_idle("pages");
}

const INDEX: &str = "SELECT substring(indexdef FROM 'USING (.*)$') FROM pg_indexes WHERE tablename = 'pages_chunks' AND indexdef LIKE '%hnsw%'";

#[test]
fn by_the_models_metric() {
    for (metric, class, operator, least) in
        [("l2", "vector_l2_ops", "<->", 0.999), ("inner_product", "vector_ip_ops", "<#>", 0.9)]
    {
        let mut site = Site::new();
        site.create_model("far", &format!("options => '{{\"metric\": \"{metric}\"}}'"));
        table(&mut site);
        site.db.run("SELECT autoembed.enable('pages', 'body', 'far', chunk_size => 40)");
        fill(&mut site, 20);
        done(&mut site);
        assert_eq!(site.db.text(INDEX), format!("hnsw (embedding {class})"));
        let query = literal(&text(&["page 7 two"]));
        let best = format!("SELECT id || ' ' || chunk_no FROM similar_pages({query}, 1)");
        assert_eq!(site.db.text(&best), "7 1", "{metric}");
        assert!(site.db.yes(&format!("SELECT similarity > {least} FROM similar_pages({query}, 1)")), "{metric}");
        let exact = format!(
            "SELECT id FROM (SELECT DISTINCT ON (id) id, embedding {operator} autoembed.embed({query}, 'far') AS d FROM pages_chunks ORDER BY id, d) s ORDER BY d"
        );
        let exact = site.db.column(&exact);
        for k in ["20", "NULL"] {
            assert_eq!(site.db.column(&format!("SELECT id FROM similar_pages({query}, {k})")), exact, "{metric} {k}");
        }
        let similarities = format!(
            "SELECT count(*) FROM similar_pages({query}, 20, (SELECT similarity FROM similar_pages({query}, 5) ORDER BY similarity LIMIT 1))"
        );
        assert_eq!(site.db.int(&similarities), 5, "a similarity that was seen can be asked for");
    }
}

/// A table, and the model `long` with its server.
fn scene_of_long_vectors(dims: usize) -> (Site, Stub) {
    let mut site = Site::new();
    let long = Stub::start(StubConfig::vectors(Vectors::Hashed(dims))).unwrap();
    site.db.run(&format!(
        "SELECT autoembed.create_model('long', 'openai', dimensions => {dims}, model => 'stub-model', url => '{}')",
        long.url()
    ));
    table(&mut site);
    (site, long)
}

#[test]
fn in_an_index_of_two_bytes() {
    const LONG: usize = 2100;
    let (mut site, _long) = scene_of_long_vectors(LONG);
    site.db.run("SELECT autoembed.enable('pages', 'body', 'long', chunk_size => 40)");
    fill(&mut site, 12);
    done(&mut site);
    assert_eq!(site.db.text(INDEX), "hnsw (((embedding)::halfvec(2100)) halfvec_cosine_ops)");
    let query = literal(&text(&["page 7 two"]));
    for (how, k) in [("on", "3"), ("off", "3"), ("on", "NULL")] {
        site.db.run(&format!("SET enable_seqscan = {how}; SET enable_sort = {how}"));
        let found = site.db.column(&format!(
            "SELECT id || ' ' || chunk_no || ' ' || (similarity > 0.999) FROM similar_pages({query}, {k})"
        ));
        assert_eq!(found[0], "7 1 true", "{how} {k}");
        assert_eq!(found.len(), if k == "3" { 3 } else { 12 });
    }
}

/// By the planner's own choice, where there are many.
#[test]
fn an_index_of_two_bytes_is_used() {
    const LONG: usize = 2001;
    let (mut site, _long) = scene_of_long_vectors(LONG);
    site.db.run("SELECT autoembed.enable('pages', 'body', 'long', chunk_size => 40, index => 'none')");
    // 1,200 chunks of 300 rows, as if they had been embedded.
    site.db.run(&format!(
        "SET maintenance_work_mem = '256MB'; ALTER TABLE pages DISABLE TRIGGER USER; INSERT INTO pages SELECT i, 'x' FROM generate_series(1, 300) i;
         INSERT INTO pages_chunks SELECT 1 + i % 300, i / 300, 0, 1, 'x', ARRAY(SELECT random() + 0 * i FROM generate_series(1, {LONG}))::real[]::vector FROM generate_series(0, 1199) i;
         CREATE INDEX by_halves ON pages_chunks USING hnsw ((embedding::halfvec({LONG})) halfvec_cosine_ops) WITH (m = 8, ef_construction = 20); ANALYZE pages, pages_chunks"
    ));
    let used = |site: &mut Site| {
        site.db.run("SELECT pg_stat_force_next_flush()");
        site.db.int("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'by_halves'")
    };
    let before = used(&mut site);
    for k in [1, 10, 50] {
        assert_eq!(site.db.int(&format!("SELECT count(DISTINCT id) FROM similar_pages('x', {k})")), k);
    }
    assert_eq!(used(&mut site), before + 3);
}

#[test]
fn what_is_refused() {
    let mut site = Site::new();
    table(&mut site);
    let enable = "SELECT autoembed.enable('pages', 'body', 'stub', chunk_size => 40, text_search => 'english')";
    site.db.error(enable).assert("0A000", "chunks");
    site.enable("pages", "body", "chunk_size => 40");
    fill(&mut site, 2);
    done(&mut site);
    let id = site.status("id", "pages");
    site.db.error("SELECT autoembed.set_model('pages', 'builtin')").assert("0A000", "chunks");
    site.db.error(&format!("SELECT autoembed.row_search_statement({id}, 5, NULL)")).assert("0A000", "chunks");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_proc WHERE proname LIKE 'similar\\_pages%'"), 1);
    site.db.run("SELECT autoembed.disable('pages', drop_column => true)");
    assert_eq!(site.db.int("SELECT count(*) FROM pg_proc WHERE proname LIKE 'similar\\_pages%'"), 0);
}

/// Rows are what is counted, told of and asked for.
#[test]
fn rows_are_looked_at_not_chunks() {
    let mut site = Site::new();
    table(&mut site);
    site.enable("pages", "body", "chunk_size => 40");
    site.db.run("SELECT autoembed.notify('pages')");
    let mut listener = site.session();
    listener.run("LISTEN autoembed");
    fill(&mut site, 3);
    done(&mut site);
    let state =
        |site: &mut Site, id: i64| site.db.text(&format!("SELECT state FROM autoembed.job_status('pages', '{id}')"));
    assert_eq!(state(&mut site, 2), "embedded");
    assert_eq!(state(&mut site, 9), "missing");
    site.db.run("INSERT INTO pages VALUES (4, ' ')");
    site.until_idle("pages");
    assert_eq!(state(&mut site, 4), "no_text");
    site.fault(Fault::Poison("refused".to_owned()));
    site.db.run(&format!("INSERT INTO pages VALUES (5, {})", literal(&text(&["fine", "refused"]))));
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    assert_eq!(state(&mut site, 5), "failed");
    let told = "the rows that were told of";
    let mut sums = (0, 0);
    eventually(told, PATIENCE, || {
        listener.run("SELECT 1");
        let mut waiting = listener.notifications();
        let mut waiting = waiting.iter();
        while let Some(told) = waiting.next().unwrap() {
            let payload: serde_json::Value = serde_json::from_str(told.payload()).unwrap();
            sums.0 += payload["rows"].as_i64().unwrap();
            sums.1 += payload["failed"].as_i64().unwrap();
        }
        if sums == (3, 1) { Ok(()) } else { Err(format!("{sums:?}")) }
    });
    assert_eq!(site.db.int("SELECT sum(rows)::int FROM autoembed.stats()"), 3);
}

#[test]
fn an_estimate_is_of_all_chunks() {
    let mut site = Site::new();
    site.create_model("short", "max_input_tokens => 50, options => '{\"price_per_million_tokens\": 1}'");
    table(&mut site);
    let body = text(&["one", "two", "three", "four"]);
    site.db.run(&format!("INSERT INTO pages VALUES (1, {}), (2, NULL)", literal(&body)));
    let whole = "SELECT rows * 1000000 + tokens FROM autoembed.estimate_cost('pages', 'short', input => 'body')";
    assert_eq!(site.db.int(whole), 1_000_050, "it is cut");
    site.db.run("SELECT autoembed.enable('pages', 'body', 'short', chunk_size => 40)");
    let wanted: usize = autoembed_core::chunk::pieces(&body, autoembed_core::chunk::Sizes { size: 40, overlap: 0 })
        .into_iter()
        .map(|piece| autoembed_core::batch::estimate_tokens(&body[piece]))
        .sum();
    let chunks = "SELECT tokens FROM autoembed.estimate_cost('pages')";
    assert_eq!(site.db.int(chunks), wanted as i64);
    assert_eq!(site.db.int("SELECT rows FROM autoembed.estimate_cost('pages')"), 1);
}
