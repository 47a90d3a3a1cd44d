//! The page of guarantees and the tests agree.

use std::collections::BTreeMap;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/guarantees.md");

/// Names of tests that begin with a row's number, by row.
fn named_tests() -> BTreeMap<u32, Vec<String>> {
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["tests/cases", "pg_test"] {
        visit(&root.join(folder), &mut found);
    }
    found
}

fn visit(folder: &Path, found: &mut BTreeMap<u32, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, found);
            continue;
        }
        let code = std::fs::read_to_string(&path).unwrap();
        for name in code.lines().filter_map(|line| line.trim().strip_prefix("fn g")) {
            let row = name.get(..2).and_then(|digits| digits.parse().ok()).filter(|_| name.get(2..3) == Some("_"));
            if let Some(row) = row {
                let end = name.find('(').unwrap_or(name.len());
                found.entry(row).or_default().push(format!("g{}", &name[..end]));
            }
        }
    }
}

#[test]
fn each_guarantee_has_its_row_and_its_tests() {
    let tests = named_tests();
    let rows: Vec<u32> =
        PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.split([' ', '|']).next()?.parse().ok()).collect();
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=40).collect::<Vec<u32>>(), "one row a guarantee");
    for line in PAGE.lines().filter(|line| line.starts_with("| ")) {
        let Some(row) = line.split([' ', '|']).find_map(|word| word.parse::<u32>().ok()) else { continue };
        assert!(line.contains(&format!("`g{row:02}_`")), "row {row} does not name its tests");
        assert!(tests.contains_key(&row), "no test is named g{row:02}_");
    }
    assert!(tests.keys().all(|row| (1..=40).contains(row)), "a test of a guarantee that there is not: {tests:?}");
}

/// A row that says that its mechanism was taken out has a patch that does it.
#[test]
fn what_is_said_of_mutants_is_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tried: Vec<u32> = std::fs::read_dir(root.join("mutants"))
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.get(..2)?.parse().ok())
        .collect();
    tried.sort_unstable();
    tried.dedup();
    let mut said: Vec<u32> =
        PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" *m* |")?.0.parse().ok()).collect();
    said.sort_unstable();
    assert_eq!(said, tried);
    for patch in std::fs::read_dir(root.join("mutants")).unwrap().flatten().map(|entry| entry.path()) {
        let fits = std::process::Command::new("git")
            .current_dir(root.parent().unwrap())
            .args(["apply", "--check"])
            .arg(&patch)
            .output()
            .unwrap();
        assert!(fits.status.success(), "{}: {}", patch.display(), String::from_utf8_lossy(&fits.stderr));
    }
}
