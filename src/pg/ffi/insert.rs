//! Rows of the queue, written straight into the heap and its index, pages at a time: a tenth of the time that a statement takes, and
//! it needs nobody's rights.

use crate::pg::ffi::rights::as_queue;
use crate::pg::ffi::spi::{self, Arg, Mode};
use crate::pg::queue::Why;
use pgrx::PgMemoryContexts;
use pgrx::datum::{IntoDatum, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary as guard;
use std::cell::Cell;
use std::ops::Range;

/// The server's own functions, called many times within one [`guard`].
mod raw {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        // pgrx does not bind it.
        pub fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
        pub fn cstring_to_text_with_len(text: *const core::ffi::c_char, length: i32) -> *mut pg_sys::text;
        pub fn heap_form_tuple(
            descriptor: pg_sys::TupleDesc,
            values: *mut pg_sys::Datum,
            nulls: *mut bool,
        ) -> pg_sys::HeapTuple;
        pub fn index_insert(
            index: pg_sys::Relation,
            values: *mut pg_sys::Datum,
            nulls: *mut bool,
            place: pg_sys::ItemPointer,
            heap: pg_sys::Relation,
            check_unique: pg_sys::IndexUniqueCheck::Type,
            is_unchanged: bool,
            info: *mut pg_sys::IndexInfo,
        ) -> bool;
        pub fn pfree(pointer: *mut core::ffi::c_void);
    }
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
const IS_FORCED: usize = 10;
const COLUMNS: usize = 11;
/// The index's columns, by their numbers in the table.
const INDEXED: [i16; 3] = [VECTORIZER_ID as i16 + 1, LANE as i16 + 1, ID as i16 + 1];
/// So many rows are written at once: a few pages.
const AT_ONCE: usize = 500;

/// Where the queue is in this database.
#[derive(Clone, Copy)]
struct Places {
    table: pg_sys::Oid,
    sequence: pg_sys::Oid,
    /// The index, where it is the only one, and as it was made.
    index: Option<pg_sys::Oid>,
    /// Each number of the sequence stands for so many.
    block: i64,
}

thread_local! {
    static PLACES: Cell<Option<Places>> = const { Cell::new(None) };
}

/// Forgets where the queue is when its definition has changed (`None`: any table's).
pub fn forget(table: Option<pg_sys::Oid>) {
    let _ = PLACES.try_with(|places| {
        if places.get().is_some_and(|known| table.is_none_or(|table| table == known.table || table == known.sequence)) {
            places.set(None);
        }
    });
}

impl Places {
    fn find() -> Option<Places> {
        // SAFETY: names end with NUL; look-ups in the catalogue.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"autoembed".as_ptr(), true);
            let table = pg_sys::get_relname_relid(c"job".as_ptr(), schema);
            let sequence = pg_sys::get_relname_relid(c"job_id_seq".as_ptr(), schema);
            if schema == pg_sys::InvalidOid || table == pg_sys::InvalidOid || sequence == pg_sys::InvalidOid {
                return None;
            }
            Some(Places { table, sequence, index: None, block: increment(sequence) })
        }
    }

    /// With the index of the open table, where it is the only one that rows have to be added to.
    fn with_index(self, relation: pg_sys::Relation) -> Places {
        let without = Places { index: None, ..self };
        // SAFETY: the relation is open; the list and its members are the server's, the index is closed again.
        unsafe {
            let list = pg_sys::RelationGetIndexList(relation);
            let oids = pgrx::PgList::<pg_sys::Oid>::from_pg(list);
            if oids.len() != 1 {
                return without;
            }
            let Some(oid) = oids.get_oid(0) else { return without };
            let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let form = &*(*index).rd_index;
            let is_plain = form.indisready
                && form.indisunique
                && usize::try_from(form.indnatts).is_ok_and(|n| n == INDEXED.len())
                && form.indkey.values.as_slice(INDEXED.len()) == INDEXED
                && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
                && pg_sys::RelationGetIndexPredicate(index).is_null();
            pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            Places { index: is_plain.then_some(oid), ..without }
        }
    }
}

/// How far apart the numbers of a sequence are.
fn increment(sequence: pg_sys::Oid) -> i64 {
    const CACHE: core::ffi::c_int = pg_sys::SysCacheIdentifier::SEQRELID as core::ffi::c_int;
    const INCREMENT: pg_sys::AttrNumber = 4;
    // SAFETY: the row of pg_sequence is read while it is held; the column is a bigint.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(CACHE, pg_sys::Datum::from(sequence));
        if tuple.is_null() {
            return 1;
        }
        let mut is_null = false;
        let increment = pg_sys::SysCacheGetAttr(CACHE, tuple, INCREMENT, &mut is_null);
        let increment = if is_null { 1 } else { increment.value() as i64 };
        pg_sys::ReleaseSysCache(tuple);
        increment.max(1)
    }
}

