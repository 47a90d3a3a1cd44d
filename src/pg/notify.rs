//! Notifications: who waits for vectors may LISTEN instead of asking again and again.
//!
//! | enters | leaves | may change | where the process dies |
//! |---|---|---|---|
//! | rows that a step has written or given up | a notification on the channel `autoembed`, sent by the commit of that step | nothing | before the commit: neither vectors nor notification; after: both |
//!
//! The server can refuse a notification only as it commits, and would take the vectors along: where its queue is full, and where
//! another session's commit holds the queue, as one does that waits for a missing standby. So neither is risked: in such a moment the
//! vectors are written, and nobody is told. The same goes for a transaction of embed_pending() that is prepared, which the server refuses to
//! do with notifications. Listeners look at the table when they begin, and now and then.

use crate::pg::error::Result;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::{locks, process, xact};
use crate::pg::vectorizers;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long another's commit is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
/// Nothing is added to a queue that is as full as this.
const FULL: f64 = 0.5;
/// How often the log says that something was left out.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Rows of one vectorizer.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// That have their vector.
    rows: i64,
    /// That were given up.
    failed: i64,
}

thread_local! {
    /// What the present step has done, by vectorizer.
    static STEP: RefCell<BTreeMap<i32, Told>> = const { RefCell::new(BTreeMap::new()) };
    static SAID: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Has notifications sent for a vectorizer, or not.
///
/// # Errors
/// As [`vectorizers::own`].
pub fn set(source: pg_sys::Oid, embedding: &str, enabled: bool) -> Result<()> {
    const SQL: &str = "UPDATE autoembed.vectorizer SET notifies = $2 WHERE id = $1";
    let (_, vectorizer) = vectorizers::own(source, embedding)?;
    as_extension(|| spi::execute(SQL, args![vectorizer.id, enabled]));
    Ok(())
}

/// These rows have their vectors.
pub fn written(vectorizer: i32, rows: usize) {
    if rows > 0 {
        STEP.with_borrow_mut(|step| step.entry(vectorizer).or_default().rows += rows as i64);
    }
}

/// A row was given up.
pub fn failed(vectorizer: i32) {
    STEP.with_borrow_mut(|step| step.entry(vectorizer).or_default().failed += 1);
}

/// Runs one step of the work in its transaction, and has its commit tell of what it has written. What an earlier step has left that was
/// rolled back is forgotten.
pub fn telling<R>(body: impl FnOnce() -> R) -> R {
    STEP.take();
    let value = body();
    for (vectorizer, told) in STEP.take() {
        send(vectorizer, told);
    }
    value
}

fn send(vectorizer: i32, told: Told) {
    const USAGE: &str =
        "SELECT pg_notification_queue_usage() FROM autoembed.vectorizer v WHERE v.id = $1 AND v.notifies";
    // A table's name as text is qualified here, since only the server's own schema is on the search_path.
    const PAYLOAD: &str = "SELECT json_build_object('source', v.source::text, 'embedding', v.embedding, 'rows', $2, 'failed', $3)::text \
         FROM autoembed.vectorizer v WHERE v.id = $1";
    as_extension(|| {
        let usage = spi::planned(USAGE, args![vectorizer], Mode::Write, |row| row.or_default::<f64>(1));
        let Some(usage) = usage.into_iter().next() else { return };
        if usage < FULL && (!process::is_worker() || has_queue()) {
            let args = args![vectorizer, told.rows, told.failed];
            for payload in spi::planned(PAYLOAD, args, Mode::Write, |row| row.or_default::<String>(1)) {
                xact::notify_at_commit(c"autoembed", &payload);
            }
        } else {
            complain();
        }
    });
}

fn complain() {
    let is_said = SAID.get().is_some_and(|at| at.elapsed() < SAY_AGAIN);
    if !is_said {
        SAID.set(Some(Instant::now()));
        pgrx::log!(
            "autoembed: a notification was left out: the server's queue of them is half full (a session that listens does not read), or another session's commit has held it for long"
        );
    }
}

/// Takes the lock that commits with notifications take one after the other, until the end of this transaction, which is near. A session
/// takes it as it commits, like any other that notifies.
fn has_queue() -> bool {
    let begun = Instant::now();
    while !locks::try_lock_notifications() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        process::pause(Duration::from_millis(1));
    }
    true
}
