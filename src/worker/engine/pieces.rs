//! Pieces of rows, where they are not like rows: their vectors are gathered until a row has all of them.

use super::Engine;
use crate::pg::catalog::StoredModel;
use crate::pg::ffi::catch::Caught;
use crate::pg::queue;
use crate::pg::settings::Work;
use crate::worker::batch::{Batch, Item};
use crate::worker::finish::{self, Call, Written};
use crate::worker::gather;
use crate::worker::pieces::{Complete, InPieces};
use autoembed_core::{Action, Failure, Vectors};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Engine {
    /// Hands out the vectors of a batch of pieces, and writes the rows that have all of theirs; `call` as for [`Engine::write`].
    pub(super) fn write_pieces(
        &mut self,
        batch: &Batch,
        stored: &StoredModel,
        vectors: &Vectors,
        call: Option<Call>,
        work: &Work,
    ) -> Result<(), Caught> {
        let id = batch.vectorizer;
        self.count_backlog()?;
        let mut rows: Vec<Rc<InPieces>> = Vec::new();
        for (i, item) in batch.items.iter().enumerate() {
            self.failed_alone.remove(&(id, item.key.clone()));
            let (Some(part), Some(vector)) = (&item.part, batch.vector(i, vectors)) else { continue };
            if part.take(vector, item.is_cut) {
                rows.push(part.of.clone());
            }
        }
        let known = self.no_call(stored);
        let entry = |written| match &call {
            Some(call) => call.entry(batch.load.inputs, written, None),
            None => known.known(batch.texts.len(), written),
        };
        let all = rows.len();
        let mut rows = rows.into_iter().peekable();
        let mut written = Written::default();
        loop {
            let portion = self.writes.of(id);
            let (mut some, mut pieces): (Vec<Complete>, usize) = (Vec::new(), 0);
            while let Some(row) = rows.next_if(|_| pieces < portion) {
                some.push(row.finish());
                pieces += some.last().map_or(0, |row| row.pieces.len());
            }
            let (is_last, begun) = (rows.peek().is_none(), Instant::now());
            let step = self.step(|| {
                let now = write_rows(id, &some, vectors.dimensions, work);
                let sum = written.and(now);
                if is_last {
                    self.log(id, entry(sum));
                }
                sum
            });
            self.writes.wrote(id, pieces, begun.elapsed());
            match step {
                Ok(sum) => written = sum,
                Err(caught) => {
                    // The whole step failed, for instance at commit: the rows are free again after a while.
                    self.forget_hints(id);
                    let others: Vec<Item> = rows.map(|row| row.row().clone()).collect();
                    let pause = finish::REFUSED_PAUSE.min(work.retry_max);
                    self.step(|| finish::release(id, some.iter().map(|row| &row.row).chain(&others), pause))?;
                    return Err(caught);
                }
            }
            if is_last {
                break;
            }
            self.renew_leases(work)?;
        }
        self.written += written.rows as u64;
        if written.is_refused {
            self.rest_refused(id, work)?;
        } else if written.rows > 0 {
            self.refusals.remove(&id);
        }
        if written.rows < all {
            self.forget_hints(id);
            self.again_in(finish::LOCKED_PAUSE);
        }
        Ok(())
    }

    /// Of pieces that were kept, those whose rows have not been claimed anew meanwhile, which the newer claim stands for; and none of rows
    /// that have gone back. Where vectors that are there do not count, and the newer claim does not know, the older goes back.
    pub(super) fn without_older(&mut self, id: i32, kept: Vec<Item>, new: &[Item]) -> Result<Vec<Item>, Caught> {
        let new = new.iter().filter(|item| item.part.is_some());
        let newer: HashMap<&str, bool> = new.map(|item| (item.row().key.as_str(), item.is_forced())).collect();
        let is_older = |item: &Item| item.part.is_some() && newer.contains_key(item.row().key.as_str());
        let (older, kept): (Vec<Item>, Vec<Item>) = kept.into_iter().partition(|item| item.is_over() || is_older(item));
        let is_handed_on = |item: &Item| !item.is_forced() || newer.get(item.row().key.as_str()) == Some(&true);
        let (superseded, others): (Vec<Item>, Vec<Item>) =
            older.into_iter().filter(|item| !item.is_over()).partition(is_handed_on);
        if superseded.is_empty() && others.is_empty() {
            return Ok(kept);
        }
        superseded.iter().for_each(Item::end);
        self.step(|| {
            queue::complete(id, superseded.iter().flat_map(|item| &item.jobs));
            finish::release(id, others.iter(), finish::LOCKED_PAUSE);
        })?;
        Ok(kept)
    }

    /// Keeps pieces whose request has failed for a reason that will pass: others of their rows have their vectors already.
    pub(super) fn keep_pieces(&mut self, batch: Batch, failure: &Failure) -> Option<Batch> {
        let passes = matches!(failure.action, Action::SlowDown { .. } | Action::Retry) && !failure.blames_input;
        // One that fails alone may be at fault.
        if !passes || batch.texts.len() < 2 || !batch.items.iter().any(|item| item.part.is_some()) {
            return Some(batch);
        }
        let id = batch.vectorizer;
        self.keep_again(batch.items.into_iter().map(|item| (id, item)).collect());
        None
    }
}

/// Writes rows in this transaction; gives them back where the vectorizer or its model is another now.
fn write_rows(id: i32, rows: &[Complete], dimensions: usize, work: &Work) -> Written {
    if rows.is_empty() {
        return Written::default();
    }
    match gather::load(id) {
        Some(context) if context.stored.model.dimensions == dimensions && context.chunks.is_some() => {
            finish::write_in_pieces(&context, rows, work)
        }
        context => {
            let pause = if context.is_some() { Duration::ZERO } else { Duration::from_secs(5) };
            finish::release(id, rows.iter().map(|row| &row.row), pause);
            Written::default()
        }
    }
}
