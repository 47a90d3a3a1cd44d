//! Clients write while everything around them breaks; then everything heals, and every row is checked.

mod api;
mod checker;
mod client;
mod director;
mod ledger;
mod load;
mod plan;
mod processes;
mod report;
mod scene;
mod tables;
mod texts;

pub use plan::Mix;

use api::Api;
use autoembed_tests::Cluster;
use checker::Verdict;
use client::Client;
use director::Director;
use ledger::{Ledger, Stopper};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long work may not become less while everything is well: longer than the longest pause after an outage.
const HEALING: Duration = Duration::from_secs(90);

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long things break; healing comes on top.
    pub time: Duration,
    /// The same seed gives the same plan of actions and the same statements, not the same timing.
    pub seed: u64,
    /// What is done to the server.
    pub mix: Mix,
    /// Longest pause of a client between two of its units, in milliseconds.
    pub pause: u64,
    /// A statement of the superuser's before anything is written, to see that the check finds what it breaks; "" for none.
    pub sabotage: String,
}

/// What came of a run.
pub struct Outcome {
    /// Figures for people, a line each.
    pub figures: Vec<String>,
    /// How much was wrong.
    pub wrong: u64,
    /// The first of it.
    pub complaints: Vec<String>,
    /// The server's log and the list of actions, kept where something was wrong.
    pub log: Option<PathBuf>,
}

/// Plays a run from beginning to end. Everything that it started is gone when it returns. Errors: the scene could not be set up.
pub fn run(options: &Options, interrupted: &dyn Fn() -> bool, say: &dyn Fn(&str)) -> Result<Outcome, String> {
    let cluster = scene::cluster().map_err(|e| format!("the private server did not start: {e}"))?;
    let mut api = Api::start(scene::DIMS).map_err(|e| format!("the embedding server did not start: {e}"))?;
    scene::furnish(&cluster, &api)?;
    scene::run(&mut scene::session(&cluster, "postgres")?, &options.sabotage)?;
    let ledger = Ledger::default();
    // The harness panics where a server does not come up: that is a result, too, and the server's log must outlive it.
    let played = catch_unwind(AssertUnwindSafe(|| play(options, &cluster, &mut api, &ledger, interrupted, say)));
    let mut healed = None;
    match played {
        Ok(Ok(took)) => healed = took,
        Ok(Err(e)) => ledger.wrong(&format!("the check broke off: {e}")),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
            ledger.wrong(&format!("the run broke off: {}", why.unwrap_or_default()));
        }
    }
    let server_log = cluster.log();
    scene::judge_log(&server_log, &options.mix, &ledger);
    let (wrong, complaints) = ledger.complaints();
    let log = if wrong > 0 { report::keep(options, &ledger, &server_log) } else { None };
    Ok(Outcome { figures: report::figures(options, &ledger, &api.figures(), healed), wrong, complaints, log })
}

/// How long the healing took; `None` where somebody interrupted.
fn play(
    options: &Options,
    cluster: &Cluster,
    api: &mut Api,
    ledger: &Ledger,
    interrupted: &dyn Fn() -> bool,
    say: &dyn Fn(&str),
) -> Result<Option<Duration>, String> {
    std::thread::scope(|scope| {
        let _stopper = Stopper(ledger);
        for client in 0..load::CLIENTS {
            scope.spawn(move || Client::new(cluster, ledger, options.seed, client, options.pause).play());
        }
        scope.spawn(|| checker::watch(cluster, ledger));
        Director { cluster, ledger, api }.play(options.seed, &options.mix, options.time, interrupted, say);
    });
    if interrupted() {
        return Ok(None);
    }
    say("everything heals; every row is checked");
    heal(cluster, api, ledger).map(Some)
}

fn heal(cluster: &Cluster, api: &mut Api, ledger: &Ledger) -> Result<Duration, String> {
    ledger.note("healing begins");
    let begun = Instant::now();
    api.well();
    let mut verdict = Verdict { db: scene::session(cluster, "postgres")?, ledger };
    let said = |e: postgres::Error| autoembed_tests::db::explain(&e);
    verdict.wait(HEALING).map_err(said)?;
    let healed = begun.elapsed();
    verdict.changed(HEALING).map_err(said)?;
    ledger.note("checked while poisoned texts are refused");
    verdict.with_poison().map_err(said)?;
    api.take_everything();
    ledger.note("what was given up is tried again");
    verdict.retry().map_err(said)?;
    verdict.wait(HEALING).map_err(said)?;
    verdict.all(Duration::from_secs(30)).map_err(said)?;
    Ok(healed)
}
