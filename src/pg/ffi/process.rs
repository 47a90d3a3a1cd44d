//! The process: its latch and signals, other processes, files beside the server, the list of databases.

use crate::points;
use pgrx::pg_sys;
use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod raw {
    // This raises an error only where there are no timeouts left, as a process begins.
    unsafe extern "C-unwind" {
        pub fn RegisterTimeout(timeout: i32, handler: unsafe extern "C-unwind" fn()) -> i32;
    }

    // pgrx's wrappers of these check which thread calls, and are no function pointers.
    unsafe extern "C-unwind" {
        pub fn SetLatch(latch: *mut core::ffi::c_void);
        pub fn die(signal: i32);
        pub fn SignalHandlerForConfigReload(signal: i32);
        // These raise no errors; pgrx does not bind them.
        pub fn enable_timeout_after(timeout: i32, milliseconds: i32);
        pub fn disable_timeout(timeout: i32, keep_indicator: bool);
        pub fn enable_timeout_every(timeout: i32, first: i64, milliseconds: i32);
        pub fn PostmasterIsAliveInternal() -> bool;
        pub fn CheckDeadLockAlert();
    }
}

/// Waits until the latch is set (true) or `timeout` has passed, then obeys interrupts (which may end the process).
/// Ends the process when the postmaster is gone.
pub fn wait_latch(timeout: Duration) -> bool {
    // SAFETY: the process's own latch; the death of the postmaster is read from a pipe that the process holds.
    let events = unsafe {
        let events = pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            timeout.as_millis().min(3_600_000) as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        // A latch that is set already ends the wait before it looks for the postmaster: with work in hand, that is every time.
        if !raw::PostmasterIsAliveInternal() {
            pg_sys::proc_exit(1);
        }
        events
    };
    pgrx::check_for_interrupts!();
    events as u32 & pg_sys::WL_LATCH_SET != 0
}

/// Waits for `timeout`, deaf to the latch: who sets it meanwhile finds it set or sets it for later, and sends no further
/// signal. Ends the process when the postmaster is gone; obeys interrupts afterwards.
pub fn pause(timeout: Duration) {
    // SAFETY: the process's own latch, which is not looked at.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            timeout.as_millis().clamp(1, 3_600_000) as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
    }
    pgrx::check_for_interrupts!();
}

/// A function that other threads may call to wake this process's main thread.
pub fn waker() -> Arc<dyn Fn() + Send + Sync> {
    // SAFETY: MyLatch of a started process points to its shared latch, which lives as long as the process.
    let latch = unsafe { pg_sys::MyLatch } as usize;
    // SAFETY: SetLatch may be called from any thread: it is written for signal handlers and other processes.
    Arc::new(move || unsafe { raw::SetLatch(latch as *mut core::ffi::c_void) })
}

thread_local! {
    static ENTRY: Cell<*mut pg_sys::PGPROC> = const { Cell::new(std::ptr::null_mut()) };
}

/// The entry of process `pid` in shared memory, if it is connected to this database. It is remembered: to search for it takes a lock that
/// every commit takes.
fn entry_here(pid: i32) -> Option<*mut pg_sys::PGPROC> {
    // SAFETY: entries stay where they are. What a process that ends leaves in its entry may still be there, but for its latch.
    let is_of = |entry: *mut pg_sys::PGPROC| unsafe {
        !entry.is_null()
            && (*entry).pid == pid
            && (*entry).procLatch.owner_pid == pid
            && (*entry).databaseId == pg_sys::MyDatabaseId
    };
    if !is_of(ENTRY.get()) {
        // SAFETY: a look at shared memory; the answer may be old when it is used.
        ENTRY.set(unsafe { pg_sys::BackendPidGetProc(pid) });
    }
    Some(ENTRY.get()).filter(|entry| is_of(*entry))
}

/// Sets the latch of process `pid` if it is connected to this database. False: there is no such process.
pub fn wake_process(pid: i32) -> bool {
    let Some(entry) = entry_here(pid) else { return false };
    // SAFETY: the entry may be reused at any time; then another process is woken for nothing.
    unsafe { raw::SetLatch((&raw mut (*entry).procLatch).cast()) };
    true
}

/// What this transaction has written without a statement is seen by the statements that come.
pub fn show_own_writes() {
    // SAFETY: in a transaction, between statements.
    unsafe { pg_sys::CommandCounterIncrement() };
}

