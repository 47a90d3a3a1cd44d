//! job_status(): each word that it says, and that it says nothing of rows that the caller may not see.

use autoembed_stub::{Fault, Script};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};
use std::time::{Duration, Instant};

fn state(db: &mut Db, table: &str, key: &str) -> String {
    db.text(&format!("SELECT state FROM autoembed.job_status('{table}', {})", autoembed_tests::db::literal(key)))
}

#[test]
fn each_state() {
    let mut site = Site::builder()
        .setting("autoembed.retry_max_delay", "5min")
        .setting("autoembed.retry_base_delay", "1min")
        .start();
    site.db.run(
        "CREATE TABLE notes (id bigint PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'there before'), (2, NULL), (3, E' \\t\\u2003')",
    );
    site.enable("notes", "body", "backfill => false");
    for (key, wanted) in [("1", "not_queued"), ("2", "no_text"), ("3", "no_text"), ("4", "missing")] {
        assert_eq!(state(&mut site.db, "notes", key), wanted, "{key:?}");
    }
    for key in ["x", "", "99999999999999999999"] {
        let error = site.db.error(&format!("SELECT autoembed.job_status('notes', '{key}')"));
        error.assert("22P02", "a key of table \"notes\" does not fit column \"id\"");
        let error = site.db.error(&format!("SELECT autoembed.enqueue('notes', ARRAY['1', '{key}'])"));
        error.assert("22P02", "a key of table \"notes\" does not fit column \"id\"");
    }
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job"), 0);
    // A backfill will come to it: it waits, though it has no job.
    site.db.run("SELECT autoembed.pause('notes'); SELECT autoembed.backfill('notes')");
    assert_eq!(state(&mut site.db, "notes", "1"), "waiting");
    assert!(site.db.yes("SELECT queued_at <= clock_timestamp() FROM autoembed.job_status('notes', '1')"));
    site.db.run("INSERT INTO notes VALUES (9, 'behind its end')");
    site.db.run("SELECT autoembed.resume('notes')");
    site.settle("notes", "nullif(trim(body, E' \\t\\u2003'), '')");
    site.until_idle("notes");
    assert_eq!(state(&mut site.db, "notes", "1"), "embedded");
    assert_eq!(state(&mut site.db, "notes", "+01"), "embedded", "a key is read as its type reads it");

    // In the transaction itself, and to others only after it.
    let mut other = site.session();
    site.stub.hold();
    site.db.run("BEGIN; INSERT INTO notes VALUES (5, 'new')");
    assert_eq!(
        (state(&mut site.db, "notes", "5"), state(&mut other, "notes", "5")),
        ("waiting".into(), "missing".into())
    );
    site.db.run("COMMIT");
    site.wait_held(1);
    assert_eq!(state(&mut other, "notes", "5"), "in_flight");
    assert_eq!(other.int("SELECT attempts FROM autoembed.job_status('notes', '5')"), 1);
    // The text on its way is another one than the row has now.
    site.db.run("UPDATE notes SET body = 'newer' WHERE id = 5");
    // The new texts may be on their way as well, in requests of their own.
    assert!(["waiting", "in_flight"].contains(&state(&mut other, "notes", "5").as_str()));
    site.db.run("UPDATE notes SET body = 'edited' WHERE id = 1");
    let edited = state(&mut other, "notes", "1");
    assert!(["waiting", "in_flight"].contains(&edited.as_str()), "it has a vector, of another text: {edited}");
    site.stub.release();
    site.settle("notes", "nullif(trim(body, E' \\t\\u2003'), '')");
    site.until_idle("notes");
    assert_eq!(state(&mut other, "notes", "5"), "embedded");

    // Given up, with the reason; then changed.
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO notes VALUES (6, 'bad')");
    site.db.until("SELECT state FROM autoembed.job_status('notes', '6')", "failed", PATIENCE);
    let row = site.db.rows(
        "SELECT s.attempts = f.attempts, s.failed_at = f.failed_at, s.code = f.code, s.message = f.message, s.hint = f.hint, s.queued_at IS NULL
         FROM autoembed.job_status('notes', '6') s, autoembed.failed_jobs f WHERE f.key = '6'",
    );
    assert_eq!(row, [vec![Some("t".to_owned()); 6]]);
    site.db.run("UPDATE notes SET body = 'good' WHERE id = 6");
    site.db.until("SELECT state FROM autoembed.job_status('notes', '6')", "embedded", PATIENCE);
    site.db.run("DELETE FROM notes WHERE id = 6");
    assert_eq!(state(&mut site.db, "notes", "6"), "missing");
    site.stub.clear();
    site.db.run("INSERT INTO notes VALUES (7, 'bad'); SELECT autoembed.discard_failed('notes')");

    // A row that is left to settle says until when.
    site.db.run("CREATE TABLE slow (id int PRIMARY KEY, body text)");
    site.enable("slow", "body", "delay => '1 h'");
    site.db.run("INSERT INTO slow VALUES (1, 'streamed')");
    assert_eq!(state(&mut site.db, "slow", "1"), "waiting");
    assert!(site.db.yes("SELECT not_before > now() + interval '59 min' FROM autoembed.job_status('slow', '1')"));
}

