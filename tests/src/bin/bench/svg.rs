//! Pictures as SVG: bars with what they are compared with, and lines. Colours follow the reader's light or dark page.

use super::figures::{Spread, number};
use std::fmt::Write as _;

const WIDTH: f64 = 810.0;
/// Where the labels of bars end.
const LABELS: f64 = 320.0;
/// What is left for figures on the right.
const FIGURES: f64 = 170.0;
const ROW: f64 = 26.0;
const HEAD: f64 = 48.0;
/// Okabe and Ito's colours, which people who see fewer colours tell apart.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
const STYLE: &str = "<style>text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:15px}\
    .small{font-size:11px}.page{fill:#fff}.axis{stroke:#8c959f;fill:none}.mark{stroke:#1f2328;stroke-dasharray:4 3}\
    .whisker{stroke:#1f2328}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}\
    .mark,.whisker{stroke:#e6edf3}}</style>";

/// One line of a picture: its name and its points.
pub type Series = (String, Vec<(f64, f64)>);

/// What is drawn.
#[derive(Clone, Debug)]
pub enum Picture {
    /// One bar a row, from 0; the whisker goes from the least round to the greatest.
    Bars {
        /// The headline.
        title: String,
        /// What each is, and what was measured.
        bars: Vec<(String, Spread)>,
        /// A line to compare them with, and what it is.
        mark: Option<(f64, String)>,
    },
    /// Points joined by lines; the y axis begins at 0.
    Lines {
        /// The headline.
        title: String,
        /// What is to the right, and upwards.
        axes: (String, String),
        /// Each tenfold is as wide as the next.
        is_log_x: bool,
        /// What is drawn.
        series: Vec<Series>,
    },
}

impl Picture {
    /// The headline.
    pub fn title(&self) -> &str {
        match self {
            Picture::Bars { title, .. } | Picture::Lines { title, .. } => title,
        }
    }

