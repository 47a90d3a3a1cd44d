//! The HNSW index of a table that was full: built by a process of its own, without blocking writers, after the backfill. The same
//! process brings records together that have grown too long.

use crate::pg::catalog::{self, Vectorizer};
use crate::pg::distance::Distance;
use crate::pg::ffi::catch::{self, Caught};
use crate::pg::ffi::locks::GivingWay;
use crate::pg::ffi::process::Beat;
use crate::pg::ffi::rights::{ahead_of_autovacuum, as_extension};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::{locks, process, utility};
use crate::pg::index::{self, Step};
use crate::pg::{change, record, swap};
use crate::worker::builders::Asking;
use crate::worker::gather::Context;
use crate::worker::log::{self, Subject};
use crate::worker::{self, state, text_index, tidy};
use autoembed_core::record::Looks;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// Vectorizers that want an index and need not rest, and whether their backfill is over. What users write in the slow lane, and what is
/// queued after the walk, never ends; the jobs of the walk are among the first.
fn wanted() -> Vec<(i32, bool)> {
    const SQL: &str = "SELECT v.id, \
             NOT EXISTS (SELECT FROM autoembed.backfill b WHERE b.vectorizer_id = v.id AND b.walked_at IS NULL) \
         AND NOT EXISTS (SELECT FROM (SELECT j.if_missing, j.is_forced, j.queued_at FROM autoembed.job j \
               WHERE j.vectorizer_id = v.id AND j.lane = 1 ORDER BY j.id LIMIT 20000) q \
             LEFT JOIN autoembed.backfill b ON b.vectorizer_id = v.id \
             WHERE (q.if_missing OR q.is_forced OR b.rereads) AND (b.walked_at IS NULL OR q.queued_at <= b.walked_at)) \
         FROM autoembed.vectorizer v WHERE (v.index_wanted OR v.text_index_wanted) AND NOT v.paused \
           AND (v.build_after IS NULL OR v.build_after <= clock_timestamp())";
    as_extension(|| spi::planned(SQL, &[], Mode::Write, |row| (row.or_default::<i32>(1), row.or_default::<bool>(2))))
}

/// Vectorizers that want an index and whose backfill is over.
fn due() -> Vec<i32> {
    wanted().into_iter().filter_map(|(id, is_due)| is_due.then_some(id)).collect()
}

/// Whether a table is without the index that it should have.
pub fn is_missing(context: &Context) -> bool {
    let distance = Distance::new(&context.stored.model, context.vectorizer.column_dimensions, &context.pgvector);
    let vectors = context.chunks.as_ref().map_or(&context.table, |chunks| &chunks.table);
    index::is_missing(vectors, &context.vectorizer, &distance)
}

thread_local! {
    /// When the process began, as a clock, and when it looked for records that are too long.
    static LOOKS: RefCell<(Instant, Looks)> = RefCell::new((Instant::now(), Looks::default()));
    static ASKING: RefCell<Asking> = RefCell::default();
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

/// What the process that builds indexes is called.
pub const BUILDER_TYPE: &str = "autoembed indexer";

/// The process that builds the indexes of a database.
pub fn builder(database: pg_sys::Oid) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(BUILDER_TYPE)
        .set_type(BUILDER_TYPE)
        .set_library("autoembed")
        .set_function("autoembed_indexer_main")
        .set_argument(Some(pg_sys::Datum::from(database)))
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
}

fn is_at_work() -> bool {
    process::databases_with_worker(BUILDER_TYPE).contains(&process::database())
}

/// False: there is no place for it.
fn start() -> Result<bool, Caught> {
    // Who waits longer goes first: the launcher knows.
    let is_others_turn = || process::is_preloaded() && locks::is_somebody_short();
    let is_started = is_at_work() || !is_others_turn() && builder(process::database()).load_dynamic().is_ok();
    match is_started {
        true => {
            ASKING.with_borrow_mut(Asking::end);
            log::works(&Subject::Indexer);
        }
        false => {
            ASKING.with_borrow_mut(Asking::go_on);
            let database = worker::transaction(process::database_name)?;
            log::fails(&Subject::Indexer, "", || {
                format!(
                    "no background worker could be started to build an index in database \"{database}\": max_worker_processes is used up"
                )
            });
        }
    }
    Ok(is_started)
}

/// Whether a builder is asked for, since there was no place for it.
pub fn is_asking() -> bool {
    ASKING.with_borrow(Asking::is_on)
}

