//! A standby is quiet and can be searched; a promoted one goes on. A standby that is missed holds nobody up but users who wait
//! for it.

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::wait::seconds;
use autoembed_tests::{Cluster, Site, Stop, eventually, vectors};

/// Lines of the log that the extension has written, or its processes.
fn own_lines(cluster: &Cluster) -> Vec<String> {
    cluster.log().lines().filter(|line| line.contains("autoembed")).map(str::to_owned).collect()
}

fn standby_and_promotion(preload: bool) {
    let mut site = Site::builder().preload(preload).start();
    site.messages("");
    site.insert(1, 50);
    site.settle("messages", "content");
    site.until_idle("messages");
    // A backlog: some rows are in hand of the worker, others are not.
    site.stub.hold();
    site.insert(51, 300);
    site.wait_held(1);
    let standby = site.cluster.standby();
    let caught_up = site.db.text("SELECT pg_current_wal_lsn()");
    let mut db = standby.client(DATABASE);
    db.until_true(&format!("pg_last_wal_replay_lsn() >= '{caught_up}'::pg_lsn"), "", PATIENCE);
    assert_eq!(db.int("SELECT count(*) FROM messages"), 300);
    site.cluster.stop(Stop::Immediate);
    site.stub.release();
    site.stub.reset_stats();

    // It can be looked at and searched.
    assert_eq!(db.int("SELECT pending + in_flight FROM autoembed.status"), 250);
    assert_eq!(db.text("SELECT state FROM autoembed.status"), "active");
    assert_eq!(db.text("SELECT content FROM similar_messages('text 7', 1)"), "text 7");
    assert!(db.text("SELECT autoembed.embed('a text', 'builtin')").starts_with('['));
    assert_eq!(db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    assert_eq!(db.text("SELECT state FROM autoembed.job_status('messages', '7')"), "embedded");
    assert!(
        ["waiting", "in_flight"]
            .contains(&db.text("SELECT state FROM autoembed.job_status('messages', '70')").as_str())
    );
    assert!(
        db.yes(
            "SELECT (h -> 'healthy')::boolean AND (h -> 'waiting')::int + (h -> 'active')::int = 250 FROM autoembed.health() h"
        )
    );
    assert_eq!(db.int("SELECT rows FROM autoembed.stats()"), 50);
    let page = db.text("SELECT autoembed.report()");
    assert!(page.contains("on a standby") && page.contains("50 rows in all"), "{page}");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.progress"), 0);
    db.error("INSERT INTO messages (content) VALUES ('new')");
    db.error("SELECT autoembed.backfill('messages')");
    db.error("SELECT autoembed.pause('messages')");
    assert_eq!(site.inputs(), ["text 7"], "only the search asked the model");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.workers"), 0);
    let lines = own_lines(&standby);
    let told: Vec<&String> =
        lines.iter().filter(|line| !line.contains("ERROR") && !line.contains("STATEMENT")).collect();
    let told: Vec<_> = told.iter().filter(|line| !line.contains("LOCATION") && !line.contains("HINT")).collect();
    assert!(told.len() <= 1, "a standby is to be quiet: {told:#?}");

    standby.promote();
    if !preload {
        // Nobody wakes a worker before the first write.
        db.run("INSERT INTO messages (content) VALUES ('text 301')");
    }
    let rows = vectors::until_all_vectors(&mut db, "messages", "content", "embedding", site.dims, PATIENCE * 2);
    assert_eq!(rows, if preload { 300 } else { 301 });
    db.until("SELECT pending + in_flight FROM autoembed.status", "0", PATIENCE);
    let again = site.inputs().into_iter().skip(1).filter(|text| site_has(text, 50)).count();
    assert_eq!(again, 0, "rows that had their vectors were embedded again");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
}

/// Whether it is one of the texts `text 1` to `text <n>`.
fn site_has(text: &str, n: usize) -> bool {
    text.strip_prefix("text ").and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| number <= n)
}

#[test]
fn g33_a_standby_is_quiet_and_a_promoted_one_goes_on() {
    standby_and_promotion(true);
}

#[test]
fn g33_the_same_without_preloading() {
    standby_and_promotion(false);
}

/// A synchronous standby that is not there: users' commits wait for it, the worker's do not.
#[test]
fn g35_a_missing_synchronous_standby() {
    let mut site = Site::with_messages();
    site.insert(1, 5);
    site.settle("messages", "content");
    site.db.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    site.db.run("SELECT pg_reload_conf()");
    site.db.until("SHOW synchronous_standby_names", "nobody", PATIENCE);
    site.db.run("SET synchronous_commit = local");
    // A worker that is started now has no other settings, nor has the builder of an index.
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.db.run(&format!("SELECT pg_terminate_backend({worker})"));
    eventually("another worker", PATIENCE, || {
        site.cluster.worker_pid(DATABASE).filter(|pid| *pid != worker).ok_or_else(|| "none".to_owned())
    });
    site.db.run(
        "CREATE TABLE full_table (id int PRIMARY KEY, body text, embedding vector(16));
         INSERT INTO full_table SELECT i, 'row ' || i, ARRAY(SELECT random() FROM generate_series(1, 16) WHERE i = i)::vector(16)
             FROM generate_series(1, 10100) i;
         ANALYZE full_table",
    );
    site.enable("full_table", "body", "backfill => false");
    site.db.until(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'full_table'::regclass AND indisvalid AND NOT indisprimary",
        "1",
        PATIENCE * 2,
    );
    // The scene: who does not say so, waits.
    let mut user = site.session();
    let pid = user.int("SELECT pg_backend_pid()");
    let hung = std::thread::spawn(move || {
        // It is ended by the stop of the server.
        let _ = user.try_rows("INSERT INTO messages (content) VALUES ('text 6')");
    });
    let waiting = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
    site.db.until(&waiting, "SyncRep", PATIENCE);
    site.insert(7, 100);
    site.db.until("SELECT count(embedding) FROM messages WHERE content <> 'text 6'", "99", PATIENCE);
    let took = site.cluster.stop(Stop::Fast);
    println!("fast stop without the standby: {took:?}");
    assert!(took < seconds(5), "{took:?}");
    hung.join().unwrap();
}
