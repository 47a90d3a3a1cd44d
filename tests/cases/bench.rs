//! `make bench` at the smallest sizes: every measurement works. How fast it was does not matter here.

#[path = "../src/bin/bench/mod.rs"]
mod measured;

use measured::{ALL, Options, Size, files, run};
use std::time::{Duration, Instant};

#[test]
fn every_measurement_works() {
    let options = Options { size: Size::Tiny, only: Vec::new() };
    let report = run(&options, &|| false, &|line| println!("{line}")).unwrap();
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    assert_eq!(report.sections.iter().map(|section| section.name).collect::<Vec<_>>(), ALL.map(|(name, _)| name));
    for section in &report.sections {
        assert!(section.tables.iter().all(|table| !table.rows.is_empty()), "{section:?}");
    }
    let text = measured::report::markdown(&report, "performance");
    println!("{text}");
    let folder = tempfile::tempdir().unwrap();
    files::write(&report, folder.path()).unwrap();
    let page = std::fs::read_to_string(folder.path().join("performance.md")).unwrap();
    assert!(page.contains(text.trim_end()));
    for (name, _) in report.sections.iter().flat_map(|section| &section.pictures) {
        assert!(page.contains(&format!("(performance/{name}.svg)")), "{name}");
        assert!(folder.path().join(format!("performance/{name}.svg")).exists(), "{name}");
    }
}

#[test]
fn a_run_that_is_interrupted_ends() {
    for size in [Size::Quick, Size::Full] {
        let options = Options { size, only: vec!["drain".into(), "growth".into()] };
        let begun = Instant::now();
        let report = run(&options, &|| begun.elapsed() > Duration::from_secs(4), &|line| println!("{line}"));
        // It would have taken minutes.
        assert!(begun.elapsed() < Duration::from_secs(60), "{size:?}: {:?}", begun.elapsed());
        assert!(report.is_err() || report.is_ok_and(|report| report.sections.is_empty()), "{size:?}");
    }
}
