//! Running SQL. Unlike pgrx's own client it never assigns a transaction id by itself, keeps the plans of constant
//! statements, and hands out rows only as owned values.

use crate::pg::ffi::rights::planning_by_index;
use crate::points;
use lru::LruCache;
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr;

/// Plans of [`kept`] statements that a session holds; those that were not used for the longest are given up.
const MOST_KEPT: usize = 64;

/// One argument of a statement.
pub struct Arg {
    oid: pg_sys::Oid,
    datum: Option<pg_sys::Datum>,
}

impl Arg {
    /// A value of a type that pgrx can convert; `None` is NULL.
    pub fn new<T: IntoDatum>(value: impl Into<Option<T>>) -> Arg {
        Arg { oid: T::type_oid(), datum: value.into().and_then(IntoDatum::into_datum) }
    }

    /// A ready-made datum of the type `oid`.
    ///
    /// # Safety
    /// `datum` must be a valid value of that type, alive until the statement has run.
    pub unsafe fn raw(oid: pg_sys::Oid, datum: Option<pg_sys::Datum>) -> Arg {
        Arg { oid, datum }
    }

    /// Its type, and its value where it is not NULL.
    pub(super) fn parts(&self) -> (pg_sys::Oid, Option<pg_sys::Datum>) {
        (self.oid, self.datum)
    }
}

/// Shorthand for an argument list: `args![1_i32, "text".to_string()]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::pg::ffi::spi::Arg::new($value)),*] };
}
pub(crate) use args;

/// One row of a result, read while its memory is alive.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    desc: pg_sys::TupleDesc,
}

impl Row {
    /// The value of column `ordinal` (from 1); `None` where it is NULL.
    pub fn get<T: FromDatum>(&self, ordinal: usize) -> Option<T> {
        let mut null = true;
        // SAFETY: tuple and descriptor belong to the SPI result being read; the ordinal is checked by SPI_getbinval,
        // and `T` fits the statement's column, which is written in this crate.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.desc, ordinal as i32, &mut null);
            T::from_datum(datum, null)
        }
    }

    /// For what copies it as it is.
    pub(super) fn parts(&self) -> (pg_sys::HeapTuple, pg_sys::TupleDesc) {
        (self.tuple, self.desc)
    }

    /// As [`Row::get`], with the type's default for NULL: for columns that are never NULL.
    pub fn or_default<T: FromDatum + Default>(&self, ordinal: usize) -> T {
        self.get(ordinal).unwrap_or_default()
    }
}

/// How a statement runs.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    /// A new snapshot for the statement; may write.
    Write,
    /// Under the active snapshot; may not write.
    Read,
}

/// A statement's text with the types of its arguments.
type Statement = (String, Vec<pg_sys::Oid>);

thread_local! {
    static PLANS: RefCell<HashMap<&'static str, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
    static KEPT: RefCell<LruCache<Statement, pg_sys::SPIPlanPtr>> = RefCell::new(LruCache::unbounded());
    static KEPT_RUNNING: Cell<usize> = const { Cell::new(0) };
    static KEPT_IS_OLD: Cell<bool> = const { Cell::new(false) };
}

/// Runs `sql` and returns `row` of each row of its result. Errors of the server are raised, not returned.
pub fn query<T>(sql: &str, args: &[Arg], mode: Mode, row: impl FnMut(&Row) -> T) -> Vec<T> {
    connected(
        || {
            let (mut oids, mut datums, nulls) = split(args);
            let sql = c_string(sql);
            // SAFETY: SPI is connected, the arrays have one entry an argument, and the text ends with NUL.
            unsafe {
                pg_sys::SPI_execute_with_args(
                    sql.as_ptr(),
                    args.len() as i32,
                    oids.as_mut_ptr(),
                    datums.as_mut_ptr(),
                    nulls.as_ptr(),
                    mode == Mode::Read,
                    0,
                )
            }
        },
        row,
    )
}

/// As [`query`], for a constant statement that runs often: its plan is kept for the session.
pub fn planned<T>(sql: &'static str, args: &[Arg], mode: Mode, row: impl FnMut(&Row) -> T) -> Vec<T> {
    connected(
        || {
            let (mut oids, mut datums, nulls) = split(args);
            let plan = PLANS.with(|plans| plans.borrow().get(sql).copied()).unwrap_or_else(|| {
                let text = c_string(sql);
                // SAFETY: SPI is connected; a kept plan lives as long as the session.
                let plan = unsafe {
                    let plan = pg_sys::SPI_prepare(text.as_ptr(), args.len() as i32, oids.as_mut_ptr());
                    if !plan.is_null() {
                        pg_sys::SPI_keepplan(plan);
                    }
                    plan
                };
                if !plan.is_null() {
                    PLANS.with(|plans| plans.borrow_mut().insert(sql, plan));
                }
                plan
            });
            if plan.is_null() {
                return pg_sys::SPI_ERROR_ARGUMENT;
            }
            // SAFETY: the plan was made for these argument types, by the only statement text that leads to it.
            unsafe { pg_sys::SPI_execute_plan(plan, datums.as_mut_ptr(), nulls.as_ptr(), mode == Mode::Read, 0) }
        },
        row,
    )
}

