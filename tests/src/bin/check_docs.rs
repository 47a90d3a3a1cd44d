//! The documentation holds together: links and anchors resolve, every page is reached, every block of code has somebody who runs it, and
//! the tests, files and verbs that pages name are there.
//!
//! `check_docs [FOLDER]`; one line a complaint, exit code 1 where there is any. No server, no network.

#[path = "check_docs/mod.rs"]
mod check_docs;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), PathBuf::from);
    match check_docs::check(&root) {
        Ok(found) => {
            found.complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
            println!(
                "{} pages, {} links, {} blocks of code: {} complaints",
                found.pages,
                found.links,
                found.blocks,
                found.complaints.len()
            );
            if found.complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("check_docs: {e}");
            ExitCode::from(2)
        }
    }
}
