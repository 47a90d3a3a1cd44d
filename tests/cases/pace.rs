//! How fast requests go out: as the server asks, as the model's owner allows, and no slower.

use autoembed_stub::{Beyond, Capacity, Fault, Limits, Pace, RetryAfter, Script};
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use std::time::Instant;

/// Three requests a window for 470 rows: batches stay full, and nobody's row pays for it.
#[test]
fn a_server_that_takes_three_requests_a_window() {
    let mut site = Site::builder().model("max_batch_inputs => 100").start();
    site.messages("");
    site.db.run("SELECT autoembed.pause('messages')");
    site.insert(1, 470);
    site.stub.limits(Limits { requests_per_window: Some(3), window_ms: 2000, ..Limits::default() });
    site.db.run("SELECT autoembed.resume('messages')");
    assert_eq!(site.settle("messages", "content"), 470);
    let stats = site.stub.stats();
    println!("{} requests, {} refused", stats.requests, stats.limited);
    assert!(stats.requests - stats.limited == 5, "five are the fewest: {stats:?}");
    assert!(stats.limited <= 1, "{stats:?}");
    assert_eq!(site.failed("messages"), 0);
    assert_eq!(site.db.int("SELECT COALESCE(max(attempts), 0) FROM autoembed.job"), 0);
}

#[test]
fn every_way_to_say_how_long() {
    let mut site = Site::builder().model("max_batch_inputs => 20").start();
    site.messages("");
    let mut from = 1;
    for (retry_after, headers) in [
        (RetryAfter::Seconds, false),
        (RetryAfter::Date, false),
        (RetryAfter::Millis, false),
        (RetryAfter::None, true),
        (RetryAfter::None, false),
    ] {
        site.stub.reset_stats();
        let limits = Limits { requests_per_window: Some(2), window_ms: 700, retry_after, headers, ..Limits::default() };
        site.stub.limits(limits);
        site.insert(from, from + 99);
        from += 100;
        site.settle("messages", "content");
        let stats = site.stub.stats();
        println!("{retry_after:?}, headers {headers}: {} requests, {} refused", stats.requests, stats.limited);
        assert!(stats.limited <= 6, "{retry_after:?}: {stats:?}");
        site.stub.limits(Limits::default());
        site.marker();
    }
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn requests_a_minute_are_kept_to_without_one_refusal() {
    let mut site = Site::builder().model("max_batch_inputs => 10, requests_per_minute => 240").start();
    site.messages("");
    site.stub.limits(Limits { requests_per_window: Some(240), pace: Pace::Even, headers: false, ..Limits::default() });
    let start = Instant::now();
    site.insert(1, 120);
    assert_eq!(site.settle("messages", "content"), 120);
    let took = start.elapsed();
    let stats = site.stub.stats();
    println!("12 requests at 4 a second took {took:?}");
    assert_eq!((stats.requests, stats.limited), (12, 0));
    assert!(took > seconds(2), "{took:?}");
}

#[test]
fn tokens_a_minute_are_kept_to() {
    let mut site = Site::builder().model("tokens_per_minute => 200").start();
    site.messages("");
    site.insert(1, 1000);
    // As many as fit into a minute are embedded; the rest waits.
    site.db.until_true(
        "(SELECT count(embedding) FROM messages) >= 50",
        "SELECT count(embedding) FROM messages",
        PATIENCE,
    );
    let stats = site.stub.stats();
    assert!(stats.max_window_tokens <= 200, "{stats:?}");
    assert!(site.db.int("SELECT count(*) FROM messages WHERE embedding IS NULL") > 700);
    assert_eq!(site.status("state", "messages"), "active");
}

/// A server that answers slower the more it is asked at once, and refuses what is too much.
#[test]
fn a_server_that_bears_two_at_once() {
    let mut site =
        Site::builder().setting("autoembed.max_concurrent_requests", "16").model("max_batch_inputs => 10").start();
    site.messages("");
    let capacity = Capacity { at_once: 2, latency_ms: 30, beyond: Beyond::Status(429) };
    site.stub.limits(Limits {
        capacity: Some(capacity),
        retry_after: RetryAfter::None,
        headers: false,
        ..Limits::default()
    });
    site.insert(1, 1000);
    assert_eq!(site.settle("messages", "content"), 1000);
    let stats = site.stub.stats();
    println!("{} requests, {} refused", stats.requests, stats.limited);
    assert!(stats.requests - stats.limited >= 100);
    assert!(stats.limited <= 60, "{stats:?}");
    assert_eq!(site.failed("messages"), 0);
}

/// A long answer is waited for where the model's owner says so, and a session is not made to.
#[test]
fn a_search_gives_up_sooner_than_the_worker() {
    let mut site = Site::builder().model("timeout => '1 hour'").start();
    site.messages("");
    site.fault(Fault::Hang);
    site.db.run("SET autoembed.query_timeout = '300ms'");
    let start = Instant::now();
    site.db.error("SELECT autoembed.embed('anything', 'stub')").assert("08006", "did not answer");
    site.db.error("SELECT * FROM similar_messages('anything')").assert("08006", "did not answer");
    assert!(start.elapsed() < seconds(5), "{:?}", start.elapsed());
    // A statement's own limit comes first.
    site.db.run("SET autoembed.query_timeout = '1h'; SET statement_timeout = '200ms'");
    let start = Instant::now();
    assert_eq!(site.db.error("SELECT autoembed.embed('anything', 'stub')").code, "57014");
    assert!(start.elapsed() < seconds(3), "{:?}", start.elapsed());
    site.db.run("RESET statement_timeout; RESET autoembed.query_timeout");
    site.stub.clear();
    site.db.run("SELECT autoembed.embed('anything', 'stub')");
}

/// The server asks for a long pause: the state says so.
#[test]
fn a_long_pause_is_explained() {
    let mut site = Site::with_messages();
    site.stub.script(Script::first(1, Fault::status(429).header("retry-after", "3600")));
    site.insert(1, 5);
    let state = site.until_state("messages", "active: waiting for the API");
    assert!(state.contains("429") || state.to_lowercase().contains("rate"), "{state}");
    assert_eq!(site.stub.stats().requests, 1);
}

/// A session does not wait in its transaction for a minute that it may be told of.
#[test]
fn a_session_that_would_have_to_wait_long_comes_back() {
    let mut site = Site::builder().model("requests_per_minute => 1, max_batch_inputs => 10").start();
    site.messages("");
    site.db.run("SELECT autoembed.pause('messages')");
    site.insert(1, 30);
    let start = Instant::now();
    site.db.run("BEGIN; SELECT autoembed.resume('messages')");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending()"), 10);
    assert!(start.elapsed() < seconds(15), "{:?}", start.elapsed());
    site.db.run("COMMIT");
    // The worker says what it waits for.
    let state = site.until_state("messages", "active: waiting for the minute");
    assert!(state.contains("stub"), "{state}");
}
