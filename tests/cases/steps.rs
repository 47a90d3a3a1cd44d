//! Every step fails once. A test build counts the places that a process comes by (statements, commits, the steps between them),
//! and at the n-th there is an error, a panic or the end of the process: for n = 1, 2, 3, ... until a run meets none.

use autoembed_tests::points::{Action, Points};
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, eventually};

fn site() -> (Site, Points) {
    let mut site = Site::builder()
        .test_build()
        .setting("autoembed.lease", "1h")
        .setting("autoembed.poll_interval", "100ms")
        .setting("autoembed.retry_base_delay", "10ms")
        .setting("autoembed.retry_max_delay", "50ms")
        .model("max_batch_inputs => 3")
        .start();
    site.messages("");
    let points = site.cluster.points();
    (site, points)
}

/// A little of everything: rows for two requests, an edit, a text that goes, a row that goes, another table's backfill.
fn work(site: &mut Site, round: u32) {
    site.db.run(&format!(
        "INSERT INTO messages (content) SELECT 'round {round} text ' || i FROM generate_series(1, 4) i;
         UPDATE messages SET content = 'round {round} edit' WHERE id = 1 + {round} % 5;
         UPDATE messages SET content = NULL WHERE id = 2;
         DELETE FROM messages WHERE id > 8;
         SELECT autoembed.backfill('notes', force => true)"
    ));
}

fn notes(site: &mut Site) {
    site.db
        .run("CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'one note'), (2, '')");
    site.enable("notes", "body", "");
    site.settle("notes", "body");
}

/// What must hold after every round.
fn check(site: &mut Site) {
    for table in ["messages", "notes"] {
        let text = if table == "notes" { "body" } else { "content" };
        site.settle_within(table, text, "embedding", seconds(60));
        site.until_idle(table);
        assert_eq!(site.failed(table), 0);
    }
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job"), 0);
}

/// What happens at the n-th place: the `actions` in turn, at every `stride`-th one. Each round goes on from where the one before was
/// disturbed; gives the number of places.
fn every_place(actions: &[Action], stride: usize) -> u32 {
    let (mut site, points) = site();
    notes(&mut site);
    let start = site.cluster.postmaster_start_time();
    let mut n = 1;
    for action in actions.iter().cycle() {
        points.at_nth("worker", n, *action);
        work(&mut site, n);
        check(&mut site);
        if points.take_back("worker") {
            break;
        }
        n += stride as u32;
    }
    assert_eq!(site.cluster.postmaster_start_time(), start, "{actions:?} must not restart the server");
    assert!(n > 50, "only {n} places were passed");
    n
}

/// Both kinds in turn: one that is no row's fault, and one that a row may cause, which is looked for among the rows and charged to
/// nobody who did nothing.
#[test]
fn g03_an_error_at_every_statement_of_the_worker() {
    let places = every_place(&[Action::Error, Action::Fault], 1);
    println!("{places} places, an error at each");
}

#[test]
fn g08_a_panic_at_every_other_statement_of_the_worker() {
    let places = every_place(&[Action::Panic], 2);
    println!("{places} places, a panic at every other");
}

/// Between transactions nothing catches it: the process ends, with the code that restarts nobody else, and another one goes on.
#[test]
fn g08_a_panic_between_two_transactions() {
    let (mut site, points) = site();
    let start = site.cluster.postmaster_start_time();
    for (round, place) in ["answered", "committed"].into_iter().enumerate() {
        let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
        points.at(place, Action::Panic);
        site.insert(round * 3 + 1, round * 3 + 3);
        site.settle_within("messages", "content", "embedding", seconds(60));
        assert!(!points.take_back(place), "{place}");
        assert_ne!(site.cluster.worker_pid(DATABASE), Some(worker), "{place}");
    }
    assert_eq!(site.failed("messages"), 0);
    assert_eq!(site.cluster.postmaster_start_time(), start);
}

/// In a thread that calls the model a panic is that call's failure.
#[test]
fn g08_a_panic_in_the_thread_that_calls() {
    let (mut site, points) = site();
    let start = site.cluster.postmaster_start_time();
    for round in 0..3 {
        points.at("call", Action::Panic);
        site.insert(round * 3 + 1, round * 3 + 3);
        site.settle("messages", "content");
        assert!(!points.take_back("call"));
    }
    assert_eq!(site.failed("messages"), 0);
    assert_eq!(site.cluster.postmaster_start_time(), start);
}

