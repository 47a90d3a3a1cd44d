//! The end of a run, in plain words.

use super::Options;
use super::api::Figures;
use super::ledger::{BOUND, Ledger};
use std::path::PathBuf;
use std::time::Duration;

/// Figures that have lines of their own.
const OWN_LINES: [&str; 8] = [
    "statements",
    "statements timed",
    "statements while users were kept waiting",
    "rows in the end",
    "rows looked at meanwhile",
    "looks meanwhile",
    "writes of vectors audited",
    "sessions lost",
];

/// The figures, a line each.
pub fn figures(options: &Options, ledger: &Ledger, api: &Figures, healed: Option<Duration>) -> Vec<String> {
    let (wrong, _) = ledger.complaints();
    let counts = ledger.counts();
    let n = |what: &str| counts.get(what).copied().unwrap_or(0);
    let (slowest, sql, p99) = ledger.slowest();
    let mut lines = vec![format!("{:>9}  things wrong", wrong)];
    let mut line = |n: u64, what: &str| lines.push(format!("{n:>9}  {what}"));
    line(n("rows in the end"), "rows in the end, each compared with what its vector must be");
    line(n("statements"), "statements of users");
    line(n("sessions lost"), "sessions of users that kills and restarts ended");
    line(n("writes of vectors audited"), "writes of vectors audited");
    line(n("rows looked at meanwhile"), "times a row's text and vector were compared meanwhile");
    line(api.requests, "requests to the API");
    line(api.inputs, "texts in them");
    for (status, n) in &api.by_status {
        line(
            *n,
            &if *status == 0 {
                "requests without an answer".to_owned()
            } else {
                format!("answers with status {status}")
            },
        );
    }
    for (what, n) in counts.iter().filter(|(what, _)| !OWN_LINES.contains(what)) {
        line(*n, what);
    }
    lines.push(format!(
        "slowest statement of a user outside kills and locks: {:.0} ms (bound {:.0} ms, 99 % within {:.1} ms, {} timed)",
        ms(slowest),
        ms(BOUND),
        ms(p99),
        n("statements timed")
    ));
    lines.push(format!("  it was: {sql}"));
    if let Some(healed) = healed {
        lines.push(format!("all work done {:.1} s after the last fault", healed.as_secs_f64()));
    }
    lines.push(format!("seed {}, {} s, mix {}", options.seed, options.time.as_secs(), options.mix.names()));
    lines
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Keeps the actions and the server's log in a file under the temporary folder.
pub fn keep(options: &Options, ledger: &Ledger, server_log: &str) -> Option<PathBuf> {
    let path = std::env::temp_dir().join(format!("autoembed-chaos-{}-{}.log", options.seed, std::process::id()));
    let text = format!("{}\n\n--- the server's log ---\n{server_log}", ledger.journal().join("\n"));
    match std::fs::write(&path, text) {
        Ok(()) => Some(path),
        Err(e) => {
            eprintln!("chaos: {} could not be written: {e}", path.display());
            None
        }
    }
}
