//! The vectors' index: over what it is, of which tables, and that its building survives what ends it.

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Db, Site, eventually};

/// `n` random vectors.
fn vectors(dims: usize, n: usize) -> String {
    format!(
        "SELECT i, ARRAY(SELECT random() - 0.5 FROM generate_series(1, {dims}) WHERE i = i)::vector({dims}) FROM generate_series(1, {n}) AS i"
    )
}

/// What the server thinks of a table's size is no reason to fill an index row by row: short rows, and more of them than when it was analysed.
#[test]
fn many_short_rows_are_many() {
    let mut site = Site::new();
    const INDEXES: &str = "SELECT indexrelid::regclass || ' ' || indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE a.amname IN ('hnsw', 'gin') ORDER BY 1";
    let mut all = Vec::new();
    for (table, before) in [("short", ""), ("grown", "INSERT INTO grown VALUES (0, 'a'); ANALYZE grown")] {
        site.db.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off); {before};
             INSERT INTO {table} SELECT i, 'a' || i FROM generate_series(1, 12000) i"
        ));
        // As docs/moving.md has it: vectors that are there already are copied before the index is built.
        site.db.run(&format!(
            "BEGIN; SELECT autoembed.enable('{table}', 'body', model => 'stub', backfill => false, text_search => 'simple');
             SELECT autoembed.pause('{table}'); COMMIT"
        ));
        assert_eq!(site.db.column(INDEXES), all, "{table}: an index was there at once");
        site.db.run(&format!("UPDATE {table} SET embedding = array_fill(id, ARRAY[16])::vector(16) + '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]'"));
        assert_eq!(site.db.column(INDEXES), all, "{table}: paused");
        site.db.run(&format!("SELECT autoembed.resume('{table}')"));
        all.extend([format!("{table}_embedding_idx true"), format!("{table}_embedding_text_idx true")]);
        all.sort();
        site.db.until(
            &format!("SELECT count(*) FROM ({INDEXES}) x (i) WHERE i LIKE '%true'"),
            &all.len().to_string(),
            PATIENCE,
        );
    }
    assert_eq!(site.inputs(), Vec::<String>::new(), "vectors that were there were taken for right");
    // A small one has it at once.
    site.db.run("CREATE TABLE few (id int PRIMARY KEY, body text); INSERT INTO few SELECT i, 'a' || i FROM generate_series(1, 9000) i");
    site.enable("few", "body", "backfill => false");
    assert!(site.db.column(INDEXES).contains(&"few_embedding_idx true".to_owned()));
}

