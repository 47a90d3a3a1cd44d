//! The model that comes with the extension: how fast in a session and in the worker, beside the model as a library.

use super::figures::{Rounds, Spread, number};
use super::report::{Section, Table};
use super::scene::{Bench, Session, Used, fresh_table, insert};
use super::svg::Picture;
use autoembed_local::Model;
use autoembed_tests::process::own_memory;
use std::path::Path;
use std::time::Instant;

const DATABASE: &str = "builtin";
const DIMS: usize = 256;

#[derive(Default)]
struct Builtin {
    rows: usize,
    library: Spread,
    session: Spread,
    worker: Spread,
    worker_cpu: Spread,
    /// Milliseconds of a session's first statement: one that needs no model, one that does; and of the second one that does.
    plain_call: Spread,
    first_call: Spread,
    second_call: Spread,
    /// MB of a session's own memory that the model adds.
    memory: Spread,
}

/// Texts a second, first calls, memory.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let rows = bench.size.of(500, 20_000, 50_000);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../share/builtin");
    let model = Model::open(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut db = bench.database(DATABASE)?;
    let mut all = Builtin { rows, ..Builtin::default() };
    let mut rounds = Rounds::new(bench.size.seconds(14, 60), 9);
    let mut round = 0;
    while rounds.another() {
        round += 1;
        fresh_table(&mut db, DIMS)?;
        db.run(&insert(rows, round))?;
        let texts = db.column("SELECT body FROM docs ORDER BY id")?;
        let begun = Instant::now();
        let known = texts.iter().filter(|text| model.embed(text).is_some()).count();
        all.library.push(known as f64 / begun.elapsed().as_secs_f64());
        let seconds = db.timed_query("SELECT count(autoembed.embed(body, 'builtin')) FROM docs")?;
        all.session.push(rows as f64 / seconds);
        worker(bench, &mut db, &mut all)?;
        for _ in 0..5 {
            calls(bench, &mut all)?;
        }
    }
    drop(db);
    bench.drop_database(DATABASE)?;
    Ok(section(&all))
}

fn worker(bench: &Bench, db: &mut Session, all: &mut Builtin) -> Result<(), String> {
    let enable = "SELECT autoembed.enable('docs', 'body', model => 'builtin', index => 'none', backfill => false)";
    db.run(enable)?;
    db.run("SELECT autoembed.pause('docs')")?;
    db.run("SELECT autoembed.enqueue('docs', (SELECT array_agg(id::text) FROM docs))")?;
    db.run("CHECKPOINT")?;
    let used = Used::by(bench.worker(DATABASE)?);
    let begun = Instant::now();
    db.run("SELECT autoembed.resume('docs')")?;
    bench.until_done(db, 0)?;
    all.worker.push(all.rows as f64 / begun.elapsed().as_secs_f64());
    all.worker_cpu.push(used.cpu() * 1000.0 / all.rows as f64);
    match db.number("SELECT count(*) FROM docs WHERE embedding IS NULL")? {
        0.0 => Ok(()),
        missing => Err(format!("{missing} rows have no vector")),
    }
}

fn calls(bench: &Bench, all: &mut Builtin) -> Result<(), String> {
    let ms = |seconds: f64| seconds * 1000.0;
    let mut plain = bench.session(DATABASE)?;
    all.plain_call.push(ms(plain.timed_query("SELECT '[1,2,3]'::vector")?));
    let mut fresh = bench.session(DATABASE)?;
    let pid = fresh.pid()?;
    // The extension's library and its types are loaded first: what comes then is the model.
    fresh.run("SELECT '[1,2,3]'::vector; SHOW autoembed.cache_size")?;
    let before = own_memory(pid).unwrap_or(0) as f64;
    all.first_call.push(ms(fresh.timed_query("SELECT autoembed.embed('where is my parcel?', 'builtin')")?));
    all.second_call.push(ms(fresh.timed_query("SELECT autoembed.embed('how do I reset my password?', 'builtin')")?));
    fresh.run("SELECT count(autoembed.embed(body, 'builtin')) FROM (SELECT body FROM docs LIMIT 200) d")?;
    all.memory.push((own_memory(pid).unwrap_or(0) as f64 - before) / 1_048_576.0);
    Ok(())
}

fn section(all: &Builtin) -> Section {
    let mut rates = Table::new("Texts a second.", &["where", "texts/s", "ratio to the library"]);
    let all_rates = [
        ("the library alone, one thread", &all.library),
        ("`embed()` in a session", &all.session),
        ("the worker, with reading and writing rows", &all.worker),
    ];
    for (what, rate) in all_rates {
        rates.row([what.into(), rate.into(), rate.over(&all.library).into()]);
    }
    let mut sessions = Table::new("A session.", &["", "measured"]);
    let figures = [
        ("first statement, without a model, ms", &all.plain_call),
        ("first call of `embed()`, ms", &all.first_call),
        ("second call, another text, ms", &all.second_call),
        ("own memory that it adds, with 200 vectors remembered, MB", &all.memory),
        ("worker's CPU s a 1,000 rows", &all.worker_cpu),
    ];
    figures.into_iter().for_each(|(what, figure)| sessions.row([what.into(), figure.into()]));
    let bars = all_rates.iter().map(|(what, rate)| (what.replace('`', ""), (*rate).clone())).collect();
    let picture = Picture::Bars { title: "Built-in model: texts a second".into(), bars, mark: None };
    Section {
        name: "builtin",
        title: "The built-in model",
        how: format!(
            "{} texts of about {} bytes, none of them remembered; {DIMS} dimensions. The library is the model's code by itself, in the \
             benchmark's process. The worker has no request to make, and {} cores.",
            number(all.rows as f64),
            super::scene::text_of(100_000).len(),
            super::machine::cores()
        ),
        tables: vec![rates, sessions],
        goals: Vec::new(),
        pictures: vec![("builtin".into(), picture)],
    }
}
