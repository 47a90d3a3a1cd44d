//! stats() and health(): the numbers are those that the embedding server has counted, and the report is right when nothing else is.

use autoembed_stub::{Do, Fault, Rule, Script};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site};
use std::time::Duration;

fn number(db: &mut Db, column: &str) -> f64 {
    db.text(&format!("SELECT coalesce({column}, -1) FROM autoembed.stats() WHERE source = 'messages'::regclass"))
        .parse()
        .unwrap()
}

#[test]
fn stats_are_what_the_server_has_counted() {
    let mut site =
        Site::builder().model("max_batch_inputs => 10, options => '{\"price_per_million_tokens\": 1000}'").start();
    site.messages("");
    assert_eq!(site.db.rows("SELECT * FROM autoembed.stats()").len(), 0);
    // One request of twenty is slow.
    let slow = Rule::new(Do::delay(Duration::from_millis(400))).every(20);
    site.stub.script(Script::default().rule(slow).rule(Rule::new(Do::delay(Duration::from_millis(20)))));
    for batch in 0..40 {
        site.insert(batch * 10 + 1, batch * 10 + 10);
        site.settle("messages", "content");
    }
    // A text that is known costs nothing, a failure is counted.
    site.stub.clear();
    site.insert(1, 10);
    site.settle("messages", "content");
    site.stub.script(Script::first(2, Fault::status(503)));
    site.insert(401, 401);
    site.settle("messages", "content");
    site.until_idle("messages");
    let counted = site.stub.stats();
    let of_messages = |db: &mut Db, column: &str| number(db, column);
    assert_eq!(of_messages(&mut site.db, "rows"), 411.0);
    assert_eq!(of_messages(&mut site.db, "cache_hits"), 10.0);
    // The fixed word with which a model is tried is nobody's request.
    let (requests, errors) = (of_messages(&mut site.db, "requests"), of_messages(&mut site.db, "errors"));
    let probes = site.stub.requests().iter().filter(|r| r.inputs.iter().any(|text| text.starts_with("hello "))).count();
    assert_eq!(requests, (counted.requests as usize - probes) as f64);
    assert!((1.0..=2.0).contains(&errors), "{errors}");
    assert!((of_messages(&mut site.db, "error_rate") - errors / requests).abs() < 1e-4);
    let tokens = of_messages(&mut site.db, "tokens");
    assert!(tokens > 411.0);
    assert!((of_messages(&mut site.db, "cost") - tokens / 1000.0).abs() < 1e-6 * tokens);
    let [median, p95, p99] = ["p50_ms", "p95_ms", "p99_ms"].map(|column| of_messages(&mut site.db, column));
    println!("p50 {median} ms, p95 {p95} ms, p99 {p99} ms");
    assert!((15.0..350.0).contains(&median) && p99 >= 400.0 && p95 <= p99, "{median} {p95} {p99}");
    // Only what was asked for.
    site.db.run("UPDATE autoembed.request SET at = at - interval '2 days' WHERE rows > 0");
    assert_eq!(of_messages(&mut site.db, "rows"), 0.0);
    assert_eq!(of_messages(&mut site.db, "p50_ms"), -1.0);
    assert_eq!(site.db.int("SELECT rows FROM autoembed.stats('3 days')"), 411);
    assert_eq!(site.db.rows("SELECT * FROM autoembed.stats(NULL)").len(), 0);
}

fn health(db: &mut Db, path: &str) -> String {
    db.maybe(&format!("SELECT autoembed.health() #>> '{{{path}}}'")).unwrap_or_else(|| "NULL".to_owned())
}

fn until_health(db: &mut Db, path: &str, wanted: &str) {
    db.until(&format!("SELECT autoembed.health() #>> '{{{path}}}'"), wanted, PATIENCE);
}

