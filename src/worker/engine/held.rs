//! What an engine holds of the queue: leases that must not run out, and rows that go back when nothing will come of them.

use super::Engine;
use crate::pg::ffi::catch::Caught;
use crate::pg::queue::{self, BACKFILL, LIVE};
use crate::pg::settings::Work;
use crate::worker::batch::{Batch, Item};
use crate::worker::finish;
use crate::worker::gather::Busy;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Longest pause of a vectorizer whose table refuses vectors.
const REFUSED: Duration = Duration::from_secs(300);

impl Engine {
    /// Rows of a vectorizer that are on their way.
    fn items(&self, id: i32) -> impl Iterator<Item = &Item> {
        let flying = self.flights.values().filter_map(|flight| flight.batch.as_ref());
        let accused = self.accused.values().flatten().map(|accused| &accused.batch);
        let batches = flying.chain(&self.ready).chain(accused).filter(move |b| b.vectorizer == id);
        let kept = self.buffers.iter().filter(move |((of, _), _)| *of == id).flat_map(|(_, items)| items);
        let followers = self.flights.values().flat_map(|flight| &flight.followers);
        let followers = followers.filter(move |(of, _)| *of == id).map(|(_, item)| item);
        batches.flat_map(|batch| &batch.items).chain(kept).chain(followers)
    }

    pub(super) fn busy(&self, id: i32) -> Busy {
        let mut busy = Busy::default();
        for item in self.items(id) {
            busy.keys.insert(item.row().key.clone());
            busy.jobs.extend(item.jobs.iter().map(|job| job.id));
        }
        busy
    }

    fn vectorizers(&self) -> HashSet<i32> {
        let flying = self.flights.values().filter_map(|flight| flight.batch.as_ref());
        let accused = self.accused.values().flatten().map(|accused| &accused.batch);
        let batches = flying.chain(&self.ready).chain(accused).map(|batch| batch.vectorizer);
        let followers = self.flights.values().flat_map(|flight| flight.followers.iter().map(|(id, _)| *id));
        batches.chain(self.buffers.keys().map(|(id, _)| *id)).chain(followers).collect()
    }

    /// Makes the leases of what is on its way last, long before they run out.
    pub fn renew_leases(&mut self, work: &Work) -> Result<(), Caught> {
        if self.renewed.elapsed() < work.lease / 3 {
            return Ok(());
        }
        self.renewed = Instant::now();
        let ids = self.vectorizers();
        self.step(|| {
            for id in ids {
                queue::renew(id, self.items(id).flat_map(|item| &item.jobs), work.lease);
            }
        })
    }

    /// Frees what is claimed and in hand no more: a step that failed has dropped it. To be called between two turns.
    pub fn free_lost(&mut self, work: &Work) -> Result<(), Caught> {
        let held = self.vectorizers().into_iter().flat_map(|id| self.items(id)).flat_map(|item| &item.jobs);
        let held: Vec<i64> = held.map(|job| job.id).collect();
        if self.step(|| queue::free_all_but(held, work.retry_base))? > 0 {
            self.look_everywhere();
            self.again_in(work.retry_base);
        }
        Ok(())
    }

    /// Renews leases while a batch is written in portions, for what is left of it from `done` on.
    pub(super) fn renew_rest(&mut self, batch: &Batch, done: usize, work: &Work) -> Result<(), Caught> {
        if self.renewed.elapsed() < work.lease / 3 {
            return Ok(());
        }
        self.step(|| {
            queue::renew(batch.vectorizer, batch.items[done..].iter().flat_map(|item| &item.jobs), work.lease)
        })?;
        self.renew_leases(work)
    }

    /// Gives back what is kept for vectorizers that are not among those to work for: paused, disabled or gone.
    pub(super) fn drop_orphans(&mut self, wanted: &HashSet<i32>) -> Result<(), Caught> {
        let is_wanted = |id: i32| wanted.contains(&id);
        if self.vectorizers().into_iter().all(is_wanted) {
            return Ok(());
        }
        let orphans: Vec<(i32, i16)> = self.buffers.keys().filter(|(id, _)| !is_wanted(*id)).copied().collect();
        let mut batches = Vec::new();
        for _ in 0..self.ready.len() {
            match self.ready.pop_front() {
                Some(batch) if !is_wanted(batch.vectorizer) => batches.push(batch),
                Some(other) => self.ready.push_back(other),
                None => break,
            }
        }
        let kept: Vec<(i32, Vec<Item>)> =
            orphans.iter().filter_map(|key| Some((key.0, self.buffers.remove(key)?))).collect();
        self.step(|| give_all_back(&batches, &kept))
    }

    /// Gives back what is kept for one lane of a vectorizer.
    pub(super) fn give_back_kept(&mut self, place: (i32, i16)) -> Result<(), Caught> {
        match self.buffers.remove(&place) {
            Some(items) => self.step(|| give_all_back(&[], &[(place.0, items)])),
            None => Ok(()),
        }
    }

