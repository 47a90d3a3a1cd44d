//! When to look into the queue though nobody has committed anything: what was put back is due again, what was left alone may be tried.
//! An idle worker would come to it late, with its next look round.

use super::Engine;
use crate::pg::queue;
use autoembed_core::alarms;
use std::time::{Duration, Instant};

/// Times, each with the vectorizer whose rows may be anywhere in the queue (0: it is enough to look). What is due after the soonest of them
/// is found by looking round.
pub(super) struct Alarms {
    begun: Instant,
    times: alarms::Alarms,
}

impl Alarms {
    pub(super) fn new() -> Alarms {
        Alarms { begun: Instant::now(), times: alarms::Alarms::default() }
    }

    fn set(&mut self, at: Instant, id: i32) {
        self.times.set(at.saturating_duration_since(self.begun), id);
    }
}

impl Engine {
    pub(super) fn again_at(&mut self, at: Instant) {
        self.alarms.set(at, 0);
    }

    /// Looks again after `pause`.
    pub fn again_in(&mut self, pause: Duration) {
        self.again_at(Instant::now() + pause);
    }

    /// Leaves a vectorizer alone for so long.
    pub(super) fn rest(&mut self, id: i32, pause: Duration) {
        let until = Instant::now() + pause;
        self.resting.insert(id, until);
        self.again_at(until);
    }

    /// Tries again at once what was left alone for a while.
    pub fn wake_resting(&mut self) {
        self.resting.clear();
    }

    /// The same of these vectorizers alone.
    pub fn wake(&mut self, vectorizers: &[i32]) {
        self.resting.retain(|id, _| !vectorizers.contains(id));
    }

    /// When to look next, whatever happens until then.
    pub fn next_look(&mut self) -> Option<Instant> {
        for (id, at) in queue::take_due_again() {
            self.alarms.set(at, id);
        }
        self.alarms.times.next().map(|at| self.alarms.begun + at)
    }

    /// Whether it is time for a look; then the rows that it is for are found wherever they are.
    pub fn is_time(&mut self, now: Instant) -> bool {
        if self.next_look().is_none_or(|at| at > now) {
            return false;
        }
        let now = now.saturating_duration_since(self.alarms.begun);
        for id in self.alarms.times.ring(now) {
            self.forget_hints(id);
        }
        true
    }
}
