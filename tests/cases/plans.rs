//! Which way the server takes to a search's rows: the index where it is the better one, and never one that leaves rows out.

use autoembed_tests::{Db, Site};

/// `docs`: 5000 rows with vectors, of 500 tenants, with its index; `few` is set in 10 rows. `reader` may read all of it.
fn docs() -> Site {
    let mut site = Site::new();
    site.db.run(
        "CREATE ROLE reader LOGIN; CREATE TABLE docs (id int PRIMARY KEY, body text, tenant int, half int, few boolean, embedding vector(16)); GRANT SELECT ON docs TO reader;
         SELECT setseed(0.5);
         INSERT INTO docs SELECT i, 'doc ' || i, i % 500, i % 2, i % 500 = 7, ARRAY(SELECT random() - 0.5 FROM generate_series(1, 16) WHERE i = i)::vector(16)
             FROM generate_series(1, 5000) i",
    );
    site.enable("docs", "body", "backfill => false");
    site.db.run("ANALYZE docs");
    site
}

/// Scans of the vectors' index so far.
fn scans(site: &mut Site) -> i64 {
    site.db.int("SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelname = 'docs_embedding_idx'")
}

/// The first column of what `sql` finds, and whether the vectors' index was scanned for it.
fn asked(site: &mut Site, db: &mut Db, sql: &str) -> (Vec<String>, bool) {
    let before = scans(site);
    let found = db.column(sql);
    db.rows("SELECT pg_stat_force_next_flush()");
    (found, scans(site) > before)
}

fn nearest(site: &mut Site, condition: &str) -> Vec<String> {
    site.db.column(&format!(
        "SELECT id FROM docs, autoembed.embed('q', 'stub') q WHERE {condition} ORDER BY (embedding <=> q) + 0.0 LIMIT 10"
    ))
}

/// As many of the rows as an index of this size finds at least.
fn assert_near(found: &[String], wanted: &[String], what: &str) {
    let hits = found.iter().filter(|id| wanted.contains(id)).count();
    assert!(found.len() == wanted.len() && hits * 10 >= wanted.len() * 8, "{what}: {found:?}, {wanted:?}");
}

#[test]
fn every_way_of_asking_uses_the_index() {
    let mut site = docs();
    site.db.run(
        "CREATE VIEW of_table AS SELECT id, body, embedding FROM docs WHERE body IS NOT NULL; CREATE VIEW found AS SELECT id FROM similar_docs('q', 10);
         GRANT SELECT ON of_table, found TO reader",
    );
    let wanted = nearest(&mut site, "true");
    let mut reader = site.session_as("reader");
    reader.run(
        "PREPARE called (text, int) AS SELECT id FROM similar_docs($1, $2);
         PREPARE plain (text) AS SELECT id FROM docs ORDER BY embedding <=> autoembed.embed($1, 'stub') LIMIT 10;
         PREPARE counted (text, int) AS SELECT id FROM docs ORDER BY embedding <=> autoembed.embed($1, 'stub') LIMIT $2",
    );
    for plans in ["force_custom_plan", "force_generic_plan"] {
        reader.run(&format!("SET plan_cache_mode = {plans}"));
        for sql in [
            "SELECT id FROM similar_docs('q')",
            "SELECT id FROM similar_docs('q', 10, -1)",
            "SELECT id FROM similar_docs('q', filter => '{}')",
            "SELECT id FROM found",
            "EXECUTE called ('q', 10)",
            "SELECT id FROM docs ORDER BY embedding <=> autoembed.embed('q', 'stub') LIMIT 10",
            "SELECT id FROM docs ORDER BY embedding <=> (SELECT autoembed.embed('q', 'stub')) LIMIT 10",
            "SELECT id FROM of_table ORDER BY embedding <=> autoembed.embed('q', 'stub') LIMIT 10",
            "EXECUTE plain ('q')",
            "EXECUTE counted ('q', 10)",
        ] {
            let (found, is_scanned) = asked(&mut site, &mut reader, sql);
            assert!(is_scanned, "{plans}: {sql}");
            assert_near(&found, &wanted, sql);
        }
    }
    let wanted = nearest(&mut site, "half = 1");
    for filter in ["{\"half\": 1}", "{\"half\": [1, 3]}"] {
        let sql = format!("SELECT id FROM similar_docs('q', filter => '{filter}')");
        let (found, is_scanned) = asked(&mut site, &mut reader, &sql);
        assert!(is_scanned, "{sql}");
        assert_near(&found, &wanted, &sql);
    }
    let wanted = site.db.column(
        "SELECT id FROM docs WHERE id <> 7 ORDER BY (embedding <=> (SELECT embedding FROM docs WHERE id = 7)) + 0.0 LIMIT 10",
    );
    for sql in ["SELECT id FROM similar_docs_to(7)", "SELECT id FROM similar_docs_to(7, filter => '{}')"] {
        let (found, is_scanned) = asked(&mut site, &mut reader, sql);
        assert!(is_scanned, "{sql}");
        assert_near(&found, &wanted, sql);
    }
}

