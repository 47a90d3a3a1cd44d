//! Crashes, restarts, and objects that go away under the worker.

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, Stop, eventually, vectors};
use nix::sys::signal::Signal;
use std::time::Instant;

#[test]
fn without_preloading() {
    let mut site = Site::builder().preload(false).start();
    assert_eq!(site.db.text("SHOW shared_preload_libraries"), "");
    site.messages("");
    site.insert(1, 20);
    site.settle("messages", "content");
    // After a restart nobody calls enable(): the first write has to bring the worker back.
    site.cluster.restart(Stop::Fast);
    site.reconnect();
    site.insert(21, 40);
    assert_eq!(site.settle("messages", "content"), 40);
    // And a second time, from a crash.
    site.cluster.restart(Stop::Immediate);
    site.reconnect();
    site.insert(41, 60);
    assert_eq!(site.settle("messages", "content"), 60);
}

#[test]
fn g09_a_worker_killed_with_a_batch_in_flight() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 300);
    site.wait_held(1);
    let before = site.cluster.postmaster_start_time();
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.cluster.expect_crash();
    site.cluster.kill9(worker);
    eventually("the server recovered from the kill", PATIENCE, || {
        if site.cluster.log().contains("reinitializing") { Ok(()) } else { Err(site.cluster.log_tail(3)) }
    });
    site.reconnect();
    let back = Instant::now();
    site.stub.release();
    assert_ne!(site.cluster.postmaster_start_time(), before);
    assert_eq!(site.settle_within("messages", "content", "embedding", seconds(60)), 300);
    println!("all 300 rows {:?} after the server was back", back.elapsed());
    site.insert(301, 310);
    assert_eq!(site.settle("messages", "content"), 310);
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn g09_another_backend_killed() {
    let mut site = Site::with_messages();
    let mut victim = site.session();
    let pid = i32::try_from(victim.int("SELECT pg_backend_pid()")).unwrap();
    site.insert(1, 50);
    site.cluster.expect_crash();
    site.cluster.kill9(pid);
    eventually("the server recovered from the kill", PATIENCE, || {
        if site.cluster.log().contains("reinitializing") { Ok(()) } else { Err(site.cluster.log_tail(3)) }
    });
    site.reconnect();
    site.insert(51, 60);
    site.settle_within("messages", "content", "embedding", seconds(60));
}

#[test]
fn g09_a_worker_that_is_terminated_comes_back() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    for round in 1..=3 {
        let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
        site.db.run(&format!("SELECT pg_terminate_backend({worker})"));
        eventually("another worker", PATIENCE, || {
            site.cluster
                .worker_pid(DATABASE)
                .filter(|pid| *pid != worker)
                .ok_or_else(|| format!("still {worker}, or none"))
        });
        site.insert(round * 10, round * 10 + 5);
        site.settle("messages", "content");
    }
}

#[test]
fn g09_a_restart_with_a_backlog() {
    let mut site = Site::with_messages();
    site.stub_gone();
    site.insert(1, 500);
    let took = site.cluster.restart(Stop::Fast);
    println!("fast stop with a backlog: {took:?}");
    assert!(took < seconds(5), "{took:?}");
    site.stub_back();
    site.reconnect();
    assert_eq!(site.settle_within("messages", "content", "embedding", PATIENCE * 2), 500);
}

#[test]
fn g09_a_crash_of_the_whole_server_with_a_backlog() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 500);
    site.wait_held(1);
    site.cluster.restart(Stop::Immediate);
    site.stub.release();
    site.reconnect();
    assert_eq!(site.settle_within("messages", "content", "embedding", seconds(60)), 500);
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn g13_a_fast_stop_during_a_hung_request() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 10);
    site.wait_held(1);
    let took = site.cluster.stop(Stop::Fast);
    println!("fast stop during a hung request: {took:?}");
    assert!(took < seconds(5), "{took:?}");
    site.cluster.start_again();
    site.stub.release();
    site.reconnect();
    site.settle_within("messages", "content", "embedding", seconds(60));
}

#[test]
fn g14_the_worker_ends_with_its_postmaster() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 10);
    site.wait_held(1);
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.cluster.expect_crash();
    site.cluster.signal(site.cluster.postmaster_pid(), Signal::SIGKILL);
    eventually("the worker is gone", seconds(10), || {
        if std::path::Path::new(&format!("/proc/{worker}")).exists() { Err("still there".to_owned()) } else { Ok(()) }
    });
    site.stub.release();
    site.cluster.start_again();
    site.reconnect();
    site.settle_within("messages", "content", "embedding", seconds(60));
}

