//! Measurements of speed, each against its limit on the same server in the same run.

mod backfill;
mod builtin;
mod ceiling;
mod client;
mod drain;
mod figures;
pub mod files;
mod freshness;
mod growth;
mod json;
mod machine;
mod overhead;
mod pgbench;
pub mod report;
mod scene;
mod search;
mod svg;
mod trouble;
mod work;

use report::{Report, Section};
use scene::Bench;
pub use scene::Size;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Measure = fn(&Bench) -> Result<Section, String>;

/// All of them, in the order of the report.
pub const ALL: [(&str, Measure); 9] = [
    ("ceiling", ceiling::measure),
    ("overhead", overhead::measure),
    ("drain", drain::measure),
    ("freshness", freshness::measure),
    ("backfill", backfill::measure),
    ("trouble", trouble::measure),
    ("search", search::measure),
    ("builtin", builtin::measure),
    ("growth", growth::measure),
];

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much is measured.
    pub size: Size,
    /// Names of [`ALL`]; none: all of them.
    pub only: Vec<String>,
}

/// Measures from beginning to end. Everything that it started is gone when it returns. Errors: the server does not start.
pub fn run(
    options: &Options,
    interrupted: &(dyn Fn() -> bool + Sync),
    say: &(dyn Fn(&str) + Sync),
) -> Result<Report, String> {
    let begun = Instant::now();
    let busy = machine::busy();
    let bench = Bench::start(options.size, interrupted, say)?;
    let machine = machine::described(&mut bench.session("postgres")?, &bench.data(), busy)?;
    let mut report = Report { machine, ..Report::default() };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| end_sessions_when_interrupted(&bench, &over));
        let _over = Over(&over);
        for (name, measure) in ALL {
            if bench.is_interrupted() || !(options.only.is_empty() || options.only.iter().any(|only| only == name)) {
                continue;
            }
            let started = Instant::now();
            match measure(&bench) {
                Ok(section) => report.sections.push(section),
                Err(e) => {
                    report.failures.push((name.to_owned(), e));
                    // What it has left must not stand in the way of the next one.
                    let _ = bench.drop_database(name);
                }
            }
            say(&format!("{name}: {:.0} s", started.elapsed().as_secs_f64()));
        }
    });
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// Ends the watch, also where a measurement panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A statement may take minutes: whoever wants the run to end does not wait for it.
fn end_sessions_when_interrupted(bench: &Bench, over: &AtomicBool) {
    const ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        if bench.is_interrupted()
            && let Ok(mut db) = scene::session(&bench.cluster, "postgres")
        {
            // Those that have gone meanwhile are no error.
            let _ = db.run(ALL);
        }
    }
}