/// What servers of an API do with each call: a transaction, the role and the request in it, named arguments, JSON out; through a pooler,
/// so that the next one who has the session is somebody else.
#[test]
fn calls_of_an_api_through_a_pooler() {
    const CALL: &str = "WITH answer AS (SELECT * FROM public.similar_docs(query => $1, k => $2)) SELECT coalesce(json_agg(answer), '[]')::text FROM answer";
    let mut site = docs();
    site.db.run(
        "CREATE ROLE authenticator LOGIN NOINHERIT; CREATE ROLE web; GRANT web TO authenticator; GRANT SELECT ON docs TO web;
         ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON docs TO web USING (half = ((current_setting('request.jwt.claims', true)::json) ->> 'half')::int)",
    );
    let halves = [0, 1].map(|half| nearest(&mut site, &format!("half = {half}")));
    let mut pooled = site.session_as("authenticator");
    for round in 0..8 {
        let half = round % 2;
        let before = scans(&mut site);
        let mut transaction = pooled.transaction().unwrap();
        transaction.batch_execute("SET LOCAL ROLE web").unwrap();
        let claims = format!("{{\"half\": {half}}}");
        transaction.query("SELECT set_config('request.jwt.claims', $1, true)", &[&claims]).unwrap();
        let answer: String = transaction.query_one(CALL, &[&"q", &10]).unwrap().get(0);
        transaction.query("SELECT pg_stat_force_next_flush()", &[]).unwrap();
        transaction.commit().unwrap();
        assert_eq!(scans(&mut site), before, "call {round}: a scan of the index would come by the other half's rows");
        let found: Vec<String> =
            answer.split("\"id\":").skip(1).map(|rest| rest.split(',').next().unwrap().to_owned()).collect();
        assert_near(&found, &halves[half], &answer);
    }
    assert_eq!(pooled.error("SELECT * FROM similar_docs('q')").code, "42501");
}

