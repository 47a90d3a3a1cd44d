//! Fewer places for processes than databases, and workers that end at once.

use autoembed_stub::{Do, Script};
use autoembed_tests::site::{DATABASE, PATIENCE, SiteBuilder};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Builder, Cluster, Site, eventually};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Both launchers, and this many more.
fn places(more: u32) -> [(&'static str, String); 2] {
    // A parallel query would take a place.
    [("max_worker_processes", (2 + more).to_string()), ("max_parallel_workers", "0".to_owned())]
}

fn with_places(more: u32) -> Builder {
    places(more).iter().fold(Cluster::builder().preload(true), |builder, (name, value)| builder.setting(name, value))
}

fn site_with_places(more: u32) -> SiteBuilder {
    places(more).iter().fold(Site::builder(), |builder, (name, value)| builder.setting(name, value))
}

/// What psql was told besides the results of these statements, with SQLSTATEs; they are transactions of one session.
fn told(cluster: &Cluster, database: &str, statements: &[&str]) -> String {
    let mut psql = cluster.tool("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-d", database]);
    for sql in statements {
        psql.args(["-c", sql]);
    }
    let output = psql.output().expect("psql runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

/// Lines of the launcher that say that there is no place for the worker of `database`.
fn refusals(log: &str, database: &str) -> usize {
    let (sentence, name) = ("no background worker could be started", format!("\"{database}\""));
    log.lines()
        .filter(|line| line.contains("autoembed launcher") && line.contains(sentence) && line.contains(&name))
        .count()
}

#[test]
fn g18_five_databases_and_two_places() {
    let cluster = with_places(2).start();
    let names = ["one", "two", "three", "four", "five"];
    for name in names {
        cluster.client("postgres").run(&format!("CREATE DATABASE {name}"));
        cluster.client(name).run("CREATE EXTENSION autoembed CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text)");
    }
    let enable = "SELECT autoembed.enable('t', 'body')";
    let warned: Vec<String> = names.iter().map(|name| told(&cluster, name, &[enable])).collect();
    let told_off: Vec<&String> = warned.iter().filter(|told| !told.is_empty()).collect();
    assert!(told_off.len() >= 3, "two can have a worker: {warned:?}");
    for (name, told) in names.iter().zip(&warned).filter(|(_, told)| !told.is_empty()) {
        for part in ["WARNING:  53400", "max_worker_processes", &format!("database \"{name}\""), "HINT:"] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
    }
    // Each in its turn.
    let start = Instant::now();
    let mut sessions = names.map(|name| cluster.client(name));
    for db in &mut sessions {
        db.run("INSERT INTO t VALUES (1, 'a parcel that never arrived')");
    }
    for db in &mut sessions {
        db.until("SELECT count(*) FROM t WHERE embedding IS NULL", "0", PATIENCE);
    }
    drop(sessions);
    println!("a row in each of five databases with two places: {:?}", start.elapsed());
    // Once for each database, however often they have taken turns.
    let log = cluster.log();
    let lines = names.map(|name| refusals(&log, name));
    assert!(lines.iter().all(|n| *n <= 1) && lines.iter().sum::<usize>() >= 1, "{lines:?}\n{}", cluster.log_tail(30));
    const OVER: &str = "every database has a background worker again";
    assert!(!log.contains(OVER), "{}", cluster.log_tail(30));
    for name in ["three", "four", "five"] {
        cluster.client("postgres").run(&format!("DROP DATABASE {name}"));
    }
    eventually("the log tells that it is over", PATIENCE, || {
        if cluster.log().matches(OVER).count() == 1 { Ok(()) } else { Err(cluster.log_tail(5)) }
    });
    for name in ["one", "two"] {
        let _worker = cluster.wait_worker(name, PATIENCE);
    }
}

/// One place, and a database that could use it for ever: another one gets it all the same, and no text is paid for twice.
#[test]
fn g18_a_busy_worker_lets_others_have_a_turn() {
    let mut site = site_with_places(1).model("max_batch_inputs => 1, max_concurrent_requests => 2").start();
    site.messages("");
    site.stub.script(Script::always(Do::delay(Duration::from_millis(200))));
    // 50 seconds' work at least: a turn comes far sooner.
    site.insert(1, 500);
    let start = Instant::now();
    let _busy = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.cluster.client("postgres").run("CREATE DATABASE other");
    let mut other = site.cluster.client("other");
    other.run("CREATE EXTENSION autoembed CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text)");
    other.run("SELECT autoembed.enable('t', 'body'); INSERT INTO t VALUES (1, 'a parcel that never arrived')");
    other.until("SELECT embedding IS NOT NULL FROM t", "t", PATIENCE);
    let waiting = site.db.int("SELECT count(*) FROM messages WHERE embedding IS NULL");
    println!("{waiting} of 500 rows were left when the other database had its turn, after {:?}", start.elapsed());
    assert!(waiting > 0, "the first was not busy any more, which proves nothing");
    site.stub.clear();
    assert_eq!(site.settle_within("messages", "content", "embedding", PATIENCE * 2), 500);
    let inputs = site.inputs();
    let different: HashSet<&String> = inputs.iter().collect();
    assert_eq!(inputs.len(), different.len(), "texts were sent twice");
    assert_eq!(site.db.int("SELECT count(*) FROM autoembed.job WHERE attempts > 1"), 0);
    assert_eq!(site.failed("messages"), 0);
}

/// Nobody leaves for a database that has no use for the place, until a session of it asks.
#[test]
fn g18_a_database_without_the_extension_takes_nobodys_place() {
    let mut site = site_with_places(1)
        .setting("log_min_messages", "debug1")
        .model("max_batch_inputs => 1, max_concurrent_requests => 2")
        .start();
    site.messages("");
    eventually("a worker has been in the other database", PATIENCE, || {
        let log = site.cluster.log();
        let begun = log.contains("starting background worker process \"autoembed worker: postgres\"");
        if begun { Ok(()) } else { Err(site.cluster.log_tail(5)) }
    });
    site.stub.script(Script::always(Do::delay(Duration::from_millis(200))));
    site.insert(1, 150);
    let busy = site.cluster.wait_worker(DATABASE, PATIENCE);
    assert_eq!(site.settle_within("messages", "content", "embedding", PATIENCE * 2), 150);
    assert_eq!(site.cluster.worker_pid(DATABASE), Some(busy), "it has left for a database without the extension");
    // Now that one has a use for it.
    site.insert(151, 400);
    let mut other = site.cluster.client("postgres");
    other.run("CREATE EXTENSION autoembed CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text)");
    other.run("SELECT autoembed.enable('t', 'body'); INSERT INTO t VALUES (1, 'a parcel that never arrived')");
    other.until("SELECT embedding IS NOT NULL FROM t", "t", PATIENCE);
    let waiting = site.db.int("SELECT count(*) FROM messages WHERE embedding IS NULL");
    assert!(waiting > 0, "the first was not busy any more, which proves nothing");
}

/// A table that is too large to get its index within `enable()`.
const LARGE: &str = "CREATE TABLE large (id int PRIMARY KEY, body text);
     INSERT INTO large SELECT i, i || repeat(' word', 380) FROM generate_series(1, 700) i";
const BUILT: &str = "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'hnsw'";

/// No database waits for a worker then, but the process that builds has no place: an idle worker of another makes room for it.
#[test]
fn g18_databases_that_fill_all_places_have_their_indexes_built() {
    let mut site = site_with_places(2).start();
    site.cluster.client("postgres").run("CREATE DATABASE other");
    let mut other = site.cluster.client("other");
    other.run("CREATE EXTENSION autoembed CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text)");
    other.run("SELECT autoembed.enable('t', 'body')");
    let _workers = [DATABASE, "other"].map(|name| site.cluster.wait_worker(name, PATIENCE));
    site.db.run(LARGE);
    site.enable("large", "body", "");
    assert!(site.db.rows(BUILT).is_empty(), "the table is too small for this");
    site.db.until(BUILT, "t", PATIENCE * 2);
    assert_eq!(site.db.int("SELECT count(embedding) FROM large"), 700);
    // Both have their workers again, and nothing is said any more.
    other.run("INSERT INTO t VALUES (1, 'a parcel that never arrived')");
    other.until("SELECT embedding IS NOT NULL FROM t", "t", PATIENCE);
    let _workers = [DATABASE, "other"].map(|name| site.cluster.wait_worker(name, PATIENCE));
    site.until_state("large", "active");
    site.db.until("SELECT state FROM autoembed.status", "active", PATIENCE);
}

/// The worker makes room for the process that builds, in the only place that there is, and comes back. Two databases do so in turn.
#[test]
fn g18_one_place_for_workers_and_indexes() {
    let mut site = site_with_places(1).start();
    site.cluster.client("postgres").run("CREATE DATABASE other");
    let mut other = site.cluster.client("other");
    other.run("CREATE EXTENSION autoembed CASCADE");
    other.run(LARGE);
    site.db.run(LARGE);
    site.enable("large", "body", "");
    other.run("SELECT autoembed.enable('large', 'body', model => 'builtin')");
    for db in [&mut site.db, &mut other] {
        db.until(BUILT, "t", PATIENCE * 4);
        db.run("INSERT INTO large VALUES (0, 'a word')");
    }
    for db in [&mut site.db, &mut other] {
        db.until("SELECT embedding IS NOT NULL FROM large WHERE id = 0", "t", PATIENCE * 2);
    }
}

/// Where nobody can make room, people are told.
#[test]
fn g18_an_index_without_a_place_is_told_of() {
    const TOLD: &str = "active: an index waits for a process, since max_worker_processes is used up";
    // One for the server's own launcher, one for the worker.
    let mut site = Site::builder().preload(false).setting("max_worker_processes", "2").start();
    site.db.run(LARGE);
    site.enable("large", "body", "");
    site.until_state("large", TOLD);
    assert!(
        site.db.text("SELECT state FROM autoembed.progress WHERE kind = 'index'").starts_with("waits for a process")
    );
    site.db.until("SELECT autoembed.health() ->> 'healthy'", "false", PATIENCE * 4);
    let problems = site.db.text("SELECT autoembed.health() ->> 'problems'");
    assert!(problems.contains("an index has waited for a process for more than a minute"), "{problems}");
    site.db.run("SELECT autoembed.disable('large')");
    site.db.until("SELECT autoembed.health() ->> 'healthy'", "true", PATIENCE * 4);
}

/// Without a launcher nobody takes turns: who writes is told, once a session, and nothing is lost.
#[test]
fn g18_no_place_without_preloading() {
    let mut site = Site::builder().preload(false).setting("max_worker_processes", "1").start();
    let told = told(
        &site.cluster,
        DATABASE,
        &[
            "CREATE TABLE t (id int PRIMARY KEY, body text)",
            "SELECT autoembed.enable('t', 'body')",
            "DO $$ BEGIN FOR i IN 1..300 LOOP INSERT INTO t VALUES (i, 'a parcel'); COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$",
        ],
    );
    assert_eq!(told.matches("WARNING:  53400").count(), 1, "{told}");
    assert!(told.contains(&format!("database \"{DATABASE}\"")) && told.contains("max_worker_processes"), "{told}");
    assert_eq!(site.cluster.log().matches("no background worker could be started").count(), 1);
    assert_eq!(site.db.int("SELECT pending FROM autoembed.status"), 300);
    assert_eq!(site.db.int("SELECT autoembed.embed_pending()"), 300);
}

/// A worker that ends at once is started more and more rarely: here in a database without the extension.
#[test]
fn g18_a_database_without_the_extension_is_asked_more_and_more_rarely() {
    let cluster = Cluster::builder().preload(true).setting("log_min_messages", "debug1").start();
    cluster.client("postgres").run("CREATE DATABASE bare");
    let starts = || -> Vec<f64> {
        let log = cluster.log();
        let lines =
            log.lines().filter(|line| line.contains("starting background worker process \"autoembed worker: bare\""));
        lines.map(seconds_of_day).collect()
    };
    let starts = eventually("four starts", seconds(60), || {
        let starts = starts();
        if starts.len() >= 4 { Ok(starts) } else { Err(format!("{starts:?}")) }
    });
    let gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("pauses between starts: {gaps:.1?} s");
    // At least 2, 4 and 8, however late each start comes; 1 or 2 each where nothing doubles.
    assert!(gaps.iter().zip([2.0, 4.0, 8.0]).all(|(gap, least)| *gap > 0.9 * least), "{gaps:?}");
}

/// The time of a line that begins with `2026-01-31 12:34:56.789`, in seconds since midnight.
fn seconds_of_day(line: &str) -> f64 {
    let time = line.split(' ').nth(1).unwrap_or_default();
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap_or(0.0))
}
