//! Changes of model that wait.

use super::{entry, over, scene, words};
use autoembed_stub::{Fault, Script, Stub, StubConfig, Vectors};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, vectors};

const DIMENSIONS: usize = 24;

/// A change of `documents` to the model `next`, whose server holds all requests back.
fn changing(site: &mut Site) -> Stub {
    let next = Stub::start(StubConfig::vectors(Vectors::Hashed(DIMENSIONS))).unwrap();
    site.db.run(&format!(
        "SELECT autoembed.create_model('next', 'openai', dimensions => {DIMENSIONS}, model => 'stub-model', url => '{}')",
        next.url()
    ));
    next.hold();
    site.db.run("SELECT autoembed.set_model('documents', 'next')");
    assert!(next.wait_held(1, PATIENCE));
    next
}

fn changed(site: &mut Site) {
    site.db.until("SELECT model || ' ' || state FROM autoembed.status", "next active", seconds(60));
    vectors::until_all_vectors(&mut site.db, "documents", "body", "embedding", DIMENSIONS, PATIENCE);
}

#[test]
fn transactions_that_hold_it_up() {
    let mut site = scene(Site::new());
    let next = changing(&mut site);
    let mut reader = site.session();
    let pid = reader.text("SELECT pg_backend_pid()");
    reader.run("BEGIN; SELECT count(*) FROM documents");
    next.release();
    let page = entry("a transaction that uses the table");
    page.until_shown(&mut site);
    let found = site.db.column(&page.command("pg_locks", &[]));
    assert_eq!(found[0], pid);
    site.db.run(&page.command("pg_terminate_backend", &[("12345", &pid)]));
    changed(&mut site);
    drop(site);

    let mut site = scene(Site::new());
    // An index that is built waits for it as well.
    site.db.run("DROP INDEX documents_embedding_idx; UPDATE autoembed.vectorizer SET index_method = 'none'");
    let next = changing(&mut site);
    let mut reader = site.session();
    let pid = reader.text("SELECT pg_backend_pid()");
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    next.release();
    let page = entry("older than its vectors");
    page.until_shown(&mut site);
    let found = site.db.column(&page.command("backend_xmin", &[]));
    assert_eq!(found[0], pid);
    site.db.run(&page.command("pg_terminate_backend", &[("12345", &pid)]));
    changed(&mut site);
}

/// Whoever alters the table has the build of its index end, which begins again later.
#[test]
fn a_build_that_gives_way() {
    let mut site = scene(Site::new());
    let next = changing(&mut site);
    let mut reader = site.session();
    let pid = reader.text("SELECT pg_backend_pid()");
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    next.release();
    let waits = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'";
    site.db.until(waits, "1", PATIENCE);
    site.db.run("ALTER TABLE documents ADD COLUMN more int");
    let page = entry("gave way to a session");
    assert!(page.until_shown(&mut site).starts_with("active: changing to model \"next\": "));
    let found = site.db.column(&page.command("backend_xmin", &[]));
    assert_eq!(found[0], pid);
    site.db.run(&page.command("pg_terminate_backend", &[("12345", &pid)]));
    site.db.run("UPDATE autoembed.vectorizer SET build_after = clock_timestamp() WHERE build_after IS NOT NULL");
    changed(&mut site);
    assert_eq!(site.db.int("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), 0);
}

#[test]
fn rows_that_are_written_all_the_time() {
    let mut site = scene(Site::new());
    let next = changing(&mut site);
    site.db.run("CREATE VIEW recent AS SELECT id, embedding FROM documents");
    next.release();
    site.until_state("documents", "blocked: changing");
    // A row that the old model has done, and the new one has not.
    next.hold();
    site.db.run("INSERT INTO documents (id, body) VALUES (9000, 'written just now')");
    assert!(next.wait_held(1, PATIENCE));
    let page = words("its last rows come first");
    site.db.run("DROP VIEW recent");
    page.until_shown(&mut site);
    next.release();
    changed(&mut site);
}

#[test]
fn what_somebody_has_to_mend() {
    let mut site = scene(Site::new());
    let next = changing(&mut site);
    site.db.run("CREATE VIEW recent AS SELECT id, embedding FROM documents");
    next.release();
    let page = entry("reads column");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    changed(&mut site);
    drop(site);

    let mut site = scene(Site::new());
    let next = changing(&mut site);
    site.db.run("ALTER TABLE documents DROP COLUMN embedding_next");
    let page = entry("the vector column of ... was dropped");
    next.release();
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);

    let next = {
        next.script(Script::always(Fault::status(401)));
        // What it has answered before is remembered.
        site.db.run("UPDATE documents SET body = 'edited ' || id");
        site.db.run("SELECT autoembed.set_model('documents', 'next')");
        next
    };
    let page = entry("and anything else");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    over(&mut site);
    drop(next);
}

#[test]
fn without_a_worker() {
    let mut site = Site::workerless().start();
    site.create_model("mine", "");
    site.db.run(
        "CREATE TABLE documents (id int PRIMARY KEY, title text, body text);
         INSERT INTO documents SELECT i, 'title', 'body ' || i FROM generate_series(1, 20) i; SELECT autoembed.enable('documents', 'body', 'mine');
         SELECT autoembed.embed_pending()",
    );
    let next = Stub::start(StubConfig::vectors(Vectors::Hashed(DIMENSIONS))).unwrap();
    site.db.run(&format!(
        "SELECT autoembed.create_model('next', 'openai', dimensions => {DIMENSIONS}, model => 'stub-model', url => '{}');
         SELECT autoembed.set_model('documents', 'next')",
        next.url()
    ));
    let page = entry("changing to model ...: no worker");
    page.until_shown(&mut site);
    page.run(&mut site.db, &[]);
    // For the planner it is a large one: no index is built while users wait.
    site.db.run("UPDATE pg_class SET reltuples = 20000000 WHERE relname = 'documents'");
    page.run(&mut site.db, &[]);
    let index = entry("an index over the new vectors");
    index.until_shown(&mut site);
    site.db.run(&index.command("CREATE INDEX", &[]));
    page.run(&mut site.db, &[]);
    changed(&mut site);
}
