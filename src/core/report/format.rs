//! Numbers, times and texts as people read them.

use std::fmt::Write as _;

/// A text as it may stand in HTML, between tags and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            // HTML has no way to write these; and what turns the direction of writing could turn the rest of the line.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

/// Every character that is not ASCII as its number.
pub(super) fn ascii(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    for c in html.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let _ = write!(out, "&#{};", u32::from(c));
        }
    }
    out
}

/// A text of at most so many characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text[..end].trim_end()),
        None => text.to_string(),
    }
}

/// A name of at most so many characters: of a longer one the middle is left out, since names of tables differ at their ends.
pub(super) fn abridged(name: &str, most: usize) -> String {
    let length = name.chars().count();
    if length <= most {
        return name.to_string();
    }
    let kept = most.saturating_sub(3);
    let (begin, end) = (kept - kept / 2, kept / 2);
    name.chars().take(begin).chain("...".chars()).chain(name.chars().skip(length - end)).collect()
}

/// 1,234,567.
pub(super) fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::from(if n < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With about three digits: 0.012, 1.2, 57, 1,234.
pub(super) fn number(n: f64) -> String {
    match n.abs() {
        0.0 => "0".to_string(),
        a if a < 0.001 => "< 0.001".to_string(),
        a if a < 1.0 => trimmed(format!("{n:.3}")),
        a if a < 10.0 => trimmed(format!("{n:.2}")),
        a if a < 100.0 => trimmed(format!("{n:.1}")),
        _ => count(n.round() as i64),
    }
}

/// 0.0015, 1.2k, 30M: where there is little room. For figures of two digits, as those beside an axis are: they are exact.
pub(super) fn short(n: f64) -> String {
    let (value, unit) = match n.abs() {
        0.0 => return "0".to_string(),
        a if a < 1.0 => return small(n),
        a if a < 1e3 => return number(n),
        a if a < 1e6 => (n / 1e3, "k"),
        a if a < 1e9 => (n / 1e6, "M"),
        _ => (n / 1e9, "G"),
    };
    trimmed(if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }) + unit
}

/// Below 1, with two digits: 0.0015, 5e-7.
fn small(n: f64) -> String {
    let places = 1 - n.abs().log10().floor() as i32;
    if places > 5 {
        let text = format!("{n:.1e}");
        return text.replace(".0e", "e");
    }
    trimmed(format!("{n:.0$}", places.max(1) as usize))
}

fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// In which time rows are counted, so that there is one at least: its seconds, and how the rate is written.
pub(super) fn pace_unit(a_second: f64) -> (f64, &'static str) {
    match a_second {
        n if n >= 1.0 || n <= 0.0 || n.is_nan() => (1.0, "rows/s"),
        n if n * 60.0 >= 1.0 => (60.0, "rows/min"),
        _ => (3600.0, "rows/h"),
    }
}

/// 77 rows/s, 12 rows/min.
pub(super) fn pace(a_second: f64) -> String {
    let (time, unit) = pace_unit(a_second);
    format!("{} {unit}", number(a_second * time))
}

/// A part of a whole.
pub(super) fn percent(part: i64, whole: i64) -> String {
    let share = 100.0 * part as f64 / whole as f64;
    match (whole, part) {
        (0, _) => "-".to_string(),
        (_, 0) => "0 %".to_string(),
        _ if share < 0.1 => "< 0.1 %".to_string(),
        _ if share > 99.9 && part < whole => "> 99.9 %".to_string(),
        _ => trimmed(format!("{share:.1}")) + " %",
    }
}

/// Milliseconds: 0.4 ms, 57 ms, 1.2 s, 3 min 5 s.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 999.5 => number((ms * 10.0).round() / 10.0) + " ms",
        ms => seconds(ms / 1000.0),
    }
}

/// Milliseconds beside an axis: one number, and the largest unit of which they are a whole number.
pub(super) fn millis_marked(ms: f64) -> String {
    if ms <= 0.0 {
        return "0".to_string();
    }
    let units = [(86_400_000.0, "d"), (3_600_000.0, "h"), (60_000.0, "min")];
    let whole = units.into_iter().find(|(size, _)| ms >= *size && (ms / size).fract() < 1e-9);
    match whole {
        Some((size, unit)) => format!("{} {unit}", short(ms / size)),
        None if ms < 1000.0 => short(ms) + " ms",
        None => short(ms / 1000.0) + " s",
    }
}

/// Seconds: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d 3 h.
pub(super) fn seconds(s: f64) -> String {
    let s = s.max(0.0);
    let two = |whole: &str, part: &str, size: u64, in_whole: u64| {
        let parts = (s / size as f64).round() as u64;
        let (first, rest) = (parts / in_whole, parts % in_whole);
        if rest == 0 { format!("{first} {whole}") } else { format!("{first} {whole} {rest} {part}") }
    };
    match s {
        s if s < 59.5 => trimmed(if s < 9.95 { format!("{s:.1}") } else { format!("{s:.0}") }) + " s",
        s if s < 3599.5 => two("min", "s", 1, 60),
        s if s < 86_370.0 => two("h", "min", 60, 60),
        _ => two("d", "h", 3600, 24),
    }
}

/// US dollars.
pub(super) fn dollars(cost: f64) -> String {
    match cost {
        0.0 => "$0".to_string(),
        c if c < 0.000_001 => "< $0.000001".to_string(),
        c if c < 0.01 => format!("${}", trimmed(format!("{c:.6}"))),
        c if c < 1.0 => format!("${c:.4}"),
        c if c < 100.0 => format!("${c:.2}"),
        c => format!("${}", count(c.round() as i64)),
    }
}

/// US dollars beside an axis.
pub(super) fn dollars_marked(cost: f64) -> String {
    if cost == 0.0 { "0".to_string() } else { format!("${}", short(cost)) }
}

/// One thing or several.
pub(super) fn plural(n: i64, one: &str, several: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { several })
}
