//! How far a backfill has walked its table.

use super::Why;
use crate::pg::ffi::rights::as_queue;
use crate::pg::ffi::spi::{self, Mode, Row, args};

/// A backfill that has not walked its whole table.
#[derive(Debug, Clone)]
pub struct Walk {
    /// The last key walked.
    pub last_key: Option<String>,
    /// The last key that there was when it began: rows behind it came later and have jobs of their own.
    pub end_key: Option<String>,
    /// Of which rows it comes to: without a vector, or all.
    pub why: Why,
}

/// Locks the unfinished backfill of a vectorizer for this transaction; `None` where there is none or another has it.
pub fn lock_walk(vectorizer: i32) -> Option<Walk> {
    const SQL: &str = "SELECT last_key, end_key, force, rereads FROM autoembed.backfill \
         WHERE vectorizer_id = $1 AND walked_at IS NULL FOR UPDATE SKIP LOCKED";
    as_queue(|| spi::planned(SQL, args![vectorizer], Mode::Write, read_walk)).into_iter().next()
}

fn read_walk(row: &Row) -> Walk {
    let why = match (row.or_default::<bool>(3), row.or_default::<bool>(4)) {
        (true, _) => Why::Forced,
        (false, true) => Why::Changed,
        (false, false) => Why::Missing,
    };
    Walk { last_key: row.get(1), end_key: row.get(2), why }
}

/// The unfinished backfill of a vectorizer, as the calling statement sees it.
pub fn unfinished_walk(vectorizer: i32) -> Option<Walk> {
    const SQL: &str = "SELECT last_key, end_key, force, rereads FROM autoembed.backfill WHERE vectorizer_id = $1 AND walked_at IS NULL";
    as_queue(|| spi::planned(SQL, args![vectorizer], Mode::Read, read_walk)).into_iter().next()
}

/// Whether a backfill was asked for a moment ago, and has not begun.
pub fn is_any_walk_new() -> bool {
    const SQL: &str = "SELECT EXISTS (SELECT FROM autoembed.backfill \
         WHERE last_key IS NULL AND walked_at IS NULL AND started_at > pg_catalog.clock_timestamp() - interval '1 s')";
    as_queue(|| spi::planned(SQL, &[], Mode::Write, |row| row.or_default::<bool>(1))).first() == Some(&true)
}

/// Notes how far a backfill has come. Whether there is more to walk: at the end, too, where it is to begin anew.
pub fn step_walk(vectorizer: i32, last_key: Option<String>, rows: i64, is_end: bool) -> bool {
    const ANEW: &str = "UPDATE autoembed.backfill SET last_key = NULL, end_key = again_to, again_to = NULL, force = false, rereads = false, \
         walked = 0, started_at = clock_timestamp() WHERE vectorizer_id = $1 AND again_to IS NOT NULL";
    const SQL: &str = "UPDATE autoembed.backfill SET last_key = COALESCE($2, last_key), walked = walked + $3, \
         walked_at = CASE WHEN $4 THEN clock_timestamp() END WHERE vectorizer_id = $1";
    as_queue(|| {
        if is_end && spi::execute(ANEW, args![vectorizer]) > 0 {
            return true;
        }
        spi::planned(
            SQL,
            &[spi::Arg::new(vectorizer), spi::Arg::new::<String>(last_key), spi::Arg::new(rows), spi::Arg::new(is_end)],
            Mode::Write,
            |_| (),
        );
        !is_end
    })
}
