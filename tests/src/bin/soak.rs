//! The highest steady load that this machine takes, for a long time: memory, queue and latency must stay as they are.
//!
//! `soak [SECONDS]`; prints Markdown. Exit code 1: something grew, slowed down or went wrong. Nothing is left behind.

#[path = "soak/mod.rs"]
mod soak;

use soak::{Judged, Options, Outcome};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn main() -> ExitCode {
    let text = std::env::args().nth(1).unwrap_or_default();
    let Ok(seconds) = (if text.is_empty() { Ok(1200) } else { text.parse() }) else {
        eprintln!("soak: SECONDS is no number: {text}\nhint: make soak SECONDS=1200");
        return ExitCode::from(2);
    };
    let interrupted = autoembed_tests::interrupt::flag("soak");
    let options = Options { time: Duration::from_secs(seconds), rows: 100_000, clients: 4 };
    match soak::run(&options, &|| interrupted.load(Ordering::Relaxed), &|line| eprintln!("{line}")) {
        Ok(_) if interrupted.load(Ordering::Relaxed) => {
            eprintln!("\nsoak: interrupted; everything was stopped and removed");
            ExitCode::from(130)
        }
        Ok(Outcome { report, mut wrong, not_flat }) => {
            println!("{report}");
            wrong.extend(not_flat.iter().map(Judged::complaint));
            wrong.iter().for_each(|what| eprintln!("soak: {what}"));
            if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("soak: {e}");
            ExitCode::FAILURE
        }
    }
}
