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
fn the_daily_budget_stops_before_it_is_crossed() {
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
