//! Who shares one worker: tables take turns, and one that cannot be served costs the others, and its owner, next to nothing.

use autoembed_stub::{Do, Script};
use autoembed_tests::Site;
use autoembed_tests::site::PATIENCE;
use std::time::{Duration, Instant};

/// One request at a time, of 20 rows, so that every turn counts.
fn one_at_a_time() -> Site {
    let site = Site::builder().model("max_batch_inputs => 20, max_concurrent_requests => 1").start();
    site.stub.script(Script::always(Do::delay(Duration::from_millis(10))));
    site
}

/// A table with so many rows, in the slow lane; its backfill begins.
fn full(site: &mut Site, name: &str, rows: usize) {
    site.db.run(&format!(
        "CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
         INSERT INTO {name} (body) SELECT '{name} ' || i FROM generate_series(1, {rows}) i"
    ));
    site.enable(name, "body", "index => 'none'");
}

fn embedded(site: &mut Site, names: &[&str]) -> Vec<i64> {
    names.iter().map(|name| site.db.int(&format!("SELECT count(embedding) FROM {name}"))).collect()
}

#[test]
fn g28_two_backfills_take_turns() {
    let mut site = one_at_a_time();
    let names = ["one", "two"];
    names.iter().for_each(|name| full(&mut site, name, 6000));
    site.db.until("SELECT count(embedding) > 1500 FROM one", "t", PATIENCE * 2);
    let done = embedded(&mut site, &names);
    println!("{done:?}");
    // The second one began later.
    assert!(done[1] * 2 > done[0], "{done:?}");
}

#[test]
fn g28_live_tables_and_a_backfill_take_turns() {
    let mut site = one_at_a_time();
    let names = ["live_a", "live_b", "live_c", "live_d"];
    names.iter().for_each(|name| full(&mut site, name, 0));
    full(&mut site, "old", 20_000);
    for name in names {
        site.db.run(&format!("INSERT INTO {name} (body) SELECT '{name} ' || i FROM generate_series(1, 3000) i"));
    }
    site.db.until("SELECT count(embedding) > 600 FROM live_c", "t", PATIENCE * 2);
    let (done, old) = (embedded(&mut site, &names), embedded(&mut site, &["old"]));
    println!("{done:?}, backfill {old:?}");
    let (least, most) = (done.iter().min().unwrap(), done.iter().max().unwrap());
    assert!(least * 2 > *most, "{done:?}");
    assert!(old[0] * 5 > *most, "the backfill starves: {old:?} beside {done:?}");
}

/// Each vector that is refused was paid for.
#[test]
fn a_table_that_refuses_vectors_is_tried_with_single_rows() {
    let mut site = Site::builder().model("max_batch_inputs => 100").start();
    full(&mut site, "refusing", 0);
    site.db.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = 'insufficient_privilege'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON refusing FOR EACH ROW EXECUTE FUNCTION refuse();
         INSERT INTO refusing (body) SELECT 'text ' || i FROM generate_series(1, 5000) i",
    );
    // A try whose vector is remembered needs no request.
    site.db.until_true(
        "(SELECT count(*) >= 14 FROM autoembed.requests)",
        "SELECT count(*) FROM autoembed.requests",
        PATIENCE,
    );
    let inputs = site.stub.stats().inputs;
    println!("{inputs} texts in 14 tries");
    // Those that were under way at once when the first was refused, and single rows from then on.
    assert!(inputs <= 900, "{inputs} texts were paid for");
    site.db.run("DROP TRIGGER refuse ON refusing");
    site.settle_within("refusing", "body", "embedding", PATIENCE * 2);
    assert_eq!(site.failed("refusing"), 0);
}

/// Rows that are held for a vectorizer that cannot be worked for go back to the queue.
#[test]
fn nothing_is_held_for_a_table_that_is_blocked() {
    let mut site =
        Site::builder().model("max_batch_inputs => 50, max_batch_tokens => 400, max_concurrent_requests => 1").start();
    full(&mut site, "held", 0);
    site.stub.hold();
    // Several requests' worth of one look into the queue.
    site.db.run("INSERT INTO held (body) SELECT i || repeat(' some words here', 20) FROM generate_series(1, 200) i");
    site.wait_held(1);
    site.db.until_true(
        "(SELECT count(*) > 5 FROM autoembed.job WHERE leased_until > now())",
        "SELECT count(*) FROM autoembed.job",
        PATIENCE,
    );
    site.db.run("ALTER TABLE held DISABLE TRIGGER USER");
    site.stub.release();
    site.until_state("held", "blocked");
    site.db.until("SELECT count(*) FROM autoembed.job WHERE leased_until > now()", "0", PATIENCE);
    site.db.run("ALTER TABLE held ENABLE TRIGGER USER");
    site.settle_within("held", "body", "embedding", PATIENCE * 2);
}

/// Answers that come in while a slow table is written are not written first.
#[test]
fn g15_drop_database_beside_slow_writes() {
    let mut site = Site::builder()
        .setting("autoembed.max_concurrent_requests", "16")
        .model("max_batch_inputs => 40, max_concurrent_requests => 16")
        .start();
    site.stub.script(Script::always(Do::delay(Duration::from_millis(300))));
    full(&mut site, "slow", 0);
    site.db.run(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END$$;
         CREATE TRIGGER slowly BEFORE UPDATE ON slow FOR EACH ROW EXECUTE FUNCTION slowly();
         INSERT INTO slow (body) SELECT 'text ' || i FROM generate_series(1, 5000) i",
    );
    site.db.until("SELECT count(embedding) > 100 FROM slow", "t", PATIENCE * 2);
    site.db = site.cluster.client("postgres");
    let begun = Instant::now();
    site.db.run("DROP DATABASE app");
    println!("DROP DATABASE beside slow writes: {:?}", begun.elapsed());
}
