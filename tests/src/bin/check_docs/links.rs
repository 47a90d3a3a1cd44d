//! Links, anchors and pictures.

use super::{Found, below, name};
use autoembed_tests::page::Page;
use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The page from which every other one is reached.
const INDEX: &str = "docs/README.md";

/// One target of a page, with its line.
struct Link {
    line: usize,
    target: String,
}

/// The targets of `[text](target)`, `![text](target)` and of `src="target"` and `srcset="target"`, outside of code.
fn links(page: &Page) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, text) in &page.prose {
        let text = without_code(text);
        let mut add = |target: &str| found.push(Link { line: *line, target: target.to_owned() });
        for (at, _) in text.match_indices("](") {
            if let Some((target, _)) = text[at + 2..].split_once(')') {
                add(target);
            }
        }
        for attribute in ["src=\"", "srcset=\""] {
            for (at, _) in text.match_indices(attribute) {
                if let Some((target, _)) = text[at + attribute.len()..].split_once('"') {
                    add(target);
                }
            }
        }
    }
    found
}

/// The text, with what stands between backticks left out: a link's own words may be code, its target may not.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("_")
}

fn is_elsewhere(target: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// Where a link leads to within the repository: the file and the anchor; `None`: out of it.
fn resolve(page: &Page, target: &str) -> Option<(String, String)> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    if file.is_empty() {
        return Some((page.path.clone(), anchor.to_owned()));
    }
    let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
    let mut place = PathBuf::new();
    for part in folder.join(file).components() {
        match part {
            Component::ParentDir => {
                if !place.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            part => place.push(part),
        }
    }
    Some((place.to_string_lossy().replace('\\', "/"), anchor.to_owned()))
}

/// Every link of the page leads to a file that is there, and to a heading that it has.
pub fn check(root: &Path, pages: &[Page], page: &Page, found: &mut Found) {
    for link in links(page) {
        found.links += 1;
        if is_elsewhere(&link.target) {
            continue;
        }
        let mut complain =
            |what: &str| found.complaints.push(format!("{}:{}: {what}: {}", page.path, link.line, link.target));
        let Some((file, anchor)) = resolve(page, &link.target) else {
            complain("a link out of the repository");
            continue;
        };
        if !root.join(&file).exists() {
            complain("a link to nothing");
        } else if !anchor.is_empty() {
            match pages.iter().find(|page| page.path == file) {
                None => complain("an anchor in what is no page"),
                Some(page) if !page.anchors.contains(&anchor) => complain("an anchor that is no heading's"),
                Some(_) => {}
            }
        }
    }
}

/// Every page below docs/ is reached from the index, and the index from README.md.
pub fn check_reached(pages: &[Page], found: &mut Found) {
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let linked = |from: &str| -> BTreeSet<String> {
        let page = pages.iter().find(|page| page.path == from);
        let targets = page.map(links).unwrap_or_default().into_iter().filter(|link| !is_elsewhere(&link.target));
        targets.filter_map(|link| page.and_then(|page| resolve(page, &link.target))).map(|(file, _)| file).collect()
    };
    if !linked("README.md").contains(INDEX) {
        found.complaints.push(format!("README.md: no link to {INDEX}"));
    }
    let mut open = vec![INDEX.to_owned()];
    while let Some(page) = open.pop() {
        if reached.insert(page.clone()) {
            // A page of the index itself: others are reached where it says so, not by the way.
            let next = if page == INDEX { linked(&page) } else { BTreeSet::new() };
            open.extend(next.into_iter().filter(|path| path.ends_with(".md")));
        }
    }
    let missing = pages.iter().filter(|page| page.path.starts_with("docs/") && !reached.contains(&page.path));
    found.complaints.extend(missing.map(|page| format!("{INDEX}: no link to {}", page.path)));
}

/// Every picture below docs/ is on a page.
pub fn check_pictures(root: &Path, pages: &[Page], found: &mut Found) -> io::Result<()> {
    let shown: BTreeSet<String> = pages
        .iter()
        .flat_map(|page| links(page).into_iter().filter_map(|link| resolve(page, &link.target)).map(|(file, _)| file))
        .collect();
    let pictures = below(&root.join("docs"))?.into_iter().map(|path| name(root, &path));
    let pictures = pictures.filter(|file| file.ends_with(".svg") || file.ends_with(".png"));
    found.complaints.extend(pictures.filter(|file| !shown.contains(file)).map(|file| format!("{file}: on no page")));
    Ok(())
}
