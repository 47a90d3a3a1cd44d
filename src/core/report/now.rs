//! The head of the page, what is to be said first, and its foot.

use super::chart::name_of;
use super::format::{count, dollars, escape, millis, pace, percent, plural, seconds, short};
use super::series::of_all;
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
        whole(period.asked),
        escape(&about.made_at),
        escape(&about.time_zone)
    );
    if period.asked > period.kept {
        let _ = write!(html, "; the log of requests is kept for {}", seconds(period.kept));
    }
    if let Some(begin) = period.parts.first() {
        let _ = write!(html, ". Counted from {} on, in parts of {}", escape(begin), seconds(period.seconds));
    }
    let _ = write!(html, ". As seen by <b>{}</b>", escape(&about.role));
    html.push_str(if about.is_standby { ", on a standby.</p>\n" } else { ".</p>\n" });
    html.push_str("</header>\n");
}

/// A day is 24 hours, since nobody means the calendar's.
fn whole(s: f64) -> String {
    if s == 86_400.0 { "24 h".to_string() } else { seconds(s) }
}

/// What is wrong, and the figures of the whole time and of now.
pub(super) fn overview(html: &mut String, report: &Report) {
    html.push_str("<section class=\"overview\" aria-label=\"Overview\">");
    verdict(html, report);
    let sum = |of: fn(&Table) -> Option<i64>| {
        let known: Vec<i64> = report.tables.iter().filter_map(of).collect();
        if known.is_empty() { "-".to_string() } else { fitting(known.iter().sum()) }
    };
    // Somebody wants those of a paused table to wait.
    let served = report.tables.iter().filter(|t| Mood::of(&t.state) != Mood::Paused);
    let oldest = served.filter_map(|t| t.oldest).reduce(f64::max);
    let rate: f64 = report.tables.iter().filter_map(|t| t.rate).sum();
    let now = [
        (
            "rows waiting",
            sum(|t| t.pending),
            oldest.map_or(String::new(), |s| format!("the oldest for {}", seconds(s))),
        ),
        ("in a worker's hand", sum(|t| t.in_flight), format!("{} in the last minute", pace(rate))),
        ("rows given up", sum(|t| t.failed), "kept until somebody looks".to_string()),
    ];
    let of_points = |of: fn(&super::Point) -> i64| of_all(report).map(of).sum::<i64>();
    let (requests, failed, inputs, cached) =
        (of_points(|p| p.requests), of_points(|p| p.errors), of_points(|p| p.inputs), of_points(|p| p.cached));
    let slowest = report.times.iter().filter_map(|t| t.p95).reduce(f64::max);
    let period = &report.period;
    let in_all = [
        ("rows embedded", fitting(of_points(|p| p.rows)), format!("by {}", plural(requests, "request", "requests"))),
        ("requests failed", percent(failed, requests), format!("{} of {}", count(failed), count(requests))),
        (
            "slowest p95",
            slowest.map_or("-".to_string(), millis),
            format!("95 % were faster in the worst {}", seconds(period.seconds)),
        ),
        ("tokens", fitting(of_points(|p| p.tokens)), dollars(of_all(report).map(|p| p.cost).sum())),
        ("texts remembered", percent(cached, inputs + cached), format!("{} not sent", count(cached))),
    ];
    html.push_str("<div class=\"figures\">");
    tiles(html, "Now", &now);
    tiles(html, &format!("The last {}", whole(period.asked.min(period.kept))), &in_all);
    html.push_str("</div></section>\n");
}

fn tiles(html: &mut String, title: &str, tiles: &[(&str, String, String)]) {
    let _ = write!(html, "<div><h2>{}</h2><dl class=\"tiles\">", escape(title));
    for (name, value, more) in tiles {
        let _ =
            write!(html, "<div><dt>{name}</dt><dd><b>{}</b> <small>{}</small></dd></div>", escape(value), escape(more));
    }
    html.push_str("</dl></div>");
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
        let what = "There is no table here that is kept embedded and that this role may read; autoembed.enable('table', 'column') begins with one";
        said.push((Mood::Note, what.to_string()));
    } else if report.tables.iter().all(|t| t.pending.is_none()) {
        let what = "Numbers are for roles that see all rows of a table: policies hide rows from this one";
        said.push((Mood::Note, what.to_string()));
    }
    for table in &report.tables {
        if let (Mood::Paused, Some(waiting @ 1..)) = (Mood::of(&table.state), table.pending) {
            let rows = plural(waiting, "row waits", "rows wait");
            said.push((Mood::Paused, format!("{} is paused; {rows}", name_of(table))));
        }
    }
    if said.is_empty() {
        said.push((Mood::Good, "Nothing needs anybody".to_string()));
    }
    said.sort_by_key(|(mood, _)| *mood);
    const SAID: usize = 10;
    html.push_str("<ul class=\"verdict\">");
    for (mood, what) in said.iter().take(SAID) {
        let (class, sign) = mood.sign();
        let _ = write!(html, "<li class=\"{class}\"><i aria-hidden=\"true\">{sign}</i>{}</li>", escape(what));
    }
    if let Some((mood, _)) = said.get(SAID) {
        let (class, sign) = mood.sign();
        let more = said.len() - SAID;
        let _ = write!(html, "<li class=\"{class}\"><i aria-hidden=\"true\">{sign}</i>and {more} more</li>");
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
         <p>Times are in that time zone, but for days of use, which are UTC. Figures over time are from the view autoembed.requests, for tables all of \
         whose rows the reader may see; calls of embed() and of searches are in autoembed.usage alone. Percentiles are true to about 2 %.</p></footer>\n",
        escape(&versions),
        escape(&about.pgvector),
        escape(&about.server),
        escape(&about.made_at),
        escape(&about.time_zone)
    );
}
