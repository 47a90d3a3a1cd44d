//! From the commit of a row to its vector: with nothing else to do, and under load.

use super::client::Client;
use super::figures::{Rounds, Spread, percentile};
use super::pgbench::{self, Script};
use super::report::{Goal, Section, Table};
use super::scene::{Bench, Session, create_model, enable, fresh_table, stub, text_of};
use autoembed_stub::Vectors;
use autoembed_tests::db::explain;
use std::time::{Duration, Instant};

const DATABASE: &str = "freshness";
const DIMS: usize = 384;
/// About what a model in the same data centre takes.
const LATENCY: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Percentiles([Spread; 3]);

impl Percentiles {
    fn push(&mut self, values: &[f64]) {
        for (spread, percent) in self.0.iter_mut().zip([50, 95, 99]) {
            percentile(values, percent).into_iter().for_each(|value| spread.push(value));
        }
    }
}

#[derive(Default)]
struct Freshness {
    /// Of a request that a client makes by itself.
    direct: Percentiles,
    idle: Percentiles,
    loaded: Percentiles,
    /// Milliseconds that a batch waits for more rows.
    batch_delay: f64,
    load: usize,
    samples: usize,
}

/// Rows written one at a time, and looked at until their vector is there.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let samples = bench.size.of(5, 60, 200);
    let stub = stub(Vectors::Constant(DIMS), LATENCY)?;
    let mut db = bench.database(DATABASE)?;
    create_model(&mut db, "bench", DIMS, &stub)?;
    fresh_table(&mut db, DIMS)?;
    enable(&mut db, "bench", false)?;
    let mut all = Freshness { load: bench.size.of(20, 300, 300), samples, ..Freshness::default() };
    all.batch_delay =
        db.number("SELECT extract(epoch FROM current_setting('autoembed.batch_delay')::interval) * 1000")?;
    let mut client = Client::new(&stub, 1).map_err(|e| e.to_string())?;
    // The first connection, the first plans.
    sample(bench, &mut db, 3)?;
    let mut rounds = Rounds::new(bench.size.seconds(20, 90), 9);
    while rounds.another() {
        let mut direct = Vec::new();
        for _ in 0..samples {
            direct.push(client.ask().map_err(|e| e.to_string())?.as_secs_f64() * 1000.0);
        }
        all.direct.push(&direct);
        all.idle.push(&sample(bench, &mut db, samples)?);
        let load = pgbench::load(bench, DATABASE, Script::Docs, 4, all.load)?;
        std::thread::sleep(Duration::from_millis(500));
        all.loaded.push(&sample(bench, &mut db, samples)?);
        drop(load);
        bench.until_done(&mut db, 0)?;
    }
    drop(db);
    bench.drop_database(DATABASE)?;
    Ok(section(&all))
}

/// Milliseconds from the commit until a query sees the vector, of so many rows.
fn sample(bench: &Bench, session: &mut Session, samples: usize) -> Result<Vec<f64>, String> {
    let db = session.db();
    let error = |e: postgres::Error| explain(&e);
    let insert = db.prepare("INSERT INTO docs (body) VALUES ($1) RETURNING id").map_err(error)?;
    let look = db.prepare("SELECT embedding IS NOT NULL FROM docs WHERE id = $1").map_err(error)?;
    let mut took = Vec::with_capacity(samples);
    for number in 0..samples {
        bench.check()?;
        let text = format!("{} {:?}", text_of(number), Instant::now());
        let id: i64 = db.query_one(&insert, &[&text]).map_err(error)?.get(0);
        let committed = Instant::now();
        while !db.query_one(&look, &[&id]).map_err(error)?.get::<_, bool>(0) {
            if committed.elapsed() > Duration::from_secs(60) {
                return Err("a row has no vector after a minute".into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        took.push(committed.elapsed().as_secs_f64() * 1000.0);
        // The next one finds nothing under way.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(took)
}

fn section(all: &Freshness) -> Section {
    let columns = ["", "p50, ms", "p95, ms", "p99, ms"];
    let mut table = Table::new("", &columns);
    // What the extension adds: without the time of the request, and without the wait that is there to fill batches.
    let own = |of: &Percentiles| -> Vec<Spread> {
        let own =
            |spread: &Spread| spread.map(|value| value - all.batch_delay - all.direct.0[0].median().unwrap_or(0.0));
        of.0.iter().map(own).collect()
    };
    let (idle, loaded) = (own(&all.idle), own(&all.loaded));
    let mut row = |name: String, figures: &[Spread]| {
        table.row([name.into()].into_iter().chain(figures.iter().map(Into::into)));
    };
    row("the embedding server alone".into(), &all.direct.0);
    row("idle: commit to vector".into(), &all.idle.0);
    row("idle: less the server's median, less `batch_delay`".into(), &idle);
    row(format!("{} rows/s written beside: commit to vector", all.load), &all.loaded.0);
    row("the same, less the server's median, less `batch_delay`".into(), &loaded);
    let [median, high] = [0, 1].map(|place| idle.get(place).cloned().unwrap_or_default());
    let goals = vec![
        Goal::at_most("commit to visible vector, idle, median, less API time and `batch_delay`: ms", 10.0, median),
        Goal::at_most("the same, p95: ms", 50.0, high),
    ];
    Section {
        name: "freshness",
        title: "Freshness",
        how: format!(
            "A row is committed, and a query by its key is repeated every half a millisecond until it sees the vector. The embedding \
             server takes {} ms; `autoembed.batch_delay` is {} ms. {} rows a round.",
            LATENCY.as_millis(),
            all.batch_delay,
            all.samples
        ),
        tables: vec![table],
        goals,
        pictures: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_and_the_delay_do_not_count() {
        let mut all = Freshness { batch_delay: 10.0, ..Freshness::default() };
        all.direct.push(&[20.0; 10]);
        all.idle.push(&[38.0; 10]);
        all.loaded.push(&[38.0; 10]);
        let section = section(&all);
        assert_eq!(section.goals[0].seen.median(), Some(8.0));
        assert_eq!(section.goals[0].is_met(), Some(true));
    }
}
