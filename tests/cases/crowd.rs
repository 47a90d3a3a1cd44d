//! Much at once: old snapshots, full queues, floods. Nothing slows down for good, and nobody starves.

use autoembed_stub::{Do, Script};
use autoembed_tests::site::{DATABASE, PATIENCE, rows};
use autoembed_tests::{Db, Site};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a single row may take while others have the worker busy: 2 s are promised, the rest is for a machine that is busy
/// with other tests.
const SOON: Duration = Duration::from_secs(6);

/// Twenty rows a request, each of which takes 20 ms: the model is what everybody waits for.
fn slow_model() -> Site {
    let site = Site::builder().model("max_batch_inputs => 20").start();
    site.stub.script(Script::always(Do::delay(Duration::from_millis(20))));
    site
}

fn table(site: &mut Site, name: &str, rows: usize) {
    site.db.run(&format!(
        "CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
         INSERT INTO {name} (body) SELECT '{name} ' || i FROM generate_series(1, {rows}) i"
    ));
    site.enable(name, "body", "index => 'none'");
}

/// How long a row takes from its commit to its vector.
fn one_row(db: &mut Db, table: &str) -> Duration {
    let begun = Instant::now();
    let id = db.int(&format!("INSERT INTO {table} (body) VALUES (gen_random_uuid()) RETURNING id"));
    db.until(&format!("SELECT embedding IS NOT NULL FROM {table} WHERE id = {id}"), "t", PATIENCE);
    begun.elapsed()
}

#[test]
fn g28_single_rows_beside_a_backfill() {
    let mut site = slow_model();
    table(&mut site, "small", 0);
    table(&mut site, "large", rows(60_000));
    assert!(site.stub.wait_requests(20, PATIENCE), "the backfill did not begin");
    let mut times: Vec<Duration> = (0..20).map(|_| one_row(&mut site.db, "small")).collect();
    times.sort();
    let left = site.status("pending", "large");
    println!("20 rows beside a backfill: median {:?}, slowest {:?}; {left} rows left", times[10], times[19]);
    assert!(times[19] < SOON, "{times:?}");
    assert!(left.parse::<i64>().unwrap() > 0, "the backfill had ended, so this proves nothing");
    // Live rows of the table itself.
    let own = one_row(&mut site.db, "large");
    assert!(own < SOON, "{own:?}");
    assert_ne!(site.status("pending", "large"), "0");
}

/// More tables are flooded than requests can be under way: there is always a live row for the next one.
#[test]
fn g28_a_backfill_beside_a_flood() {
    const BACKFILL: usize = 300;
    const FLOODED: usize = 6;
    let mut site = slow_model();
    (0..FLOODED).for_each(|n| table(&mut site, &format!("flooded_{n}"), 0));
    let mut client = site.session();
    let over = AtomicBool::new(false);
    // No faster than needed: there is always more than a second's work, and never an hour's.
    let flood = |n: usize| {
        format!(
            "INSERT INTO flooded_{n} (body) SELECT gen_random_uuid() FROM generate_series(1, 4000) WHERE \
                 (SELECT count(*) FROM autoembed.job WHERE lane = 0 AND vectorizer_id = {}) < 4000",
            n + 1
        )
    };
    (0..FLOODED).for_each(|n| client.run(&flood(n)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                (0..FLOODED).for_each(|n| client.run(&flood(n)));
            }
        });
        table(&mut site, "old", BACKFILL);
        let begun = Instant::now();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            site.db.until("SELECT count(embedding) FROM old", &BACKFILL.to_string(), PATIENCE);
        }));
        let each = "SELECT count(*) FROM autoembed.job WHERE lane = 0 GROUP BY vectorizer_id ORDER BY 1";
        let waiting = site.db.column(each);
        println!("a backfill of {BACKFILL} rows beside a flood: {:?}; live rows waiting: {waiting:?}", begun.elapsed());
        over.store(true, Ordering::Relaxed);
        assert!(ended.is_ok(), "the backfill starves");
        assert!(waiting.len() == FLOODED && waiting[0].parse::<i64>().unwrap() > 100, "it was no flood: {waiting:?}");
    });
}

