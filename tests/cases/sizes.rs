//! Texts and batches that are too large: cut, split or refused, at the least cost.

use autoembed_stub::{Limits, tokens};
use autoembed_tests::Site;

#[test]
fn a_long_text_is_cut_and_counted() {
    let mut site = Site::builder().model("max_input_tokens => 10").start();
    site.messages("");
    site.db.run("INSERT INTO messages (content) VALUES ('short'), (repeat('word ', 1000)), ('short too')");
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 3);
    assert_eq!(site.status("truncated", "messages"), "1");
    assert_eq!(site.status("embedded", "messages"), "3");
    assert_eq!(site.db.int("SELECT sum(truncated) FROM autoembed.requests"), 1);
    let longest = site.inputs().into_iter().max_by_key(String::len).unwrap();
    assert!("word ".repeat(10).starts_with(&longest) && longest.len() > 20, "{longest}");
    // A search text is cut in the same way.
    site.db.run("SELECT * FROM similar_messages(repeat('word ', 1000))");
    assert_eq!(site.inputs().into_iter().last().unwrap(), longest);
}

#[test]
fn a_long_text_fails_where_it_must_not_be_cut() {
    let mut site = Site::builder().model("max_input_tokens => 10, options => '{\"too_long\": \"fail\"}'").start();
    site.messages("");
    site.db.run("INSERT INTO messages (content) VALUES ('short'), (repeat('word ', 1000)), ('short too')");
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 2);
    assert_eq!(site.db.text("SELECT key || ' ' || code FROM autoembed.failed_jobs"), "2 too_long");
    assert_eq!(site.inputs().len(), 2, "it was not even sent");
    site.db.error("SELECT autoembed.embed(repeat('word ', 1000), 'stub')").assert("22023", "10 tokens");
    site.db.run("UPDATE messages SET content = 'short now' WHERE id = 2");
    site.settle("messages", "content");
    assert_eq!(site.failed("messages"), 0);
}

/// The model's definition says nothing of a limit that the server has.
#[test]
fn a_limit_that_only_the_server_knows_is_learned() {
    let mut site = Site::new();
    site.messages("");
    site.stub.limits(Limits { inputs_per_request: Some(32), ..Limits::default() });
    site.insert(1, 640);
    assert_eq!(site.settle("messages", "content"), 640);
    let first = site.stub.stats().requests;
    assert!(first <= 20 + 3, "{first} requests of 32 texts for 640 rows");
    site.stub.reset_stats();
    site.insert(641, 1280);
    assert_eq!(site.settle("messages", "content"), 1280);
    assert_eq!(site.stub.stats().oversized, 0, "what was learned is kept");
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn tokens_of_a_batch_and_of_a_text_are_learned_too() {
    let mut site = Site::new();
    site.messages("");
    site.stub.limits(Limits { tokens_per_request: Some(200), tokens_per_input: Some(50), ..Limits::default() });
    site.db.run(
        "INSERT INTO messages (content) SELECT i || repeat(' words', 5) FROM generate_series(1, 100) i; \
         INSERT INTO messages (content) VALUES (repeat('far too long ', 100)), (repeat('once more too long ', 50))",
    );
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 102);
    assert_eq!(site.status("truncated", "messages"), "2");
    assert_eq!(site.failed("messages"), 0);
    let stats = site.stub.stats();
    println!("{} requests, {} of them refused for their size", stats.requests, stats.oversized);
    let all: u64 = site.inputs().iter().map(|text| tokens(text)).sum();
    assert!(stats.oversized <= 6, "{stats:?}; {all} tokens");
    assert_eq!(site.status("state", "messages"), "active");
}
