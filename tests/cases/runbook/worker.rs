//! No worker, or one that is too slow.

use super::{add, entry, over, scene, scene_with};
use autoembed_stub::{Beyond, Capacity, Limits};
use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Site, Stop, eventually};

#[test]
fn no_place_for_a_worker() {
    // The server's own launcher of logical replication, and ours.
    let mut site = Site::builder().setting("max_worker_processes", "2").start();
    site.create_model("mine", "");
    site.db.run("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)");
    site.db.run("SELECT autoembed.enable('documents', 'body', 'mine')");
    add(&mut site, 1, 20);
    let page = entry("no background worker could be started");
    page.until_shown(&mut site);
    page.until_logged(&site);
    site.db.run(&page.command("embed_pending", &[]));
    site.settle("documents", "body");
    add(&mut site, 21, 40);
    page.until_shown(&mut site);
    site.db.run(&page.command("ALTER SYSTEM", &[]));
    site.cluster.restart(Stop::Fast);
    site.reconnect();
    over(&mut site);
}

#[test]
fn no_place_for_an_index() {
    // The server's own launcher of logical replication, and the worker.
    let mut site = Site::builder().preload(false).setting("max_worker_processes", "2").start();
    site.create_model("mine", "");
    site.db.run(
        "CREATE TABLE documents (id int PRIMARY KEY, title text, body text);
         INSERT INTO documents SELECT i, 'title', i || repeat(' word', 380) FROM generate_series(1, 700) i",
    );
    site.db.run("SELECT autoembed.enable('documents', 'body', 'mine')");
    let page = entry("an index waits for a process");
    page.until_shown(&mut site);
    site.db.run(&page.command("ALTER SYSTEM", &[]));
    site.cluster.restart(Stop::Fast);
    site.reconnect();
    add(&mut site, 701, 702);
    over(&mut site);
}

#[test]
fn a_database_that_is_left_out() {
    let mut site = Site::builder().setting("autoembed.databases", "shop").start();
    site.create_model("mine", "");
    site.db.run("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)");
    site.db.run("SELECT autoembed.enable('documents', 'body', 'mine')");
    add(&mut site, 1, 20);
    let page = entry("SHOW autoembed.databases");
    page.until_shown(&mut site);
    assert_eq!(site.db.text("SHOW autoembed.databases"), "shop");
    // What the test's own configuration file says is what RESET would bring back.
    site.db.run("ALTER SYSTEM SET autoembed.databases = 'shop'");
    for sql in ["ALTER SYSTEM", "pg_reload_conf"] {
        let sql = page.command(sql, &[]);
        site.db.run(&sql.replace("RESET autoembed.databases", "SET autoembed.databases = 'shop, app'"));
    }
    over(&mut site);
}

#[test]
fn a_server_that_was_restarted_without_preloading() {
    let mut site = scene(Site::builder().preload(false).start());
    site.stub.hold();
    add(&mut site, 11, 30);
    site.wait_held(1);
    site.cluster.restart(Stop::Immediate);
    site.reconnect();
    site.stub.release();
    let page = entry("SHOW shared_preload_libraries");
    page.until_shown(&mut site);
    site.db.run(&page.command("resume", &[]));
    over(&mut site);
}

#[test]
fn a_row_that_brings_the_worker_down() {
    let mut site = scene(Site::builder().setting("autoembed.max_attempts", "1").start());
    let page = entry("was terminated by signal");
    let failed = super::entry("worker_died");
    site.cluster.expect_crash();
    site.stub.hold();
    add(&mut site, 11, 11);
    site.wait_held(1);
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.cluster.kill9(worker);
    page.until_logged(&site);
    eventually("the server is back", PATIENCE, || {
        site.cluster.wait_ready(PATIENCE);
        site.db = site.cluster.client(DATABASE);
        site.db.try_rows("SELECT 1").map(drop).map_err(|e| e.to_string())
    });
    site.db.until("SELECT string_agg(code, ',') FROM autoembed.failed_jobs", "worker_died", PATIENCE);
    assert!(failed.says("worker_died"));
    site.stub.release();
    failed.run(&mut site.db, &[]);
    over(&mut site);
}