#[test]
fn g28_one_row_beside_a_full_queue() {
    let mut site = slow_model();
    table(&mut site, "large", 0);
    table(&mut site, "small", 0);
    site.db.run("INSERT INTO large (body) SELECT 'large ' || i FROM generate_series(1, 200000) i");
    assert!(site.stub.wait_requests(20, PATIENCE));
    let mut times: Vec<Duration> = (0..10).map(|_| one_row(&mut site.db, "small")).collect();
    times.sort();
    let left = site.status("pending", "large");
    println!("10 rows beside a queue of 200,000: median {:?}, slowest {:?}; {left} left", times[5], times[9]);
    assert!(times[9] < SOON, "{times:?}");
    assert!(left.parse::<i64>().unwrap() > 100_000, "{left}");
}

/// Dead rows that must stay are looked through now and then, not with each look into the queue.
#[test]
fn g26_an_old_snapshot_slows_nothing_down() {
    const DEAD: usize = 600_000;
    let mut site = Site::builder().model("max_batch_inputs => 10").setting("autovacuum", "off").start();
    site.messages("index => 'none'");
    let mut holder = site.session();
    holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM messages");
    let (mut rows, mut drained, mut inserted) = (0, Vec::new(), Vec::new());
    let mut round = |site: &mut Site| {
        const ROWS: usize = 1500;
        let begun = Instant::now();
        site.insert(rows + 1, rows + ROWS);
        inserted.push(begun.elapsed());
        site.db.until("SELECT id FROM messages WHERE embedding IS NULL LIMIT 1", "NULL", PATIENCE * 2);
        drained.push(begun.elapsed());
        rows += ROWS;
    };
    (0..3).for_each(|_| round(&mut site));
    // What as many jobs leave behind while the snapshot is there.
    site.db.run(&format!(
        "BEGIN;
         INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT 1, 0, '0' FROM generate_series(1, {DEAD}) i;
         DELETE FROM autoembed.job WHERE key = '0';
         COMMIT"
    ));
    (0..3).for_each(|_| round(&mut site));
    holder.run("COMMIT");
    // What else the machine does only adds to a round: the shortest tells.
    let least = |times: &[Duration]| times.iter().min().map_or(0.0, Duration::as_secs_f64);
    let ratio = |times: &[Duration]| least(&times[3..]) / least(&times[..3]);
    println!("1500 rows, behind {DEAD} dead ones in the last three rounds: inserted {inserted:?}, drained {drained:?}");
    // Eight times where each look reads all dead rows.
    assert!(ratio(&drained) < 4.0, "drained {:.1} times as slowly: {drained:?}", ratio(&drained));
    assert!(ratio(&inserted) < 4.0, "inserted {:.1} times as slowly: {inserted:?}", ratio(&inserted));
}

/// What the view `progress` shows of a backfill is measured each second, without looking through the jobs that are done; and when the backfill
/// is over, nothing is.
#[test]
fn g26_a_backfill_is_measured_beside_dead_rows() {
    const DEAD: i64 = 200_000;
    const READ: &str =
        "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relid = 'autoembed.job'::regclass";
    let mut site = Site::builder()
        .test_build()
        .setting("autovacuum", "off")
        .setting("autoembed.poll_interval", "10min")
        .model("max_batch_inputs => 10, max_concurrent_requests => 1")
        .start();
    site.messages("backfill => false, index => 'none'");
    // Nothing else looks through the queue: see `src/points.rs`.
    site.cluster.points().only_when_told();
    let old = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.db.run(&format!("SELECT pg_terminate_backend({old}, 10000)"));
    site.marker();
    site.db.run(
        "SET session_replication_role = replica; INSERT INTO messages (content) SELECT 'old ' || i FROM generate_series(1, 300) i;
         RESET session_replication_role",
    );
    let mut holder = site.session();
    holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM messages");
    site.db.run(&format!(
        "BEGIN; INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT 1, 1, '0' FROM generate_series(1, {DEAD}) i;
         DELETE FROM autoembed.job WHERE key = '0';
         COMMIT"
    ));
    site.stub.script(Script::always(Do::delay(Duration::from_millis(300))));
    site.db.run("SELECT autoembed.backfill('messages')");
    let measured = |site: &mut Site, times: u32| {
        for _ in 0..times {
            let seen = site.db.maybe("SELECT at FROM autoembed.pace WHERE kind = 'backfill'");
            let seen = seen.map_or("NULL".to_owned(), |at| format!("'{at}'"));
            site.db.until_true(
                &format!("(SELECT at FROM autoembed.pace) IS DISTINCT FROM {seen}::timestamptz"),
                "",
                PATIENCE,
            );
        }
        site.db.int(READ)
    };
    let before = measured(&mut site, 1);
    let read = measured(&mut site, 2) - before;
    println!("{read} entries of the queue read while a backfill was measured for four seconds beside {DEAD} dead ones");
    assert!(read < DEAD, "{read} entries were read");
    site.settle("messages", "content");
    let gone = "SELECT count(*) FROM autoembed.pace";
    site.db.until(gone, "0", PATIENCE);
    let before = site.db.int(READ);
    site.db.run("SELECT pg_sleep(3)");
    let read = site.db.int(READ) - before;
    println!("{read} in three seconds after it");
    assert!(read < DEAD, "{read} entries were read");
}

