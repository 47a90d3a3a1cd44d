//! The arguments of `enable`, and what is done to a vectorizer afterwards.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, vectors};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[test]
fn clear_never_shows_a_vector_of_another_text() {
    let mut site = Site::new();
    site.messages("on_change => 'clear'");
    site.insert(1, 20);
    site.settle("messages", "content");
    let before = site.db.text("SELECT content FROM messages WHERE id = 1");
    site.stub.hold();
    site.db.run("UPDATE messages SET content = 'cleared' WHERE id = 1");
    assert_eq!(site.db.maybe("SELECT embedding FROM messages WHERE id = 1"), None, "at once, not later");
    assert_ne!(before, "cleared");
    site.stub.release();
    site.settle("messages", "content");

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = site.session();
        let (mut reader, dims, done) = (site.session(), site.dims, &done);
        scope.spawn(move || {
            for n in 0..400 {
                writer.run(&format!("UPDATE messages SET content = 'round {n} ' || id WHERE id = 1 + {n} % 20"));
            }
            done.store(true, Ordering::Release);
        });
        let mut looked = 0;
        while !done.load(Ordering::Acquire) || looked == 0 {
            // One statement: text and vector come from one snapshot.
            for row in reader.rows("SELECT content, embedding::text FROM messages WHERE embedding IS NOT NULL") {
                let (text, vector) = (row[0].clone().unwrap(), row[1].clone().unwrap());
                assert!(vectors::same(&vectors::parse(&vector), &autoembed_stub::hashed_vector(&text, dims)), "{text}");
            }
            looked += 1;
        }
    });
    site.settle("messages", "content");
}

#[test]
fn replace_keeps_serving_the_old_vector() {
    let mut site = Site::with_messages();
    site.insert(1, 1);
    site.settle("messages", "content");
    let before = site.db.text("SELECT embedding FROM messages");
    site.stub.hold();
    site.db.run("UPDATE messages SET content = 'other'");
    site.wait_held(1);
    assert_eq!(site.db.text("SELECT embedding FROM messages"), before);
    site.stub.release();
    site.settle("messages", "content");
}

#[test]
fn delay_waits_until_a_row_settles() {
    let mut site = Site::new();
    site.messages("delay => '1 s'");
    site.stub.reset_stats();
    site.db.run("INSERT INTO messages (content) VALUES ('A')");
    for word in ["streamed", "answer", "of", "a", "model", "comes", "word", "by", "word"] {
        site.db.run(&format!("UPDATE messages SET content = content || ' {word}'"));
    }
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(site.inputs(), ["A streamed answer of a model comes word by word"]);
}

/// Many rows that wait for their time cost no more a row than few do.
#[test]
fn a_delay_for_many_rows() {
    let mut site = Site::builder().dims(8).start();
    site.messages("delay => '1 s', index => 'none'");
    let start = Instant::now();
    site.insert(1, 20_000);
    let unfinished = "SELECT count(*) FROM messages WHERE embedding IS NULL";
    assert_eq!(site.db.int(unfinished), 20_000, "the delay was no delay");
    site.db.until(unfinished, "0", seconds(15));
    println!("20,000 rows with a delay of 1 s: embedded after {:?}", start.elapsed());
    site.until_idle("messages");
    assert_eq!(site.assert_all_vectors("messages", "content"), 20_000);
    assert_eq!(site.stub.stats().inputs, 20_000, "each text once");
}

#[test]
fn pause_and_resume() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "");
    site.db.run("SELECT autoembed.pause('notes')");
    assert_eq!(site.status("state", "notes"), "paused");
    site.db.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 10) i");
    for _ in 0..3 {
        site.marker();
    }
    assert_eq!(site.db.int("SELECT count(*) FROM notes WHERE embedding IS NOT NULL"), 0);
    assert_eq!(site.status("pending", "notes"), "10");
    site.db.run("SELECT autoembed.resume('notes')");
    assert_eq!(site.settle("notes", "body"), 10);
    assert_eq!(site.status("state", "notes"), "active");
}

#[test]
fn a_pause_outlives_a_restart() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "");
    site.db.run("SELECT autoembed.pause('notes'); INSERT INTO notes VALUES (1, 'one')");
    site.cluster.restart(autoembed_tests::Stop::Fast);
    site.reconnect();
    site.marker();
    assert_eq!(site.status("state", "notes"), "paused");
    assert_eq!(site.db.int("SELECT count(*) FROM notes WHERE embedding IS NOT NULL"), 0);
    site.db.run("SELECT autoembed.resume('notes')");
    site.settle("notes", "body");
}