#[test]
fn health_says_what_is_wrong_and_when_it_is_over() {
    let mut site = Site::with_messages();
    site.db.run("CREATE ROLE monitor LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE ROLE reader LOGIN; GRANT SELECT ON messages TO reader");
    let (mut monitor, mut watcher, mut reader) =
        (site.session_as("monitor"), site.session_as("watcher"), site.session_as("reader"));
    const KEYS: &str = "SELECT string_agg(k, ' ' ORDER BY k) FROM jsonb_object_keys(autoembed.health()) k";
    const DOCUMENTED: &str = "active failed healthy models oldest_pending_seconds problems waiting workers";
    assert_eq!(site.db.text(KEYS), DOCUMENTED);
    assert_eq!(monitor.text(KEYS), DOCUMENTED);
    for (path, wanted) in [
        ("healthy", "true"),
        ("problems", "[]"),
        ("waiting", "0"),
        ("active", "0"),
        ("failed", "0"),
        ("oldest_pending_seconds", "NULL"),
        ("workers", "1"),
        ("models,stub,state", "ok"),
    ] {
        assert_eq!(health(&mut site.db, path), wanted, "{path}");
    }
    // Busy is not ill.
    site.stub.hold();
    site.insert(1, 3);
    site.wait_held(1);
    site.db.run("INSERT INTO messages (content) VALUES ('one more')");
    // The one more may be on its way already.
    assert!(["3", "4"].contains(&health(&mut site.db, "active").as_str()));
    assert_eq!(health(&mut site.db, "healthy"), "true");
    assert!(site.db.yes("SELECT (autoembed.health() ->> 'oldest_pending_seconds')::float >= 0"));
    site.stub.release();
    site.until_idle("messages");
    // Somebody must act.
    site.fault(Fault::status(401));
    site.insert(5, 6);
    until_health(&mut site.db, "healthy", "false");
    for db in [&mut site.db, &mut watcher, &mut reader] {
        assert_eq!(health(db, "models,stub,state"), "blocked");
        assert!(health(db, "problems").contains("stub"), "{}", health(db, "problems"));
        assert_eq!(health(db, "waiting"), "2");
        assert!(
            db.yes("SELECT (autoembed.health() #>> '{models,stub,since}')::timestamptz > now() - interval '1 hour'")
        );
    }
    // Who may see none of it is told that something is wrong, and no more.
    assert_eq!(health(&mut monitor, "healthy"), "false");
    assert_eq!((health(&mut monitor, "models"), health(&mut monitor, "waiting")), ("{}".to_owned(), "0".to_owned()));
    assert_eq!(health(&mut monitor, "problems"), "[\"something that this role may not look at needs somebody\"]");
    site.stub.clear();
    site.db.run("SELECT pg_reload_conf()");
    until_health(&mut site.db, "healthy", "true");
    site.until_idle("messages");
    // A row that was given up is no illness, a table that cannot be written is one.
    site.fault(Fault::Poison("bad".to_owned()));
    site.db.run("INSERT INTO messages (content) VALUES ('bad')");
    until_health(&mut site.db, "failed", "1");
    assert_eq!(health(&mut site.db, "healthy"), "true");
    site.db.run("ALTER TABLE messages DISABLE TRIGGER USER");
    until_health(&mut site.db, "healthy", "false");
    assert!(health(&mut reader, "problems").contains("messages"));
    // What stops a table may quote its rows.
    site.db.run("ALTER TABLE messages ENABLE ROW LEVEL SECURITY");
    assert!(!health(&mut reader, "problems").contains("messages"));
    assert_eq!(health(&mut reader, "failed"), "0");
    site.db.run("ALTER TABLE messages DISABLE ROW LEVEL SECURITY; ALTER TABLE messages ENABLE TRIGGER USER");
    until_health(&mut site.db, "healthy", "true");
    // Nothing makes it raise an error.
    site.db.run("BEGIN; ALTER TABLE autoembed.job RENAME TO gone");
    assert_eq!(health(&mut site.db, "healthy"), "false");
    assert!(health(&mut site.db, "problems").contains("could not be read"), "{}", health(&mut site.db, "problems"));
    assert_eq!(site.db.text(KEYS), DOCUMENTED);
    site.db.run("ROLLBACK");
    assert_eq!(health(&mut site.db, "healthy"), "true");
}

/// Rows that nobody works at are an illness only when they have waited for a while.
#[test]
fn health_without_a_worker() {
    let mut site = Site::workerless().start();
    site.db.run("SET client_min_messages = error");
    site.messages("");
    site.insert(1, 3);
    assert_eq!((health(&mut site.db, "healthy"), health(&mut site.db, "workers")), ("true".to_owned(), "0".to_owned()));
    site.db.run("UPDATE autoembed.job SET queued_at = queued_at - interval '2 min'");
    assert_eq!(health(&mut site.db, "healthy"), "false");
    assert!(health(&mut site.db, "problems").contains("no worker"));
    site.db.run("SELECT autoembed.pause('messages')");
    assert_eq!(health(&mut site.db, "healthy"), "true", "who pauses wants nothing to happen");
    site.db.run("SELECT autoembed.resume('messages'); SELECT autoembed.embed_pending()");
    assert_eq!((health(&mut site.db, "healthy"), health(&mut site.db, "waiting")), ("true".to_owned(), "0".to_owned()));
}
