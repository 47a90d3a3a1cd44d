//! Rows of the queue, written straight into the heap and its index: a fifth of the time that a statement takes, and it needs
//! nobody's rights.

use pgrx::datum::{IntoDatum, TimestampWithTimeZone};
use pgrx::pg_sys;

// pgrx does not bind it.
unsafe extern "C-unwind" {
    fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// Columns of autoembed.job in the order of the table; later versions may add columns behind them.
const VECTORIZER_ID: usize = 0;
const LANE: usize = 1;
const ID: usize = 2;
const KEY: usize = 3;
const IF_MISSING: usize = 4;
const ATTEMPTS: usize = 5;
const QUEUED_AT: usize = 6;
const NOT_BEFORE: usize = 7;
const COLUMNS: usize = 10;

/// The queue, open for writing until it is dropped.
pub struct Queue {
    relation: pg_sys::Relation,
    indexes: pg_sys::CatalogIndexState,
    sequence: pg_sys::Oid,
}

impl Queue {
    /// `None` where the extension's tables are not there.
    pub fn open() -> Option<Queue> {
        // SAFETY: names end with NUL; the relation is closed by Drop, or by the abort of the transaction.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"autoembed".as_ptr(), true);
            let table = pg_sys::get_relname_relid(c"job".as_ptr(), schema);
            let sequence = pg_sys::get_relname_relid(c"job_id_seq".as_ptr(), schema);
            if schema == pg_sys::InvalidOid || table == pg_sys::InvalidOid || sequence == pg_sys::InvalidOid {
                return None;
            }
            let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            Some(Queue { relation, indexes: pg_sys::CatalogOpenIndexes(relation), sequence })
        }
    }

    /// Adds a job.
    pub fn add(&self, vectorizer: i32, lane: i16, key: &str, not_before: Option<TimestampWithTimeZone>) {
        // SAFETY: as many values and flags as the table has columns, each of its column's type (sql/01_tables.sql); the
        // table has one plain unique index, no triggers, no constraints but NOT NULL, which hold for these values.
        unsafe {
            // The guard turns its errors into panics, as for what pgrx binds.
            let next = pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(self.sequence, false));
            let columns = (*(*self.relation).rd_att).natts as usize;
            let mut values = vec![pg_sys::Datum::null(); columns.max(COLUMNS)];
            let mut nulls = vec![true; columns.max(COLUMNS)];
            let mut set = |column: usize, value: Option<pg_sys::Datum>| {
                if let Some(value) = value {
                    values[column] = value;
                    nulls[column] = false;
                }
            };
            set(VECTORIZER_ID, vectorizer.into_datum());
            set(LANE, lane.into_datum());
            set(ID, Some(pg_sys::Datum::from(next)));
            set(KEY, key.into_datum());
            set(IF_MISSING, false.into_datum());
            set(ATTEMPTS, 0_i16.into_datum());
            set(QUEUED_AT, Some(pg_sys::Datum::from(pg_sys::GetCurrentTransactionStartTimestamp())));
            set(NOT_BEFORE, not_before.into_datum());
            let tuple = pg_sys::heap_form_tuple((*self.relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsertWithInfo(self.relation, tuple, self.indexes);
            pg_sys::heap_freetuple(tuple);
            if !nulls[KEY] {
                pg_sys::pfree(values[KEY].cast_mut_ptr());
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened above; the lock stays until the end of the transaction.
            unsafe {
                pg_sys::CatalogCloseIndexes(self.indexes);
                pg_sys::table_close(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
    }
}
