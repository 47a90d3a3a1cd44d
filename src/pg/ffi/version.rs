//! Whether a row is still what it was when it was read.

use crate::pg::ffi::spi::Row;
use pgrx::pg_sys;

/// One version of a row: a change makes another one.
#[derive(Clone, Copy)]
pub struct Version {
    table: pg_sys::Oid,
    /// What the table is stored in. One that is written anew (VACUUM FULL, CLUSTER) has other rows at the same places, which may be of the
    /// same transaction.
    file: pg_sys::Oid,
    place: pg_sys::ItemPointerData,
    by: pg_sys::TransactionId,
}

impl Version {
    /// From a row with the columns `tableoid`, `ctid` and `xmin` of what is meant, from the one with this number on. The statement has locked
    /// the table: it is not written anew before the transaction ends.
    pub fn read(row: &Row, first: usize) -> Option<Version> {
        let (table, place, by) = (row.get(first)?, row.get(first + 1)?, row.get(first + 2)?);
        let lock = pg_sys::NoLock as pg_sys::LOCKMODE;
        // SAFETY: the statement that the row is of has the table locked.
        let file = unsafe {
            let opened = pg_sys::try_table_open(table, lock);
            if opened.is_null() {
                return None;
            }
            let (file, way) = ((*(*opened).rd_rel).relfilenode, (*(*opened).rd_rel).relam);
            pg_sys::table_close(opened, lock);
            // Other ways to keep tables have no pages that could be looked at.
            (way == pg_sys::HEAP_TABLE_AM_OID).then_some(file)?
        };
        Some(Version { table, file, place, by })
    }

    /// Whether the active snapshot shows it, and so no other one of that row.
    pub fn is_there(&self) -> bool {
        // SAFETY: the table is open, and locked against being cut off, while the page is read; the tuple is looked at while its page is pinned.
        unsafe {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let table = pg_sys::try_table_open(self.table, lock);
            if table.is_null() {
                return false;
            }
            let is_same_file = (*(*table).rd_rel).relfilenode == self.file;
            let pages = match is_same_file {
                true => pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM),
                false => 0,
            };
            let is_there = pgrx::itemptr::item_pointer_get_block_number(&self.place) < pages && {
                let mut tuple = pg_sys::HeapTupleData { t_self: self.place, ..Default::default() };
                let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
                let snapshot = pg_sys::GetActiveSnapshot();
                let found = pg_sys::heap_fetch(table, snapshot, &mut tuple, &mut buffer, false);
                let is_same = found && (*tuple.t_data).t_choice.t_heap.t_xmin == self.by;
                if found {
                    pg_sys::ReleaseBuffer(buffer);
                }
                is_same
            };
            pg_sys::table_close(table, lock);
            is_there
        }
    }
}
