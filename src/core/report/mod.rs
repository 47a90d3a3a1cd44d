//! The page that `autoembed.report()` gives: one HTML file that needs nothing else. It is drawn from plain values; what time it is, is one
//! of them.
//!
//! Every text that comes from outside goes through [`format::escape`] where it is put into the page, and the page is ASCII, so that it is
//! right in every encoding.

mod between;
mod chart;
mod charts;
mod classes;
mod figures;
pub mod format;
mod now;
mod period;
mod scale;
mod series;
mod tables;

#[cfg(test)]
mod tests;

pub use between::Between;
pub use classes::{CLASSES, Classes};
pub use period::part_seconds;

use format::{ascii, escape};
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");
/// Tables that have a section of their own; of others it is said that there are some.
pub const MOST_TABLES: usize = 50;
/// Lines of the other lists.
pub const MOST_LINES: usize = 60;

/// All that the page shows.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Where and when it was made.
    pub about: About,
    /// The time that it is about.
    pub period: Period,
    /// The vectorizers that the reader may look at.
    pub tables: Vec<Table>,
    /// What was done in each part of that time, by table and model.
    pub points: Vec<Point>,
    /// How long it took, all tables together.
    pub times: Vec<Times>,
    /// Requests that failed, by code.
    pub errors: Vec<Errors>,
    /// Rows that were given up, by table and code.
    pub failures: Vec<Failures>,
    /// What is under way.
    pub progress: Vec<Progress>,
    /// The background workers.
    pub workers: Vec<Worker>,
    /// What all users together have used; `None`: the reader may not look at it.
    pub usage: Option<Vec<Usage>>,
    /// What is done now and then while it is drawn.
    pub between: Between,
}

/// Where and when a page was made, and who reads it.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The database.
    pub database: String,
    /// The reader.
    pub role: String,
    /// The server's version.
    pub server: String,
    /// The extension's.
    pub extension: String,
    /// The library's.
    pub library: String,
    /// pgvector's.
    pub pgvector: String,
    /// The time in the session's time zone.
    pub made_at: String,
    /// The session's time zone.
    pub time_zone: String,
    /// The server is a standby: what it does not know itself is as its primary has it.
    pub is_standby: bool,
}

/// The time that a page is about, in parts of one length.
#[derive(Debug, Clone, Default)]
pub struct Period {
    /// What was asked for, in seconds.
    pub asked: f64,
    /// How long the log is kept, in seconds.
    pub kept: f64,
    /// Length of a part in seconds.
    pub seconds: f64,
    /// Length of the last part, as far as it is over.
    pub last_seconds: f64,
    /// When each part begins, as `YYYY-MM-DD HH:MM:SS` in the session's time zone.
    pub parts: Vec<String>,
}

/// One vectorizer, as it is now.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The table's name.
    pub name: String,
    /// The target column.
    pub column: String,
    /// The model.
    pub model: String,
    /// As in the view `status`.
    pub state: String,
    /// Rows that wait; `None`, here and below: not told to this reader, or not known.
    pub pending: Option<i64>,
    /// Rows in a worker's hand.
    pub in_flight: Option<i64>,
    /// Rows given up.
    pub failed: Option<i64>,
    /// Vectors written since it is there.
    pub embedded: Option<i64>,
    /// Seconds since the oldest row that waits was queued.
    pub oldest: Option<f64>,
    /// Vectors written a second, over the last minute.
    pub rate: Option<f64>,
    /// Seconds to the end of what waits.
    pub eta: Option<f64>,
    /// Median and 95th percentile of the milliseconds of its requests in the whole time.
    pub ms: Option<(f64, f64)>,
}

