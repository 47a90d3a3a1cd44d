//! Tables that publications bring to subscribers, where a column that they do not have stops them.

use super::{NEXT, Scene};
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::eventually;

fn logical() -> Site {
    Site::builder().setting("wal_level", "logical").setting("wal_retrieve_retry_interval", "200ms").start()
}

#[test]
fn who_adds_a_column_is_told() {
    let mut scene = Scene::with(logical(), 1);
    const CHANGE: &str = "SELECT autoembed.set_model('messages', 'next')";
    let notice = "NOTICE:  column \"embedding_next\" of table \"messages\" is published now (\"It\"): subscribers that do not have it stop";
    let hint = format!(
        r#"HINT:  Add it there, and they go on: ALTER TABLE "public"."messages" ADD COLUMN IF NOT EXISTS "embedding_next" "public"."vector"({NEXT}). Or"#
    );
    for (what, is_told) in [
        ("FOR TABLE messages", true),
        ("FOR TABLES IN SCHEMA public", true),
        ("FOR ALL TABLES", true),
        ("FOR TABLE messages (id, content)", false),
        ("FOR TABLES IN SCHEMA autoembed", false),
    ] {
        scene.site.db.run(&format!("CREATE PUBLICATION \"It\" {what}"));
        let said = scene.site.told("postgres", CHANGE);
        assert_eq!(said.contains(notice) && said.contains(&hint), is_told, "{what}: {said}");
        assert_eq!(said.is_empty(), !is_told, "{what}: {said}");
        // Nothing is added by the second call.
        assert_eq!(scene.site.told("postgres", CHANGE), "", "{what}");
        scene.change_to("stub");
        scene.site.db.run("DROP PUBLICATION \"It\"");
    }
    scene.site.db.run(
        "CREATE TABLE logs (region text, id int, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a'); CREATE PUBLICATION of_a FOR TABLE logs_a;
         CREATE TABLE notes (id int PRIMARY KEY, body text, has vector(16)); CREATE PUBLICATION notes FOR TABLE notes",
    );
    let enabled = |arguments: &str| {
        scene.site.told("postgres", &format!("SELECT autoembed.enable({arguments}, model => 'stub')"))
    };
    let said = enabled("'logs', 'body'");
    assert!(said.contains("column \"embedding\" of table \"logs\" is published now (of_a)"), "{said}");
    let said = enabled("'notes', 'body'");
    assert!(said.contains("column \"embedding\" of table \"notes\" is published now (notes)"), "{said}");
    assert_eq!(enabled("'notes', 'body', embedding => 'has'"), "", "it was there");
    let chunks = "'notes', 'body', embedding => 'of_chunk', chunk_size => 100";
    assert_eq!(enabled(chunks), "");
    scene.site.db.run(
        "SELECT autoembed.disable('notes', 'of_chunk', true); CREATE PUBLICATION whole FOR TABLES IN SCHEMA public",
    );
    let said = scene.site.told("postgres", &format!("SELECT autoembed.enable({chunks}, model => 'stub')"));
    assert!(said.contains("NOTICE:  table \"notes_chunks\" is published now (whole)"), "{said}");
}

/// As the guide says.
#[test]
fn a_subscriber_goes_on_when_it_has_the_column() {
    let mut scene = Scene::with(logical(), 3);
    scene.site.db.run("CREATE PUBLICATION texts FOR TABLE messages");
    scene.site.db.run("SELECT pg_create_logical_replication_slot('texts', 'pgoutput')");
    scene.site.cluster.client("postgres").run("CREATE DATABASE reader");
    let mut reader = scene.site.cluster.client("reader");
    reader.run("CREATE EXTENSION vector; CREATE TABLE messages (id bigint PRIMARY KEY, content text, note text, embedding vector(16))");
    let socket = scene.site.cluster.socket_dir().display().to_string();
    reader.run(&format!(
        "CREATE SUBSCRIPTION texts CONNECTION 'host={socket} port=5432 user=postgres dbname={}' PUBLICATION texts \
         WITH (create_slot = false, slot_name = 'texts')",
        autoembed_tests::site::DATABASE
    ));
    const VECTORS: &str = "SELECT count(embedding) FROM messages";
    reader.until(VECTORS, "3", PATIENCE);
    let logged = |scene: &Scene, what: &str| {
        eventually(what, PATIENCE, || match scene.site.cluster.log().contains(what) {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        });
    };
    scene.next.hold();
    let said = scene.site.told("postgres", "SELECT autoembed.set_model('messages', 'next')");
    let (_, hint) = said.split_once("they go on: ").unwrap();
    let (statement, _) = hint.split_once(". Or").unwrap();
    scene.site.db.run("INSERT INTO messages (content) VALUES ('during the change')");
    logged(&scene, "is missing replicated column: \"embedding_next\"");
    assert_eq!(reader.int("SELECT count(*) FROM messages"), 3);
    reader.run(statement);
    reader.until(VECTORS, "4", PATIENCE);
    scene.next.release();
    scene.settle("next");
    scene.site.db.run("INSERT INTO messages (content) VALUES ('after the change')");
    scene.settle("next");
    logged(&scene, &format!("expected 16 dimensions, not {NEXT}"));
    reader.run("BEGIN; ALTER TABLE messages DROP COLUMN embedding; ALTER TABLE messages RENAME COLUMN embedding_next TO embedding; COMMIT");
    reader.until(VECTORS, "5", PATIENCE);
    const ALL: &str = "SELECT concat_ws(' ', id, content, embedding) FROM messages ORDER BY id";
    assert_eq!(reader.column(ALL), scene.site.db.column(ALL));
    // A table that it does not have stops it as well.
    let notes = "CREATE TABLE notes (id int PRIMARY KEY, body text)";
    reader.run(notes);
    scene.site.db.run(&format!("{notes}; ALTER PUBLICATION texts SET TABLES IN SCHEMA public"));
    scene.site.enable("notes", "body", "chunk_size => 100");
    scene.site.db.run("INSERT INTO notes VALUES (1, 'a note')");
    logged(&scene, "logical replication target relation \"public.notes_chunks\" does not exist");
    reader.run("DROP SUBSCRIPTION texts");
}