/// Numbers commit out of order: rows far below the highest number are found, however rarely the worker looks by itself.
#[test]
fn g04_rows_far_below_the_highest_number() {
    let mut site = Site::builder().setting("autoembed.poll_interval", "10min").start();
    site.messages("index => 'none'");
    site.insert(1, 10);
    site.settle("messages", "content");
    let mut late = site.session();
    late.run("BEGIN; INSERT INTO messages (content) VALUES ('late')");
    site.insert(11, 4000);
    site.settle("messages", "content");
    late.run("COMMIT");
    let begun = Instant::now();
    site.settle("messages", "content");
    println!("a row 4000 numbers below: {:?}", begun.elapsed());
}

#[test]
fn g27_the_queue_does_not_grow_with_the_number_of_jobs() {
    const ROWS: usize = 20_000;
    const SIZE: &str = "SELECT pg_total_relation_size('autoembed.job')";
    let mut site = Site::builder().setting("autovacuum_naptime", "1s").start();
    site.messages("index => 'none'");
    let mut sizes = Vec::new();
    // What a round leaves behind where autovacuum comes late, as it may on a busy machine.
    site.db.run("ALTER TABLE autoembed.job SET (autovacuum_enabled = off)");
    for round in 0..6 {
        site.insert(round * ROWS + 1, (round + 1) * ROWS);
        site.db.until("SELECT id FROM messages WHERE embedding IS NULL LIMIT 1", "NULL", PATIENCE * 3);
        if round == 0 {
            site.until_idle("messages");
            sizes.push(site.db.int(SIZE));
            site.db.run("ALTER TABLE autoembed.job RESET (autovacuum_enabled)");
        }
        // What the worker has reported is why autovacuum comes; it has come when few dead rows are left.
        site.db.until_true(
            "SELECT n_dead_tup < 10000 FROM pg_stat_user_tables WHERE relid = 'autoembed.job'::regclass",
            "SELECT n_dead_tup, n_tup_del, autovacuum_count FROM pg_stat_user_tables WHERE relid = 'autoembed.job'::regclass",
            PATIENCE,
        );
        sizes.push(site.db.int(SIZE));
    }
    let seen = site.db.rows(
        "SELECT n_tup_del, n_dead_tup, autovacuum_count FROM pg_stat_user_tables WHERE relid = 'autoembed.job'::regclass",
    );
    println!("bytes of the queue after each {ROWS} rows: {sizes:?}; deleted, dead, autovacuum: {:?}", seen[0]);
    let number = |i: usize| seen[0][i].as_deref().unwrap_or("0").parse::<usize>().unwrap();
    assert!(number(0) >= 6 * ROWS, "the worker's deletes are not reported");
    assert!(number(2) >= 2, "autovacuum came {} times", number(2));
    // Six times where dead rows stay.
    assert!(sizes.iter().all(|size| *size < 3 * sizes[0]), "it grows: {sizes:?}");
}
