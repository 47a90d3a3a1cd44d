//! How fast something gets on, from looks at how much of it is done.
//!
//! What is done grows in leaps (a batch is written, nothing for seconds, the next one), so only the moments at which it had grown
//! count: from the first of them that is remembered to the last. Where the next leap is overdue the speed sinks. Nothing is
//! known before the second look that sees another number.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back it is looked.
const WINDOW: Duration = Duration::from_secs(60);
/// So many looks are kept however old they are: a slow model may need a minute for each of them.
const FEWEST: usize = 3;

/// The speed of one thing.
#[derive(Debug, Clone, Default)]
pub struct Speed {
    /// When it was seen to have grown, and to how much; the first is the first look.
    seen: VecDeque<(Duration, i64)>,
}

impl Speed {
    /// At `now` so much was `done`. Less than before: it has begun anew.
    pub fn note(&mut self, now: Duration, done: i64) {
        match self.seen.back() {
            Some((_, last)) if done == *last => return,
            Some((_, last)) if done < *last => self.seen.clear(),
            _ => {}
        }
        self.seen.push_back((now, done));
        while self.seen.len() > FEWEST && self.seen.front().is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW) {
            self.seen.pop_front();
        }
    }

    /// How much is done in a second, as of `now`; `None`: not known.
    #[must_use]
    pub fn per_second(&self, now: Duration) -> Option<f64> {
        let ((first, from), (last, to)) = (self.seen.front()?, self.seen.back()?);
        let times = self.seen.iter().map(|(at, _)| *at);
        let longest = times.clone().skip(1).zip(times).map(|(after, before)| after.saturating_sub(before)).max()?;
        // A leap that took no longer than others is not overdue.
        let end = now.saturating_sub(longest).max(*last);
        let seconds = end.saturating_sub(*first).as_secs_f64();
        (seconds > 0.0).then(|| (to - from) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn seen(looks: &[(f64, i64)]) -> Speed {
        let mut speed = Speed::default();
        looks.iter().for_each(|(when, done)| speed.note(at(*when), *done));
        speed
    }

    fn near(speed: &Speed, now: f64, wanted: f64) -> bool {
        speed.per_second(at(now)).is_some_and(|found| (found - wanted).abs() < 0.01 * wanted)
    }

    #[test]
    fn one_look_tells_nothing() {
        assert_eq!(Speed::default().per_second(at(5.0)), None);
        assert_eq!(seen(&[(1.0, 100), (2.0, 100), (9.0, 100)]).per_second(at(10.0)), None);
    }

    #[test]
    fn it_is_right_from_the_second_look_on() {
        assert!(near(&seen(&[(0.0, 4000), (2.0, 5000)]), 2.5, 500.0), "what was done before does not count");
        assert!(near(&seen(&[(0.0, 0), (1.0, 500), (2.0, 1000), (3.0, 1000)]), 3.0, 500.0), "between two leaps");
    }

    #[test]
    fn it_sinks_where_nothing_more_comes() {
        let speed = seen(&[(0.0, 0), (1.0, 500), (2.0, 1000)]);
        assert!(near(&speed, 11.0, 100.0));
        assert!(near(&speed, 1001.0, 1.0));
    }

    #[test]
    fn a_change_is_seen_within_a_minute() {
        let mut speed = Speed::default();
        (0..100).for_each(|i| speed.note(at(f64::from(i)), i64::from(i) * 1000));
        (100..170).for_each(|i| speed.note(at(f64::from(i)), 100_000 + i64::from(i) * 10));
        assert!(near(&speed, 169.0, 10.0), "{:?}", speed.per_second(at(169.0)));
    }

    #[test]
    fn an_hour_without_a_server_is_forgotten_soon() {
        let speed = seen(&[(0.0, 0), (1.0, 500), (2.0, 1000), (3600.0, 1500), (3601.0, 2000), (3602.0, 2500)]);
        assert!(near(&speed, 3602.0, 500.0), "{:?}", speed.per_second(at(3602.0)));
    }

    #[test]
    fn leaps_of_minutes_are_enough() {
        let speed = seen(&[(0.0, 0), (100.0, 2000), (200.0, 4000), (300.0, 6000)]);
        assert!(near(&speed, 399.0, 20.0));
    }

    #[test]
    fn less_than_before_is_a_new_beginning() {
        let speed = seen(&[(0.0, 9000), (1.0, 10_000), (2.0, 0), (3.0, 100)]);
        assert!(near(&speed, 3.0, 100.0));
    }
}