/// A worker that slept past its lease must not complete what another session has taken over and done since.
#[test]
fn g10_a_worker_that_overslept() {
    let mut site = Site::builder().setting("autoembed.lease", "2s").start();
    site.messages("");
    site.stub.hold();
    site.insert(1, 10);
    site.wait_held(1);
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.cluster.signal(worker, Signal::SIGSTOP);
    site.stub.release();
    site.db.run("UPDATE messages SET content = 'edited ' || id WHERE id <= 5");
    eventually("another session has taken the work over", PATIENCE, || {
        site.db.int("SELECT autoembed.embed_pending('messages')");
        let (_, complaints) = vectors::compare(&mut site.db, "messages", "content", "embedding", site.dims);
        if complaints.is_empty() { Ok(()) } else { Err(format!("{complaints:?}")) }
    });
    site.db.run("UPDATE messages SET content = 'edited again ' || id WHERE id IN (1, 9)");
    site.db.int("SELECT autoembed.embed_pending('messages')");
    site.cluster.signal(worker, Signal::SIGCONT);
    site.marker();
    site.until_idle("messages");
    site.assert_all_vectors("messages", "content");
    assert_eq!(site.failed("messages"), 0);
}

#[test]
fn g16_drop_extension_during_a_request() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    site.stub.hold();
    site.insert(6, 50);
    site.wait_held(1);
    site.db.run("SET statement_timeout = '5s'; DROP EXTENSION autoembed CASCADE; RESET statement_timeout");
    site.stub.release();
    assert_eq!(site.db.int("SELECT count(embedding) FROM messages"), 5, "the vectors are the user's");
    site.db.run("INSERT INTO messages (content) VALUES ('without the extension'); UPDATE messages SET content = content || '!' WHERE id = 50");
    site.db.run("CREATE EXTENSION autoembed");
    site.create_model("stub", "");
    site.enable("messages", "content", "");
    assert_eq!(site.settle("messages", "content"), 51);
    site.insert(52, 60);
    site.settle("messages", "content");
}

#[test]
fn g16_create_extension_that_rolls_back() {
    let mut site = Site::new();
    site.cluster.client("postgres").run("CREATE DATABASE second");
    let mut second = site.cluster.client("second");
    second.run("BEGIN; CREATE EXTENSION autoembed CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text); SELECT autoembed.enable('t', 'body'); INSERT INTO t VALUES (1, 'x'); ROLLBACK");
    second.run("CREATE EXTENSION autoembed CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text); SELECT autoembed.enable('t', 'body'); INSERT INTO t VALUES (1, 'hello')");
    second.until("SELECT embedding IS NOT NULL FROM t", "t", PATIENCE);
    site.messages("");
    site.marker();
}

#[test]
fn g15_drop_database_with_an_idle_worker() {
    let mut site = Site::with_messages();
    let mut admin = site.cluster.client("postgres");
    admin.run("CREATE DATABASE doomed");
    let mut doomed = site.cluster.client("doomed");
    doomed.run("CREATE EXTENSION autoembed CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text); SELECT autoembed.enable('t', 'body'); INSERT INTO t VALUES (1, 'hello')");
    doomed.until("SELECT embedding IS NOT NULL FROM t", "t", PATIENCE);
    assert!(site.cluster.worker_pid("doomed").is_some());
    drop(doomed);
    let start = Instant::now();
    admin.run("DROP DATABASE doomed");
    println!("DROP DATABASE with an idle worker: {:?}", start.elapsed());
    site.marker();
}

#[test]
fn g15_drop_database_during_a_request() {
    let mut site = Site::with_messages();
    site.stub.hold();
    site.insert(1, 10);
    site.wait_held(1);
    let mut admin = site.cluster.client("postgres");
    site.db = site.cluster.client("postgres");
    let start = Instant::now();
    admin.run(&format!("DROP DATABASE {DATABASE}"));
    println!("DROP DATABASE during a request: {:?}", start.elapsed());
    site.stub.release();
    assert_eq!(admin.int("SELECT count(*) FROM pg_database WHERE datname = 'app'"), 0);
    eventually("no worker for a database that is gone", PATIENCE, || {
        let left = admin.int("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'autoembed worker%'");
        if left == 0 { Ok(()) } else { Err(format!("{left} workers")) }
    });
}

