//! Running SQL. Unlike pgrx's own client it never assigns a transaction id by itself, keeps the plans of constant
//! statements, and hands out rows only as owned values.

use crate::points;
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr;

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

thread_local! {
    static PLANS: RefCell<HashMap<&'static str, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
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

/// Runs `sql` for its effect and returns the number of rows it touched.
pub fn execute(sql: &str, args: &[Arg]) -> u64 {
    query(sql, args, Mode::Write, |_| ());
    // SAFETY: set by the statement that has just run.
    unsafe { pg_sys::SPI_processed }
}

/// The first row of a statement's result.
pub fn first<T>(sql: &str, args: &[Arg], mode: Mode, row: impl FnMut(&Row) -> T) -> Option<T> {
    query(sql, args, mode, row).into_iter().next()
}

fn connected<T>(run: impl FnOnce() -> i32, mut row: impl FnMut(&Row) -> T) -> Vec<T> {
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

fn split(args: &[Arg]) -> (Vec<pg_sys::Oid>, Vec<pg_sys::Datum>, Vec<std::ffi::c_char>) {
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