/// What was done for one table by one model in one part of the time.
#[derive(Debug, Clone, Default)]
pub struct Point {
    /// Index into the tables.
    pub table: usize,
    /// The model.
    pub model: String,
    /// Which part.
    pub part: usize,
    /// Requests made.
    pub requests: i64,
    /// Vectors written.
    pub rows: i64,
    /// Texts sent.
    pub inputs: i64,
    /// Texts that were not sent, because their vector was known.
    pub cached: i64,
    /// Tokens.
    pub tokens: i64,
    /// US dollars.
    pub cost: f64,
    /// Requests that failed.
    pub errors: i64,
    /// 95th percentile of the milliseconds of its requests.
    pub p95: Option<f64>,
    /// Longest time in milliseconds that a row had waited for its vector.
    pub waited: Option<f64>,
    /// Most rows that waited at once, as far as they were counted.
    pub pending: Option<i64>,
    /// Rows that waited at its end: the last count, less what was written after it.
    pub left: Option<i64>,
}

impl Point {
    /// Adds what was done there; times and backlogs are no sums.
    fn add(&mut self, other: &Point) {
        self.requests += other.requests;
        self.rows += other.rows;
        self.inputs += other.inputs;
        self.cached += other.cached;
        self.tokens += other.tokens;
        self.cost += other.cost;
        self.errors += other.errors;
    }
}

/// How long things took in one part of the time, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Which part.
    pub part: usize,
    /// Median of the requests that were answered.
    pub p50: Option<f64>,
    /// Their 95th percentile.
    pub p95: Option<f64>,
    /// Median of what the oldest row of each batch had waited for its vector.
    pub waited: Option<f64>,
    /// The longest.
    pub waited_most: Option<f64>,
}

/// Requests of one part of the time that failed with one code.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    /// Which part.
    pub part: usize,
    /// The code.
    pub code: String,
    /// How many.
    pub count: i64,
}

/// Rows of one table that were given up for one reason.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    /// The table and its column.
    pub table: String,
    /// The code.
    pub code: String,
    /// What to do.
    pub hint: String,
    /// How many.
    pub count: i64,
    /// When the last of them was.
    pub last: String,
}

/// A backfill, the build of an index or a change of model.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The table and its column.
    pub table: String,
    /// What it is.
    pub kind: String,
    /// Of a hundred.
    pub percent: f64,
    /// Rows done.
    pub done: Option<i64>,
    /// Rows in all.
    pub total: Option<i64>,
    /// Rows a second.
    pub rate: Option<f64>,
    /// Seconds to the end.
    pub eta: Option<f64>,
    /// As in the view `progress`.
    pub state: String,
}

/// A background process.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    /// Its process.
    pub pid: i32,
    /// What it is.
    pub kind: String,
    /// What it does.
    pub state: String,
    /// Since when it is there.
    pub started: String,
}

/// What a model has cost on one day (UTC).
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// The model.
    pub model: String,
    /// The day.
    pub day: String,
    /// Requests.
    pub requests: i64,
    /// Texts.
    pub inputs: i64,
    /// Tokens.
    pub tokens: i64,
    /// US dollars.
    pub cost: f64,
    /// Requests that failed.
    pub errors: i64,
    /// Texts that were not sent.
    pub cached: i64,
}

/// The page.
pub fn page(mut report: Report) -> String {
    // Table after table: there may be thousands, and each looks for its own points.
    let Report { points, between, .. } = &mut report;
    points.sort_by_key(|point| {
        between.tick();
        (point.table, point.part)
    });
    let report = &report;
    let mut html = String::with_capacity(100_000);
    let About { database, made_at, time_zone, .. } = &report.about;
    let title = format!("autoembed: {database}, {made_at} {time_zone}");
    // No script runs in it, and nothing is loaded, whatever is in it.
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape(&title)
    );
    now::head(&mut html, report);
    html.push_str("<main>\n");
    now::overview(&mut html, report);
    charts::overall(&mut html, report);
    tables::progress(&mut html, report);
    tables::all(&mut html, report);
    tables::failures(&mut html, report);
    tables::models(&mut html, report);
    tables::usage(&mut html, report);
    tables::workers(&mut html, report);
    html.push_str("</main>\n");
    now::foot(&mut html, report);
    html.push_str("</body>\n</html>\n");
    ascii(&html)
}
