//! The background worker of one database: a loop around its latch.

use crate::pg::catalog;
use crate::pg::ffi::{catch, locks, process, rights, utility};
use crate::pg::settings::{self, Work};
use crate::pg::{interface, queue, usage};
use crate::worker::engine::{Engine, Round};
use crate::worker::keep::{Followed, Follower};
use crate::worker::log::{self, Subject};
use crate::worker::turns::Turn;
use crate::worker::{self, index, keep, state};
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// How often it looks whether somebody wants the database for himself, or the extension is gone.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// How long a request to end can wait while a batch fills.
const DEAF: Duration = Duration::from_millis(50);
/// Steps that fail now and then are one trouble, over when none has failed for so long.
const QUIET: Duration = Duration::from_secs(10);
/// How long answers can wait while a batch fills.
const FILLING: Duration = Duration::from_millis(2);
/// How often one that gives its place up looks whether the last answers are in.
const ENDING: Duration = Duration::from_millis(50);
/// How often it is looked whether rows that are held can be sent.
const HELD: Duration = Duration::from_millis(50);
/// How long a worker that was started before the extension was committed waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Entry point of the background worker; its argument is the database's oid.
#[pg_guard]
#[allow(unsafe_code)] // the server finds it by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn autoembed_worker_main(argument: pg_sys::Datum) {
    process::take_signals();
    let database = process::oid_argument(argument);
    if !process::database_exists(database) {
        return;
    }
    process::connect(database);
    process::settle_in(c"5s");
    let mut has_worked = false;
    // Where the extension is dropped and made again, or updated, the same process goes on.
    while let Some(extension) = wait_for_extension(has_worked) {
        if !locks::become_the_worker(extension) || !Loop::new(extension).run() {
            break;
        }
        has_worked = true;
    }
}

/// Waits until there is an extension that this library can work for. `None`: there is none, or others want the place or the database.
fn wait_for_extension(has_worked: bool) -> Option<pg_sys::Oid> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        let there = || utility::extension_oid().map(|extension| (extension, interface::misfit()));
        let pause = match catch::transaction(there) {
            Ok(Some((extension, None))) => return Some(extension),
            Ok(Some((_, Some((message, hint))))) => {
                // Another process would load the library that is installed by now.
                if !process::is_preloaded() && (has_worked || begun.elapsed() > PATIENCE) {
                    process::end_to_be_restarted();
                }
                if !is_told {
                    is_told = true;
                    log!("autoembed: {message}; {hint}");
                }
                if locks::is_somebody_short() {
                    return None;
                }
                LOOK_AROUND
            }
            Ok(None) | Err(_) if begun.elapsed() > PATIENCE || !process::was_asked_to_wait() => return None,
            Ok(None) | Err(_) => Duration::from_millis(200),
        };
        if locks::database_is_wanted() {
            return None;
        }
        process::wait_latch(pause);
    }
}

struct Loop {
    extension: pg_sys::Oid,
    engine: Engine,
    work: Work,
    /// When rows that a commit told of are taken: the rest of the batch may come until then.
    due: Option<Instant>,
    poll_at: Instant,
    look_at: Instant,
    keep_at: Instant,
    follower: Follower,
    errors: u32,
    /// When a step has failed: then what it may have dropped is freed.
    lost_at: Option<Instant>,
    free_after: Instant,
    /// A batch fills: nothing is to be done until `due` but to take in answers.
    is_filling: bool,
    /// The extension was dropped and made again, or has become one that this library does not know.
    is_replaced: bool,
    turn: Turn,
}

impl Loop {
    fn new(extension: pg_sys::Oid) -> Loop {
        let now = Instant::now();
        Loop {
            extension,
            engine: Engine::for_worker(),
            work: settings::work(),
            due: Some(now),
            poll_at: now,
            look_at: now,
            keep_at: now,
            follower: Follower::new(),
            errors: 0,
            lost_at: None,
            free_after: now,
            is_filling: false,
            is_replaced: false,
            turn: Turn::new(),
        }
    }

    /// Works until it is not wanted any more; true: because the extension is another now, or of another version.
    fn run(mut self) -> bool {
        worker::was_refused();
        let begun = worker::transaction(|| {
            state::reset();
            catalog::repair();
            queue::rescue()
        });
        if let Ok(freed) = begun
            && freed > 0
        {
            log!("autoembed: {freed} jobs that an earlier worker had in hand are free again");
        }
        while self.turn() {}
        // Where the extension is gone, there is nothing left to give back to.
        let _ = self.engine.let_go();
        self.is_replaced
    }

