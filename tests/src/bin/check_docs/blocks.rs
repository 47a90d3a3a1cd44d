//! Who runs each block of code.
//!
//! The list has a line for each page, or section of a page, with blocks that a reader may run:
//!
//!     docs/guide.md            30  pages::the_guide_needs_no_superuser_but_where_it_says_so
//!     docs/operations.md#keys   1  by hand: a file of the server's user
//!
//! A section's line comes before that of its page. The number is that of the blocks that it stands for, so that another one is noticed. Several
//! ways stand side by side with `; ` between them.

use super::{Found, names};
use autoembed_tests::page::{Block, Page};
use std::collections::BTreeMap;
use std::path::Path;

/// Where the list is.
pub const LIST: &str = "tests/documented.txt";

/// What a reader may run: blocks in a language, and sessions.
fn is_code(block: &Block) -> bool {
    !block.language.is_empty() && block.language != "text"
        || block.text.lines().any(|line| line.contains("=# ") || line.starts_with("$ "))
}

/// One line of the list.
struct Entry<'a> {
    line: usize,
    place: &'a str,
    blocks: usize,
    how: &'a str,
}

fn entries<'a>(list: &'a str, found: &mut Found) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    for (line, text) in (1..).zip(list.lines()).filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
        let mut words = text.splitn(2, ' ');
        let (place, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().trim());
        match rest.split_once(' ').and_then(|(number, how)| Some((number.parse().ok()?, how.trim()))) {
            Some((blocks, how)) => entries.push(Entry { line, place, blocks, how }),
            None => found.complaints.push(format!("{LIST}:{line}: not: page number how")),
        }
    }
    entries
}

/// Every block stands under a line of the list, whose number is right and whose tests are there.
pub fn check(root: &Path, pages: &[Page], list: &str, found: &mut Found) {
    let entries = entries(list, found);
    for entry in &entries {
        for test in entry.how.split("; ").filter(|how| !how.starts_with("by hand: ")) {
            if !names::is_there(root, test) {
                found.complaints.push(format!("{LIST}:{}: no such scenario: {test}", entry.line));
            }
        }
    }
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for page in pages {
        for block in page.blocks.iter().filter(|block| is_code(block)) {
            found.blocks += 1;
            let section = format!("{}#{}", page.path, block.section);
            let place = entries.iter().map(|entry| entry.place).find(|place| *place == section || *place == page.path);
            match place {
                Some(place) => *counted.entry(place).or_default() += 1,
                None => found
                    .complaints
                    .push(format!("{}:{}: who runs this block? {LIST} does not say", page.path, block.line)),
            }
        }
    }
    for entry in &entries {
        let there = counted.get(entry.place).copied().unwrap_or_default();
        if there != entry.blocks {
            found
                .complaints
                .push(format!("{LIST}:{}: {} has {there} blocks, not {}", entry.line, entry.place, entry.blocks));
        }
    }
}
