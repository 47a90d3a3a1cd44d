//! Heavyweight locks: one worker a database, whether somebody wants the database for himself, and whether databases wait for a
//! place for their workers.

use pgrx::pg_sys;

const ONE_WORKER: u16 = 0x6165;
const ONE_INDEXER: u16 = 0x6166;
const SHORT_OF_PLACES: u16 = 0x6167;
const ONE_LEAVES: u16 = 0x6168;
const ASKS: u16 = 0x6169;
// The views know these two by their numbers, 24938 and 24939.
const BUILDER: u16 = 0x616a;
const BUILDER_IS_LATE: u16 = 0x616b;

fn object_tag(
    method: u32,
    database: pg_sys::Oid,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: u16,
) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: database.to_u32(),
        locktag_field2: class.to_u32(),
        locktag_field3: object.to_u32(),
        locktag_field4: sub,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: method as u8,
    }
}

fn try_session_lock(tag: &pg_sys::LOCKTAG, mode: u32) -> bool {
    // SAFETY: a session lock needs no transaction; it does not wait.
    unsafe {
        pg_sys::LockAcquire(tag, mode as pg_sys::LOCKMODE, true, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

/// Claims to be the worker of this database, for the life of the process. The lock hangs on a part of the extension
/// that no statement locks, so DROP EXTENSION does not wait for it.
pub fn become_the_worker(extension: pg_sys::Oid) -> bool {
    become_the(extension, ONE_WORKER)
}

/// After code of table owners has run: drops the advisory locks that it has left in this process. It may have dropped the
/// worker's own claim as well, which is of the same kind: that is made anew. False where another has it by now.
pub fn still_the_worker(extension: pg_sys::Oid) -> bool {
    // SAFETY: releases what this session holds, as pg_advisory_unlock_all() does; it needs no transaction.
    unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
    become_the_worker(extension)
}

/// As [`become_the_worker`], for the process that builds indexes.
pub fn become_the_indexer(extension: pg_sys::Oid) -> bool {
    become_the(extension, ONE_INDEXER)
}

fn become_the(extension: pg_sys::Oid, part: u16) -> bool {
    // SAFETY: set when the process connected.
    let database = unsafe { pg_sys::MyDatabaseId };
    // The server's own kind of session lock would go with the first transaction that fails, and be left behind at exit;
    // the kind that advisory locks are of lasts as long as the process.
    let tag = object_tag(pg_sys::USER_LOCKMETHOD, database, pg_sys::ExtensionRelationId, extension, part);
    try_session_lock(&tag, pg_sys::ExclusiveLock)
}

/// A lock of the whole server, of the kind that advisory locks are of.
fn of_server(part: u16) -> pg_sys::LOCKTAG {
    let none = pg_sys::InvalidOid;
    object_tag(pg_sys::USER_LOCKMETHOD, none, pg_sys::ExtensionRelationId, none, part)
}

fn release(tag: &pg_sys::LOCKTAG, mode: u32) {
    // SAFETY: a session lock that this process holds.
    unsafe { pg_sys::LockRelease(tag, mode as pg_sys::LOCKMODE, true) };
}

/// Tells all workers that a database waits for a place among the server's processes. False: not yet, since one of them is just
/// asking. It is over with [`nobody_is_short`], or with this process.
pub fn somebody_is_short() -> bool {
    try_session_lock(&of_server(SHORT_OF_PLACES), pg_sys::ExclusiveLock)
}

/// Every database that wants a worker has one.
pub fn nobody_is_short() {
    release(&of_server(SHORT_OF_PLACES), pg_sys::ExclusiveLock);
}

/// Whether some database waits for a place among the server's processes.
pub fn is_somebody_short() -> bool {
    let tag = of_server(SHORT_OF_PLACES);
    if !try_session_lock(&tag, pg_sys::ShareLock) {
        return true;
    }
    release(&tag, pg_sys::ShareLock);
    false
}

/// Claims to be the one worker of the server that gives its place up now, until [`stay`] or the end of the process.
pub fn leave() -> bool {
    try_session_lock(&of_server(ONE_LEAVES), pg_sys::ExclusiveLock)
}

/// After [`leave`]: does not go after all.
pub fn stay() {
    release(&of_server(ONE_LEAVES), pg_sys::ExclusiveLock);
}

/// What sessions of a database hold that have asked for a worker in vain.
fn of_askers(database: pg_sys::Oid) -> pg_sys::LOCKTAG {
    object_tag(pg_sys::USER_LOCKMETHOD, database, pg_sys::ExtensionRelationId, pg_sys::InvalidOid, ASKS)
}

/// Tells the launcher that this database wants a worker, as long as the session lasts. Once is enough.
pub fn ask_for_worker() {
    // SAFETY: set when the process connected.
    let tag = of_askers(unsafe { pg_sys::MyDatabaseId });
    // What a session holds already is counted, and goes with it all the same.
    try_session_lock(&tag, pg_sys::ShareLock);
}

/// Whether a session of this database has asked for a worker in vain.
pub fn is_worker_asked_for(database: pg_sys::Oid) -> bool {
    let tag = of_askers(database);
    if !try_session_lock(&tag, pg_sys::ExclusiveLock) {
        return true;
    }
    release(&tag, pg_sys::ExclusiveLock);
    false
}

fn of_builder(database: pg_sys::Oid, part: u16) -> pg_sys::LOCKTAG {
    object_tag(pg_sys::USER_LOCKMETHOD, database, pg_sys::ExtensionRelationId, pg_sys::InvalidOid, part)
}

fn of_own_builder(part: u16) -> pg_sys::LOCKTAG {
    // SAFETY: set when the process connected.
    of_builder(unsafe { pg_sys::MyDatabaseId }, part)
}

/// Tells the launcher, and who reads `status`, that an index of this database waits for a process. False: not yet, since the launcher is
/// just looking. It is over with [`no_builder_asked_for`], or with this process.
pub fn ask_for_builder() -> bool {
    try_session_lock(&of_own_builder(BUILDER), pg_sys::ExclusiveLock)
}

/// After [`ask_for_builder`]: nothing waits any more.
pub fn no_builder_asked_for() {
    release(&of_own_builder(BUILDER), pg_sys::ExclusiveLock);
}

/// Tells who asks for `health()` that it has waited for long.
pub fn builder_is_late() -> bool {
    try_session_lock(&of_own_builder(BUILDER_IS_LATE), pg_sys::ExclusiveLock)
}

/// After [`builder_is_late`]: nothing waits any more.
pub fn builder_is_not_late() {
    release(&of_own_builder(BUILDER_IS_LATE), pg_sys::ExclusiveLock);
}

/// Whether an index of a database waits for a process.
pub fn is_builder_asked_for(database: pg_sys::Oid) -> bool {
    let tag = of_builder(database, BUILDER);
    if !try_session_lock(&tag, pg_sys::ShareLock) {
        return true;
    }
    release(&tag, pg_sys::ShareLock);
    false
}

/// Whether DROP DATABASE, ALTER DATABASE RENAME or CREATE DATABASE ... TEMPLATE wait for this database to be left.
pub fn database_is_wanted() -> bool {
    // SAFETY: set when the process connected.
    let database = unsafe { pg_sys::MyDatabaseId };
    let tag = object_tag(pg_sys::DEFAULT_LOCKMETHOD, pg_sys::InvalidOid, pg_sys::DatabaseRelationId, database, 0);
    if !try_session_lock(&tag, pg_sys::RowExclusiveLock) {
        return true;
    }
    release(&tag, pg_sys::RowExclusiveLock);
    false
}

/// Locks a table against writers and other DDL until the end of the transaction; `against_readers` too, where a column is to be added:
/// a lock that is made stronger later deadlocks with who reads and then writes.
pub fn lock_table(table: pg_sys::Oid, against_readers: bool) {
    let mode = if against_readers { pg_sys::AccessExclusiveLock } else { pg_sys::ShareRowExclusiveLock };
    // SAFETY: an ordinary lock, released with the transaction.
    unsafe { pg_sys::LockRelationOid(table, mode as pg_sys::LOCKMODE) };
}

/// Takes, until the end of the transaction, the lock that CREATE INDEX CONCURRENTLY needs, waiting for it as long as `lock_timeout` says.
pub fn lock_for_index(table: pg_sys::Oid) {
    // SAFETY: an ordinary lock, released with the transaction.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE) };
}

/// As [`lock_for_index`], if nobody else builds an index, or vacuums.
pub fn try_lock_for_index(table: pg_sys::Oid) -> bool {
    // SAFETY: an ordinary lock, released with the transaction; it does not wait.
    unsafe { pg_sys::ConditionalLockRelationOid(table, pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE) }
}

/// Its number in lwlocknames.h, the same in 15 to 18.
const PROC_ARRAY: usize = 4;

/// As long as it is there, the server takes this process for autovacuum where somebody waits for a lock that it holds: after his
/// `deadlock_timeout` he has what it does cancelled, and goes on. And nobody's build of an index waits for its snapshots, as for those of
/// autovacuum: for a process that reads no table by an index.
pub struct GivingWay(());

impl GivingWay {
    /// From now on. Outside a transaction, or while nothing can raise an error.
    pub fn begin() -> GivingWay {
        mark(true);
        GivingWay(())
    }
}

impl Drop for GivingWay {
    fn drop(&mut self) {
        mark(false);
    }
}

fn mark(gives_way: bool) {
    // SAFETY: this process's own flags, in both places and under the lock under which the server sets others while it runs (CREATE INDEX
    // CONCURRENTLY does).
    unsafe {
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(PROC_ARRAY)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let process = pg_sys::MyProc;
        let flag = pg_sys::PROC_IS_AUTOVACUUM as u8;
        let flags = if gives_way { (*process).statusFlags | flag } else { (*process).statusFlags & !flag };
        (*process).statusFlags = flags;
        (*pg_sys::ProcGlobal).statusFlags.add((*process).pgxactoff as usize).write(flags);
        pg_sys::LWLockRelease(lock);
    }
}

/// Locks tables against everybody until the end of the transaction, waiting for each as long as `lock_timeout` says.
pub fn lock_against_all(tables: &[pg_sys::Oid]) {
    for table in tables {
        // SAFETY: an ordinary lock, released with the transaction.
        unsafe { pg_sys::LockRelationOid(*table, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE) };
    }
}

/// Locks a table as a query does that reads it, until the end of the transaction. What others have changed of it is known from then on.
pub fn lock_for_reading(table: pg_sys::Oid) {
    // SAFETY: an ordinary lock, released with the transaction.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
}

/// The same as a statement does that writes into it.
pub fn lock_for_writing(table: pg_sys::Oid) {
    // SAFETY: an ordinary lock, released with the transaction.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
}

/// Whether no process works for this database as its worker.
pub fn is_without_worker(extension: pg_sys::Oid) -> bool {
    if !become_the_worker(extension) {
        return false;
    }
    // SAFETY: set when the process connected.
    let database = unsafe { pg_sys::MyDatabaseId };
    release(
        &object_tag(pg_sys::USER_LOCKMETHOD, database, pg_sys::ExtensionRelationId, extension, ONE_WORKER),
        pg_sys::ExclusiveLock,
    );
    true
}

/// Takes, until the end of the transaction, the strongest lock that writing vectors needs on these tables, if that can be had at
/// once. A statement would take a weak lock first and wait for the strong one, in the way of DDL that waits for the weak one.
pub fn try_lock_for_writing(tables: &[pg_sys::Oid]) -> bool {
    // SAFETY: ordinary locks, released with the transaction; none of them waits.
    tables.iter().all(|table| unsafe {
        pg_sys::ConditionalLockRelationOid(*table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)
    })
}

/// Takes the lock of the whole server that the commit of a transaction with notifications takes, until the end of this one, if it can be
/// had at once.
pub fn try_lock_notifications() -> bool {
    let none = pg_sys::InvalidOid;
    let tag = object_tag(pg_sys::DEFAULT_LOCKMETHOD, none, pg_sys::DatabaseRelationId, none, 0);
    // SAFETY: an ordinary lock, released with the transaction; it does not wait.
    unsafe {
        pg_sys::LockAcquire(&tag, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE, false, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
