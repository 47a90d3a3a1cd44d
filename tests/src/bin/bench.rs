//! How fast it is, each figure against its limit on the same machine in the same run.
//!
//! `bench [--quick | --tiny] [--only NAME,NAME] [--to FOLDER]`: prints Markdown, and writes the page, its pictures and JSON into the folder.
//! Exit code 1: something could not be measured; how fast it is changes nothing. Nothing is left behind, also when it is interrupted.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[path = "bench/mod.rs"]
mod bench;

use bench::{ALL, Options, Size, files, report};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

fn main() -> ExitCode {
    let (options, folder) = match options(std::env::args().skip(1)) {
        Ok(read) => read,
        Err(e) => {
            eprintln!("bench: {e}\nhint: make bench ONLY={}", ALL.map(|(name, _)| name).join(","));
            return ExitCode::from(2);
        }
    };
    let interrupted = autoembed_tests::interrupt::flag("bench");
    let report = match bench::run(&options, &|| interrupted.load(Ordering::Relaxed), &|line| eprintln!("{line}")) {
        _ if interrupted.load(Ordering::Relaxed) => {
            eprintln!("\nbench: interrupted; everything was stopped and removed");
            return ExitCode::from(130);
        }
        Ok(report) => report,
        Err(e) => {
            eprintln!("bench: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", report::markdown(&report, "performance"));
    if let Some(folder) = folder
        && let Err(e) = files::write(&report, &folder)
    {
        eprintln!("bench: {e}");
        return ExitCode::FAILURE;
    }
    report.failures.iter().for_each(|(name, why)| eprintln!("bench: {name}: {why}"));
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the arguments ask for, and where it is to be written.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<(Options, Option<PathBuf>), String> {
    let mut options = Options { size: Size::Full, only: Vec::new() };
    let mut folder = None;
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--quick" => options.size = Size::Quick,
            "--tiny" => options.size = Size::Tiny,
            "--to" => folder = Some(PathBuf::from(value()?)),
            "--only" => {
                options.only = value()?.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
            }
            _ => return Err(format!("there is no option {name}")),
        }
    }
    let unknown = options.only.iter().find(|only| ALL.iter().all(|(name, _)| name != only));
    unknown.map_or(Ok(()), |name| Err(format!("there is no measurement {name}")))?;
    Ok((options, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let read = |text: &str| options(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
        let (all, folder) = read("").unwrap();
        assert_eq!((all.size, all.only.len(), folder), (Size::Full, 0, None));
        let (some, folder) = read("--quick --only drain,search --to x").unwrap();
        assert_eq!(
            (some.size, some.only, folder),
            (Size::Quick, vec!["drain".into(), "search".into()], Some("x".into()))
        );
        for wrong in ["--only nothing", "--slow", "--to"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