#[test]
fn more_than_2000_dimensions_are_indexed_with_half_the_bytes() {
    const DIMS: usize = 2001;
    let mut site = Site::builder().dims(DIMS).start();
    site.db.run(&format!(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, colour int, embedding vector({DIMS})); SELECT setseed(0.25);
         INSERT INTO docs SELECT i, 'doc ' || i, i % 3, v FROM ({}) r (i, v)",
        vectors(DIMS, 600)
    ));
    assert_eq!(site.told("postgres", "SELECT autoembed.enable('docs', 'body', 'stub', backfill => false)"), "");
    site.db.run("ANALYZE docs");
    assert_eq!(
        site.db.text("SELECT substring(pg_get_indexdef('docs_embedding_idx'::regclass) FROM 'USING .*')"),
        format!("USING hnsw (((embedding)::halfvec({DIMS})) halfvec_cosine_ops)")
    );
    let id = site.status("id", "docs");
    let statement = site.db.text(&format!("SELECT autoembed.search_statement({id}, 10, NULL, 'semantic')"));
    site.db.run(&format!("PREPARE searched (vector, int, real, jsonb) AS {statement}"));
    let vector = site.db.text("SELECT embedding FROM docs LIMIT 1");
    // To the server a table of 600 rows is read as fast as an index, since it does not count what long values cost.
    site.db.run("SET enable_seqscan = off");
    let plan = site.db.column(&format!("EXPLAIN (COSTS OFF) EXECUTE searched ('{vector}', 10, NULL, NULL)"));
    assert!(plan.iter().any(|line| line.contains("Index Scan using docs_embedding_idx")), "{plan:?}");
    // Against the exact order: in few dimensions of such vectors all are about as far as all others, which is the hardest case.
    let mut hits = 0;
    for id in 1..=20 {
        let exact = site.db.column(&format!(
            "SELECT id FROM docs WHERE id <> {id} ORDER BY (embedding <=> (SELECT embedding FROM docs WHERE id = {id})) + 0.0 LIMIT 10"
        ));
        let found = site.db.rows(&format!("SELECT id, similarity FROM similar_docs_to({id})"));
        let similarities: Vec<f64> = found.iter().map(|row| row[1].as_deref().unwrap().parse().unwrap()).collect();
        assert!(similarities.is_sorted_by(|a, b| a >= b), "{similarities:?}");
        hits += found.iter().filter(|row| exact.contains(row[0].as_ref().unwrap())).count();
    }
    site.db.run("RESET enable_seqscan");
    println!("halfvec: {hits} of 200 nearest rows found");
    assert!(hits >= 180, "{hits} of 200");
    // Similarities are those of the whole vectors.
    let whole = "SELECT (1 - (embedding <=> autoembed.embed('q', 'stub')))::real FROM docs WHERE id = (SELECT id FROM similar_docs('q', 1))";
    assert_eq!(site.db.text(whole), site.db.text("SELECT similarity FROM similar_docs('q', 1)"));
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs('q', 500)"), 500);
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs('q', 500, filter => '{\"colour\": 1}')"), 200);
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs('q', 0)"), 0);
    assert_eq!(site.db.int("SELECT count(*) FROM similar_docs('q', NULL)"), 600);
    // New rows go through the same writer as ever.
    site.db.run("INSERT INTO docs (id, body) VALUES (601, 'a new one')");
    site.db.until("SELECT id FROM similar_docs('a new one', 1)", "601", PATIENCE);
    // Without its index the whole table is read; that it is missing is said.
    site.db.run("DROP INDEX docs_embedding_idx");
    site.until_state("docs", "active: table \"docs\" has no valid index");
    assert_eq!(site.db.text("SELECT id FROM similar_docs('a new one', 1)"), "601");
    site.db.run(&format!("CREATE INDEX ON docs USING hnsw ((embedding::halfvec({DIMS})) halfvec_cosine_ops)"));
    site.db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
}

#[test]
fn where_no_index_can_be_it_is_said() {
    let mut site = Site::new();
    site.db.run(
        "SELECT autoembed.create_model('large', 'openai', 4001), autoembed.create_model('halved', 'openai', 4000);
         CREATE TABLE a (id int PRIMARY KEY, body text); CREATE TABLE b (id int PRIMARY KEY, body text);
         CREATE TABLE c (id int PRIMARY KEY, body text, embedding vector); CREATE TABLE d (id int PRIMARY KEY, body text)",
    );
    let said = site.told("postgres", "SELECT autoembed.enable('a', 'body', 'large')");
    assert!(said.contains("NOTICE:  no index is built: an HNSW index takes at most 4000 dimensions"), "{said}");
    assert_eq!(site.told("postgres", "SELECT autoembed.enable('b', 'body', 'halved')"), "");
    let said = site.told("postgres", "SELECT autoembed.enable('c', 'body', 'stub')");
    assert!(said.contains("NOTICE:  no index is built: the column has no fixed number of dimensions"), "{said}");
    assert_eq!(site.told("postgres", "SELECT autoembed.enable('d', 'body', 'large', index => 'none')"), "");
    let indexed = "SELECT DISTINCT indrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am m ON m.oid = relam WHERE amname = 'hnsw'";
    assert_eq!(site.db.column(indexed), ["b"]);
    site.db.run("INSERT INTO c VALUES (1, 'one'), (2, 'two')");
    site.settle("c", "body");
    assert_eq!(site.db.text("SELECT id FROM similar_c('two', 1)"), "2");
    assert_eq!(site.status("state", "c"), "active");
    assert_eq!(site.status("state", "a"), "active");
}

/// `logs`, partitioned twice, with rows in each partition.
fn logs(site: &mut Site, rows: usize) {
    site.db.run(&format!(
        "CREATE TABLE logs (region text, id int, body text, embedding vector(16), PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a'); CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b') PARTITION BY RANGE (id);
         CREATE TABLE logs_b1 PARTITION OF logs_b FOR VALUES FROM (MINVALUE) TO (100);
         CREATE TABLE logs_b2 (embedding vector(16), body text, id int NOT NULL, region text NOT NULL, PRIMARY KEY (region, id));
         ALTER TABLE logs_b ATTACH PARTITION logs_b2 FOR VALUES FROM (100) TO (MAXVALUE);
         INSERT INTO logs SELECT chr(97 + i % 2), i, 'log ' || i, v FROM ({}) r (i, v); ANALYZE logs, logs_a, logs_b1, logs_b2",
        vectors(16, rows)
    ));
}

