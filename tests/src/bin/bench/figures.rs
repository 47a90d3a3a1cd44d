//! Figures of several rounds: what lies in the middle, and how far apart they are.

use std::fmt;
use std::time::{Duration, Instant};

/// What the rounds have given for one quantity, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// One more round. What is not a number is left out.
    pub fn push(&mut self, value: f64) {
        if value.is_finite() {
            self.0.push(value);
        }
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.0.len()
    }

    /// The value in the middle, the mean of the two where the number is even; `None` of none.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
        Some((low + high) / 2.0)
    }

    /// The least and the greatest.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        let sorted = self.sorted();
        Some((*sorted.first()?, *sorted.last()?))
    }

    /// This over another, round by round: what was measured side by side is compared, so that a machine which slows down in the
    /// middle of a run does not show as a difference.
    pub fn over(&self, other: &Spread) -> Spread {
        let mut ratio = Spread::default();
        self.0.iter().zip(&other.0).for_each(|(a, b)| ratio.push(a / b));
        ratio
    }

    /// Each round in another unit.
    pub fn map(&self, of: impl Fn(f64) -> f64) -> Spread {
        let mut mapped = Spread::default();
        self.0.iter().for_each(|value| mapped.push(of(*value)));
        mapped
    }

    /// The rounds.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Spread {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Spread {
        let mut spread = Spread::default();
        values.into_iter().for_each(|value| spread.push(value));
        spread
    }
}

impl From<f64> for Spread {
    fn from(value: f64) -> Spread {
        std::iter::once(value).collect()
    }
}

impl fmt::Display for Spread {
    /// The median, and of several rounds the least and the greatest.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (Some(median), Some((least, greatest))) = (self.median(), self.bounds()) else { return f.write_str("-") };
        f.write_str(&number(median))?;
        if self.rounds() > 1 { write!(f, " ({}..{})", number(least), number(greatest)) } else { Ok(()) }
    }
}

/// Three digits that count, as people read them: 12,345, 12.3, 1.23, 0.0123; whole numbers as they are.
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { "-".into() };
    }
    let digits = value.abs().log10().floor() as i32;
    let decimals = if value.fract() == 0.0 { 0 } else { usize::try_from((2 - digits).clamp(0, 6)).unwrap_or(0) };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if rest.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{rest}") }
}

/// The value that so many of a hundred are not above.
pub fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Rounds for as long as a budget of time lasts: at least one, and none that would likely end beyond it.
pub struct Rounds {
    begun: Instant,
    budget: Duration,
    most: usize,
    done: usize,
    last: Instant,
    longest: Duration,
}

impl Rounds {
    /// The clock runs from now. No more than `most` rounds.
    pub fn new(budget: Duration, most: usize) -> Rounds {
        let now = Instant::now();
        Rounds { begun: now, budget, most, done: 0, last: now, longest: Duration::ZERO }
    }

    /// Whether there is another round.
    pub fn another(&mut self) -> bool {
        self.another_at(Instant::now())
    }

    fn another_at(&mut self, now: Instant) -> bool {
        if self.done > 0 {
            self.longest = self.longest.max(now.duration_since(self.last));
        }
        self.last = now;
        let fits = now.duration_since(self.begun) + self.longest <= self.budget;
        let goes_on = self.done == 0 || (fits && self.done < self.most);
        self.done += usize::from(goes_on);
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_bounds() {
        let spread: Spread = [5.0, 1.0, 3.0].into_iter().collect();
        assert_eq!((spread.median(), spread.bounds(), spread.rounds()), (Some(3.0), Some((1.0, 5.0)), 3));
        let even: Spread = [4.0, 1.0, 2.0, 9.0].into_iter().collect();
        assert_eq!(even.median(), Some(3.0));
        assert_eq!((Spread::default().median(), Spread::default().bounds()), (None, None));
        assert_eq!(Spread::from(f64::NAN).rounds(), 0);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine was twice as slow in the second round.
        let (with, without): (Spread, Spread) =
            ([80.0, 40.0].into_iter().collect(), [100.0, 50.0].into_iter().collect());
        assert_eq!(with.over(&without).bounds(), Some((0.8, 0.8)));
        assert_eq!(with.over(&Spread::from(0.0)).rounds(), 0);
    }

    #[test]
    fn numbers_as_people_read_them() {
        let written = [1_234_567.0, 12_345.6, 999.6, 12.34, 1.001, 1.0, 0.012_345, 0.0, -1234.5].map(number);
        assert_eq!(written, ["1,234,567", "12,346", "1,000", "12.3", "1.00", "1", "0.0123", "0", "-1,234"]);
        let spread: Spread = [1.0, 2.0, 4.0].into_iter().collect();
        assert_eq!(spread.to_string(), "2 (1..4)");
        assert_eq!((Spread::from(2.0).to_string(), Spread::default().to_string()), ("2".into(), "-".into()));
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0, 50, 95, 99, 100].map(|p| percentile(&values, p)), [1.0, 50.0, 95.0, 99.0, 100.0].map(Some));
        assert_eq!((percentile(&[7.0], 99), percentile(&[], 50)), (Some(7.0), None));
    }

    #[test]
    fn rounds_end_before_the_budget_does() {
        let mut rounds = Rounds::new(Duration::from_secs(10), 100);
        let begun = rounds.begun;
        let mut at = |seconds: u64| rounds.another_at(begun + Duration::from_secs(seconds));
        // Four seconds each: the third would end at twelve.
        assert_eq!([at(0), at(4), at(8)], [true, true, false]);
        let mut short = Rounds::new(Duration::ZERO, 5);
        assert!(short.another() && !short.another_at(Instant::now() + Duration::from_secs(1)), "one there is always");
        let mut few = Rounds::new(Duration::from_secs(1000), 2);
        assert_eq!([few.another(), few.another(), few.another()], [true, true, false]);
    }
}
