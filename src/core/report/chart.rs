//! One picture: bars or lines over time, drawn as SVG. What a bar stands for is told where one points at it, and the whole in words.

use super::format::{abridged, escape};
use super::scale::{Scale, time_marks};
use super::{Period, Table};
use std::fmt::Write as _;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// Marks on the axis of time.
const MARKS: usize = 6;

/// Things that are told of where one points.
const MOST_TOLD: usize = 3;
/// Characters of a name in a legend.
const NAME: usize = 44;

/// The colour of what has none of its own.
pub(super) const OTHERS: usize = 6;

/// One thing over time; `None`: not known.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub name: String,
    /// Which colour of the style sheet.
    pub colour: usize,
    pub values: Vec<Option<f64>>,
}

impl Series {
    /// The greatest value.
    pub(super) fn most(&self) -> Option<f64> {
        self.values.iter().flatten().copied().reduce(f64::max)
    }
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// What was done in each part of the time, one above the other.
    Bars,
    /// How much there was, one above the other.
    Levels,
    /// One beside the other, on an axis for times.
    Lines,
}

/// A picture.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    /// What is to be said of it in a line: the figure for the whole time.
    pub note: String,
    pub kind: Kind,
    pub series: Vec<Series>,
    /// There is no half of it.
    pub is_whole: bool,
    /// How values are written where there is room, and where there is little.
    pub write: fn(f64) -> String,
    pub mark: fn(f64) -> String,
    /// Said in place of a picture where there is nothing to draw.
    pub empty: &'a str,
}

