//! What is spent: counted for everybody, and stopped before it is too much.

use autoembed_stub::{Fault, tokens};
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

fn used(site: &mut Site, column: &str) -> String {
    site.db.text(&format!(
        "SELECT COALESCE(sum({column}), 0)::text FROM autoembed.usage WHERE model = 'stub' AND day = (now() AT TIME ZONE 'UTC')::date"
    ))
}

#[test]
fn tokens_requests_and_cost_are_counted() {
    let mut site = Site::builder().model("options => '{\"price_per_million_tokens\": 500}'").start();
    site.messages("");
    site.insert(1, 100);
    site.settle("messages", "content");
    site.db.run("SELECT autoembed.embed('what sessions ask', 'stub')");
    // A session that is read only, or rolls back, has spent its tokens nevertheless.
    site.db.run("BEGIN READ ONLY; SELECT autoembed.embed('another question', 'stub'); ROLLBACK");
    site.fault(Fault::status(500));
    site.db.error("SELECT autoembed.embed('in vain', 'stub')").assert("08006", "500");
    site.stub.clear();
    let stats = site.stub.stats();
    let total: u64 = site.inputs().iter().filter(|text| *text != "in vain").map(|text| tokens(text)).sum();
    assert_eq!(used(&mut site, "tokens"), total.to_string());
    assert_eq!(used(&mut site, "inputs"), "103");
    assert_eq!(used(&mut site, "requests"), stats.requests.to_string());
    assert_eq!(used(&mut site, "errors"), "1");
    let cost: f64 = used(&mut site, "cost").parse().unwrap();
    assert!((cost - total as f64 * 500.0 / 1e6).abs() < 1e-6, "{cost} for {total} tokens");
    // The same when the worker has added up what sessions noted.
    site.db.until("SELECT count(*) FROM autoembed.session_usage()", "0", PATIENCE);
    assert_eq!(used(&mut site, "tokens"), total.to_string());
    assert_eq!(used(&mut site, "requests"), stats.requests.to_string());
    // Old entries of the log are added up as well.
    site.db.run("UPDATE autoembed.request SET at = at - interval '30 days'");
    let all = "SELECT sum(tokens) || ' ' || sum(requests) || ' ' || sum(inputs) FROM autoembed.usage";
    let before = site.db.text(all);
    site.cluster.restart(autoembed_tests::Stop::Fast);
    site.reconnect();
    site.db.until("SELECT count(*) FROM autoembed.request", "0", PATIENCE);
    assert_eq!(site.db.text(all), before);
}

#[test]
fn g22_the_daily_budget_stops_before_it_is_crossed() {
    let mut site = Site::builder().model("daily_token_budget => 300, max_batch_inputs => 20").start();
    site.messages("");
    site.insert(1, 500);
    let state = site.until_state("messages", "blocked: ");
    assert!(state.contains("daily token budget") && state.contains("daily_token_budget"), "{state}");
    let spent: u64 = used(&mut site, "tokens").parse().unwrap();
    assert!((200..=300).contains(&spent), "{spent} tokens of 300");
    let requests = site.stub.stats().requests;
    // In a session too, and for searches.
    let error = site.db.error("SELECT autoembed.embed(repeat('many words ', 100), 'stub')");
    error.assert("53400", "daily token budget");
    let done = site.db.int("SELECT count(embedding) FROM messages");
    site.db.run("SELECT autoembed.embed_pending()");
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), done);
    assert_eq!(site.stub.stats().requests, requests, "nothing is sent any more");
    assert_eq!(site.failed("messages"), 0);
    assert_eq!(site.db.int("SELECT COALESCE(max(attempts), 0) FROM autoembed.job"), 0, "nothing is charged");
    // Somebody raises it, and work goes on by itself.
    site.db.run("UPDATE autoembed.models SET daily_token_budget = 1000000 WHERE name = 'stub'");
    assert_eq!(site.settle("messages", "content"), 500);
    assert_eq!(site.status("state", "messages"), "active");
}

