//! Seeing what others have committed, whatever the isolation level of the transaction.

use pgrx::pg_sys;

/// Runs `body`, which must only read (with `Mode::Read`), under a snapshot of this moment; with `without_own` it does not
/// show what this transaction has written itself.
pub fn with_latest<R>(without_own: bool, body: impl FnOnce() -> R) -> R {
    // SAFETY: push (which copies the snapshot) and pop are paired; on an error the abort of the transaction pops it.
    // Command number 0 comes before every write of the transaction.
    unsafe {
        let snapshot = pg_sys::GetLatestSnapshot();
        if without_own {
            (*snapshot).curcid = 0;
        }
        pg_sys::PushActiveSnapshot(snapshot);
        let value = body();
        pg_sys::PopActiveSnapshot();
        value
    }
}

/// Runs `body`, which must only read (with `Mode::Read`), as of this moment, like the server's own looks into its catalogue: also in a
/// transaction that sees everything else as it was when it began, and beside parallel workers.
pub fn of_now<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: the snapshot is copied when it is pushed, and popped by the abort of the transaction on an error. It is asked for on behalf
    // of no relation, so it is never one that was taken before.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetCatalogSnapshot(pg_sys::InvalidOid));
        let value = body();
        pg_sys::PopActiveSnapshot();
        value
    }
}
