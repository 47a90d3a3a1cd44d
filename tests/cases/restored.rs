//! A database that a dump has filled and that no worker has looked at yet, or whose tables have the oids that they had: columns are found
//! by their names, and none is taken for another.

use autoembed_stub::{Stub, StubConfig, Vectors};
use autoembed_tests::db::literal;
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Cluster, Db, Site, vectors};
use std::path::Path;

fn run(cluster: &Cluster, name: &str, arguments: &[&str]) {
    let output = cluster.tool(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A new database, as a dump says.
fn fill(cluster: &Cluster, database: &str, file: &Path) {
    cluster.client("postgres").run(&format!("CREATE DATABASE {database}"));
    let file = file.display().to_string();
    run(cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", &file]);
}

/// Two columns that are embedded, and the numbers of the columns behind the first are others in a new table.
fn tables(db: &mut Db, on_change: &str) {
    db.run("CREATE TABLE docs (scrap text, id int PRIMARY KEY, body text, title text)");
    for (input, embedding) in [("body", "embedding"), ("title", "title_vector")] {
        db.run(&format!(
            "SELECT autoembed.enable('docs', '{input}', 'stub', embedding => '{embedding}', on_change => '{on_change}', index => 'none')"
        ));
    }
    db.run(
        "ALTER TABLE docs DROP COLUMN scrap; ALTER TABLE docs ADD COLUMN customer_note text DEFAULT 'call back';
         INSERT INTO docs (id, body, title) SELECT i, 'body ' || i, 'title ' || i FROM generate_series(1, 10) i",
    );
}

fn settle(db: &mut Db) {
    for (input, embedding) in [("body", "embedding"), ("title", "title_vector")] {
        vectors::until_all_vectors(db, "docs", input, embedding, 16, PATIENCE);
    }
}

/// In a new server a table may have the very oid that it had.
#[test]
fn g34_tables_that_have_their_old_oids() {
    const OID: &str = "SELECT 'docs'::regclass::oid";
    for on_change in ["replace", "clear"] {
        let servers = [(); 2].map(|()| Cluster::builder().preload(true).start());
        let stub = Stub::start(StubConfig::vectors(Vectors::Hashed(16))).unwrap();
        let url = literal(&stub.url());
        servers[0].client("postgres").run("CREATE DATABASE shop");
        let mut db = servers[0].client("shop");
        // In the order in which a dump makes them.
        db.run("CREATE EXTENSION vector; CREATE EXTENSION autoembed");
        let model = format!(
            "SELECT autoembed.create_model('stub', 'openai', dimensions => 16, model => 'stub-model', url => {url})"
        );
        db.run(&model);
        tables(&mut db, on_change);
        settle(&mut db);
        let file = servers[0].socket_dir().join("dump.sql");
        run(&servers[0], "pg_dump", &["-d", "shop", "-f", &file.display().to_string()]);
        fill(&servers[1], "shop", &file);
        let mut restored = servers[1].client("shop");
        assert_eq!(restored.int(OID), db.int(OID), "the scene is not what it is about");

        restored.run("UPDATE docs SET body = 'edited' WHERE id = 1; UPDATE docs SET title = 'another' WHERE id = 2");
        settle(&mut restored);
        assert_eq!(restored.int("SELECT count(*) FROM docs WHERE customer_note = 'call back'"), 10);
        assert_eq!(restored.text("SELECT body FROM similar_docs('edited', 1)"), "edited");
        let columns =
            restored.column("SELECT v.input || ' ' || v.embedding || ' ' || s.state FROM autoembed.vectorizer v JOIN autoembed.status s USING (source, embedding) ORDER BY 1");
        assert_eq!(columns, ["body embedding active", "title title_vector active"]);
    }
}

/// A server without workers, and a standby: what a dump has brought is used as it is.
#[test]
fn g34_a_dump_that_no_worker_has_seen() {
    let mut site = Site::workerless().start();
    site.db.run("SET client_min_messages = error");
    tables(&mut site.db, "clear");
    site.db.run("SELECT autoembed.embed_pending()");
    settle(&mut site.db);
    let file = site.cluster.socket_dir().join("dump.sql");
    run(&site.cluster, "pg_dump", &["-d", DATABASE, "-f", &file.display().to_string()]);
    fill(&site.cluster, "restored", &file);
    let mut db = site.cluster.client("restored");
    db.run("SET client_min_messages = error");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.numbered"), 0, "somebody has seen it");

    db.run("BEGIN READ ONLY");
    assert_eq!(db.text("SELECT title FROM similar_docs_title_vector('title 7', 1)"), "title 7");
    assert_eq!(db.text("SELECT body FROM similar_docs('body 3', 1)"), "body 3");
    db.run("COMMIT; UPDATE docs SET body = 'edited' WHERE id = 1");
    assert_eq!(
        db.text("SELECT concat_ws(' ', embedding IS NULL, title_vector IS NULL, customer_note) FROM docs WHERE id = 1"),
        "t f call back"
    );
    assert_eq!(db.int("SELECT count(*) FROM autoembed.numbered"), 0);
    db.run("SELECT autoembed.disable('docs', 'title_vector', drop_column => true)");
    assert_eq!(db.column("SELECT embedding FROM autoembed.status"), ["embedding"]);
    // What a session does in a transaction keeps nobody else waiting.
    let mut other = site.cluster.client("restored");
    other.run(
        "SET client_min_messages = error; BEGIN; UPDATE docs SET body = 'by another' WHERE id = 2;
         SELECT autoembed.wait('docs', '0 s'), autoembed.estimate_cost('docs'), autoembed.embed_pending()",
    );
    db.run("SET lock_timeout = '5s'; BEGIN; UPDATE autoembed.vectorizer SET notifies = notifies; ROLLBACK");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.numbered"), 0);
    other.run("COMMIT");
    db.run("SELECT autoembed.set_model('docs', 'stub')");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.numbered"), 1);
    vectors::until_all_vectors(&mut db, "docs", "body", "embedding", 16, PATIENCE);
    assert_eq!(
        db.int("SELECT count(*) FROM pg_attribute WHERE attrelid = 'docs'::regclass AND attname = 'title_vector'"),
        0
    );
}

/// A column of the user's that has the vector column's name by now is not cleared, and writes go on.
#[test]
fn g30_a_column_that_holds_no_vectors_is_left_alone() {
    let mut site = Site::new();
    site.messages("on_change => 'clear', index => 'none'");
    site.insert(1, 3);
    site.settle("messages", "content");
    site.db.run(
        "ALTER TABLE messages DROP COLUMN embedding; ALTER TABLE messages ADD COLUMN embedding text NOT NULL DEFAULT 'my own';
         UPDATE messages SET content = 'edited'",
    );
    assert_eq!(site.db.column("SELECT DISTINCT embedding FROM messages"), ["my own"]);
    site.until_state("messages", "blocked: ");
}
