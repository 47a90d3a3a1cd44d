//! What must not matter to writers: a snapshot that somebody holds, and an embedding server that takes its time.

use super::figures::{Rounds, Spread, number};
use super::pgbench::{self, Script};
use super::report::{Cell, Goal, Section, Table};
use super::scene::{Bench, Session, create_model, drop_table, enable, fresh_table, insert, newest_job, stub};
use super::work::{self, Job};
use autoembed_stub::{Stub, Vectors};
use std::time::Duration;

const DATABASE: &str = "trouble";
const DIMS: usize = 384;
const SLOW: Duration = Duration::from_secs(3);
const CLIENTS: usize = 8;

#[derive(Default)]
struct Trouble {
    rows: usize,
    churn: usize,
    calm: Figures,
    held: Figures,
    /// Inserts next to each other in time.
    fast: Spread,
    slow: Spread,
}

/// Of inserts with the worker at work, and of a drain.
#[derive(Default)]
struct Figures {
    tps: Spread,
    drain: Spread,
}

/// Inserts and drains, with and without the trouble.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let fast = stub(Vectors::Constant(DIMS), Duration::ZERO)?;
    let slow = stub(Vectors::Constant(DIMS), SLOW)?;
    let mut db = bench.database(DATABASE)?;
    create_model(&mut db, "fast", DIMS, &fast)?;
    create_model(&mut db, "slow", DIMS, &slow)?;
    let (rows, churn) = (bench.size.of(500, 20_000, 20_000), bench.size.of(500, 30_000, 100_000));
    let mut all = Trouble { rows, churn, ..Trouble::default() };
    let time = Duration::from_secs(bench.size.of(1, 2, 4));
    let mut rounds = Rounds::new(bench.size.seconds(40, 150), 7);
    let mut round = 0;
    while rounds.another() {
        round += 10;
        one(bench, &mut db, &fast, &mut all.calm, (rows, churn), time, round)?;
        let mut holder = bench.session(DATABASE)?;
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM autoembed.job")?;
        one(bench, &mut db, &fast, &mut all.held, (rows, churn), time, round + 1)?;
        holder.run("COMMIT")?;
        all.fast.push(inserts(bench, &mut db, "fast", time)?);
        all.slow.push(inserts(bench, &mut db, "slow", time)?);
    }
    drop(db);
    bench.drop_database(DATABASE)?;
    Ok(section(&all))
}

fn one(
    bench: &Bench,
    db: &mut Session,
    stub: &Stub,
    into: &mut Figures,
    (rows, churn): (usize, usize),
    time: Duration,
    round: usize,
) -> Result<(), String> {
    // Work that has been done: where a snapshot is held, what it leaves in the queue stays.
    fresh_table(db, DIMS)?;
    enable(db, "fast", false)?;
    let from = newest_job(db)?;
    db.run(&insert(churn, round))?;
    bench.until_done(db, from)?;
    into.tps.push(inserts(bench, db, "fast", time)?);
    let job = Job { rows, dims: DIMS, model: "fast", indexed: false, helpers: 0 };
    into.drain.push(work::drain(bench, db, DATABASE, stub, &job, round + 5)?.rate);
    Ok(())
}

fn inserts(bench: &Bench, db: &mut Session, model: &str, time: Duration) -> Result<f64, String> {
    fresh_table(db, DIMS)?;
    enable(db, model, false)?;
    db.run("CHECKPOINT")?;
    let rate = pgbench::rate(bench, DATABASE, Script::Docs, CLIENTS, true, time)?;
    drop_table(db)?;
    Ok(rate)
}

fn section(all: &Trouble) -> Section {
    let mut table = Table::new("", &["", "inserts, tps", "ratio of inserts", "drain, rows/s", "ratio of drains"]);
    let (held_tps, slow_tps) = (all.held.tps.over(&all.calm.tps), all.slow.over(&all.fast));
    let held_drain = all.held.drain.over(&all.calm.drain);
    let none = Spread::default();
    table.row(["no trouble".into(), (&all.calm.tps).into(), (&none).into(), (&all.calm.drain).into(), (&none).into()]);
    table.row([
        "an old snapshot".into(),
        (&all.held.tps).into(),
        (&held_tps).into(),
        (&all.held.drain).into(),
        (&held_drain).into(),
    ]);
    let alone = |what: String, tps: &Spread, ratio: &Spread| -> [Cell; 5] {
        [what.into(), tps.into(), ratio.into(), (&none).into(), (&none).into()]
    };
    table.row(alone("no trouble, right before the slow API".into(), &all.fast, &none));
    table.row(alone(format!("an API that takes {} s", SLOW.as_secs()), &all.slow, &slow_tps));
    let goals = vec![
        Goal::at_least("inserts while an old snapshot is held: share of the rate without", 0.95, held_tps),
        Goal::at_least(
            &format!("inserts with an API that takes {} s: share of the rate with a fast one", SLOW.as_secs()),
            0.95,
            slow_tps,
        ),
        Goal::at_least("drain while an old snapshot is held: share of the rate without", 0.8, held_drain),
    ];
    Section {
        name: "trouble",
        title: "An old snapshot, a slow API",
        how: format!(
            "{CLIENTS} clients of pgbench insert rows, durable, with the worker at work. *An old snapshot*: another session holds one from before; \
             {} rows are embedded under it first, whose jobs no vacuum can remove then. The drain is one of {} rows, {DIMS} dimensions.",
            number(all.churn as f64),
            number(all.rows as f64)
        ),
        tables: vec![table],
        goals,
        pictures: Vec::new(),
    }
}
