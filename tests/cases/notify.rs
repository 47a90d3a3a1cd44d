//! Notifications, with sessions that really LISTEN.

use autoembed_stub::Fault;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Db, Site, eventually};
use postgres::fallible_iterator::FallibleIterator;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

fn listener(site: &Site) -> Db {
    let mut db = site.session();
    db.run("LISTEN autoembed");
    db
}

/// What has come, in order: (table, column, rows, failed).
fn heard(db: &mut Db) -> Vec<(String, String, i64, i64)> {
    // A statement makes the server send what it has.
    db.run("SELECT 1");
    let mut found = Vec::new();
    let mut waiting = db.notifications();
    let mut waiting = waiting.iter();
    while let Some(notification) = waiting.next().unwrap() {
        assert_eq!(notification.channel(), "autoembed");
        let payload: serde_json::Value = serde_json::from_str(notification.payload()).unwrap();
        let fields: Vec<&String> = payload.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["embedding", "failed", "rows", "source"], "nothing else is told");
        let text = |field: &str| payload[field].as_str().unwrap().to_owned();
        let number = |field: &str| payload[field].as_i64().unwrap();
        found.push((text("source"), text("embedding"), number("rows"), number("failed")));
    }
    found
}

/// Waits until so many rows, and so many failed ones, were told of; gives all that was told.
fn until_heard(db: &mut Db, rows: i64, failed: i64) -> Vec<(String, String, i64, i64)> {
    let mut all = Vec::new();
    eventually(&format!("{rows} rows and {failed} failed ones are told of"), PATIENCE, || {
        all.extend(heard(db));
        let sums = all.iter().fold((0, 0), |(rows, failed), told: &(_, _, i64, i64)| (rows + told.2, failed + told.3));
        if sums == (rows, failed) { Ok(()) } else { Err(format!("{all:?}")) }
    });
    all
}

#[test]
fn who_listens_is_told_of_each_batch() {
    let mut site = Site::with_messages();
    let mut db = listener(&site);
    // Off unless asked for.
    site.insert(1, 5);
    site.settle("messages", "content");
    site.until_idle("messages");
    assert_eq!(heard(&mut db), []);

    site.db.run("SELECT autoembed.notify('messages')");
    site.db.run("INSERT INTO messages (content) SELECT 'text ' || i FROM generate_series(6, 17) i");
    let told = until_heard(&mut db, 12, 0);
    assert_eq!(told, [("public.messages".to_owned(), "embedding".to_owned(), 12, 0)], "one for a batch");
    // When it comes, the vectors are there.
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 17);
    // A row that is given up; a column that nothing is made of; a text that goes.
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO messages (content) VALUES ('bad one'), ('good one')");
    until_heard(&mut db, 1, 1);
    site.stub.clear();
    site.db.run("UPDATE messages SET note = 'n'; UPDATE messages SET content = NULL WHERE id = 1");
    site.db.until("SELECT embedding IS NULL FROM messages WHERE id = 1", "t", PATIENCE);
    assert_eq!(heard(&mut db), []);
    site.db.run("SELECT autoembed.notify('messages', false)");
    site.marker();
    assert_eq!(heard(&mut db), []);
}

/// Names that need quotes come as SQL takes them.
#[test]
fn a_table_is_named_as_it_is_written() {
    let mut site = Site::new();
    site.db.run(
        "CREATE SCHEMA \"My \"\"shop\"\"\"; CREATE TABLE \"My \"\"shop\"\"\".\"Größe ♥\" (id int PRIMARY KEY, t text)",
    );
    const TABLE: &str = "\"My \"\"shop\"\"\".\"Größe ♥\"";
    site.enable(TABLE, "t", "embedding => 'The vector'");
    site.db.run(&format!("SELECT autoembed.notify('{TABLE}', embedding => 'The vector')"));
    let mut db = listener(&site);
    site.db.run(&format!("INSERT INTO {TABLE} VALUES (1, 'one')"));
    let told = until_heard(&mut db, 1, 0);
    assert_eq!(told, [(TABLE.to_owned(), "The vector".to_owned(), 1, 0)]);
    assert_eq!(
        site.db
            .text(&format!("SELECT {}::regclass::oid = '{TABLE}'::regclass", autoembed_tests::db::literal(&told[0].0))),
        "t"
    );
}

