//! Brings changes of model to their end: see [`crate::pg::change`].
//!
//! | stage | until | meanwhile |
//! |---|---|---|
//! | old snapshots | those are gone that were there when the table was walked | both vectorizers work |
//! | a moment without waiting rows | it is there, or a few seconds are over; then those may wait that wait for both | both work |
//! | the last rows | no row waits for the second vectorizer alone, and snapshots from before that are gone; or the patience is over | only the second one takes rows |
//!
//! Under a steady load the second one always has rows that the first one has done: searches would miss them. So the first one is left alone
//! for a while: what users write from then on waits for both, and the rest is finite. Where it takes longer than the patience, the first one
//! goes on, and the next time is given twice as long: in the end it comes, unless twice as many rows come as the new model takes.
//! Nothing of it is written down: where the process dies, it begins again.

use crate::pg::change::{self, Change};
use crate::pg::error::Error;
use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode};
use crate::pg::ffi::{locks, process, utility};
use crate::pg::swap::{self, Obstacle, Outlook, Swapped};
use crate::worker;
use crate::worker::engine::Engine;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long a moment is waited for in which no row waits at all.
const CALM: Duration = Duration::from_secs(3);
/// How long the last rows may have waited, the first time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest pause between two tries to lock the table.
const LONGEST: Duration = Duration::from_secs(60);
/// How long a session waits for older snapshots.
const IN_SESSION: Duration = Duration::from_secs(5);

const IN_USE: &str = "waiting for a transaction that uses the table; end it if it has been forgotten: see pg_locks";
const OLDER: &str = "waiting for transactions that are older than its vectors; end those that have been forgotten: see pg_stat_activity";
const LAST: &str = "its last rows come first; what is written now is embedded when they are done";

/// A change that only has to be completed.
struct Due {
    /// The vectorizer that is to be replaced.
    first: i32,
    since: Instant,
    /// Snapshots from before the end of the walk.
    snapshots: HashSet<String>,
    /// Snapshots from before the moment since which no row has waited for the second vectorizer alone; `None`: one does.
    ready: Option<HashSet<String>>,
    /// The last batch that the second vectorizer had written then.
    last_batch: i64,
    tries: u32,
    not_before: Instant,
    /// Until when the first vectorizer is left alone, where it is.
    last_rows: Option<Instant>,
    /// How long the last rows may have waited when it is left alone the next time; it is so for twice as long.
    patience: Duration,
    /// And not before then.
    last_rows_at: Instant,
}

impl Due {
    fn new(first: i32, now: Instant, snapshots: &[String]) -> Due {
        Due {
            first,
            since: now,
            snapshots: snapshots.iter().cloned().collect(),
            ready: None,
            last_batch: 0,
            tries: 0,
            not_before: now,
            last_rows: None,
            patience: PATIENCE,
            last_rows_at: now,
        }
    }

    /// Takes in what is seen now.
    fn see(&mut self, outlook: &Outlook) {
        let are_there = |snapshot: &String| outlook.snapshots.contains(snapshot);
        self.snapshots.retain(are_there);
        // Between two looks a row may have waited for the second one alone, unless the first one is left alone.
        let may_have_waited = self.last_rows.is_none() && self.last_batch != outlook.rows.last_batch;
        self.last_batch = outlook.rows.last_batch;
        if may_have_waited {
            self.ready = None;
        }
        match outlook.rows.behind {
            Some(_) => self.ready = None,
            None => {
                self.ready.get_or_insert_with(|| outlook.snapshots.iter().cloned().collect()).retain(are_there);
            }
        }
    }

    /// The first vectorizer goes on.
    fn go_on(&mut self, engine: &mut Engine) {
        if self.last_rows.take().is_some() {
            engine.wake(&[self.first]);
        }
    }

    /// The next time is given longer, and comes when as much time has gone by.
    fn grow(&mut self, now: Instant) {
        self.last_rows_at = now + self.patience;
        self.patience = self.patience.saturating_mul(2);
    }

