//! `make soak` for ten seconds, and the proof that it sees what is not flat.

#[path = "../src/bin/soak/mod.rs"]
mod played;

use played::{Options, run};
use std::time::Duration;

#[test]
fn ten_seconds_of_soak() {
    let options = Options { time: Duration::from_secs(10), rows: 3000, clients: 3 };
    let outcome = run(&options, &|| false, &|line| println!("{line}")).unwrap();
    println!("{}", outcome.report);
    assert!(outcome.report.contains("| 1 | "), "no minute in the table");
    // In ten seconds beside other tests latency says nothing; memory, the queue and every row's vector do.
    let wrong: Vec<&String> =
        outcome.wrong.iter().filter(|what| !what.contains(", ms") && !what.contains("a second")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
