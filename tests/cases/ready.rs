//! Work that becomes ready begins at once, whatever made it so. The worker of these scenes never looks into the queue just because time has
//! passed: what nobody tells it of lies there until the next poll, ten minutes later.

use autoembed_stub::{Fault, Script};
use autoembed_tests::Site;
use autoembed_tests::site::{DATABASE, PATIENCE};
use std::time::Instant;

/// The table `messages` has been worked for, and nothing is left to do.
fn idle_site() -> Site {
    let mut site = Site::builder()
        .test_build()
        .setting("autoembed.poll_interval", "10min")
        .setting("autoembed.cache_size", "0")
        .setting("autoembed.retry_base_delay", "700ms")
        .start();
    site.messages("index => 'none'");
    site.cluster.points().only_when_told();
    let old = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.db.run(&format!("SELECT pg_terminate_backend({old}, 10000)"));
    site.insert(1, 20);
    settled(&mut site, "the first rows", Instant::now());
    site
}

/// Waits until nothing is left to do for `messages`.
fn settled(site: &mut Site, what: &str, begun: Instant) {
    site.db.until("SELECT count(*) FROM messages WHERE embedding IS NULL", "0", PATIENCE);
    println!("{what}: {:?}", begun.elapsed());
    site.until_idle("messages");
}

/// Makes rows wait that no trigger has seen.
const CLEAR: &str = "SET session_replication_role = replica; UPDATE messages SET embedding = NULL WHERE id IN (3, 5, 8); \
     RESET session_replication_role";
const ENQUEUE: &str = "SELECT autoembed.enqueue('messages', ARRAY['3', '5', '8'])";

/// Full tables are walked, and the rows that were found are embedded in one go: also by a worker that has just begun, and claims
/// before it walks.
#[test]
fn g17_a_backfill_begins_at_once() {
    let mut site = idle_site();
    // No table is changed, which the worker would notice.
    for _ in 0..3 {
        site.db.run(CLEAR);
        let begun = Instant::now();
        site.db.run("SELECT autoembed.backfill('messages')");
        settled(&mut site, "backfill()", begun);
    }
    for (number, (rows, more)) in
        [(1, ""), (96, ""), (500, ""), (4096, ""), (5000, ""), (40, ", chunk_size => 100")].into_iter().enumerate()
    {
        let table = format!("full_{number}");
        site.db.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, body text);
             INSERT INTO {table} SELECT i, '{table} ' || i FROM generate_series(1, {rows}) i"
        ));
        let begun = Instant::now();
        site.enable(&table, "body", &format!("index => 'none'{more}"));
        let vectors = if more.is_empty() { table } else { format!("{table}_chunks") };
        let done = format!("SELECT count(*) FROM {vectors} WHERE embedding IS NOT NULL");
        site.db.until(&done, &rows.to_string(), PATIENCE);
        println!("enable() with {rows} rows{more}: {:?}", begun.elapsed());
    }
}

/// A second vectorizer for the model that is to be; its rows are walked like those of any other.
#[test]
fn g17_a_model_change_begins_at_once() {
    let mut site = idle_site();
    site.create_model("next", "");
    for model in ["next", "stub"] {
        let begun = Instant::now();
        site.db.run(&format!("SELECT autoembed.set_model('messages', '{model}')"));
        site.db.until("SELECT count(*) FROM autoembed.vectorizer WHERE replaces IS NOT NULL", "0", PATIENCE);
        println!("set_model(): {:?}", begun.elapsed());
        site.db.run("INSERT INTO messages (content) VALUES ('after it')");
        settled(&mut site, "a row after it", Instant::now());
    }
}

