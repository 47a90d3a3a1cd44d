//! Seeing what others have committed, whatever the isolation level of the transaction.

use pgrx::pg_sys;

/// Runs `body`, which must only read (with `Mode::Read`), under a snapshot of this moment.
pub fn with_latest<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: push and pop are paired; on an error the abort of the transaction pops it.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let value = body();
        pg_sys::PopActiveSnapshot();
        value
    }
}
