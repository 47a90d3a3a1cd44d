//! How long the queue was, for the log of requests.

use super::Engine;
use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::count;
use crate::pg::ffi::snapshot::with_latest;
use crate::pg::queue::{self, Logged};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A count is worth a line of the log for so long, and is not made anew before.
const AGE: Duration = Duration::from_secs(1);
/// Of the worker's time, one part in so many goes into counting.
const SHARE: u32 = 200;

/// The last count of the queue.
#[derive(Default)]
pub(super) struct Backlog(RefCell<Counted>);

#[derive(Default)]
struct Counted {
    at: Option<Instant>,
    again: Option<Instant>,
    waiting: HashMap<i32, i64>,
    told: HashSet<i32>,
}

impl Backlog {
    fn is_due(&self) -> bool {
        self.0.borrow().again.is_none_or(|again| again <= Instant::now())
    }

    /// Reads the whole queue.
    fn count(&self) {
        let begun = Instant::now();
        let jobs = with_latest(false, count::jobs);
        let now = Instant::now();
        *self.0.borrow_mut() = Counted {
            at: Some(now),
            again: Some(now + AGE.max((now - begun) * SHARE)),
            waiting: jobs.iter().map(|jobs| (jobs.vectorizer, jobs.waiting)).collect(),
            told: HashSet::new(),
        };
    }

    /// Jobs of a vectorizer that nobody has in hand; `None`: that was told, or is not known without counting too often.
    fn of(&self, vectorizer: i32) -> Option<i64> {
        let mut counted = self.0.borrow_mut();
        let is_fresh = counted.at.is_some_and(|at| at.elapsed() < AGE);
        (is_fresh && counted.told.insert(vectorizer)).then(|| counted.waiting.get(&vectorizer).copied().unwrap_or(0))
    }
}

impl Engine {
    /// Counts the queue where that is due; in a transaction of its own, since others have rows of users locked. Not in a session, which would
    /// count at each call, however little it does.
    ///
    /// # Errors
    /// What the transaction failed with.
    pub(super) fn count_backlog(&self) -> Result<(), Caught> {
        if self.in_session || !self.watched.backlog.is_due() {
            return Ok(());
        }
        self.step(|| self.watched.backlog.count())
    }

    /// Writes down what a request for a vectorizer did, and how long its queue was when that was last counted. In a transaction.
    pub(super) fn log(&self, vectorizer: i32, entry: Logged) {
        let waiting = self.watched.backlog.of(vectorizer);
        queue::log(Some(vectorizer), &Logged { waiting, ..entry });
    }
}