    /// One turn of the loop; false: this worker is not wanted any more.
    fn turn(&mut self) -> bool {
        pgrx::check_for_interrupts!();
        if process::reload_settings() {
            self.work = settings::work();
            self.engine.look_everywhere();
            self.engine.wake_resting();
            self.engine.models.try_all_now();
        }
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + LOOK_AROUND;
            if locks::database_is_wanted() {
                index::end_builder();
                return false;
            }
            self.turn.look();
            let there = || utility::extension_oid().map(|extension| (extension, interface::misfit().is_some()));
            match catch::transaction(there) {
                Ok(Some((found, is_misfit))) if found != self.extension || is_misfit => {
                    self.is_replaced = true;
                    return false;
                }
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => {}
            }
            if usage::is_any_noted()
                && let Ok(noted) = worker::transaction(usage::fold)
            {
                self.engine.models.note_others(&noted);
            }
            match self.follower.follow() {
                Ok(Followed::These(vectorizers)) => self.engine.wake(&vectorizers),
                Ok(Followed::All) => self.engine.wake_resting(),
                // What lasts is told of when all are looked at.
                Err(_) => {}
            }
            if self.engine.has_backfilled {
                self.engine.has_backfilled = index::start_when_due().unwrap_or(true);
            }
        }
        if self.turn.is_over(self.engine.in_flight()) {
            return false;
        }
        if self.lost_at.is_some_and(|at| at.elapsed() > LOOK_AROUND.min(self.work.retry_max))
            && Instant::now() >= self.free_after
        {
            let begun = Instant::now();
            if self.engine.free_lost(&self.work).is_ok() {
                self.lost_at = None;
            }
            // It looks through the whole queue.
            self.free_after = Instant::now() + begun.elapsed() * 10;
        }
        let turned = self.engine.renew_leases(&self.work).and_then(|()| self.take_in()).and_then(|()| self.send_out());
        if self.engine.is_leaving() {
            return false;
        }
        if rights::has_run_owners_code() {
            if !locks::still_the_worker(self.extension) {
                return false;
            }
            self.turn.claim_again();
        }
        if self.engine.in_flight() > 0 {
            self.turn.note_work();
        }
        if worker::was_refused() {
            // It may fit again by now; what was in hand is to be freed in any case.
            self.is_replaced = true;
            return false;
        }
        let pause = match turned {
            Ok(pause) => {
                self.errors = 0;
                log::is_quiet(&Subject::Step, QUIET);
                pause
            }
            Err(caught) => {
                self.errors += 1;
                self.lost_at.get_or_insert_with(Instant::now);
                log::fails(&Subject::Step, &caught.message, || format!("a step failed: {}", caught.message));
                self.due = None;
                Duration::from_millis(100 * u64::from(self.errors.min(50)))
            }
        };
        if self.is_filling {
            // Each commit would wake the worker only to find that the batch still fills.
            process::pause(pause.min(if self.engine.in_flight() > 0 { FILLING } else { DEAF }));
        } else {
            process::wait_latch(pause);
        }
        if self.due.is_none() {
            self.due = Some(Instant::now() + self.work.batch_delay);
        }
        true
    }

    fn take_in(&mut self) -> Result<(), catch::Caught> {
        while self.engine.receive(&self.work)? {
            pgrx::check_for_interrupts!();
        }
        Ok(())
    }

    /// Sends what is due; how long nothing has to be done.
    fn send_out(&mut self) -> Result<Duration, catch::Caught> {
        let now = Instant::now();
        self.is_filling = false;
        if self.turn.is_ending() {
            return Ok(ENDING);
        }
        if now >= self.keep_at {
            self.keep_at = now + keep::INTERVAL;
            // A restored dump may have brought claims that are nobody's.
            self.lost_at.get_or_insert(now);
            keep::house(&self.work)?;
            keep::follow_tables()?;
            self.engine.models.keep_only(&worker::transaction(catalog::model_names)?);
            index::start_builders()?;
        }
        if now >= self.poll_at {
            self.poll_at = now + self.work.poll_interval;
            self.engine.look_everywhere();
            self.due = Some(now);
        }
        let Some(due) = self.due else { return Ok(self.poll_at - now) };
        if now < due {
            self.is_filling = true;
            return Ok(due - now);
        }
        self.due = None;
        let round: Round = self.engine.send(&self.work)?;
        if round.sent + round.settled > 0 || round.backlog {
            self.turn.note_work();
        }
        let now = Instant::now();
        let mut pause = self.poll_at.saturating_duration_since(now).min(self.look_at.saturating_duration_since(now));
        if round.backlog || self.engine.holds_rows() {
            // As soon as a request has returned, or a model may be asked again.
            self.due = Some(now);
            // What is held for a table that is left alone is not looked at all the time.
            let soon = if round.backlog { Duration::from_millis(1) } else { HELD };
            let rest = round.rest.unwrap_or(soon);
            pause = pause.min(rest.max(Duration::from_millis(1)));
        } else if let Some(soon) = self.engine.soon.take() {
            // Rows that were put back: their time comes before the next poll.
            self.poll_at = self.poll_at.min(soon);
            pause = pause.min(soon.saturating_duration_since(now)).max(Duration::from_millis(1));
        }
        Ok(pause)
    }
}
