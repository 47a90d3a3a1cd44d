//! Who starts workers. With shared_preload_libraries: a launcher that starts one for every database that has the extension, found
//! without a list. Without: the session that needs one.

use crate::pg::error::Error;
use crate::pg::ffi::spi::{self, Mode};
use crate::pg::ffi::{catch, process};
use crate::pg::settings;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const LIBRARY: &str = "autoembed";
const WORKER_TYPE: &str = "autoembed worker";
/// How often the launcher looks for new databases and missing workers.
const ROUND: Duration = Duration::from_secs(5);
/// Longest pause before a database whose worker ended at once is tried again.
const LONGEST: Duration = Duration::from_secs(60);
/// A worker that lived this long was of use.
const LIVED: Duration = Duration::from_secs(10);

/// Registers the launcher; while the server starts.
pub fn register_launcher() {
    BackgroundWorkerBuilder::new("autoembed launcher")
        .set_type("autoembed launcher")
        .set_library(LIBRARY)
        .set_function("autoembed_launcher_main")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

fn worker(database: pg_sys::Oid, name: &str, waits: bool, restart: Option<Duration>) -> BackgroundWorkerBuilder {
    let short: String = name.chars().take(40).collect();
    BackgroundWorkerBuilder::new(&format!("autoembed worker: {short}"))
        .set_type(WORKER_TYPE)
        .set_library(LIBRARY)
        .set_function("autoembed_worker_main")
        .set_argument(Some(pg_sys::Datum::from(database)))
        .set_extra(if waits { process::WAITS } else { "" })
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(restart)
        .set_notify_pid(process::pid())
}

/// Starts a worker for this session's database; its process id. A second one ends by itself. Where the server has no room, a
/// WARNING says which setting to raise, and the rows stay queued.
pub fn start_for_this_database() -> Option<i32> {
    const NAME: &str = "SELECT pg_catalog.current_database()::text";
    if process::in_recovery() {
        return None;
    }
    if let Some(list) = settings::databases() {
        let name = spi::first(NAME, &[], Mode::Read, |row| row.or_default::<String>(1))?;
        if !list.contains(&name) {
            return None;
        }
    }
    let restart = if process::is_preloaded() { None } else { Some(Duration::from_secs(2)) };
    let started = worker(process::database(), "", true, restart).load_dynamic();
    match started.map(|worker| worker.wait_for_startup()) {
        Ok(Ok(pid)) => Some(pid),
        Ok(Err(_)) => None,
        Err(_) => {
            Error::new(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                "no background worker could be started for autoembed; rows stay queued",
                "Raise max_worker_processes, or call autoembed.embed_pending() from time to time.",
            )
            .warn();
            None
        }
    }
}

struct Served {
    worker: Option<DynamicBackgroundWorker>,
    started: Instant,
    next: Instant,
    pause: Duration,
}

/// Entry point of the launcher.
#[pg_guard]
#[allow(unsafe_code)] // the server finds it by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn autoembed_launcher_main(_unused: pg_sys::Datum) {
    process::take_signals();
    process::connect_to_none();
    let mut served: HashMap<pg_sys::Oid, Served> = HashMap::new();
    let mut full = false;
    loop {
        process::reload_settings();
        let wanted = settings::databases();
        let working = process::databases_with_worker(WORKER_TYPE);
        if let Ok(databases) = catch::transaction(process::databases) {
            served.retain(|oid, _| databases.iter().any(|(of, _)| of == oid));
            for (oid, name) in databases {
                if wanted.as_ref().is_none_or(|list| list.contains(&name)) {
                    let was_full = full;
                    full = !serve(&mut served, oid, &name, working.contains(&oid));
                    if full && !was_full {
                        log!(
                            "autoembed: no background worker could be started for database \"{name}\"; raise max_worker_processes"
                        );
                    }
                }
            }
        }
        let now = Instant::now();
        let next = served.values().filter(|s| s.worker.is_none()).map(|s| s.next.saturating_duration_since(now)).min();
        process::wait_latch(next.unwrap_or(ROUND).clamp(Duration::from_millis(100), ROUND));
    }
}

/// Sees to one database, which some worker serves or not; false: there was no room for its worker.
fn serve(served: &mut HashMap<pg_sys::Oid, Served>, oid: pg_sys::Oid, name: &str, is_served: bool) -> bool {
    let now = Instant::now();
    let entry =
        served.entry(oid).or_insert(Served { worker: None, started: now, next: now, pause: Duration::from_secs(1) });
    if is_served {
        // By whomever it was started: when that one is gone, another is started at once.
        (entry.next, entry.pause) = (now, Duration::from_secs(1));
        return true;
    }
    if let Some(worker) = &entry.worker {
        if !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)) {
            return true;
        }
        // A database without the extension is asked more and more rarely.
        entry.pause =
            if entry.started.elapsed() > LIVED { Duration::from_secs(1) } else { (entry.pause * 2).min(LONGEST) };
        entry.next = now + entry.pause;
        entry.worker = None;
    }
    if entry.next > now {
        return true;
    }
    match worker(oid, name, false, None).load_dynamic() {
        Ok(worker) => {
            entry.worker = Some(worker);
            entry.started = now;
            true
        }
        Err(_) => {
            entry.next = now + ROUND;
            false
        }
    }
}
