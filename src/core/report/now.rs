//! The head of the page, what is to be said first, and its foot.

use super::chart::name_of;
use super::format::{count, dollars, escape, millis, number, percent, plural, seconds, short};
use super::{Report, Table};
use std::fmt::Write as _;

/// What a state means to somebody who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mood {
    /// Somebody has to act.
    Bad,
    /// Something is to be known.
    Note,
    /// Nothing happens, as somebody wants it.
    Paused,
    /// All is well.
    Good,
}

impl Mood {
    /// By the first words of a state.
    pub(super) fn of(state: &str) -> Mood {
        match state {
            _ if state.starts_with("blocked") => Mood::Bad,
            _ if state.starts_with("paused") => Mood::Paused,
            _ if state.starts_with("active:") => Mood::Note,
            _ => Mood::Good,
        }
    }

    /// The class of the style sheet, and a sign that needs no colour.
    pub(super) fn sign(self) -> (&'static str, &'static str) {
        match self {
            Mood::Bad => ("bad", "\u{2716}"),
            Mood::Note => ("note", "\u{25b2}"),
            Mood::Paused => ("paused", "\u{2016}"),
            Mood::Good => ("good", "\u{2714}"),
        }
    }
}

/// The head of the page.
pub(super) fn head(html: &mut String, report: &Report) {
    let (about, period) = (&report.about, &report.period);
    let _ = write!(
        html,
        "<header><h1>autoembed <span>{}</span></h1>\n<p>The last {}, until {} ({})",
        escape(&about.database),
        if period.asked == 86_400.0 { "24 h".to_string() } else { seconds(period.asked) },
        escape(&about.made_at),
        escape(&about.time_zone)
    );
    if period.asked > period.kept {
        let _ = write!(html, "; the log of requests is kept for {}", seconds(period.kept));
    }
    let _ = write!(html, ". As seen by <b>{}</b>", escape(&about.role));
    html.push_str(if about.is_standby { ", on a standby.</p>\n" } else { ".</p>\n" });
    html.push_str("</header>\n");
}

/// What is wrong, and the figures of the whole time and of now.
pub(super) fn overview(html: &mut String, report: &Report) {
    html.push_str("<section class=\"overview\">");
    verdict(html, report);
    html.push_str("<dl class=\"tiles\">");
    let sum = |of: fn(&Table) -> Option<i64>| {
        let known: Vec<i64> = report.tables.iter().filter_map(of).collect();
        if known.is_empty() { "-".to_string() } else { fitting(known.iter().sum()) }
    };
    let oldest = report.tables.iter().filter_map(|t| t.oldest).reduce(f64::max);
    let of_points = |of: fn(&super::Point) -> i64| report.points.iter().map(of).sum::<i64>();
    let (requests, failed, inputs, cached) =
        (of_points(|p| p.requests), of_points(|p| p.errors), of_points(|p| p.inputs), of_points(|p| p.cached));
    let rate: f64 = report.tables.iter().filter_map(|t| t.rate).sum();
    let slowest = report.times.iter().filter_map(|t| t.p95).reduce(f64::max);
    let tiles = [
        ("waiting now", sum(|t| t.pending), oldest.map_or(String::new(), |s| format!("the oldest for {}", seconds(s)))),
        ("in a worker's hand", sum(|t| t.in_flight), format!("{} rows/s in the last minute", number(rate))),
        ("failed, kept for you", sum(|t| t.failed), "rows given up".to_string()),
        ("rows embedded", fitting(of_points(|p| p.rows)), format!("by {}", plural(requests, "request", "requests"))),
        ("requests failed", percent(failed, requests), count(failed)),
        ("slowest p95", slowest.map_or("-".to_string(), millis), "of a request".to_string()),
        ("tokens", fitting(of_points(|p| p.tokens)), dollars(report.points.iter().map(|p| p.cost).sum())),
        ("texts remembered", percent(cached, inputs + cached), format!("{} not sent", count(cached))),
    ];
    for (name, value, more) in tiles {
        let _ = write!(
            html,
            "<div><dt>{name}</dt><dd><b>{}</b> <small>{}</small></dd></div>",
            escape(&value),
            escape(&more)
        );
    }
    html.push_str("</dl></section>\n");
}

/// A number that has room in a tile.
fn fitting(n: i64) -> String {
    if n < 1_000_000 { count(n) } else { short(n as f64) }
}

fn verdict(html: &mut String, report: &Report) {
    let is_any_waiting = report.tables.iter().any(|t| t.pending.unwrap_or(0) > 0);
    let has_worker = report.workers.iter().any(|w| w.kind == "worker");
    let mut said: Vec<(Mood, String)> = Vec::new();
    for table in &report.tables {
        if Mood::of(&table.state) == Mood::Bad {
            said.push((Mood::Bad, format!("{} is {}", name_of(table), table.state)));
        }
    }
    for table in &report.tables {
        if let Some(what) = table.state.strip_prefix("active: ") {
            said.push((Mood::Note, format!("{}: {what}", name_of(table))));
        }
    }
    if !has_worker && is_any_waiting && !report.about.is_standby {
        said.push((Mood::Bad, "Rows wait, and no worker serves this database".to_string()));
    }
    let failed: i64 = report.tables.iter().filter_map(|t| t.failed).sum();
    if failed > 0 {
        let what = plural(failed, "row was given up and waits", "rows were given up and wait");
        said.push((Mood::Note, format!("{what} for somebody: see below")));
    }
    if report.tables.is_empty() {
        let what = "There is no table here that is kept embedded and that this role may read";
        said.push((Mood::Note, what.to_string()));
    } else if report.tables.iter().all(|t| t.pending.is_none()) {
        let what = "Numbers are for roles that see all rows of a table: policies hide rows from this one";
        said.push((Mood::Note, what.to_string()));
    }
    if said.is_empty() {
        said.push((Mood::Good, "Nothing needs anybody".to_string()));
    }
    const SAID: usize = 10;
    html.push_str("<ul class=\"verdict\">");
    for (mood, what) in said.iter().take(SAID) {
        let (class, sign) = mood.sign();
        let _ = write!(html, "<li class=\"{class}\"><i aria-hidden=\"true\">{sign}</i>{}</li>", escape(what));
    }
    if said.len() > SAID {
        let _ = write!(
            html,
            "<li class=\"bad\"><i aria-hidden=\"true\">{}</i>and {} more</li>",
            Mood::Bad.sign().1,
            said.len() - SAID
        );
    }
    html.push_str("</ul>");
}

/// Versions, and where it is said what the figures mean.
pub(super) fn foot(html: &mut String, report: &Report) {
    let about = &report.about;
    let mut versions = format!("autoembed {}", about.extension);
    if about.library != about.extension {
        let _ = write!(versions, " (library {})", about.library);
    }
    let _ = write!(
        html,
        "<footer><p>{}, pgvector {}, PostgreSQL {}. Made at {} ({}) by autoembed.report().</p>\n\
         <p>Times are in that time zone, one bar or point stands for {}. Figures over time are from the view autoembed.requests, for tables all of \
         whose rows the reader may see; calls of embed() and of searches are in autoembed.usage alone.</p></footer>\n",
        escape(&versions),
        escape(&about.pgvector),
        escape(&about.server),
        escape(&about.made_at),
        escape(&about.time_zone),
        seconds(report.period.seconds)
    );
}
