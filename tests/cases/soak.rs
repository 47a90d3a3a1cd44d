//! `make soak` for ten seconds, and the proof that it sees what is not flat.

#[path = "../src/bin/soak/mod.rs"]
mod played;

use played::{Judged, Options, run};
use std::time::Duration;

#[test]
fn ten_seconds_of_soak() {
    let options = Options { time: Duration::from_secs(10), rows: 3000, clients: 3 };
    let outcome = run(&options, &|| false, &|line| println!("{line}")).unwrap();
    println!("{}", outcome.report);
    assert!(outcome.report.contains("| 1 | "), "no minute in the table");
    assert!(outcome.wrong.is_empty(), "{:#?}", outcome.wrong);
    // In ten seconds beside other tests latency, rate and queue say what else the machine does.
    let grown: Vec<String> =
        outcome.not_flat.iter().filter(|judged| judged.what.contains("memory")).map(Judged::complaint).collect();
    assert!(grown.is_empty(), "{grown:#?}");
}
