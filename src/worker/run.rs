//! The background worker of one database: a loop around its latch.

use crate::pg::catalog;
use crate::pg::ffi::process::Beat;
use crate::pg::ffi::{catch, locks, process, rights, utility};
use crate::pg::settings::{self, Work};
use crate::pg::{interface, queue, repair, usage};
use crate::points;
use crate::worker::change::Changes;
use crate::worker::engine::{Engine, Round};
use crate::worker::keep::{Followed, Follower};
use crate::worker::log::{self, Subject};
use crate::worker::pace::Paces;
use crate::worker::restore::Restore;
use crate::worker::turns::Turn;
use crate::worker::{self, index, keep, state};
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// How often it looks whether somebody wants the database for himself, or the extension is gone.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// What looks through the queue takes at most one part in so many of the time: it may be long, or full of dead rows.
const RARELY: u32 = 10;
/// How long a request to end can wait while a batch fills.
const DEAF: Duration = Duration::from_millis(50);
/// Steps that fail now and then are one trouble, over when none has failed for so long.
const QUIET: Duration = Duration::from_secs(10);
/// How long answers can wait while a batch fills.
const FILLING: Duration = Duration::from_millis(2);
/// How soon after a commit has told of rows it is known which tables it has changed: a little before others learn of them.
const TOLD: Duration = Duration::from_millis(1);
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
    process::settle_in(c"5s", Beat::Slow);
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
    has_begun: bool,
    has_kept_house: bool,
    follower: Follower,
    changes: Changes,
    /// When it is looked again whether an index or a change of model is due.
    index_after: Instant,
    changes_after: Instant,
    errors: u32,
    /// When a step has failed: then what it may have dropped is freed.
    lost_at: Option<Instant>,
    free_after: Instant,
    /// A batch fills: nothing is to be done until `due` but to take in answers.
    is_filling: bool,
    /// What has told of rows may have been a table's definition.
    is_just_told: bool,
    /// The extension was dropped and made again, or has become one that this library does not know.
    is_replaced: bool,
    turn: Turn,
    paces: Paces,
    restore: Restore,
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
            has_begun: false,
            has_kept_house: false,
            follower: Follower::new(),
            changes: Changes::default(),
            index_after: now,
            changes_after: now,
            errors: 0,
            lost_at: None,
            free_after: now,
            is_filling: false,
            is_just_told: false,
            is_replaced: false,
            turn: Turn::new(),
            paces: Paces::new(),
            restore: Restore::new(),
        }
    }

    /// Works until it is not wanted any more; true: because the extension is another now, or of another version.
    fn run(mut self) -> bool {
        worker::was_refused();
        while self.turn() {}
        // Where the extension is gone, there is nothing left to give back to.
        let _ = self.engine.let_go();
        self.is_replaced
    }

    /// Before anything else is done. False: it could not be.
    fn begin(&mut self) -> bool {
        let begun = worker::transaction(|| {
            state::reset();
            repair::all();
            queue::rescue()
        });
        match begun {
            Ok(0) => {}
            Ok(freed) => log!("autoembed: {freed} jobs that an earlier worker had in hand are free again"),
            Err(caught) => {
                log::fails(&Subject::Step, &caught.message, || format!("a step failed: {}", caught.message));
                return false;
            }
        }
        self.has_begun = true;
        true
    }

    /// Whether this worker goes on: its database is not to be dropped, and its extension is there, as it was.
    fn is_wanted(&mut self) -> bool {
        if locks::database_is_wanted() {
            index::end_builder();
            return false;
        }
        self.turn.look();
        let there = || utility::extension_oid().map(|extension| (extension, interface::misfit().is_some()));
        match catch::transaction(there) {
            Ok(Some((found, is_misfit))) if found != self.extension || is_misfit => {
                self.is_replaced = true;
                false
            }
            Ok(None) => false,
            Ok(Some(_)) | Err(_) => true,
        }
    }

    /// Looks at what nobody tells of.
    fn look_around(&mut self) {
        if usage::is_any_noted()
            && let Ok(noted) = worker::transaction(usage::fold)
        {
            self.engine.models.note_others(&noted);
        }
        match self.follower.follow() {
            Ok(Followed::These(vectorizers)) => {
                self.engine.wake(&vectorizers);
                if !vectorizers.is_empty() {
                    self.due.get_or_insert_with(Instant::now);
                    self.changes.look_for_new();
                }
            }
            Ok(Followed::All) => {
                self.engine.wake_resting();
                self.due.get_or_insert_with(Instant::now);
                self.changes.look_for_new();
            }
            // What lasts is told of when all are looked at.
            Err(_) => {}
        }
        let begun = Instant::now();
        let is_looked_for = self.engine.has_backfilled || self.changes.is_any() || index::is_asking();
        if is_looked_for && begun >= self.index_after {
            // What lasts is told of when an index is looked for.
            let _ = index::ask_on();
            self.engine.has_backfilled = index::start_when_due().unwrap_or(true);
            self.index_after = Instant::now() + begun.elapsed() * RARELY;
        }
        let begun = Instant::now();
        if begun >= self.changes_after {
            if let Err(caught) = self.changes.look(&mut self.engine) {
                log::fails(&Subject::Step, &caught.message, || format!("a step failed: {}", caught.message));
            }
            self.changes_after = Instant::now() + (begun.elapsed() * RARELY).min(QUIET);
        }
        // Nothing but a view depends on it.
        let _ = self.paces.look();
    }

    /// One turn of the loop; false: this worker is not wanted any more.
    fn turn(&mut self) -> bool {
        pgrx::check_for_interrupts!();
        if process::reload_settings() {
            self.work = settings::work();
            self.engine.look_everywhere();
            self.engine.wake_resting();
            self.engine.models.try_all_now();
            self.due = Some(Instant::now());
        }
        let is_time = Instant::now() >= self.look_at;
        if is_time {
            self.look_at = Instant::now() + LOOK_AROUND;
            if !self.is_wanted() {
                return false;
            }
        }
        if let Some(pause) = self.restore.pause() {
            process::wait_latch(pause);
            return !self.turn.is_over(0);
        }
        if !self.has_begun && !self.begin() {
            process::wait_latch(LOOK_AROUND);
            return !self.turn.is_over(0);
        }
        if is_time {
            self.look_around();
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
            self.free_after = Instant::now() + begun.elapsed() * RARELY;
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
            index::claim_again();
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
                let pause = Duration::from_millis(100 * u64::from(self.errors.min(50)));
                self.engine.again_in(pause);
                pause
            }
        };
        let pause = if self.changes.is_any() { pause.min(LOOK_AROUND) } else { pause };
        // An answer that is there already does not wait for the latch, which it may have set before it was looked at last.
        let pause = if self.engine.has_answers() { Duration::ZERO } else { pause };
        let is_told = if self.is_filling && std::mem::take(&mut self.is_just_told) {
            // Where a table's rows of before are to be embedded, the batch is full already.
            process::pause(pause.min(TOLD));
            // A backfill comes with a table's new triggers, of which this process is told without asking.
            let is_any_changed = catch::transaction(utility::is_any_table_changed).unwrap_or(false);
            if is_any_changed && worker::transaction(queue::is_any_walk_new).unwrap_or(false) {
                self.due = Some(Instant::now());
            }
            false
        } else if self.is_filling && !pause.is_zero() {
            // Each commit would wake the worker only to find that the batch still fills.
            process::pause(pause.min(if self.engine.in_flight() > 0 { FILLING } else { DEAF }));
            false
        } else {
            process::wait_latch(pause)
        };
        // Nothing should have to wait until the worker looks round, but it is looked for then nevertheless.
        if self.due.is_none() && (is_told || !points::is_set("only_when_told")) {
            self.due = Some(Instant::now() + self.work.batch_delay);
            self.is_just_told = is_told;
        }
        true
    }

    /// Writes what was answered.
    fn take_in(&mut self) -> Result<(), catch::Caught> {
        while self.engine.receive(&self.work)? {
            pgrx::check_for_interrupts!();
            // Where more rows wait, the next request goes out before the next answer is written: the model works meanwhile.
            if !self.turn.is_ending() && self.due.is_some_and(|due| due <= Instant::now()) {
                break;
            }
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
            keep::house(&self.work, !std::mem::replace(&mut self.has_kept_house, true))?;
            keep::follow_tables()?;
            self.changes.look_for_new();
            self.engine.models.keep_only(&worker::transaction(catalog::model_names)?);
            index::start_builders()?;
        }
        if now >= self.poll_at {
            self.poll_at = now + self.work.poll_interval;
            self.engine.look_everywhere();
            self.due = Some(now);
        }
        if self.engine.is_time(now) {
            self.due = Some(now);
        }
        let Some(due) = self.due else {
            let at = self.poll_at.min(self.look_at);
            return Ok(self.engine.next_look().map_or(at, |next| next.min(at)).saturating_duration_since(now));
        };
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
        }
        if let Some(at) = self.engine.next_look() {
            // Time to look that comes before the next poll.
            pause = pause.min(at.saturating_duration_since(now)).max(Duration::from_millis(1));
        }
        Ok(pause)
    }
}
