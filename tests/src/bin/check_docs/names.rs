//! Tests, files and verbs that pages name in code.

use super::Found;
use autoembed_tests::page::{Page, code};
use std::path::Path;

/// Where a path begins that the repository should have.
const FOLDERS: [&str; 9] = ["docs/", "examples/", "pg_test/", "scripts/", "share/", "sql/", "src/", "tests/", ".ci/"];

/// Pages on the past name what was there then.
const HISTORY: [&str; 1] = ["CHANGELOG.md"];

/// What stands between backticks: `module::test` is a scenario, `src/...` a file or folder, `make verb` a verb of the Makefile.
pub fn check(root: &Path, page: &Page, found: &mut Found) {
    if HISTORY.contains(&page.path.as_str()) {
        return;
    }
    let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap_or_default();
    for (line, text) in &page.prose {
        for name in code(text) {
            let mut complain = |what: &str| found.complaints.push(format!("{}:{line}: {what}: {name}", page.path));
            if let Some(verb) = name.strip_prefix("make ") {
                let verb = verb.split(' ').next().unwrap_or_default();
                if !makefile.lines().any(|line| line.strip_prefix(verb).is_some_and(|rest| rest.starts_with(':'))) {
                    complain("no verb of the Makefile");
                }
            } else if FOLDERS.iter().any(|folder| name.starts_with(folder)) {
                let is_pattern = name.contains(['*', '<', '>', ' ']) || name.contains("...");
                if !is_pattern && !root.join(name).exists() {
                    complain("no such file");
                }
            } else if is_test(root, name) && !is_there(root, name) {
                complain("no such scenario");
            }
        }
    }
}

/// Whether it has the form of a scenario's name, in a module that there is.
fn is_test(root: &Path, name: &str) -> bool {
    let mut parts = name.split("::");
    let (Some(module), Some(_)) = (parts.next(), parts.next()) else { return false };
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    name.split("::").all(is_word) && root.join(format!("tests/cases/{module}.rs")).exists()
}

/// Whether the scenario `module::name` is there.
pub fn is_there(root: &Path, name: &str) -> bool {
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let file = root.join(format!("tests/cases/{}.rs", module.replace("::", "/")));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.contains(&format!("fn {test}()"))
}