    /// What the change waits for, as far as it is a matter of rows and their snapshots; `None`: it may be completed now.
    fn waits_for(&mut self, outlook: &Outlook, now: Instant, engine: &mut Engine) -> Option<Shown> {
        let is_early = now <= self.since + CALM;
        if !self.snapshots.is_empty() {
            return Some(if is_early { Shown::Nothing } else { Shown::Waits(OLDER) });
        }
        if let Some(until) = self.last_rows {
            if now <= until && !outlook.is_in_trouble {
                // It may have been woken for another reason.
                engine.leave_alone(self.first, until);
                let is_ready = self.ready.as_ref().is_some_and(HashSet::is_empty);
                return (!is_ready).then_some(Shown::Waits(LAST));
            }
            self.go_on(engine);
            self.snapshots = outlook.snapshots.iter().cloned().collect();
            self.grow(now);
            return Some(Shown::Nothing);
        }
        if now < self.not_before || is_early && outlook.rows.is_any {
            return Some(Shown::Nothing);
        }
        let Some(age) = outlook.rows.behind else {
            let is_ready = self.ready.as_ref().is_some_and(HashSet::is_empty);
            return (!is_ready).then_some(if is_early { Shown::Nothing } else { Shown::Waits(OLDER) });
        };
        if now < self.last_rows_at || outlook.is_in_trouble {
            return Some(Shown::Nothing);
        }
        if outlook.is_in_use {
            return Some(Shown::Waits(IN_USE));
        }
        if age > self.patience.as_secs_f64() {
            // They would not be done in time.
            self.grow(now);
            return Some(Shown::Nothing);
        }
        // They take as long as they have waited, and longer where more come than are done.
        let until = now + self.patience.saturating_mul(2);
        engine.leave_alone(self.first, until);
        self.last_rows = Some(until);
        Some(Shown::Waits(LAST))
    }
}

/// The changes of this database, as its worker knows them.
#[derive(Default)]
pub struct Changes {
    due: HashMap<i32, Due>,
    is_any: bool,
}

/// What is shown of a change, where it does not go on by itself at once.
enum Shown {
    Nothing,
    Waits(&'static str),
    Blocked(String),
}

impl Changes {
    /// There may be new ones.
    pub fn look_for_new(&mut self) {
        self.is_any = true;
    }

    /// Whether one is under way.
    pub fn is_any(&self) -> bool {
        self.is_any
    }

    /// Completes those that can be completed.
    pub fn look(&mut self, engine: &mut Engine) -> Result<(), Caught> {
        if !self.is_any {
            return Ok(());
        }
        let changes = worker::transaction(change::all)?;
        self.is_any = !changes.is_empty();
        self.due.retain(|id, due| {
            let is_there = changes.iter().any(|change| change.id == *id);
            if !is_there {
                due.go_on(engine);
            }
            is_there
        });
        for change in &changes {
            let shown = self.take_on(change, engine)?;
            worker::transaction(|| show(change, &shown))?;
        }
        Ok(())
    }

