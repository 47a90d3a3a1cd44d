//! Axes: where their lines are, and what is written there.

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From 0 to the top.
    Linear(f64),
    /// From the bottom to the top, tenfold or nearly so from line to line.
    Log(f64, f64),
}

impl Scale {
    /// From 0 to a round number that is not below `most`; the lines between are whole numbers where `is_whole`.
    pub(super) fn linear(most: f64, is_whole: bool) -> (Scale, Vec<f64>) {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let mut step = round_up(most / 4.0);
        if is_whole {
            step = step.max(1.0);
        }
        Scale::of_steps(most, step)
    }

    /// For times in milliseconds above 0: lines are at round times of a clock, and much further apart from one to the next where the
    /// values are.
    pub(super) fn for_times(least: f64, most: f64) -> (Scale, Vec<f64>) {
        if least.is_nan() || least <= 0.0 || most / least < 30.0 || !most.is_finite() {
            let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
            return Scale::of_steps(most, time_step(most / 4.0));
        }
        let bottom = POWERS.into_iter().rev().find(|line| *line <= least).unwrap_or(POWERS[0]);
        let top = POWERS.into_iter().find(|line| *line >= most && *line > bottom).unwrap_or(most);
        let lines: Vec<f64> = POWERS.into_iter().filter(|line| (bottom..=top).contains(line)).collect();
        let every = lines.len().saturating_sub(1).div_ceil(6).max(1);
        (Scale::Log(bottom, top), lines.into_iter().step_by(every).collect())
    }

    fn of_steps(most: f64, step: f64) -> (Scale, Vec<f64>) {
        let lines = (most / step - 1e-9).ceil().max(1.0);
        (Scale::Linear(step * lines), (0..=lines as usize).map(|i| step * i as f64).collect())
    }

    /// 0 at the bottom, 1 at the top.
    pub(super) fn height(self, value: f64) -> f64 {
        match self {
            Scale::Linear(top) => (value / top).clamp(0.0, 1.0),
            Scale::Log(bottom, top) if value > 0.0 => ((value / bottom).ln() / (top / bottom).ln()).clamp(0.0, 1.0),
            Scale::Log(..) => 0.0,
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below `n`.
fn round_up(n: f64) -> f64 {
    let power = 10f64.powf(n.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|m| *m >= n * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// In milliseconds: a second, a minute, an hour, a day.
const SECOND: f64 = 1000.0;
const MINUTE: f64 = 60.0 * SECOND;
const HOUR: f64 = 60.0 * MINUTE;
const WHOLE_DAY: f64 = 24.0 * HOUR;
/// Lines for times that are far apart.
const POWERS: [f64; 12] = [
    0.1,
    1.0,
    10.0,
    100.0,
    SECOND,
    10.0 * SECOND,
    MINUTE,
    10.0 * MINUTE,
    HOUR,
    WHOLE_DAY,
    10.0 * WHOLE_DAY,
    100.0 * WHOLE_DAY,
];

/// Between two lines for times that are near each other: not below `n` milliseconds.
fn time_step(n: f64) -> f64 {
    let of = |unit: f64, steps: &[f64]| steps.iter().map(|s| s * unit).find(|step| *step >= n * (1.0 - 1e-9));
    if n <= 500.0 {
        return round_up(n);
    }
    of(SECOND, &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0])
        .or_else(|| of(MINUTE, &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0]))
        .or_else(|| of(HOUR, &[1.0, 2.0, 3.0, 6.0, 12.0]))
        .unwrap_or_else(|| WHOLE_DAY * round_up(n / WHOLE_DAY))
}

const DAY: i64 = 86_400;
/// Seconds between two marks of the time.
const STEPS: [i64; 23] = [
    1,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    2 * 3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    DAY,
    2 * DAY,
    7 * DAY,
    30 * DAY,
    90 * DAY,
    365 * DAY,
    730 * DAY,
];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Which parts of the time are marked, at most `most` of them, and how. Marks are at round times of the clock on the wall, also where that
/// was put forward or back.
pub(super) fn time_marks(parts: &[String], seconds: f64, most: usize) -> Vec<(usize, String)> {
    let times: Vec<Option<Local>> = parts.iter().map(|text| Local::read(text)).collect();
    let all = seconds * parts.len() as f64;
    let step = STEPS.into_iter().find(|step| all / *step as f64 <= most as f64).unwrap_or(3650 * DAY);
    let mut marks = Vec::new();
    for (i, time) in times.iter().enumerate() {
        let Some(time) = time else { continue };
        let is_mark = match i.checked_sub(1).and_then(|before| times[before]) {
            Some(before) => time.seconds().div_euclid(step) != before.seconds().div_euclid(step),
            None => time.seconds().rem_euclid(step) == 0,
        };
        if is_mark {
            marks.push((i, time.label(step)));
        }
    }
    marks
}

/// A time of the clock on the wall.
#[derive(Debug, Clone, Copy)]
struct Local {
    year: i64,
    month: i64,
    day: i64,
    of_day: i64,
}

impl Local {
    fn read(text: &str) -> Option<Local> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<i64>().ok());
        let mut next = || numbers.next();
        let (year, month, day) = (next()?, next()?, next()?);
        let of_day = next()? * 3600 + next()? * 60 + next()?;
        (1..=12).contains(&month).then_some(Local { year, month, day, of_day })
    }

    /// Since some day long ago: days by the civil calendar (a year begins in March).
    fn seconds(self) -> i64 {
        let (year, month) = if self.month > 2 { (self.year, self.month - 3) } else { (self.year - 1, self.month + 9) };
        let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + (153 * month + 2) / 5
            + self.day;
        days * DAY + self.of_day
    }

    fn label(self, step: i64) -> String {
        let month = MONTHS[self.month as usize - 1];
        let (hours, minutes) = (self.of_day / 3600, self.of_day / 60 % 60);
        match step {
            _ if step >= 90 * DAY => format!("{month} {}", self.year),
            _ if step >= DAY || self.of_day < 60 && self.of_day % 60 == 0 => format!("{} {month}", self.day),
            _ if step < 60 => format!("{hours:02}:{minutes:02}:{:02}", self.of_day % 60),
            _ => format!("{hours:02}:{minutes:02}"),
        }
    }
}
