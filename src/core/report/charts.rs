//! The pictures of all tables together.

use super::chart::{Chart, Kind, Series};
use super::format::{count, dollars, millis, millis_marked, number, percent, plural, seconds, short};
use super::series::{backlog, length, names, of_table, ranked, stacked, tables_ranked};
use super::{Point, Report, Times};

/// Adds them.
pub(super) fn overall(html: &mut String, report: &Report) {
    html.push_str("<section><h2>Over time</h2>\n<div class=\"charts\">\n");
    let charts = [
        throughput(report),
        waiting(report),
        latency(report),
        waited(report),
        errors(report),
        texts(report),
        tokens(report),
        cost(report),
    ];
    charts.iter().for_each(|chart| chart.draw(html, &report.period));
    html.push_str("</div></section>\n");
}

fn sum(report: &Report, of: impl Fn(&Point) -> i64) -> i64 {
    report.points.iter().map(of).sum()
}

fn throughput(report: &Report) -> Chart<'_> {
    let order = tables_ranked(report);
    let names = names(report, &order);
    let rates = order.iter().zip(&names).flat_map(|(table, name)| {
        of_table(report, *table).map(|p| (name.clone(), p.part, p.rows as f64 / length(report, p.part)))
    });
    Chart {
        title: "Rows embedded a second",
        note: plural(sum(report, |p| p.rows), "row", "rows") + " in all",
        kind: Kind::Bars,
        series: without_empty(stacked(&names, report.period.parts.len(), rates)),
        is_whole: false,
        write: |n| number(n) + " rows/s",
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
        note: format!("{} now; the most of each part, held until the next count", count(now)),
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

fn errors(report: &Report) -> Chart<'_> {
    let told = || report.errors.iter().map(|e| (e.code.clone(), e.count as f64));
    let series = stacked(
        &ranked(told()),
        report.period.parts.len(),
        report.errors.iter().map(|e| (e.code.clone(), e.part, e.count as f64)),
    );
    let (requests, failed) = (sum(report, |p| p.requests), sum(report, |p| p.errors));
    Chart {
        title: "Requests that failed",
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
    let told = report
        .points
        .iter()
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
    let names = ranked(report.points.iter().map(|p| (p.model.clone(), p.tokens as f64)));
    let told = report.points.iter().map(|p| (p.model.clone(), p.part, of(p)));
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
    let all: f64 = report.points.iter().map(|p| p.cost).sum();
    Chart {
        title: "Cost in US dollars",
        note: dollars(all) + " in all",
        kind: Kind::Bars,
        series: by_model(report, |p| p.cost),
        is_whole: false,
        write: dollars,
        mark: |n| if n == 0.0 { "0".to_string() } else { format!("${}", short(n)) },
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
