//! Texts that need no request of their own: their vector is remembered, or on its way for an equal text.

use super::{Engine, Flight, Round};
use crate::pg::cache;
use crate::pg::catalog::StoredModel;
use crate::pg::ffi::catch::Caught;
use crate::pg::queue::{BACKFILL, LIVE};
use crate::pg::settings::{self, Work};
use crate::worker::batch::{Batch, Item, merge};
use autoembed_core::Vectors;
use std::collections::HashMap;

/// Rows that have followed others are written so many at once.
const AT_ONCE: usize = 1000;

impl Engine {
    /// Writes the vectors that are remembered, and has texts that are on their way followed; gives the rest, which is to be sent.
    pub(super) fn settle_known(
        &mut self,
        id: i32,
        stored: &StoredModel,
        items: Vec<Item>,
        round: &mut Round,
        work: &Work,
    ) -> Result<Vec<Item>, Caught> {
        let (mut known, mut vectors, mut unknown) = (Vec::new(), Vec::new(), Vec::with_capacity(items.len()));
        for item in items {
            let Some(key) = &item.memory else {
                unknown.push(item);
                continue;
            };
            if let Some(vector) = cache::get(key).filter(|vector| vector.len() == stored.model.dimensions) {
                known.push(item);
                vectors.push(vector);
            } else if let Some(flight) = self.flying.get(key).and_then(|flight| self.flights.get_mut(flight)) {
                flight.following += item.weight();
                flight.followers.push((id, item));
            } else {
                unknown.push(item);
            }
        }
        if !known.is_empty() {
            round.settled += known.len();
            self.write_known(id, stored, known, &vectors, work)?;
        }
        Ok(unknown)
    }

    fn write_known(
        &mut self,
        id: i32,
        stored: &StoredModel,
        items: Vec<Item>,
        vectors: &[Vec<f32>],
        work: &Work,
    ) -> Result<(), Caught> {
        // A batch keeps the first of equal texts: so do the vectors.
        let firsts: HashMap<&str, usize> =
            items.iter().enumerate().rev().map(|(i, item)| (item.text.as_str(), i)).collect();
        let mut firsts: Vec<usize> = firsts.into_values().collect();
        firsts.sort_unstable();
        let data = firsts.iter().flat_map(|i| vectors[*i].iter().copied()).collect();
        let batch = Batch::new(id, items);
        let vectors = Vectors { dimensions: stored.model.dimensions, data };
        self.write(&batch, stored, &vectors, None, work)
    }

    /// Notes that the texts of a batch are on their way.
    pub(super) fn fly(&mut self, flight: u64, batch: &Batch) {
        self.flying.extend(batch.items.iter().filter_map(|item| Some((item.memory?, flight))));
    }

    /// Notes that they have arrived, or never will.
    pub(super) fn land(&mut self, flight: u64, batch: &Batch) {
        for key in batch.items.iter().filter_map(|item| item.memory) {
            if self.flying.get(&key) == Some(&flight) {
                self.flying.remove(&key);
            }
        }
    }

    /// Remembers the vectors of a batch, the last of them where there is not room for all.
    pub(super) fn remember(batch: &Batch, vectors: &Vectors) {
        let (room, _) = settings::cache();
        for (i, item) in batch.items.iter().enumerate().skip(batch.items.len().saturating_sub(room)) {
            if let (Some(key), Some(vector)) = (item.memory, batch.vector(i, vectors)) {
                cache::put(key, vector);
            }
        }
    }

    /// Writes the vectors of a flight's texts to the rows that have followed it.
    pub(super) fn serve_followers(&mut self, flight: Flight, vectors: &Vectors, work: &Work) -> Result<(), Caught> {
        let Some(batch) = &flight.batch else { return Ok(()) };
        let place: HashMap<cache::Key, usize> =
            batch.items.iter().enumerate().filter_map(|(i, item)| Some((item.memory?, i))).collect();
        let mut by_vectorizer: HashMap<i32, (Vec<Item>, Vec<Vec<f32>>)> = HashMap::new();
        let mut others = Vec::new();
        for (id, item) in flight.followers {
            let at = item.memory.and_then(|key| place.get(&key));
            match at.and_then(|at| batch.vector(*at, vectors)) {
                Some(vector) => {
                    let (items, vectors) = by_vectorizer.entry(id).or_default();
                    items.push(item);
                    vectors.push(vector.to_vec());
                }
                None => others.push((id, item)),
            }
        }
        self.keep_again(others);
        let mut result = Ok(());
        for (id, (mut items, mut vectors)) in by_vectorizer {
            while !items.is_empty() {
                let (more, more_vectors) =
                    (items.split_off(items.len().min(AT_ONCE)), vectors.split_off(vectors.len().min(AT_ONCE)));
                // Where one write fails its rows go back; the others are written nevertheless.
                result = result.and(self.write_known(id, &flight.stored, items, &vectors, work));
                (items, vectors) = (more, more_vectors);
            }
        }
        result
    }

    /// Bytes of the rows that follow texts on their way to a model.
    pub(super) fn following(&self, model: &str) -> usize {
        self.flights.values().filter(|flight| flight.stored.model.name == model).map(|flight| flight.following).sum()
    }

    /// Rows whose flight has brought nothing wait like others.
    pub(super) fn keep_again(&mut self, followers: Vec<(i32, Item)>) {
        let mut by_lane: HashMap<(i32, i16), Vec<Item>> = HashMap::new();
        for (id, item) in followers {
            let lane = if item.jobs.iter().any(|job| job.lane == LIVE) { LIVE } else { BACKFILL };
            by_lane.entry((id, lane)).or_default().push(item);
        }
        for (place, items) in by_lane {
            let kept = self.buffers.remove(&place).unwrap_or_default();
            self.buffers.insert(place, merge(kept, items));
        }
    }
}
