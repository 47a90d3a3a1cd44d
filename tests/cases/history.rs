//! What the log of requests tells of a backlog: how long rows have waited, and how many do.

use autoembed_stub::{Do, Fault, Rule, Script};
use autoembed_tests::Site;
use std::time::Duration;

#[test]
fn rows_that_waited_are_told_of() {
    let mut site = Site::builder().model("max_batch_inputs => 10").start();
    site.messages("");
    site.db.run("SELECT autoembed.pause('messages')");
    site.insert(1, 30);
    site.db.run("UPDATE autoembed.job SET queued_at = queued_at - interval '2 min' WHERE key = '7'");
    // Long enough for a count a request.
    site.stub.script(Script::default().rule(Rule::new(Do::delay(Duration::from_millis(1100)))));
    site.db.run("UPDATE autoembed.models SET max_concurrent_requests = 1 WHERE name = 'stub'");
    site.db.run("SELECT autoembed.resume('messages')");
    assert_eq!(site.settle("messages", "content"), 30);
    let all =
        site.db.column("SELECT concat_ws(' ', rows, waited_ms > 120000, pending) FROM autoembed.requests ORDER BY id");
    println!("{all:?}");
    assert_eq!(all.len(), 3);
    assert!(all[0].starts_with("10 t ") && all[1].starts_with("10 f ") && all[2].starts_with("10 f "), "{all:?}");
    // What is read ahead of its request is in hand, and waits no more.
    // A count that took long leaves the next line without one.
    let pending: Vec<Option<i64>> = all.iter().map(|line| line.split(' ').nth(2).map(|n| n.parse().unwrap())).collect();
    assert!(pending[0].is_some_and(|n| n <= 20) && pending[2].unwrap_or(0) == 0, "{pending:?}");
    assert!(site.db.yes("SELECT bool_and(waited_ms >= ms) FROM autoembed.requests"));
    // A request that wrote nothing has no row that waited; a row that failed before has waited all the time.
    site.stub.clear();
    site.stub.script(Script::first(1, Fault::status(503)));
    site.db.run("INSERT INTO messages (content) VALUES ('once more')");
    site.settle("messages", "content");
    let last = site.db.column(
        "SELECT concat_ws(' ', rows, waited_ms IS NULL) FROM autoembed.requests WHERE id > 3 AND source IS NOT NULL ORDER BY id",
    );
    assert!(last.contains(&"0 t".to_owned()) && last.last() == Some(&"1 f".to_owned()), "{last:?}");
}

/// Of each table in its own line; and not with every line, however many there are.
#[test]
fn the_queue_is_counted_now_and_then() {
    let mut site = Site::builder().model("max_batch_inputs => 5").start();
    site.messages("");
    site.db.run("CREATE TABLE paused (id int PRIMARY KEY, body text)");
    site.enable("paused", "body", "");
    site.db.run("SELECT autoembed.pause('messages'), autoembed.pause('paused')");
    site.db.run("INSERT INTO paused SELECT i, 'paused ' || i FROM generate_series(1, 40) i");
    site.insert(1, 1000);
    site.db.run("SELECT autoembed.resume('messages')");
    assert_eq!(site.settle("messages", "content"), 1000);
    let counted = site.db.int("SELECT count(pending) FROM autoembed.requests");
    let seconds = site.db.int("SELECT ceil(EXTRACT(epoch FROM max(at) - min(at))) FROM autoembed.requests");
    println!("{counted} counts in {seconds} s, {} lines", site.db.int("SELECT count(*) FROM autoembed.requests"));
    assert!(site.db.yes("SELECT count(*) >= 200 FROM autoembed.requests"));
    assert!((1..=seconds + 1).contains(&counted), "{counted} counts in {seconds} s");
    assert!(site.db.yes("SELECT max(pending) BETWEEN 1 AND 1000 FROM autoembed.requests"), "some of them wait");
}

/// A session tells how long its rows had waited, and counts none: see [`crate::buffers`].
#[test]
fn embed_pending_tells_of_it_as_well() {
    let mut site = Site::workerless().model("max_batch_inputs => 10").start();
    site.messages("");
    site.insert(1, 25);
    site.db.run("UPDATE autoembed.job SET queued_at = queued_at - interval '1 hour'");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending(max_rows => 10)"), 10);
    assert_eq!(
        site.db
            .column("SELECT concat_ws(' ', rows, round(waited_ms / 3600000), pending IS NULL) FROM autoembed.requests"),
        ["10 1 t"]
    );
}
