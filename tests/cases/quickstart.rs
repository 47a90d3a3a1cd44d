//! The first five minutes of a new user.

use autoembed_stub::Fault;
use autoembed_tests::site::{self, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, eventually};
use std::time::{Duration, Instant};

#[test]
fn three_statements_and_a_row_has_its_vector_within_a_second() {
    let (mut db, _cluster) = site::bare();
    db.run("CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text)");
    db.run("SELECT autoembed.enable('messages', 'content')");
    let mut took: Vec<Duration> = (0..9)
        .map(|n| {
            db.run(&format!("INSERT INTO messages (content) VALUES ('my parcel number {n} never arrived')"));
            let start = Instant::now();
            db.until("SELECT count(*) FROM messages WHERE embedding IS NULL", "0", seconds(5));
            start.elapsed()
        })
        .collect();
    let first = took[0];
    took.sort();
    println!("commit to visible vector: first {first:?}, median {:?}, longest {:?}", took[4], took[8]);
    assert!(took[4] < seconds(1), "{took:?}");
    assert_eq!(db.text("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'embedding'"), "vector(256)");
}

#[test]
fn search_finds_by_meaning() {
    let (mut db, _cluster) = site::bare();
    db.run("CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text)");
    db.run("SELECT autoembed.enable('messages', 'content')");
    db.run(
        "INSERT INTO messages (content) VALUES
         ('Tracking says the parcel was delivered on Monday but nothing was left at the door.'),
         ('Boil the pasta for nine minutes and keep a cup of the water for the sauce.'),
         ('The doctor recommends drinking more water and sleeping eight hours.'),
         ('Interest rates on savings accounts went up again this quarter.')",
    );
    assert!(db.yes("SELECT autoembed.wait('messages', '30 s')"));
    assert_eq!(db.int("SELECT id FROM similar_messages('package never showed up', 1)"), 1);
    assert_eq!(db.int("SELECT id FROM similar_messages('how long to cook noodles', 1)"), 2);
    assert_eq!(db.int("SELECT id FROM similar_messages('money in the bank', 1)"), 4);
    let similarities = db.column("SELECT similarity FROM similar_messages('package never showed up', 4)");
    let numbers: Vec<f64> = similarities.iter().map(|s| s.parse().unwrap()).collect();
    assert!(numbers.len() == 4 && numbers.is_sorted_by(|a, b| a >= b), "best first: {numbers:?}");
    assert_eq!(
        db.text("SELECT content FROM similar_messages('package never showed up', 1)"),
        db.text("SELECT content FROM messages WHERE id = 1")
    );
}

#[test]
fn a_new_text_gets_a_new_vector() {
    let mut site = Site::with_messages();
    site.insert(1, 3);
    site.settle("messages", "content");
    let before = site.db.text("SELECT embedding FROM messages WHERE id = 2");
    site.db.run("UPDATE messages SET content = 'something else' WHERE id = 2");
    site.settle("messages", "content");
    assert_ne!(before, site.db.text("SELECT embedding FROM messages WHERE id = 2"));
}

#[test]
fn another_column_calls_nothing() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    site.stub.reset_stats();
    site.db.run("UPDATE messages SET note = 'seen'");
    site.db.run("UPDATE messages SET content = content");
    site.marker();
    assert_eq!(site.inputs(), Vec::<String>::new());
    assert_eq!(site.stub.stats().inputs, 1, "the marker alone");
}

#[test]
fn g01_what_was_rolled_back_calls_nothing() {
    let mut site = Site::with_messages();
    site.stub.reset_stats();
    site.db.run("BEGIN");
    site.insert(1, 10);
    site.db.run("ROLLBACK");
    site.marker();
    assert_eq!(site.inputs(), Vec::<String>::new());

    site.db.run("BEGIN");
    site.insert(11, 11);
    site.db.run("SAVEPOINT s");
    site.insert(12, 12);
    site.db.run("UPDATE messages SET content = 'text 13' WHERE content = 'text 11'");
    site.db.run("ROLLBACK TO s");
    site.insert(14, 14);
    site.db.run("COMMIT");
    site.settle("messages", "content");
    site.marker();
    let mut inputs = site.inputs();
    inputs.sort();
    assert_eq!(inputs, ["text 11", "text 14"]);
}

