//! What writers pay: the same statements on a table with the extension and on one without.

use super::figures::{Rounds, Spread, number};
use super::pgbench::{self, Script};
use super::report::{Goal, Section, Table};
use super::scene::{
    Bench, Session, create_model, drop_table, enable, fresh_outbox, fresh_table, insert, stub, text_of, with_outbox,
};
use super::svg::Picture;
use autoembed_stub::Vectors;
use std::time::Duration;

const DIMS: usize = 384;
const DATABASE: &str = "overhead";

/// How the table is embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    /// Without the extension; the statement writes a list of its keys by itself.
    Outbox,
    /// The triggers alone: the work waits.
    Paused,
    /// The worker does it meanwhile.
    Live,
}

struct Rate {
    clients: usize,
    durable: bool,
    plain: Spread,
    outbox: Spread,
    paused: Spread,
    live: Spread,
    /// Of a hundred rows written with the worker at work, so many had their vector at the end.
    kept_up: Spread,
}

struct Bulk {
    what: &'static str,
    plain: Spread,
    /// Of the statements that can write it by themselves.
    outbox: Spread,
    paused: Spread,
}

struct Overhead {
    rates: Vec<Rate>,
    bulks: Vec<Bulk>,
    rows: usize,
    time: Duration,
}

/// Inserts and updates, with and without.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let (rows, time) = (bench.size.of(2000, 100_000, 100_000), Duration::from_secs(bench.size.of(1, 1, 4)));
    let clients: &[usize] = bench.size.of(&[2], &[1, 8, 32], &[1, 8, 32]);
    let cases = clients.iter().flat_map(|&clients| [true, false].map(|durable| (clients, durable)));
    let rate = |(clients, durable)| {
        let none = Spread::default;
        Rate { clients, durable, plain: none(), outbox: none(), paused: none(), live: none(), kept_up: none() }
    };
    let bulk = |what| Bulk { what, plain: Spread::default(), outbox: Spread::default(), paused: Spread::default() };
    let mut all = Overhead {
        rates: cases.map(rate).collect(),
        bulks: ["INSERT ... SELECT", "COPY", "UPDATE of the text", "UPDATE of another column"].map(bulk).into(),
        rows,
        time,
    };
    let stub = stub(Vectors::Constant(DIMS), Duration::ZERO)?;
    let mut db = bench.database(DATABASE)?;
    create_model(&mut db, "bench", DIMS, &stub)?;
    let texts: String = (0..rows).map(|row| text_of(row) + "\n").collect();
    let mut rounds = Rounds::new(bench.size.seconds(75, 360), 9);
    let mut round = 0;
    while rounds.another() {
        round += 1;
        bulk_round(bench, &mut db, &mut all, texts.as_bytes(), round)?;
        for rate in &mut all.rates {
            rate_round(bench, &mut db, rate, time)?;
        }
    }
    drop(db);
    bench.drop_database(DATABASE)?;
    Ok(section(&all))
}

fn prepare(bench: &Bench, db: &mut Session, way: Way) -> Result<(), String> {
    fresh_table(db, DIMS)?;
    match way {
        Way::Plain => {}
        Way::Outbox => fresh_outbox(db)?,
        Way::Paused | Way::Live => enable(db, "bench", way == Way::Paused)?,
    }
    bench.check()?;
    db.run("CHECKPOINT")
}

fn rate_round(bench: &Bench, db: &mut Session, rate: &mut Rate, time: Duration) -> Result<(), String> {
    for way in [Way::Plain, Way::Outbox, Way::Paused, Way::Live] {
        prepare(bench, db, way)?;
        let script = if way == Way::Outbox { Script::Outbox } else { Script::Docs };
        let tps = pgbench::rate(bench, DATABASE, script, rate.clients, rate.durable, time)?;
        match way {
            Way::Plain => rate.plain.push(tps),
            Way::Outbox => rate.outbox.push(tps),
            Way::Paused => rate.paused.push(tps),
            Way::Live => {
                rate.live.push(tps);
                rate.kept_up.push(db.number("SELECT 100.0 * count(embedding) / greatest(count(*), 1) FROM docs")?);
            }
        }
    }
    drop_table(db)
}

fn bulk_round(bench: &Bench, db: &mut Session, all: &mut Overhead, texts: &[u8], round: usize) -> Result<(), String> {
    for way in [Way::Plain, Way::Paused] {
        let mut took = Vec::new();
        prepare(bench, db, way)?;
        took.push(db.timed(&insert(all.rows, round))?);
        prepare(bench, db, way)?;
        took.push(db.timed_copy("COPY docs (body) FROM STDIN", texts)?);
        for change in ["UPDATE docs SET body = body || '.'", "UPDATE docs SET note = note + 1"] {
            // Each finds the table as the other does: without dead rows.
            db.run("VACUUM (FREEZE, ANALYZE) docs")?;
            db.run("CHECKPOINT")?;
            took.push(db.timed(change)?);
        }
        for (bulk, seconds) in all.bulks.iter_mut().zip(took) {
            if way == Way::Plain { bulk.plain.push(seconds) } else { bulk.paused.push(seconds) }
        }
    }
    prepare(bench, db, Way::Outbox)?;
    let took = db.timed(&with_outbox(&insert(all.rows, round)))?;
    if let Some(bulk) = all.bulks.first_mut() {
        bulk.outbox.push(took);
    }
    Ok(())
}

