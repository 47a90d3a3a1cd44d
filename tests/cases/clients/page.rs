//! docs/clients.md shows the files of examples/clients as they are, and what they print.

use super::{FOUND, HINT, MESSAGE, examples};
use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/clients.md");

/// Files that the page need not show: what tools write or want to be there.
const NOT_SHOWN: [&str; 4] = [
    "node/package-lock.json",
    "node/drizzle/meta/_journal.json",
    "python/shop/__init__.py",
    "python/shop/migrations/__init__.py",
];

fn files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // What npm, Python and cargo leave behind them.
        if ["node_modules", "__pycache__", ".venv", "target", "Cargo.lock"].iter().any(|left| name == *left) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.strip_prefix(examples()).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// The page's blocks that a line with a link to a file comes before: the file, and what is shown of it.
fn shown() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut parts = PAGE.split("\n```");
    let mut before = parts.next().unwrap();
    while let (Some(block), Some(after)) = (parts.next(), parts.next()) {
        let last = before.trim_end().lines().next_back().unwrap_or_default();
        if let Some((_, link)) = last.split_once("](../examples/clients/") {
            let code = block.split_once('\n').map_or("", |(_language, code)| code);
            found.push((link.split(')').next().unwrap().to_owned(), format!("{code}\n")));
        }
        before = after;
    }
    found
}

#[test]
fn the_page_shows_each_file_as_it_is() {
    let shown = shown();
    for (file, code) in &shown {
        let there = std::fs::read_to_string(examples().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(*code, there, "docs/clients.md shows {file} otherwise than it is");
    }
    let mut there = BTreeSet::new();
    files(&examples(), &mut there);
    let mut named: BTreeSet<String> = shown.into_iter().map(|(file, _)| file).collect();
    named.extend(NOT_SHOWN.map(str::to_owned));
    assert_eq!(named, there, "files that are shown, and files that are there");
}

#[test]
fn the_page_says_what_is_printed() {
    assert!(PAGE.contains(&format!("```text\n{FOUND}```")), "what the programs print");
    let error = format!("ERROR:  {MESSAGE}\nHINT:  {HINT}\n");
    assert!(PAGE.contains(&error), "the example of an error");
}

/// The dependencies that the client in Rust is shown with are those that it is tested with.
#[test]
fn the_dependencies_in_rust() {
    let example = include_str!("../../../examples/clients/rust/Cargo.toml");
    let (ours, workspace) = (include_str!("../../Cargo.toml"), include_str!("../../../Cargo.toml"));
    let dependencies: Vec<&str> = example.split("[dependencies]\n").nth(1).unwrap().lines().collect();
    assert_eq!(dependencies.len(), 3);
    for line in dependencies {
        let in_workspace = line == "serde_json = \"1\"" && workspace.contains("\nserde_json = { version = \"1\",");
        assert!(in_workspace || ours.lines().any(|tested| tested == line), "not tested: {line}");
    }
}
