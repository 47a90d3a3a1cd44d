//! How the demo looks on a terminal, and in a log file.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Columns of the page: what fits a terminal that nobody widened.
const WIDTH: usize = 100;

/// Where everything is printed. Colour and redrawing only where a person looks.
pub struct Page {
    terminal: bool,
    colour: bool,
    step: usize,
}

impl Page {
    /// The page on standard output.
    pub fn new() -> Page {
        let terminal = std::io::stdout().is_terminal();
        Page { terminal, colour: terminal && std::env::var_os("NO_COLOR").is_none(), step: 0 }
    }

    /// A plain line.
    pub fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Whoever closed the other end of a pipe has seen enough.
        let _ = writeln!(out, "{text}");
    }

    /// The next numbered heading.
    pub fn step(&mut self, text: &str) {
        self.step += 1;
        self.line("");
        self.line(&self.painted("1", &format!("{}. {text}", self.step)));
    }

    /// SQL as it is run, one or several lines.
    pub fn sql(&self, sql: &str) {
        for (n, line) in sql.lines().enumerate() {
            let prompt = if n == 0 { "app=# " } else { "app-# " };
            self.line(&format!("   {}", self.painted("36", &format!("{prompt}{line}"))));
        }
    }

    /// A progress bar; on a terminal it is redrawn in place, elsewhere only the full bar is printed.
    pub fn bar(&self, label: &str, done: usize, total: usize, elapsed: Duration) {
        const CELLS: usize = 40;
        if !self.terminal && done < total {
            return;
        }
        let full = CELLS * done.min(total) / total.max(1);
        let bar = format!(
            "   {label} [{}{}] {done:>3}/{total} rows  {:>4.1} s",
            "#".repeat(full),
            ".".repeat(CELLS - full),
            elapsed.as_secs_f64()
        );
        let mut out = std::io::stdout().lock();
        let _ = match (self.terminal, done < total) {
            (true, true) => write!(out, "\r{bar}").and_then(|()| out.flush()),
            (true, false) => writeln!(out, "\r{bar}"),
            (false, _) => writeln!(out, "{bar}"),
        };
    }

    /// A table with aligned columns; numbers to the right, the last column cut where the page ends.
    pub fn table(&self, headings: &[&str], rows: &[Vec<String>]) {
        let last = headings.len().saturating_sub(1);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let room = WIDTH.saturating_sub(widths[..last].iter().map(|width| width + 3).sum::<usize>() + 6);
        let cut = |cell: &str, column: usize| {
            if column == last && cell.chars().count() > room {
                format!("{}...", cell.chars().take(room.saturating_sub(3)).collect::<String>().trim_end())
            } else {
                cell.to_owned()
            }
        };
        let draw = |cells: &[String]| {
            let cells = cells.iter().enumerate().map(|(column, cell)| {
                let (cell, width) = (cut(cell, column), widths[column]);
                match (cell.parse::<f64>().is_ok(), column == last) {
                    (true, _) => format!("{cell:>width$}"),
                    (false, true) => cell,
                    (false, false) => format!("{cell:<width$}"),
                }
            });
            format!("    {}", cells.collect::<Vec<_>>().join(" | ").trim_end())
        };
        self.line(&draw(&headings.iter().map(|&heading| heading.to_owned()).collect::<Vec<_>>()));
        let rules: Vec<String> = (0..headings.len())
            .map(|column| "-".repeat(widths[column].min(if column == last { room } else { WIDTH })))
            .collect();
        self.line(&format!("    {}", rules.join("-+-")));
        for row in rows {
            self.line(&draw(row));
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
