//! What the worker takes of the machine: memory that does not grow with the work, a queue whose table does not.

use autoembed_stub::Fault;
use autoembed_tests::site::{DATABASE, PATIENCE, rows};
use autoembed_tests::{Peak, Site};
use std::time::Instant;

const MB: u64 = 1 << 20;

/// Without an index on the vectors, which would take most of the time.
fn scene() -> Site {
    let mut site = Site::new();
    site.messages("index => 'none'");
    site
}

fn watch(site: &Site) -> Peak {
    Peak::of(site.cluster.wait_worker(DATABASE, PATIENCE))
}

fn all_embedded(site: &mut Site) {
    let left = "SELECT id FROM messages WHERE embedding IS NULL LIMIT 1";
    site.db.until(left, "NULL", PATIENCE * 8);
    site.until_idle("messages");
}

#[test]
fn memory_does_not_grow_with_the_number_of_jobs() {
    const ROWS: usize = 30_000;
    let mut site = scene();
    let peak = watch(&site);
    let mut after = Vec::new();
    for round in 0..4 {
        let begun = Instant::now();
        site.insert(round * ROWS + 1, (round + 1) * ROWS);
        all_embedded(&mut site);
        after.push(peak.now());
        println!("{ROWS} rows in {:?}: {} MB, peak {} MB", begun.elapsed(), peak.now() / MB, peak.bytes() / MB);
    }
    assert!(peak.bytes() < 60 * MB, "{} bytes", peak.bytes());
    assert!(after[3] < after[0] + 5 * MB, "it grows: {after:?}");
}

#[test]
fn a_full_queue_takes_no_memory_and_its_room_is_used_again() {
    const SIZE: &str = "SELECT pg_total_relation_size('autoembed.job')";
    let rows = rows(100_000);
    let mut site = Site::builder().setting("autovacuum_naptime", "1s").start();
    site.messages("index => 'none'");
    let peak = watch(&site);
    let mut full = Vec::new();
    for round in 0..2 {
        site.db.run("SELECT autoembed.pause('messages')");
        site.insert(round * rows + 1, (round + 1) * rows);
        full.push(site.db.int(SIZE));
        let begun = Instant::now();
        site.db.run("SELECT autoembed.resume('messages')");
        let left = "SELECT count(*) FROM autoembed.job";
        site.db.until(left, "0", PATIENCE * (2 + rows as u32 / 20_000));
        let took = begun.elapsed();
        // Autovacuum comes for the rows that the worker reports as deleted.
        site.db.until_true(
            "SELECT n_dead_tup < 10000 FROM pg_stat_user_tables WHERE relid = 'autoembed.job'::regclass",
            "SELECT n_dead_tup, autovacuum_count FROM pg_stat_user_tables WHERE relid = 'autoembed.job'::regclass",
            PATIENCE,
        );
        println!(
            "{rows} jobs, {} MB, done in {took:?}; worker: peak {} MB",
            full[round] / MB as i64,
            peak.bytes() / MB
        );
    }
    let left = "SELECT count(*) FROM messages WHERE embedding IS NULL";
    assert_eq!(site.db.int(left), 0);
    assert!(peak.bytes() < 60 * MB, "{} bytes", peak.bytes());
    // A key of six digits: the row, as much room on its page for its claim, and its entry in the index.
    assert!(full[0] < 240 * rows as i64, "{full:?} bytes for {rows} jobs");
    assert!(full[1] < full[0] * 3 / 2, "a queue that was full before takes more: {full:?}");
}

/// Rows with a text that is on its way wait for its vector; but not all rows that there are, and they are not written all at once.
#[test]
fn memory_does_not_grow_with_rows_that_wait_for_the_same_text() {
    const ROWS: i64 = 30_000;
    let mut site = scene();
    let peak = watch(&site);
    let before = peak.now();
    site.stub.hold();
    site.db.run(&format!(
        "INSERT INTO messages (content) SELECT repeat('the same ', 400) FROM generate_series(1, {ROWS})"
    ));
    site.wait_held(1);
    // Another model's rows are not held up by it, and each of them is a round of the worker's: it has taken what it takes when
    // ten rounds bring nothing new.
    site.db.run("CREATE TABLE notes (id int PRIMARY KEY, body text); SELECT autoembed.enable('notes', 'body')");
    let claimed = "SELECT count(*) FROM autoembed.job WHERE vectorizer_id = 1 AND leased_until IS NOT NULL";
    let (mut seen, mut same) = (0, 0);
    for note in 1..=500 {
        site.db.run(&format!("INSERT INTO notes VALUES ({note}, 'a parcel')"));
        site.db.until("SELECT count(*) FROM notes WHERE embedding IS NULL", "0", PATIENCE);
        let now = site.db.int(claimed);
        same = if now == seen { same + 1 } else { 0 };
        seen = now;
        if seen > 1000 && same >= 10 {
            break;
        }
    }
    assert!(same >= 10, "it goes on taking rows: {seen}");
    let held = peak.now() - before;
    println!(
        "{seen} of {ROWS} rows in hand, {} MB more than before, at the peak {}",
        held / MB,
        (peak.bytes() - before) / MB
    );
    assert!(seen < ROWS / 2, "{seen} rows in hand");
    assert!(peak.bytes() < before + 60 * MB, "{} bytes", peak.bytes());
    site.stub.release();
    all_embedded(&mut site);
    assert_eq!(site.stub.stats().inputs, 1);
    println!("all done: {} MB more than before", peak.now().saturating_sub(before) / MB);
}

