//! Two sessions and the worker, step by step: a test build of the extension is held at the places where another one's step must
//! come in between.

use autoembed_stub::{Fault, Script};
use autoembed_tests::points::{Action, Points};
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, eventually};

/// Places of a worker's turn: in the transaction that claims, after it, at the model, back from it, in the transaction that
/// writes before and after the vectors.
const PLACES: [&str; 6] = ["claimed", "gathered", "sending", "answered", "completed", "written"];
/// Those at which no transaction is open.
const BETWEEN: [&str; 3] = ["gathered", "sending", "answered"];

fn site() -> (Site, Points) {
    let mut site = Site::builder().test_build().start();
    site.messages("");
    let points = site.cluster.points();
    (site, points)
}

/// Claim, edit, finish of the later claim, finish of the first: what is there in the end is the later text's.
#[test]
fn g02_the_first_claim_finishes_last() {
    let (mut site, points) = site();
    let held = points.hold("answered");
    site.insert(1, 3);
    held.wait(PATIENCE);
    // The worker has the vectors of the first texts in its hand.
    site.db.run("UPDATE messages SET content = 'edited ' || id WHERE id <= 2");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending('messages')"), 2);
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 2);
    held.release();
    site.until_idle("messages");
    site.settle("messages", "content");
    site.assert_all_vectors("messages", "content");
    // Whether a later job has been there is not known any more: the edited rows may be asked for once more, each in its own time.
    let requests = site.stub.stats().requests;
    let log = "SELECT string_agg(concat_ws(' ', inputs, rows, cached, ms, error_code, at), '; ' ORDER BY id) FROM autoembed.requests";
    assert!(requests <= 4, "{requests} requests: {}", site.db.text(log));
    assert!(site.db.int("SELECT sum(inputs) FROM autoembed.requests") <= 3 + 2 + 2);
}

/// Claim, edit or delete, finish of the later claim, refusal of the first: what was refused is not there any more, and nothing has failed.
#[test]
fn g02_a_refusal_that_comes_last() {
    let (mut site, points) = site();
    site.fault(Fault::Poison("poison".to_owned()));
    let held = points.hold("answered");
    site.db
        .run("INSERT INTO messages (content) VALUES ('poison, to be edited'), ('poison, to be deleted'), ('poison')");
    held.wait(PATIENCE);
    site.db.run("UPDATE messages SET content = 'edited' WHERE id = 1; DELETE FROM messages WHERE id = 2");
    assert_eq!(site.db.int("SELECT autoembed.embed_pending('messages')"), 1);
    held.release();
    site.until_idle("messages");
    site.db.until("SELECT count(*) FROM autoembed.job", "0", PATIENCE);
    assert_eq!(site.db.column("SELECT key FROM autoembed.failed_jobs"), ["3"]);
    site.stub.script(Script::default());
    site.db.run("SELECT autoembed.retry_failed()");
    site.settle("messages", "content");
    site.assert_all_vectors("messages", "content");
}

/// The same with an edit that is committed between the lock that the writer takes and its commit: it has to wait, and its job
/// comes after.
#[test]
fn g02_an_edit_while_vectors_are_written() {
    let (mut site, points) = site();
    let held = points.hold("written");
    site.insert(1, 3);
    held.wait(PATIENCE);
    let mut user = site.session();
    let pid = user.int("SELECT pg_backend_pid()");
    std::thread::scope(|scope| {
        let edit = scope.spawn(move || user.run("UPDATE messages SET content = 'edited' WHERE id = 2"));
        site.db.until(&format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}"), "Lock", PATIENCE);
        held.release();
        edit.join().unwrap();
    });
    site.settle("messages", "content");
    site.until_idle("messages");
    site.assert_all_vectors("messages", "content");
}

/// A job that commits after higher numbers were claimed, finished and forgotten.
#[test]
fn g04_a_lower_number_commits_between_claim_and_end() {
    for place in PLACES {
        let (mut site, points) = site();
        let mut late = site.session();
        late.run("BEGIN; INSERT INTO messages (content) VALUES ('begun first')");
        let held = points.hold(place);
        site.db.run("INSERT INTO messages (content) SELECT 'begun later ' || i FROM generate_series(1, 5) i");
        held.wait(PATIENCE);
        late.run("COMMIT");
        held.release();
        assert_eq!(site.settle("messages", "content"), 6, "{place}");
        site.until_idle("messages");
    }
}

/// Far more higher numbers than the worker looks back at each time.
#[test]
fn g04_a_transaction_far_behind() {
    let (mut site, _points) = site();
    let mut late = site.session();
    late.run("BEGIN; INSERT INTO messages (content) VALUES ('begun first')");
    for round in 0..3 {
        site.insert(round * 2000 + 1, round * 2000 + 2000);
        site.settle("messages", "content");
    }
    late.run("COMMIT");
    assert_eq!(site.settle("messages", "content"), 6001);
}

