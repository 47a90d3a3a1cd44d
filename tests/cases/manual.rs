//! Work done in the caller's own session.

use autoembed_stub::Fault;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, vectors};
use std::time::Instant;

#[test]
fn embed_pending_alone_does_everything() {
    let mut site = Site::workerless().start();
    site.db.run("CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text, note text)");
    site.insert(1, 100);
    site.enable("messages", "content", "");
    site.insert(101, 300);
    site.db.run("UPDATE messages SET content = NULL WHERE id = 200; DELETE FROM messages WHERE id = 150");
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 0);
    assert_eq!(site.cluster.worker_pid("app"), None, "this server was to have no worker");
    let done = site.db.int("SELECT autoembed.embed_pending()");
    site.assert_all_vectors("messages", "content");
    assert!((298..=300).contains(&done), "{done} rows reported");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending()"), 0, "nothing was left");
    site.db.run("UPDATE messages SET content = 'edited' WHERE id <= 3");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending('messages')"), 3);
    site.assert_all_vectors("messages", "content");
    assert!(site.db.yes("SELECT autoembed.wait('messages', '1 s')"));
}

#[test]
fn max_rows_is_honoured() {
    let mut site = Site::workerless().start();
    site.messages("");
    site.insert(1, 10);
    assert_eq!(site.db.int("SELECT autoembed.embed_pending('messages', 4)"), 4);
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 4);
    assert_eq!(site.db.int("SELECT autoembed.embed_pending(max_rows => 5)"), 5);
    assert_eq!(site.db.int("SELECT autoembed.embed_pending(max_rows => 5)"), 1);
    site.assert_all_vectors("messages", "content");
}

#[test]
fn only_the_table_named() {
    let mut site = Site::workerless().start();
    site.messages("");
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "");
    site.insert(1, 3);
    site.db.run("INSERT INTO notes VALUES (1, 'one')");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending('notes')"), 1);
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 0);
    assert_eq!(site.db.int("SELECT autoembed.embed_pending('messages')"), 3);
}

#[test]
fn what_fails_without_a_worker_is_kept() {
    let mut site = Site::workerless().start();
    site.messages("");
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO messages (content) VALUES ('good'), ('bad'), ('fine')");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending()"), 2);
    assert_eq!(site.failed("messages"), 1);
    site.stub.clear();
    assert_eq!(site.db.int("SELECT autoembed.retry_failed()"), 1);
    assert_eq!(site.db.int("SELECT autoembed.embed_pending()"), 1);
    site.assert_all_vectors("messages", "content");
    assert_eq!(site.failed("messages"), 0);
}

/// A call that cannot do its work says so, and loses nothing.
#[test]
fn embed_pending_while_the_server_is_away() {
    let mut site = Site::workerless().model("timeout => '1 s'").start();
    site.messages("");
    site.stub_gone();
    site.insert(1, 5);
    let start = Instant::now();
    match site.db.try_rows("SELECT autoembed.embed_pending()") {
        Ok(rows) => assert_eq!(rows[0][0].as_deref(), Some("0")),
        Err(e) => {
            let error = autoembed_tests::SqlError::of(&e).unwrap();
            error.assert(&error.code, "");
        }
    }
    assert!(start.elapsed() < seconds(20), "{:?}", start.elapsed());
    site.stub_back();
    site.db.until_true(
        "(SELECT autoembed.embed_pending() >= 0) AND (SELECT count(*) = 5 FROM messages WHERE embedding IS NOT NULL)",
        "SELECT * FROM autoembed.status",
        PATIENCE,
    );
    site.assert_all_vectors("messages", "content");
}

#[test]
fn a_rolled_back_embed_pending_loses_nothing() {
    let mut site = Site::workerless().start();
    site.messages("");
    site.insert(1, 10);
    site.db.run("BEGIN; SELECT autoembed.embed_pending(); ROLLBACK");
    site.db.until_true(
        "(SELECT autoembed.embed_pending() >= 0) AND (SELECT count(*) = 10 FROM messages WHERE embedding IS NOT NULL)",
        "SELECT * FROM autoembed.status",
        PATIENCE,
    );
    site.assert_all_vectors("messages", "content");
}

#[test]
fn two_sessions_share_the_work() {
    let mut site = Site::workerless().start();
    site.messages("");
    site.insert(1, 2000);
    site.stub.reset_stats();
    let counts: Vec<i64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let mut db = site.session();
                scope.spawn(move || db.int("SELECT autoembed.embed_pending()"))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    println!("two sessions drained {counts:?}");
    let rest = site.db.int("SELECT autoembed.embed_pending()");
    assert_eq!(counts.iter().sum::<i64>() + rest, 2000, "each row once");
    site.assert_all_vectors("messages", "content");
}

#[test]
fn wait_says_when_it_waited_in_vain() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 3);
    let start = Instant::now();
    assert!(!site.db.yes("SELECT autoembed.wait('messages', '300 ms')"));
    assert!(start.elapsed() < seconds(5), "{:?}", start.elapsed());
    site.stub.release();
    assert!(site.db.yes("SELECT autoembed.wait('messages', '30 s')"));
    site.assert_all_vectors("messages", "content");
    assert!(site.db.yes("SELECT autoembed.wait(timeout => '30 s')"));
}

