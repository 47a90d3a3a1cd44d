//! The pictures of all tables together.

use super::chart::{Chart, Kind, Series};
use super::figures;
use super::format::{
    count, dollars, dollars_marked, escape, millis, millis_marked, number, pace_unit, percent, plural, seconds, short,
};
use super::series::{backlog, length, names, of_all, of_table, ranked, stacked, tables_ranked};
use super::{Point, Report, Times};
use std::fmt::Write as _;

/// Adds them.
pub(super) fn overall(html: &mut String, report: &Report) {
    let part = seconds(report.period.seconds);
    let zone = escape(&report.about.time_zone);
    let _ = write!(
        html,
        "<section><h2>Over time</h2>\n<p>One bar or point stands for {part}, from the time below it on ({zone}). Point at it to see its \
         figures{}.</p>\n<div class=\"charts\">\n",
        if report.points.is_empty() { "" } else { "; all of them are in the table below the pictures" }
    );
    let charts = [
        throughput(report),
        waiting(report),
        latency(report),
        waited(report),
        requests(report),
        errors(report),
        texts(report),
        tokens(report),
        cost(report),
    ];
    charts.iter().for_each(|chart| chart.draw(html, &report.period));
    html.push_str("</div>\n");
    figures::table(html, report);
    html.push_str("</section>\n");
}

fn sum(report: &Report, of: impl Fn(&Point) -> i64) -> i64 {
    of_all(report).map(of).sum()
}

fn throughput(report: &Report) -> Chart<'_> {
    let order = tables_ranked(report);
    let names = names(report, &order);
    let mut all = vec![0.0; report.period.parts.len()];
    for point in of_all(report) {
        if let Some(all) = all.get_mut(point.part) {
            *all += point.rows as f64 / length(report, point.part);
        }
    }
    let (time, unit) = pace_unit(all.into_iter().fold(0.0, f64::max));
    let rates = order.iter().zip(&names).flat_map(|(table, name)| {
        of_table(report, *table).map(move |p| (name.clone(), p.part, p.rows as f64 * time / length(report, p.part)))
    });
    let (title, write): (_, fn(f64) -> String) = match unit {
        "rows/s" => ("Rows embedded a second", |n| number(n) + " rows/s"),
        "rows/min" => ("Rows embedded a minute", |n| number(n) + " rows/min"),
        _ => ("Rows embedded an hour", |n| number(n) + " rows/h"),
    };
    Chart {
        title,
        note: plural(sum(report, |p| p.rows), "row", "rows") + " in all",
        kind: Kind::Bars,
        series: without_empty(stacked(&names, report.period.parts.len(), rates)),
        is_whole: false,
        write,
        mark: short,
        empty: "No row was embedded in this time.",
    }
}

fn waiting(report: &Report) -> Chart<'_> {
    let order = tables_ranked(report);
    let names = names(report, &order);
    let levels = order.iter().zip(&names).flat_map(|(table, name)| {
        backlog(report, *table).into_iter().enumerate().filter_map(|(part, n)| Some((name.clone(), part, n?)))
    });
    let series = stacked(&names, report.period.parts.len(), levels);
    let now: i64 = report.tables.iter().filter_map(|t| t.pending).sum();
    Chart {
        title: "Rows waiting",
        note: format!("{} now; before, the most that was counted while requests were made", count(now)),
        kind: Kind::Levels,
        series: without_empty(series),
        is_whole: true,
        write: |n| count(n.round() as i64) + " waiting",
        mark: short,
        empty: "The queue was not counted in this time.",
    }
}

fn line(name: &str, colour: usize, report: &Report, of: impl Fn(&Times) -> Option<f64>) -> Series {
    let mut values = vec![None; report.period.parts.len()];
    for times in &report.times {
        if let Some(value) = values.get_mut(times.part) {
            *value = of(times);
        }
    }
    Series { name: name.to_string(), colour, values }
}

fn latency(report: &Report) -> Chart<'_> {
    let series = vec![
        line("95 % are faster (p95)", 1, report, |times| times.p95),
        line("half of them are faster (p50)", 0, report, |times| times.p50),
    ];
    let most = series[0].most().unwrap_or(0.0);
    Chart {
        title: "Time of a request",
        note: format!("those that were answered; p95 at most {}", millis(most)),
        kind: Kind::Lines,
        series,
        is_whole: false,
        write: millis,
        mark: millis_marked,
        empty: "No request was answered in this time.",
    }
}

