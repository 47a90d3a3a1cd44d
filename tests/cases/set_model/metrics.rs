//! Changes to models whose vectors are compared, indexed or found in other ways than the old ones.

use super::{NEXT, Scene};
use autoembed_stub::{Stub, StubConfig, Vectors};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::vectors;
use autoembed_tests::wait::seconds;

const INDEXES: &str = "SELECT string_agg(indexname || ': ' || substring(indexdef FROM 'USING (.*)$'), '; ' ORDER BY indexname) FROM pg_indexes \
     WHERE tablename = 'messages' AND indexdef NOT LIKE '%btree%'";

/// What was for the metric of the old model is for that of the new one; what a user has made for another stays what it is.
#[test]
fn indexes_go_by_the_new_metric() {
    let mut scene = Scene::new(50);
    scene.site.db.run(&format!(
        "SELECT autoembed.create_model('far', 'openai', dimensions => {NEXT}, model => 'stub-model', url => '{}', options => '{{\"metric\": \"l2\"}}');
         CREATE INDEX by_product ON messages USING hnsw (embedding vector_ip_ops);
         CREATE INDEX by_lists ON messages USING ivfflat (embedding vector_cosine_ops) WITH (lists = 3)",
        scene.next.url()
    ));
    // A session that remembers the statements of the old model.
    let searches = "SELECT (SELECT id FROM similar_messages('text 7', 1)) || ' ' || (SELECT count(*) FROM similar_messages_to(3, 5))";
    assert_eq!(scene.site.db.text(searches), "7 5");
    scene.change_to("far");
    assert_eq!(scene.settle("far"), 50);
    assert_eq!(
        scene.site.db.text(INDEXES),
        "by_lists: ivfflat (embedding) WITH (lists='3'); by_product: hnsw (embedding vector_ip_ops); messages_embedding_idx: hnsw (embedding vector_l2_ops)"
    );
    assert_eq!(scene.site.db.text(searches), "7 5");
    let similarity = "SELECT similarity FROM similar_messages('text 7', 1)";
    assert_eq!(scene.site.db.text(similarity), "1");
    assert!(scene.site.status("state", "messages").starts_with("active"));
}

/// From vectors that have an index of their own to such as have one over components of two bytes, and back, with the session's
/// statements at hand.
#[test]
fn more_dimensions_than_an_index_over_vector_takes() {
    const LONG: usize = 2100;
    let mut scene = Scene::new(20);
    let long = Stub::start(StubConfig::vectors(Vectors::Hashed(LONG))).unwrap();
    scene.site.db.run(&format!(
        "SELECT autoembed.create_model('long', 'openai', dimensions => {LONG}, model => 'stub-model', url => '{}')",
        long.url()
    ));
    let searches = "SELECT (SELECT id FROM similar_messages('text 7', 1)) || ' ' || (SELECT count(*) FROM similar_messages_to(3, 5))";
    for (model, dims, key) in [
        ("long", LONG, "((embedding)::halfvec(2100)) halfvec_cosine_ops"),
        ("next", NEXT, "embedding vector_cosine_ops"),
    ] {
        assert_eq!(scene.site.db.text(searches), "7 5");
        scene.change_to(model);
        let status = "SELECT model || ' ' || state FROM autoembed.status WHERE source = 'messages'::regclass";
        scene.site.db.until(status, &format!("{model} active"), seconds(60));
        vectors::until_all_vectors(&mut scene.site.db, "messages", "content", "embedding", dims, PATIENCE);
        assert_eq!(scene.site.db.text(searches), "7 5");
        // The function that searches by a row knows it first.
        assert_eq!(scene.site.db.int("SELECT count(*) FROM similar_messages_to(4, 3)"), 3);
        let indexes = scene.site.db.text(INDEXES);
        assert!(indexes.contains(key) && indexes.starts_with("messages_embedding_idx: hnsw"), "{indexes}");
    }
}

/// The old vectors were too long for any index.
#[test]
fn an_index_that_the_old_vectors_had_not() {
    const LONGEST: usize = 4001;
    let mut scene = Scene::new(0);
    let longest = Stub::start(StubConfig::vectors(Vectors::Hashed(LONGEST))).unwrap();
    scene.site.db.run(&format!(
        "SELECT autoembed.create_model('longest', 'openai', dimensions => {LONGEST}, model => 'stub-model', url => '{}');
         CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body', 'longest')",
        longest.url()
    ));
    scene.site.db.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 5) i");
    vectors::until_all_vectors(&mut scene.site.db, "notes", "body", "embedding", LONGEST, PATIENCE);
    scene.site.db.run("SELECT autoembed.set_model('notes', 'next')");
    assert_eq!(scene.settle_of("notes", "body", "next"), 5);
    let indexes = "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'notes'";
    assert_eq!(scene.site.db.text(indexes), "notes_embedding_idx notes_pkey");
}