/// Ten of 5000 rows pass. With an index on the column they are read and ranked; without one, and with too little memory for a scan that
/// goes on and on, they are found all the same.
#[test]
fn few_rows_that_pass_are_all_found() {
    let mut site = docs();
    let wanted = nearest(&mut site, "few");
    assert_eq!(wanted.len(), 10);
    site.db.run(
        "CREATE ROLE tenant LOGIN; GRANT SELECT ON docs TO tenant; ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
         ALTER ROLE reader BYPASSRLS; CREATE POLICY own ON docs TO tenant USING (few)",
    );
    let calls = [
        ("reader", "SELECT id FROM similar_docs('q', 10, filter => '{\"few\": true}')"),
        ("reader", "SELECT id FROM similar_docs('q', 10, filter => '{\"tenant\": 7}')"),
        ("reader", "SELECT id FROM similar_docs('q', 10, filter => '{\"tenant\": [7]}')"),
        ("tenant", "SELECT id FROM similar_docs('q', 10)"),
        ("tenant", "SELECT id FROM similar_docs('q', 50)"),
        ("tenant", "SELECT id FROM similar_docs('q', NULL)"),
    ];
    for memory in ["4MB", "64kB"] {
        if memory == "64kB" {
            // A scan of these few rows would have enough in 20 times as much.
            site.db.run(
                "ALTER FUNCTION similar_docs SET hnsw.scan_mem_multiplier = '1'; ALTER FUNCTION similar_docs_to SET hnsw.scan_mem_multiplier = '1'",
            );
        }
        for seqscan in ["off", "on"] {
            for (role, sql) in calls {
                let mut db = site.session_as(role);
                db.run(&format!("SET work_mem = '{memory}'; SET enable_seqscan = {seqscan}"));
                let (found, is_scanned) = asked(&mut site, &mut db, sql);
                assert_eq!(found, wanted, "{role}, {memory}, enable_seqscan {seqscan}: {sql}");
                assert!(
                    if role == "tenant" { !is_scanned } else { is_scanned || seqscan == "on" },
                    "the index was not tried, which proves nothing, or for a tenant of few rows: {sql}"
                );
            }
            let mut tenant = site.session_as("tenant");
            tenant.run(&format!("SET work_mem = '{memory}'; SET enable_seqscan = {seqscan}"));
            assert_eq!(tenant.rows("SELECT id FROM similar_docs_to(7, 50)").len(), 9);
            assert_eq!(tenant.rows("SELECT id FROM similar_docs_to(8, 50)").len(), 0);
        }
    }
    site.db.run("CREATE INDEX ON docs (tenant); ANALYZE docs");
    let mut reader = site.session_as("reader");
    let (found, is_scanned) = asked(&mut site, &mut reader, calls[1].1);
    assert_eq!(found, wanted);
    assert!(!is_scanned, "the index on the column was the shorter way");
}

/// Who sees more rows than can be read for each search is answered by the index, with all the rows that there are.
#[test]
fn many_rows_under_a_policy() {
    let mut site = docs();
    site.db.run(
        "ALTER TABLE docs DISABLE TRIGGER USER;
         INSERT INTO docs (id, tenant, half, embedding) SELECT i + 10000 * n, 0, 2 - n / 2, embedding
             FROM (SELECT row_number() OVER () AS i, embedding FROM docs) d, generate_series(1, 3) n;
         ANALYZE docs; CREATE ROLE tenant LOGIN; GRANT SELECT ON docs TO tenant; ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON docs USING (half = current_setting('app.half')::int)",
    );
    assert_eq!(site.db.column("SELECT count(*) FROM docs GROUP BY half ORDER BY half"), ["2500", "12500", "5000"]);
    let mut tenant = site.session_as("tenant");
    for (half, is_by_index) in [(1, true), (2, false)] {
        let wanted = nearest(&mut site, &format!("half = {half}"));
        tenant.run(&format!("SET app.half = {half}"));
        for sql in ["SELECT id FROM similar_docs('q', 10)", "SELECT id FROM similar_docs('q', 10, filter => '{}')"] {
            let (found, is_scanned) = asked(&mut site, &mut tenant, sql);
            assert_eq!(is_scanned, is_by_index, "{half}: {sql}");
            // Vectors are there several times, under one number after the other.
            let distances = |db: &mut Db, ids: &[String]| {
                db.column(&format!(
                    "SELECT round((embedding <=> autoembed.embed('q', 'stub'))::numeric, 5) FROM docs WHERE id IN ({}) ORDER BY 1",
                    ids.join(", ")
                ))
            };
            let pair = [&wanted, &found].map(|ids| distances(&mut site.db, ids));
            let hits = pair[0].iter().zip(&pair[1]).filter(|(a, b)| a == b).count();
            assert!(found.len() == 10 && hits >= if is_by_index { 5 } else { 10 }, "{half}: {pair:?}");
        }
    }
}