#[test]
fn g15_a_database_used_as_a_template_or_renamed() {
    let mut site = Site::with_messages();
    site.insert(1, 20);
    site.settle("messages", "content");
    let mut admin = site.cluster.client("postgres");
    site.db = site.cluster.client("postgres");
    admin.run(&format!("CREATE DATABASE copy TEMPLATE {DATABASE}"));
    site.db = site.cluster.client("copy");
    site.insert(21, 30);
    assert_eq!(site.settle("messages", "content"), 30);
    site.db = site.cluster.client("postgres");
    admin.run("ALTER DATABASE copy RENAME TO \"New Name\"");
    site.db = site.cluster.client("New Name");
    site.insert(31, 40);
    assert_eq!(site.settle("messages", "content"), 40);
    site.db = site.cluster.client(DATABASE);
    site.insert(100, 105);
    site.settle("messages", "content");
}

#[test]
fn g29_drop_table_with_jobs() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE doomed (id int PRIMARY KEY, body text)");
    site.enable("doomed", "body", "");
    site.stub.hold();
    site.db.run("INSERT INTO doomed SELECT i, 'doomed ' || i FROM generate_series(1, 100) i");
    site.wait_held(1);
    site.db.run("SET lock_timeout = '5s'; INSERT INTO doomed SELECT i, 'more ' || i FROM generate_series(101, 200) i; DROP TABLE doomed");
    site.stub.release();
    site.marker();
    site.db.until("SELECT count(*) FROM autoembed.status", "1", PATIENCE);
    site.db.until("SELECT coalesce(sum(pending + in_flight), 0) FROM autoembed.status", "0", PATIENCE);
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    assert_eq!(site.status("state", "messages"), "active");
    site.db.until("SELECT count(*) FROM pg_proc WHERE proname = 'similar_doomed'", "0", PATIENCE);
}

#[test]
fn g29_a_column_dropped_under_the_worker() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE half (id int PRIMARY KEY, body text)");
    site.enable("half", "body", "");
    site.db.run("INSERT INTO half VALUES (1, 'one')");
    site.settle("half", "body");
    site.db.run("ALTER TABLE half DROP COLUMN embedding CASCADE");
    // The writer must go on writing, and other tables must be served; what `half` needs is said in its state.
    site.db.run("INSERT INTO half VALUES (2, 'two')");
    site.marker();
    site.db.run("SELECT autoembed.disable('half'); INSERT INTO half VALUES (3, 'three')");
    site.marker();
}

#[test]
fn two_databases() {
    let mut site = Site::with_messages();
    site.cluster.client("postgres").run("CREATE DATABASE second");
    let mut second = site.cluster.client("second");
    second.run("CREATE EXTENSION autoembed CASCADE");
    second.run("CREATE TABLE t (id int PRIMARY KEY, body text); SELECT autoembed.enable('t', 'body')");
    site.stub.hold();
    site.insert(1, 100);
    site.wait_held(1);
    second.run("INSERT INTO t SELECT i, 'row number ' || i FROM generate_series(1, 100) i");
    second.until("SELECT count(embedding) FROM t", "100", PATIENCE);
    site.stub.release();
    site.settle("messages", "content");
    let first = site.cluster.worker_pid(DATABASE);
    assert!(first.is_some() && first != site.cluster.worker_pid("second"));
}

/// A database whose sessions read only unless they say otherwise is served like any other.
#[test]
fn a_database_that_is_read_only_by_default() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    site.db.run(&format!("ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"));
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.db.run(&format!("SELECT pg_terminate_backend({worker})"));
    eventually("a worker that has the setting", PATIENCE, || {
        site.cluster.worker_pid(DATABASE).filter(|pid| *pid != worker).ok_or_else(|| "none".to_owned())
    });
    // The session of the test is older than the setting.
    site.insert(6, 20);
    assert_eq!(site.settle("messages", "content"), 20);
    site.db.run("UPDATE messages SET content = content || ' edited' WHERE id <= 3");
    site.settle("messages", "content");
    let mut reader = site.session();
    assert_eq!(reader.text("SHOW transaction_read_only"), "on");
    assert_eq!(reader.text("SELECT content FROM similar_messages('text 9', 1)"), "text 9");
    assert_eq!(site.failed("messages"), 0);
}
