//! All checks of one tree.

mod blocks;
mod links;
mod names;

use autoembed_tests::page::Page;
use std::io;
use std::path::{Path, PathBuf};

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Found {
    pub pages: usize,
    pub links: usize,
    pub blocks: usize,
    pub complaints: Vec<String>,
}

/// Looks at the pages of the repository at `root`: those beside README.md, and all below docs/ and examples/.
///
/// # Errors
/// A page or the list of blocks cannot be read.
pub fn check(root: &Path) -> io::Result<Found> {
    let pages = read(root)?;
    let list = std::fs::read_to_string(root.join(blocks::LIST))?;
    let mut found = Found { pages: pages.len(), ..Found::default() };
    for page in &pages {
        links::check(root, &pages, page, &mut found);
        names::check(root, page, &mut found);
        check_tables(page, &mut found);
    }
    links::check_reached(&pages, &mut found);
    links::check_pictures(root, &pages, &mut found)?;
    blocks::check(root, &pages, &list, &mut found);
    found.complaints.sort();
    found.complaints.dedup();
    Ok(found)
}

/// A cell too many is not shown, and a border within code is written `\\|`.
fn check_tables(page: &Page, found: &mut Found) {
    for table in &page.tables {
        let wrong = table.rows.iter().filter(|row| row.len() != table.head.len());
        found.complaints.extend(wrong.map(|row| {
            format!("{}:{}: a row of {} cells below {}: {}", page.path, table.line, row.len(), table.head.len(), row[0])
        }));
    }
}

fn read(root: &Path) -> io::Result<Vec<Page>> {
    let mut files: Vec<PathBuf> = markdown(root)?;
    for folder in ["docs", "examples"].map(|folder| root.join(folder)) {
        files.extend(below(&folder)?.into_iter().filter(|path| is_markdown(path)));
    }
    files.sort();
    let read = |path: &PathBuf| Ok(Page::read(&name(root, path), &std::fs::read_to_string(path)?));
    files.iter().map(read).collect()
}

fn markdown(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file() && is_markdown(path)).collect())
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// All files below a folder; none where it is not there.
fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            // What readers of the examples have brought there.
            if ["node_modules", "__pycache__", ".venv", "target"].iter().any(|left| path.ends_with(left)) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// A file's place in the repository, with slashes.
fn name(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}