/// Where a builder is asked for: whether it is still, and whether the launcher has started it. From time to time.
pub fn ask_on() -> Result<(), Caught> {
    if !is_asking() {
        return Ok(());
    }
    let is_started = is_at_work();
    if is_started || worker::transaction(|| due().is_empty() && record::overgrown().is_empty())? {
        ASKING.with_borrow_mut(Asking::end);
    } else {
        ASKING.with_borrow_mut(Asking::go_on);
    }
    if is_started {
        log::works(&Subject::Indexer);
    }
    Ok(())
}

/// What owners' code left behind was dropped, and with it what this process asks for.
pub fn claim_again() {
    ASKING.with_borrow_mut(Asking::claim_again);
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
    process::settle_in(c"0", Beat::Quick);
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

/// Builds the indexes that are due: on vectors and on words, each by itself.
fn build_due() {
    for id in worker::transaction(due).unwrap_or_default() {
        let may_go_on = after(id, build(id), |caught| {
            state::note_index(id, &format!("the index could not be built: {}", caught.message));
            give_up(id);
        });
        if may_go_on {
            after(id, text_index::build(id), |caught| text_index::fail(id, caught));
        }
    }
}

/// After a build: where it has failed, `fail` says so in a transaction, and it is not tried again. False: somebody wanted the table.
fn after(id: i32, done: Result<(), Caught>, fail: impl FnOnce(&Caught)) -> bool {
    match done {
        Ok(()) => {}
        Err(caught) if caught.is_cancel() => {
            drop(worker::transaction(|| rest_after_giving_way(id)));
            return false;
        }
        // It is looked for again within a minute.
        Err(caught) if caught.is_contention() => {
            log!("autoembed: an index of vectorizer {id} waits: {}", caught.message);
        }
        Err(caught) => {
            let noted = worker::transaction(|| {
                // Whoever has ended a change in the meantime wants no index any more.
                if catalog::now(id).is_some() {
                    fail(&caught);
                }
            });
            drop(noted);
        }
    }
    true
}

/// The next try comes after a minute, and after twice as long each time that it ends like this: half an hour at most. It is never given up.
fn rest_after_giving_way(id: i32) {
    const SQL: &str = "UPDATE autoembed.vectorizer SET builds_ended = builds_ended + 1, \
         build_after = clock_timestamp() + LEAST(power(2, LEAST(builds_ended, 9)), 30) * interval '1 min' WHERE id = $1 \
         RETURNING to_char(build_after, 'HH24:MI:SS')";
    let until = as_extension(|| spi::first(SQL, args![id], Mode::Write, |row| row.or_default::<String>(1)));
    if let Some(until) = until {
        log!(
            "autoembed: the build of an index of vectorizer {id} gave way to a session that wanted the table; it begins again after {until}"
        );
    }
}

fn give_up(id: i32) {
    const SQL: &str = "UPDATE autoembed.vectorizer SET index_wanted = false, build_after = NULL, builds_ended = 0 WHERE id = $1 AND index_wanted";
    as_extension(|| spi::execute(SQL, args![id]));
}

/// How long a statement waits for a lock that keeps users waiting while it is waited for.
const SHORT: &CStr = c"200ms";
/// How often, and after which pauses, a lock is asked for that somebody else has.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// Who wants the process to end does not wait so long.
const DEAF: Duration = Duration::from_millis(100);

fn rest() {
    let until = Instant::now() + PAUSE;
    while Instant::now() < until {
        process::pause(DEAF);
    }
}

/// Runs a statement that may take hours, and holds a lock on a table meanwhile: whoever waits for that would have all others wait behind
/// him. It ends where somebody does.
fn long(statement: &str) -> Result<(), Caught> {
    let _ends = GivingWay::begin();
    catch::top_level(statement)
}

/// Whether nobody else builds an index of a table, or vacuums it. Autovacuum is told to end.
fn is_free(table: pg_sys::Oid) -> bool {
    locks::try_lock_for_index(table)
        || catch::subtransaction(|| ahead_of_autovacuum(|| locks::lock_for_index(table))).is_ok()
}

/// Runs a statement that builds or drops an index of a table without blocking writers, when nobody else builds one there. Whoever does
/// waits in the end for older snapshots: for that of a statement, too, which waits for him; the server would end one of the two.
/// False: he is not ready, or the statement is not what is to be done any more; it is looked for again within a minute.
fn run_long(table: pg_sys::Oid, statement: &str, is_wanted: impl Fn() -> bool) -> Result<bool, Caught> {
    for _ in 0..TRIES {
        match worker::transaction(|| is_free(table).then(&is_wanted))? {
            Some(true) => return long(statement).map(|()| true),
            Some(false) => return Ok(false),
            None => rest(),
        }
    }
    Ok(false)
}

fn next_step(id: i32) -> Option<Step> {
    const WANTED: &str = "SELECT index_wanted FROM autoembed.vectorizer WHERE id = $1";
    as_extension(|| spi::first(WANTED, args![id], Mode::Write, |row| row.or_default::<bool>(1))).filter(|is| *is)?;
    let vectorizer: Vectorizer = catalog::vectorizer(id)?;
    let table = catalog::table(vectorizer.vectors_in())?;
    let model = catalog::model(&vectorizer.model).ok()?.model;
    let distance = Distance::new(&model, vectorizer.column_dimensions, &catalog::pgvector().ok()?);
    index::next_step(&table, vectorizer.embedding.as_deref()?, &distance)
}

/// Builds the index on vectors. Where the process ends, the next one goes on: see [`crate::pg::index`].
fn build(id: i32) -> Result<(), Caught> {
    if worker::transaction(|| change::is_second(id))? {
        match build_twins(id)? {
            Twins::Wait => return Ok(()),
            Twins::Enough => return worker::transaction(|| give_up(id)),
            Twins::OneMore => {}
        }
    }
    if !take_steps(id, "index", || next_step(id))? {
        return Ok(());
    }
    worker::transaction(|| give_up(id))
}

/// Takes one step after the other until there is none. What is to be done is looked up anew after each wait: whoever was waited for may have
/// built just this index. False: somebody is not ready; it is looked for again within a minute.
pub fn take_steps(id: i32, what: &str, next: impl Fn() -> Option<Step>) -> Result<bool, Caught> {
    let (mut tries, mut before) = (0, None);
    while let Some(step) = worker::transaction(&next)? {
        pgrx::check_for_interrupts!();
        let done = match &step {
            Step::Long { table, statement } if worker::transaction(|| is_free(*table))? => long(statement),
            Step::Short(sql) => {
                process::set_lock_timeout(SHORT);
                let done = catch::top_level(sql);
                process::set_lock_timeout(c"0");
                done
            }
            Step::Long { .. } | Step::Wait if tries < TRIES => {
                tries += 1;
                rest();
                continue;
            }
            Step::Long { .. } | Step::Wait => return Ok(false),
        };
        match done {
            Err(caught) if caught.is_contention() && tries < TRIES => {
                tries += 1;
                rest();
            }
            Err(caught) => return Err(caught),
            // A statement that changes nothing would be the next one for ever.
            Ok(()) if before.as_ref() == Some(&step) => {
                log!(
                    "autoembed: the {what} of vectorizer {id} is given up: a step of its build changes nothing: {step:?}"
                );
                break;
            }
            Ok(()) => {
                tries = 0;
                before = Some(step);
            }
        }
    }
    Ok(true)
}

/// What is left to be built over a second column.
enum Twins {
    /// Somebody else is at work on the table.
    Wait,
    /// Nothing.
    Enough,
    /// An index of the vectorizer's own.
    OneMore,
}

/// For a vectorizer that is to replace another: whatever finds neighbours in the old vectors is built over the new ones, too.
fn build_twins(id: i32) -> Result<Twins, Caught> {
    let Some(vectorizer) = worker::transaction(|| catalog::vectorizer(id))? else { return Ok(Twins::Enough) };
    for broken in worker::transaction(|| swap::broken_indexes(id))? {
        let is_wanted = || swap::broken_indexes(id).contains(&broken);
        if !run_long(vectorizer.source, &format!("DROP INDEX CONCURRENTLY {broken}"), is_wanted)? {
            return Ok(Twins::Wait);
        }
    }
    let mut built = None;
    while let Some(statement) = worker::transaction(|| swap::next_index(id))? {
        if built.as_ref() == Some(&statement) {
            // It was built, and nothing has come of it.
            break;
        }
        if !run_long(vectorizer.source, &statement, || swap::next_index(id).as_ref() == Some(&statement))? {
            return Ok(Twins::Wait);
        }
        built = Some(statement);
    }
    let one_more = worker::transaction(|| swap::wants_index_of_its_own(id))?;
    Ok(if one_more { Twins::OneMore } else { Twins::Enough })
}
