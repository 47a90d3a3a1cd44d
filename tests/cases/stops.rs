//! The worker, and the process that builds an index, leave when they are told to or are in the way, whatever they are at.

use autoembed_tests::site::{DATABASE, PATIENCE, SiteBuilder};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Db, Site, Stop, eventually};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How long leaving may take. The worker waits up to 5 seconds for a lock, DROP DATABASE 5 seconds for it to leave.
const SOON: Duration = seconds(4);

fn gone(pid: i32, what: &str) {
    eventually(&format!("{what} is gone"), SOON, || {
        if std::path::Path::new(&format!("/proc/{pid}")).exists() { Err("still there".to_owned()) } else { Ok(()) }
    });
}

/// SIGTERM to the worker; it ends soon, and another one comes.
fn terminate_worker(site: &Site, what: &str) {
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.cluster.client("postgres").run(&format!("SELECT pg_terminate_backend({worker})"));
    gone(worker, what);
    eventually("another worker", PATIENCE, || {
        site.cluster.worker_pid(DATABASE).filter(|pid| *pid != worker).ok_or_else(|| "none".to_owned())
    });
}

fn stop_and_start(site: &mut Site, mode: Stop, what: &str) {
    let took = site.cluster.stop(mode);
    println!("{mode:?} stop while {what}: {took:?}");
    assert!(took < SOON, "{took:?}");
    site.cluster.start_again();
    site.reconnect();
}

#[test]
fn g13_stops_while_the_worker_waits_for_a_lock() {
    let mut site = Site::builder().setting("max_prepared_transactions", "2").start();
    site.messages("");
    site.stub_gone();
    site.insert(1, 20);
    // A prepared transaction: no session whose end would free the lock.
    site.db.run("BEGIN; LOCK TABLE autoembed.job; PREPARE TRANSACTION 'in the way'");
    let wait = |site: &mut Site| {
        let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
        site.db.until(
            &format!("SELECT count(*) > 0 FROM pg_locks WHERE pid = {worker} AND NOT granted"),
            "t",
            PATIENCE,
        );
    };
    wait(&mut site);
    terminate_worker(&site, "a worker that waits for a lock");
    for mode in [Stop::Fast, Stop::Immediate] {
        wait(&mut site);
        stop_and_start(&mut site, mode, "the worker waits for a lock");
    }
    site.db.run("ROLLBACK PREPARED 'in the way'");
    site.stub_back();
    assert_eq!(site.settle_within("messages", "content", "embedding", PATIENCE * 2), 20);
}

#[test]
fn g13_a_worker_that_is_terminated_during_a_request() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 10);
    site.wait_held(1);
    terminate_worker(&site, "a worker that waits for an answer");
    eventually("the new worker has asked", PATIENCE, || match site.stub.stats().requests {
        n if n >= 2 => Ok(()),
        n => Err(format!("{n} requests")),
    });
    stop_and_start(&mut site, Stop::Immediate, "a request hangs");
    site.stub.release();
    assert_eq!(site.settle_within("messages", "content", "embedding", PATIENCE * 2), 10);
    assert_eq!(site.failed("messages"), 0);
}

/// A scene with a table that is full of vectors, and whose index takes far longer than any of these tests.
fn slow_index() -> SiteBuilder {
    Site::builder().setting("maintenance_work_mem", "1MB").setting("max_parallel_maintenance_workers", "0")
}

fn start_index(site: &mut Site) {
    site.db.run(
        "CREATE TABLE library (id int PRIMARY KEY, body text, embedding vector(16));
         INSERT INTO library SELECT i, 'book ' || i, ARRAY(SELECT random() FROM generate_series(1, 16) WHERE i = i)::vector(16)
             FROM generate_series(1, 60000) i;
         ANALYZE library",
    );
    site.enable("library", "body", "backfill => false");
    builder(&mut site.db);
}

/// Waits until the index is being built; the process that does it.
fn builder(db: &mut Db) -> i32 {
    let building = "SELECT p.pid FROM pg_stat_progress_create_index p JOIN autoembed.workers w ON w.pid = p.pid AND w.kind = 'indexer'
        WHERE p.phase LIKE 'building index%' AND p.tuples_done > 0 OR p.phase LIKE 'building index: loading tuples%'";
    eventually("an index is being built", PATIENCE * 2, || {
        let pid = db
            .maybe(building)
            .ok_or_else(|| format!("{:?}", db.rows("SELECT pid, phase FROM pg_stat_progress_create_index")))?;
        pid.parse().map_err(|_| pid)
    })
}

fn indexes(db: &mut Db) -> i64 {
    db.int("SELECT count(*) FROM pg_index WHERE indrelid = 'library'::regclass AND indisvalid AND NOT indisprimary")
}

#[test]
fn g13_stops_during_the_build_of_an_index() {
    let mut site = slow_index().start();
    site.messages("");
    start_index(&mut site);
    // The worker goes on beside it, and may end beside it.
    site.marker();
    terminate_worker(&site, "a worker while an index is built");
    site.marker();
    let first = builder(&mut site.db);
    site.db.run(&format!("SELECT pg_terminate_backend({first})"));
    gone(first, "a process that builds an index");
    // The worker looks once a minute, and when the table is changed.
    site.db.run("ALTER TABLE library ADD more int");
    assert_ne!(builder(&mut site.db), first, "what was broken off is built anew");
    stop_and_start(&mut site, Stop::Fast, "an index is built");
    builder(&mut site.db);
    stop_and_start(&mut site, Stop::Immediate, "an index is built");
    assert_eq!(indexes(&mut site.db), 0, "the builds were over, which proves nothing");
    assert_eq!(site.status("state", "library"), "active");
    site.marker();
}