/// embed_pending() tells with the commit of its caller, and of nothing that is rolled back.
#[test]
fn a_session_tells_when_it_commits() {
    let mut site = Site::workerless().start();
    site.db.run("SET client_min_messages = error");
    site.messages("");
    site.db.run("SELECT autoembed.notify('messages')");
    let mut db = listener(&site);
    site.insert(1, 3);
    site.db.run("BEGIN; SELECT autoembed.embed_pending(); ROLLBACK");
    assert_eq!(heard(&mut db), []);
    site.db.run("BEGIN; SELECT autoembed.embed_pending()");
    assert_eq!(heard(&mut db), []);
    site.db.run("COMMIT");
    assert_eq!(until_heard(&mut db, 3, 0).len(), 1);
}

/// A transaction with notifications cannot be prepared. The caller's can: nobody is told of it.
#[test]
fn a_session_prepares_what_it_has_embedded() {
    let mut site = Site::workerless().setting("max_prepared_transactions", "2").start();
    site.db.run("SET client_min_messages = error");
    site.messages("");
    site.db.run("SELECT autoembed.notify('messages')");
    let mut db = listener(&site);
    site.insert(1, 3);
    site.db.run("BEGIN; SELECT autoembed.embed_pending(); PREPARE TRANSACTION 'embedded'");
    site.db.run("COMMIT PREPARED 'embedded'");
    assert_eq!(site.assert_all_vectors("messages", "content"), 3);
    assert_eq!(heard(&mut db), []);
    // Only what stays of a transaction is told of, and once.
    site.insert(4, 8);
    site.db.run("BEGIN; SAVEPOINT a; SELECT autoembed.embed_pending(); ROLLBACK TO a; SELECT autoembed.embed_pending(max_rows => 2); SAVEPOINT b; SELECT autoembed.embed_pending(max_rows => 1); RELEASE b");
    assert_eq!(heard(&mut db), []);
    site.db.run("COMMIT");
    let told = until_heard(&mut db, 3, 0);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending()"), 2);
    until_heard(&mut db, 2, 0);
}

/// Commits with notifications wait for each other. One that hangs must not hold the vectors up.
#[test]
fn g35_a_commit_that_hangs_holds_no_vectors_up() {
    let mut site = Site::with_messages();
    site.db.run("SELECT autoembed.notify('messages')");
    let mut other = site.session();
    // Lest a test that fails wait for it.
    other.run("SET statement_timeout = '1min'");
    let mut db = listener(&site);
    site.insert(1, 1);
    until_heard(&mut db, 1, 0);
    site.db.run("CREATE TABLE other (id int)");
    site.db.run("SET synchronous_commit = off");
    site.db.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    site.db.run("SELECT pg_reload_conf()");
    site.db.until("SHOW synchronous_standby_names", "nobody", PATIENCE);
    let hung = other.int("SELECT pg_backend_pid()");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // One after the other, because commits hang only once the checkpointer has read the setting.
        let hanging = scope.spawn(|| {
            let begun = Instant::now();
            while !ended.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                other.batch_execute("BEGIN; INSERT INTO other VALUES (1); NOTIFY other, 'x'; COMMIT")?;
            }
            Ok::<_, postgres::Error>(())
        });
        site.db.until(&format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {hung}"), "SyncRep", PATIENCE);
        site.insert(2, 4);
        site.settle_within("messages", "content", "embedding", seconds(15));
        // It is known that nobody could be told.
        eventually("the log says so", PATIENCE, || {
            if site.cluster.log().contains("a notification was left out") {
                Ok(())
            } else {
                Err(site.cluster.log_tail(3))
            }
        });
        ended.store(true, Ordering::Relaxed);
        site.db.run(&format!("SELECT pg_cancel_backend({hung})"));
        // Its commit has been made; that it was not waited for is a warning.
        hanging.join().unwrap().unwrap();
    });
    site.insert(5, 6);
    let told = until_heard(&mut db, 2, 0);
    assert_eq!(told.len(), 1);
    site.db.run("ALTER SYSTEM RESET synchronous_standby_names");
    site.db.run("SELECT pg_reload_conf()");
}
