//! The HNSW index of a table that was full: built by a process of its own, without blocking writers, after the backfill. The same
//! process brings records together that have grown too long.

use crate::pg::catalog::{self, Vectorizer};
use crate::pg::enable::{MAX_INDEXED_DIMENSIONS, index_on, index_statement};
use crate::pg::ffi::catch::{self, Caught};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::{locks, process, utility};
use crate::pg::ident::qualified;
use crate::pg::record;
use crate::worker::gather::Context;
use crate::worker::log::{self, Subject};
use crate::worker::{self, state, tidy};
use autoembed_core::record::Looks;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Vectorizers that want an index, and whether their backfill is over.
fn wanted() -> Vec<(i32, bool)> {
    const SQL: &str = "SELECT v.id, \
             NOT EXISTS (SELECT FROM autoembed.backfill b WHERE b.vectorizer_id = v.id AND b.walked_at IS NULL) \
         AND NOT EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = v.id AND j.lane = 1) \
         FROM autoembed.vectorizer v WHERE v.index_wanted AND NOT v.paused";
    as_extension(|| spi::planned(SQL, &[], Mode::Write, |row| (row.or_default::<i32>(1), row.or_default::<bool>(2))))
}

/// Vectorizers that want an index and whose backfill is over.
fn due() -> Vec<i32> {
    wanted().into_iter().filter_map(|(id, is_due)| is_due.then_some(id)).collect()
}

/// Whether a table is without the index that it should have: no index of a kind that finds neighbours depends on the column.
pub fn is_missing(context: &Context) -> bool {
    const SQL: &str = "SELECT v.index_method = 'auto' AND NOT v.index_wanted AND NOT EXISTS (SELECT FROM pg_depend d \
           JOIN pg_index i ON i.indexrelid = d.objid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = v.source \
           AND d.refobjsubid = v.embedding_attnum AND i.indisvalid AND m.oid >= 16384) \
         FROM autoembed.vectorizer v WHERE v.id = $1";
    // Partitions have indexes of their own, or not, and some vectors are too long for one.
    if context.table.kind == 'p' || context.stored.model.dimensions > MAX_INDEXED_DIMENSIONS {
        return false;
    }
    let found =
        as_extension(|| spi::planned(SQL, args![context.vectorizer.id], Mode::Write, |row| row.or_default::<bool>(1)));
    found.first() == Some(&true)
}

thread_local! {
    /// When the process began, as a clock, and when it looked for records that are too long.
    static LOOKS: RefCell<(Instant, Looks)> = RefCell::new((Instant::now(), Looks::default()));
}

/// Starts a builder where an index is due, or a record too long; it ends by itself when another is at work.
pub fn start_builders() -> Result<(), Caught> {
    if start_indexes()? {
        return Ok(());
    }
    let size = worker::transaction(record::size)?;
    let is_due = LOOKS.with_borrow(|(begun, looks)| looks.is_due(size, begun.elapsed()));
    if is_due && (worker::transaction(record::overgrown)?.is_empty() || start()?) {
        LOOKS.with_borrow_mut(|(begun, looks)| looks.note(size, begun.elapsed()));
    }
    Ok(())
}

/// Starts a builder where an index is due. True: another one will be, when its backfill is over.
pub fn start_when_due() -> Result<bool, Caught> {
    let wanted = worker::transaction(wanted)?;
    let is_due = wanted.iter().any(|(_, is_due)| *is_due);
    let started = is_due && start()?;
    Ok(wanted.iter().any(|(_, is_due)| !*is_due) || is_due && !started)
}

/// Starts a builder where an index is due; false: none is, or there was no place.
pub fn start_indexes() -> Result<bool, Caught> {
    Ok(!worker::transaction(due)?.is_empty() && start()?)
}

