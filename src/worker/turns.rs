//! More databases than places for their workers (`max_worker_processes`): they take turns. While the launcher finds no place for a
//! database, or for a process that builds an index, it holds a lock that every worker can see; workers then leave, one at a time, and the launcher gives the place to the
//! one that has waited longest.

use crate::pg::error::Error;
use crate::pg::ffi::locks;
use pgrx::prelude::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long a worker has had nothing to do when it leaves.
pub const IDLE: Duration = Duration::from_secs(3);
/// How long a busy worker stays.
const TURN: Duration = Duration::from_secs(10);
/// How long one that leaves waits for answers that are under way, which would be paid for twice.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long a database has waited when it is worth a word: a place may be free again in a moment.
const LASTING: Duration = Duration::from_secs(2);

/// The turn of one worker.
pub struct Turn {
    begun: Instant,
    busy: Instant,
    leaving: Option<Instant>,
}

impl Turn {
    /// It begins.
    pub fn new() -> Turn {
        let now = Instant::now();
        Turn { begun: now, busy: now, leaving: None }
    }

    /// There was something to do just now.
    pub fn note_work(&mut self) {
        self.busy = Instant::now();
    }

    /// Looks whether it is time to leave. From time to time: it asks the server's table of locks.
    pub fn look(&mut self) {
        let is_time = self.busy.elapsed() >= IDLE || self.begun.elapsed() >= TURN;
        let must_leave = is_time && locks::is_somebody_short();
        match self.leaving {
            None if must_leave && locks::leave() => self.leaving = Some(Instant::now()),
            Some(_) if !must_leave => {
                locks::stay();
                self.leaving = None;
            }
            _ => {}
        }
    }

    /// What owners' code left behind was dropped, and with it the claim to be the one who leaves.
    pub fn claim_again(&mut self) {
        if self.leaving.is_some() && !locks::leave() {
            self.leaving = None;
        }
    }

    /// Nothing more is to be sent.
    pub fn is_ending(&self) -> bool {
        self.leaving.is_some()
    }

    /// The worker is to end, with so many requests under way.
    pub fn is_over(&self, in_flight: usize) -> bool {
        self.leaving.is_some_and(|since| in_flight == 0 || since.elapsed() >= LAST_ANSWERS)
    }
}

/// What a database without a place is told, in a session of it (without the launcher, or with it) and in the log.
pub fn no_place(database: &str, has_launcher: bool) -> Box<Error> {
    let hint = if has_launcher {
        "Databases take turns until you raise max_worker_processes and restart, or limit autoembed.databases; autoembed.embed_pending() works at once."
    } else {
        "Raise max_worker_processes and restart, or call autoembed.embed_pending() from time to time."
    };
    Error::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        format!(
            "no background worker could be started for autoembed in database \"{database}\": max_worker_processes is used up; rows stay queued"
        ),
        hint,
    )
}

/// A database without a place.
pub struct Waiting {
    /// Its oid.
    pub database: pg_sys::Oid,
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: Instant,
    /// It had no use for a worker when it had one last.
    pub is_barren: bool,
}

/// The launcher's view of all who wait.
#[derive(Default)]
pub struct Shortage {
    is_known: bool,
    told: HashSet<pg_sys::Oid>,
}

impl Shortage {
    /// Makes it known to the workers, also where a process that builds an index waits, and writes into the log once for each database, and once when it is over.
    pub fn note(&mut self, waiting: &[Waiting], is_builder_waiting: bool) {
        let is_any = is_builder_waiting || !waiting.is_empty();
        if self.is_known && !is_any {
            locks::nobody_is_short();
            self.is_known = false;
        } else if !self.is_known && is_any {
            self.is_known = locks::somebody_is_short();
        }
        let mut waiting = waiting.iter().filter(|waiting| !waiting.is_barren).peekable();
        if waiting.peek().is_none() && !self.told.is_empty() {
            self.told.clear();
            log!("autoembed: every database has a background worker again");
        }
        for waiting in waiting {
            if waiting.since.elapsed() >= LASTING && self.told.insert(waiting.database) {
                no_place(&waiting.name, true).warn();
            }
        }
    }

    /// Whether anybody waits.
    pub fn is_on(&self) -> bool {
        self.is_known
    }
}