fn waited(report: &Report) -> Chart<'_> {
    let series = vec![
        line("the longest", 1, report, |times| times.waited_most),
        line("the median batch's", 0, report, |times| times.waited),
    ];
    let most = series[0].most().unwrap_or(0.0);
    Chart {
        title: "From change to vector",
        note: format!("of the oldest row of each batch; at most {}", millis(most)),
        kind: Kind::Lines,
        series,
        is_whole: false,
        write: millis,
        mark: millis_marked,
        empty: "No row was embedded in this time.",
    }
}

fn requests(report: &Report) -> Chart<'_> {
    let names = ["answered", "failed"].map(str::to_string);
    let told = of_all(report).flat_map(|p| {
        let failed = p.errors.min(p.requests);
        [(names[0].clone(), p.part, (p.requests - failed) as f64), (names[1].clone(), p.part, failed as f64)]
    });
    Chart {
        title: "Requests",
        note: plural(sum(report, |p| p.requests), "request", "requests") + " in all",
        kind: Kind::Bars,
        series: without_empty(stacked(&names, report.period.parts.len(), told)),
        is_whole: true,
        write: |n| count(n.round() as i64),
        mark: short,
        empty: "No request was made in this time.",
    }
}

fn errors(report: &Report) -> Chart<'_> {
    let told = || report.errors.iter().map(|e| (e.code.clone(), e.count as f64));
    let series = stacked(
        &ranked(told()),
        report.period.parts.len(),
        report.errors.iter().map(|e| (e.code.clone(), e.part, e.count as f64)),
    );
    let (requests, failed) = (sum(report, |p| p.requests), sum(report, |p| p.errors));
    Chart {
        title: "Requests that failed, by code",
        note: format!("{} of {} ({})", count(failed), count(requests), percent(failed, requests)),
        kind: Kind::Bars,
        series,
        is_whole: true,
        write: |n| count(n.round() as i64),
        mark: short,
        empty: if requests == 0 { "No request was made in this time." } else { "None failed." },
    }
}

fn texts(report: &Report) -> Chart<'_> {
    let (sent, known) = (sum(report, |p| p.inputs), sum(report, |p| p.cached));
    let names = ["sent", "remembered, so not sent"].map(str::to_string);
    let told = of_all(report)
        .flat_map(|p| [(names[0].clone(), p.part, p.inputs as f64), (names[1].clone(), p.part, p.cached as f64)]);
    let mut series = stacked(&names, report.period.parts.len(), told);
    series[1].colour = 2;
    Chart {
        title: "Texts",
        note: format!("{} remembered of {} ({})", count(known), count(sent + known), percent(known, sent + known)),
        kind: Kind::Bars,
        series,
        is_whole: true,
        write: |n| count(n.round() as i64),
        mark: short,
        empty: "No text was sent or remembered in this time.",
    }
}

fn by_model(report: &Report, of: fn(&Point) -> f64) -> Vec<Series> {
    // One order for tokens and dollars, so that a model has one colour.
    let names = ranked(of_all(report).map(|p| (p.model.clone(), p.tokens as f64)));
    let told = of_all(report).map(|p| (p.model.clone(), p.part, of(p)));
    without_empty(stacked(&names, report.period.parts.len(), told))
}

fn tokens(report: &Report) -> Chart<'_> {
    Chart {
        title: "Tokens",
        note: plural(sum(report, |p| p.tokens), "token", "tokens") + " in all",
        kind: Kind::Bars,
        series: by_model(report, |p| p.tokens as f64),
        is_whole: true,
        write: |n| count(n.round() as i64) + " tokens",
        mark: short,
        empty: "No token was used in this time; the built-in model has none.",
    }
}

fn cost(report: &Report) -> Chart<'_> {
    let all: f64 = of_all(report).map(|p| p.cost).sum();
    Chart {
        title: "Cost in US dollars",
        note: dollars(all) + " in all",
        kind: Kind::Bars,
        series: by_model(report, |p| p.cost),
        is_whole: false,
        write: dollars,
        mark: dollars_marked,
        empty: if sum(report, |p| p.tokens) > 0 {
            "No price is known: tell it by the model's option price_per_million_tokens."
        } else {
            "Nothing was paid in this time."
        },
    }
}

/// What has nothing to show has no place in a legend, where there is another.
fn without_empty(series: Vec<Series>) -> Vec<Series> {
    let has_any = |s: &Series| s.most().is_some_and(|most| most > 0.0);
    if !series.iter().any(has_any) {
        return series.into_iter().take(1).collect();
    }
    series.into_iter().filter(has_any).collect()
}

/// How long the oldest row of a table waits.
pub(super) fn age(s: Option<f64>) -> String {
    s.map_or_else(|| "-".to_string(), seconds)
}