impl Chart<'_> {
    /// Adds the picture to a page.
    pub(super) fn draw(&self, html: &mut String, period: &Period) {
        let _ = write!(html, "<figure><figcaption><h3>{}</h3>", escape(self.title));
        let is_empty = match self.kind {
            Kind::Bars => self.series.iter().all(|s| s.most().is_none_or(|most| most <= 0.0)),
            Kind::Levels | Kind::Lines => self.series.iter().all(|s| s.most().is_none()),
        };
        if is_empty || period.parts.is_empty() {
            let _ = writeln!(html, "</figcaption><p class=\"empty\">{}</p></figure>", escape(self.empty));
            return;
        }
        let _ = write!(html, "<p>{}</p></figcaption>", escape(&self.note));
        self.legend(html);
        self.svg(html, period);
        html.push_str("</figure>\n");
    }

    /// Also of one thing: its name is nowhere else.
    fn legend(&self, html: &mut String) {
        let mark = if self.kind == Kind::Lines { 'k' } else { 'c' };
        html.push_str("<ul class=\"legend\">");
        for Series { name, colour, .. } in &self.series {
            let shown = abridged(name, NAME);
            let whole = if shown == *name { String::new() } else { format!(" title=\"{}\"", escape(name)) };
            let _ = write!(html, "<li{whole}><i class=\"{mark}{colour}\"></i><span>{}</span></li>", escape(&shown));
        }
        html.push_str("</ul>");
    }

    /// What is to be heard of the picture where it cannot be seen.
    fn label(&self, period: &Period) -> String {
        let height = |part: usize| {
            let values = self.series.iter().filter_map(|s| s.values[part]);
            if self.kind == Kind::Lines { values.fold(0.0, f64::max) } else { values.sum() }
        };
        let most = (0..period.parts.len()).max_by(|a, b| height(*a).total_cmp(&height(*b)).then_with(|| b.cmp(a)));
        let told = most.and_then(|part| Some(when(period, part) + &self.told(part)?));
        let told = told.map_or(String::new(), |told| format!(". The most: {told}"));
        format!("{}: {}{told}. All parts are in the table below the pictures", self.title, self.note)
    }

    fn svg(&self, html: &mut String, period: &Period) {
        let n = period.parts.len();
        let (scale, lines) = self.scale(n);
        let width = (WIDTH - LEFT - RIGHT) / n as f64;
        let x = |part: usize| LEFT + width * part as f64;
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - scale.height(value));
        let label = escape(&self.label(period));
        let _ = write!(
            html,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\"><g class=\"grid\">"
        );
        for line in &lines {
            let _ = write!(html, "<path d=\"M{LEFT} {}H{}\"/>", short(y(*line)), WIDTH - RIGHT);
        }
        let _ = write!(html, "</g><g class=\"y\">");
        for line in &lines {
            let _ = write!(
                html,
                "<text x=\"{}\" y=\"{}\">{}</text>",
                LEFT - 6.0,
                short(y(*line) + 4.0),
                escape(&(self.mark)(*line))
            );
        }
        html.push_str("</g><g class=\"x\">");
        for (part, mark) in spread(time_marks(&period.parts, period.seconds, MARKS), x) {
            let at = short(x(part));
            let _ = write!(
                html,
                "<path d=\"M{at} {}v4\"/><text x=\"{at}\" y=\"{}\">{mark}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - 7.0
            );
        }
        html.push_str("</g>");
        match self.kind {
            Kind::Bars | Kind::Levels => self.stack(html, n, width, x, y),
            Kind::Lines => self.lines(html, |part| x(part) + width / 2.0, y),
        }
        let _ = write!(html, "<g class=\"hit\" stroke-width=\"{}\">", short(width));
        for part in 0..n {
            if let Some(told) = self.told(part) {
                let (at, high) = (short(x(part) + width / 2.0), HEIGHT - TOP - BOTTOM);
                let told = escape(&(when(period, part) + &told));
                let _ = write!(html, "<path d=\"M{at} {TOP}v{high}\"><title>{told}</title></path>");
            }
        }
        html.push_str("</g></svg>");
    }

    fn scale(&self, parts: usize) -> (Scale, Vec<f64>) {
        if self.kind == Kind::Lines {
            let values = || self.series.iter().flat_map(|s| s.values.iter().flatten().copied());
            // What took no time to speak of is drawn at the bottom.
            let least = values().filter(|value| *value >= 0.1).reduce(f64::min).unwrap_or(0.0);
            return Scale::for_times(least, values().reduce(f64::max).unwrap_or(0.0));
        }
        let sum = |part: usize| self.series.iter().filter_map(|s| s.values[part]).sum::<f64>();
        Scale::linear((0..parts).map(sum).fold(0.0, f64::max), self.is_whole)
    }

    fn stack(&self, html: &mut String, n: usize, width: f64, x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64) {
        let drawn = if self.kind == Kind::Bars { (width * 0.86).max(width - 1.5) } else { width + 0.2 };
        let mut below = vec![0.0; n];
        for series in &self.series {
            let mut path = String::new();
            for (part, below) in below.iter_mut().enumerate() {
                let value = series.values[part].unwrap_or(0.0);
                if value <= 0.0 {
                    continue;
                }
                let (low, high) = (y(*below), y(*below + value));
                *below += value;
                // What is there is to be seen, however little it is.
                let high = if low - high < 0.8 { low - 0.8 } else { high };
                let (drawn, height) = (short(drawn), short(low - high));
                let _ = write!(path, "M{} {}h{drawn}v{height}h-{drawn}z", short(x(part)), short(high));
            }
            if !path.is_empty() {
                let _ = write!(html, "<path class=\"c{}\" d=\"{path}\"/>", series.colour);
            }
        }
    }

    fn lines(&self, html: &mut String, x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64) {
        for series in &self.series {
            let (mut path, mut dots) = (String::new(), String::new());
            let known = |part: Option<usize>| part.and_then(|part| series.values.get(part).copied().flatten());
            for (part, value) in series.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let (at, high) = (short(x(part)), short(y(*value)));
                let is_first = known(part.checked_sub(1)).is_none();
                if is_first && known(Some(part + 1)).is_none() {
                    let _ = write!(dots, "M{at} {high}h0");
                } else {
                    let _ = write!(path, "{}{at} {high}", if is_first { 'M' } else { 'L' });
                }
            }
            for (class, path) in [("line", path), ("dots", dots)] {
                if !path.is_empty() {
                    let _ = write!(html, "<path class=\"{class} l{}\" d=\"{path}\"/>", series.colour);
                }
            }
        }
    }

    /// The values of one part of the time in words: of many, the sum and the greatest.
    fn told(&self, part: usize) -> Option<String> {
        let mut known: Vec<(&Series, f64)> = self
            .series
            .iter()
            .filter_map(|s| Some((s, s.values[part]?)))
            .filter(|(_, value)| self.kind == Kind::Lines || *value > 0.0)
            .collect();
        let mut words = Vec::new();
        if known.len() > MOST_TOLD {
            words.push(format!("all {}", (self.write)(known.iter().map(|(_, value)| value).sum())));
            known.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            known.truncate(MOST_TOLD);
        }
        words.extend(known.iter().map(|(series, value)| match self.series.len() {
            1 => (self.write)(*value),
            _ => format!("{} {}", abridged(&series.name, NAME), (self.write)(*value)),
        }));
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// A small picture of one thing without axes, with its greatest value in words.
pub(super) fn spark(html: &mut String, title: &str, series: &Series, parts: usize, write: fn(f64) -> String) {
    const WIDTH: f64 = 120.0;
    const HEIGHT: f64 = 28.0;
    let merged = merged(&series.values, parts);
    let most = merged.iter().flatten().copied().fold(0.0, f64::max);
    let told = if series.most().is_some() { write(most) } else { "not known".to_string() };
    let told = format!("{title}: at most {told}");
    let _ = write!(
        html,
        "<div class=\"spark\"><span>{}</span><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\">\
         <title>{}</title><path class=\"base\" d=\"M0 {HEIGHT}H{WIDTH}\"/>",
        escape(title),
        escape(&told)
    );
    let width = WIDTH / merged.len().max(1) as f64;
    let mut path = String::new();
    for (part, value) in merged.iter().enumerate() {
        let height = value.filter(|value| *value > 0.0).map(|value| (value / most * (HEIGHT - 2.0)).max(1.0));
        if let Some(height) = height {
            let drawn = short(width * 0.85);
            let _ = write!(path, "M{} {HEIGHT}v-{}h{drawn}V{HEIGHT}z", short(width * part as f64), short(height));
        }
    }
    if !path.is_empty() {
        let _ = write!(html, "<path class=\"c{}\" d=\"{path}\"/>", series.colour);
    }
    let most = if series.most().is_some() { write(most) } else { "-".to_string() };
    let _ = write!(html, "</svg><b>{}</b></div>", escape(&most));
}

/// The greatest value of each of at most so many groups of neighbours.
fn merged(values: &[Option<f64>], parts: usize) -> Vec<Option<f64>> {
    let size = values.len().div_ceil(parts.max(1)).max(1);
    values.chunks(size).map(|some| some.iter().flatten().copied().reduce(f64::max)).collect()
}

/// Marks that are far enough from each other and from the ends to be read.
fn spread(marks: Vec<(usize, String)>, x: impl Fn(usize) -> f64) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    for (part, mark) in marks {
        let is_far = out.last().is_none_or(|(before, _)| x(part) - x(*before) >= 44.0);
        if is_far && x(part) <= WIDTH - RIGHT - 18.0 {
            out.push((part, mark));
        }
    }
    out
}

/// What stands before the values of a part.
fn when(period: &Period, part: usize) -> String {
    let from = period.parts.get(part).map_or("", String::as_str);
    // Without the seconds, where they say nothing.
    format!("{}: ", from.strip_suffix(":00").filter(|_| period.seconds >= 60.0).unwrap_or(from))
}

/// What a table is called: its column is named where it has not the usual name.
pub(super) fn name_of(table: &Table) -> String {
    if table.column == "embedding" { table.name.clone() } else { format!("{}.{}", table.name, table.column) }
}

/// With one digit behind the point, where there is any.
fn short(n: f64) -> String {
    let n = (n * 10.0).round() / 10.0;
    format!("{n}")
}
