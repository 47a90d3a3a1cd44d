//! How fast a full queue is worked off: against one UPDATE that writes the same vectors.

use super::figures::{Rounds, Spread, number};
use super::report::{Goal, Section, Table};
use super::scene::{BATCH, Bench, Session, create_model, create_model_in_batches, stub};
use super::svg::Picture;
use super::work::{self, Drained, Job};
use autoembed_stub::{Stub, Vectors};
use std::time::Duration;

const DATABASE: &str = "drain";
/// Requests at once, the extension's default.
const AT_ONCE: f64 = 4.0;
/// Texts in a request where several sessions share the rows: each needs some of its own.
const SHARED_BATCH: usize = 100;

/// Rows into a column without an index.
struct Case {
    rows: usize,
    dims: usize,
    latency: u64,
    model: String,
    stub: Stub,
    worker: Figures,
    update: Spread,
    update_wal: Spread,
    update_cpu: Spread,
}

/// Rows into a column that has its HNSW index.
struct Indexed {
    rows: usize,
    dims: usize,
    model: String,
    stub: Stub,
    update: Spread,
    alone: Spread,
    helped: Spread,
    /// Filled without, indexed afterwards: rows a second of both together.
    afterwards: Spread,
}

#[derive(Default)]
struct Figures {
    rate: Spread,
    wal: Spread,
    cpu: Spread,
    peak: Spread,
    requests: Spread,
    at_once: Spread,
}

impl Figures {
    fn push(&mut self, drained: &Drained) {
        self.rate.push(drained.rate);
        self.wal.push(drained.wal);
        self.cpu.push(drained.cpu);
        self.peak.push(drained.peak);
        self.requests.push(drained.requests);
        self.at_once.push(drained.at_once);
    }
}

fn cases(bench: &Bench) -> Result<Vec<Case>, String> {
    let list: &[(usize, usize, u64)] = bench.size.of(
        &[(500, 8, 0), (500, 8, 20)],
        &[(20_000, 384, 0), (20_000, 1536, 0), (20_000, 1536, 50)],
        &[
            (20_000, 384, 0),
            (20_000, 384, 50),
            (20_000, 384, 300),
            (20_000, 1536, 0),
            (20_000, 1536, 50),
            (20_000, 1536, 300),
            (200_000, 384, 0),
            (200_000, 1536, 0),
        ],
    );
    let case = |&(rows, dims, latency): &(usize, usize, u64)| {
        let stub = stub(Vectors::Constant(dims), Duration::from_millis(latency))?;
        let model = format!("constant_{rows}_{dims}_{latency}");
        let none = Spread::default;
        Ok(Case {
            rows,
            dims,
            latency,
            model,
            stub,
            worker: Figures::default(),
            update: none(),
            update_wal: none(),
            update_cpu: none(),
        })
    };
    list.iter().map(case).collect()
}

fn indexed(bench: &Bench) -> Result<Vec<Indexed>, String> {
    let list: &[(usize, usize)] = bench.size.of(&[(200, 8)], &[(1000, 384)], &[(4000, 384), (1000, 1536)]);
    let case = |&(rows, dims): &(usize, usize)| {
        let (stub, model) = (stub(Vectors::Hashed(dims), Duration::ZERO)?, format!("hashed_{rows}_{dims}"));
        let none = Spread::default;
        Ok(Indexed { rows, dims, model, stub, update: none(), alone: none(), helped: none(), afterwards: none() })
    };
    list.iter().map(case).collect()
}

impl Case {
    fn job(&self) -> Job<'_> {
        Job { rows: self.rows, dims: self.dims, model: &self.model, indexed: false, helpers: 0 }
    }

    fn round(&mut self, bench: &Bench, db: &mut Session, round: usize) -> Result<(), String> {
        let drained = work::drain(bench, db, DATABASE, &self.stub, &self.job(), round)?;
        if self.latency == 0 {
            if round == 1 {
                work::keep_as_staging(db, &self.model)?;
            }
            let updated = work::update(bench, db, &self.job(), round)?;
            self.update.push(updated.rate);
            self.update_wal.push(updated.wal);
            self.update_cpu.push(updated.cpu);
        }
        self.worker.push(&drained);
        Ok(())
    }
}