/// The launcher, an idle worker and a process in the middle of an index: none outlives the server's main process, which could not
/// be started again before they are gone.
#[test]
fn g14_every_process_ends_with_its_postmaster() {
    let mut site = slow_index().start();
    start_index(&mut site);
    let pids = site.db.column("SELECT pid FROM autoembed.workers");
    assert_eq!(pids.len(), 3, "launcher, worker, indexer");
    site.cluster.expect_crash();
    site.cluster.signal(site.cluster.postmaster_pid(), Signal::SIGKILL);
    let start = Instant::now();
    for pid in pids {
        gone(pid.parse().unwrap(), "a process of the extension");
    }
    println!("all gone {:?} after the postmaster", start.elapsed());
    site.cluster.start_again();
    site.reconnect();
    builder(&mut site.db);
}

#[test]
fn g15_a_database_wanted_during_the_build_of_an_index() {
    let mut site = slow_index().start();
    start_index(&mut site);
    let mut admin = site.cluster.client("postgres");
    for wanted in [
        format!("CREATE DATABASE copy TEMPLATE {DATABASE}"),
        format!("ALTER DATABASE {DATABASE} RENAME TO renamed"),
        "DROP DATABASE renamed".to_owned(),
    ] {
        let name = if wanted.starts_with("DROP") { "renamed" } else { DATABASE };
        let mut db = site.cluster.client(name);
        builder(&mut db);
        assert_eq!(indexes(&mut db), 0, "the build was over, which proves nothing");
        drop(db);
        site.db = site.cluster.client("postgres");
        let start = Instant::now();
        admin.run(&wanted);
        println!("{wanted}: {:?}", start.elapsed());
    }
    // The copy builds its own.
    builder(&mut site.cluster.client("copy"));
}

#[test]
fn g15_a_database_renamed_or_copied_during_a_request() {
    let mut site = Site::with_messages();
    let mut admin = site.cluster.client("postgres");
    let mut name = DATABASE;
    let mut last = 0;
    for (wanted, after) in [
        ("CREATE DATABASE copy TEMPLATE app", "app"),
        ("ALTER DATABASE app RENAME TO \"New Name\"", "New Name"),
        ("CREATE DATABASE another TEMPLATE copy", "New Name"),
    ] {
        site.db = site.cluster.client(name);
        site.stub.hold();
        site.insert(last + 1, last + 10);
        last += 10;
        site.wait_held(1);
        site.db = site.cluster.client("postgres");
        let start = Instant::now();
        admin.run(wanted);
        println!("{wanted}: {:?}", start.elapsed());
        site.stub.release();
        name = after;
        site.db = site.cluster.client(name);
        assert_eq!(site.settle("messages", "content"), last);
        assert_eq!(site.failed("messages"), 0);
    }
    // The copies have the jobs that were under way, and do them for themselves.
    for copy in ["copy", "another"] {
        site.db = site.cluster.client(copy);
        assert_eq!(site.settle("messages", "content"), 10);
    }
}

/// DROP DATABASE of any database waits until every process of the server has taken note, at work or not.
#[test]
fn g15_another_database_dropped_while_the_worker_is_busy() {
    let mut site = Site::builder().model("max_batch_inputs => 4").start();
    site.messages("");
    site.cluster.client("postgres").run("CREATE DATABASE doomed");
    site.insert(1, 6000);
    site.db.until_true("(SELECT count(embedding) FROM messages) > 0", "", PATIENCE);
    let mut admin = site.cluster.client("postgres");
    let start = Instant::now();
    admin.run("DROP DATABASE doomed");
    let took = start.elapsed();
    let left = site.db.int("SELECT count(*) FROM messages WHERE embedding IS NULL");
    println!("DROP DATABASE of another while {left} rows are being embedded: {took:?}");
    assert!(left > 0, "the worker was not busy any more, which proves nothing");
    assert!(took < seconds(5), "{took:?}");
    // And while it waits for an answer.
    site.db.run("DELETE FROM messages WHERE embedding IS NULL");
    site.until_idle("messages");
    site.stub.hold();
    site.insert(7001, 7010);
    site.wait_held(1);
    admin.run("CREATE DATABASE doomed");
    let start = Instant::now();
    admin.run("DROP DATABASE doomed");
    assert!(start.elapsed() < seconds(5), "{:?}", start.elapsed());
    site.stub.release();
    site.settle("messages", "content");
}

fn first_vector(preload: bool) {
    let cluster = autoembed_tests::Cluster::builder().preload(preload).start();
    let mut db = cluster.client("postgres");
    db.run("CREATE TABLE t (id int PRIMARY KEY, body text)");
    let start = Instant::now();
    db.run("CREATE EXTENSION autoembed CASCADE");
    db.run("SELECT autoembed.enable('t', 'body')");
    db.run("INSERT INTO t VALUES (1, 'a parcel that never arrived')");
    db.until("SELECT embedding IS NOT NULL FROM t", "t", PATIENCE);
    println!("from CREATE EXTENSION to the first vector, preloaded {preload}: {:?}", start.elapsed());
    assert!(start.elapsed() < seconds(5), "{:?}", start.elapsed());
}

#[test]
fn g17_the_first_vector_soon_after_create_extension() {
    first_vector(true);
}

#[test]
fn g17_the_first_vector_without_preloading() {
    first_vector(false);
}
