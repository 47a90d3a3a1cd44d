//! Times at which somebody is to be looked after, each for one of several subjects.

use std::collections::BTreeSet;
use std::time::Duration;

/// Times of one subject that are closer together than this are one: what is due at about the same time is done at once.
pub const GRAIN: Duration = Duration::from_millis(50);
/// The soonest that are remembered.
pub const MOST: usize = 256;

/// Times, as a clock shows them, with their subjects.
#[derive(Debug, Clone, Default)]
pub struct Alarms(BTreeSet<(Duration, i32)>);

impl Alarms {
    /// Rings at `at`, or up to [`GRAIN`] later where that is set already. Of more than [`MOST`] the last is forgotten.
    pub fn set(&mut self, at: Duration, subject: i32) {
        if self.0.range((at, i32::MIN)..=(at + GRAIN, i32::MAX)).any(|(_, of)| *of == subject) {
            return;
        }
        self.0.insert((at, subject));
        if self.0.len() > MOST {
            self.0.pop_last();
        }
    }

    /// When it rings next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out those whose time has come, and gives their subjects.
    pub fn ring(&mut self, now: Duration) -> Vec<i32> {
        let mut later = self.0.split_off(&(now, i32::MAX));
        std::mem::swap(&mut self.0, &mut later);
        later.into_iter().map(|(_, subject)| subject).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_rings_once_and_in_its_time() {
        let mut alarms = Alarms::default();
        alarms.set(at(500), 1);
        alarms.set(at(100), 2);
        // Close enough to the one that is there.
        alarms.set(at(60), 2);
        alarms.set(at(60), 3);
        assert_eq!(alarms.next(), Some(at(60)));
        assert_eq!(alarms.ring(at(59)), Vec::<i32>::new());
        assert_eq!(alarms.ring(at(100)), [3, 2]);
        assert_eq!(alarms.ring(at(499)), Vec::<i32>::new());
        assert_eq!(alarms.ring(at(500)), [1]);
        assert_eq!(alarms.next(), None);
    }

    #[test]
    fn an_earlier_time_is_no_reason_to_be_late() {
        let mut alarms = Alarms::default();
        alarms.set(at(1000), 1);
        alarms.set(at(10), 1);
        assert_eq!(alarms.ring(at(10)), [1]);
        assert_eq!(alarms.next(), Some(at(1000)));
    }

    #[test]
    fn the_soonest_are_kept() {
        let mut alarms = Alarms::default();
        for i in (0..2 * MOST as u32).rev() {
            alarms.set(GRAIN * 2 * i, 1);
        }
        let last = GRAIN * 2 * (MOST as u32 - 1);
        assert_eq!(alarms.ring(last).len(), MOST);
        assert_eq!(alarms.next(), None);
    }
}