impl Indexed {
    fn round(&mut self, bench: &Bench, db: &mut Session, round: usize) -> Result<(), String> {
        let bare = Job { rows: self.rows, dims: self.dims, model: &self.model, indexed: false, helpers: 0 };
        let job = Job { indexed: true, ..bare };
        // The rows are filled first: that makes the staging table, too.
        let filled = work::drain(bench, db, DATABASE, &self.stub, &bare, round)?;
        if round == 1 {
            work::keep_as_staging(db, &self.model)?;
        }
        let seconds = self.rows as f64 / filled.rate + work::index_afterwards(db)?;
        self.afterwards.push(self.rows as f64 / seconds);
        self.update.push(work::update(bench, db, &job, round)?.rate);
        self.alone.push(work::drain(bench, db, DATABASE, &self.stub, &job, round + 1_000_000)?.rate);
        let helped = Job { helpers: 3, model: &shared(&self.model), ..job };
        self.helped.push(work::drain(bench, db, DATABASE, &self.stub, &helped, round + 2_000_000)?.rate);
        Ok(())
    }
}

/// The model of the same vectors with small batches.
fn shared(model: &str) -> String {
    format!("{model}_shared")
}

/// Drains of all sizes.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let mut db = bench.database(DATABASE)?;
    let (mut cases, mut indexed) = (cases(bench)?, indexed(bench)?);
    for (model, dims, stub) in cases.iter().map(|case| (&case.model, case.dims, &case.stub)) {
        create_model(&mut db, model, dims, stub)?;
    }
    for case in &indexed {
        create_model(&mut db, &case.model, case.dims, &case.stub)?;
        create_model_in_batches(&mut db, &shared(&case.model), case.dims, &case.stub, SHARED_BATCH)?;
    }
    let mut rounds = Rounds::new(bench.size.seconds(75, 420), 7);
    let mut round = 0;
    while rounds.another() {
        round += 1;
        bench.say(&format!("drain: round {round}"));
        cases.iter_mut().try_for_each(|case| case.round(bench, &mut db, round))?;
        indexed.iter_mut().try_for_each(|case| case.round(bench, &mut db, round))?;
    }
    drop(db);
    bench.drop_database(DATABASE)?;
    Ok(section(&cases, &indexed))
}

fn section(cases: &[Case], indexed: &[Indexed]) -> Section {
    let (rates, effort, goals, bars) = without_index(cases);
    let (with, more_goals, more_bars) = with_index(indexed);
    let mark = Some((1.0, "one UPDATE with the same vectors".to_owned()));
    let picture = Picture::Bars {
        title: "Drain: share of the rate of one UPDATE".into(),
        bars: bars.into_iter().chain(more_bars).collect(),
        mark,
    };
    Section {
        name: "drain",
        title: "Drain",
        how: format!(
            "So many rows wait; the time is from the commit of `resume()` until no job is left, with requests, vectors and the end of each \
             job. The limit is one UPDATE of the same rows, in a table without the extension, from a staging table with the same \
             vectors: it makes no request, and no error can be its own. Texts are of about {} bytes; the embedding server's latency is \
             per request. CPU time and memory are the worker's own. *Several*: three sessions that call `embed_pending()` beside the \
             worker, of which a database has one, in batches of {} texts. Where the worker takes longer to write a batch than the server to answer, fewer requests \
             are under way than are allowed.",
            super::scene::text_of(100_000).len(),
            SHARED_BATCH
        ),
        tables: vec![rates, effort, with],
        goals: goals.into_iter().chain(more_goals).collect(),
        pictures: vec![("drain".into(), picture)],
    }
}

type Bars = Vec<(String, Spread)>;