#[test]
fn g01_a_prepared_transaction_is_seen_when_it_commits() {
    let mut site = Site::builder().setting("max_prepared_transactions", "5").start();
    site.messages("");
    site.stub.reset_stats();
    site.db.run("BEGIN");
    site.insert(1, 1);
    site.db.run("PREPARE TRANSACTION 'later'");
    site.db.run("BEGIN");
    site.insert(2, 2);
    site.db.run("PREPARE TRANSACTION 'never'");
    site.marker();
    assert_eq!(site.inputs(), Vec::<String>::new());
    site.db.run("ROLLBACK PREPARED 'never'");
    site.db.run("COMMIT PREPARED 'later'");
    site.settle("messages", "content");
    assert_eq!(site.inputs(), ["text 1"]);
}

/// Ids come at INSERT, visibility at COMMIT: a reader that only looks beyond the last id it saw loses the late one.
#[test]
fn g04_a_transaction_that_commits_late_is_not_lost() {
    let mut site = Site::with_messages();
    let mut late = site.session();
    late.run("BEGIN; INSERT INTO messages (content) VALUES ('the late one')");
    for n in 0..5 {
        site.insert(n, n);
        site.marker();
    }
    late.run("COMMIT");
    site.settle("messages", "content");
}

#[test]
fn the_views_answer() {
    let mut site = Site::with_messages();
    site.insert(1, 7);
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(site.status("state", "messages"), "active");
    assert_eq!(site.status("failed", "messages"), "0");
    assert_eq!(site.status("embedded", "messages"), "7");
    assert_eq!(site.status("model", "messages"), "stub");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.workers WHERE kind = 'worker'"), 1);
    assert_eq!(site.db.int("SELECT sum(rows) FROM autoembed.requests WHERE source = 'messages'::regclass"), 7);
    let texts = site.db.rows("SELECT s::text, r::text FROM autoembed.status s, autoembed.requests r");
    assert!(!format!("{texts:?}").contains("text 1"), "the views show no text of rows");
}

#[test]
fn a_model_answers_when_asked() {
    let mut site = Site::new();
    let row = site.db.rows("SELECT ok, dimensions, error FROM autoembed.test_model('stub')").remove(0);
    assert_eq!(row[..2], [Some("t".to_owned()), Some("16".to_owned())]);
    site.fault(Fault::status(401));
    let row = site.db.rows("SELECT ok, error FROM autoembed.test_model('stub')").remove(0);
    assert_eq!(row[0].as_deref(), Some("f"));
    assert!(row[1].as_deref().is_some_and(|error| error.contains("401")), "{row:?}");
    assert_eq!(site.db.text("SELECT ok FROM autoembed.test_model('builtin')"), "t");
    site.db.run("SELECT autoembed.drop_model('stub')");
    site.db.until("SELECT count(*) FROM autoembed.models WHERE name = 'stub'", "0", PATIENCE);
}

#[test]
fn g17_work_starts_soon_after_create_extension() {
    let (mut db, cluster) = site::bare();
    let start = Instant::now();
    let pid = cluster.wait_worker("app", seconds(5));
    println!("a worker {:?} after CREATE EXTENSION", start.elapsed());
    db.run("CREATE TABLE t (id int PRIMARY KEY, body text); SELECT autoembed.enable('t', 'body'); INSERT INTO t VALUES (1, 'hello world')");
    db.until("SELECT embedding IS NOT NULL FROM t", "t", seconds(5));
    eventually("the same worker", seconds(5), || {
        cluster.worker_pid("app").filter(|now| *now == pid).ok_or_else(|| "another".to_owned())
    });
}
