//! Whether a long queue makes anything slower: a row written, a row claimed, a thousand drained, a look at the status.

use super::figures::{Rounds, Spread, number, percentile};
use super::report::{Goal, Section, Table};
use super::scene::{Bench, Session, create_model, drop_table, enable, fresh_table, insert, stub, text_of};
use super::svg::Picture;
use autoembed_stub::Vectors;
use autoembed_tests::Stop;
use autoembed_tests::db::literal;
use std::time::Duration;

const DATABASE: &str = "growth";
const DIMS: usize = 16;
const DRAINED: usize = 1000;

/// Milliseconds with so many jobs waiting.
struct Step {
    waiting: usize,
    figures: [Spread; 4],
}

const WHAT: [&str; 4] = [
    "INSERT of a row",
    "embed_pending(max_rows => 1)",
    "embed_pending(max_rows => 1000)",
    "SELECT * FROM autoembed.status",
];

/// All at growing lengths of the queue.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let lengths: &[usize] = bench.size.of(&[1500, 3000], &[1500, 10_000, 100_000], &[1500, 10_000, 100_000, 1_000_000]);
    let step = |&waiting: &usize| Step { waiting, figures: Default::default() };
    let mut steps: Vec<Step> = lengths.iter().map(step).collect();
    // Nobody works at the queue but those who are asked to: the server starts no workers.
    let mut db = bench.session("postgres")?;
    for (name, value) in ALONE {
        db.run(&format!("ALTER SYSTEM SET {name} = '{value}'"))?;
    }
    drop(db);
    bench.cluster.restart(Stop::Fast);
    let grown = grow(bench, &mut steps);
    if !bench.is_interrupted() {
        bench.session("postgres")?.run("ALTER SYSTEM RESET ALL")?;
        bench.cluster.restart(Stop::Fast);
    }
    grown.map(|()| section(&steps))
}

/// Nor does a batch wait for more rows: that would hide what a claim takes.
const ALONE: [(&str, &str); 3] =
    [("max_worker_processes", "0"), ("max_logical_replication_workers", "0"), ("autoembed.batch_delay", "0")];

fn grow(bench: &Bench, steps: &mut [Step]) -> Result<(), String> {
    let stub = stub(Vectors::Constant(DIMS), Duration::ZERO)?;
    let mut db = bench.database(DATABASE)?;
    // A million waiting rows are not a million commits to wait for. That no worker can be started is said with each of them.
    db.run("SET client_min_messages = error; SET synchronous_commit = off")?;
    create_model(&mut db, "bench", DIMS, &stub)?;
    let mut rounds = Rounds::new(bench.size.seconds(15, 120), 5);
    let mut round = 0;
    while rounds.another() {
        round += 1;
        fresh_table(&mut db, DIMS)?;
        enable(&mut db, "bench", false)?;
        for step in &mut *steps {
            fill(bench, &mut db, step.waiting, round)?;
            one(bench, &mut db, step)?;
        }
        drop_table(&mut db)?;
    }
    drop(db);
    bench.drop_database(DATABASE)
}

/// So many jobs wait.
fn fill(bench: &Bench, db: &mut Session, waiting: usize, round: usize) -> Result<(), String> {
    let there = db.number("SELECT count(*) FROM autoembed.job")? as usize;
    bench.check()?;
    db.run(&insert(waiting.saturating_sub(there), round * 10_000_000 + waiting))?;
    db.run("CHECKPOINT")
}

fn one(bench: &Bench, db: &mut Session, step: &mut Step) -> Result<(), String> {
    let inserts = bench.size.of(5, 200, 200);
    let write = |number| format!("INSERT INTO docs (body) VALUES ({})", literal(&text_of(number)));
    let claim = |rows: usize| move |_: usize| format!("SELECT autoembed.embed_pending('docs', {rows})");
    let median = |db: &mut Session, times: usize, sql: &dyn Fn(usize) -> String| -> Result<f64, String> {
        let mut took = Vec::new();
        for number in 0..times {
            bench.check()?;
            took.push(db.timed_query(&sql(number))? * 1000.0);
        }
        percentile(&took, 50).ok_or_else(|| "nothing was measured".into())
    };
    let look = |_: usize| "SELECT * FROM autoembed.status".to_owned();
    let figures = [
        median(db, inserts, &write)?,
        median(db, 7, &claim(1))?,
        median(db, 1, &claim(DRAINED))?,
        median(db, 5, &look)?,
    ];
    for (spread, figure) in step.figures.iter_mut().zip(figures) {
        spread.push(figure);
    }
    Ok(())
}

fn section(steps: &[Step]) -> Section {
    let columns = ["jobs waiting", "INSERT, ms", "one row embedded, ms", "1,000 rows embedded, ms", "status, ms"];
    let mut table = Table::new("", &columns);
    for step in steps {
        let waiting = [number(step.waiting as f64).into()];
        table.row(waiting.into_iter().chain(step.figures.iter().map(Into::into)));
    }
    let ratios: Vec<Spread> = match (steps.first(), steps.last()) {
        (Some(first), Some(last)) => {
            last.figures.iter().zip(&first.figures).map(|(last, first)| last.over(first)).collect()
        }
        _ => Vec::new(),
    };
    table.row(["last over first".into()].into_iter().chain(ratios.iter().map(Into::into)));
    let most = steps.last().map_or(0, |step| step.waiting);
    let goal = |(what, ratio): (&&str, &Spread)| {
        let what = format!("{what} with {} jobs waiting: times that with 1,500", number(most as f64));
        Goal::at_most(&what, 1.5, ratio.clone())
    };
    let goals = WHAT.iter().zip(&ratios).map(goal).collect();
    let points = |place: usize| {
        let first = steps.first().and_then(|step| step.figures.get(place)?.median()).unwrap_or(f64::NAN);
        let point = |step: &Step| Some((step.waiting as f64, step.figures.get(place)?.median()? / first));
        steps.iter().filter_map(point).collect()
    };
    let names = ["INSERT", "one row", "1,000 rows", "status"];
    let series = names.iter().enumerate().map(|(place, &name)| (name.to_owned(), points(place))).collect();
    let picture = Picture::Lines {
        title: "A growing queue: times what it is with 1,500 jobs".into(),
        axes: ("jobs waiting".into(), "times".into()),
        is_log_x: true,
        series,
    };
    Section {
        name: "growth",
        title: "A growing queue",
        how: format!(
            "A server without a worker, so that the queue stays as long as it is; {DIMS} dimensions, an embedding server that answers at once, \
             commits not waited for, `batch_delay` 0. *Embedded*: claimed, read, sent, written and ended, by `embed_pending()` in one call. Of the status all columns \
             are asked for."
        ),
        tables: vec![table],
        goals,
        pictures: vec![("growth".into(), picture)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_seen() {
        let step = |waiting, ms: [f64; 4]| Step { waiting, figures: ms.map(Spread::from) };
        let section = section(&[step(1500, [1.0; 4]), step(1_000_000, [1.0, 1.4, 2.0, 9.0])]);
        let met: Vec<_> = section.goals.iter().map(Goal::is_met).collect();
        assert_eq!(met, [Some(true), Some(true), Some(false), Some(false)]);
        assert_eq!(section.tables[0].rows.len(), 3);
    }
}
