//! `make chaos` for twenty seconds, the proof that it sees what is wrong, and what it found.

#[path = "../src/bin/chaos/mod.rs"]
mod played;

use autoembed_tests::site::{DATABASE, PATIENCE};
use autoembed_tests::{Site, eventually};
use nix::sys::signal::Signal;
use played::{Mix, Options, Outcome};
use std::path::Path;
use std::time::{Duration, Instant};

fn run(seconds: u64, mix: &str, sabotage: &str) -> Outcome {
    let mix: Mix = mix.parse().unwrap();
    let options =
        Options { time: Duration::from_secs(seconds), seed: 11, mix, pause: 25, sabotage: sabotage.to_owned() };
    let outcome = played::run(&options, &|| false, &|line| println!("{line}")).unwrap();
    println!("{}", outcome.figures.join("\n"));
    outcome
}

#[test]
fn twenty_seconds_of_chaos() {
    let outcome = run(20, "all", "");
    assert_eq!(outcome.wrong, 0, "{:#?}\nthe log: {:?}", outcome.complaints, outcome.log);
}

/// Each of these breaks another promise on another table, and each must be found. (Triggers that are dropped or disabled the product notices
/// itself; these look well and do nothing.)
const SABOTAGE: [(&str, &str); 8] = [
    (
        "CREATE OR REPLACE TRIGGER autoembed_4_insert AFTER INSERT ON letters FOR EACH ROW WHEN (false) EXECUTE FUNCTION autoembed.queue_change('4', '0');
         CREATE OR REPLACE TRIGGER autoembed_4_update AFTER UPDATE ON letters FOR EACH ROW WHEN (false) EXECUTE FUNCTION autoembed.queue_change('4', '0')",
        "letters, key",
    ),
    (
        "CREATE OR REPLACE TRIGGER autoembed_3_update AFTER UPDATE ON settling FOR EACH ROW WHEN (false) EXECUTE FUNCTION autoembed.queue_change('3', '300')",
        "stale: a vector of another text",
    ),
    (
        "CREATE OR REPLACE TRIGGER \"~autoembed_2_clear\" BEFORE UPDATE ON cleared FOR EACH ROW WHEN (false) EXECUTE FUNCTION autoembed.clear_vector('2');
         CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
         CREATE TRIGGER linger BEFORE UPDATE ON cleared FOR EACH ROW WHEN (OLD.embedding IS DISTINCT FROM NEW.embedding) EXECUTE FUNCTION linger()",
        "meanwhile: cleared, key",
    ),
    (
        "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN NEW.embedding := array_fill(1, ARRAY[16])::real[]::vector; RETURN NEW; END $$;
         CREATE TRIGGER lie BEFORE UPDATE ON plain FOR EACH ROW WHEN (OLD.embedding IS NULL AND NEW.embedding IS NOT NULL AND NEW.id % 5 = 0)
         EXECUTE FUNCTION lie()",
        "a vector was written that was not of the text",
    ),
    (
        "CREATE TRIGGER lie BEFORE INSERT OR UPDATE ON essays_chunks FOR EACH ROW WHEN (NEW.id % 5 = 0) EXECUTE FUNCTION lie()",
        "has a vector of another text",
    ),
    (
        "CREATE FUNCTION mumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.chunk := lower(NEW.chunk) || ' or so'; RETURN NEW; END $$;
         CREATE TRIGGER mumble BEFORE INSERT ON essays_chunks FOR EACH ROW WHEN (NEW.id % 5 = 1) EXECUTE FUNCTION mumble()",
        "is of another text",
    ),
    (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
         CREATE TRIGGER fail BEFORE INSERT ON pages FOR EACH ROW WHEN (NEW.id % 7 = 0) EXECUTE FUNCTION fail()",
        "a user's statement failed",
    ),
    (
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2.1); RETURN NEW; END $$;
         CREATE TRIGGER dawdle BEFORE INSERT ON logs_a FOR EACH ROW WHEN (NEW.id BETWEEN 60 AND 400 AND NEW.id % 9 = 0) EXECUTE FUNCTION dawdle()",
        "a user's statement took ",
    ),
];

#[test]
fn chaos_sees_what_is_wrong() {
    let sabotage = SABOTAGE.map(|(sql, _)| sql).join(";");
    let outcome = run(4, "none", &sabotage);
    for (sql, complaint) in SABOTAGE {
        let found = outcome.complaints.iter().any(|line| line.contains(complaint));
        assert!(found, "{sql}: {:#?}", outcome.complaints);
    }
    assert!(outcome.wrong >= outcome.complaints.len() as u64);
    let log = outcome.log.expect("the log is kept where something is wrong");
    let kept = std::fs::read_to_string(&log).unwrap();
    assert!(kept.contains("healing begins") && kept.contains("database system is ready"));
    std::fs::remove_file(log).unwrap();
}

/// Found by chaos: a worker whose next answer is there before the last one is written was never without a signal, and so did not
/// look for the postmaster before all its work was done.
#[test]
fn g14_a_busy_worker_ends_with_its_postmaster() {
    const ROWS: u64 = 10_000;
    let mut site = Site::builder().model("max_batch_inputs => 20").start();
    site.messages("");
    site.stub.hold();
    site.insert(1, ROWS as usize);
    site.wait_held(1);
    let worker = site.cluster.wait_worker(DATABASE, PATIENCE);
    site.cluster.expect_crash();
    site.stub.release();
    assert!(site.stub.wait_stats(PATIENCE, |stats| stats.inputs > 400));
    site.cluster.signal(site.cluster.postmaster_pid(), Signal::SIGKILL);
    let before = site.stub.stats().inputs;
    let begun = Instant::now();
    eventually("the worker is gone", PATIENCE * 2, || {
        if Path::new(&format!("/proc/{worker}")).exists() { Err("still there".to_owned()) } else { Ok(()) }
    });
    let more = site.stub.stats().inputs - before;
    println!("{before} texts sent when the postmaster was killed, {more} more in {:?}", begun.elapsed());
    assert!(before < ROWS / 2, "{before} texts: it was not busy any more");
    // What was in flight, and the batches that follow before the loop comes round.
    assert!(more <= 300, "{more} texts sent without a postmaster");
}
