//! Every way of writing a row, and triggers that write too.

use autoembed_tests::{Db, Site};
use std::io::Write as _;

#[test]
fn g30_copy() {
    let mut site = Site::with_messages();
    copy_in(&mut site.db, "COPY messages (content) FROM STDIN", (1..=2000).map(|n| format!("copied {n}\n")));
    assert_eq!(site.settle("messages", "content"), 2000);
    println!("COPY of 2,000 rows: {} requests", site.stub.stats().requests);
}

fn copy_in(db: &mut Db, sql: &str, lines: impl Iterator<Item = String>) {
    let mut writer = db.copy_in(sql).unwrap();
    for line in lines {
        writer.write_all(line.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn g30_upsert() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE kv (k text PRIMARY KEY, v text, hits int DEFAULT 1)");
    site.enable("kv", "v", "");
    site.db.run("INSERT INTO kv SELECT 'k' || i, 'v' || i FROM generate_series(1, 50) i");
    site.settle("kv", "v");
    site.db.run(
        "INSERT INTO kv SELECT 'k' || i, 'new v' || i FROM generate_series(41, 60) i ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    );
    assert_eq!(site.settle("kv", "v"), 60);
    site.until_idle("kv");
    site.stub.reset_stats();
    site.db.run("INSERT INTO kv SELECT 'k' || i, 'ignored' FROM generate_series(1, 60) i ON CONFLICT DO NOTHING");
    site.db.run("INSERT INTO kv SELECT 'k' || i, 'x' FROM generate_series(1, 60) i ON CONFLICT (k) DO UPDATE SET hits = kv.hits + 1");
    site.db.run("INSERT INTO kv VALUES ('last', 'the last')");
    site.settle("kv", "v");
    site.until_idle("kv");
    assert_eq!(site.inputs(), ["the last"]);
}

#[test]
fn g30_merge() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE stock (id int PRIMARY KEY, name text); CREATE TABLE news (id int, name text)");
    site.enable("stock", "name", "");
    site.db.run("INSERT INTO stock SELECT i, 'name ' || i FROM generate_series(1, 20) i");
    site.db.run("INSERT INTO news SELECT i, 'news ' || i FROM generate_series(11, 40) i");
    site.db.run(
        "MERGE INTO stock s USING news n ON s.id = n.id WHEN MATCHED AND n.id = 11 THEN DELETE
         WHEN MATCHED THEN UPDATE SET name = n.name WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.name)",
    );
    assert_eq!(site.settle("stock", "name"), 39);
}

#[test]
fn insert_select_of_many_rows_takes_few_requests() {
    let mut site = Site::with_messages();
    site.stub.reset_stats();
    site.insert(1, 10_000);
    assert_eq!(site.settle_within("messages", "content", "embedding", autoembed_tests::wait::seconds(60)), 10_000);
    let stats = site.stub.stats();
    println!("10,000 rows: {} requests, {} inputs", stats.requests, stats.inputs);
    // 2,048 inputs a request: five is the least there can be.
    assert!(stats.requests <= 8, "{} requests", stats.requests);
    assert_eq!(stats.inputs, 10_000);
}

#[test]
fn rows_written_and_deleted_at_once() {
    let mut site = Site::with_messages();
    site.db.run("BEGIN; INSERT INTO messages (content) VALUES ('gone soon'); DELETE FROM messages; COMMIT");
    site.stub.hold();
    site.insert(1, 10);
    site.wait_held(1);
    site.db.run("DELETE FROM messages WHERE content <> 'text 3'");
    site.stub.release();
    assert_eq!(site.settle("messages", "content"), 1);
    site.until_idle("messages");
    assert_eq!(site.failed("messages"), 0);
    site.insert(1, 100);
    site.db.run("TRUNCATE messages");
    site.insert(101, 105);
    assert_eq!(site.settle("messages", "content"), 5);
    site.until_idle("messages");
}

#[test]
fn g30_cascades_of_foreign_keys() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE author (name text PRIMARY KEY)");
    site.db.run("CREATE TABLE book (id int PRIMARY KEY, author text REFERENCES author ON UPDATE CASCADE ON DELETE SET NULL, title text)");
    let input = "title || ' by ' || coalesce(author, 'nobody')";
    site.enable("book", input, "");
    site.db.run("INSERT INTO author VALUES ('A'), ('B'); INSERT INTO book SELECT i, chr(65 + i % 2), 'book ' || i FROM generate_series(1, 10) i");
    site.settle("book", input);
    site.db.run("UPDATE author SET name = 'C' WHERE name = 'A'; DELETE FROM author WHERE name = 'B'");
    site.settle("book", input);
}