#[test]
fn keys_partitions_and_what_is_wrong() {
    let mut site = Site::new();
    site.db.run(
        "CREATE DOMAIN code AS text CHECK (VALUE <> ''); CREATE TABLE logs (region code, day date, n numeric, content text, PRIMARY KEY (region, day, n)) PARTITION BY LIST (region);
         CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a, \"b\"'); CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b')",
    );
    site.enable("logs", "content", "");
    site.db.run("INSERT INTO logs VALUES ('a, \"b\"', '2026-03-01', 1.50, 'one'), ('b', '2026-03-01', 2, NULL)");
    site.settle("logs", "content");
    site.until_idle("logs");
    let of_row =
        "SELECT state FROM logs l, autoembed.job_status('logs', ROW(l.region, l.day, l.n)::text) ORDER BY l.region";
    assert_eq!(site.db.column(of_row), ["embedded", "no_text"]);
    site.db.run("SET datestyle = 'German'");
    assert_eq!(state(&mut site.db, "logs", "(b,2026-03-01,2.0)"), "no_text", "whatever the session's settings are");
    assert_eq!(state(&mut site.db, "logs", "(b,01.03.2026,2)"), "no_text", "as the session writes it");
    assert_eq!(state(&mut site.db, "logs", "(b,03.01.2026,2)"), "missing", "the third of January");
    assert_eq!(site.db.column(of_row), ["embedded", "no_text"]);
    for (key, said) in [
        ("(b,2026-03-01)", "\"(b,2026-03-01)\" is no key of table \"logs\": the key has 2 columns, expected 3"),
        ("b", "\"b\" is no key of table \"logs\""),
        ("(\"\",2026-03-01,2)", "does not fit column \"region\": value for domain code violates"),
        ("(b,nothing,2)", "does not fit column \"day\": invalid input syntax for type date: \"nothing\""),
        ("(b,2026-03-01,two)", "does not fit column \"n\""),
    ] {
        site.db
            .error(&format!("SELECT autoembed.job_status('logs', {})", autoembed_tests::db::literal(key)))
            .assert("22P02", said);
    }
    assert_eq!(site.db.rows("SELECT * FROM autoembed.job_status('logs', NULL)").len(), 0);
    site.db.error("SELECT autoembed.job_status('logs', 'b', 'other')").assert("42704", "other");
    site.db.error("SELECT autoembed.job_status(1::oid, 'b')").assert("42P01", "1");
}