#[test]
fn wait_can_be_cancelled() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 3);
    site.wait_held(1);
    let start = Instant::now();
    site.db.run("SET statement_timeout = '300ms'");
    assert_eq!(site.db.error("SELECT autoembed.wait('messages', '60 s')").code, "57014");
    assert!(start.elapsed() < seconds(3), "{:?}", start.elapsed());
    site.stub.release();
}

#[test]
fn backfill_with_force_replaces_vectors() {
    let mut site = Site::with_messages();
    site.insert(1, 50);
    site.settle("messages", "content");
    let wrong = "UPDATE messages SET embedding = (SELECT embedding FROM messages WHERE id = 1) WHERE id <= 10";
    site.db.run(wrong);
    site.db.run("SELECT autoembed.backfill('messages')");
    assert!(site.db.yes("SELECT autoembed.wait('messages', '30 s')"));
    let (_, complaints) = vectors::compare(&mut site.db, "messages", "content", "embedding", 16);
    assert_eq!(complaints.len(), 9, "without force a vector that is there stays: {complaints:?}");
    site.db.run("SELECT autoembed.backfill('messages', force => true)");
    assert!(site.db.yes("SELECT autoembed.wait('messages', '30 s')"));
    site.assert_all_vectors("messages", "content");
}

/// A backfill of what is missing, as somebody has it begun each night, ends none that embeds all rows anew.
#[test]
fn a_backfill_while_all_rows_are_embedded_anew() {
    let mut site = Site::with_messages();
    site.insert(1, 50);
    site.settle("messages", "content");
    let wrong = "SELECT autoembed.pause('messages'); UPDATE messages SET embedding = (SELECT embedding FROM messages WHERE id = 1) WHERE id > 20;
        SELECT autoembed.backfill('messages', force => true)";
    let begin_another = "SELECT autoembed.backfill('messages'); SELECT autoembed.resume('messages')";
    site.db.run(wrong);
    site.db.run(begin_another);
    assert!(site.db.yes("SELECT autoembed.wait('messages', '30 s')"));
    site.assert_all_vectors("messages", "content");
    // It does not begin anew, either; what is missing behind its place, and what has come, is embedded in the end.
    site.db.run(wrong);
    site.db.run(
        "UPDATE autoembed.backfill SET last_key = '20', walked = 20; SET session_replication_role = replica;
         UPDATE messages SET embedding = NULL WHERE id = 7; INSERT INTO messages (content) VALUES ('unseen'); RESET session_replication_role",
    );
    site.stub.reset_stats();
    site.db.run(begin_another);
    site.settle("messages", "content");
    assert!(site.db.yes("SELECT autoembed.wait('messages', '30 s')"));
    site.assert_all_vectors("messages", "content");
    assert_eq!(site.inputs().len(), 30 + 1, "the vector that was missing is remembered");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.backfill WHERE walked_at IS NULL OR force"), 0);
}

#[test]
fn embed_in_the_session() {
    let mut site = Site::new();
    assert_eq!(site.db.int("SELECT vector_dims(autoembed.embed('hello'))"), 256);
    assert_eq!(site.db.maybe("SELECT autoembed.embed(NULL)"), None);
    let vector = site.db.text("SELECT autoembed.embed('hello', 'stub')");
    assert!(vectors::same(&vectors::parse(&vector), &autoembed_stub::hashed_vector("hello", 16)));
    let requests = site.stub.stats().requests;
    assert_eq!(site.db.text("SELECT autoembed.embed('hello', 'stub')"), vector);
    assert_eq!(site.stub.stats().requests, requests, "the second call is answered from the cache");
    site.db.run("SET autoembed.default_model = 'stub'");
    assert_eq!(site.db.int("SELECT vector_dims(autoembed.embed('by default'))"), 16);
}

#[test]
fn embed_can_be_cancelled() {
    let mut site = Site::new();
    site.stub.hold();
    site.db.run("SET statement_timeout = '300ms'");
    let start = Instant::now();
    assert_eq!(site.db.error("SELECT autoembed.embed('slow', 'stub')").code, "57014");
    assert!(start.elapsed() < seconds(3), "{:?}", start.elapsed());
    site.stub.release();
    site.db.run("RESET statement_timeout");
    assert_eq!(site.db.int("SELECT vector_dims(autoembed.embed('slow', 'stub'))"), 16, "the session goes on");
}

#[test]
fn embed_says_what_is_wrong() {
    let mut site = Site::builder().model("timeout => '1 s'").start();
    for (fault, part) in [
        (Fault::status(401), "401"),
        (Fault::status(500), "500"),
        (Fault::Hang, ""),
        (Fault::Html, ""),
        (Fault::WrongDimensions(3), "3"),
        (Fault::Zero, ""),
    ] {
        let name = format!("{fault:?}");
        site.fault(fault);
        let error = site.db.error("SELECT autoembed.embed('anything', 'stub')");
        println!("{name}: {} {} ({})", error.code, error.message, error.hint);
        error.assert(&error.code, "");
        assert!(format!("{}{}", error.message, error.detail).contains(part), "{name}: {error:?}");
        assert_ne!(error.code, "XX000", "{name}: an internal error is no answer");
    }
    site.stub.clear();
    site.db.run("SELECT autoembed.embed('anything', 'stub')");
}
