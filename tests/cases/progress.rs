//! The view progress: what is under way, how far it is, and how fast it goes.

use autoembed_stub::{Do, Fault, Script};
use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Db, Site, Stop, eventually};
use std::time::{Duration, Instant};

fn documents(site: &mut Site, rows: usize) {
    site.db.run(&format!(
        "CREATE TABLE documents (id int PRIMARY KEY, body text); INSERT INTO documents SELECT i, 'document ' || i FROM generate_series(1, {rows}) i; ANALYZE documents"
    ));
}

/// (kind, state) of each line.
fn lines(db: &mut Db) -> Vec<String> {
    db.column("SELECT kind || ': ' || state FROM autoembed.progress ORDER BY kind")
}

fn until_lines(db: &mut Db, wanted: &[&str]) {
    eventually(&format!("progress says {wanted:?}"), PATIENCE, || {
        let lines = lines(db);
        if lines == wanted { Ok(()) } else { Err(format!("{lines:?}")) }
    });
}

#[test]
fn a_backfill_and_its_index() {
    let mut site = Site::builder().model("max_batch_inputs => 100").start();
    assert_eq!(lines(&mut site.db), [""; 0], "nothing is under way");
    documents(&mut site, 12_000);
    site.stub.hold();
    site.enable("documents", "body", "");
    site.wait_held(1);
    assert_eq!(lines(&mut site.db), ["backfill: running", "index: waits for the backfill"]);
    let row = site.db.rows("SELECT source, embedding, bar, percent, rows_done, rows_total, eta FROM autoembed.progress WHERE kind = 'backfill'").remove(0);
    let empty = format!("[{}]", ".".repeat(24));
    let wanted = ["documents", "embedding", &empty, "0", "0", "12000"].map(|text| Some(text.to_owned()));
    assert_eq!(row[..6], wanted);
    site.db.run("SELECT autoembed.pause('documents')");
    assert_eq!(lines(&mut site.db), ["backfill: paused", "index: paused"]);
    site.stub.release();
    site.db.run("SELECT autoembed.resume('documents')");
    // It goes up, and never says that it is done before it is.
    let mut last = 0.0;
    let mut bars = Vec::new();
    eventually("the backfill is over", PATIENCE, || {
        let row =
            site.db.rows("SELECT percent, bar, rows_done, rows_total FROM autoembed.progress WHERE kind = 'backfill'");
        let Some(row) = row.first() else { return Ok(()) };
        let percent: f64 = row[0].as_deref().unwrap().parse().unwrap();
        assert!(percent >= last && percent < 100.0, "{percent} after {last}");
        last = percent;
        let bar = row[1].clone().unwrap();
        let marks = bar.matches('#').count();
        assert!(bar.len() == 26 && (marks as f64 - percent * 0.24).abs() <= 1.0, "{bar} at {percent}");
        if bars.last() != Some(&bar) {
            bars.push(bar);
        }
        Err(format!("{row:?}"))
    });
    assert!(bars.len() > 2, "seen only {bars:?}");
    assert_eq!(site.settle("documents", "body"), 12_000);
    // The index goes as well, and is there then.
    until_lines(&mut site.db, &[]);
    assert!(
        site.db.yes("SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid = 'documents_embedding_idx'::regclass")
    );
}

#[test]
fn what_holds_it_up() {
    let mut site = Site::new();
    documents(&mut site, 300);
    site.fault(Fault::status(500));
    site.enable("documents", "body", "");
    until_lines(&mut site.db, &["backfill: waits for the API"]);
    site.fault(Fault::status(401));
    until_lines(&mut site.db, &["backfill: blocked: see autoembed.status"]);
    site.stub.clear();
    site.db.run("SELECT pg_reload_conf()");
    site.settle("documents", "body");
    until_lines(&mut site.db, &[]);
    // Rows that users write are no backfill.
    site.stub.hold();
    site.db.run("UPDATE documents SET body = body || '.'");
    site.wait_held(1);
    assert_eq!(lines(&mut site.db), [""; 0]);
    site.stub.release();
}

