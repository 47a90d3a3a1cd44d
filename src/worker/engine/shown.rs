//! What people are told of models and tables, as far as the loop itself finds it.

use super::backlog::Backlog;
use super::{Accused, Engine};
use crate::pg::ffi::catch::Caught;
use crate::pg::queue;
use crate::worker::state;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long it is waited for what a model that is asked says.
const DOUBT: Duration = Duration::from_secs(3);
/// A lock on a table that lasts longer is told of.
const LOCKED_LONG: Duration = Duration::from_secs(5);
/// Which models rows wait for is looked up so often, where one of them does not work.
const WAITED_AGE: Duration = Duration::from_secs(1);

/// What has to be known for that.
#[derive(Default)]
pub(super) struct Watched {
    /// Vectorizers whose tables others have locked, since when.
    locked: HashMap<i32, Instant>,
    /// Models that rows wait for, as of the last look.
    models: HashSet<String>,
    models_at: Option<Instant>,
    pub(super) backlog: Backlog,
}

impl Engine {
    /// Writes down which models cannot be called, where that has changed.
    pub(super) fn show_states(&mut self) -> Result<(), Caught> {
        if self.in_session {
            return Ok(());
        }
        // What is wrong with a model that is being asked is known better in a moment.
        let is_fresh = |accused: &Vec<Accused>| accused.iter().any(|accused| accused.since.elapsed() < DOUBT);
        let in_doubt: Vec<&String> =
            self.accused.iter().filter(|(_, accused)| is_fresh(accused)).map(|(name, _)| name).collect();
        // A model that no row waits for stops nothing; whether it works again is found out when one does, without a request before.
        if self.models.are_any_shown() && self.watched.models_at.is_none_or(|at| at.elapsed() > WAITED_AGE) {
            self.watched.models = self.step(queue::models_waited_for)?;
            self.watched.models_at = Some(Instant::now());
        }
        let (waited_for, models) = (&self.watched.models, &mut self.models);
        let changed = models.changed(|name| !in_doubt.contains(&name), |name| waited_for.contains(name));
        if changed.is_empty() {
            return Ok(());
        }
        changed.iter().for_each(|(model, shown)| state::tell(model, shown));
        self.step(|| changed.iter().for_each(|(model, shown)| state::write(model, shown)))
    }

    /// Tells of a table that has been locked for long.
    pub(super) fn note_lock(&mut self, id: i32, is_locked: bool) -> Result<(), Caught> {
        if !is_locked {
            self.watched.locked.remove(&id);
            return Ok(());
        }
        let since = *self.watched.locked.entry(id).or_insert_with(Instant::now);
        if since.elapsed() > LOCKED_LONG && !self.in_session { self.step(|| state::note_lock(id)) } else { Ok(()) }
    }
}