const FRAME: &str = "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = 'logs'::regclass AND m.amname = 'hnsw'";
/// Indexes of partitions with rows, and whether they are valid.
const LEAVES: &str = "SELECT i.indrelid::regclass || ' ' || i.indisvalid FROM pg_partition_tree((SELECT indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
        WHERE indrelid = 'logs'::regclass AND amname = 'hnsw')) t JOIN pg_index i ON i.indexrelid = t.relid WHERE t.isleaf ORDER BY 1";
const ALL: &str = "SELECT count(*) FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE amname = 'hnsw'";

fn partitions_are_indexed(site: &mut Site) {
    site.db.until(FRAME, "t", PATIENCE * 2);
    assert_eq!(site.db.column(LEAVES), ["logs_a true", "logs_b1 true", "logs_b2 true"]);
    assert_eq!(site.db.int(ALL), 5, "one of each table, and no more");
    // What is made or attached later takes over the frame.
    site.db.run(
        "CREATE TABLE logs_c PARTITION OF logs FOR VALUES IN ('c'); CREATE TABLE logs_d (LIKE logs); INSERT INTO logs_d VALUES ('d', 1, 'log', NULL);
         ALTER TABLE logs ATTACH PARTITION logs_d FOR VALUES IN ('d')",
    );
    let leaves = site.db.column(LEAVES);
    assert_eq!(leaves, ["logs_a true", "logs_b1 true", "logs_b2 true", "logs_c true", "logs_d true"]);
    site.db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
    site.db.run("SET enable_seqscan = off; SET enable_sort = off");
    let plan = site
        .db
        .column("EXPLAIN (COSTS OFF) SELECT id FROM logs ORDER BY embedding <=> autoembed.embed('q', 'stub') LIMIT 3");
    assert_eq!(plan.iter().filter(|line| line.contains("Index Scan using")).count(), 5, "{plan:?}");
    site.db.run("RESET enable_seqscan; RESET enable_sort");
}

#[test]
fn few_rows_in_partitions_are_indexed_at_once() {
    let mut site = Site::new();
    logs(&mut site, 500);
    assert_eq!(site.told("postgres", "SELECT autoembed.enable('logs', 'body', 'stub', backfill => false)"), "");
    assert_eq!(site.db.text(FRAME), "t");
    partitions_are_indexed(&mut site);
    // One that is lost is missed.
    site.db.run("DROP INDEX logs_embedding_idx");
    site.until_state("logs", "active: table \"logs\" has no valid index");
    site.db.run("CREATE INDEX ON logs USING hnsw (embedding vector_cosine_ops)");
    site.db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
}

/// Each partition by itself, without blocking who writes; what the owner has made already is taken into it.
#[test]
fn many_rows_in_partitions_are_indexed_one_by_one() {
    let mut site = Site::new();
    logs(&mut site, 12_000);
    site.db.run("CREATE INDEX by_hand ON logs_b1 USING hnsw (embedding vector_cosine_ops)");
    // The frame takes a lock for a moment, which a writer keeps it from: neither waits for the other for long.
    let mut writer = site.session();
    assert_eq!(site.told("postgres", "SELECT autoembed.enable('logs', 'body', 'stub', backfill => false)"), "");
    assert_eq!(site.db.rows(FRAME).len(), 0, "the table is too small for this");
    eventually("both partitions have theirs", PATIENCE, || match site.db.int(ALL) {
        3.. => Ok(()),
        n => Err(n.to_string()),
    });
    for i in 0..20 {
        writer.run(&format!("BEGIN; INSERT INTO logs VALUES ('a', {}, NULL, NULL)", 20_000 + i));
        site.db.run(&format!("INSERT INTO logs VALUES ('b', {}, NULL, NULL)", 20_000 + i));
        writer.run("COMMIT");
    }
    partitions_are_indexed(&mut site);
    assert_eq!(site.db.int("SELECT count(*) FROM pg_class WHERE relname = 'by_hand'"), 1);
}