/// A user holds one row and wants another, which the worker is about to write: nobody waits for ever, nobody is told of a
/// deadlock, whoever comes first.
#[test]
fn g06_a_user_between_the_workers_locks() {
    for place in ["claimed", "completed", "written"] {
        let (mut site, points) = site();
        site.insert(1, 5);
        site.settle("messages", "content");
        let mut user = site.session();
        // A user's write that must wait longer than this fails the test.
        user.run("SET lock_timeout = '20s'; SET deadlock_timeout = '100ms'");
        let held = points.hold(place);
        site.db.run("UPDATE messages SET content = 'edited ' || id");
        held.wait(PATIENCE);
        user.run("BEGIN");
        if place == "written" {
            // The rows are the worker's until its commit.
            let pid = user.int("SELECT pg_backend_pid()");
            std::thread::scope(|scope| {
                let write = scope.spawn(|| {
                    user.run(
                        "UPDATE messages SET note = 'a' WHERE id = 5; UPDATE messages SET note = 'b' WHERE id = 1",
                    );
                });
                let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
                site.db.until(&waits, "Lock", PATIENCE);
                held.release();
                write.join().unwrap();
            });
        } else {
            // No row is locked yet: the user does not even wait.
            user.run("SET lock_timeout = '1ms'");
            user.run("UPDATE messages SET note = 'a' WHERE id = 5");
            held.release();
            site.db.until("SELECT count(*) FROM autoembed.requests", "2", PATIENCE);
            // The worker has passed the row over; its own rows are free again.
            user.run("UPDATE messages SET note = 'b' WHERE id = 1");
        }
        user.run("COMMIT");
        site.settle("messages", "content");
        site.until_idle("messages");
        assert!(!site.cluster.log().contains("deadlock detected"), "{place}");
    }
}

/// Inserts never wait for a worker that is anywhere in its turn.
#[test]
fn g06_inserts_and_deletes_while_the_worker_stands_still() {
    for place in PLACES {
        let (mut site, points) = site();
        let held = points.hold(place);
        site.insert(1, 20);
        held.wait(PATIENCE);
        site.db.run("SET lock_timeout = '1ms'");
        site.insert(21, 40);
        site.db.run("INSERT INTO messages (content) VALUES ('one more'); DELETE FROM messages WHERE id > 40");
        if place != "written" {
            site.db.run("UPDATE messages SET content = 'edited' WHERE id = 3; DELETE FROM messages WHERE id = 4");
        }
        site.db.run("RESET lock_timeout");
        held.release();
        site.settle("messages", "content");
        site.until_idle("messages");
    }
}

/// A worker that slept longer than its lease, wherever it was: another has done its work meanwhile, and an edit went back to the
/// text that the sleeper holds.
#[test]
fn g10_a_sleeper_wakes_after_its_lease() {
    for place in BETWEEN {
        let mut site = Site::builder().test_build().setting("autoembed.lease", "1s").start();
        site.messages("");
        let points = site.cluster.points();
        let held = points.hold(place);
        site.insert(1, 4);
        held.wait(PATIENCE);
        site.db.run("UPDATE messages SET content = 'edited ' || id WHERE id <= 2");
        eventually("another session does it all", PATIENCE, || {
            site.db.int("SELECT autoembed.embed_pending('messages')");
            match site.db.int("SELECT count(*) FROM autoembed.status WHERE pending + in_flight = 0") {
                1 => Ok(()),
                _ => Err("work is left".to_owned()),
            }
        });
        site.assert_all_vectors("messages", "content");
        // Of row 4 only the vector goes: who has no lease must not bring it back.
        site.db.run("UPDATE messages SET embedding = NULL WHERE id = 4");
        held.release();
        site.marker();
        site.until_idle("messages");
        assert_eq!(
            site.db.text("SELECT string_agg(id::text, ',') FROM messages WHERE embedding IS NULL"),
            "4",
            "{place}: a worker without a lease wrote"
        );
        site.db.run("DELETE FROM messages WHERE id = 4");
        site.assert_all_vectors("messages", "content");
    }
}

/// As if another worker had claimed the jobs since, and were not done yet: the sleeper's answer counts for nothing.
#[test]
fn g10_another_holds_the_lease() {
    let (mut site, points) = site();
    let held = points.hold("answered");
    site.insert(1, 4);
    held.wait(PATIENCE);
    site.db.run(
        "UPDATE autoembed.job SET leased_until = now() + interval '1 hour', lease_token = nextval('autoembed.lease_token_seq')",
    );
    held.release();
    site.marker();
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages WHERE id <= 4"), 0, "who has no lease wrote");
    assert_eq!(
        site.db.int("SELECT count(*) FROM autoembed.job WHERE leased_until > now()"),
        4,
        "who has no lease ended a job"
    );
    site.db.run("UPDATE autoembed.job SET leased_until = now()");
    site.settle("messages", "content");
}