/// False: there is no place for it.
fn start() -> Result<bool, Caught> {
    let started = BackgroundWorkerBuilder::new("autoembed indexer")
        .set_type("autoembed indexer")
        .set_library("autoembed")
        .set_function("autoembed_indexer_main")
        .set_argument(Some(pg_sys::Datum::from(process::database())))
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .load_dynamic();
    match &started {
        Ok(_) => log::works(&Subject::Indexer),
        Err(_) => {
            let database = worker::transaction(process::database_name)?;
            log::fails(&Subject::Indexer, "", || {
                format!(
                    "no background worker could be started to build an index in database \"{database}\": max_worker_processes is used up"
                )
            });
        }
    }
    Ok(started.is_ok())
}

/// Ends the builder of this database, since somebody wants the database for himself. What it leaves is built anew later.
pub fn end_builder() {
    const SQL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'autoembed indexer' AND datid = $1";
    // Where it fails, whoever waits is told who is in the way.
    let _ = worker::transaction(|| {
        as_extension(|| spi::query(SQL, args![process::database()], Mode::Read, |_| ()));
    });
}

/// Entry point of the builder; its argument is the database's oid.
#[pg_guard]
#[allow(unsafe_code)] // the server finds it by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn autoembed_indexer_main(argument: pg_sys::Datum) {
    process::take_signals();
    process::connect(process::oid_argument(argument));
    process::settle_in(c"0");
    let Ok(Some(extension)) = worker::transaction(utility::extension_oid) else { return };
    if !locks::become_the_indexer(extension) {
        return;
    }
    build_due();
    for id in catch::transaction(record::overgrown).unwrap_or_default() {
        if let Err(caught) = tidy::bring_together(id, &mut build_due) {
            log!("autoembed: the record of vectorizer {id} stays as it is: {}", caught.message);
        }
    }
}

/// Builds the indexes that are due.
fn build_due() {
    for id in worker::transaction(due).unwrap_or_default() {
        if let Err(caught) = build(id) {
            let noted = worker::transaction(|| {
                state::note_index(id, &format!("the index could not be built: {}", caught.message));
                give_up(id);
            });
            drop(noted);
        }
    }
}

fn give_up(id: i32) {
    as_extension(|| spi::execute("UPDATE autoembed.vectorizer SET index_wanted = false WHERE id = $1", args![id]));
}

/// How often, and after which pauses, the lock of a table is asked for that somebody else builds an index of.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until nobody else builds an index of the table. Whoever does waits in the end for older snapshots: for that of a statement, too,
/// which waits for him; the server would end one of the two.
fn is_free(id: i32) -> Result<bool, Caught> {
    let look = || catalog::vectorizer(id).is_none_or(|vectorizer| locks::try_lock_for_index(vectorizer.source));
    for _ in 0..TRIES {
        if worker::transaction(look)? {
            return Ok(true);
        }
        pgrx::check_for_interrupts!();
        process::wait_latch(PAUSE);
    }
    Ok(false)
}

fn build(id: i32) -> Result<(), Caught> {
    if !is_free(id)? {
        // It is looked for again within a minute.
        return Ok(());
    }
    let plan = worker::transaction(|| {
        let vectorizer: Vectorizer = catalog::vectorizer(id)?;
        let table = catalog::table(vectorizer.source)?;
        let pgvector = catalog::pgvector().ok()?;
        let column = vectorizer.embedding.clone()?;
        let statement = index_statement(&table, &column, &pgvector, "CONCURRENTLY");
        Some((table.schema.clone(), index_on(table.oid, &column), statement))
    })?;
    let Some((schema, there, statement)) = plan else { return Ok(()) };
    if let Some((name, false)) = &there {
        // What a build left that was broken off.
        catch::top_level(&format!("DROP INDEX CONCURRENTLY {}", qualified(&schema, name)))?;
    }
    if !there.is_some_and(|(_, is_valid)| is_valid) {
        catch::top_level(&statement)?;
    }
    worker::transaction(|| give_up(id))?;
    Ok(())
}
