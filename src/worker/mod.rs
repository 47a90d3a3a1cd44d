//! Orchestration: claim and commit; call with nothing of the server held; write, complete and commit.
//!
//! | step | enters | leaves | may change | where the process dies |
//! |---|---|---|---|---|
//! | gather | due jobs | items with text and hash | leases and attempts of these jobs; ends jobs of rows that are gone | before the commit: nothing happened; after: the leases run out, or the next worker frees them as it starts |
//! | call | texts | vectors, or a failure | nothing | the answer is lost, the leases remain: the rows are sent once more |
//! | finish | vectors | - | the rows' vectors; these jobs; the record of what was written | before the commit: as above; after: done |
//! | fail | a failure | - | these jobs, the list of failed jobs | before the commit: as above, the attempt stays counted |

use crate::pg::ffi::catch::{self, Caught};
use crate::pg::interface;
use std::cell::Cell;

pub mod batch;
pub mod builders;
pub mod change;
pub mod check;
pub mod drain;
pub mod engine;
pub mod finish;
pub mod gather;
pub mod index;
pub mod keep;
pub mod launch;
pub mod log;
pub mod models;
pub mod pace;
pub mod pieces;
pub mod restore;
pub mod run;
pub mod state;
pub mod text_index;
pub mod tidy;
pub mod turns;
pub mod wait;

/// A transaction of a background worker, as [`catch::transaction`]; an error, and nothing done, where the catalogue is not one that
/// this library knows: it may have been updated between any two steps.
pub fn transaction<R>(body: impl FnOnce() -> R) -> Result<R, Caught> {
    catch::transaction(|| {
        if let Err(error) = interface::check() {
            REFUSED.set(true);
            error.raise();
        }
        body()
    })
}

/// Whether a [`transaction`] was refused for its catalogue since this was asked last. What was in hand then is lost, and a loop that
/// begins anew frees it.
pub fn was_refused() -> bool {
    REFUSED.take()
}

thread_local! {
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}
