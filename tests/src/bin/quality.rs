//! How well each way of searching finds what is asked for: a private server, sets of questions and answers, the built-in model.
//!
//! `quality [SET...]`: the names of sets in tests/data, or files of the same form; all of tests/data where none is named. Prints
//! Markdown. Exit code 1: somewhere a hybrid search is worse than vectors or full text alone.

use autoembed_tests::Cluster;
use autoembed_tests::retrieval::{Quality, Set, Way};
use std::process::ExitCode;

const SETS: [&str; 6] = ["everyday", "packages", "chat", "codes", "typos", "questions"];

fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        names = SETS.map(str::to_owned).to_vec();
    }
    let sets: Vec<Set> = match names.iter().map(|name| Set::read(name)).collect() {
        Ok(sets) => sets,
        Err(e) => {
            eprintln!("quality: {e}\nhint: name sets of tests/data, or files of the same form");
            return ExitCode::from(2);
        }
    };
    let cluster = Cluster::builder().preload(true).start();
    cluster.client("postgres").run("CREATE DATABASE app");
    let mut db = cluster.client("app");
    db.run("CREATE EXTENSION autoembed CASCADE");
    println!("MRR@10 / recall@10, with the built-in model and the configuration english, or what a set names\n");
    println!("| set | texts | {} |", Way::ALL.map(Way::name).join(" | "));
    println!("|---|---|{}", "---|".repeat(Way::ALL.len()));
    let mut worse = Vec::new();
    for set in &sets {
        set.load(&mut db);
        let all = Way::ALL.map(|way| set.quality(&mut db, way));
        let cells = all.map(|quality| format!("{:.3} / {:.3}", quality.mrr, quality.recall));
        println!("| {} | {} | {} |", set.name, set.docs.len(), cells.join(" | "));
        let [alone @ .., hybrid] = all;
        if alone.iter().any(|other| is_worse(hybrid, *other)) {
            worse.push(set.name.as_str());
        }
    }
    if worse.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("quality: hybrid searches are worse than one of their sides on {}", worse.join(", "));
    ExitCode::FAILURE
}

fn is_worse(hybrid: Quality, other: Quality) -> bool {
    hybrid.mrr < other.mrr - 1e-9 || hybrid.recall < other.recall - 1e-9
}