#[test]
fn memory_is_bounded_for_huge_texts() {
    let mut site = scene();
    let peak = watch(&site);
    for (what, rows, kilobytes, most) in [
        ("100 texts of 1 MB", 100, 1 << 10, 80),
        ("1500 texts of 100 kB", 1500, 100, 120),
        // The server reads a text as a whole, several times over, before it is cut.
        ("2 texts of 50 MB", 2, 50 << 10, 250),
    ] {
        let begun = Instant::now();
        site.db.run(&format!(
            "INSERT INTO messages (content) SELECT i || repeat(md5(i::text), {}) FROM generate_series(1, {rows}) i",
            kilobytes * 32
        ));
        all_embedded(&mut site);
        println!("{what}: {:?}, peak {} MB, {} MB after", begun.elapsed(), peak.bytes() / MB, peak.now() / MB);
        assert!(peak.bytes() < most * MB, "{what}: {} bytes", peak.bytes());
        assert!(peak.now() < 100 * MB, "{what}: {} bytes remain", peak.now());
    }
    assert_eq!(site.failed("messages"), 0);
    assert_eq!(site.status("truncated", "messages"), "1602");
    site.db.until("SELECT count(*) FROM autoembed.job", "0", PATIENCE);
}

/// Four requests at once, each of which may be answered with as much as 2000 vectors of 1536 dimensions can need.
#[test]
fn memory_is_bounded_for_endless_answers() {
    let mut site = Site::builder().dims(1536).model("max_batch_inputs => 2000").start();
    site.messages("index => 'none'");
    let peak = watch(&site);
    site.insert(1, 8000);
    all_embedded(&mut site);
    println!("good answers: peak {} MB, {} MB after", peak.bytes() / MB, peak.now() / MB);
    site.fault(Fault::Endless);
    site.stub.hold();
    site.insert(8001, 16_000);
    site.wait_held(4);
    site.stub.release();
    site.until_state("messages", "active: waiting");
    println!("endless answers: peak {} MB", peak.bytes() / MB);
    site.stub.clear();
    all_embedded(&mut site);
    println!("after them: {} MB", peak.now() / MB);
    // 4 times 81 MB, and what a growing buffer holds besides.
    assert!(peak.bytes() < 600 * MB, "{} bytes", peak.bytes());
    assert!(peak.now() < 200 * MB, "{} bytes remain", peak.now());
    assert_eq!(site.failed("messages"), 0);
}

/// Rows that are written together are held together, and for no longer than a statement may take: the next try is a smaller one.
#[test]
fn a_table_that_is_slow_to_write_to_is_written_in_portions() {
    let mut site = Site::new();
    site.messages("index => 'none'");
    site.db.run(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
         CREATE TRIGGER dawdle BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION dawdle();
         CREATE TABLE writes (id bigint, xact xid8);
         CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO public.writes VALUES (NEW.id, pg_current_xact_id()); RETURN NULL; END $$;
         CREATE TRIGGER noted AFTER UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION noted()",
    );
    site.insert(1, 300);
    site.settle("messages", "content");
    site.insert(301, 900);
    site.settle("messages", "content");
    let portions = site.db.column("SELECT count(*) FROM writes GROUP BY xact ORDER BY min(id)");
    println!("300 rows at 10 ms each, then 600: written {portions:?} at once");
    let second = site.db.int("SELECT max(n) FROM (SELECT count(*) AS n FROM writes WHERE id > 300 GROUP BY xact) x");
    assert!(second < 200, "{portions:?}");
    assert_eq!(site.failed("messages"), 0);
    let requests = site.stub.stats().requests;
    assert!(requests <= 4, "{requests} requests: no text is sent again");
    site.db.until("SELECT sum(rows) FROM autoembed.request", "900", PATIENCE);
}