/// Down it goes as soon as it has read the row, so that nothing of what it had begun is left; the other rows are not given up with it.
#[test]
fn g19_a_row_that_brings_the_worker_down_as_it_is_read() {
    let mut site = Site::new();
    site.cluster.expect_crash();
    site.db.run(
        "CREATE TABLE documents (id int PRIMARY KEY, title text, body text);
         CREATE FUNCTION die() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
         END $$;
         CREATE FUNCTION deadly(body text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
             IF body = 'killer' THEN PERFORM public.die(); END IF;
             RETURN body;
         END $$",
    );
    site.enable("documents", "deadly(body)", "");
    site.db.run(
        "INSERT INTO documents SELECT i, 'title', CASE WHEN i = 77 THEN 'killer' ELSE 'body ' || i END FROM generate_series(1, 128) i",
    );
    eventually("one row is given up", PATIENCE * 3, || {
        let code = |db: &mut autoembed_tests::Db| {
            db.try_rows("SELECT string_agg(code || ' ' || key, ',') FROM autoembed.failed_jobs")
                .map_err(|e| e.to_string())
        };
        let seen = site
            .cluster
            .try_client_as(DATABASE, "postgres")
            .map_err(|e| e.to_string())
            .and_then(|mut db| code(&mut db))?;
        if seen[0][0].as_deref() == Some("worker_died 77") { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    site.reconnect();
    println!("{} crashes", site.cluster.postmaster_start_time());
    site.db.run("UPDATE documents SET body = 'harmless' WHERE id = 77");
    over(&mut site);
}

#[test]
fn paused_and_forgotten() {
    let mut site = scene(Site::new());
    site.db.run("SELECT autoembed.pause('documents')");
    add(&mut site, 11, 30);
    let page = entry("`paused`");
    page.until_shown(&mut site);
    site.db.until("SELECT pending FROM autoembed.status", "20", PATIENCE);
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn rows_that_come_faster_than_the_model() {
    let mut site = scene_with(Site::new(), "max_concurrent_requests => 1, max_batch_inputs => 1");
    let capacity = Capacity { at_once: 100, latency_ms: 200, beyond: Beyond::Slower };
    site.stub.limits(Limits { capacity: Some(capacity), ..Limits::default() });
    add(&mut site, 11, 400);
    let page = entry("while `rows_per_second` is above 0");
    page.until_shown(&mut site);
    site.db.until_true(
        "(SELECT oldest_pending_age > '2 s' AND rows_per_second > 0 AND eta > '10 s' FROM autoembed.status)",
        "SELECT * FROM autoembed.status",
        PATIENCE,
    );
    page.run(&mut site.db, &[]);
    over(&mut site);
}

#[test]
fn rows_that_no_trigger_saw() {
    let mut site = scene(Site::new());
    site.db.run("SET session_replication_role = replica");
    add(&mut site, 11, 30);
    site.db.run("RESET session_replication_role");
    let page = entry("`pending` is 0");
    page.until_shown(&mut site);
    let count = super::code(page.says).find(|sql| sql.starts_with("SELECT")).unwrap();
    assert_eq!(site.db.int(count), 20);
    page.run(&mut site.db, &[]);
    over(&mut site);
    assert_eq!(site.db.int(count), 0);
}

#[test]
fn a_table_that_somebody_has_locked() {
    let mut site = scene(Site::new());
    let mut other = site.session();
    add(&mut site, 11, 20);
    other.run("BEGIN; LOCK TABLE documents IN SHARE MODE");
    let rows = "INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT id, 0, '1' FROM autoembed.vectorizer";
    site.db.run(rows);
    let page = entry("waiting for a lock");
    page.until_shown(&mut site);
    let held = site.db.rows(&page.command("FROM pg_locks", &[])).remove(0);
    let pid = held[0].clone().unwrap();
    assert_eq!(pid, other.text("SELECT pg_backend_pid()"));
    site.db.run(&page.command("pg_terminate_backend", &[("12345", &pid)]));
    over(&mut site);
}

#[test]
fn an_old_snapshot() {
    let mut site = scene(Site::new());
    let mut other = site.session();
    other.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM documents");
    let page = entry("n_dead_tup");
    let dead = super::code(page.says).find(|sql| sql.starts_with("SELECT")).unwrap();
    for n in 0..10 {
        add(&mut site, 1000 * (n + 1), 1000 * (n + 1) + 300);
        site.settle("documents", "body");
    }
    site.db.until_true(&format!("({dead}) > 3000"), dead, PATIENCE);
    site.db.run("VACUUM autoembed.job");
    site.db.until_true(&format!("({dead}) > 3000"), dead, PATIENCE);
    page.until_shown(&mut site);
    let oldest = site.db.rows(&page.command("ORDER BY age(backend_xmin)", &[])).remove(0);
    let pid = oldest[0].clone().unwrap();
    assert_eq!(pid, other.text("SELECT pg_backend_pid()"));
    site.db.run(&page.command("pg_terminate_backend", &[("12345", &pid)]));
    site.db.until(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"), "0", PATIENCE);
    site.db.run(&page.command("VACUUM", &[]));
    site.db.until_true(&format!("({dead}) < 1000"), dead, PATIENCE);
    over(&mut site);
}

/// An error of the extension's own tables.
#[test]
fn a_step_that_fails() {
    let mut site = scene(Site::new());
    site.db.run("ALTER TABLE autoembed.request ADD CONSTRAINT refusing CHECK (inputs < 0) NOT VALID");
    add(&mut site, 11, 20);
    entry("a step failed").until_logged(&site);
    site.db.run("ALTER TABLE autoembed.request DROP CONSTRAINT refusing");
    over(&mut site);
}
