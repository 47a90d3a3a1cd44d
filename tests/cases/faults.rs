//! Answers that name one row, one setting or one key as the culprit, and answers that lie.

use autoembed_stub::{Body, Fault, Rule, Script};
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;
use std::time::Instant;

#[test]
fn g19_one_poisoned_row_in_128_fails_alone() {
    let mut site = Site::with_messages();
    site.fault(Fault::Poison("POISON".to_owned()));
    site.db.run("INSERT INTO messages (content) SELECT CASE WHEN i = 77 THEN 'POISON' ELSE 'text ' || i END FROM generate_series(1, 128) i");
    site.db.until("SELECT count(embedding) FROM messages", "127", PATIENCE);
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "1", PATIENCE);
    let requests = site.stub.stats().requests;
    println!("1 poisoned row in 128: {requests} requests");
    // Halving 128 down to one row: 7 levels of two requests, and the first.
    assert!(requests <= 20, "{requests} requests");
    let row = site.db.rows("SELECT key, code, message, hint FROM autoembed.failed_jobs").remove(0);
    assert_eq!(row[0].as_deref(), Some("77"));
    assert!(row[1..].iter().all(|text| text.as_deref().is_some_and(|text| !text.is_empty())), "{row:?}");
    assert_eq!(site.status("failed", "messages"), "1");
    assert_eq!(site.status("state", "messages"), "active");
    assert!(site.db.yes("SELECT autoembed.wait('messages', '10 s')"), "a failed job is not waited for");

    site.stub.clear();
    assert_eq!(site.db.int("SELECT autoembed.retry_failed('messages')"), 1);
    site.settle("messages", "content");
    assert_eq!(site.failed("messages"), 0);
}

/// The same row makes the server answer 500, which looks like an outage at first.
#[test]
fn a_row_that_breaks_the_server_fails_alone() {
    let mut site = Site::builder().setting("autoembed.max_attempts", "3").start();
    site.messages("");
    site.fault(Fault::ServerErrorOn("KILLER".to_owned()));
    let start = Instant::now();
    site.db.run("INSERT INTO messages (content) SELECT CASE WHEN i = 40 THEN 'KILLER' ELSE 'text ' || i END FROM generate_series(1, 128) i");
    site.db.until("SELECT count(embedding) FROM messages", "127", PATIENCE * 2);
    println!(
        "1 row that breaks the server, 128 rows: the others after {:?}, {} requests",
        start.elapsed(),
        site.stub.stats().requests
    );
    site.db.until("SELECT string_agg(key, ',') FROM autoembed.failed_jobs", "40", PATIENCE * 2);
    println!("and it is given up after {:?}", start.elapsed());
    site.stub.clear();
    site.db.run("UPDATE messages SET content = 'harmless' WHERE id = 40");
    site.settle("messages", "content");
    site.db.until("SELECT count(*) FROM autoembed.failed_jobs", "0", PATIENCE);
}

#[test]
fn a_wrong_key_blocks_and_goes_on_by_itself() {
    let mut site = Site::builder().setting("autoembed.max_attempts", "2").start();
    site.messages("");
    site.fault(Fault::status(401));
    site.insert(1, 200);
    let state = site.until_state("messages", "blocked: ");
    println!("state with 401: {state}");
    assert!(state.contains("key"), "{state}");
    assert!(site.stub.wait_requests(2, PATIENCE), "no probe came");
    assert_eq!(site.failed("messages"), 0);
    assert!(site.stub.stats().requests < 10, "{} requests to a server that says no", site.stub.stats().requests);
    site.stub.clear();
    site.settle_within("messages", "content", "embedding", PATIENCE * 2);
    site.db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn g22_refusals_that_waiting_does_not_mend() {
    for (fault, word) in [
        (Fault::status(403), ""),
        (Fault::status_with(404, Body::ModelNotFound), "model"),
        (Fault::status_with(429, Body::InsufficientQuota), "quota"),
        (Fault::Redirect(None), "url"),
    ] {
        let mut site = Site::with_messages();
        let name = format!("{fault:?}");
        site.fault(fault);
        site.insert(1, 30);
        let state = site.until_state("messages", "blocked: ");
        println!("{name}: {state}");
        assert!(state.to_lowercase().contains(word), "{name}: {state}");
        assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 0);
        assert_eq!(site.failed("messages"), 0);
        assert!(site.stub.stats().requests <= 4, "{name}: {} requests", site.stub.stats().requests);
    }
}

