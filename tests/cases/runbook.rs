//! The runbook (docs/operations.md), played: each test makes a bad state, finds on the page the words that it shows, runs the very commands
//! that stand beside them, and sees that it is over and nothing is lost.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Db, Site, eventually};
use std::cell::Cell;

mod change;
mod failed;
mod model;
mod outside;
mod table;
mod tls;
mod worker;

const PAGE: &str = include_str!("../../docs/operations.md");
const FIRST: &str = "## What `status` says";
const LAST: &str = "## Keys, TLS, proxy, allowed hosts";

/// One line of the runbook's tables. A test that has asked for it must have met its words, and done what it says.
pub struct Entry {
    says: &'static str,
    does: &'static str,
    was_shown: Cell<bool>,
    was_done: Cell<bool>,
}

/// The entry whose first column holds these words, which no other's does.
pub fn entry(words: &str) -> Entry {
    let mut found = lines().into_iter().filter(|[says, _]| says.contains(words));
    let [says, does] = found.next().unwrap_or_else(|| panic!("the runbook has no entry with the words {words:?}"));
    assert!(found.next().is_none(), "the runbook has several entries with the words {words:?}");
    Entry { says, does, was_shown: Cell::new(false), was_done: Cell::new(false) }
}

/// [`entry`] of which nothing but the words is wanted.
pub fn words(words: &str) -> Entry {
    let entry = entry(words);
    entry.was_done.set(true);
    entry
}

/// What each entry says and what is to be done.
fn lines() -> Vec<[&'static str; 2]> {
    let (_, rest) = PAGE.split_once(FIRST).expect("the runbook begins");
    let (runbook, _) = rest.split_once(LAST).expect("the runbook ends");
    let rows = runbook.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| it says"));
    rows.filter(|line| !line.starts_with("| code |"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [says, _, does] = cells[..] else { panic!("not three columns: {line}") };
            [says, does]
        })
        .collect()
}

