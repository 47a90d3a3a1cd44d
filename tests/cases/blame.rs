//! Whose fault a refusal is: one text's, or the whole model's.

use autoembed_stub::{Body, Fault, Rule, Script};
use autoembed_tests::Site;

/// A firewall in front of the server answers a page to one of the texts, in a way that looks as if nobody may call it.
#[test]
fn a_text_that_a_firewall_refuses_fails_alone() {
    let mut site = Site::with_messages();
    let page = Body::Raw("<html><body>Sorry, you have been blocked</body></html>".into());
    site.stub.script(Script::default().rule(Rule::new(Fault::status_with(403, page)).text_contains("<script>")));
    site.db.run(
        "INSERT INTO messages (content) SELECT CASE WHEN i = 1 THEN '<script>' ELSE 'text ' || i END FROM generate_series(1, 300) i",
    );
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 299);
    assert_eq!(site.db.text("SELECT key FROM autoembed.failed_jobs"), "1");
    assert_eq!(site.status("state", "messages"), "active");
    let requests = site.stub.stats().requests;
    println!("{requests} requests");
    assert!(requests <= 2 + 4 * 9, "{requests} requests for one text in 300");
}

/// A text that speaks of money, in an error that repeats it.
#[test]
fn the_words_of_a_text_are_not_the_servers() {
    let mut site = Site::with_messages();
    let echo = Body::Raw(r#"{"error": {"message": "bad input_value='POISON my card has insufficient funds'"}}"#.into());
    site.stub.script(Script::default().rule(Rule::new(Fault::status_with(400, echo)).text_contains("POISON")));
    site.db.run(
        "INSERT INTO messages (content) SELECT CASE WHEN i = 7 THEN 'POISON my card has insufficient funds' ELSE 'text ' || i END \
         FROM generate_series(1, 50) i",
    );
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 49);
    assert_eq!(site.status("state", "messages"), "active");
}

/// Refused one by one, all rows would be given up.
#[test]
fn a_refusal_that_is_meant_for_everybody_fails_nobody() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    site.stub.reset_stats();
    let words = Body::Raw(r#"{"error": {"message": "Your organization must be verified to use this"}}"#.into());
    site.fault(Fault::status_with(400, words));
    site.insert(6, 300);
    let state = site.until_state("messages", "blocked: ");
    site.db.until_true(
        "(SELECT state FROM autoembed.status WHERE source = 'messages'::regclass) LIKE '%must be verified%'",
        "SELECT state FROM autoembed.status",
        autoembed_tests::site::PATIENCE,
    );
    let requests = site.stub.stats().requests;
    println!("{requests} requests; {state}");
    assert!(site.failed("messages") <= 10, "{} failed", site.failed("messages"));
    assert!(requests <= 60, "{requests} requests to find that 295 rows are refused");
    site.stub.clear();
    site.db.run("SELECT pg_reload_conf(); SELECT autoembed.retry_failed()");
    assert_eq!(site.settle("messages", "content"), 300);
}

