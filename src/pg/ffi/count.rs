//! How many jobs there are, read from the pages of the queue: a tenth of the time that a statement takes.

use pgrx::pg_sys;

mod raw {
    use pgrx::pg_sys;

    // As pgrx binds it, but for the guard, which costs more than the function where it stands around each row.
    unsafe extern "C-unwind" {
        pub fn HeapTupleSatisfiesVisibility(
            tuple: pg_sys::HeapTuple,
            snapshot: pg_sys::Snapshot,
            buffer: pg_sys::Buffer,
        ) -> bool;
    }
}

/// The jobs of one vectorizer.
#[derive(Debug, Clone, Copy)]
pub struct Jobs {
    /// Its id.
    pub vectorizer: i32,
    /// Those that nobody has in hand.
    pub waiting: i64,
    /// Those that somebody holds a lease on.
    pub in_flight: i64,
    /// When the oldest was queued, in the server's microseconds.
    pub oldest: i64,
}

/// All jobs that the active snapshot shows, by vectorizer. As one looks at the queue, not as one works on it: in a serializable transaction
/// nothing is noted of it.
pub fn jobs() -> Vec<Jobs> {
    let mut counted = Counted { all: Vec::new(), last: 0 };
    // SAFETY: the table is open and locked, its pages are pinned and locked while they are looked at, and its rows have the columns of
    // sql/01_tables.sql, behind which later versions may have others. An error closes what is open.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"autoembed".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"job".as_ptr(), schema);
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = pg_sys::try_table_open(table, lock);
        if table.is_null() {
            return counted.all;
        }
        let snapshot = pg_sys::GetActiveSnapshot();
        let now = pg_sys::GetCurrentTimestamp();
        let pages = pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM);
        // A long queue is not to drive everything else out of memory.
        let strategy = match i64::from(pages) > i64::from(pg_sys::NBuffers) / 4 {
            true => pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD),
            false => std::ptr::null_mut(),
        };
        for number in 0..pages {
            pgrx::check_for_interrupts!();
            let main = pg_sys::ForkNumber::MAIN_FORKNUM;
            let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = pg_sys::ReadBufferExtended(table, main, number, normal, strategy);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            pg_sys::ffi::pg_guard_ffi_boundary(|| page(buffer, number, (*table).rd_id, snapshot, now, &mut counted));
            pg_sys::UnlockReleaseBuffer(buffer);
        }
        pg_sys::table_close(table, lock);
    }
    counted.all
}

struct Counted {
    all: Vec<Jobs>,
    /// Where the vectorizer of the row before is: most rows are of the same one.
    last: usize,
}

impl Counted {
    fn of(&mut self, vectorizer: i32) -> &mut Jobs {
        if self.all.get(self.last).is_none_or(|jobs| jobs.vectorizer != vectorizer) {
            self.last = self.all.iter().position(|jobs| jobs.vectorizer == vectorizer).unwrap_or_else(|| {
                self.all.push(Jobs { vectorizer, waiting: 0, in_flight: 0, oldest: i64::MAX });
                self.all.len() - 1
            });
        }
        &mut self.all[self.last]
    }
}

/// Adds the rows of one page.
unsafe fn page(
    buffer: pg_sys::Buffer,
    number: pg_sys::BlockNumber,
    table: pg_sys::Oid,
    snapshot: pg_sys::Snapshot,
    now: i64,
    counted: &mut Counted,
) {
    // SAFETY: the caller has pinned and locked the page; places of rows on it are as its line pointers say.
    unsafe {
        let page = pg_sys::BufferGetPage(buffer);
        let header = page.cast::<pg_sys::PageHeaderData>();
        let lines = usize::from((*header).pd_lower).saturating_sub(size_of::<pg_sys::PageHeaderData>())
            / size_of::<pg_sys::ItemIdData>();
        let lines = std::slice::from_raw_parts((*header).pd_linp.as_ptr(), lines);
        // As the server's own scans have it: on a standby a page may be marked too soon.
        let all_seen = u32::from((*header).pd_flags) & pg_sys::PD_ALL_VISIBLE != 0 && !(*snapshot).takenDuringRecovery;
        for (place, line) in lines.iter().enumerate() {
            if line.lp_flags() != pg_sys::LP_NORMAL {
                continue;
            }
            let row = page.add(line.lp_off() as usize).cast::<pg_sys::HeapTupleHeaderData>();
            if !all_seen {
                let mut t_self = pg_sys::ItemPointerData::default();
                pgrx::itemptr::item_pointer_set_all(&mut t_self, number, place as pg_sys::OffsetNumber + 1);
                let mut tuple = pg_sys::HeapTupleData { t_len: line.lp_len(), t_self, t_tableOid: table, t_data: row };
                if !raw::HeapTupleSatisfiesVisibility(&mut tuple, snapshot, buffer) {
                    continue;
                }
            }
            let job = read(row);
            let jobs = counted.of(job.vectorizer);
            jobs.oldest = jobs.oldest.min(job.queued_at);
            match job.leased_until {
                Some(until) if until > now => jobs.in_flight += 1,
                _ => jobs.waiting += 1,
            }
        }
    }
}

struct Job {
    vectorizer: i32,
    queued_at: i64,
    leased_until: Option<i64>,
}

/// What of a row is counted. The columns are `vectorizer_id int, lane smallint, id bigint, key text, if_missing boolean, attempts smallint,
/// queued_at timestamptz`, which are never NULL, `not_before timestamptz` and `leased_until timestamptz`.
unsafe fn read(row: *const pg_sys::HeapTupleHeaderData) -> Job {
    const KEY: usize = 16;
    const NOT_BEFORE: usize = 7;
    const LEASED_UNTIL: usize = 8;
    // SAFETY: each value is where its type and those before it put it; a bitmap says which of them are NULL.
    unsafe {
        let values = row.cast::<u8>().add(usize::from((*row).t_hoff));
        let has_nulls = u32::from((*row).t_infomask) & pg_sys::HEAP_HASNULL != 0;
        let columns = u32::from((*row).t_infomask2) & pg_sys::HEAP_NATTS_MASK;
        let bits = row.cast::<u8>().add(std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_bits));
        let is_there = |column: usize| {
            columns as usize > column && (!has_nulls || *bits.add(column / 8) & (1 << (column % 8)) != 0)
        };
        let after_key = KEY + pgrx::varsize_any(values.add(KEY).cast());
        // One byte, then two bytes, and eight.
        let queued_at = ((after_key + 1).next_multiple_of(2) + 2).next_multiple_of(8);
        let leased_until = queued_at + if is_there(NOT_BEFORE) { 16 } else { 8 };
        Job {
            vectorizer: values.cast::<i32>().read(),
            queued_at: values.add(queued_at).cast::<i64>().read(),
            leased_until: is_there(LEASED_UNTIL).then(|| values.add(leased_until).cast::<i64>().read()),
        }
    }
}