/// What users do to tables while the worker is at each of its places; what holds a lock then waits for the worker, and no longer.
#[test]
fn g29_tables_change_at_every_place() {
    const CHANGES: [(&str, &str); 9] = [
        ("a key", "UPDATE t SET id = id + 1000 WHERE id <= 3"),
        ("truncate", "TRUNCATE t"),
        (
            "truncate and new rows",
            "BEGIN; TRUNCATE t; INSERT INTO t SELECT i, 'new at {place} ' || i FROM generate_series(1, 3) i; COMMIT",
        ),
        ("a renamed table", "ALTER TABLE t RENAME TO renamed"),
        (
            "a renamed column",
            "ALTER TABLE t RENAME COLUMN body TO words; ALTER TABLE t RENAME COLUMN embedding TO meaning",
        ),
        ("another schema", "ALTER TABLE t SET SCHEMA elsewhere"),
        ("the vector column dropped", "ALTER TABLE t DROP COLUMN embedding CASCADE"),
        ("a dropped table", "DROP TABLE t"),
        ("rewritten", "ALTER TABLE t ADD COLUMN more double precision DEFAULT random()"),
    ];
    for place in PLACES {
        let (mut site, points) = site();
        let mut ddl = site.session();
        ddl.run("CREATE SCHEMA elsewhere; SET statement_timeout = '20s'");
        let pid = ddl.int("SELECT pg_backend_pid()");
        for (n, (what, change)) in CHANGES.into_iter().enumerate() {
            site.db.run("CREATE TABLE t (id int PRIMARY KEY, body text)");
            let id = site.enable("t", "body", "");
            let held = points.hold(place);
            site.db.run(&format!("INSERT INTO t SELECT i, 'row {n}/' || i FROM generate_series(1, 10) i"));
            held.wait(PATIENCE);
            let mut watcher = site.session();
            std::thread::scope(|scope| {
                let changed = scope.spawn(|| ddl.run(&change.replace("{place}", place)));
                eventually(&format!("{what} at {place} is done or waits"), PATIENCE, || {
                    let sql = format!(
                        "SELECT state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock' FROM pg_stat_activity WHERE pid = {pid}"
                    );
                    if watcher.text(&sql) == "f" { Ok(()) } else { Err("it runs".to_owned()) }
                });
                held.release();
                changed.join().unwrap();
            });
            // Others are served, and what can be embedded is.
            site.marker();
            let table = match what {
                "a renamed table" => "renamed",
                "another schema" => "elsewhere.t",
                _ => "t",
            };
            if what == "a dropped table" {
                site.db.until(&format!("SELECT count(*) FROM autoembed.vectorizer WHERE id = {id}"), "0", PATIENCE);
                continue;
            }
            if what == "the vector column dropped" {
                site.until_state("t", "blocked: the vector column of table");
            } else if what != "truncate" {
                let (text, vector) =
                    if what == "a renamed column" { ("words", "meaning") } else { ("body", "embedding") };
                site.settle_within(table, text, vector, seconds(60));
            }
            if what != "the vector column dropped" {
                site.until_idle(table);
            }
            assert_eq!(site.failed(table), 0, "{what} at {place}");
            site.db.run(&format!("DROP TABLE {table}"));
        }
        assert_eq!(site.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    }
}

/// Nothing is left behind by a vectorizer that goes and comes back while the worker has its rows.
#[test]
fn g29_disabled_and_enabled_again_at_every_place() {
    for place in PLACES {
        let (mut site, points) = site();
        let held = points.hold(place);
        site.insert(1, 10);
        held.wait(PATIENCE);
        let mut user = site.session();
        let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
        std::thread::scope(|scope| {
            let again = scope.spawn(|| {
                user.run("SELECT autoembed.disable('messages', drop_column => true)");
                user.run("SELECT autoembed.enable('messages', 'content', model => 'stub')");
            });
            // Where it waits for the worker's locks, the worker has to go on first.
            eventually("it is done or waits", PATIENCE, || {
                let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'autoembed-tests' AND wait_event_type = 'Lock'";
                if again.is_finished() || site.db.int(waits) > 0 { Ok(()) } else { Err("it runs".to_owned()) }
            });
            held.release();
            again.join().unwrap();
        });
        assert_eq!(site.settle("messages", "content"), 10, "{place}");
        site.until_idle("messages");
        assert_eq!(site.cluster.worker_pid(DATABASE), Some(worker), "{place}: the worker did not have to start anew");
    }
}

/// The places are where the tests believe them to be: who passes them leaves nothing held.
#[test]
fn places_are_passed_in_their_order() {
    let (mut site, points) = site();
    let all: Vec<_> = PLACES.iter().map(|place| points.hold(place)).collect();
    site.insert(1, 1);
    for held in all {
        held.wait(PATIENCE);
        held.release();
    }
    site.settle("messages", "content");
    points.at("claimed", Action::Error);
    site.insert(2, 2);
    site.settle("messages", "content");
    assert!(!points.take_back("claimed"), "the error was not met");
    assert!(site.cluster.log().contains("injected at claimed"));
}