#[test]
fn what_a_server_repeats_of_a_text_is_not_shown_to_others() {
    let mut site = Site::with_messages();
    site.db.run("CREATE ROLE bob LOGIN; GRANT CREATE ON SCHEMA public TO bob");
    let mut bob = site.session_as("bob");
    bob.run("CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body', 'stub')");
    for status in [500, 403, 429] {
        let echo = Body::Raw(r#"{"error": {"message": "no: 'the secret of alice'"}}"#.into());
        let fault = Fault::status_with(status, echo).header("retry-after", "5");
        site.stub.script(
            Script::default().rule(Rule::new(fault).text_contains("secret")).rule(Rule::new(Fault::status(502))),
        );
        site.db.run("INSERT INTO messages (content) VALUES ('the secret of alice ' || gen_random_uuid())");
        site.db.until_true(
            "(SELECT state FROM autoembed.status WHERE source = 'messages'::regclass) <> 'active'",
            "SELECT state FROM autoembed.status",
            autoembed_tests::site::PATIENCE,
        );
        let seen = bob.column("SELECT s::text FROM autoembed.status s");
        assert_eq!(seen.len(), 1, "bob sees his own table alone");
        assert!(!seen[0].contains("alice"), "{status}: {seen:?}");
        site.stub.clear();
        site.db.run("SELECT pg_reload_conf()");
        site.settle("messages", "content");
    }
}

/// What waits for its turn after a split goes where the model points to now.
#[test]
fn a_model_that_is_changed_meanwhile() {
    let mut site = Site::builder().model("max_concurrent_requests => 1").start();
    site.messages("");
    let other = autoembed_stub::Stub::start(
        autoembed_stub::StubConfig::vectors(autoembed_stub::Vectors::Hashed(site.dims)).recorded(),
    )
    .unwrap();
    site.stub.script(Script::first(1, Fault::status(422)));
    site.stub.hold();
    site.insert(1, 64);
    site.wait_held(1);
    let url = autoembed_tests::db::literal(&other.url());
    site.db.run(&format!("UPDATE autoembed.models SET url = {url} WHERE name = 'stub'"));
    site.stub.release();
    assert_eq!(site.settle("messages", "content"), 64);
    assert_eq!(site.stub.stats().requests, 1, "the old place is not asked any more");
    assert_eq!(other.stats().inputs, 64);
}

#[test]
fn a_blocked_model_that_is_made_again_is_still_shown_as_blocked() {
    let mut site = Site::with_messages();
    site.fault(Fault::status(401));
    site.insert(1, 3);
    site.until_state("messages", "blocked: ");
    site.db.run("SELECT autoembed.disable('messages')");
    site.db.run("SELECT autoembed.drop_model('stub')");
    site.create_model("stub", "");
    site.enable("messages", "content", "");
    site.until_state("messages", "blocked: ");
}

/// Two servers behind one address, one of them with an old key.
#[test]
fn a_key_that_is_refused_now_and_then_fails_nobody() {
    let mut site = Site::builder().model("max_batch_inputs => 10").start();
    site.messages("");
    site.stub.script(Script::default().rule(Rule::new(Fault::status(401)).every(2)));
    site.insert(1, 60);
    site.db.until_true(
        "(SELECT count(embedding) FROM messages) >= 20",
        "SELECT count(embedding) FROM messages",
        autoembed_tests::site::PATIENCE,
    );
    assert_eq!(site.failed("messages"), 0);
    site.stub.clear();
    site.db.run("SELECT pg_reload_conf()");
    assert_eq!(site.settle("messages", "content"), 60);
    assert_eq!(site.failed("messages"), 0);
}

/// However many there are, each costs a few requests, and those of another table are not kept waiting.
#[test]
fn many_texts_that_a_firewall_refuses() {
    let mut site = Site::builder().setting("autoembed.max_concurrent_requests", "2").start();
    site.messages("");
    site.db.run("CREATE TABLE docs (id int PRIMARY KEY, body text)");
    site.enable("docs", "body", "");
    let page = Body::Raw("<html><body>Sorry, you have been blocked</body></html>".into());
    site.stub.script(Script::default().rule(Rule::new(Fault::status_with(403, page)).text_contains("<script>")));
    site.db.run(
        "INSERT INTO messages (content) SELECT CASE WHEN i % 2 = 0 THEN '<script> ' ELSE 'text ' END || i FROM generate_series(1, 200) i; \
         INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 50) i",
    );
    site.settle("docs", "body");
    let meanwhile = site.failed("messages");
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 100);
    assert_eq!(site.failed("messages"), 100);
    let stats = site.stub.stats();
    println!("{} requests, {} inputs; {meanwhile} failed when the other table was done", stats.requests, stats.inputs);
    assert!(stats.requests <= 800 && stats.inputs <= 6000, "{stats:?}");
    assert!(meanwhile < 100, "the other table had to wait for the last bad text");
    assert_eq!(site.status("state", "messages"), "active");
}

/// The fixed word is nothing special to a server.
#[test]
fn a_server_that_refuses_the_word_alone() {
    let mut site = Site::with_messages();
    let rules = Script::first(1, Fault::status(500));
    site.stub.script(rules.rule(Rule::new(Fault::status(400)).text_contains("hello")));
    site.insert(1, 50);
    assert_eq!(site.settle("messages", "content"), 50);
    assert_eq!(site.failed("messages"), 0);
}

/// Each way in which providers say that an account is empty: waiting does not mend it, so hardly anything is sent, and no row pays.
#[test]
fn g22_each_code_of_a_spent_account() {
    let mut site = Site::with_messages();
    let error = |code: &str, message: &str| {
        format!(r#"{{"error": {{"message": "{message}", "type": "{code}", "code": "{code}"}}}}"#)
    };
    let mut from = 1;
    for (status, body) in [
        (429, error("insufficient_quota", "You exceeded your current quota")),
        (403, error("insufficient_quota", "quota")),
        (500, error("500", "RateLimitError: {'code': 'insufficient_quota'}")),
        (402, error("x", "no")),
        (403, error("insufficient_user_quota", "x")),
        (429, error("billing_hard_limit_reached", "x")),
        (403, error("billing_not_active", "x")),
        (429, error("account_deactivated", "x")),
        (400, error("budget_exceeded", "x")),
        (429, error("x", "Insufficient balance, please recharge")),
        (429, error("rate_limit_exceeded", "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200")),
        (429, r#"{"message": "You are using a Trial key, which is limited to 1000 API calls / month."}"#.to_owned()),
        (429, error("quota_exceeded", "The quota is spent.")),
    ] {
        site.stub.reset_stats();
        site.fault(Fault::status_with(status, Body::Raw(body.clone())));
        site.insert(from, from + 99);
        from += 100;
        let state = site.until_state("messages", "blocked: ");
        assert!(
            state.contains("Waiting does not mend this") || state.contains("A quota of model \"stub\" is used up"),
            "{status} {body}: {state}"
        );
        let requests = site.stub.stats().requests;
        assert!(requests <= 4, "{status} {body}: {requests} requests to an account that is empty");
        assert_eq!(site.failed("messages"), 0, "{status} {body}");
        site.stub.clear();
        site.db.run("SELECT pg_reload_conf()");
        site.settle("messages", "content");
        site.until_state("messages", "active");
    }
    assert_eq!(site.db.int("SELECT COALESCE(max(attempts), 0) FROM autoembed.job"), 0);
}