#[test]
fn g12_a_before_trigger_that_edits_the_text() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF TG_OP = 'INSERT' THEN NEW.content := upper(NEW.content);
             ELSIF NEW.note IS DISTINCT FROM OLD.note THEN NEW.content := NEW.content || ' [' || NEW.note || ']'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER a_edit BEFORE INSERT OR UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION edit()",
    );
    site.insert(1, 5);
    site.settle("messages", "content");
    // The statement names another column only: the trigger changes the text.
    site.db.run("UPDATE messages SET note = 'noted' WHERE id = 2");
    assert_eq!(site.db.text("SELECT content FROM messages WHERE id = 2"), "TEXT 2 [noted]");
    site.settle("messages", "content");
    assert_eq!(site.inputs().last().map(String::as_str), Some("TEXT 2 [noted]"));
}

/// The worker's own UPDATE fires the user's triggers: none of it may queue the row again.
#[test]
fn g11_a_trigger_on_update_makes_no_loop() {
    let mut site = Site::with_messages();
    site.db.run(
        "ALTER TABLE messages ADD updated_at timestamptz, ADD version int DEFAULT 0;
         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN NEW.updated_at := clock_timestamp(); NEW.version := OLD.version + 1; RETURN NEW; END $$;
         CREATE TRIGGER touch BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION touch()",
    );
    site.stub.reset_stats();
    site.insert(1, 20);
    site.settle("messages", "content");
    for _ in 0..3 {
        site.marker();
    }
    site.until_idle("messages");
    assert_eq!(site.inputs().len(), 20);
    assert_eq!(site.db.int("SELECT max(version) FROM messages"), 1, "each row was written once");
}

/// A user's AFTER trigger that changes the text again, and one that fails.
#[test]
fn triggers_that_write_or_fail() {
    let mut site = Site::with_messages();
    site.db.run(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN UPDATE messages SET content = content || ' (edited)' WHERE id = NEW.id; RETURN NULL; END $$;
         CREATE TRIGGER again AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION again()",
    );
    site.insert(1, 5);
    site.settle("messages", "content");
    assert_eq!(site.db.int("SELECT count(*) FROM messages WHERE content LIKE '%(edited)'"), 5);

    site.db.run(
        "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF NEW.content LIKE '%bad%' AND NEW.embedding IS NOT NULL THEN RAISE 'no vectors for bad rows'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER picky BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION picky()",
    );
    site.db.run("INSERT INTO messages (content) SELECT CASE WHEN i = 7 THEN 'a bad row' ELSE 'good ' || i END FROM generate_series(1, 20) i");
    site.db.until("SELECT count(*) FROM messages WHERE embedding IS NULL", "1", autoembed_tests::site::PATIENCE);
    site.db.run("DROP TRIGGER picky ON messages; SELECT autoembed.retry_failed('messages')");
    site.settle("messages", "content");
}

#[test]
fn g29_a_table_renamed_and_altered() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    site.db.run("ALTER TABLE messages RENAME TO letters; CREATE SCHEMA moved; ALTER TABLE letters SET SCHEMA moved");
    site.db.run("INSERT INTO moved.letters (content) VALUES ('after the move')");
    assert_eq!(site.settle("moved.letters", "content"), 6);
    site.db.run("ALTER TABLE moved.letters RENAME content TO body; ALTER TABLE moved.letters RENAME id TO number");
    site.db.run("INSERT INTO moved.letters (body) VALUES ('after the renaming'); UPDATE moved.letters SET body = 'edited' WHERE number = 1");
    assert_eq!(site.settle("moved.letters", "body"), 7);
    site.db
        .run("ALTER TABLE moved.letters RENAME embedding TO vec; INSERT INTO moved.letters (body) VALUES ('with vec')");
    site.settle_within("moved.letters", "body", "vec", autoembed_tests::site::PATIENCE);
}

#[test]
fn g06_users_do_not_wait_for_each_other() {
    let mut site = Site::with_messages();
    site.insert(1, 10);
    site.settle("messages", "content");
    let mut other = site.session();
    // Both queue jobs for the same rows' neighbours in open transactions; neither may wait.
    site.db.run("SET lock_timeout = '2s'; BEGIN; UPDATE messages SET content = 'left ' || id WHERE id <= 5");
    other.run("SET lock_timeout = '2s'; BEGIN; UPDATE messages SET content = 'right ' || id WHERE id > 5; INSERT INTO messages (content) VALUES ('new')");
    site.db.run("INSERT INTO messages (content) VALUES ('new'); COMMIT");
    other.run("COMMIT");
    assert_eq!(site.settle("messages", "content"), 12);
}