#[test]
fn g03_the_worker_killed_at_every_step() {
    let (mut site, points) = site();
    notes(&mut site);
    // There are rows, should a worker without work die just before the first commit.
    work(&mut site, 0);
    check(&mut site);
    site.cluster.expect_crash();
    let mut n = 1;
    loop {
        let crashes = site.cluster.log().matches("was terminated by signal").count();
        // A worker that has nothing to do passes places as well, and the session must not be cut off in the middle.
        site.db.run("BEGIN");
        work(&mut site, n);
        points.at_nth("worker-steps", n, Action::Kill);
        let _ = site.db.try_rows("COMMIT");
        let is_met = eventually("the round is done, or the worker dies", seconds(60), || {
            if site.cluster.log().matches("was terminated by signal").count() > crashes {
                return Ok(true);
            }
            let idle = "SELECT FROM autoembed.status HAVING sum(pending + in_flight) = 0";
            match site.db.try_rows(idle) {
                // Unless it died since, it does not any more.
                Ok(rows) if !rows.is_empty() && points.take_back("worker-steps") => Ok(false),
                Ok(_) => Err("rows wait".to_owned()),
                Err(e) => Err(e.to_string()),
            }
        });
        if is_met {
            eventually("the server has noticed", PATIENCE, || {
                let seen = site.cluster.log().matches("reinitializing").count();
                if seen > crashes { Ok(()) } else { Err(format!("{seen} of {}", crashes + 1)) }
            });
            site.reconnect();
        }
        check(&mut site);
        if !is_met {
            break;
        }
        n += 1;
    }
    assert!(n > 15, "only {n} steps were passed");
    println!("{n} steps, kill -9 at each");
}

/// Whatever step of it fails, `enable` leaves nothing behind, and can be called again.
#[test]
fn g03_an_error_at_every_statement_of_enable() {
    const LEFT: &str = "SELECT (SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 2 AND NOT attisdropped)
        + (SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass) + (SELECT count(*) FROM pg_proc WHERE proname IN ('similar_t', 'similar_t_to'))
        + (SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND NOT indisprimary)
        + (SELECT count(*) FROM autoembed.vectorizer) + (SELECT count(*) FROM autoembed.job) + (SELECT count(*) FROM autoembed.backfill)";
    for action in [Action::Error, Action::Panic] {
        let mut site = Site::builder().test_build().start();
        let points = site.cluster.points();
        site.db.run("CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 5) i");
        let start = site.cluster.postmaster_start_time();
        let mut n = 1;
        loop {
            points.at_nth("session", n, action);
            let enabled =
                site.db.try_rows("SELECT autoembed.enable('t', 'body', model => 'stub', text_search => 'simple')");
            if enabled.is_ok() {
                break;
            }
            assert_eq!(site.db.int(LEFT), 0, "the {n}th statement failed");
            n += 1;
        }
        assert!(points.take_back("session"));
        assert!(n > 20, "only {n} places were passed");
        assert_eq!(site.cluster.postmaster_start_time(), start);
        site.settle("t", "body");
        // And back.
        let mut m = 1;
        loop {
            points.at_nth("session", m, action);
            if site.db.try_rows("SELECT autoembed.disable('t', drop_column => true)").is_ok() {
                break;
            }
            site.db.run(&format!("INSERT INTO t VALUES (100 + {m}, 'still enabled {m}')"));
            site.settle("t", "body");
            m += 1;
        }
        assert!(points.take_back("session"));
        assert_eq!(site.db.int(LEFT), 0);
        println!("{action:?}: {n} places of enable, {m} of disable");
    }
}

/// embed_pending() works in the caller's transaction: it did all, or nothing.
#[test]
fn g03_an_error_at_every_statement_of_embed_pending() {
    let (mut site, points) = site();
    site.db.run("SELECT autoembed.pause('messages')");
    site.insert(1, 4);
    site.db.run("CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 5) i");
    // A worker would do the work before.
    site.db.run("ALTER SYSTEM SET autoembed.databases = 'none'");
    site.db.run("SELECT pg_reload_conf()");
    let worker = site.cluster.worker_pid(DATABASE);
    if let Some(worker) = worker {
        site.db.run(&format!("SELECT pg_terminate_backend({worker})"));
        eventually("no worker", PATIENCE, || match site.cluster.worker_pid(DATABASE) {
            None => Ok(()),
            Some(pid) => Err(format!("{pid}")),
        });
    }
    site.enable("t", "body", "");
    let mut n = 1;
    loop {
        points.at_nth("session", n, Action::Error);
        let done = site.db.try_rows("SELECT autoembed.embed_pending('t')");
        if points.take_back("session") {
            done.unwrap();
            break;
        }
        // Errors that one row may have caused are dealt with; others are the caller's, and undo everything.
        if done.is_err() {
            assert_eq!(site.db.int("SELECT count(embedding) FROM t"), 0, "at the {n}th statement");
            assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job WHERE leased_until IS NOT NULL"), 0);
        }
        n += 1;
    }
    assert!(n > 10, "only {n} places were passed");
    eventually("all rows", PATIENCE, || {
        site.db.int("SELECT autoembed.embed_pending('t')");
        if site.db.int("SELECT count(embedding) FROM t") == 5 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    site.assert_all_vectors("t", "body");
    println!("{n} places of embed_pending");
}
