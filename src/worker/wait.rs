//! wait(): until what was committed before the call is done.

use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::{as_extension, is_restricted};
use crate::pg::ffi::spi::{self, Arg, Mode};
use crate::pg::ffi::{process, snapshot};
use crate::pg::{change, vectorizers, wake};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// Waits for the caller's vectorizers; false when `timeout` came first.
///
/// # Errors
/// 22023 for a negative timeout; as `vectorizers::own_all`.
pub fn until_done(source: Option<pg_sys::Oid>, timeout: Interval) -> Result<bool> {
    const SECONDS: &str = "SELECT EXTRACT(epoch FROM $1)::float8";
    const LAST: &str = "SELECT COALESCE(max(id), 0) FROM autoembed.job WHERE vectorizer_id = ANY ($1)";
    // A backfill is over when its walk is and the rows that it queued are done.
    const OPEN: &str = "SELECT EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = ANY ($1) AND j.id <= $2) \
         OR EXISTS (SELECT FROM autoembed.backfill b WHERE b.vectorizer_id = ANY ($1) AND b.started_at <= $3 AND (b.walked_at IS NULL \
           OR EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = b.vectorizer_id AND j.lane = 1 AND j.queued_at <= b.walked_at)))";
    if is_restricted() {
        return Err(Error::state(
            "wait() cannot be called by code that runs while vectors are read or written",
            "It would wait for itself. Call it in a session, outside of triggers of enabled tables.",
        ));
    }
    let seconds =
        as_extension(|| spi::first(SECONDS, &[Arg::new(timeout)], Mode::Read, |row| row.or_default::<f64>(1)))
            .unwrap_or(0.0);
    if seconds < 0.0 {
        return Err(Error::argument("timeout is negative", "Give how long to wait, for instance '1 min'."));
    }
    let begun = Instant::now();
    let changes = change::all();
    let limit = Duration::from_secs_f64(seconds.min(1e9));
    // A change of model may take days, and searches do not wait for it either.
    let is_second = |id: i32| changes.iter().any(|change| change.id == id);
    let ids: Vec<i32> = vectorizers::own_all(source)?.into_iter().map(|v| v.id).filter(|id| !is_second(*id)).collect();
    let now = process::now_plus(0.0);
    let own = wake::has_queued();
    if own {
        pgrx::warning!(
            "rows that this transaction has changed are embedded after its commit; wait() does not wait for them"
        );
    }
    let fresh = |sql: &str, args: &[Arg]| {
        snapshot::with_latest(own, || {
            as_extension(|| spi::first(sql, args, Mode::Read, |row| row.get::<i64>(1)).flatten())
        })
    };
    let last = fresh(LAST, &[Arg::new(ids.clone())]).unwrap_or(0);
    let sql = format!("SELECT ({})::int::bigint", OPEN.trim_start_matches("SELECT "));
    let mut pause = Duration::from_millis(2);
    loop {
        let open = fresh(&sql, &[Arg::new(ids.clone()), Arg::new(last), Arg::new::<TimestampWithTimeZone>(now)]);
        if open == Some(0) {
            return Ok(true);
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        process::wait_latch(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