    /// Leaves a vectorizer alone whose table has refused vectors: each of them was paid for.
    pub(super) fn rest_refused(&mut self, id: i32, work: &Work) -> Result<(), Caught> {
        if self.resting.get(&id).is_some_and(|until| *until > Instant::now()) {
            return Ok(());
        }
        let times = self.refusals.entry(id).or_default();
        let pause = (finish::REFUSED_PAUSE * 2u32.saturating_pow(*times)).min(REFUSED).min(work.retry_max);
        *times = times.saturating_add(1).min(16);
        self.rest(id, pause);
        self.give_back_of(id, pause)
    }

    /// Gives back what is kept for a vectorizer, but for what is on its way.
    pub(super) fn give_back_of(&mut self, id: i32, pause: Duration) -> Result<(), Caught> {
        let (mine, others): (VecDeque<Batch>, VecDeque<Batch>) =
            std::mem::take(&mut self.ready).into_iter().partition(|batch| batch.vectorizer == id);
        self.ready = others;
        let kept: Vec<Item> =
            [LIVE, BACKFILL].iter().filter_map(|lane| self.buffers.remove(&(id, *lane))).flatten().collect();
        if mine.is_empty() && kept.is_empty() {
            return Ok(());
        }
        self.forget_hints(id);
        self.step(|| {
            mine.iter().for_each(|batch| finish::give_back(batch, pause));
            finish::release(id, kept.iter(), pause);
        })
    }

    /// A call ended without telling which one it was: when none is under way any more, what is still waited for is lost.
    pub(super) fn abandon_lost(&mut self) -> Result<(), Caught> {
        if self.pool.in_flight() > 0 {
            return Ok(());
        }
        let (now, mut batches, mut followers) = (self.models.now(), Vec::new(), Vec::new());
        self.flying.clear();
        for (_, flight) in std::mem::take(&mut self.flights) {
            if let Some(known) = self.models.called(&flight.stored.model.name) {
                known.governor.on_abandon(flight.ticket, now);
            }
            followers.extend(flight.followers);
            batches.extend(flight.batch);
        }
        self.keep_again(followers);
        self.step(|| give_all_back(&batches, &[]))
    }

    /// Gives everything back that is claimed; answers that are still to come count for nothing.
    pub fn let_go(&mut self) -> Result<(), Caught> {
        let mut batches: Vec<Batch> = self.ready.drain(..).collect();
        batches.extend(self.accused.drain().flat_map(|(_, accused)| accused).map(|accused| accused.batch));
        self.note_lost();
        self.flying.clear();
        for flight in std::mem::take(&mut self.flights).into_values() {
            batches.extend(flight.batch);
            self.keep_again(flight.followers);
        }
        let kept: Vec<(i32, Vec<Item>)> = self.buffers.drain().map(|((id, _), items)| (id, items)).collect();
        self.step(|| give_all_back(&batches, &kept))
    }

    /// Takes nothing new of a vectorizer for so long, unless [`Engine::wake`] comes before.
    pub fn leave_alone(&mut self, id: i32, until: Instant) {
        self.resting.insert(id, until);
    }

    /// A change of model is completed: what is held or on its way for vectorizer `first`, by its old model, and for `second`, which is no
    /// more, counts for nothing. Their jobs are gone, or free again.
    pub fn retire(&mut self, first: i32, second: i32) {
        // As with any vectorizer that was disabled meanwhile: answers for one that is not there are dropped.
        let gone = |id: &mut i32| *id = if *id == first { second } else { *id };
        self.flights
            .values_mut()
            .filter_map(|flight| flight.batch.as_mut())
            .for_each(|batch| gone(&mut batch.vectorizer));
        self.flights.values_mut().flat_map(|flight| &mut flight.followers).for_each(|(id, _)| gone(id));
        self.accused.values_mut().flatten().for_each(|accused| gone(&mut accused.batch.vectorizer));
        self.ready.retain(|batch| batch.vectorizer != first && batch.vectorizer != second);
        self.buffers.retain(|(id, _), _| *id != first && *id != second);
        self.failed_alone.retain(|(id, _), _| *id != first && *id != second);
        self.resting.remove(&first);
        self.refusals.remove(&first);
        self.forget_hints(first);
        self.again_in(Duration::ZERO);
    }

    /// Whether an answer has come that was not taken in.
    pub fn has_answers(&mut self) -> bool {
        if self.answered.is_none() {
            self.answered = self.pool.try_recv();
        }
        self.answered.is_some()
    }

    /// Whether claimed rows wait to be sent.
    pub fn holds_rows(&self) -> bool {
        !self.ready.is_empty() || !self.buffers.is_empty() || !self.accused.is_empty()
    }
}

fn give_all_back(batches: &[Batch], kept: &[(i32, Vec<Item>)]) {
    for batch in batches {
        finish::give_back(batch, Duration::ZERO);
    }
    for (id, items) in kept {
        finish::release(*id, items.iter(), Duration::ZERO);
    }
}
