//! The harness itself, on a bare server: what the other cases rest on.

use autoembed_tests::cluster::crash_lines;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Cluster, Stop, eventually};
use std::path::Path;

#[test]
fn a_cluster_starts_answers_and_leaves_nothing() {
    let cluster = Cluster::builder().setting("work_mem", "5MB").start();
    let folder = cluster.socket_dir().to_owned();
    let pid = cluster.postmaster_pid();
    let mut db = cluster.client("postgres");
    assert_eq!(db.text("SHOW work_mem"), "5MB");
    assert_eq!(db.text("SHOW fsync"), "off");
    assert_eq!(db.text("SHOW listen_addresses"), "");
    assert_eq!(cluster.psql("postgres", "SELECT 'from psql'").trim(), "from psql");
    assert!(cluster.log().contains("database system is ready"));
    drop(db);
    drop(cluster);
    assert!(!folder.exists(), "{} is still there", folder.display());
    assert!(!process_exists(pid), "the server still runs");
}

#[test]
fn a_failing_test_leaves_nothing_either() {
    let (tell, told) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let cluster = Cluster::builder().start();
        tell.send((cluster.socket_dir().to_owned(), cluster.postmaster_pid())).unwrap();
        panic!("on purpose");
    });
    assert!(failed.join().is_err());
    let (folder, pid) = told.recv().unwrap();
    assert!(!folder.exists() && !process_exists(pid));
}

#[test]
fn nothing_of_our_environment_reaches_the_server() {
    let cluster = Cluster::builder().start();
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", cluster.postmaster_pid())).unwrap();
    assert!(environment.contains("LC_ALL=C.UTF-8"));
    for name in ["RUST_BACKTRACE", "CARGO", "PGHOST", "OPENAI"] {
        assert!(!environment.contains(name), "{name} in {environment}");
    }
}

#[test]
fn a_server_stops_and_comes_back_with_its_data() {
    let cluster = Cluster::builder().start();
    cluster.client("postgres").run("CREATE TABLE kept AS SELECT 1 AS one");
    let before = cluster.postmaster_start_time();
    for mode in [Stop::Smart, Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        assert_eq!(cluster.client("postgres").int("SELECT one FROM kept"), 1);
    }
    assert_ne!(before, cluster.postmaster_start_time());
}

#[test]
fn a_killed_backend_shows_as_a_crash() {
    let cluster = Cluster::builder().start();
    cluster.expect_crash();
    let before = cluster.postmaster_start_time();
    let pid = cluster.client("postgres").int("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    cluster.kill9(i32::try_from(pid).unwrap());
    eventually("the log tells of it", seconds(10), || {
        if crash_lines(&cluster.log()).is_empty() { Err(cluster.log_tail(3)) } else { Ok(()) }
    });
    eventually("the start counts as another", seconds(10), || {
        cluster.wait_ready(seconds(10));
        let now = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cluster.postmaster_start_time()));
        now.ok().filter(|now| *now != before).ok_or_else(|| before.clone())
    });
}

#[test]
#[should_panic(expected = "tells of a crash")]
fn a_crash_nobody_announced_fails_the_test() {
    let cluster = Cluster::builder().start();
    let pid = cluster.client("postgres").int("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    cluster.kill9(i32::try_from(pid).unwrap());
    eventually("the log tells of it", seconds(10), || {
        if crash_lines(&cluster.log()).is_empty() { Err(cluster.log_tail(3)) } else { Ok(()) }
    });
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let refused = Cluster::builder().setting("port", "no number").try_start();
    let said = refused.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains("invalid value for parameter \"port\""), "{said}");
}

#[test]
fn values_read_as_psql_shows_them() {
    let cluster = Cluster::builder().start();
    let mut db = cluster.client("postgres");
    assert_eq!(db.maybe("SELECT NULL"), None);
    assert_eq!(db.maybe("SELECT 1 WHERE false"), None);
    assert_eq!(db.column("SELECT * FROM (VALUES (1), (NULL)) v"), ["1", "NULL"]);
    assert!(db.yes("SELECT true") && !db.yes("SELECT false"));
    let error = db.error("SELECT absent FROM pg_class");
    assert_eq!(error.code, "42703");
    error.clone_with_hint("set one here, please").assert("42703", "absent");
    assert!(
        std::panic::catch_unwind(|| error.assert("42703", "absent")).is_err(),
        "an error without a hint must not pass"
    );
    assert!(std::panic::catch_unwind(|| error.clone_with_hint("set one here").assert("42704", "absent")).is_err());
    let odd = "it's \\ \"odd\" é";
    assert_eq!(db.text(&format!("SELECT {}", autoembed_tests::db::literal(odd))), odd);
}

#[test]
fn a_program_beside_a_server_ends_with_its_test() {
    let cluster = Cluster::builder().start();
    let mut program =
        cluster.beside(Path::new("/bin/sh"), &["-c", "echo $GIVEN $HOME; exec sleep 1000"], &[("GIVEN", "this")]);
    program.until("it has said what it was given", || match program_log(&cluster) {
        log if log == "this\n" => Ok(()),
        log => Err(log),
    });
    let pid = program.pid();
    assert!(process_exists(pid));
    drop(program);
    assert!(!process_exists(pid), "it still runs");
    let mut ended = cluster.beside(Path::new("/bin/sh"), &["-c", "echo why; exit 3"], &[]);
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ended.until("what never comes", || Err::<(), _>("nothing".to_owned()));
    }));
    let said = waited.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("exit status: 3") && said.contains("why"), "{said}");
}

fn program_log(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.socket_dir().join("sh.log")).unwrap_or_default()
}

trait WithHint {
    fn clone_with_hint(&self, hint: &str) -> Self;
}

impl WithHint for autoembed_tests::SqlError {
    fn clone_with_hint(&self, hint: &str) -> Self {
        Self { hint: hint.to_owned(), ..self.clone() }
    }
}

fn process_exists(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
