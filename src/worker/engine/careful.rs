//! A new worker is careful for a while: the one before it may have been brought down by a row that waits, and taken all sessions of
//! the server with it. What it claims is on disk before a row is read, so that the try counts whatever happens. Rows that were in hand
//! when that happened are taken alone, an eighth of a batch at a time, of an eighth the next time, and so on: the one that does it stands
//! alone before its attempts are used up, and the others are not given up with it.

use super::{Engine, Round};
use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::spi;
use crate::pg::queue;
use crate::pg::settings::Work;
use crate::worker::gather::Claimed;
use std::time::{Duration, Instant};

/// For so long.
const CAREFUL: Duration = Duration::from_secs(60);
/// Who has to wait for others looks again so soon.
const SOON: Duration = Duration::from_millis(20);

/// Whether a worker is careful at present.
#[derive(Default)]
pub(super) struct Careful {
    until: Option<Instant>,
    /// What is in hand was so before, when a worker went down.
    has_suspects: bool,
}

impl Careful {
    /// From now on.
    pub(super) fn begin() -> Careful {
        Careful { until: Some(Instant::now() + CAREFUL), has_suspects: false }
    }

    /// Fewer rows are claimed than could be, because one of them is a suspect.
    pub(super) fn has_suspects(&self) -> bool {
        self.has_suspects
    }
}

/// What is to be done before rows are read.
pub(super) enum Ahead {
    /// Nothing.
    NotNeeded,
    /// What is in hand has to be done first.
    Later,
    /// These jobs are claimed.
    Claimed(Claimed),
}

impl Engine {
    /// Claims jobs ahead of the transaction that reads their rows, where that is called for.
    pub(super) fn claim_ahead(
        &mut self,
        (id, lane): (i32, i16),
        above: i64,
        limit: usize,
        work: &Work,
        round: &mut Round,
    ) -> Result<Ahead, Caught> {
        if self.careful.until.is_none_or(|until| until < Instant::now()) {
            self.careful.has_suspects = false;
            return Ok(Ahead::NotNeeded);
        }
        let attempts = u32::from(self.step(|| queue::most_attempts(id, lane, above, limit))?.unsigned_abs());
        let is_busy = self.in_flight() > 0 || (self.careful.has_suspects && self.holds_rows());
        if is_busy && (attempts > 0 || self.careful.has_suspects) {
            round.wait(SOON);
            return Ok(Ahead::Later);
        }
        self.careful.has_suspects = attempts > 0;
        let limit = limit.checked_shr(3 * attempts).unwrap_or(0).max(1);
        let jobs = self.step(|| {
            // On this disk, that is: no standby is waited for.
            spi::execute("SET LOCAL synchronous_commit = local", &[]);
            queue::claim(id, lane, above, limit, work.lease)
        })?;
        if attempts > 0 {
            round.wait(SOON);
        }
        Ok(Ahead::Claimed(Claimed { is_full: attempts == 0 && jobs.len() == limit, jobs }))
    }
}
