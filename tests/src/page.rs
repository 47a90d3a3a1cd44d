//! The documentation as tests read it: headings, blocks of code and tables of a Markdown page.

use std::collections::HashMap;

/// A page, line by line.
#[derive(Debug)]
pub struct Page {
    /// Its place in the repository, with slashes.
    pub path: String,
    /// The anchors of its headings, as GitHub makes them.
    pub anchors: Vec<String>,
    /// Its blocks of code, in their order.
    pub blocks: Vec<Block>,
    /// Its tables, in their order.
    pub tables: Vec<Table>,
    /// What is no code, with the number of each line.
    pub prose: Vec<(usize, String)>,
}

/// What stands between two fences.
#[derive(Debug, Clone)]
pub struct Block {
    /// The line of its first fence, from 1.
    pub line: usize,
    /// The word behind the fence; may be empty.
    pub language: String,
    /// The anchor of the heading that it stands under; may be empty.
    pub section: String,
    /// Without the indentation of the fence.
    pub text: String,
}

/// A table: what its cells hold, without the row of dashes.
#[derive(Debug, Clone)]
pub struct Table {
    /// The line of its head, from 1.
    pub line: usize,
    /// The anchor of the heading that it stands under; may be empty.
    pub section: String,
    /// The names of its columns.
    pub head: Vec<String>,
    /// Its rows, cell by cell.
    pub rows: Vec<Vec<String>>,
}

impl Page {
    /// Reads `text`, which is that of the page at `path`.
    #[must_use]
    pub fn read(path: &str, text: &str) -> Page {
        let mut page = Page {
            path: path.to_owned(),
            anchors: Vec::new(),
            blocks: Vec::new(),
            tables: Vec::new(),
            prose: Vec::new(),
        };
        let mut seen = HashMap::new();
        let (mut section, mut indent) = (String::new(), None);
        for (number, line) in (1..).zip(text.lines()) {
            let trimmed = line.trim_start();
            if let Some(width) = indent {
                if trimmed.starts_with("```") {
                    indent = None;
                } else if let Some(block) = page.blocks.last_mut() {
                    let blank = line.len() - trimmed.len();
                    block.text.push_str(&line[blank.min(width)..]);
                    block.text.push('\n');
                }
            } else if let Some(language) = trimmed.strip_prefix("```") {
                indent = Some(line.len() - trimmed.len());
                let language = language.trim().to_owned();
                page.blocks.push(Block { line: number, language, section: section.clone(), text: String::new() });
            } else {
                if let Some(heading) = heading(line) {
                    section = anchor(heading, &mut seen);
                    page.anchors.push(section.clone());
                }
                page.prose.push((number, line.to_owned()));
            }
        }
        page.read_tables();
        page
    }

    /// The blocks under a heading's anchor.
    pub fn blocks_of<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| block.section == section)
    }

    /// The table with these columns under a heading's anchor; the heading's first where `head` is empty.
    #[must_use]
    pub fn table(&self, section: &str, head: &[&str]) -> Option<&Table> {
        self.tables.iter().find(|table| table.section == section && (head.is_empty() || table.head == head))
    }

    fn read_tables(&mut self) {
        let mut seen = HashMap::new();
        let (mut section, mut last) = (String::new(), 0);
        for (number, line) in &self.prose {
            if let Some(heading) = heading(line) {
                section = anchor(heading, &mut seen);
            }
            if !line.starts_with('|') {
                continue;
            }
            let row = cells(line);
            if last + 1 != *number {
                self.tables.push(Table { line: *number, section: section.clone(), head: row, rows: Vec::new() });
            } else if let Some(table) = self.tables.last_mut().filter(|_| !row.iter().all(|cell| is_dashes(cell))) {
                table.rows.push(row);
            }
            last = *number;
        }
    }
}

/// What stands between backticks in a cell.
pub fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    (text.len() < line.len()).then(|| text.strip_prefix(' ')).flatten().map(str::trim)
}

/// GitHub's: lower case, blanks to hyphens, nothing else but letters, digits, `-` and `_`; the second of a name has `-1`.
fn anchor(heading: &str, seen: &mut HashMap<String, usize>) -> String {
    let plain: String = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect();
    let times = seen.entry(plain.clone()).or_default();
    *times += 1;
    if *times == 1 { plain } else { format!("{plain}-{}", *times - 1) }
}

/// The cells of a row; `\|` is no border.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace("\\|", "\u{1}");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

fn is_dashes(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| matches!(c, '-' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A page: `of` two\n\ntext\n\n  ```sql\n  SELECT 1;\n    AS x;\n  ```\n\n## What's `x` (and y)?\n\n| a | b |\n|---|:--|\n\
                        | `1`, `2` | x \\| y |\n|   | z |\n\n```\n# no heading\n| no | table |\n```\n\n## A page: of two\n";

    #[test]
    fn a_page_is_read() {
        let page = Page::read("docs/x.md", TEXT);
        assert_eq!(page.anchors, ["a-page-of-two", "whats-x-and-y", "a-page-of-two-1"]);
        let [sql, plain] = &page.blocks[..] else { panic!("{:?}", page.blocks) };
        assert_eq!((sql.line, sql.language.as_str(), sql.section.as_str()), (5, "sql", "a-page-of-two"));
        assert_eq!(sql.text, "SELECT 1;\n  AS x;\n");
        assert_eq!((plain.language.as_str(), plain.text.as_str()), ("", "# no heading\n| no | table |\n"));
        assert_eq!(page.tables.len(), 1);
        let table = page.table("whats-x-and-y", &["a", "b"]).unwrap();
        assert_eq!(table.rows, [["`1`, `2`", "x | y"], ["", "z"]]);
        assert_eq!(code(&table.rows[0][0]).collect::<Vec<_>>(), ["1", "2"]);
    }
}
