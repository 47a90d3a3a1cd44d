//! Two ways to hold a rate: a window that slides, and a bucket that fills evenly.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One of them.
pub(crate) enum Rate {
    Sliding(Sliding),
    Even(Bucket),
}

/// How full a rate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Until nothing is used any more.
    pub(crate) reset: Duration,
}

impl Rate {
    /// How long until so much can be taken; zero if it can be now. Nothing is taken.
    pub(crate) fn wait(&mut self, need: u64, now: Instant) -> Duration {
        match self {
            Self::Sliding(window) => window.wait(need, now),
            Self::Even(bucket) => bucket.wait(need, now),
        }
    }

    pub(crate) fn take(&mut self, need: u64, now: Instant) {
        match self {
            Self::Sliding(window) => window.push(need, now),
            Self::Even(bucket) => bucket.level -= need as f64,
        }
    }

    pub(crate) fn room(&mut self, now: Instant) -> Room {
        match self {
            Self::Sliding(window) => window.room(now),
            Self::Even(bucket) => bucket.room(now),
        }
    }
}

/// What was taken within the last window.
pub(crate) struct Sliding {
    limit: u64,
    window: Duration,
    taken: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Sliding {
    pub(crate) fn new(limit: u64, window: Duration) -> Self {
        Self { limit, window, taken: VecDeque::new(), sum: 0 }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(at, amount)) = self.taken.front()
            && now.saturating_duration_since(at) >= self.window
        {
            self.taken.pop_front();
            self.sum -= amount;
        }
    }

    pub(crate) fn push(&mut self, amount: u64, now: Instant) {
        self.forget(now);
        self.taken.push_back((now, amount));
        self.sum += amount;
    }

    /// What is in the window now.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    fn wait(&mut self, need: u64, now: Instant) -> Duration {
        self.forget(now);
        let mut sum = self.sum;
        for &(at, amount) in &self.taken {
            if sum.saturating_add(need) <= self.limit {
                break;
            }
            sum -= amount;
            if sum.saturating_add(need) <= self.limit || sum == 0 {
                return (at + self.window).saturating_duration_since(now);
            }
        }
        Duration::ZERO
    }

    fn room(&mut self, now: Instant) -> Room {
        self.forget(now);
        let reset = self.taken.back().map_or(Duration::ZERO, |last| (last.0 + self.window).duration_since(now));
        Room { limit: self.limit, remaining: self.limit.saturating_sub(self.sum), reset }
    }
}

/// Holds a 60th of the window's worth, and at least one.
pub(crate) struct Bucket {
    limit: u64,
    per_second: f64,
    size: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket for so much in a window (at least one).
    pub(crate) fn new(limit: u64, window: Duration, now: Instant) -> Self {
        let limit = limit.max(1);
        let size = (limit as f64 / 60.0).max(1.0);
        Self { limit, per_second: limit as f64 / window.as_secs_f64(), size, level: size, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + filled).min(self.size);
        self.at = now;
    }

    /// What is larger than the bucket is taken when it is full, and leaves a debt.
    fn wait(&mut self, need: u64, now: Instant) -> Duration {
        self.fill(now);
        let missing = (need as f64).min(self.size) - self.level;
        if missing <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(missing / self.per_second) }
    }

    fn room(&mut self, now: Instant) -> Room {
        self.fill(now);
        let reset = Duration::from_secs_f64((self.size - self.level) / self.per_second);
        Room { limit: self.limit, remaining: self.level.max(0.0) as u64, reset }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Takes if there is room; otherwise how many milliseconds to wait.
    fn take(rate: &mut Rate, need: u64, now: Instant) -> Result<(), u128> {
        let wait = rate.wait(need, now);
        if wait > Duration::ZERO {
            return Err(wait.as_millis());
        }
        rate.take(need, now);
        Ok(())
    }

    #[test]
    fn a_burst_is_a_seconds_worth_and_the_rest_is_even() {
        let start = Instant::now();
        let mut rate = Rate::Even(Bucket::new(120, MINUTE, start));
        assert!(take(&mut rate, 1, start).is_ok());
        assert!(take(&mut rate, 1, start).is_ok());
        assert_eq!(take(&mut rate, 1, start), Err(500));
        assert!(take(&mut rate, 1, start + ms(501)).is_ok());
        assert!(take(&mut rate, 1, start + ms(502)).is_err());
        let later = start + MINUTE * 60;
        assert!(take(&mut rate, 1, later).is_ok() && take(&mut rate, 1, later).is_ok());
        assert!(take(&mut rate, 1, later).is_err());
    }

    #[test]
    fn what_is_larger_than_the_bucket_leaves_a_debt() {
        let start = Instant::now();
        let mut rate = Rate::Even(Bucket::new(600, MINUTE, start));
        assert_eq!(take(&mut rate, 30, start), Ok(()));
        assert_eq!(take(&mut rate, 1, start), Err(2100), "20 of debt and 1, at 10 a second");
        assert_eq!(take(&mut rate, 30, start + ms(2100)), Err(900), "when it is full again");
        assert_eq!(take(&mut rate, 30, start + ms(3001)), Ok(()));
    }

    #[test]
    fn a_window_slides() {
        let start = Instant::now();
        let mut rate = Rate::Sliding(Sliding::new(10, MINUTE));
        assert_eq!(take(&mut rate, 4, start), Ok(()));
        assert_eq!(take(&mut rate, 6, start + ms(10_000)), Ok(()));
        assert_eq!(take(&mut rate, 1, start + ms(20_000)), Err(40_000), "when the first has left");
        assert_eq!(take(&mut rate, 5, start + ms(20_000)), Err(50_000), "when the second has left");
        assert_eq!(rate.room(start + ms(20_000)), Room { limit: 10, remaining: 0, reset: ms(50_000) });
        assert_eq!(take(&mut rate, 4, start + ms(60_000)), Ok(()));
        assert_eq!(take(&mut rate, 1, start + ms(69_999)), Err(1));
        assert_eq!(take(&mut rate, 6, start + ms(70_000)), Ok(()));
        assert_eq!(rate.room(start + ms(200_000)), Room { limit: 10, remaining: 10, reset: ms(0) });
    }
}
