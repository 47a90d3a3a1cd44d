//! What is known of each table, of what is under way, and of what has failed.

use super::chart::{Series, name_of, spark};
use super::charts::age;
use super::format::{count, dollars, escape, millis, number, pace, pace_unit, percent, plural, seconds, shortened};
use super::now::Mood;
use super::series::{backlog, length, of_all, of_table, ranked};
use super::{MOST_LINES, MOST_TABLES, Point, Report, Table};
use std::collections::HashMap;
use std::fmt::Write as _;

/// With more tables than this, each has less room.
const FEW: usize = 12;
/// Characters of a state or hint.
const WORDS: usize = 600;

/// A table with all tables, those that need somebody first.
pub(super) fn all(html: &mut String, report: &Report) {
    if report.tables.is_empty() {
        return;
    }
    let mut order: Vec<usize> = (0..report.tables.len()).collect();
    let rows = |i: &usize| of_table(report, *i).map(|p| p.rows).sum::<i64>();
    order.sort_by_cached_key(|i| (Mood::of(&report.tables[*i].state), -rows(i), *i));
    html.push_str(
        "<section><h2>Tables</h2>\n<p>Beside each small picture is the greatest value in it. Of the requests that were answered, half were \
         faster than p50, and 95 % than p95; waited: the longest from a change to its vector.</p><div class=\"tables\">\n",
    );
    order.iter().take(MOST_TABLES).for_each(|i| one(html, report, *i));
    html.push_str("</div>\n");
    if order.len() > MOST_TABLES {
        let _ = writeln!(
            html,
            "<p>And {} more, in which less was done: see autoembed.status.</p>",
            count((order.len() - MOST_TABLES) as i64)
        );
    }
    html.push_str("</section>\n");
}

fn one(html: &mut String, report: &Report, i: usize) {
    let table = &report.tables[i];
    let (class, sign) = Mood::of(&table.state).sign();
    let _ = write!(
        html,
        "<article><h3>{}</h3><p class=\"model\">{}</p><p class=\"state {class}\"><i aria-hidden=\"true\">{sign}</i>{}</p>",
        escape(&name_of(table)),
        escape(&table.model),
        escape(&shortened(&table.state, WORDS))
    );
    if table.pending.is_none() {
        html.push_str(
            "<p class=\"empty\">Policies hide rows of this table from the reader, and so its figures.</p></article>\n",
        );
        return;
    }
    figures(html, report, table, i);
    sparks(html, report, i);
    html.push_str("</article>\n");
}

