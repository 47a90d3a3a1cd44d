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
