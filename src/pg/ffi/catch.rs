//! Catching errors: whole transactions of a worker, and subtransactions.

use crate::pg::error::{Error, or_raise};
use crate::points;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::panic::AssertUnwindSafe;

/// An error of the server or a panic, as text.
#[derive(Debug, Clone)]
pub struct Caught {
    /// Its SQLSTATE.
    pub code: PgSqlErrorCode,
    /// Its message.
    pub message: String,
    /// Its hint, where it had one.
    pub hint: Option<String>,
}

impl Caught {
    fn state(&self) -> [u8; 5] {
        let mut packed = self.code as i32;
        let mut text = [b'0'; 5];
        for byte in &mut text {
            *byte = (packed & 0x3f) as u8 + b'0';
            packed >>= 6;
        }
        text
    }

    /// The five characters of its SQLSTATE.
    pub fn sqlstate(&self) -> String {
        self.state().iter().map(|b| char::from(*b)).collect()
    }

    /// Somebody else was in the way: locks, deadlocks, serialization.
    pub fn is_contention(&self) -> bool {
        matches!(&self.state(), b"55P03" | b"40001" | b"40P01")
    }

    /// It was told to stop.
    pub fn is_cancel(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
    }

    /// The contents of one row may have caused it: bad data, a constraint, an exception of a trigger. Other errors (rights,
    /// names, resources) would be the same for every row.
    pub fn may_be_one_row(&self) -> bool {
        matches!(&self.state()[..2], b"21" | b"22" | b"23" | b"27" | b"38" | b"39" | b"44" | b"54" | b"P0" | b"XX")
    }
}

fn describe(error: &CaughtError) -> Caught {
    let report = match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    };
    Caught {
        code: report.sql_error_code(),
        message: report.message().to_string(),
        hint: report.hint().map(str::to_string),
    }
}

/// Runs `body` in a transaction of its own and commits it. An error, also one at commit, rolls it back and is returned.
/// For background workers only, outside any transaction.
pub fn transaction<R>(body: impl FnOnce() -> R) -> Result<R, Caught> {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: no transaction is open in this process; start and commit are paired, errors abort below.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let value = body();
        points::reach("commit");
        // SAFETY: as above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    }))
    .catch_others(|error| Err(describe(&error)))
    .execute();
    after_transaction(result.is_err());
    points::reach("committed");
    result
}

/// Runs one utility statement as a client would at top level, for those that cannot run inside a transaction block. For
/// background workers only, outside any transaction.
pub fn top_level(statement: &str) -> Result<(), Caught> {
    let Ok(text) = std::ffi::CString::new(statement) else { return Ok(()) };
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: what exec_simple_query does for one utility statement; the statement's trees live in a context of
        // their own, since it commits several transactions on its way.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"autoembed statement".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let before = pg_sys::MemoryContextSwitchTo(context);
            let trees = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
            let raw = (*(*trees).elements).ptr_value.cast::<pg_sys::RawStmt>();
            let planned = pgrx::PgBox::<pg_sys::PlannedStmt>::alloc_node(pg_sys::NodeTag::T_PlannedStmt).into_pg();
            (*planned).commandType = pg_sys::CmdType::CMD_UTILITY;
            (*planned).canSetTag = true;
            (*planned).utilityStmt = (*raw).stmt;
            (*planned).stmt_location = (*raw).stmt_location;
            (*planned).stmt_len = (*raw).stmt_len;
            // In a portal: event triggers of the site run inside of it, and SQL in them needs one.
            let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
            (*portal).visible = false;
            pg_sys::PortalDefineQuery(
                portal,
                std::ptr::null(),
                text.as_ptr(),
                pg_sys::CreateCommandTag((*raw).stmt),
                pg_sys::lappend(std::ptr::null_mut(), planned.cast()),
                std::ptr::null_mut(),
            );
            pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());
            let nowhere = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
            pg_sys::PortalRun(
                portal,
                std::ffi::c_long::MAX,
                true,
                #[cfg(not(feature = "pg18"))]
                true,
                nowhere,
                nowhere,
                std::ptr::null_mut(),
            );
            pg_sys::PortalDrop(portal, false);
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::CommitTransactionCommand();
            pg_sys::MemoryContextDelete(context);
        }
        Ok(())
    }))
    .catch_others(|error| Err(describe(&error)))
    .execute();
    after_transaction(result.is_err());
    result
}

fn after_transaction(failed: bool) {
    // SAFETY: AbortCurrentTransaction cleans up whatever state the failed transaction was in; the statistics are
    // reported outside a transaction, as every backend does when it goes idle.
    unsafe {
        if failed {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(true);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
}

/// Runs `body`; an error that data have caused is raised in other words. Nothing goes on after it, so this needs no subtransaction, which
/// a parallel query could not begin.
pub fn in_other_words<R>(body: impl FnOnce() -> R, words: impl FnOnce(&Caught) -> Box<Error>) -> R {
    // What is the server's own fault is no matter of a value.
    reworded(body, |caught| caught.may_be_one_row() && !caught.state().starts_with(b"XX"), words)
}

/// The same of an error in a statement's words: names that nobody has any more, for instance.
pub fn names_in_other_words<R>(body: impl FnOnce() -> R, words: impl FnOnce(&Caught) -> Box<Error>) -> R {
    reworded(body, |caught| caught.state().starts_with(b"42"), words)
}

fn reworded<R>(
    body: impl FnOnce() -> R,
    is_meant: fn(&Caught) -> bool,
    words: impl FnOnce(&Caught) -> Box<Error>,
) -> R {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(body())))
        .catch_others(|error| {
            let caught = describe(&error);
            if !is_meant(&caught) {
                error.rethrow();
            }
            Err(caught)
        })
        .execute();
    or_raise(result.map_err(|caught| words(&caught)))
}

/// Runs `body` in a subtransaction; an error rolls back only what it did, and is returned. A user's cancel is raised again.
pub fn subtransaction<R>(body: impl FnOnce() -> R) -> Result<R, Caught> {
    // SAFETY: the memory context and resource owner of the caller are put back in both branches, as plpgsql's
    // exception blocks do.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        PgTryBuilder::new(AssertUnwindSafe(|| {
            let value = body();
            pg_sys::ReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
            Ok(value)
        }))
        .catch_others(|error| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
            let caught = describe(&error);
            // In a worker it is the time limit for owners' code: the table's own trouble.
            if caught.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED && !crate::pg::ffi::process::is_worker() {
                error.rethrow();
            }
            Err(caught)
        })
        .execute()
    }
}