fn section(all: &Overhead) -> Section {
    let columns = [
        "clients",
        "commits",
        "without, tps",
        "an outbox, tps",
        "ratio, an outbox",
        "with, work waits, tps",
        "ratio, work waits",
        "with, worker at work, tps",
        "ratio, worker at work",
        "rows with their vector at the end, %",
    ];
    let mut rates = Table::new("One-row INSERTs, transactions/s; ratios are those of the same round.", &columns);
    let mut bars = Vec::new();
    let mut goals = Vec::new();
    for rate in &all.rates {
        let commits = if rate.durable { "durable" } else { "asynchronous" };
        let [outbox, paused, live] = [&rate.outbox, &rate.paused, &rate.live].map(|with| with.over(&rate.plain));
        rates.row([
            rate.clients.to_string().into(),
            commits.into(),
            (&rate.plain).into(),
            (&rate.outbox).into(),
            (&outbox).into(),
            (&rate.paused).into(),
            (&paused).into(),
            (&rate.live).into(),
            (&live).into(),
            (&rate.kept_up).into(),
        ]);
        if rate.clients == 8 && rate.durable {
            goals.push(Goal::at_least(
                "one-row INSERT, 8 clients, durable, work waits: share of the rate without",
                0.95,
                paused.clone(),
            ));
            goals.push(Goal::at_least("the same, worker at work", 0.95, live.clone()));
            let bare =
                "the same, work waits: share of the rate with a table of keys that the statement writes by itself";
            goals.push(Goal::at_least(bare, 0.95, rate.paused.over(&rate.outbox)));
        }
        bars.push((format!("{} clients, {commits}, an outbox instead", rate.clients), outbox));
        bars.push((format!("{} clients, {commits}, work waits", rate.clients), paused));
        bars.push((format!("{} clients, {commits}, worker at work", rate.clients), live));
    }
    let rows = number(all.rows as f64);
    let title = format!("{rows} rows in one statement, seconds; the work waits.");
    let mut bulks =
        Table::new(&title, &["statement", "without, s", "an outbox, s", "time ratio", "with, s", "time ratio"]);
    for bulk in &all.bulks {
        let ratio = bulk.paused.over(&bulk.plain);
        if bulk.what.starts_with("INSERT") {
            let what = format!("INSERT of {rows} rows in one statement: time ratio");
            goals.push(Goal::at_most(&what, 1.5, ratio.clone()));
        }
        let outbox = bulk.outbox.over(&bulk.plain);
        bulks.row([
            bulk.what.into(),
            (&bulk.plain).into(),
            (&bulk.outbox).into(),
            outbox.into(),
            (&bulk.paused).into(),
            ratio.into(),
        ]);
    }
    let mark = Some((1.0, "the table without".to_owned()));
    let picture =
        Picture::Bars { title: "One-row INSERTs: share of the rate without the extension".into(), bars, mark };
    Section {
        name: "overhead",
        title: "What writers pay",
        how: format!(
            "The same table `(id, body, note, embedding vector({DIMS}))`, without the extension and with it, one after the other in each \
             round, new each time and after a checkpoint. pgbench for {} s each, prepared statements. *Work waits*: the vectorizer is \
             paused, so this is the cost of the triggers alone. *An outbox*: no extension and no trigger, but the statement \
             also writes its keys into a table with a number and a primary key, which is what a list of work that commits with the rows \
             costs at least. *Worker at work*: it embeds meanwhile, on the same cores, and so does the \
             embedding server.",
            all.time.as_secs()
        ),
        tables: vec![rates, bulks],
        goals,
        pictures: vec![("overhead".into(), picture)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_of_eight_clients_and_durable_commits() {
        let rate = |clients, durable, paused: f64| Rate {
            clients,
            durable,
            plain: 100.0.into(),
            outbox: 97.0.into(),
            paused: paused.into(),
            live: 80.0.into(),
            kept_up: 50.0.into(),
        };
        let bulks = vec![Bulk { what: "INSERT ... SELECT", plain: 1.0.into(), outbox: 1.5.into(), paused: 1.4.into() }];
        let rates = vec![rate(1, true, 10.0), rate(8, false, 10.0), rate(8, true, 96.0)];
        let section = section(&Overhead { rates, bulks, rows: 10, time: Duration::from_secs(1) });
        let met: Vec<_> = section.goals.iter().map(Goal::is_met).collect();
        assert_eq!(met, [Some(true), Some(false), Some(true), Some(true)]);
    }
}