#[test]
fn disable_keeps_the_vectors() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "");
    site.db.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 5) i");
    site.settle("notes", "body");
    site.db.run("SELECT autoembed.disable('notes')");
    assert_eq!(site.db.int("SELECT count(embedding) FROM notes"), 5);
    assert_eq!(site.db.int("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notes'::regclass"), 0);
    assert_eq!(site.db.int("SELECT count(*) FROM pg_proc WHERE proname IN ('similar_notes', 'similar_notes_to')"), 0);
    assert_eq!(site.status("state", "notes"), "NULL");
    site.stub.reset_stats();
    site.db.run("INSERT INTO notes VALUES (6, 'unseen'); UPDATE notes SET body = 'unseen too' WHERE id = 1");
    site.marker();
    assert_eq!(site.inputs(), Vec::<String>::new());
    // And on again: what came in between is found by the backfill.
    site.enable("notes", "body", "");
    site.db.run("SELECT autoembed.backfill('notes', force => true)");
    assert_eq!(site.settle("notes", "body"), 6);
}

#[test]
fn disable_with_work_under_way_and_the_column_dropped() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 50);
    site.wait_held(1);
    site.db.run("SET lock_timeout = '5s'; SELECT autoembed.disable('messages', drop_column => true)");
    site.stub.release();
    assert_eq!(site.db.int("SELECT count(*) FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'embedding' AND NOT attisdropped"), 0);
    site.enable("messages", "content", "");
    assert_eq!(site.settle("messages", "content"), 50);
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn enabling_twice_changes_nothing() {
    let mut site = Site::with_messages();
    site.insert(1, 20);
    site.settle("messages", "content");
    let catalog = "SELECT (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_proc), (SELECT string_agg(v::text, ' ') FROM autoembed.vectorizer v)";
    site.until_idle("messages");
    site.db.until(
        "SELECT count(*) > 0 FROM pg_indexes WHERE tablename = 'messages' AND indexdef LIKE '%hnsw%'",
        "t",
        PATIENCE,
    );
    let before = site.db.rows(catalog);
    site.stub.reset_stats();
    let first = site.db.int("SELECT id FROM autoembed.status");
    assert_eq!(site.enable("messages", "content", ""), first);
    assert_eq!(site.db.rows(catalog), before);
    site.marker();
    assert_eq!(site.inputs(), Vec::<String>::new());
}

/// Other arguments are never ignored silently: either they count from now on, or the call says what to do.
#[test]
fn enabling_with_other_arguments() {
    let mut site = Site::with_messages();
    site.insert(1, 3);
    site.settle("messages", "content");
    let call = "SELECT autoembed.enable('messages', 'note', model => 'stub')";
    match site.db.try_rows(call) {
        Ok(_) => {
            site.db.run("UPDATE messages SET note = 'a note'");
            site.settle("messages", "note");
        }
        Err(e) => {
            let error = autoembed_tests::SqlError::of(&e).unwrap();
            error.assert("42710", "embedding");
            assert!(error.hint.contains("disable"), "{error:?}");
            site.db.run("SELECT autoembed.disable('messages')");
            site.enable("messages", "note", "");
        }
    }
}

#[test]
fn without_backfill_only_new_rows_are_embedded() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes SELECT i, 'old ' || i FROM generate_series(1, 10) i");
    site.enable("notes", "body", "backfill => false");
    site.db.run("INSERT INTO notes VALUES (11, 'new')");
    site.db.until("SELECT count(embedding) FROM notes WHERE id = 11", "1", PATIENCE);
    site.marker();
    assert_eq!(site.db.int("SELECT count(embedding) FROM notes"), 1);
    assert!(site.db.int("SELECT autoembed.backfill('notes')") >= 0);
    assert_eq!(site.settle("notes", "body"), 11);
}

#[test]
fn the_index_comes_after_the_backfill_or_not_at_all() {
    let mut site = Site::new();
    site.db.run("CREATE TABLE a (id int PRIMARY KEY, body text); INSERT INTO a SELECT i, 'a ' || i FROM generate_series(1, 1000) i; CREATE TABLE b AS TABLE a; ALTER TABLE b ADD PRIMARY KEY (id)");
    site.enable("a", "body", "");
    site.enable("b", "body", "index => 'none'");
    site.settle("a", "body");
    site.settle("b", "body");
    let indexes =
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
                   WHERE m.amname = 'hnsw' AND i.indisvalid AND i.indrelid";
    site.db.until(&format!("{indexes} = 'a'::regclass"), "1", PATIENCE);
    assert_eq!(site.db.int(&format!("{indexes} = 'b'::regclass")), 0);
}

#[test]
fn a_table_in_the_middle_of_a_transaction() {
    let mut site = Site::new();
    site.db.run("BEGIN");
    site.messages("");
    site.insert(1, 5);
    site.db.run("ROLLBACK");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.status"), 0);
    site.db.run("BEGIN");
    site.messages("");
    site.insert(1, 5);
    site.db.run("COMMIT");
    assert_eq!(site.settle("messages", "content"), 5);
}
