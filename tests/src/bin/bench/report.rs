//! What a run has found, as data: sections of tables, goals and pictures; and all of it in Markdown.

use super::figures::{Spread, number};
use super::svg::Picture;
use std::fmt::Write as _;

/// One field of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// What the row is about.
    Word(String),
    /// What was measured.
    Figure(Spread),
}

impl From<&str> for Cell {
    fn from(word: &str) -> Cell {
        Cell::Word(word.to_owned())
    }
}

impl From<String> for Cell {
    fn from(word: String) -> Cell {
        Cell::Word(word)
    }
}

impl From<&Spread> for Cell {
    fn from(spread: &Spread) -> Cell {
        Cell::Figure(spread.clone())
    }
}

impl From<Spread> for Cell {
    fn from(spread: Spread) -> Cell {
        Cell::Figure(spread)
    }
}

/// Rows and columns; the number of rounds is a last column of its own.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names, with units.
    pub columns: Vec<String>,
    /// As many fields each as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows yet.
    pub fn new(title: &str, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Table { title: title.to_owned(), columns, rows: Vec::new() }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

/// How many rounds a row is of: those of the figure that has the most.
pub fn rounds(row: &[Cell]) -> usize {
    let of = |cell: &Cell| match cell {
        Cell::Word(_) => 0,
        Cell::Figure(spread) => spread.rounds(),
    };
    row.iter().map(of).max().unwrap_or(0)
}

/// Which side of a goal is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// No more than this.
    AtMost,
    /// No less than this.
    AtLeast,
}

/// What was to be reached, and what was.
#[derive(Clone, Debug)]
pub struct Goal {
    /// In words, with the unit.
    pub what: String,
    /// Above or below.
    pub side: Side,
    /// The goal.
    pub wanted: f64,
    /// What was measured; the median counts.
    pub seen: Spread,
}

impl Goal {
    /// At most so much.
    pub fn at_most(what: &str, wanted: f64, seen: Spread) -> Goal {
        Goal { what: what.to_owned(), side: Side::AtMost, wanted, seen }
    }

    /// At least so much.
    pub fn at_least(what: &str, wanted: f64, seen: Spread) -> Goal {
        Goal { what: what.to_owned(), side: Side::AtLeast, wanted, seen }
    }

    /// Whether the median is where it was to be; `None` where nothing was measured.
    pub fn is_met(&self) -> Option<bool> {
        self.seen.median().map(|seen| match self.side {
            Side::AtMost => seen <= self.wanted,
            Side::AtLeast => seen >= self.wanted,
        })
    }

    /// The goal in words.
    pub fn wanted_in_words(&self) -> String {
        format!("at {} {}", if self.side == Side::AtMost { "most" } else { "least" }, number(self.wanted))
    }

    /// Whether it was reached, in words.
    pub fn verdict(&self) -> &'static str {
        match self.is_met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        }
    }
}

/// One of the measurements.
#[derive(Clone, Debug)]
pub struct Section {
    /// As in `ONLY=...`, and in file names.
    pub name: &'static str,
    /// Its headline.
    pub title: &'static str,
    /// How it was measured: a paragraph.
    pub how: String,
    /// The figures.
    pub tables: Vec<Table>,
    /// What was to be reached.
    pub goals: Vec<Goal>,
    /// File names without ending, and pictures.
    pub pictures: Vec<(String, Picture)>,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Where it was made: names and values.
    pub machine: Vec<(String, String)>,
    /// What was measured.
    pub sections: Vec<Section>,
    /// What could not be measured, and why.
    pub failures: Vec<(String, String)>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// A table in Markdown.
pub fn table(of: &Table) -> String {
    let mut text = String::new();
    if !of.title.is_empty() {
        let _ = writeln!(text, "{}\n", of.title);
    }
    let _ = writeln!(text, "| {} | rounds |", of.columns.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(of.columns.len() + 1));
    for row in &of.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | {} |", cells.join(" | "), rounds(row));
    }
    text
}

fn cell(of: &Cell) -> String {
    match of {
        Cell::Word(word) => word.replace('|', "\\|"),
        Cell::Figure(spread) => spread.to_string(),
    }
}

fn goals(of: &[&Goal]) -> String {
    let mut text = "| goal | wanted | measured | |\n|---|---|---|---|\n".to_owned();
    for goal in of {
        let _ = writeln!(text, "| {} | {} | {} | {} |", goal.what, goal.wanted_in_words(), goal.seen, goal.verdict());
    }
    text
}

/// All of it in Markdown; pictures are linked below `folder`.
pub fn markdown(report: &Report, folder: &str) -> String {
    let mut text = "## Machine\n\n| | |\n|---|---|\n".to_owned();
    for (name, value) in &report.machine {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    }
    let _ = writeln!(text, "| the run took | {} s |", number(report.seconds));
    let all: Vec<&Goal> = report.sections.iter().flat_map(|section| &section.goals).collect();
    if !all.is_empty() {
        let _ = write!(text, "\n## Goals\n\n{}", goals(&all));
    }
    for (section, why) in &report.failures {
        let _ = writeln!(text, "\n**Not measured: {section}.** {}", why.lines().next().unwrap_or_default());
    }
    for section in &report.sections {
        let _ = write!(text, "\n## {}\n\n{}\n", section.title, section.how);
        for one in &section.tables {
            let _ = write!(text, "\n{}", table(one));
        }
        for (file, picture) in &section.pictures {
            let _ = writeln!(text, "\n![{}]({folder}/{file}.svg)", picture.title());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let both: Spread = [1.0, 3.0].into_iter().collect();
        let mut one = Table::new("Rates", &["clients", "rate, /s"]);
        one.row(["8 | 9".into(), both.clone().into()]);
        let goals = vec![
            Goal::at_most("time ratio", 2.0, both.clone()),
            Goal::at_least("rate ratio", 2.5, both),
            Goal::at_least("nothing", 1.0, Spread::default()),
        ];
        let section = Section {
            name: "drain",
            title: "Drain",
            how: "So.".into(),
            tables: vec![one],
            goals,
            pictures: Vec::new(),
        };
        Report {
            machine: vec![("CPU".into(), "a | b".into())],
            sections: vec![section],
            failures: vec![("search".into(), "no server\nmore".into())],
            seconds: 12.0,
        }
    }

    #[test]
    fn all_of_it_is_in_the_markdown() {
        let text = markdown(&report(), "pictures");
        for part in [
            "| CPU | a \\| b |",
            "| the run took | 12 s |",
            "| time ratio | at most 2 | 2 (1..3) | met |",
            "| rate ratio | at least 2.50 | 2 (1..3) | **not met** |",
            "| nothing | at least 1 | - | not measured |",
            "**Not measured: search.** no server\n",
            "## Drain\n\nSo.\n\nRates\n\n| clients | rate, /s | rounds |\n|---|---|---|\n| 8 \\| 9 | 2 (1..3) | 2 |",
        ] {
            assert!(text.contains(part), "{part}\n  is not in\n{text}");
        }
    }

    #[test]
    fn rounds_are_those_of_the_fullest_figure() {
        let row = ["x".into(), Spread::from(1.0).into(), [1.0, 2.0].into_iter().collect::<Spread>().into()];
        assert_eq!((rounds(&row), rounds(&["x".into()])), (2, 0));
    }
}