/// As [`query`], for a statement that is put together for a table and runs for each batch. One plan is kept for all arguments, so that
/// arrays of them are neither copied nor looked at by the planner; it goes by keys and places of rows, as [`planning_by_index`] has it.
/// To be called with the rights and the search_path that it runs with.
pub fn kept<T>(sql: &str, args: &[Arg], mode: Mode, row: impl FnMut(&Row) -> T) -> Vec<T> {
    connected(
        || {
            let (oids, mut datums, nulls) = split(args);
            let _running = Running::begin();
            let plan = kept_plan(sql, oids);
            if plan.is_null() {
                return pg_sys::SPI_ERROR_ARGUMENT;
            }
            // SAFETY: SPI is connected; what is got here is given back at once, and the plan, which was made for these argument types,
            // keeps it.
            unsafe {
                planning_by_index(|| {
                    let cached = pg_sys::SPI_plan_get_cached_plan(plan);
                    if !cached.is_null() {
                        pg_sys::ReleaseCachedPlan(cached, pg_sys::CurrentResourceOwner);
                    }
                });
                pg_sys::SPI_execute_plan(plan, datums.as_mut_ptr(), nulls.as_ptr(), mode == Mode::Read, 0)
            }
        },
        row,
    )
}

/// A [`kept`] statement is under way: no plan is given up, since code that it calls may run others.
struct Running;

impl Running {
    fn begin() -> Running {
        KEPT_RUNNING.set(KEPT_RUNNING.get() + 1);
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        KEPT_RUNNING.set(KEPT_RUNNING.get().saturating_sub(1));
    }
}

/// What names in statements mean may have changed in a way that the server does not look for in plans: a new cast, or operator. Frees
/// nothing by itself, so that it can be called at any time.
pub fn forget_kept() {
    let _ = KEPT_IS_OLD.try_with(|is_old| is_old.set(true));
}

fn kept_plan(sql: &str, mut oids: Vec<pg_sys::Oid>) -> pg_sys::SPIPlanPtr {
    if KEPT_RUNNING.get() == 1 && KEPT_IS_OLD.replace(false) {
        for (_, old) in KEPT.replace(LruCache::unbounded()) {
            // SAFETY: it is in nobody's hands any more, and not under way.
            unsafe { pg_sys::SPI_freeplan(old) };
        }
    }
    let text = c_string(sql);
    let statement = (sql.to_string(), oids.clone());
    if let Some(plan) = KEPT.with_borrow_mut(|kept| kept.get(&statement).copied()) {
        return plan;
    }
    // SAFETY: SPI is connected, and the text ends with NUL; a kept plan lives until it is given up.
    let plan = unsafe {
        let options = pg_sys::CURSOR_OPT_GENERIC_PLAN as i32;
        let plan = pg_sys::SPI_prepare_cursor(text.as_ptr(), oids.len() as i32, oids.as_mut_ptr(), options);
        if !plan.is_null() {
            pg_sys::SPI_keepplan(plan);
        }
        plan
    };
    if !plan.is_null() {
        let given_up = KEPT.with_borrow_mut(|kept| {
            kept.push(statement, plan);
            if kept.len() > MOST_KEPT && KEPT_RUNNING.get() == 1 { kept.pop_lru() } else { None }
        });
        if let Some((_, old)) = given_up {
            // SAFETY: it is in nobody's hands any more, and not under way.
            unsafe { pg_sys::SPI_freeplan(old) };
        }
    }
    plan
}

/// Runs `sql` for its effect and returns the number of rows it touched.
pub fn execute(sql: &str, args: &[Arg]) -> u64 {
    query(sql, args, Mode::Write, |_| ());
    // SAFETY: set by the statement that has just run.
    unsafe { pg_sys::SPI_processed }
}

/// Rows that the last statement has touched.
pub fn processed() -> u64 {
    // SAFETY: a read of what the statement that has just run has left.
    unsafe { pg_sys::SPI_processed }
}

/// The first row of a statement's result.
pub fn first<T>(sql: &str, args: &[Arg], mode: Mode, row: impl FnMut(&Row) -> T) -> Option<T> {
    query(sql, args, mode, row).into_iter().next()
}

/// Runs `run` with SPI connected, and returns `row` of each row of the result that it has left.
pub(super) fn connected<T>(run: impl FnOnce() -> i32, mut row: impl FnMut(&Row) -> T) -> Vec<T> {
    let mut out = Vec::new();
    points::reach("statement");
    // SAFETY: connect and finish are paired; where the statement raises an error, the abort of the (sub)transaction
    // closes the connection, as Postgres does for its own languages.
    unsafe {
        pg_sys::SPI_connect();
        pg_sys::SPI_tuptable = ptr::null_mut();
        let status = run();
        if status < 0 {
            pgrx::error!("internal SPI error {status}");
        }
        let table = pg_sys::SPI_tuptable;
        if !table.is_null() {
            let count = pg_sys::SPI_processed as usize;
            out.reserve(count);
            for i in 0..count {
                let tuple = *(*table).vals.add(i);
                out.push(row(&Row { tuple, desc: (*table).tupdesc }));
            }
        }
        let processed = pg_sys::SPI_processed;
        pg_sys::SPI_finish();
        pg_sys::SPI_processed = processed;
    }
    out
}

/// Types, values and marks of NULL, as SPI takes them.
pub(super) fn split(args: &[Arg]) -> (Vec<pg_sys::Oid>, Vec<pg_sys::Datum>, Vec<std::ffi::c_char>) {
    (
        args.iter().map(|a| a.oid).collect(),
        args.iter().map(|a| a.datum.unwrap_or(pg_sys::Datum::null())).collect(),
        args.iter().map(|a| if a.datum.is_some() { b' ' } else { b'n' } as std::ffi::c_char).collect(),
    )
}

fn c_string(sql: &str) -> CString {
    // A NUL cannot come out of a text of Postgres; what stands before one is the statement.
    CString::new(sql.split('\0').next().unwrap_or_default()).unwrap_or_default()
}
