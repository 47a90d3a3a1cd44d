//! What the pictures show, as a table: for those who hear the page, and for whoever wants the figures themselves.

use super::format::{count, dollars, escape, millis};
use super::series::{backlog, of_all};
use super::{Point, Report};
use std::fmt::Write as _;

/// The figures of one part of the time, all tables together.
#[derive(Debug, Clone, Default)]
struct Line {
    sum: Point,
    waiting: Option<f64>,
    times: [Option<f64>; 4],
}

const HEADS: [&str; 13] = [
    "from",
    "rows embedded",
    "rows waiting",
    "request p50",
    "request p95",
    "change to vector, median",
    "longest",
    "requests",
    "failed",
    "texts sent",
    "remembered",
    "tokens",
    "US dollars",
];

/// Adds it, closed.
pub(super) fn table(html: &mut String, report: &Report) {
    if report.points.is_empty() {
        return;
    }
    html.push_str(
        "<details><summary>The figures of all pictures, as a table</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"The figures of all pictures\"><table class=\"figures\"><thead><tr>",
    );
    HEADS.iter().for_each(|head| {
        let _ = write!(html, "<th scope=\"col\">{head}</th>");
    });
    html.push_str("</tr></thead><tbody>\n");
    let minutes = report.period.seconds >= 60.0;
    for (part, line) in lines(report).iter().enumerate() {
        let from = report.period.parts[part].as_str();
        let from = from.strip_suffix(":00").filter(|_| minutes).unwrap_or(from);
        let _ = write!(html, "<tr><th scope=\"row\">{}</th><td>{}</td>", escape(from), count(line.sum.rows));
        let _ = write!(html, "<td>{}</td>", line.waiting.map_or("-".to_string(), |n| count(n.round() as i64)));
        line.times.iter().for_each(|time| {
            let _ = write!(html, "<td>{}</td>", time.map_or("-".to_string(), millis));
        });
        let Point { requests, errors, inputs, cached, tokens, cost, .. } = line.sum;
        for n in [requests, errors, inputs, cached, tokens] {
            let _ = write!(html, "<td>{}</td>", count(n));
        }
        let _ = writeln!(html, "<td>{}</td></tr>", escape(&dollars(cost)));
    }
    html.push_str("</tbody></table></div></details>\n");
}

fn lines(report: &Report) -> Vec<Line> {
    let mut lines = vec![Line::default(); report.period.parts.len()];
    for point in of_all(report) {
        let Some(line) = lines.get_mut(point.part) else { continue };
        line.sum.add(point);
    }
    for table in 0..report.tables.len() {
        for (line, waiting) in lines.iter_mut().zip(backlog(report, table)) {
            line.waiting = line.waiting.into_iter().chain(waiting).reduce(|a, b| a + b);
        }
    }
    for times in &report.times {
        if let Some(line) = lines.get_mut(times.part) {
            line.times = [times.p50, times.p95, times.waited, times.waited_most];
        }
    }
    lines
}