/// Waits until a process builds the index of `table`; the process.
fn builder(db: &mut Db, table: &str) -> i32 {
    let building = format!(
        "SELECT p.pid FROM pg_stat_progress_create_index p JOIN autoembed.workers w ON w.pid = p.pid AND w.kind = 'indexer'
         WHERE p.relid = '{table}'::regclass AND p.phase LIKE 'building index%' AND p.tuples_done > 0"
    );
    eventually(&format!("the index of {table} is being built"), PATIENCE * 2, || {
        let pid = db.maybe(&building).ok_or_else(|| {
            format!(
                "{:?}",
                db.rows("SELECT pid, relid::regclass, phase, tuples_done FROM pg_stat_progress_create_index")
            )
        })?;
        pid.parse().map_err(|_| pid)
    })
}

/// kill -9, seen to have been noticed by the server.
fn kill(site: &mut Site, pid: i32) {
    let crashes = |site: &Site| site.cluster.log().matches("all server processes terminated; reinitializing").count();
    let before = crashes(site);
    site.cluster.kill9(pid);
    eventually(
        "the server has noticed",
        PATIENCE,
        || if crashes(site) > before { Ok(()) } else { Err("no".to_owned()) },
    );
    site.reconnect();
}

/// kill -9 in the middle: what is done stays, what was broken off is dropped and built again, and nothing is left of it.
#[test]
fn g09_a_builder_that_is_killed() {
    // With so little memory each row is written to the index on disk: slow enough to be met in the middle.
    let mut site =
        Site::builder().setting("maintenance_work_mem", "1MB").setting("max_parallel_maintenance_workers", "0").start();
    logs(&mut site, 2000);
    site.db.run(&format!(
        "INSERT INTO logs SELECT 'a', 10000 + i, 'log', v FROM ({}) r (i, v); ANALYZE logs, logs_a",
        vectors(16, 10_000)
    ));
    site.db.run("INSERT INTO logs SELECT 'b', -id, 'log', embedding FROM logs WHERE region = 'a' AND id <= 500");
    site.enable("logs", "body", "backfill => false");
    let mut pid = builder(&mut site.db, "logs_a");
    // The lower ones are done when it is begun.
    let first = "SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE amname = 'hnsw' AND indisvalid AND relkind = 'i' ORDER BY 1 LIMIT 1";
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    // The builder does not wait for its commits to be on disk, which this one does, for those before it as well.
    site.db.run("CREATE TABLE flushed ()");
    site.cluster.expect_crash();
    kill(&mut site, pid);
    assert_eq!(site.db.int(invalid), 1, "it was not met in the middle");
    let _ = site.cluster.wait_worker(DATABASE, PATIENCE);
    pid = builder(&mut site.db, "logs_a");
    assert_eq!(site.db.int(invalid), 1, "what was broken off is not built beside what is left of it");
    site.db.run("ALTER SYSTEM SET maintenance_work_mem = '64MB'");
    site.db.run("SELECT pg_reload_conf()");
    let done = site.db.text(first);
    kill(&mut site, pid);
    site.db.until(FRAME, "t", PATIENCE * 2);
    assert_eq!(site.db.int(invalid), 0);
    assert_eq!(site.db.int(ALL), 5);
    assert_eq!(site.db.text(first), done, "what was done is done again");
    site.db.until("SELECT count(*) FROM autoembed.vectorizer WHERE index_wanted", "0", PATIENCE);
}

/// Figures for docs/decisions.md: a table of 20,000 rows is filled and then indexed, and filled with its index there.
#[test]
#[ignore = "a measurement of some minutes"]
fn an_index_after_the_backfill_or_before_it() {
    let mut site = Site::builder().dims(384).setting("maintenance_work_mem", "256MB").start();
    let mut took = Vec::new();
    for (table, before) in
        [("after", ""), ("before", "CREATE INDEX ON before USING hnsw (embedding vector_cosine_ops)")]
    {
        site.db.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, body text, embedding vector(384)); {before};
             INSERT INTO {table} (id, body) SELECT i, 'text ' || i FROM generate_series(1, 20000) i; ANALYZE {table}"
        ));
        let begun = std::time::Instant::now();
        site.enable(table, "body", "");
        let long = PATIENCE * 60;
        site.db.until(&format!("SELECT count(embedding) FROM {table}"), "20000", long);
        let filled = begun.elapsed();
        let valid = format!(
            "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = '{table}'::regclass AND amname = 'hnsw' AND indisvalid"
        );
        site.db.until(&valid, "1", long);
        println!("index {table} the backfill: filled after {filled:.1?}, all done after {:.1?}", begun.elapsed());
        took.push(begun.elapsed());
    }
    assert!(took[0] < took[1], "{took:?}");
}
