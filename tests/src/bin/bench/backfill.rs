//! A table that was there before: how soon the first request goes out, how steadily the rest follows, and who else feels it.

use super::figures::{Rounds, Spread, number};
use super::pgbench::{self, Script};
use super::report::{Goal, Section, Table};
use super::scene::{Bench, Session, Used, create_model, fresh_table, insert, jobs, stub, work_ahead};
use super::svg::Picture;
use autoembed_stub::{Stub, Vectors};
use autoembed_tests::process::own_memory;
use std::time::{Duration, Instant};

const DATABASE: &str = "backfill";
const DIMS: usize = 384;

/// At one moment of the walk.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: f64,
    /// Texts that the embedding server was sent so far.
    sent: f64,
    queue: f64,
    memory: f64,
}

#[derive(Default)]
struct Backfill {
    rows: usize,
    /// Milliseconds until `enable()` came back, and until the first request came.
    enabled: Spread,
    first_request: Spread,
    seconds: f64,
    peak: f64,
    cpu: f64,
    samples: Vec<Sample>,
    /// A table that has nothing to do with it, written by pgbench.
    bystander: Spread,
    bystander_beside: Spread,
}

/// One backfill from beginning to end, and a second one that is stopped and goes on beside pgbench.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let rows = bench.size.of(2000, 50_000, 1_000_000);
    let stub = stub(Vectors::Constant(DIMS), Duration::ZERO)?;
    let mut db = bench.database(DATABASE)?;
    create_model(&mut db, "bench", DIMS, &stub)?;
    let mut all = Backfill { rows, ..Backfill::default() };
    starts(bench, &mut db, &stub, &mut all)?;
    walk(bench, &mut db, &stub, &mut all)?;
    beside(bench, &mut db, &mut all)?;
    drop(db);
    bench.drop_database(DATABASE)?;
    Ok(section(&all))
}

/// `enable()` on a full table, several times.
fn starts(bench: &Bench, db: &mut Session, stub: &Stub, all: &mut Backfill) -> Result<(), String> {
    fresh_table(db, DIMS)?;
    db.run(&insert(all.rows, 1))?;
    db.run("VACUUM (FREEZE, ANALYZE) docs")?;
    // A worker is there, as with a server that has embedded before: the first one of a database takes longer to come.
    db.run("CREATE TABLE other (id int PRIMARY KEY, body text); SELECT autoembed.enable('other', 'body', model => 'bench', index => 'none')")?;
    bench.worker(DATABASE)?;
    for round in 0..bench.size.of(1, 3, 5) {
        if round > 0 {
            // With what was embedded meanwhile: each finds the same.
            db.run("SELECT autoembed.disable('docs', drop_column => true)")?;
        }
        db.run("CHECKPOINT")?;
        stub.reset_stats();
        let begun = Instant::now();
        db.run("SELECT autoembed.enable('docs', 'body', model => 'bench', index => 'none')")?;
        let enabled = begun.elapsed();
        if !stub.wait_requests(1, Duration::from_secs(60)) {
            return Err("no request came within a minute".into());
        }
        all.first_request.push((begun.elapsed() - enabled).as_secs_f64() * 1000.0);
        all.enabled.push(enabled.as_secs_f64() * 1000.0);
        bench.check()?;
    }
    db.run("SELECT autoembed.disable('docs')")
}

fn walk(bench: &Bench, db: &mut Session, stub: &Stub, all: &mut Backfill) -> Result<(), String> {
    fresh_docs(db, all.rows)?;
    db.run("CHECKPOINT")?;
    let pid = bench.worker(DATABASE)?;
    let used = Used::by(pid);
    stub.reset_stats();
    let begun = Instant::now();
    db.run("SELECT autoembed.enable('docs', 'body', model => 'bench', index => 'none')")?;
    let every = Duration::from_millis(bench.size.of(50, 100, 500));
    loop {
        bench.check()?;
        let sample = Sample {
            at: begun.elapsed().as_secs_f64(),
            sent: stub.stats().inputs as f64,
            queue: db.number(&jobs())?,
            memory: own_memory(pid).unwrap_or(0) as f64 / 1_048_576.0,
        };
        all.samples.push(sample);
        if db.text(&work_ahead(0))? == "f" {
            break;
        }
        if begun.elapsed() > Duration::from_secs(900) {
            return Err("the backfill does not end".into());
        }
        std::thread::sleep(every);
    }
    all.seconds = begun.elapsed().as_secs_f64();
    (all.peak, all.cpu) = (used.peak(), used.cpu() * 1000.0 / all.rows as f64);
    match db.number("SELECT count(*) FROM docs WHERE embedding IS NULL")? {
        0.0 => Ok(()),
        missing => Err(format!("{missing} rows have no vector")),
    }
}

fn fresh_docs(db: &mut Session, rows: usize) -> Result<(), String> {
    db.run("DROP TABLE IF EXISTS docs")?;
    db.run(&format!(
        "CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, note int NOT NULL DEFAULT 0, \
         embedding vector({DIMS}))"
    ))?;
    db.run(&insert(rows, 2))?;
    db.run("VACUUM (FREEZE, ANALYZE) docs")
}