/// What stands between backticks.
fn code(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

impl Entry {
    /// Whether `text` is what the first column says; `...` there stands for anything.
    pub fn says(&self, text: &str) -> bool {
        let says = code(self.says).any(|pattern| matches(pattern, text));
        self.was_shown.set(self.was_shown.get() || says);
        says
    }

    /// Waits until the state of `documents` is what the entry says; gives it.
    pub fn until_shown(&self, site: &mut Site) -> String {
        self.until_shown_of("documents", site)
    }

    /// [`Entry::until_shown`] of another table.
    pub fn until_shown_of(&self, table: &str, site: &mut Site) -> String {
        let state = eventually(&format!("the state is {}", self.says), PATIENCE, || {
            let state = site.status("state", table);
            if self.says(&state) { Ok(state) } else { Err(state) }
        });
        println!("{state}");
        state
    }

    /// Waits until the server's log has a line that ends as the entry says.
    pub fn until_logged(&self, site: &Site) {
        let patterns: Vec<String> = code(self.says).map(|pattern| format!("...{pattern}...")).collect();
        eventually(&format!("the log says {}", self.says), PATIENCE, || {
            let log = site.cluster.log();
            let is_there = |line: &str| patterns.iter().any(|pattern| matches(pattern, line));
            if log.lines().any(is_there) { Ok(()) } else { Err(site.cluster.log_tail(5)) }
        });
        self.was_shown.set(true);
    }

    /// Runs the entry's SQL, each statement as it stands there but for `swaps`: what stands for the reader's own.
    pub fn run(&self, db: &mut Db, swaps: &[(&str, &str)]) {
        let statements: Vec<&str> = code(self.does).filter(|text| text.ends_with(';')).collect();
        assert!(!statements.is_empty(), "the entry has no SQL: {}", self.does);
        for sql in statements {
            db.run(&swapped(sql, swaps));
        }
        self.was_done.set(true);
    }

    /// The one piece of code in what is to be done that holds `part`.
    pub fn command(&self, part: &str, swaps: &[(&str, &str)]) -> String {
        let found: Vec<&str> = code(self.does).filter(|text| text.contains(part)).collect();
        let [one] = found[..] else { panic!("{} commands with {part:?} in: {}", found.len(), self.does) };
        self.was_done.set(true);
        swapped(one, swaps)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // What has no blank is a name.
        let is_for_people = !code(self.does).any(|text| text.contains(' '));
        if !std::thread::panicking() {
            assert!(self.was_shown.get(), "nobody was shown {}", self.says);
            assert!(self.was_done.get() || is_for_people, "nobody has done what stands beside {}", self.says);
        }
    }
}

fn swapped(text: &str, swaps: &[(&str, &str)]) -> String {
    swaps.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split("...");
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut last = "";
    for part in parts {
        last = part;
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty() || (pattern.contains("...") && text.ends_with(last))
}

/// Runs a command of a shell as the server's user.
pub fn shell(db: &mut Db, command: &str) {
    db.run(&format!(
        "COPY (SELECT 1) TO PROGRAM {}",
        autoembed_tests::db::literal(&format!("cat > /dev/null; {command}"))
    ));
}

/// A scene with the model `mine` and the table `documents`, ten rows of which have their vectors.
pub fn scene(site: Site) -> Site {
    scene_with(site, "")
}

/// [`scene`] with more arguments of `create_model`.
pub fn scene_with(mut site: Site, model: &str) -> Site {
    site.create_model("mine", model);
    documents(&mut site);
    site
}

/// How the page describes the model `mine`, and what stands for it in `site`.
pub fn model_of(site: &Site) -> (&'static str, String) {
    let url = site.stub.url();
    ("1536, 'text-embedding-3-small'", format!("{}, 'stub-model', '{url}'", site.dims))
}

/// Makes the table anew.
pub fn documents(site: &mut Site) {
    site.db.run(
        "DROP TABLE IF EXISTS documents; CREATE TABLE documents (id int PRIMARY KEY, title text, body text);
         SELECT autoembed.enable('documents', 'body', 'mine')",
    );
    add(site, 1, 10);
    site.settle("documents", "body");
}

/// More rows.
pub fn add(site: &mut Site, from: usize, to: usize) {
    site.db.run(&format!(
        "INSERT INTO documents (id, title, body) SELECT i, 'title ' || i, 'body ' || i FROM generate_series({from}, {to}) i"
    ));
}

/// It is over, as the page says that one sees it, and every row has the vector of its text.
pub fn over(site: &mut Site) {
    over_with(site, "documents", "body");
}

/// [`over`] for another table or input.
pub fn over_with(site: &mut Site, table: &str, text: &str) {
    site.settle_within(table, text, "embedding", PATIENCE * 2);
    site.until_idle(table);
    let state = format!("SELECT state FROM autoembed.status WHERE source = '{table}'::regclass");
    site.db.until(&state, "active", PATIENCE);
    assert_eq!(site.failed(table), 0);
}

#[test]
fn dots_stand_for_anything() {
    for (pattern, text) in
        [("a", "a"), ("a...", "abc"), ("...c", "abc"), ("a...c...", "abcd"), ("a...b...c", "a b b c")]
    {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("...c", "abcd"), ("a...c", "ab"), ("b...", "ab"), ("a...b...c", "a c")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}

/// What nobody has played may be wrong. A test that has an entry plays it, or fails: see [`Entry`].
#[test]
fn every_entry_is_played() {
    let tests = [
        include_str!("runbook/change.rs"),
        include_str!("runbook/failed.rs"),
        include_str!("runbook/model.rs"),
        include_str!("runbook/outside.rs"),
        include_str!("runbook/table.rs"),
        include_str!("runbook/worker.rs"),
    ];
    let asked_for: Vec<&str> = tests
        .iter()
        .flat_map(|test| test.lines().filter(|line| !line.trim_start().starts_with("//")))
        .flat_map(|line| ["entry(\"", "words(\""].map(|call| line.split(call).skip(1)))
        .flatten()
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let lines = lines();
    let unplayed: Vec<&str> = lines
        .iter()
        .map(|[says, _]| *says)
        .filter(|says| !asked_for.iter().any(|words| says.contains(words)))
        .collect();
    assert!(lines.len() > 60, "{} entries", lines.len());
    assert!(unplayed.is_empty(), "{unplayed:#?}");
}

#[test]
fn an_entry_that_is_not_played_is_noticed() {
    let refused = |play: fn(&Entry)| std::panic::catch_unwind(|| play(&entry("`paused`"))).is_err();
    assert!(refused(|_| ()));
    assert!(refused(|page| assert!(page.says("paused"))));
    assert!(refused(|page| assert!(page.command("resume", &[]).contains("documents"))));
    assert!(!refused(|page| assert!(page.says("paused") && page.command("resume", &[]).contains("documents"))));
}