#[test]
fn g24_vectors_of_another_size() {
    let mut site = Site::with_messages();
    site.fault(Fault::WrongDimensions(24));
    site.insert(1, 10);
    let state = site.until_state("messages", "blocked: ");
    println!("state with wrong dimensions: {state}");
    assert!(state.contains("24") && state.contains("16"), "{state}");
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 0);
    site.stub.clear();
    site.settle_within("messages", "content", "embedding", PATIENCE * 2);
}

/// Nothing of an answer that lies is written.
#[test]
fn g23_answers_that_lie() {
    for fault in [Fault::Nan, Fault::Inf, Fault::Zero, Fault::Missing, Fault::Double, Fault::Extra] {
        let mut site = Site::with_messages();
        let name = format!("{fault:?}");
        site.stub.script(Script::first(2, fault));
        site.insert(1, 30);
        site.settle("messages", "content");
        println!("{name} twice: {} requests", site.stub.stats().requests);
        assert!(site.stub.stats().requests >= 2, "{name} was not played");
        assert_eq!(site.failed("messages"), 0, "{name}");
    }
}

#[test]
fn answers_that_look_odd_but_are_right() {
    for fault in [Fault::Shuffled, Fault::NoIndex, Fault::SlowBody { bytes: 4000, interval_ms: 2 }] {
        let mut site = Site::with_messages();
        site.fault(fault);
        site.insert(1, 50);
        site.settle("messages", "content");
        assert_eq!(site.failed("messages"), 0);
    }
}

/// An item that is always bad fails alone, like a poisoned one.
#[test]
fn an_item_that_is_always_bad() {
    let mut site = Site::builder().setting("autoembed.max_attempts", "2").start();
    site.messages("");
    site.stub.script(Script::default().rule(Rule::new(Fault::Nan).text_contains("cursed")));
    site.db.run("INSERT INTO messages (content) SELECT CASE WHEN i = 9 THEN 'cursed' ELSE 'text ' || i END FROM generate_series(1, 64) i");
    site.db.until("SELECT count(embedding) FROM messages", "63", PATIENCE * 2);
    site.db.until("SELECT string_agg(key, ',') FROM autoembed.failed_jobs", "9", PATIENCE * 2);
}

#[test]
fn a_server_that_takes_fewer_inputs() {
    let mut site = Site::with_messages();
    site.fault(Fault::TooManyInputs(32));
    site.insert(1, 500);
    assert_eq!(site.settle("messages", "content"), 500);
    println!("500 rows, at most 32 a request: {} requests", site.stub.stats().requests);
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn faults_by_chance() {
    let mut site = Site::builder().model("timeout => '2 s', max_batch_inputs => 20").start();
    site.messages("");
    let faults = vec![
        Fault::status(500).into(),
        Fault::Close.into(),
        Fault::Truncate(100).into(),
        Fault::Missing.into(),
        Fault::Nan.into(),
        Fault::NotJson.into(),
        Fault::status(429).header("retry-after", "1").into(),
    ];
    site.stub.script(Script::default().random(20_240_229, 0.2, faults));
    site.insert(1, 600);
    site.db.run("UPDATE messages SET content = content || ' edited' WHERE id % 3 = 0");
    site.settle_within("messages", "content", "embedding", PATIENCE * 2);
    let stats = site.stub.stats();
    println!("600 rows through faults by chance: {} requests, answers {:?}", stats.requests, stats.by_status);
    assert_eq!(site.failed("messages"), 0);
}
