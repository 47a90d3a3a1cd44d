//! A backfill fills the slow lane up with the next rows of the table, in the order of their keys.

use super::{Context, IN_USE, REFUSED, UNREADABLE, block};
use crate::pg::ffi::catch::subtransaction;
use crate::pg::queue::{self, Why};
use crate::pg::source;
use std::time::Duration;

/// Rows that it walks at once.
const ROWS: i64 = 4096;
/// The least that it walks when it begins.
const FIRST: usize = 256;

/// What became of a walk.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Walk {
    /// The lane is full enough.
    Full,
    /// There are more rows.
    On,
    /// The end of the table was reached, and rows were queued.
    Last,
    /// The end was reached before, or there was nothing to queue, or another walks.
    Over,
}

/// Fills the backfill lane up with the next rows of the table, so that no more than a few thousand wait in it. Where the
/// table cannot be read: how long to leave it alone.
pub(super) fn walk(context: &Context, above: i64, limit: usize) -> Result<Walk, Duration> {
    let id = context.vectorizer.id;
    let low = 2 * limit.max(256) as i64;
    if queue::waiting_in_backfill(id, above, low) >= low {
        return Ok(Walk::Full);
    }
    let Some(walk) = queue::lock_walk(id) else { return Ok(Walk::Over) };
    // Of a walk that begins, the rows of one request: the first goes out sooner.
    let rows = if walk.last_key.is_none() { limit.max(FIRST) as i64 } else { ROWS.max(2 * limit as i64) };
    let keys = match subtransaction(|| {
        source::walk(&context.target(), walk.last_key.as_deref(), walk.end_key.as_deref(), rows)
    }) {
        Ok(keys) => keys,
        Err(caught) if caught.is_contention() => return Err(IN_USE),
        Err(caught) => {
            block(context, UNREADABLE, &caught);
            return Err(REFUSED);
        }
    };
    let count = keys.len() as i64;
    let last = keys.last().map(|(key, _)| key.clone());
    let missing: Vec<String> =
        keys.into_iter().filter(|(_, has)| walk.why != Why::Missing || !has).map(|(key, _)| key).collect();
    let is_any = !missing.is_empty();
    if is_any {
        queue::add(id, queue::BACKFILL, &missing, walk.why);
    }
    let goes_on = queue::step_walk(id, last, count, count < rows);
    Ok(match is_any {
        _ if goes_on => Walk::On,
        true => Walk::Last,
        false => Walk::Over,
    })
}