#[test]
fn what_sessions_spend_counts_for_the_worker() {
    let mut site = Site::builder().model("daily_token_budget => 100").start();
    site.messages("");
    let spend = |n| format!("SELECT autoembed.embed('{n} words and some more of them, ten', 'stub')");
    let refused = (0..20).find_map(|n| site.db.try_rows(&spend(n)).err());
    let refused = autoembed_tests::SqlError::of(&refused.expect("the budget ends")).unwrap();
    refused.assert("53400", "daily token budget");
    site.insert(1, 20);
    site.until_state("messages", "blocked: ");
    let spent: u64 = used(&mut site, "tokens").parse().unwrap();
    assert!(spent <= 100, "{spent}");
    // One model's budget is not another's.
    site.create_model("other", "");
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, body text); SELECT autoembed.enable('docs', 'body', 'other'); INSERT INTO docs VALUES (1, 'x')");
    site.settle("docs", "body");
}

#[test]
fn only_monitors_see_what_was_spent() {
    let mut site = Site::new();
    site.db.run("CREATE ROLE nobody_special LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher");
    assert_eq!(site.session_as("nobody_special").error("SELECT * FROM autoembed.usage").code, "42501");
    site.session_as("watcher").run("SELECT * FROM autoembed.usage");
}

/// A statement, or a transaction, sees what was spent since it began.
#[test]
fn one_statement_cannot_cross_the_budget() {
    let mut site = Site::builder().model("daily_token_budget => 300").start();
    let many = "SELECT count(autoembed.embed('hello world number ' || i, 'stub')) FROM generate_series(1, 500) i";
    site.db.error(many).assert("53400", "daily token budget");
    site.db.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    site.db.error(many).assert("53400", "daily token budget");
    site.db.run("ROLLBACK");
    let spent = site.stub.stats().tokens;
    assert!((250..=300).contains(&spent), "{spent} tokens of 300");
    assert_eq!(used(&mut site, "tokens"), spent.to_string());
}

#[test]
fn what_a_session_embeds_counts_though_it_rolls_back() {
    let mut site = Site::builder().model("daily_token_budget => 400").start();
    site.messages("");
    site.db.run("SELECT autoembed.pause('messages')");
    site.insert(1, 50);
    let drain = "BEGIN; SELECT autoembed.resume('messages'); SELECT autoembed.embed_pending(); ROLLBACK";
    site.db.run(drain);
    let stats = site.stub.stats();
    assert!(stats.tokens > 0);
    assert_eq!(used(&mut site, "tokens"), stats.tokens.to_string());
    assert_eq!(used(&mut site, "requests"), stats.requests.to_string());
    site.db.run("SET autoembed.cache_size = 0");
    for _ in 0..4 {
        site.db.run(drain);
    }
    let spent = site.stub.stats().tokens;
    assert!(spent <= 400, "{spent} tokens of 400");
    // A commit counts once.
    site.db.run("UPDATE autoembed.models SET daily_token_budget = NULL WHERE name = 'stub'; SELECT autoembed.resume('messages')");
    site.settle("messages", "content");
    let spent = site.stub.stats().tokens;
    assert_eq!(used(&mut site, "tokens"), spent.to_string());
}

#[test]
fn what_a_model_wants_before_each_text_is_paid_for_too() {
    let options =
        "options => '{\"document_prefix\": \"a rather long instruction that says what the text is good for: \"}'";
    let mut site = Site::builder().model(&format!("daily_token_budget => 1000, {options}")).start();
    site.messages("");
    site.insert(1, 500);
    site.until_state("messages", "blocked: ");
    let spent = site.stub.stats().tokens;
    assert!((500..=1000).contains(&spent), "{spent} tokens of 1000");
}

/// A server that counts without sense.
#[test]
fn an_absurd_count_is_none() {
    let mut site = Site::with_messages();
    let vector = vec!["0.5"; site.dims].join(",");
    let absurd = format!(
        r#"{{"data": [{{"index": 0, "embedding": [{vector}]}}], "usage": {{"total_tokens": 9223372036854775807}}}}"#
    );
    site.fault(Fault::status_with(200, autoembed_stub::Body::Raw(absurd)));
    site.insert(1, 1);
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    site.stub.clear();
    site.insert(2, 2);
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    let tokens: i64 = used(&mut site, "tokens").parse().unwrap();
    assert!((1..100).contains(&tokens), "{tokens}");
}