#[test]
fn an_index_that_waits_for_others() {
    let mut site = Site::new();
    documents(&mut site, 500);
    site.enable("documents", "body", "index => 'none'");
    site.db.run(
        "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON documents USING (id < 5);
         CREATE ROLE auditor LOGIN BYPASSRLS; CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN; GRANT SELECT ON documents TO auditor, reader",
    );
    let mut other = site.session();
    other.run("BEGIN; INSERT INTO documents VALUES (0, 'written, and not committed')");
    let pid = other.text("SELECT pg_backend_pid()");
    // Also where it is a user who has it built.
    let mut builder = site.session();
    builder.run("SET statement_timeout = '1min'");
    std::thread::scope(|scope| {
        let building = scope.spawn(|| {
            builder.run("CREATE INDEX CONCURRENTLY by_hand ON documents USING hnsw (embedding vector_cosine_ops)");
        });
        let wanted = format!("index: waits for other transactions, now of process {pid}");
        eventually(&wanted, PATIENCE, || {
            let lines = lines(&mut site.db);
            if lines.contains(&wanted) { Ok(()) } else { Err(format!("{lines:?}")) }
        });
        // To those who see all rows, and to nobody else.
        assert!(lines(&mut site.session_as("auditor")).contains(&wanted));
        for role in ["reader", "stranger"] {
            for sql in ["SELECT * FROM autoembed.progress", "SELECT * FROM autoembed.index_builds()"] {
                assert!(site.session_as(role).rows(sql).is_empty(), "{role}: {sql}");
            }
        }
        other.run("COMMIT");
        building.join().unwrap();
    });
    // Another kind of index is no business of the view.
    site.settle("documents", "body");
    until_lines(&mut site.db, &[]);
}

/// (rows done, rows a second as the view has it) of the backfill, where there are both.
fn pace(db: &mut Db) -> Option<(f64, f64)> {
    let row = db
        .rows("SELECT rows_done, rows_per_second FROM autoembed.progress WHERE kind = 'backfill' AND eta IS NOT NULL")
        .pop()?;
    let number = |i: usize| row[i].as_deref().and_then(|text| text.parse().ok());
    Some((number(0)?, number(1)?))
}

/// The view's speed against the one that is seen from here, over some seconds.
fn assert_right(db: &mut Db, what: &str) {
    let (begun, (from, _)) = eventually("a speed is shown", PATIENCE, || {
        pace(db).map(|seen| (Instant::now(), seen)).ok_or_else(String::new)
    });
    let (took, done, shown) = eventually("it went on for three seconds", PATIENCE, || match pace(db) {
        Some((to, shown)) if begun.elapsed() > seconds(3) => Ok((begun.elapsed(), to - from, shown)),
        seen => Err(format!("{seen:?}")),
    });
    let real = done / took.as_secs_f64();
    println!("{what}: {shown:.0} rows/s shown, {real:.0} seen");
    assert!(shown > real / 2.0 && shown < real * 2.0, "{what}: {shown} shown, {real} seen");
}

/// Neither a slow start nor a night without a server makes it wrong.
#[test]
fn its_speed_is_right_soon_and_again_after_a_restart() {
    let mut site = Site::builder().model("max_batch_inputs => 40, max_concurrent_requests => 1").start();
    site.stub.script(Script::always(Do::delay(Duration::from_millis(100))));
    documents(&mut site, 9000);
    site.enable("documents", "body", "index => 'none'");
    assert_right(&mut site.db, "after the start");
    site.cluster.stop(Stop::Fast);
    // As long as what comes before it.
    std::thread::sleep(seconds(4));
    site.cluster.start_again();
    site.reconnect();
    assert_right(&mut site.db, "after the restart");
    // What nobody works at has no speed.
    site.db.run("SELECT autoembed.pause('documents')");
    site.db.until("SELECT rows_per_second FROM autoembed.progress", "NULL", PATIENCE);
    assert_eq!(lines(&mut site.db), ["backfill: paused"]);
}
