//! Where in the queue to look. Dead rows that an old snapshot keeps in place must not be looked through each time: a look begins
//! below the highest number that was claimed, or there was when nothing waited. Numbers commit out of order, so now and then
//! it begins at the beginning; where that takes long, rarely.

use super::Engine;
use crate::pg::ffi::catch::Caught;
use crate::pg::queue;
use crate::points;
use crate::worker::gather::Gathered;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Numbers below the highest are looked through again this far: those of 250 statements that queue one row each.
const SLACK: i64 = 2000;
/// How long it may take until what is below is found.
const RESCAN: Duration = Duration::from_secs(1);
/// In a test that is not to depend on it.
const NEVER: Duration = Duration::from_secs(3600);
/// Looking from the beginning takes at most one part in so many of the time.
const RARELY: u32 = 10;

/// What is known of one lane of a vectorizer.
pub(super) struct Hint {
    low: i64,
    /// From then on a look begins at the beginning,
    rescan_at: Instant,
    /// but not before.
    not_before: Instant,
}

impl Hint {
    fn new(now: Instant) -> Hint {
        Hint { low: 0, rescan_at: now, not_before: now }
    }

    fn due(&self) -> Instant {
        self.rescan_at.max(self.not_before)
    }

    fn above(&self, now: Instant) -> i64 {
        if self.due() <= now { 0 } else { self.low }
    }

    fn was_rescanned(&mut self, took: Duration) {
        let now = Instant::now();
        let rescan = if points::is_set("only_when_told") { NEVER } else { RESCAN };
        (self.rescan_at, self.not_before) = (now + rescan, now + took * RARELY);
    }
}

impl Engine {
    /// Looks at the whole queue again next time.
    pub fn look_everywhere(&mut self) {
        let now = Instant::now();
        self.hints.values_mut().for_each(|hint| hint.rescan_at = now);
    }

    /// The same for one vectorizer.
    pub(super) fn forget_hints(&mut self, id: i32) {
        let now = Instant::now();
        self.hints.iter_mut().filter(|((of, _), _)| *of == id).for_each(|(_, hint)| hint.rescan_at = now);
    }

    /// Lanes in which something waits; gives back what is held for vectorizers that are not to be worked for any more.
    pub(super) fn candidates(&mut self) -> Result<Vec<(i32, i16)>, Caught> {
        let now = Instant::now();
        let above: Vec<(i32, i16, i64)> = self
            .hints
            .iter()
            .map(|((id, lane), hint)| (*id, *lane, hint.above(now)))
            .filter(|(.., low)| *low > 0)
            .collect();
        let lanes = self.step(|| queue::lanes(&above))?;
        let took = now.elapsed();
        let ids: HashSet<i32> = lanes.iter().map(|lane| lane.vectorizer).collect();
        self.hints.retain(|(id, _), _| ids.contains(id));
        self.drop_orphans(&ids)?;
        let mut waiting = Vec::new();
        for lane in lanes {
            let place = (lane.vectorizer, lane.lane);
            if lane.waits {
                waiting.push(place);
                continue;
            }
            let hint = self.hints.entry(place).or_insert_with(|| Hint::new(now));
            if hint.above(now) == 0 {
                hint.low = hint.low.max(lane.last - SLACK);
                hint.was_rescanned(took);
            } else {
                let due = hint.due();
                self.again_at(due);
            }
        }
        Ok(waiting)
    }

    /// The number above which a lane is looked at now.
    pub(super) fn look_above(&mut self, place: (i32, i16)) -> i64 {
        let now = Instant::now();
        let hint = self.hints.entry(place).or_insert_with(|| Hint::new(now));
        let (above, due) = (hint.above(now), hint.due());
        if above > 0 {
            self.again_at(due);
        }
        above
    }

    /// Learns from a look at up to `limit` jobs above that number, which has taken so long.
    pub(super) fn note_look(
        &mut self,
        place: (i32, i16),
        above: i64,
        limit: usize,
        took: Duration,
        gathered: &Gathered,
    ) {
        let has_suspects = self.careful.has_suspects();
        let Some(hint) = self.hints.get_mut(&place) else { return };
        if above == 0 {
            hint.was_rescanned(took);
        }
        let Some(highest) = gathered.highest else { return };
        // Where rows were left that are older than those known before, they are next.
        let is_backlog = above == 0 && (gathered.claimed >= limit || has_suspects);
        hint.low = if is_backlog { (highest - SLACK).max(0) } else { hint.low.max(highest - SLACK) };
    }
}
