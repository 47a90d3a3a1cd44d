//! A steady load, samples of what it takes, and the judgement whether that stays as it is.

mod load;
mod report;
mod sample;

use autoembed_stub::{Stub, StubConfig, Vectors};
use autoembed_tests::db::{explain, literal};
use autoembed_tests::{Cluster, Db, vectors};
use load::Load;
pub use report::Judged;
use sample::{Sample, Sampler};
use std::time::{Duration, Instant};

const DATABASE: &str = "app";
const DIMS: usize = 64;
/// How long the embedding server takes for a request: about what a model in the same region does.
const LATENCY: Duration = Duration::from_millis(50);
/// Of the load at which the machine was found to be full, so much is kept up, so that it stays steady.
const SHARE: f64 = 0.7;
/// Rows are drawn from among so many places.
const PLACES: u64 = 1 << 30;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long the load lasts.
    pub time: Duration,
    /// Rows of the table, about.
    pub rows: u64,
    /// Sessions that write.
    pub clients: u64,
}

/// What came of a run.
pub struct Outcome {
    /// Figures, in Markdown.
    pub report: String,
    /// Rows whose vector is not that of their text.
    pub wrong: Vec<String>,
    /// What is not as it was.
    pub not_flat: Vec<Judged>,
}

/// Plays a run from beginning to end. Everything that it started is gone when it returns. Errors: what the server says.
pub fn run(options: &Options, interrupted: &dyn Fn() -> bool, say: &dyn Fn(&str)) -> Result<Outcome, String> {
    let io = |e: std::io::Error| e.to_string();
    let stub =
        Stub::start(StubConfig { latency: LATENCY, ..StubConfig::vectors(Vectors::Hashed(DIMS)) }).map_err(io)?;
    let cluster = Cluster::builder()
        .preload(true)
        .durable(true)
        .setting("autovacuum_naptime", "5s")
        // Its steady state is reached within the run.
        .setting("autoembed.request_retention", "1min")
        .try_start()
        .map_err(io)?;
    let mut db = furnish(&cluster, &stub, options.rows)?;
    say(&format!("{} rows are embedded first", options.rows));
    wait_until_done(&mut db, Duration::from_secs(600))?;
    let load = Load::new(options.rows);
    let mut samples = Vec::new();
    let judged = std::thread::scope(|scope| {
        let _end = load.ends_with_this();
        for client in 0..options.clients {
            let (load, cluster) = (&load, &cluster);
            scope.spawn(move || load.write(cluster, client));
        }
        scope.spawn(|| load.probe(&cluster));
        let found = find_rate(&load, &mut db, options, say)?;
        let mut sampler = Sampler::new(&cluster)?;
        let every = (options.time / 120).clamp(Duration::from_millis(500), Duration::from_secs(10));
        let begun = Instant::now();
        load.begin_window();
        while begun.elapsed() < options.time && !interrupted() {
            std::thread::sleep(every.min(options.time.saturating_sub(begun.elapsed())));
            samples.push(sampler.take(&load, begun.elapsed())?);
        }
        load.check()?;
        Ok::<f64, String>(found)
    });
    let rate = judged?;
    if interrupted() {
        return Ok(Outcome { report: String::new(), wrong: Vec::new(), not_flat: Vec::new() });
    }
    say("the load has ended; every row is checked");
    let healed = Instant::now();
    wait_until_done(&mut db, Duration::from_secs(120))?;
    let healed = healed.elapsed();
    let (rows, complaints) = vectors::compare(&mut db, "docs", "body", "embedding", DIMS);
    let bad = complaints.len();
    let judged = report::judge(&samples);
    Ok(Outcome {
        report: report::markdown(options, rate, &samples, &judged, (rows, bad), healed),
        wrong: complaints.into_iter().take(5).collect(),
        not_flat: judged.into_iter().filter(|judged| !judged.is_flat()).collect(),
    })
}

/// Extension, model and table. Errors: what the server says.
fn furnish(cluster: &Cluster, stub: &Stub, rows: u64) -> Result<Db, String> {
    session(cluster, "postgres")?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).map_err(|e| explain(&e))?;
    let mut db = session(cluster, DATABASE)?;
    let url = literal(&stub.url());
    db.batch_execute(&format!(
        "CREATE EXTENSION autoembed CASCADE;
         SELECT autoembed.create_model('soak', 'openai', dimensions => {DIMS}, model => 'm', url => {url});
         CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text,
             place int NOT NULL DEFAULT random() * {PLACES});
         CREATE INDEX ON docs (place);
         INSERT INTO docs (body) SELECT 'document ' || i FROM generate_series(1, {rows}) i;
         ANALYZE docs;
         SELECT autoembed.enable('docs', 'body', model => 'soak', index => 'none')"
    ))
    .map_err(|e| explain(&e))?;
    Ok(db)
}

/// A session of the superuser. Errors: what the server says.
fn session(cluster: &Cluster, database: &str) -> Result<Db, String> {
    cluster.try_client_as(database, "postgres").map_err(|e| explain(&e))
}

fn wait_until_done(db: &mut Db, patience: Duration) -> Result<(), String> {
    let sql = format!("SELECT autoembed.wait('docs', '{} s')", patience.as_secs());
    let done = db.try_rows(&sql).map_err(|e| explain(&e))?;
    if done.first().and_then(|row| row[0].as_deref()) == Some("t") {
        Ok(())
    } else {
        Err("the work does not end".into())
    }
}

/// Writes as fast as all can while the queue stays short, and keeps up a share of that. Gives the rate, in statements a second.
fn find_rate(load: &Load, db: &mut Db, options: &Options, say: &dyn Fn(&str)) -> Result<f64, String> {
    let time = (options.time / 10).clamp(Duration::from_secs(3), Duration::from_secs(60));
    let begun = Instant::now();
    let mut before = (Instant::now(), load.statements());
    // The first third fills caches.
    while begun.elapsed() < time {
        std::thread::sleep(Duration::from_millis(100));
        let waiting = db.try_rows("SELECT count(*) FROM autoembed.job").map_err(|e| explain(&e))?;
        load.hold(waiting[0][0].as_deref().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) > 2000);
        if begun.elapsed() < time / 3 {
            before = (Instant::now(), load.statements());
        }
    }
    let full = (load.statements() - before.1) as f64 / before.0.elapsed().as_secs_f64();
    load.hold(false);
    load.keep_to(full * SHARE);
    say(&format!("{full:.0} statements a second are all that this machine takes; {:.0} are kept up", full * SHARE));
    wait_until_done(db, Duration::from_secs(60))?;
    Ok(full * SHARE)
}
