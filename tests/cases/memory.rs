//! Equal texts cost one input: in one batch, while on their way, and while they are remembered.

use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;

const HITS: &str = "SELECT COALESCE(sum(cache_hits), 0) FROM autoembed.usage WHERE model = 'stub'";

fn hits(site: &mut Site) -> i64 {
    site.db.int(HITS)
}

#[test]
fn a_text_that_comes_again_is_not_sent_again() {
    let mut site = Site::with_messages();
    site.db.run("INSERT INTO messages (content) VALUES ('the same'), ('another'), ('the same')");
    site.settle("messages", "content");
    site.db.run("INSERT INTO messages (content) VALUES ('the same'), ('the same')");
    site.settle("messages", "content");
    site.db.run("UPDATE messages SET content = 'another' WHERE id = 1");
    site.settle("messages", "content");
    let mut inputs = site.inputs();
    inputs.sort();
    assert_eq!(inputs, ["another", "the same"]);
    site.until_idle("messages");
    assert_eq!(site.status("embedded", "messages"), "6");
    assert_eq!(hits(&mut site), 2, "one text in one batch of two equal ones, and one more");
    assert_eq!(site.db.text("SELECT sum(inputs) || ' ' || sum(cached) FROM autoembed.requests"), "2 2");
}

#[test]
fn a_text_that_is_on_its_way_is_not_sent_again() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.db.run("INSERT INTO messages (content) VALUES ('the same')");
    site.wait_held(1);
    site.db.run("INSERT INTO messages (content) VALUES ('the same'), ('another'), ('the same')");
    site.wait_held(2);
    assert_eq!(site.inputs(), ["the same", "another"]);
    site.stub.release();
    assert_eq!(site.settle("messages", "content"), 4);
    assert_eq!(site.inputs(), ["the same", "another"]);
}

/// Rows that waited for another's answer are not lost when there is none.
#[test]
fn a_failed_request_leaves_its_followers_in_the_queue() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.db.run("INSERT INTO messages (content) VALUES ('the same')");
    site.wait_held(1);
    site.db.run("INSERT INTO messages (content) VALUES ('the same'), ('another')");
    site.wait_held(2);
    site.stub_gone();
    site.until_state("messages", "active: waiting");
    site.stub_back();
    assert_eq!(site.settle("messages", "content"), 3);
    assert_eq!(site.failed("messages"), 0);
    // The same when the worker dies meanwhile.
    site.stub.hold();
    site.db.run("INSERT INTO messages (content) VALUES ('once more')");
    site.wait_held(1);
    site.db.run("INSERT INTO messages (content) VALUES ('once more'), ('and another')");
    site.wait_held(2);
    let worker = site.cluster.wait_worker(autoembed_tests::site::DATABASE, PATIENCE);
    site.db.run(&format!("SELECT pg_terminate_backend({worker})"));
    site.stub.release();
    assert_eq!(site.settle("messages", "content"), 6);
}

#[test]
fn what_another_owner_was_told_is_not_remembered_for_me() {
    let mut site = Site::with_messages();
    site.db.run("CREATE ROLE tenant LOGIN; GRANT CREATE ON SCHEMA public TO tenant");
    let mut tenant = site.session_as("tenant");
    tenant.run("CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body', 'stub')");
    site.db.run("INSERT INTO messages (content) VALUES ('the same')");
    site.settle("messages", "content");
    tenant.run("INSERT INTO notes VALUES (1, 'the same')");
    site.settle("notes", "body");
    assert_eq!(site.inputs(), ["the same", "the same"]);
}

#[test]
fn a_cache_of_no_size_remembers_nothing() {
    let mut site = Site::builder().setting("autoembed.cache_size", "0").start();
    site.messages("");
    for _ in 0..2 {
        site.db.run("INSERT INTO messages (content) VALUES ('the same')");
        site.settle("messages", "content");
        site.db.run("SELECT autoembed.embed('a query', 'stub')");
    }
    assert_eq!(site.inputs(), ["the same", "a query", "the same", "a query"]);
    assert_eq!(hits(&mut site), 0);
}

#[test]
fn who_asks_for_it_gets_a_new_vector() {
    let mut site = Site::with_messages();
    site.db.run("INSERT INTO messages (content) VALUES ('the same')");
    site.settle("messages", "content");
    site.stub.reset_stats();
    site.db.run("SELECT autoembed.backfill('messages', force => true)");
    assert!(site.db.yes("SELECT autoembed.wait('messages')"));
    assert_eq!(site.inputs(), ["the same"]);
}

#[test]
fn searches_remember_what_they_asked() {
    let mut site = Site::with_messages();
    for _ in 0..3 {
        site.db.run("SELECT * FROM similar_messages('a query'); SELECT autoembed.embed('a query', 'stub')");
    }
    assert_eq!(site.inputs(), ["a query"]);
    // While the worker adds up what sessions have noted, it is in neither place for a moment.
    site.db.until(HITS, "5", PATIENCE);
    // What is stored and what is searched for may be embedded differently.
    site.db.run("INSERT INTO messages (content) VALUES ('a query')");
    site.settle("messages", "content");
    assert_eq!(site.inputs().len(), 2);
}

/// A gateway may choose the model by a header or by the url's query.
#[test]
fn what_another_place_answered_is_not_remembered_for_this_one() {
    let mut site = Site::new();
    for (name, url, options) in
        [("a", "?deployment=a", "{}"), ("b", "?deployment=b", "{}"), ("c", "", "{\"headers\": {\"x-route\": \"c\"}}")]
    {
        let url = autoembed_tests::db::literal(&format!("{}{url}", site.stub.url()));
        site.db.run(&format!(
            "SELECT autoembed.create_model('{name}', 'openai', {}, url => {url}, options => '{options}')",
            site.dims
        ));
        site.db.run(&format!(
            "CREATE TABLE t_{name} (id int PRIMARY KEY, body text); SELECT autoembed.enable('t_{name}', 'body', '{name}'); \
             INSERT INTO t_{name} VALUES (1, 'the same'); SELECT autoembed.embed('a query', '{name}')"
        ));
        site.settle(&format!("t_{name}"), "body");
    }
    assert_eq!(site.inputs().iter().filter(|text| *text == "the same").count(), 3);
    assert_eq!(site.inputs().iter().filter(|text| *text == "a query").count(), 3);
}