/// Signals of a background worker: SIGTERM ends it at the next interrupt check, also inside SQL, and SIGHUP asks
/// for the settings to be read again.
pub fn take_signals() {
    // SAFETY: handlers of the server itself, set before signals are let through.
    unsafe {
        set_handler(pg_sys::SIGTERM as i32, raw::die);
        set_handler(pg_sys::SIGHUP as i32, raw::SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

#[cfg(not(feature = "pg18"))]
unsafe fn set_handler(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the caller passes a handler of the server.
    unsafe { pg_sys::pqsignal(signal, Some(handler)) };
}

#[cfg(feature = "pg18")]
unsafe fn set_handler(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the caller passes a handler of the server.
    unsafe { pg_sys::pqsignal_be(signal, Some(handler)) };
}

/// Reads the settings again if SIGHUP asked for it. True: they were read.
pub fn reload_settings() -> bool {
    // SAFETY: the flag is the server's own; the file is read outside any transaction.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() == 0 {
            return false;
        }
        (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
    true
}

/// Whether the database has files: a worker that is started again for one that was dropped must end for good. The working
/// directory of a server process is its data directory.
pub fn database_exists(database: pg_sys::Oid) -> bool {
    let name = database.to_u32().to_string();
    let below = |directory: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(directory).map_or(Vec::new(), |entries| entries.flatten().map(|e| e.path()).collect())
    };
    Path::new("base").join(&name).is_dir()
        || below(Path::new("pg_tblspc"))
            .iter()
            .flat_map(|space| below(space))
            .any(|version| version.join(&name).is_dir())
}

/// Connects a background worker to a database as the bootstrap superuser.
pub fn connect(database: pg_sys::Oid) {
    // SAFETY: once, at the start of a background worker.
    unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0) };
}

/// Connects a background worker to no database: it can read shared catalogues only.
pub fn connect_to_none() {
    // SAFETY: once, at the start of a background worker.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
}

/// Whether a transaction is open.
#[cfg(feature = "pg_test")]
pub fn is_in_transaction() -> bool {
    // SAFETY: a plain read.
    unsafe { pg_sys::IsTransactionState() }
}

static IS_WORKER: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Whether this process is a worker of the extension, not a user's session.
pub fn is_worker() -> bool {
    IS_WORKER.load(std::sync::atomic::Ordering::Relaxed)
}

/// Its number in utils/timeout.h, the same in 15 to 18.
const STATEMENT_TIMEOUT: i32 = 3;

/// A number from which RegisterTimeout takes any that is free: at least USER_TIMEOUT, which is 12 or 13 in 15 to 18, and less than
/// that plus 10.
const ANY_TIMEOUT: i32 = 20;

/// How often, in milliseconds, a process looks after others: sooner than `deadlock_timeout` (1 s unless somebody has set another).
#[derive(Clone, Copy)]
pub enum Beat {
    /// For one that waits for little, and would be woken for nothing most of the time.
    Slow = 900,
    /// For one that holds a lock while it waits for users.
    Quick = 100,
}

/// From now on this process ends with its postmaster also while it is at work: a wait would notice, computing does not, and the server
/// cannot be started again while one of its processes lives. And it gives way to users: the server looks for a deadlock once in each
/// wait, after `deadlock_timeout`, so it would end the user who came last. Who looks again and again finds it first, and is ended himself.
fn look_after_others(beat: Beat) {
    if points::is_set("only_when_told") {
        // Each time, it would be told.
        return;
    }
    // SAFETY: called once, in a background worker whose timeouts are set up; the function stays as long as the library.
    unsafe {
        let timeout = raw::RegisterTimeout(ANY_TIMEOUT, heartbeat);
        raw::enable_timeout_every(timeout, pg_sys::GetCurrentTimestamp(), beat as i32);
    }
}

unsafe extern "C-unwind" fn heartbeat() {
    // SAFETY: all are written for signal handlers: a read from a pipe, what SIGTERM does, and what the server's own clock for deadlocks
    // does, which changes nothing outside a wait for a lock.
    unsafe {
        if !raw::PostmasterIsAliveInternal() {
            raw::die(pg_sys::SIGTERM as i32);
        }
        raw::CheckDeadLockAlert();
    }
}

/// How long the code of a table's owner may hold the worker, in milliseconds.
const LONGEST_STATEMENT: i32 = 60_000;

/// Cancels what the worker runs after [`LONGEST_STATEMENT`], until it is dropped. In a session the user's own
/// statement_timeout counts. The code that it is for may bring the worker here again: the first clock is the one that counts.
pub struct TimeLimit(bool);

