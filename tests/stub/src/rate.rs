//! A rate limit: a bucket that fills evenly.

use std::time::{Duration, Instant};

/// Holds at most a second's worth of requests, and at least one.
pub(crate) struct Bucket {
    per_second: f64,
    size: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket of so many requests a minute (at least one).
    pub(crate) fn new(per_minute: u32, now: Instant) -> Self {
        let per_second = f64::from(per_minute.max(1)) / 60.0;
        let size = per_second.max(1.0);
        Self { per_second, size, level: size, at: now }
    }

    /// Takes one, or says how long until there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + filled).min(self.size);
        self.at = now;
        if self.level >= 1.0 {
            self.level -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - self.level) / self.per_second))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_burst_is_a_seconds_worth_and_the_rest_is_even() {
        let start = Instant::now();
        let mut bucket = Bucket::new(120, start);
        assert!(bucket.take(start).is_ok());
        assert!(bucket.take(start).is_ok());
        let wait = bucket.take(start).unwrap_err();
        assert!((wait.as_secs_f64() - 0.5).abs() < 1e-6, "{wait:?}");
        assert!(bucket.take(start + Duration::from_millis(501)).is_ok());
        assert!(bucket.take(start + Duration::from_millis(502)).is_err());
        let later = start + Duration::from_secs(3600);
        assert!(bucket.take(later).is_ok() && bucket.take(later).is_ok() && bucket.take(later).is_err());
    }
}
