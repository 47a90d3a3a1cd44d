//! Tables whose shape is changed after `enable`: the state says what is wrong and what to do, and doing it helps.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Site, eventually};
use std::time::{Duration, Instant};

/// `notes (id, body)` with ten rows that have their vectors; `messages` for markers.
fn notes() -> Site {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    site.enable("notes", "body", "index => 'none'");
    site.db.run("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 10) i");
    site.settle("notes", "body");
    site.until_idle("notes");
    site
}

#[test]
fn a_column_of_other_dimensions_than_the_model() {
    let mut site = notes();
    site.db.run("ALTER TABLE notes ALTER COLUMN embedding TYPE vector(8) USING NULL");
    site.stub.reset_stats();
    site.db.run("UPDATE notes SET body = body || ' edited'");
    let state = site.until_state("notes", "blocked: ");
    println!("state with a column of other dimensions: {state}");
    assert!(state.contains("8 dimensions") && state.contains("16"), "{state}");
    for _ in 0..3 {
        site.marker();
    }
    assert_eq!(site.inputs(), Vec::<String>::new(), "the API was called for vectors that do not fit");
    site.db.run("ALTER TABLE notes ALTER COLUMN embedding TYPE vector(16) USING NULL");
    assert_eq!(site.settle("notes", "body"), 10);
    site.until_state("notes", "active");
    assert_eq!(site.failed("notes"), 0);
}

#[test]
fn a_trigger_dropped_with_its_key() {
    let mut site = notes();
    site.db.run("ALTER TABLE notes DROP COLUMN id CASCADE; ALTER TABLE notes ADD COLUMN number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notes'::regclass AND NOT tgisinternal";
    assert!(site.db.int(triggers) < 2, "no trigger went with the column");
    site.db.run("UPDATE notes SET body = body || ' edited unseen' WHERE number <= 5; INSERT INTO notes (body) VALUES ('a new note')");
    let state = site.until_state("notes", "blocked: ");
    println!("state with a trigger dropped: {state}");
    assert!(state.contains("trigger") && state.contains("autoembed.disable()") && state.contains("autoembed.enable()"));
    site.marker();
    site.db.run("SELECT autoembed.disable('notes')");
    site.enable("notes", "body", "index => 'none'");
    site.db.run("SELECT autoembed.backfill('notes', force => true)");
    assert_eq!(site.settle("notes", "body"), 11);
    site.db.run("UPDATE notes SET body = body || ' edited and seen'");
    assert_eq!(site.settle("notes", "body"), 11);
    assert_eq!(site.status("state", "notes"), "active");
}

#[test]
fn a_table_that_becomes_a_partition() {
    let mut site = Site::with_messages();
    site.db.run("CREATE TABLE logs_a (region text, id int, content text, PRIMARY KEY (region, id))");
    site.enable("logs_a", "content", "index => 'none'");
    site.db.run("INSERT INTO logs_a SELECT 'a', i, 'log ' || i FROM generate_series(1, 10) i");
    site.settle("logs_a", "content");
    site.db.run(
        "CREATE TABLE logs (LIKE logs_a, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b');
         ALTER TABLE logs ATTACH PARTITION logs_a FOR VALUES IN ('a')",
    );
    site.db.run("INSERT INTO logs_a VALUES ('a', 11, 'into the partition')");
    let state = site.until_state("logs_a", "blocked: ");
    println!("state of a table that became a partition: {state}");
    assert!(
        state.contains("partition") && state.contains("autoembed.disable()") && state.contains("autoembed.enable()")
    );
    site.marker();
    site.db.run("SELECT autoembed.disable('logs_a')");
    site.enable("logs", "content", "index => 'none'");
    site.db.run("INSERT INTO logs VALUES ('a', 12, 'through the root'), ('b', 1, 'into another')");
    assert_eq!(site.settle("logs", "content"), 13);
    site.db.until("SELECT string_agg(state, ',' ORDER BY state) FROM autoembed.status", "active,active", PATIENCE);
}

/// The same without a write that any trigger sees: the stale rows must not look well.
#[test]
fn a_trigger_dropped_and_only_updates_after_it() {
    let mut site = notes();
    site.db.run("ALTER TABLE notes DROP COLUMN id CASCADE; ALTER TABLE notes ADD COLUMN number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
    site.db.run("UPDATE notes SET body = body || ' edited unseen'");
    let state = site.until_state("notes", "blocked: ");
    assert!(state.contains("trigger"), "{state}");
}

/// Sessions that make temporary tables cost the worker nothing, however many tables it works for; what is done to its own tables
/// it sees at once, in partitions too.
#[test]
fn g28_tables_of_others_are_not_looked_after() {
    const TABLES: i64 = 60;
    // Each look at a vectorizer reads its state, three times or so.
    const MOST_SCANS: i64 = 4;
    const LOOKS: &str = "SELECT seq_scan + COALESCE(idx_scan, 0) FROM pg_stat_all_tables WHERE relid = 'autoembed.vectorizer_state'::regclass";
    let mut site = Site::builder().start();
    site.db.run(&format!(
        "DO $$BEGIN FOR i IN 1..{TABLES} LOOP
           EXECUTE format('CREATE TABLE t_%s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)', i);
           PERFORM autoembed.enable(format('t_%s', i)::regclass, 'body', model => 'stub', index => 'none');
         END LOOP; END$$;
         CREATE TABLE parted (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (1000)"
    ));
    site.enable("parted", "body", "");
    site.db.run("INSERT INTO t_1 (body) VALUES ('a text'); INSERT INTO parted VALUES (1, 'another')");
    site.settle("t_1", "body");
    site.settle("parted", "body");
    let mut before = -1;
    eventually("the worker has looked at all of them", PATIENCE, || {
        let now = site.db.int(LOOKS);
        let is_still = now >= TABLES && now == std::mem::replace(&mut before, now);
        std::thread::sleep(seconds(2));
        if is_still { Ok(()) } else { Err(now.to_string()) }
    });
    // A look at one is counted.
    site.db.run("ALTER TABLE t_2 ADD more int");
    site.db.until(&format!("SELECT ({LOOKS}) > {before}"), "t", PATIENCE);
    let begun = Instant::now();
    while begun.elapsed() < seconds(10) {
        site.db.run("CREATE TEMP TABLE x (a int); DROP TABLE x; ANALYZE autoembed.job");
        std::thread::sleep(Duration::from_millis(100));
    }
    let looks = site.db.int(LOOKS) - before;
    println!("{looks} scans in ten seconds of temporary tables beside {TABLES} vectorizers");
    // All may have been looked at twice, not ten times.
    assert!(looks < 3 * MOST_SCANS * TABLES, "{looks}");
    site.db.run("ALTER TABLE t_3 DISABLE TRIGGER ALL; ALTER TABLE part DISABLE TRIGGER ALL");
    site.until_state("t_3", "blocked");
    site.until_state("parted", "blocked");
    site.db.run("ALTER TABLE t_3 ENABLE TRIGGER ALL; ALTER TABLE part ENABLE TRIGGER ALL");
    site.until_state("t_3", "active");
    site.until_state("parted", "active");
}