    fn take_on(&mut self, change: &Change, engine: &mut Engine) -> Result<Shown, Caught> {
        let Some(outlook) = worker::transaction(|| swap::outlook(change))? else {
            if let Some(mut due) = self.due.remove(&change.id) {
                due.go_on(engine);
            }
            return Ok(Shown::Nothing);
        };
        let now = Instant::now();
        let due = self.due.entry(change.id).or_insert_with(|| Due::new(change.of, now, &outlook.snapshots));
        due.see(&outlook);
        if let Some(obstacle) = outlook.obstacle {
            due.go_on(engine);
            return Ok(Shown::Blocked(in_the_way(obstacle)));
        }
        if let Some(shown) = due.waits_for(&outlook, now, engine) {
            return Ok(shown);
        }
        let swapped = worker::transaction(|| swap::swap(change));
        due.tries += 1;
        if due.last_rows.is_none() {
            let pause = Duration::from_secs(1).saturating_mul(1 << due.tries.min(6));
            due.not_before = now + pause.min(LONGEST);
        }
        match swapped {
            Ok(Swapped::Done) => {
                due.go_on(engine);
                self.due.remove(&change.id);
                engine.retire(change.of, change.id);
                pgrx::log!("autoembed: vectorizer {} has the vectors of model \"{}\" now", change.of, change.model);
                Ok(Shown::Nothing)
            }
            Ok(Swapped::InUse) => {
                // It was not even asked for.
                due.tries = 0;
                due.not_before = now;
                Ok(Shown::Waits(IN_USE))
            }
            Ok(Swapped::Later) => Ok(Shown::Nothing),
            Err(caught) if is_of_others(&caught) => Ok(Shown::Waits(IN_USE)),
            Err(caught) => Ok(Shown::Blocked(could_not(&caught))),
        }
    }
}

/// Whether an error says that others use the table.
fn is_of_others(caught: &Caught) -> bool {
    caught.is_contention() || caught.sqlstate() == "55006"
}

fn in_the_way(obstacle: Obstacle) -> String {
    match obstacle {
        Obstacle::Column(what) => what,
        Obstacle::NoIndex(statements) => {
            format!("an index over the new vectors is missing; {}", statements.join("; "))
        }
    }
}

fn could_not(caught: &Caught) -> String {
    let hint =
        caught.hint.clone().unwrap_or_else(|| "mend it, or end the change with set_model() and the old model".into());
    format!("{}; {hint}", caught.message)
}

/// Writes down what is shown of a change in the view `status`.
fn show(change: &Change, shown: &Shown) {
    const SQL: &str =
        "UPDATE autoembed.vectorizer SET held_up_by = $2 WHERE id = $1 AND held_up_by IS DISTINCT FROM $2";
    let text = match shown {
        Shown::Nothing => None,
        Shown::Waits(what) => Some(format!("active: changing to model \"{}\": {what}", change.model)),
        Shown::Blocked(what) => Some(format!("blocked: changing to model \"{}\": {what}", change.model)),
    };
    let args = [spi::Arg::new(change.id), spi::Arg::new::<String>(text.clone())];
    let written = as_extension(|| {
        spi::planned(SQL, &args, Mode::Write, |_| ());
        spi::processed()
    });
    if let Some(text) = text.filter(|text| written > 0 && text.starts_with("blocked")) {
        pgrx::log!("autoembed: vectorizer {} is {text}", change.of);
    }
}

/// embed_pending(): where no worker serves this database, completes those changes of which no row waited for the new model alone when it
/// was called. What it embeds itself, others cannot see before it ends: that is for the next call.
pub fn in_session(scope: &HashSet<i32>) {
    if !utility::extension_oid().is_some_and(locks::is_without_worker) {
        return;
    }
    for change in change::all().iter().filter(|change| scope.contains(&change.of)) {
        let Some(Outlook { rows, snapshots, mut obstacle, .. }) = swap::outlook(change) else { continue };
        if rows.behind.is_some() {
            continue;
        }
        if matches!(obstacle, Some(Obstacle::NoIndex(_))) && swap::is_small(change) {
            // It is built with the swap.
            obstacle = None;
        }
        let shown = match obstacle {
            Some(obstacle) => Shown::Blocked(in_the_way(obstacle)),
            None if !are_over(&snapshots) => Shown::Waits(OLDER),
            None => match subtransaction(|| swap::swap(change)) {
                Ok(Swapped::Done) => continue,
                Ok(Swapped::InUse) => Shown::Waits(IN_USE),
                Ok(Swapped::Later) => Shown::Nothing,
                Err(caught) if is_of_others(&caught) => Shown::Waits(IN_USE),
                Err(caught) => Shown::Blocked(could_not(&caught)),
            },
        };
        if let Shown::Blocked(what) = &shown {
            let (what, hint) = what.split_once("; ").unwrap_or((what, "See autoembed.status."));
            Error::state(format!("the change to model \"{}\" is not completed: {what}", change.model), hint).warn();
        }
        show(change, &shown);
    }
}

/// Waits until these snapshots are gone; false: they have lasted too long.
fn are_over(snapshots: &[String]) -> bool {
    let begun = Instant::now();
    let mut snapshots = snapshots.to_vec();
    while !snapshots.is_empty() {
        if begun.elapsed() > IN_SESSION {
            return false;
        }
        process::wait_latch(Duration::from_millis(20));
        let now = swap::snapshots();
        snapshots.retain(|snapshot| now.contains(snapshot));
    }
    true
}