    /// The file's content.
    pub fn svg(&self) -> String {
        match self {
            Picture::Bars { title, bars, mark } => draw_bars(title, bars, mark.as_ref()),
            Picture::Lines { title, axes, is_log_x, series } => draw_lines(title, axes, *is_log_x, series),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(title: &str, height: f64, inner: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n{STYLE}\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">{title}</text>\n{inner}</svg>\n"
    )
}

fn draw_bars(title: &str, bars: &[(String, Spread)], mark: Option<&(f64, String)>) -> String {
    let greatest = bars.iter().filter_map(|(_, spread)| spread.bounds()).map(|(_, most)| most);
    let most = greatest.chain(mark.map(|(at, _)| *at)).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LABELS + (WIDTH - LABELS - FIGURES) * (value / most).clamp(0.0, 1.0);
    let mut inner = String::new();
    for (row, (label, spread)) in bars.iter().enumerate() {
        let top = HEAD + ROW * row as f64;
        let middle = top + ROW / 2.0;
        let label = escaped(label);
        let _ =
            writeln!(inner, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>", LABELS - 8.0, middle + 4.0);
        let (Some(median), Some((least, highest))) = (spread.median(), spread.bounds()) else { continue };
        let (width, colour) = (x(median) - LABELS, COLOURS[0]);
        let _ = writeln!(
            inner,
            "<rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <path class=\"whisker\" d=\"M{:.1} {middle:.1}H{:.1}\"/>\
             <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            top + 4.0,
            ROW - 8.0,
            x(least),
            x(highest),
            WIDTH - FIGURES + 8.0,
            middle + 4.0,
            escaped(&spread.to_string()),
        );
    }
    let bottom = HEAD + ROW * bars.len() as f64;
    if let Some((at, name)) = mark {
        let at = x(*at);
        let _ = writeln!(
            inner,
            "<path class=\"mark\" d=\"M{at:.1} {HEAD}V{bottom}\"/>\
             <text class=\"small\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            escaped(name)
        );
    }
    page(title, bottom + 28.0, &inner)
}

fn draw_lines(title: &str, axes: &(String, String), is_log_x: bool, series: &[Series]) -> String {
    let (left, right, top, bottom) = (76.0, WIDTH - 24.0, HEAD + 24.0, 330.0);
    let place = |x: f64| if is_log_x { x.max(f64::MIN_POSITIVE).log10() } else { x };
    let points = || series.iter().flat_map(|(_, points)| points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let (from, to) = points().fold((f64::MAX, f64::MIN), |(from, to), (x, _)| (from.min(place(*x)), to.max(place(*x))));
    let (from, to) = if from < to { (from, to) } else { (from.min(0.0), from.min(0.0) + 1.0) };
    let most = points().fold(f64::MIN_POSITIVE, |most, (_, y)| most.max(*y)) * 1.05;
    let x = |value: f64| left + (right - left) * (place(value) - from) / (to - from);
    let y = |value: f64| bottom - (bottom - top) * (value / most).clamp(0.0, 1.0);
    let mut inner = format!("<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>\n");
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (value, at) = (most * share, y(most * share) + 4.0);
        let _ = writeln!(
            inner,
            "<text class=\"small\" x=\"{}\" y=\"{at:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            number(value)
        );
        let along = from + (to - from) * share;
        let shown = if is_log_x { 10_f64.powf(along) } else { along };
        let _ = writeln!(
            inner,
            "<text class=\"small\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            left + (right - left) * share,
            bottom + 18.0,
            number(shown)
        );
    }
    let (across, up) = (escaped(&axes.0), escaped(&axes.1));
    let _ = writeln!(
        inner,
        "<text class=\"small\" x=\"{right}\" y=\"{}\" text-anchor=\"end\">{across}</text><text class=\"small\" x=\"16\" y=\"{}\">{up}</text>",
        bottom + 36.0,
        top - 8.0
    );
    for (number, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let seen = points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        let joined: Vec<String> = seen.map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let _ = writeln!(
            inner,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text class=\"small\" x=\"{}\" y=\"{}\">{}</text>",
            joined.join(" "),
            left + 170.0 * number as f64,
            bottom + 44.0,
            left + 170.0 * number as f64 + 18.0,
            bottom + 54.0,
            escaped(name)
        );
    }
    page(title, bottom + 68.0, &inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(line: &str, name: &str) -> f64 {
        let value = line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        value.and_then(|value| value.parse().ok()).unwrap()
    }

    #[test]
    fn a_bar_is_as_long_as_its_median() {
        let bars = vec![
            ("a < b".to_owned(), Spread::from(1.0)),
            ("half".to_owned(), [0.25, 0.5, 2.0].into_iter().collect()),
            ("none".to_owned(), Spread::default()),
        ];
        let svg = Picture::Bars { title: "T & U".into(), bars, mark: Some((2.0, "limit".into())) }.svg();
        let widths: Vec<f64> =
            svg.lines().filter(|line| line.contains("fill=\"#0072b2\"")).map(|l| attribute(l, "width")).collect();
        assert_eq!(widths, [160.0, 80.0]);
        assert!(svg.contains("a &lt; b") && svg.contains("T &amp; U") && svg.contains(">limit<"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn lines_go_through_their_points() {
        let axes = ("rows".to_owned(), "ms".to_owned());
        let series = vec![("one".to_owned(), vec![(10.0, 1.0), (100.0, 2.0), (1000.0, 2.0), (1000.0, f64::NAN)])];
        let svg = Picture::Lines { title: "T".into(), axes, is_log_x: true, series }.svg();
        // On a scale of tenfolds the middle point is in the middle.
        assert!(svg.contains("points=\"76.0,207.1 431.0,84.3 786.0,84.3\""), "{svg}");
    }

    #[test]
    fn nothing_measured_is_a_picture_too() {
        let svg = Picture::Lines { title: "T".into(), axes: Default::default(), is_log_x: false, series: Vec::new() };
        assert!(!svg.svg().contains("NaN") && !svg.svg().contains("inf"), "{}", svg.svg());
    }
}