fn figures(html: &mut String, report: &Report, table: &Table, i: usize) {
    let sum = |of: fn(&Point) -> i64| of_table(report, i).map(of).sum::<i64>();
    let (requests, errors) = (sum(|p| p.requests), sum(|p| p.errors));
    let cost: f64 = of_table(report, i).map(|p| p.cost).sum();
    let known = |n: Option<i64>| n.map_or("-".to_string(), count);
    let waiting = match table.oldest {
        Some(_) => format!("{}, the oldest for {}", known(table.pending), age(table.oldest)),
        None => known(table.pending),
    };
    let rate = match (table.rate, table.eta) {
        (Some(rate), Some(eta)) if eta > 0.0 => format!("{}, done in {}", pace(rate), seconds(eta)),
        (Some(rate), _) => pace(rate),
        // No request in that minute.
        (None, _) => pace(0.0),
    };
    let asked = match requests {
        0 => count(0),
        _ => format!("{}, {} failed", count(requests), percent(errors, requests)),
    };
    let all = [
        ("waiting now", waiting),
        ("in a worker's hand", known(table.in_flight)),
        ("given up", known(table.failed)),
        ("in the last minute", rate),
        ("vectors so far", known(table.embedded)),
        ("of them in this time", count(sum(|p| p.rows))),
        ("requests", asked),
        ("p50, p95", table.ms.map_or("-".to_string(), |(p50, p95)| format!("{}, {}", millis(p50), millis(p95)))),
        ("tokens", format!("{}, {}", count(sum(|p| p.tokens)), dollars(cost))),
    ];
    html.push_str("<dl>");
    for (name, value) in all {
        let _ = write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    html.push_str("</dl>");
}

fn sparks(html: &mut String, report: &Report, i: usize) {
    let n = report.period.parts.len();
    let is_few = report.tables.len() <= FEW;
    let room = if is_few { 48 } else { 24 };
    // During a change there are two models in one part.
    let series = |colour: usize, both: fn(f64, f64) -> f64, of: &dyn Fn(&Point) -> Option<f64>| {
        let mut values: Vec<Option<f64>> = vec![None; n];
        for point in of_table(report, i) {
            if let Some(value) = values.get_mut(point.part) {
                *value = (*value).into_iter().chain(of(point)).reduce(both);
            }
        }
        Series { name: String::new(), colour, values }
    };
    let sum = |a: f64, b: f64| a + b;
    html.push_str("<div class=\"sparks\">");
    let mut rate = series(0, sum, &|p| Some(p.rows as f64 / length(report, p.part)));
    let (time, unit) = pace_unit(rate.most().unwrap_or(0.0));
    rate.values.iter_mut().flatten().for_each(|n| *n *= time);
    spark(html, unit, &rate, room, number);
    let waiting = Series { name: String::new(), colour: 3, values: backlog(report, i) };
    spark(html, "waiting", &waiting, room, |n| count(n.round() as i64));
    if is_few {
        spark(html, "p95", &series(1, f64::max, &|p| p.p95), room, millis);
        spark(html, "waited", &series(4, f64::max, &|p| p.waited), room, millis);
    }
    if of_table(report, i).any(|p| p.errors > 0) {
        spark(html, "errors", &series(5, sum, &|p| Some(p.errors as f64)), room, |n| count(n.round() as i64));
    }
    html.push_str("</div>");
}

/// How many more there are is not asked for.
const MORE: &str = "<p>And more, which the views have.</p>";

/// What is under way.
pub(super) fn progress(html: &mut String, report: &Report) {
    if report.progress.is_empty() {
        return;
    }
    html.push_str("<section><h2>Under way</h2>\n<ul class=\"progress\">\n");
    for p in report.progress.iter().take(MOST_LINES) {
        let rows = match (p.done, p.total) {
            (Some(done), Some(total)) => format!("{} of about {} rows", count(done), count(total)),
            (Some(done), None) => plural(done, "row", "rows"),
            _ => String::new(),
        };
        let rate = p.rate.map_or(String::new(), pace);
        let eta = p.eta.map_or(String::new(), |eta| format!("done in {}", seconds(eta)));
        let told: Vec<String> =
            [shortened(&p.state, WORDS), rows, rate, eta].into_iter().filter(|part| !part.is_empty()).collect();
        let percent = p.percent.clamp(0.0, 100.0);
        let _ = writeln!(
            html,
            "<li><b>{}</b> {} <span>{percent:.1} %</span><div class=\"bar\" role=\"progressbar\" aria-valuemin=\"0\" aria-valuemax=\"100\" aria-valuenow=\"{percent:.1}\" \
             aria-label=\"{}\"><div style=\"width:{percent:.1}%\"></div></div><small>{}</small></li>",
            escape(&p.table),
            escape(&p.kind),
            escape(&format!("{} of {}", p.kind, p.table)),
            escape(&told.join(", "))
        );
    }
    html.push_str("</ul></section>\n");
}

/// A table of HTML; the first `texts` columns are words, the others figures.
fn list(html: &mut String, title: &str, note: &str, heads: &[&str], texts: usize, rows: &[Vec<String>]) {
    let _ = write!(html, "<section><h2>{title}</h2>");
    if !note.is_empty() {
        let _ = write!(html, "<p>{}</p>", escape(note));
    }
    let _ =
        write!(html, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\"><table><thead><tr>");
    for (i, head) in heads.iter().enumerate() {
        let _ = write!(html, "<th scope=\"col\"{}>{head}</th>", if i < texts { "" } else { " class=\"n\"" });
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows.iter().take(MOST_LINES) {
        html.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", if i < texts { "" } else { " class=\"n\"" }, escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>");
    if rows.len() > MOST_LINES {
        html.push_str(MORE);
    }
    html.push_str("</section>\n");
}

/// Rows that were given up.
pub(super) fn failures(html: &mut String, report: &Report) {
    if report.failures.is_empty() {
        return;
    }
    let row = |f: &super::Failures| {
        vec![f.table.clone(), f.code.clone(), shortened(&f.hint, WORDS), f.last.clone(), count(f.count)]
    };
    let rows: Vec<Vec<String>> = report.failures.iter().map(row).collect();
    let note = "Their messages may quote texts, and are in the view autoembed.failed_jobs. retry_failed() queues the rows again.";
    list(html, "Rows given up", note, &["table", "code", "what to do", "last", "rows"], 4, &rows);
}

/// What each model did and cost.
pub(super) fn models(html: &mut String, report: &Report) {
    let mut sums: HashMap<&str, Point> = HashMap::new();
    for point in of_all(report) {
        sums.entry(&point.model).or_default().add(point);
    }
    let rows: Vec<Vec<String>> = ranked(sums.iter().map(|(model, sum)| ((*model).to_string(), sum.requests as f64)))
        .into_iter()
        .map(|model| {
            let sum = &sums[model.as_str()];
            vec![
                model.clone(),
                count(sum.rows),
                count(sum.requests),
                percent(sum.errors, sum.requests),
                count(sum.inputs),
                percent(sum.cached, sum.inputs + sum.cached),
                count(sum.tokens),
                dollars(sum.cost),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let heads = ["model", "rows", "requests", "failed", "texts sent", "remembered", "tokens", "cost"];
        list(html, "Models", "In this time, of all tables that are told of here.", &heads, 1, &rows);
    }
}

/// What all users together have used.
pub(super) fn usage(html: &mut String, report: &Report) {
    let Some(days) = report.usage.as_ref().filter(|days| !days.is_empty()) else { return };
    let row = |u: &super::Usage| {
        vec![
            u.day.clone(),
            u.model.clone(),
            count(u.requests),
            percent(u.errors, u.requests),
            count(u.inputs),
            percent(u.cached, u.inputs + u.cached),
            count(u.tokens),
            dollars(u.cost),
        ]
    };
    let rows: Vec<Vec<String>> = days.iter().map(row).collect();
    let heads = ["day (UTC)", "model", "requests", "failed", "texts sent", "remembered", "tokens", "cost"];
    list(html, "Use of each day", "Of the whole database, with embed() and searches.", &heads, 2, &rows);
}

/// The processes.
pub(super) fn workers(html: &mut String, report: &Report) {
    if report.workers.is_empty() {
        let note = if report.about.is_standby {
            "None: a standby has no worker."
        } else {
            "None: rows wait for one, or for autoembed.embed_pending()."
        };
        let _ = writeln!(html, "<section><h2>Workers</h2><p class=\"empty\">{note}</p></section>");
        return;
    }
    let row = |w: &super::Worker| vec![w.kind.clone(), w.state.clone(), w.started.clone(), w.pid.to_string()];
    let rows: Vec<Vec<String>> = report.workers.iter().map(row).collect();
    list(html, "Workers", "", &["process", "state", "since", "pid"], 3, &rows);
}