/// What a session asks for wakes the worker with its commit, and what a session had in hand with its end.
#[test]
fn g17_what_a_session_asks_for_begins_at_once() {
    let mut site = idle_site();
    let ways: [(&str, &[&str]); 4] = [
        ("enqueue()", &[ENQUEUE]),
        ("reconcile()", &["SELECT autoembed.reconcile('messages')"]),
        ("resume()", &["SELECT autoembed.pause('messages')", ENQUEUE, "SELECT autoembed.resume('messages')"]),
        (
            "retry_failed()",
            &[
                "INSERT INTO autoembed.failed (vectorizer_id, key, attempts, code, message, hint) SELECT 1, unnest(ARRAY['3', '5', '8']), 1, 'x', '', ''",
                "SELECT autoembed.retry_failed('messages')",
            ],
        ),
    ];
    for (what, statements) in ways {
        site.db.run(CLEAR);
        let begun = Instant::now();
        statements.iter().for_each(|sql| site.db.run(sql));
        settled(&mut site, what, begun);
    }
    // The worker comes by while a session has the rows in hand, and then the session has them no more.
    let points = site.cluster.points();
    let mut session = site.session();
    let held = points.hold("answered");
    site.db.run("INSERT INTO messages (content) VALUES ('keeps it busy')");
    held.wait(PATIENCE);
    site.db.run(CLEAR);
    site.db.run(ENQUEUE);
    session.run("BEGIN");
    assert_eq!(session.int("SELECT autoembed.embed_pending('messages')"), 3);
    held.release();
    site.marker();
    let idle = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'autoembed worker'";
    site.db.until(idle, "Extension", PATIENCE);
    // What it has done has it look once more; without this the test could not fail.
    site.db.run("SELECT pg_sleep(0.2)");
    let begun = Instant::now();
    session.run("ROLLBACK");
    settled(&mut site, "embed_pending(), rolled back", begun);
}

/// What could not be done the first time is done when its pause is over.
#[test]
fn g17_tries_come_when_they_are_due() {
    let mut site = idle_site();
    // A write that a trigger suppresses: the row has failed once.
    site.db.run(
        "CREATE SEQUENCE writes; CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS \
           'BEGIN IF nextval(''writes'') = 1 THEN RETURN NULL; END IF; RETURN NEW; END';
         CREATE TRIGGER zz BEFORE UPDATE OF embedding ON messages FOR EACH ROW WHEN (NEW.note = 'once') EXECUTE FUNCTION suppress()",
    );
    let begun = Instant::now();
    site.db.run("INSERT INTO messages (content, note) VALUES ('suppressed', 'once')");
    settled(&mut site, "a write that a trigger suppressed", begun);
    // The model does not answer once.
    site.stub.script(Script::first(1, Fault::status(500)));
    let begun = Instant::now();
    site.insert(1, 1);
    settled(&mut site, "a request that failed", begun);
    // A user has the row, or the table, for a moment.
    let mut user = site.session();
    site.stub.hold();
    let id = site.db.int("INSERT INTO messages (content) VALUES ('locked') RETURNING id");
    site.wait_held(1);
    user.run(&format!("BEGIN; SELECT FROM messages WHERE id = {id} FOR UPDATE"));
    site.stub.release();
    site.db.until("SELECT not_before IS NOT NULL FROM autoembed.job", "t", PATIENCE);
    let begun = Instant::now();
    user.run("COMMIT");
    settled(&mut site, "a row that was locked", begun);
    user.run(
        "BEGIN; LOCK TABLE messages IN SHARE MODE; SET LOCAL session_replication_role = replica; \
         UPDATE messages SET embedding = NULL WHERE id = 1",
    );
    site.db.run("SELECT autoembed.enqueue('messages', ARRAY['1'])");
    site.db.until("SELECT not_before IS NOT NULL FROM autoembed.job", "t", PATIENCE);
    let begun = Instant::now();
    user.run("COMMIT");
    settled(&mut site, "a table that was locked", begun);
}

/// A row that has settled is embedded then; one that came after it, when it has.
#[test]
fn g17_delays_end_when_they_are_over() {
    let mut site = idle_site();
    site.db.run("CREATE TABLE streamed (id int PRIMARY KEY, body text)");
    site.enable("streamed", "body", "delay => '400ms', index => 'none'");
    let begun = Instant::now();
    site.db.run("INSERT INTO streamed VALUES (1, 'one')");
    site.db.run("SELECT pg_sleep(0.2)");
    site.db.run("INSERT INTO streamed VALUES (2, 'two'), (3, 'three')");
    for id in 1..=3 {
        site.db.until(&format!("SELECT embedding IS NOT NULL FROM streamed WHERE id = {id}"), "t", PATIENCE);
        println!("row {id} with a delay of 400 ms: {:?}", begun.elapsed());
    }
}

/// A model that was blocked is asked again when somebody has changed it, or the settings: not only when its next probe is due.
#[test]
fn g17_a_model_that_was_mended_is_asked_soon() {
    let mut site = idle_site();
    for mend in ["UPDATE autoembed.models SET max_batch_inputs = 50 WHERE name = 'stub'", "SELECT pg_reload_conf()"] {
        site.fault(Fault::status(401));
        site.insert(1, 3);
        site.until_state("messages", "blocked");
        site.stub.clear();
        let begun = Instant::now();
        site.db.run(mend);
        settled(&mut site, mend, begun);
    }
}