/// One job to queue.
pub struct New<'a> {
    /// The vectorizer's id.
    pub vectorizer: i32,
    /// [`crate::pg::queue::LIVE`] or [`crate::pg::queue::BACKFILL`].
    pub lane: i16,
    /// The row's key as text.
    pub key: &'a str,
    /// Why it is queued.
    pub why: Why,
    /// Not to be done before.
    pub not_before: Option<TimestampWithTimeZone>,
}

/// One row that is not written yet.
struct Pending {
    tuple: pg_sys::HeapTuple,
    indexed: [pg_sys::Datum; INDEXED.len()],
}

/// How rows are written.
enum Way {
    /// Past the executor, into the one index that there is.
    Direct {
        index: pg_sys::Relation,
        tuples: Vec<Pending>,
        slots: Vec<*mut pg_sys::TupleTableSlot>,
        /// For what the server needs to write many rows at once.
        scratch: PgMemoryContexts,
    },
    /// By a statement: somebody has added an index, which may be of any kind.
    Sql { keys: Vec<String>, of: Option<Common> },
}

/// What jobs that are written by one statement have in common.
type Common = (i32, i16, Why, Option<TimestampWithTimeZone>);

/// The queue, open for writing until it is dropped. What is added is written by [`Queue::finish`] at the latest.
pub struct Queue {
    relation: pg_sys::Relation,
    way: Way,
    places: Places,
    numbers: Range<i64>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Queue {
    /// `None` where the extension's tables are not there.
    pub fn open() -> Option<Queue> {
        const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let mut places = PLACES.get().or_else(Places::find)?;
        // SAFETY: the relations are closed by Drop, or by the abort of the transaction.
        unsafe {
            let mut relation = pg_sys::try_table_open(places.table, LOCK);
            // With the lock comes word of what others have done meanwhile; another index may be there, or another queue.
            if PLACES.get().is_none() {
                if relation.is_null() {
                    places = Places::find()?;
                    relation = pg_sys::try_table_open(places.table, LOCK);
                }
                if !relation.is_null() {
                    PLACES.set(Some(places));
                    places = places.with_index(relation);
                    // Unless something has changed while it was looked at, which is looked at again next time.
                    if PLACES.get().is_some() {
                        PLACES.set(Some(places));
                    }
                }
            }
            if relation.is_null() {
                return None;
            }
            let way = match places.index {
                Some(index) => Way::Direct {
                    index: pg_sys::index_open(index, LOCK),
                    tuples: Vec::new(),
                    slots: Vec::new(),
                    scratch: PgMemoryContexts::new("autoembed queue"),
                },
                None => Way::Sql { keys: Vec::new(), of: None },
            };
            let columns = ((*(*relation).rd_att).natts as usize).max(COLUMNS);
            Some(Queue {
                relation,
                way,
                places,
                numbers: 0..0,
                values: vec![pg_sys::Datum::null(); columns],
                nulls: vec![true; columns],
            })
        }
    }

    fn number(&mut self) -> i64 {
        if let Some(number) = self.numbers.next() {
            return number;
        }
        let sequence = self.places.sequence;
        // SAFETY: the guard turns its errors into panics, as for what pgrx binds.
        let first = unsafe { guard(|| raw::nextval_internal(sequence, false)) };
        self.numbers = first + 1..first + self.places.block;
        first
    }

    /// Adds a job.
    pub fn add(&mut self, new: &New<'_>) {
        let is_full = match &self.way {
            Way::Direct { .. } => self.add_directly(new),
            Way::Sql { .. } => self.add_for_sql(new),
        };
        if is_full {
            self.write();
        }
    }

    fn add_for_sql(&mut self, new: &New<'_>) -> bool {
        let common = (new.vectorizer, new.lane, new.why, new.not_before);
        if matches!(&self.way, Way::Sql { of: Some(of), .. } if *of != common) {
            self.write();
        }
        let Way::Sql { keys, of } = &mut self.way else { return false };
        *of = Some(common);
        keys.push(new.key.to_string());
        keys.len() >= AT_ONCE
    }

    fn add_directly(&mut self, new: &New<'_>) -> bool {
        let New { vectorizer, lane, key, why, not_before } = *new;
        let Ok(length) = i32::try_from(key.len()) else { return false };
        let number = pg_sys::Datum::from(self.number());
        let indexed = [pg_sys::Datum::from(vectorizer), pg_sys::Datum::from(lane), number];
        // SAFETY: a read.
        let now = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
        self.nulls.fill(true);
        let mut set = |column: usize, value: pg_sys::Datum| {
            self.values[column] = value;
            self.nulls[column] = false;
        };
        set(VECTORIZER_ID, indexed[0]);
        set(LANE, indexed[1]);
        set(ID, number);
        set(IF_MISSING, pg_sys::Datum::from(why == Why::Missing));
        set(ATTEMPTS, pg_sys::Datum::from(0_i16));
        set(QUEUED_AT, pg_sys::Datum::from(now));
        if let Some(time) = not_before.and_then(IntoDatum::into_datum) {
            set(NOT_BEFORE, time);
        }
        if why == Why::Forced {
            set(IS_FORCED, pg_sys::Datum::from(true));
        }
        self.nulls[KEY] = false;
        // SAFETY: as many values and flags as the table has columns, each of its column's type (sql/01_tables.sql); the table has no
        // triggers, and no constraints but NOT NULL, which hold for these values. Nothing in the guard is to be dropped.
        let tuple = unsafe {
            let descriptor = (*self.relation).rd_att;
            let (values, nulls) = (self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
            guard(|| {
                let text = raw::cstring_to_text_with_len(key.as_ptr().cast(), length);
                *values.add(KEY) = pg_sys::Datum::from(text);
                let tuple = raw::heap_form_tuple(descriptor, values, nulls);
                raw::pfree(text.cast());
                tuple
            })
        };
        let Way::Direct { tuples, .. } = &mut self.way else { return false };
        tuples.push(Pending { tuple, indexed });
        tuples.len() >= AT_ONCE
    }

    /// Writes what was added.
    pub fn finish(mut self) {
        self.write();
    }

    fn write(&mut self) {
        match &mut self.way {
            Way::Direct { index, tuples, slots, scratch } => {
                // SAFETY: tuples of the table, and its index.
                unsafe { write_directly(self.relation, *index, tuples, slots, scratch) };
                tuples.clear();
            }
            Way::Sql { keys, of } => {
                let (keys, of) = (std::mem::take(keys), of.take());
                if let Some(common) = of {
                    write_by_sql(common, keys);
                }
            }
        }
    }
}

fn write_by_sql((vectorizer, lane, why, not_before): Common, keys: Vec<String>) {
    const SQL: &str = "INSERT INTO autoembed.job (vectorizer_id, lane, key, if_missing, is_forced, not_before) \
         SELECT $1, $2, k, $4, NULLIF($5, false), $6 FROM unnest($3::text[]) AS k";
    let args = [
        Arg::new(vectorizer),
        Arg::new(lane),
        Arg::new(keys),
        Arg::new(why == Why::Missing),
        Arg::new(why == Why::Forced),
        Arg::new::<TimestampWithTimeZone>(not_before),
    ];
    as_queue(|| spi::planned(SQL, &args, Mode::Write, |_| ()));
}

/// # Safety
/// The tuples are of the table, and the index is as [`Places::with_index`] wants it. The tuples are freed, some of them with the slots.
unsafe fn write_directly(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    rows: &[Pending],
    slots: &mut Vec<*mut pg_sys::TupleTableSlot>,
    scratch: &mut PgMemoryContexts,
) {
    if let [one] = rows {
        // SAFETY: the caller's.
        unsafe {
            pg_sys::simple_heap_insert(table, one.tuple);
            add_to_index(index, table, &one.indexed, &raw mut (*one.tuple).t_self);
            pg_sys::heap_freetuple(one.tuple);
        }
        return;
    }
    // SAFETY: the caller's; the slots are of the table's form, and own their tuples from then on. What the server leaves behind is freed
    // with each portion: there may be millions.
    unsafe {
        while slots.len() < rows.len() {
            slots.push(pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &raw const pg_sys::TTSOpsHeapTuple));
        }
        for (row, slot) in rows.iter().zip(&*slots) {
            pg_sys::ExecStoreHeapTuple(row.tuple, *slot, true);
        }
        let (start, count) = (slots.as_mut_ptr(), rows.len() as i32);
        scratch.switch_to(|_| {
            if count > 0 {
                let command = pg_sys::GetCurrentCommandId(true);
                pg_sys::heap_multi_insert(table, start, count, command, 0, std::ptr::null_mut());
            }
        });
        scratch.reset();
        for (row, slot) in rows.iter().zip(&*slots) {
            add_to_index(index, table, &row.indexed, &raw mut (**slot).tts_tid);
        }
    }
}

/// # Safety
/// The row is at that place of the table, and the index is as [`Places::with_index`] wants it.
unsafe fn add_to_index(
    index: pg_sys::Relation,
    table: pg_sys::Relation,
    indexed: &[pg_sys::Datum; INDEXED.len()],
    place: pg_sys::ItemPointer,
) {
    let (mut values, mut nulls) = (*indexed, [false; INDEXED.len()]);
    let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
    const CHECK: pg_sys::IndexUniqueCheck::Type = pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES;
    // SAFETY: the caller's; a B-tree needs no more to be known of it.
    unsafe { guard(|| raw::index_insert(index, values, nulls, place, table, CHECK, false, std::ptr::null_mut())) };
}

impl Drop for Queue {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            const KEEP: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;
            // SAFETY: opened above; the locks stay until the end of the transaction.
            unsafe {
                if let Way::Direct { index, slots, .. } = &mut self.way {
                    for slot in slots.drain(..) {
                        pg_sys::ExecDropSingleTupleTableSlot(slot);
                    }
                    pg_sys::index_close(*index, KEEP);
                }
                pg_sys::table_close(self.relation, KEEP);
            }
        }
    }
}