/// Words are those of the texts: the text index stays, and hybrid searches go on.
#[test]
fn words_are_found_as_before() {
    let mut scene = Scene::new(0);
    scene.site.db.run("CREATE TABLE tickets (id int PRIMARY KEY, body text)");
    scene.site.enable("tickets", "body", "text_search => 'english'");
    scene.site.db.run("INSERT INTO tickets SELECT i, 'the pump number ' || i || ' has error E' || 4000 + i FROM generate_series(1, 30) i");
    scene.site.settle("tickets", "body");
    let index = "SELECT oid || ' ' || pg_get_indexdef(oid) FROM pg_class WHERE relname = 'tickets_embedding_text_idx'";
    let before = scene.site.db.text(index);
    let found = "SELECT id FROM similar_tickets('what is E4017', 1, mode => 'hybrid')";
    assert_eq!(scene.site.db.int(found), 17);
    scene.next.hold();
    scene.site.db.run("SELECT autoembed.set_model('tickets', 'next')");
    assert!(scene.next.wait_held(1, PATIENCE));
    assert_eq!(scene.site.db.int(found), 17);
    scene.next.release();
    assert_eq!(scene.settle_of("tickets", "body", "next"), 30);
    assert_eq!(scene.site.db.text(index), before);
    assert_eq!(scene.site.db.int(found), 17);
    scene.site.db.run("SELECT autoembed.disable('tickets')");
    assert_eq!(scene.site.db.int("SELECT count(*) FROM pg_class WHERE relname = 'tickets_embedding_text_idx'"), 0);
}

/// What people look at names the column that the change is of.
#[test]
fn a_change_is_seen_under_its_column() {
    let mut scene = Scene::new(30);
    scene.next.hold();
    scene.change_to("next");
    assert!(scene.next.wait_held(1, PATIENCE));
    let shown = "SELECT string_agg(kind || ' ' || embedding, ', ' ORDER BY kind) FROM autoembed.progress";
    assert_eq!(scene.site.db.text(shown), "index embedding, model change embedding");
    assert!(scene.site.db.yes("SELECT (autoembed.health()->>'healthy')::boolean"));
    // A view that comes later is in the way of the swap.
    scene.site.db.run("CREATE VIEW late AS SELECT * FROM messages");
    scene.next.release();
    scene.until_state("blocked: changing to model \"next\"");
    let state = "SELECT state FROM autoembed.progress WHERE kind = 'model change'";
    assert_eq!(scene.site.db.text(state), "blocked: see autoembed.status");
    assert!(scene.site.db.yes("SELECT autoembed.health()->>'problems' LIKE '%late%'"));
    assert_eq!(
        scene
            .site
            .db
            .column("SELECT DISTINCT embedding FROM autoembed.requests UNION SELECT embedding FROM autoembed.stats()"),
        ["embedding"]
    );
    scene.site.db.run("DROP VIEW late");
    assert_eq!(scene.settle("next"), 30);
    assert_eq!(scene.site.db.int("SELECT count(*) FROM autoembed.progress"), 0);
    assert_eq!(scene.site.db.int("SELECT count(*) FROM autoembed.pace p WHERE NOT EXISTS (SELECT FROM autoembed.vectorizer v WHERE v.id = p.vectorizer_id)"), 0);
}

/// A session that remembers the statement for the old vectors searches by a row just after the swap, with a snapshot from before it.
#[test]
fn a_search_by_a_row_that_straddles_the_swap() {
    const LONG: usize = 2100;
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        let mut scene = Scene::new(20);
        let long = Stub::start(StubConfig::vectors(Vectors::Hashed(LONG))).unwrap();
        scene.site.db.run(&format!(
            "SELECT autoembed.create_model('long', 'openai', dimensions => {LONG}, model => 'stub-model', url => '{}')",
            long.url()
        ));
        scene.change_to("long");
        let model = "SELECT model FROM autoembed.status";
        scene.site.db.until(model, "long", seconds(60));
        let mut searcher = scene.site.session();
        searcher.run("SET autoembed.cache_size = 0");
        assert_eq!(searcher.int("SELECT count(*) FROM similar_messages_to(9, 5)"), 5);
        scene.change_up_to_the_swap();
        scene.site.stub.hold();
        let found = std::thread::spawn(move || {
            searcher.run(&format!("BEGIN ISOLATION LEVEL {isolation}"));
            let found = searcher.rows(
                "SELECT (SELECT autoembed.embed('a pause', 'stub') IS NULL), (SELECT count(*) FROM similar_messages_to(9, 5))",
            );
            searcher.run("COMMIT");
            found
        });
        scene.site.wait_held(1);
        scene.site.db.run("DROP VIEW recent");
        scene.site.db.until(model, "next", seconds(60));
        scene.site.stub.release();
        let found = found.join().unwrap();
        assert_eq!(found[0][1].as_deref(), Some("5"), "{isolation}");
    }
}
