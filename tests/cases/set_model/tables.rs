//! Changes of model of other tables: partitions, indexes of the user's own, expressions.

use super::{NEXT, Scene, left};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, vectors};

#[test]
fn partitions_with_a_composite_key() {
    let mut scene = Scene::new(0);
    scene.site.db.run(
        "CREATE TABLE logs (region text, id int, scrap int, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a'); CREATE TABLE logs_b (id int NOT NULL, body text, region text NOT NULL, scrap int, PRIMARY KEY (region, id));
         ALTER TABLE logs ATTACH PARTITION logs_b FOR VALUES IN ('b'); ALTER TABLE logs DROP COLUMN scrap",
    );
    scene.site.enable("logs", "body", "");
    scene.site.db.run("INSERT INTO logs SELECT chr(97 + i % 2), i, 'line ' || i FROM generate_series(1, 40) i");
    scene.site.settle("logs", "body");
    scene.site.db.run("GRANT SELECT (embedding) ON logs_b TO PUBLIC");
    scene.next.hold();
    scene.site.db.run("SELECT autoembed.set_model('logs', 'next')");
    assert!(scene.next.wait_held(1, PATIENCE));
    scene.site.db.run("CREATE TABLE logs_c PARTITION OF logs FOR VALUES IN ('c'); INSERT INTO logs VALUES ('c', 1, 'a new one'), ('b', 100, 'another'); UPDATE logs SET region = 'c' WHERE id = 2");
    // As the guide says of one that was there.
    scene
        .site
        .db
        .run("CREATE TABLE logs_d (region text, id int, body text, embedding vector(16), PRIMARY KEY (region, id))");
    let attach = "ALTER TABLE logs ATTACH PARTITION logs_d FOR VALUES IN ('d')";
    assert_eq!(scene.site.db.error(attach).message, "child table is missing column \"embedding_next\"");
    scene.site.db.run(&format!("ALTER TABLE logs_d ADD COLUMN embedding_next vector({NEXT}); {attach}; INSERT INTO logs VALUES ('d', 1, 'attached')"));
    scene.next.release();
    assert_eq!(scene.settle_of("logs", "body", "next"), 43);
    assert_eq!(scene.site.db.text("SELECT region FROM similar_logs('line 2', 1)"), "c");
    let index = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'hnsw' AND i.indisvalid AND i.indrelid = ANY (ARRAY['logs', 'logs_a', 'logs_b', 'logs_c', 'logs_d']::regclass[])";
    assert_eq!(scene.site.db.int(index), 5);
    assert!(scene.site.db.yes("SELECT has_column_privilege('pg_monitor', 'logs_b', 'embedding', 'SELECT')"));
    scene
        .site
        .db
        .run("INSERT INTO logs VALUES ('a', 200, 'after it'); UPDATE logs_b SET body = 'after it too' WHERE id = 1");
    assert_eq!(scene.settle_of("logs", "body", "next"), 44);
}

/// Indexes of the user's own over the vectors are made anew, with their options.
#[test]
fn indexes_of_other_kinds() {
    let mut scene = Scene::new(50);
    scene.site.db.run(
        "DROP INDEX messages_embedding_idx; CREATE INDEX by_lists ON messages USING ivfflat (embedding vector_l2_ops) WITH (lists = 3);
         CREATE INDEX by_graph ON messages USING hnsw (embedding vector_cosine_ops) WITH (m = 7, ef_construction = 33)",
    );
    let indexes = "SELECT string_agg(indexdef, E'\\n' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'messages' AND indexname LIKE 'by%'";
    let before = scene.site.db.text(indexes);
    scene.change_to("next");
    scene.settle("next");
    assert_eq!(scene.site.db.text(indexes), before);
}

/// A vectorizer that clears old vectors, with an input that is an expression, and settles rows.
#[test]
fn expressions_that_clear() {
    let mut scene = Scene::new(0);
    scene.site.db.run("CREATE TABLE pages (\"Nr\" int PRIMARY KEY, title text, body text)");
    scene.site.enable(
        "pages",
        "title || E'\\n' || body",
        "on_change => 'clear', delay => '100 ms', embedding => 'Vector'",
    );
    scene.site.db.run("INSERT INTO pages SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 20) i");
    let text = "title || E'\\n' || body";
    scene.site.settle_within("pages", text, "\"Vector\"", PATIENCE);
    scene.next.hold();
    scene.site.db.run("SELECT autoembed.set_model('pages', 'next', 'Vector')");
    assert!(scene.next.wait_held(1, PATIENCE));
    scene.site.stub.hold();
    scene.site.db.run("UPDATE pages SET title = 'edited' WHERE \"Nr\" = 3");
    assert_eq!(scene.site.db.column("SELECT \"Nr\" FROM pages WHERE \"Vector\" IS NULL"), ["3"]);
    scene.site.stub.release();
    scene.next.release();
    scene.site.db.until(
        "SELECT model || ' ' || state FROM autoembed.status WHERE source = 'pages'::regclass",
        "next active",
        seconds(60),
    );
    vectors::until_all_vectors(&mut scene.site.db, "pages", text, "\"Vector\"", NEXT, PATIENCE);
    scene.site.db.run("UPDATE pages SET body = 'edited' WHERE \"Nr\" = 4");
    vectors::until_all_vectors(&mut scene.site.db, "pages", text, "\"Vector\"", NEXT, PATIENCE);
    assert_eq!(left(&mut scene.site.db), 0);
}

/// A change leaves as many dead rows as there are rows, so autovacuum always comes, and may take hours. It is in the way of the swap, and of the build of an index.
#[test]
fn autovacuum_gives_way() {
    const AT_WORK: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM public.messages%'";
    for has_index in [false, true] {
        let mut scene = Scene::with(Site::builder().setting("autovacuum_naptime", "1s").start(), 500);
        if !has_index {
            scene
                .site
                .db
                .run("DROP INDEX messages_embedding_idx; UPDATE autoembed.vectorizer SET index_method = 'none'");
        }
        scene.next.hold();
        scene.change_to("next");
        assert!(scene.next.wait_held(1, PATIENCE));
        // Two or three pages a second.
        scene.site.db.run(
            "ALTER TABLE messages SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,
               autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_threshold = 1000000);
             UPDATE messages SET note = repeat('x', 1500)",
        );
        scene.site.db.until(AT_WORK, "1", PATIENCE);
        scene.next.release();
        let status = "SELECT model || ' ' || state FROM autoembed.status";
        scene.site.db.until(status, "next active", PATIENCE);
        let log = scene.site.cluster.log();
        assert!(log.contains("canceling autovacuum task"), "it was not in the way");
    }
}
