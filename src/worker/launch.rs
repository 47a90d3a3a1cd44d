//! Who starts workers. With shared_preload_libraries: a launcher that starts one for every database that has the extension, found
//! without a list. Without: the session that needs one.

use crate::pg::ffi::{catch, locks, process};
use crate::pg::settings;
use crate::worker::builders::Builders;
use crate::worker::turns::{self, Shortage, Waiting};
use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const LIBRARY: &str = "autoembed";
const WORKER_TYPE: &str = "autoembed worker";
/// How often the launcher looks for new databases and missing workers.
const ROUND: Duration = Duration::from_secs(5);
/// The same while a database waits for a place.
const SHORT_ROUND: Duration = Duration::from_millis(500);
/// Pause before a worker that was of use is started again.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause before a database whose worker ended at once is tried again.
const LONGEST: Duration = Duration::from_secs(60);
/// A database that had no use for a worker when it had one last may have one by now, though nobody has asked again.
const FORGOTTEN: Duration = Duration::from_secs(3600);
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

/// What a session got that asked for a worker.
pub enum Started {
    /// Its process id. A second worker of a database ends by itself.
    Worker(i32),
    /// The server has no place for one, in the database of this name.
    NoPlace(String),
    /// It is not to have one, or it ended at once.
    None,
}

/// Starts a worker for this session's database.
pub fn start_for_this_database() -> Started {
    if process::in_recovery() || process::is_upgrading() {
        return Started::None;
    }
    let name = process::database_name();
    if settings::databases().is_some_and(|list| !list.contains(&name)) {
        return Started::None;
    }
    // Who waits longer goes first: the launcher knows.
    if process::is_preloaded() && locks::is_somebody_short() {
        locks::ask_for_worker();
        return Started::NoPlace(name);
    }
    let restart = if process::is_preloaded() { None } else { Some(Duration::from_secs(2)) };
    let started = worker(process::database(), "", true, restart).load_dynamic();
    match started.map(|worker| worker.wait_for_startup()) {
        Ok(Ok(pid)) => Started::Worker(pid),
        Ok(Err(_)) => Started::None,
        Err(_) => {
            if process::is_preloaded() {
                locks::ask_for_worker();
            }
            Started::NoPlace(name)
        }
    }
}

struct Served {
    worker: Option<DynamicBackgroundWorker>,
    started: Instant,
    next: Instant,
    pause: Duration,
    /// When a worker was there last.
    seen: Option<Instant>,
    /// Since when there is no place for one.
    waits: Option<Instant>,
}

/// Entry point of the launcher.
#[pg_guard]
#[allow(unsafe_code)] // the server finds it by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn autoembed_launcher_main(_unused: pg_sys::Datum) {
    process::take_signals();
    process::connect_to_none();
    let mut served: HashMap<pg_sys::Oid, Served> = HashMap::new();
    let mut shortage = Shortage::default();
    let mut builders = Builders::default();
    loop {
        process::reload_settings();
        let wanted = settings::databases();
        let working = process::databases_with_worker(WORKER_TYPE);
        if let Ok(mut databases) = catch::transaction(process::databases) {
            databases.retain(|(_, name)| wanted.as_ref().is_none_or(|list| list.contains(name)));
            served.retain(|oid, _| databases.iter().any(|(of, _)| of == oid));
            // Who has been without a worker longest goes first.
            databases.sort_by_key(|(oid, _)| served.get(oid).and_then(|entry| entry.seen));
            builders.look(&databases);
            // Before a place goes to the worker that has just left it.
            builders.serve(served.values().filter_map(|entry| entry.waits).min());
            let mut waiting = Vec::new();
            for (oid, name) in databases {
                let now = Instant::now();
                let entry = served.entry(oid).or_insert_with(|| Served::new(now));
                let was_short = shortage.is_on();
                entry.serve(oid, &name, working.contains(&oid), was_short);
                if let Some(since) = entry.waits {
                    waiting.push(Waiting { database: oid, name, since, is_barren: entry.is_barren() });
                }
            }
            shortage.note(&waiting, builders.is_one_waiting());
        }
        let round = if shortage.is_on() { SHORT_ROUND } else { ROUND };
        let now = Instant::now();
        let next = served.values().filter(|s| s.worker.is_none()).map(|s| s.next.saturating_duration_since(now)).min();
        process::wait_latch(next.unwrap_or(round).clamp(Duration::from_millis(100), round));
    }
}

impl Served {
    fn new(now: Instant) -> Served {
        Served { worker: None, started: now, next: now, pause: FIRST, seen: None, waits: None }
    }

    /// It had no use for a worker when it had one last: mostly a database without the extension.
    fn is_barren(&self) -> bool {
        self.pause > FIRST
    }

    /// Others leave for it. For a database that is known to have no use for the place only where a session of it asks, or after a long
    /// time: it takes a place that is free.
    fn takes_turns(&self, oid: pg_sys::Oid) -> bool {
        let is_forgotten = self.seen.is_none_or(|at| at.elapsed() >= FORGOTTEN);
        self.waits.is_some() || !self.is_barren() || is_forgotten || locks::is_worker_asked_for(oid)
    }

    /// Sees to one database, which some worker serves or not.
    fn serve(&mut self, oid: pg_sys::Oid, name: &str, is_served: bool, was_short: bool) {
        let now = Instant::now();
        if let Some(worker) = &self.worker {
            if !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)) {
                (self.seen, self.waits) = (Some(now), None);
                return;
            }
            self.worker = None;
            // A database without the extension, or one whose worker cannot live, is asked more and more rarely. Where places are
            // short, workers leave that had nothing to do.
            let of_use = if was_short { turns::IDLE } else { LIVED };
            self.pause = if self.started.elapsed() > of_use { FIRST } else { (self.pause * 2).min(LONGEST) };
            self.next = if was_short && self.pause == FIRST { now } else { now + self.pause };
        }
        if is_served {
            // A session has started it: when it is gone, another is started at once.
            (self.next, self.pause, self.seen, self.waits) = (now, FIRST, Some(now), None);
        } else if self.waits.is_some() || self.next <= now {
            let takes_turns = self.takes_turns(oid);
            if was_short && !takes_turns {
                self.next = now + SHORT_ROUND;
                return;
            }
            match worker(oid, name, false, None).load_dynamic() {
                Ok(worker) => {
                    (self.worker, self.started) = (Some(worker), now);
                    (self.seen, self.waits) = (Some(now), None);
                }
                Err(_) if !takes_turns => self.next = now + ROUND,
                Err(_) => {
                    self.next = now + SHORT_ROUND;
                    self.waits = self.waits.or(Some(now));
                }
            }
        }
    }
}