static LIMITED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

impl TimeLimit {
    /// Starts the clock, in a worker.
    pub fn start() -> TimeLimit {
        let is_on = is_worker() && !LIMITED.swap(true, std::sync::atomic::Ordering::Relaxed);
        if is_on {
            // SAFETY: the server registers this timeout for every process that is connected to a database.
            unsafe { raw::enable_timeout_after(STATEMENT_TIMEOUT, LONGEST_STATEMENT) };
        }
        TimeLimit(is_on)
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: as above; stopping a clock that has run out is harmless.
            unsafe { raw::disable_timeout(STATEMENT_TIMEOUT, false) };
            LIMITED.store(false, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Settings of a background worker, once. Its commits are asynchronous: a loss after a crash only repeats work, and a standby that does
/// not answer cannot hold the worker. `lock_timeout` is the longest wait for a lock ("0": any). The log is not told of waits, which each
/// beat would have it told of again.
pub fn settle_in(lock_timeout: &CStr, beat: Beat) {
    IS_WORKER.store(true, std::sync::atomic::Ordering::Relaxed);
    look_after_others(beat);
    for (name, value) in [
        (c"log_lock_waits", c"off"),
        (c"synchronous_commit", c"off"),
        (c"search_path", c"pg_catalog, pg_temp"),
        (c"lock_timeout", lock_timeout),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_isolation", c"read committed"),
    ]
    .into_iter()
    .chain(OF_LATER_SERVERS)
    {
        // SAFETY: ordinary settings of this process.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// What earlier servers do not know: the length of a transaction, after which its process is ended. It is meant for users' sessions, and the
/// worker's own last as long as a batch, or as long as an index takes to be built.
#[cfg(any(feature = "pg17", feature = "pg18"))]
const OF_LATER_SERVERS: [(&CStr, &CStr); 1] = [(c"transaction_timeout", c"0")];
#[cfg(not(any(feature = "pg17", feature = "pg18")))]
const OF_LATER_SERVERS: [(&CStr, &CStr); 0] = [];

/// How long this process waits for a lock of a table from now on; `0`: for ever.
pub fn set_lock_timeout(value: &CStr) {
    // SAFETY: an ordinary setting of this process.
    unsafe {
        pg_sys::SetConfigOption(
            c"lock_timeout".as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// The schema of this process's temporary objects; invalid where it has none.
pub fn temporary_schema() -> pg_sys::Oid {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: two reads.
    unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
    schema
}

/// This database.
pub fn database() -> pg_sys::Oid {
    // SAFETY: set when the process connected.
    unsafe { pg_sys::MyDatabaseId }
}

/// This process.
pub fn pid() -> i32 {
    // SAFETY: set when the process started.
    unsafe { pg_sys::MyProcPid }
}

/// Whether the library is being loaded by shared_preload_libraries.
pub fn is_preloading() -> bool {
    // SAFETY: a flag of the server.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether the server runs for pg_upgrade, which must be alone in it.
pub fn is_upgrading() -> bool {
    // SAFETY: a flag of the server, set when it starts.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// The name of this database; in a transaction.
pub fn database_name() -> String {
    // SAFETY: a look-up in the catalogue; the name is a copy.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Ends this background worker in a way that has the server start it again after its restart time, where it has one.
#[allow(unreachable_code)] // the headers of 18 do not tell the binding that it never comes back
pub fn end_to_be_restarted() -> ! {
    // SAFETY: what an uncaught error of a background worker comes to; outside a transaction.
    unsafe { pg_sys::proc_exit(1) };
    std::process::exit(1)
}

/// Whether the server is in recovery (a standby): no writes here.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Where the server keeps architecture-independent files (`pg_config --sharedir`).
pub fn share_directory() -> PathBuf {
    let mut buffer = [0 as std::ffi::c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: the buffer has the size that the function expects, and its text ends with NUL.
    unsafe {
        pg_sys::get_share_path((&raw const pg_sys::my_exec_path).cast(), buffer.as_mut_ptr());
        PathBuf::from(CStr::from_ptr(buffer.as_ptr()).to_string_lossy().into_owned())
    }
}

/// Oid and name of every database that takes connections and is no template. For the launcher, in a transaction.
pub fn databases() -> Vec<(pg_sys::Oid, String)> {
    let mut found = Vec::new();
    // SAFETY: a sequential scan of a shared catalogue, as the autovacuum launcher does it; the row's fixed part is
    // read with the catalogue's own struct.
    unsafe {
        let table = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let scan = pg_sys::table_beginscan_catalog(table, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            // -2: a DROP DATABASE was interrupted, and nobody can connect any more.
            if (*row).datallowconn && !(*row).datistemplate && (*row).datconnlimit != -2 {
                let name = CStr::from_ptr((*row).datname.data.as_ptr()).to_string_lossy().into_owned();
                found.push(((*row).oid, name));
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
    }
    found
}

/// Whether process `pid` is connected to this database.
pub fn is_connected_here(pid: i32) -> bool {
    entry_here(pid).is_some()
}

/// The present time and `ms` milliseconds; `None` beyond what a timestamp can hold.
pub fn now_plus(ms: f64) -> Option<pgrx::datum::TimestampWithTimeZone> {
    // SAFETY: reads the clock.
    let micros = unsafe { pg_sys::GetCurrentTimestamp() };
    pgrx::datum::TimestampWithTimeZone::try_from(micros.saturating_add((ms * 1000.0) as i64)).ok()
}

/// A number from 0 to 1 by chance.
pub fn random() -> f64 {
    let mut bytes = [0_u8; 4];
    // SAFETY: the buffer has the length given.
    if unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
    } else {
        1.0
    }
}

/// Mark of a worker that may have been started before the extension was committed.
pub const WAITS: &str = "waits";

/// Whether this background worker carries that mark.
pub fn was_asked_to_wait() -> bool {
    // SAFETY: a background worker's own entry, a text that ends with NUL or fills its 128 bytes with zeros behind it.
    unsafe {
        let entry = pg_sys::MyBgworkerEntry;
        !entry.is_null() && CStr::from_ptr((*entry).bgw_extra.as_ptr()).to_bytes() == WAITS.as_bytes()
    }
}

/// The oid in a background worker's argument.
pub fn oid_argument(argument: pg_sys::Datum) -> pg_sys::Oid {
    pg_sys::Oid::from(argument.value() as u32)
}

/// Whether the library was loaded by shared_preload_libraries (so that there is a launcher).
pub fn is_preloaded() -> bool {
    PRELOADED.load(std::sync::atomic::Ordering::Relaxed)
}

/// Notes how the library is being loaded; once.
pub fn note_preloading() {
    PRELOADED.store(is_preloading(), std::sync::atomic::Ordering::Relaxed);
}

static PRELOADED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Databases to which a background worker of the type `kind` is connected.
pub fn databases_with_worker(kind: &str) -> HashSet<pg_sys::Oid> {
    let mut found = HashSet::new();
    // SAFETY: reads the server's list of processes from a copy that is made here and thrown away again.
    unsafe {
        pg_sys::pgstat_clear_snapshot();
        for number in 1..=pg_sys::pgstat_fetch_stat_numbackends() {
            let entry = status_entry(number);
            if entry.is_null() || (*entry).st_backendType != pg_sys::BackendType::B_BG_WORKER {
                continue;
            }
            let name = pg_sys::GetBackgroundWorkerTypeByPid((*entry).st_procpid);
            if !name.is_null() && CStr::from_ptr(name).to_bytes() == kind.as_bytes() {
                found.insert((*entry).st_databaseid);
            }
        }
        pg_sys::pgstat_clear_snapshot();
    }
    found
}

#[cfg(feature = "pg15")]
unsafe fn status_entry(number: i32) -> *mut pg_sys::PgBackendStatus {
    // SAFETY: numbers go from 1 to the count that the server gave.
    unsafe { pg_sys::pgstat_fetch_stat_beentry(number) }
}

#[cfg(not(feature = "pg15"))]
unsafe fn status_entry(number: i32) -> *mut pg_sys::PgBackendStatus {
    // SAFETY: numbers go from 1 to the count that the server gave.
    unsafe {
        let entry = pg_sys::pgstat_get_local_beentry_by_index(number);
        if entry.is_null() { std::ptr::null_mut() } else { &raw mut (*entry).backendStatus }
    }
}

/// Whether a script of the extension's own is running: CREATE EXTENSION, or ALTER EXTENSION UPDATE.
pub fn is_in_own_script() -> bool {
    // SAFETY: reads of what this process alone changes, and a look into the catalogue inside a transaction.
    unsafe {
        pg_sys::creating_extension
            && pg_sys::CurrentExtensionObject == pg_sys::get_extension_oid(c"autoembed".as_ptr(), true)
    }
}