/// A foreign row is as missing as one that is not there, in whatever state it is; to its tenant nothing is missing.
#[test]
fn g36_a_foreign_row_is_a_missing_row() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE keeper LOGIN; CREATE ROLE red LOGIN; CREATE ROLE blue LOGIN; GRANT CREATE ON SCHEMA public TO keeper");
    let mut keeper = site.session_as("keeper");
    keeper.run(
        "CREATE TABLE notes (id int PRIMARY KEY, tenant name DEFAULT current_user, body text);
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (tenant = current_user);
         GRANT SELECT, INSERT, UPDATE ON notes TO red, blue; SELECT autoembed.enable('notes', 'body', model => 'stub')",
    );
    site.stub.script(Script::always(Fault::Poison("bad".to_owned())));
    let (mut red, mut blue) = (site.session_as("red"), site.session_as("blue"));
    red.run("INSERT INTO notes (id, body) VALUES (1, 'good'), (2, 'bad'), (3, NULL)");
    site.db.until("SELECT state FROM autoembed.job_status('notes', '2')", "failed", PATIENCE);
    site.db.until("SELECT state FROM autoembed.job_status('notes', '1')", "embedded", PATIENCE);
    site.stub.hold();
    red.run("INSERT INTO notes (id, body) VALUES (4, 'new')");
    site.wait_held(1);
    let states = ["embedded", "failed", "no_text", "in_flight", "missing"];
    let check = |db: &mut Db, wanted: &[&str]| {
        for (id, wanted) in (1..).zip(wanted) {
            assert_eq!(&state(db, "notes", &id.to_string()), wanted, "{id}");
        }
    };
    check(&mut red, &states);
    check(&mut keeper, &states);
    let answer = |db: &mut Db, id: i32| {
        format!("{:?}", db.rows(&format!("SELECT * FROM autoembed.job_status('notes', '{id}')")))
    };
    let missing = answer(&mut blue, 99);
    for id in 1..=4 {
        assert_eq!(answer(&mut blue, id), missing, "{id}");
    }
    // A policy that comes later counts at once, in a session that has asked before.
    keeper.run("ALTER TABLE notes DISABLE ROW LEVEL SECURITY");
    check(&mut blue, &states);
    keeper.run("ALTER TABLE notes ENABLE ROW LEVEL SECURITY");
    check(&mut blue, &["missing"; 5]);
    blue.run("SET row_security = off");
    assert_eq!(blue.error("SELECT autoembed.job_status('notes', '1')").code, "42501");
    assert_eq!(blue.error("SELECT autoembed.job_status('notes', '99')").code, "42501");
    keeper.run("REVOKE SELECT ON notes FROM blue");
    blue.error("SELECT autoembed.job_status('notes', '1')").assert("42501", "notes");
}

fn fastest(db: &mut Db, sql: &str) -> Duration {
    (0..5)
        .map(|_| {
            let begun = Instant::now();
            db.rows(sql);
            begun.elapsed()
        })
        .min()
        .unwrap_or_default()
}

/// Jobs of `messages`, in a hurry.
fn fill(db: &mut Db, jobs: usize) {
    db.run(&format!(
        "SELECT autoembed.pause('messages');
         INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT 1, 0, i::text FROM generate_series(1, {jobs}) i"
    ));
}

/// With a queue that nobody should have: who has just written a row is told at once, and the state of the whole as quickly.
#[test]
fn a_long_queue_is_not_gone_through() {
    let mut site = Site::with_messages();
    site.insert(1, 10);
    site.settle("messages", "content");
    site.until_idle("messages");
    let few = fastest(&mut site.db, "SELECT autoembed.health()");
    fill(&mut site.db, 300_000);
    site.insert(11, 11);
    let count = fastest(&mut site.db, "SELECT count(*), count(leased_until), min(queued_at) FROM autoembed.job");
    let new = fastest(&mut site.db, "SELECT autoembed.job_status('messages', '11')");
    let embedded = fastest(&mut site.db, "SELECT autoembed.job_status('messages', '10')");
    let health = fastest(&mut site.db, "SELECT autoembed.health()");
    let status = fastest(&mut site.db, "SELECT * FROM autoembed.status");
    println!(
        "300,000 jobs: counted in {count:?}; health {health:?} (before {few:?}), status {status:?}, job_status of a new row {new:?}, of one without a job {embedded:?}"
    );
    assert_eq!(state(&mut site.db, "messages", "11"), "waiting");
    // The job that this test has made up for it waits.
    assert_eq!(state(&mut site.db, "messages", "10"), "waiting");
    assert!(new * 3 < count, "new {new:?}, count {count:?}");
    assert!(health * 3 < count, "health {health:?}, count {count:?}");
    assert!(status < count * 12, "status {status:?}, count {count:?}");
    // Counted as far as it is quick, estimated beyond.
    site.db.until_true(
        "SELECT (autoembed.health() -> 'waiting')::int BETWEEN 290000 AND 310000",
        "SELECT autoembed.health()",
        PATIENCE,
    );
}
