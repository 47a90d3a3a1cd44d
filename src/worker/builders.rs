//! A place for the process that builds indexes, where all of `max_worker_processes` are taken. The worker of a database asks for it by a lock
//! that the launcher and readers of `status` see; the launcher has idle workers leave, as for a database without a worker, and starts
//! the process in the place of the first who goes. It does so for one database at a time: the others' workers take turns in what is left.

use crate::pg::ffi::{locks, process};
use crate::worker::index;
use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::pg_sys;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long one is waited for when `health()` calls it a problem.
const LATE: Duration = Duration::from_secs(60);

/// What a worker asks for.
#[derive(Default)]
pub struct Asking {
    since: Option<Instant>,
    is_held: bool,
    is_late: bool,
}

impl Asking {
    /// Whether it asks.
    pub fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// There was no place, or there is none still.
    pub fn go_on(&mut self) {
        let since = *self.since.get_or_insert_with(Instant::now);
        // It can fail while somebody looks; it is tried again within a second.
        self.is_held = self.is_held || locks::ask_for_builder();
        self.is_late = self.is_late || since.elapsed() >= LATE && locks::builder_is_late();
    }

    /// Nobody is waited for any more.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_held) {
            locks::no_builder_asked_for();
        }
        if std::mem::take(&mut self.is_late) {
            locks::builder_is_not_late();
        }
        self.since = None;
    }

    /// What owners' code left behind was dropped, and what shows this with it.
    pub fn claim_again(&mut self) {
        (self.is_held, self.is_late) = (false, false);
        if self.is_on() {
            self.go_on();
        }
    }
}

/// The launcher's view of those who ask.
#[derive(Default)]
pub struct Builders {
    waiting: HashMap<pg_sys::Oid, Instant>,
    /// The one that was started last, while it is at work.
    started: Option<(pg_sys::Oid, DynamicBackgroundWorker)>,
}

impl Builders {
    /// Looks who asks. What was asked for is not forgotten when the worker that asked leaves.
    pub fn look(&mut self, databases: &[(pg_sys::Oid, String)]) {
        let is_over =
            |(_, process): &(_, DynamicBackgroundWorker)| matches!(process.pid(), Err(BackgroundWorkerStatus::Stopped));
        if self.started.as_ref().is_some_and(is_over) {
            self.started = None;
        }
        let mut served: HashSet<pg_sys::Oid> = process::databases_with_worker(index::BUILDER_TYPE);
        served.extend(self.started.as_ref().map(|(database, _)| *database));
        self.waiting.retain(|oid, _| !served.contains(oid) && databases.iter().any(|(of, _)| of == oid));
        for (oid, _) in databases {
            if !served.contains(oid) && locks::is_builder_asked_for(*oid) {
                self.waiting.entry(*oid).or_insert_with(Instant::now);
            }
        }
    }

    /// Whether one waits whose turn it is.
    pub fn is_one_waiting(&self) -> bool {
        self.started.is_none() && !self.waiting.is_empty()
    }

    /// Starts the one that has waited longest, unless something has waited longer than that (`first`), or one is at work.
    pub fn serve(&mut self, first: Option<Instant>) {
        let Some((oid, since)) =
            self.waiting.iter().min_by_key(|(_, since)| **since).map(|(oid, since)| (*oid, *since))
        else {
            return;
        };
        if self.started.is_some() || first.is_some_and(|first| first < since) {
            return;
        }
        if let Ok(process) = index::builder(oid).set_notify_pid(process::pid()).load_dynamic() {
            self.waiting.remove(&oid);
            self.started = Some((oid, process));
        }
    }
}