/// pgbench on another table, while a second backfill rests and while it is at work.
fn beside(bench: &Bench, db: &mut Session, all: &mut Backfill) -> Result<(), String> {
    let time = Duration::from_secs(bench.size.of(1, 2, 5));
    db.run("CREATE TABLE bystander (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")?;
    db.run("SELECT autoembed.pause('docs')")?;
    db.run("SELECT autoembed.backfill('docs', force => true)")?;
    let mut rounds = Rounds::new(bench.size.seconds(12, 60), 6);
    while rounds.another() {
        for at_work in [false, true] {
            db.run("TRUNCATE bystander")?;
            db.run(if at_work { "SELECT autoembed.resume('docs')" } else { "SELECT autoembed.pause('docs')" })?;
            let rate = pgbench::rate(bench, DATABASE, Script::Bystander, 4, true, time)?;
            if !at_work {
                all.bystander.push(rate);
                continue;
            }
            // A walk that has come to its end meanwhile begins anew.
            if db.text("SELECT EXISTS (SELECT FROM autoembed.backfill WHERE walked_at IS NULL)")? == "f" {
                bench.until_done(db, 0)?;
                db.run("SELECT autoembed.backfill('docs', force => true)")?;
            }
            all.bystander_beside.push(rate);
        }
    }
    db.run("SELECT autoembed.disable('docs')")
}

/// Rows a second between two samples each.
fn rates(samples: &[Sample]) -> Vec<(f64, f64)> {
    let rate = |pair: &[Sample]| match pair {
        [a, b] => Some((b.at, (b.sent - a.sent) / (b.at - a.at).max(1e-6))),
        _ => None,
    };
    samples.windows(2).filter_map(rate).collect()
}

/// The longest queue of the second half of the time over that of the first.
fn growth(samples: &[Sample]) -> Option<f64> {
    let (first, second) = samples.split_at(samples.len() / 2);
    let longest = |half: &[Sample]| half.iter().map(|sample| sample.queue).fold(0.0, f64::max);
    (longest(first) > 0.0).then(|| longest(second) / longest(first))
}

/// The rate of the last quarter of the rows over that of the first.
fn flatness(samples: &[Sample]) -> Option<f64> {
    let all = samples.last()?.sent;
    let when = |share: f64| samples.iter().find(|sample| sample.sent >= all * share).map(|sample| sample.at);
    let (first, last) = (when(0.25)? - samples.first()?.at, when(1.0)? - when(0.75)?);
    (last > 0.0).then(|| first / last)
}

fn section(all: &Backfill) -> Section {
    let mut table = Table::new("", &["", "measured"]);
    let flat: Spread = flatness(&all.samples).into_iter().collect();
    let queue = all.samples.iter().map(|sample| sample.queue).fold(0.0, f64::max);
    let growth: Spread = growth(&all.samples).into_iter().collect();
    let ratio = all.bystander_beside.over(&all.bystander);
    let mut row = |what: &str, figure: &Spread| table.row([what.into(), figure.into()]);
    row("`enable()` on the full table, ms", &all.enabled);
    row("from there to the first request, ms", &all.first_request);
    row("all of it, rows/s", &(all.rows as f64 / all.seconds).into());
    row("rate of the last quarter of the rows over that of the first", &flat);
    row("worker's own memory at its peak, MB", &all.peak.into());
    row("worker's CPU s a 1,000 rows", &all.cpu.into());
    row("most jobs in the queue", &queue.into());
    row("4 clients of pgbench on another table, tps", &all.bystander);
    row("the same beside the backfill, tps", &all.bystander_beside);
    row("ratio", &ratio);
    let rows = number(all.rows as f64);
    let goals = vec![
        Goal::at_most(
            &format!("backfill of {rows} rows: from `enable()` to the first request, ms"),
            50.0,
            all.first_request.clone(),
        ),
        Goal::at_most("the same: worker's own memory, MB", 200.0, all.peak.into()),
        Goal::at_least("the same: rate of the last quarter over that of the first", 0.8, flat),
        Goal::at_most("the same: most jobs in the queue in the second half of the time over the first", 1.2, growth),
    ];
    let line = |title: &str, up: &str, points: Vec<(f64, f64)>| Picture::Lines {
        title: title.into(),
        axes: ("seconds".into(), up.into()),
        is_log_x: false,
        series: vec![(up.to_owned(), points)],
    };
    let of = |value: fn(&Sample) -> f64| all.samples.iter().map(|sample| (sample.at, value(sample))).collect();
    let pictures = vec![
        ("backfill-rate".into(), line(&format!("Backfill of {rows} rows: rate"), "rows/s", rates(&all.samples))),
        ("backfill-memory".into(), line("Backfill: the worker's own memory", "MB", of(|sample| sample.memory))),
        ("backfill-queue".into(), line("Backfill: jobs in the queue", "jobs", of(|sample| sample.queue))),
    ];
    let how = format!(
        "A table of {rows} rows was there before `enable()`; {DIMS} dimensions, no index on the column. Rates are of texts that the \
         embedding server was sent. pgbench then writes another table, while a second backfill rests and while it is at work."
    );
    Section { name: "backfill", title: "Backfill", how, tables: vec![table], goals, pictures }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(sent: &[f64]) -> Vec<Sample> {
        let sample = |(at, &sent): (usize, &f64)| Sample { at: at as f64, sent, queue: 1.0, memory: 1.0 };
        sent.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn a_walk_that_slows_down_is_seen() {
        assert_eq!(flatness(&samples(&[0.0, 25.0, 50.0, 75.0, 100.0])), Some(1.0));
        assert_eq!(flatness(&samples(&[0.0, 50.0, 75.0, 90.0, 100.0])), Some(0.5));
        assert_eq!((flatness(&[]), growth(&[])), (None, None));
        assert_eq!(growth(&samples(&[0.0; 4])), Some(1.0));
    }

    #[test]
    fn rates_are_of_the_time_between() {
        assert_eq!(rates(&samples(&[0.0, 10.0, 30.0])), [(1.0, 10.0), (2.0, 20.0)]);
    }
}