fn without_index(cases: &[Case]) -> (Table, Table, Vec<Goal>, Bars) {
    let columns =
        ["rows", "dimensions", "latency, ms", "worker, rows/s", "UPDATE, rows/s", "ratio", "of the rate at no latency"];
    let mut rates = Table::new("No index on the column.", &columns);
    let columns = [
        "rows",
        "dimensions",
        "latency, ms",
        "WAL a row, bytes",
        "of the UPDATE, bytes",
        "worker's CPU s a 1,000 rows",
        "of the UPDATE, s",
        "worker's own memory at its peak, MB",
        "requests",
        "fewest that the limit allows",
        "most at once",
    ];
    let mut effort = Table::new("What it takes.", &columns);
    let (mut goals, mut bars) = (Vec::new(), Vec::new());
    for case in cases {
        let at_none = cases.iter().find(|other| (other.rows, other.dims, other.latency) == (case.rows, case.dims, 0));
        let ratio = case.worker.rate.over(&case.update);
        let of_none = at_none
            .filter(|_| case.latency > 0)
            .map(|other| case.worker.rate.over(&other.worker.rate))
            .unwrap_or_default();
        let head = || {
            [case.rows, case.dims].map(|n| number(n as f64).into()).into_iter().chain([case.latency.to_string().into()])
        };
        rates.row(head().chain([
            (&case.worker.rate).into(),
            (&case.update).into(),
            (&ratio).into(),
            (&of_none).into(),
        ]));
        let fewest = case.rows.div_ceil(BATCH).to_string();
        let Figures { wal, cpu, peak, requests, at_once, .. } = &case.worker;
        let figures = [
            wal.into(),
            (&case.update_wal).into(),
            cpu.into(),
            (&case.update_cpu).into(),
            peak.into(),
            requests.into(),
            fewest.into(),
            at_once.into(),
        ];
        effort.row(head().chain(figures));
        let name = format!("{} rows, {} dimensions", number(case.rows as f64), case.dims);
        if case.latency == 0 {
            bars.push((name.clone(), ratio.clone()));
        }
        match (case.rows, case.dims, case.latency) {
            (20_000, 384, 0) => {
                let fewest = case.rows.div_ceil(BATCH) as f64;
                goals.push(Goal::at_most(&format!("requests for {name}, short texts"), fewest, requests.clone()));
            }
            (20_000, 1536, 0) => {
                goals.push(Goal::at_least(&format!("drain of {name}: share of one UPDATE's rate"), 0.7, ratio))
            }
            (20_000, 1536, 50) => {
                let what = format!("drain of {name}, 50 ms latency: share of the rate at no latency");
                goals.push(Goal::at_least(&what, 0.8, of_none));
                goals.push(Goal::at_least(
                    "the same: requests at once, of 4 allowed",
                    AT_ONCE,
                    case.worker.at_once.clone(),
                ));
            }
            _ => {}
        }
    }
    (rates, effort, goals, bars)
}

fn with_index(indexed: &[Indexed]) -> (Table, Vec<Goal>, Bars) {
    let columns = [
        "rows",
        "dimensions",
        "one UPDATE, rows/s",
        "worker, rows/s",
        "ratio, worker",
        "several, rows/s",
        "ratio, several",
        "filled, then indexed, rows/s",
        "ratio, then indexed",
    ];
    let mut with = Table::new("The HNSW index is there, and each vector goes into it.", &columns);
    let (mut goals, mut bars) = (Vec::new(), Vec::new());
    for case in indexed {
        let ratios = [&case.alone, &case.helped, &case.afterwards].map(|rate| rate.over(&case.update));
        let [alone, helped, afterwards] = &ratios;
        let figures: [super::report::Cell; 7] = [
            (&case.update).into(),
            (&case.alone).into(),
            alone.into(),
            (&case.helped).into(),
            helped.into(),
            (&case.afterwards).into(),
            afterwards.into(),
        ];
        with.row([case.rows, case.dims].map(|n| number(n as f64).into()).into_iter().chain(figures));
        let name = format!("{} rows, {} dimensions", number(case.rows as f64), case.dims);
        bars.push((format!("{name}, indexed"), alone.clone()));
        bars.push((format!("{name}, indexed, several"), helped.clone()));
        let what =
            format!("{name}, filled first and indexed after: times the rate of one UPDATE into the indexed table");
        goals.push(Goal::at_least(&what, 5.0, afterwards.clone()));
    }
    (with, goals, bars)
}
