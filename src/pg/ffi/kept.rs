//! Plans that are kept with what they are for, and freed with it.

use crate::pg::ffi::spi::{self, Arg, Row};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::CString;
use std::time::Instant;

thread_local! {
    // What nobody has any more. It may be let go of in the midst of the server's own work on its plans, where nothing can be freed.
    static LEFT: RefCell<Vec<pg_sys::SPIPlanPtr>> = const { RefCell::new(Vec::new()) };
}

/// The plan of a statement, made once for all values of its parameters. The server makes it anew where the definition of anything in it, the role
/// or the search_path has changed, and looks at the reader's rights to tables, columns and functions each time that it runs; not to schemas.
pub struct Kept {
    plan: pg_sys::SPIPlanPtr,
    made: Instant,
}

impl Kept {
    /// Plans come with the first run. `of`: the types of the parameters.
    pub fn new(sql: &str, of: &mut [pg_sys::Oid]) -> Kept {
        free_left();
        const OPTIONS: u32 = pg_sys::CURSOR_OPT_GENERIC_PLAN | pg_sys::CURSOR_OPT_PARALLEL_OK;
        let text = CString::new(sql).unwrap_or_default();
        // SAFETY: connect and finish are paired, on an error by the abort; the text ends with NUL, and there are as many types as are said.
        let plan = unsafe {
            pg_sys::SPI_connect();
            let plan = pg_sys::SPI_prepare_cursor(text.as_ptr(), of.len() as i32, of.as_mut_ptr(), OPTIONS as i32);
            if plan.is_null() {
                let status = pg_sys::SPI_result;
                pgrx::error!("internal SPI error {status}");
            }
            pg_sys::SPI_keepplan(plan);
            pg_sys::SPI_finish();
            plan
        };
        Kept { plan, made: Instant::now() }
    }

    /// When it was made.
    pub fn made(&self) -> Instant {
        self.made
    }

    /// Runs it under the active snapshot, and gives each row to `row`; how many there were.
    pub fn run(&self, args: &[Arg], row: impl FnMut(&Row)) -> usize {
        spi::connected(
            || {
                let (_, mut datums, nulls) = spi::split(args);
                // SAFETY: the plan lives as long as this does; whoever has it gives the arguments that it was made for.
                unsafe { pg_sys::SPI_execute_plan(self.plan, datums.as_mut_ptr(), nulls.as_ptr(), true, 0) }
            },
            row,
        )
        .len()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Nothing is left of it in a process that ends by exit().
        let _ = LEFT.try_with(|left| left.borrow_mut().push(self.plan));
    }
}

fn free_left() {
    for plan in LEFT.take() {
        // SAFETY: a plan that was kept, and that nobody has or runs any more.
        unsafe { pg_sys::SPI_freeplan(plan) };
    }
}

/// What of the session's settings says which ways a plan may take: one that was made under others is not the one that is asked for.
pub fn ways() -> [bool; 6] {
    // SAFETY: settings that this process alone changes.
    unsafe {
        [
            pg_sys::enable_seqscan,
            pg_sys::enable_indexscan,
            pg_sys::enable_indexonlyscan,
            pg_sys::enable_bitmapscan,
            pg_sys::enable_sort,
            pg_sys::enable_incremental_sort,
        ]
    }
}
