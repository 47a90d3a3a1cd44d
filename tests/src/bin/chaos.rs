//! Ten minutes of what should never happen: clients write while processes are killed, the server restarts, the API lies, locks
//! are held and tables change; then everything heals, and every row's vector is compared with what it must be.
//!
//! `chaos [SECONDS [SEED [MIX]]]`; an empty argument is the default. Exit code 1: something was wrong, and what. Nothing is left
//! behind but, then, the server's log.

#[path = "chaos/mod.rs"]
mod chaos;

use chaos::{Mix, Options, Outcome};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Complaints that are shown.
const SHOWN: usize = 20;

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(e) => {
            eprintln!("chaos: {e}\nhint: make chaos SECONDS=600 SEED=7 MIX=kills,restarts,api,locks,ddl,vacuum");
            return ExitCode::from(2);
        }
    };
    let interrupted = autoembed_tests::interrupt::flag("chaos");
    println!("chaos: {} s, seed {}, mix {}", options.time.as_secs(), options.seed, options.mix.names());
    let outcome = chaos::run(&options, &|| interrupted.load(Ordering::Relaxed), &|line| println!("{line}"));
    match outcome {
        Ok(_) if interrupted.load(Ordering::Relaxed) => {
            eprintln!("\nchaos: interrupted, nothing was checked; everything was stopped and removed");
            ExitCode::from(130)
        }
        Ok(outcome) => told(&options, &outcome),
        Err(e) => {
            eprintln!("chaos: {e}");
            ExitCode::FAILURE
        }
    }
}

fn told(options: &Options, outcome: &Outcome) -> ExitCode {
    println!("\n{}", outcome.figures.join("\n"));
    if outcome.wrong == 0 {
        println!("nothing lost, nothing stale, nothing failed");
        return ExitCode::SUCCESS;
    }
    println!("\n{} things were wrong; the first:", outcome.wrong);
    for complaint in outcome.complaints.iter().take(SHOWN) {
        println!("- {complaint}");
    }
    if let Some(log) = &outcome.log {
        println!("the actions and the server's log: {}", log.display());
    }
    let (seconds, seed, mix) = (options.time.as_secs(), options.seed, options.mix.names());
    println!("the same plan again: make chaos SECONDS={seconds} SEED={seed} MIX={mix}");
    ExitCode::FAILURE
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut next = || arguments.next().unwrap_or_default();
    let number = |name: &str, text: String, default: u64| {
        if text.is_empty() { Ok(default) } else { text.parse().map_err(|_| format!("{name} is no number: {text}")) }
    };
    let seconds = number("SECONDS", next(), 600)?;
    // Any number will do, as long as it is another each time and is shown.
    let chance = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| u64::from(now.subsec_nanos()) / 1000);
    let seed = number("SEED", next(), chance)?;
    let mix: Mix = next().parse()?;
    Ok(Options { time: Duration::from_secs(seconds), seed, mix, pause: 25, sabotage: String::new() })
}
