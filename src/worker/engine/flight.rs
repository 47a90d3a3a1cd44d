//! One request: out with its texts, back with vectors or a failure.

use super::{Engine, Flight, Returned};
use crate::pg::call::{self, Called, Endpoint};
use crate::pg::catalog::StoredModel;
use crate::pg::ffi::catch::Caught;
use crate::pg::queue;
use crate::pg::settings::Work;
use crate::worker::batch::Batch;
use crate::worker::finish::{self, Call};
use crate::worker::gather;
use crate::worker::models::policy;
use autoembed_core::governor::Arrival;
use autoembed_core::learned::{Load, shorter};
use autoembed_core::model::TooLong;
use autoembed_core::{Action, Failure, InputKind, Part, Vectors, usage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Rows that failed alone and are remembered.
const REMEMBERED: usize = 10_000;
/// What a model is asked when no row that has not failed is there to try it with.
const PROBE: &str = "hello";
const PROBE_LOAD: Load = Load { inputs: 1, tokens: 2, bytes: PROBE.len() };

impl Engine {
    /// Sends a batch; `None`: a fixed word, to see whether the model works.
    pub(super) fn launch(&mut self, batch: Option<Batch>, stored: StoredModel, work: &Work) {
        let texts = batch.as_ref().map_or_else(|| vec![PROBE.to_string()], |batch| batch.texts.clone());
        let load = batch.as_ref().map_or(PROBE_LOAD, |batch| batch.load);
        let ticket = self.models.sent(&stored, work, load);
        self.next_flight += 1;
        let flight = self.next_flight;
        if let Some(batch) = &batch {
            self.fly(flight, batch);
        }
        let endpoint = call::endpoint(&stored);
        self.flights.insert(flight, Flight { batch, stored, ticket, followers: Vec::new() });
        self.pool.resize(work.max_concurrent_requests.saturating_mul(self.models.len().max(1)));
        self.pool.submit(move || {
            let started = Instant::now();
            let called = match endpoint {
                Ok(endpoint) => call(&endpoint, &texts),
                Err(failure) => Called::unanswered(failure),
            };
            Returned { flight, called, took: started.elapsed() }
        });
    }

    /// Takes in one answer that has come; false: none has.
    pub fn receive(&mut self, work: &Work) -> Result<bool, Caught> {
        let returned = match self.pool.try_recv() {
            Some(Ok(returned)) => returned,
            Some(Err(_)) => return self.abandon_lost(work).map(|()| true),
            None => return Ok(false),
        };
        let Some(mut flight) = self.flights.remove(&returned.flight) else { return Ok(true) };
        if let Some(batch) = &flight.batch {
            self.land(returned.flight, batch);
        }
        let Called { result, status, headers } = returned.called;
        let arrival = Arrival { now: self.models.now(), took: returned.took, status, headers };
        match result {
            Ok(answer) => self.answered(flight, &arrival, &answer.vectors, answer.tokens, work)?,
            Err(failure) => {
                let followers = std::mem::take(&mut flight.followers);
                self.keep_again(followers);
                self.refused(flight, &arrival, failure, work)?;
            }
        }
        self.show_states()?;
        Ok(true)
    }

    fn answered(
        &mut self,
        flight: Flight,
        arrival: &Arrival,
        vectors: &Vectors,
        tokens: Option<u64>,
        work: &Work,
    ) -> Result<(), Caught> {
        let stored = &flight.stored;
        let policy = policy(stored, work);
        let governor = &mut self.models.get(stored, work).governor;
        let booked = governor.on_success(flight.ticket, arrival, &policy, tokens);
        let call = Call::of(stored, arrival, booked);
        match &flight.batch {
            Some(batch) => {
                Self::remember(batch, vectors);
                self.write(batch, stored, vectors, Some(call), work)?;
                self.serve_followers(flight, vectors, work)
            }
            None => self.log_probe(&call, None),
        }
    }

    fn refused(&mut self, flight: Flight, arrival: &Arrival, failure: Failure, work: &Work) -> Result<(), Caught> {
        let alone = flight.batch.as_ref().filter(|b| b.texts.len() == 1).and_then(|b| b.items.first());
        let key = alone.zip(flight.batch.as_ref()).map(|(item, b)| (b.vectorizer, item.key.clone()));
        let before = key.as_ref().and_then(|key| self.failed_alone.get(key).copied());
        let governor = &mut self.models.get(&flight.stored, work).governor;
        let (verdict, booked) = governor.on_failure(flight.ticket, arrival, &failure, before, finish::chance());
        if let Some(key) = key.filter(|_| failure.action == Action::Retry) {
            if self.failed_alone.len() >= REMEMBERED {
                self.failed_alone.clear();
            }
            self.failed_alone.insert(key, arrival.now);
        }
        self.last_failure = Some((flight.stored.model.name.clone(), failure.clone()));
        let call = Call::of(&flight.stored, arrival, booked);
        match flight.batch {
            Some(batch) => self.failed(batch, flight.stored, failure, verdict.charge, &call, work),
            None => self.log_probe(&call, Some(&failure)),
        }
    }

    /// A request that was of no vectorizer costs nevertheless.
    fn log_probe(&mut self, call: &Call, failure: Option<&Failure>) -> Result<(), Caught> {
        let entry = call.entry(PROBE_LOAD.inputs, Default::default(), failure);
        self.step(|| queue::log(None, &entry))
    }

    /// Writes vectors; `call`: the request that brought them, `None`: they were known.
    pub(super) fn write(
        &mut self,
        batch: &Batch,
        stored: &StoredModel,
        vectors: &Vectors,
        call: Option<Call>,
        work: &Work,
    ) -> Result<(), Caught> {
        let written = self.step(|| {
            let written = match gather::load(batch.vectorizer) {
                Some(context) if context.stored.model.dimensions == vectors.dimensions => {
                    finish::write(&context, batch, vectors, work)
                }
                context => {
                    let pause = if context.is_some() { Duration::ZERO } else { Duration::from_secs(5) };
                    finish::give_back(batch, pause);
                    Default::default()
                }
            };
            let entry = match &call {
                Some(call) => call.entry(batch.load.inputs, written, None),
                None => Call::none(stored).known(batch.texts.len(), written),
            };
            queue::log(Some(batch.vectorizer), &entry);
            written
        });
        match written {
            Ok(written) => {
                self.written += written.rows as u64;
                if written.rows < batch.items.len() {
                    // Some rows may have been put back.
                    self.forget_hints(batch.vectorizer);
                    self.again_in(finish::LOCKED_PAUSE);
                }
                if !self.failed_alone.is_empty() {
                    for item in &batch.items {
                        self.failed_alone.remove(&(batch.vectorizer, item.key.clone()));
                    }
                }
                Ok(())
            }
            Err(caught) => {
                // The whole step failed, for instance at commit: the rows are free again after a while.
                self.forget_hints(batch.vectorizer);
                self.step(|| finish::give_back(batch, Duration::from_secs(5)))?;
                Err(caught)
            }
        }
    }

    fn failed(
        &mut self,
        batch: Batch,
        stored: StoredModel,
        failure: Failure,
        charge: bool,
        call: &Call,
        work: &Work,
    ) -> Result<(), Caught> {
        self.forget_hints(batch.vectorizer);
        let entry = call.entry(batch.load.inputs, Default::default(), Some(&failure));
        let id = batch.vectorizer;
        let batch = match self.in_pieces(batch, &stored, &failure, work) {
            Ok(pieces) => {
                pieces.into_iter().rev().for_each(|batch| self.ready.push_front((batch, stored.clone())));
                return self.step(|| queue::log(Some(id), &entry));
            }
            Err(batch) => *batch,
        };
        self.step(|| {
            queue::log(Some(id), &entry);
            match failure.action {
                Action::Reject | Action::Split => finish::reject(&batch, &failure),
                Action::Retry if charge || failure.blames_input => finish::charge(&batch, &failure, work),
                Action::Retry if batch.texts.len() == 1 => finish::give_back(&batch, work.retry_base),
                Action::Retry | Action::SlowDown { .. } | Action::Halt => finish::give_back(&batch, Duration::ZERO),
            }
        })
        .map(|_| ())
    }

    /// What goes out again at once in place of a batch that was refused, where anything does: texts cut to what the server
    /// takes, the batch by the limit that it has named, or its halves.
    fn in_pieces(
        &mut self,
        batch: Batch,
        stored: &StoredModel,
        failure: &Failure,
        work: &Work,
    ) -> Result<Vec<Batch>, Box<Batch>> {
        if !matches!(failure.action, Action::Split | Action::Reject) {
            return Err(Box::new(batch));
        }
        let limits = self.models.get(stored, work).governor.limits(&stored.model.limits);
        let mut batch = batch;
        if let Some(what) = failure.oversize.as_ref().filter(|_| stored.model.too_long() == TooLong::Truncate) {
            let longest = batch.items.iter().map(|item| item.tokens).max().unwrap_or(0);
            let most = match what.part {
                // Among several it is not known which one was too long; it was hardly longer than the longest.
                Part::Input if batch.texts.len() == 1 || what.found.is_some() => {
                    shorter(longest, what).min(limits.input_tokens)
                }
                Part::Input => limits.input_tokens,
                Part::Batch => usize::MAX,
            };
            batch = match batch.shorten(most) {
                Ok(shorter) => return Ok(vec![shorter]),
                Err(batch) => *batch,
            };
        }
        if failure.action == Action::Split && !batch.fits(&limits) {
            // It is packed anew when it is its turn.
            return Ok(vec![batch]);
        }
        let (left, right) = batch.bisect()?;
        Ok(vec![left, right])
    }
}

fn call(endpoint: &Endpoint, texts: &[String]) -> Called {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    catch_unwind(AssertUnwindSafe(|| endpoint.call(InputKind::Document, &texts))).unwrap_or_else(|_| {
        let hint = "This is a fault of autoembed; please report it with the server's log.";
        Called::unanswered(Failure::new(Action::Retry, "internal", "the call of the model panicked", hint))
    })
}

impl Call {
    fn of(stored: &StoredModel, arrival: &Arrival, booked: u64) -> Call {
        // The built-in model costs nothing.
        let tokens = stored.model.provider.is_remote().then_some(booked);
        Call {
            model: stored.model.name.clone(),
            took: arrival.took,
            status: arrival.status,
            tokens,
            cost: usage::cost(tokens.unwrap_or(0), stored.model.price_per_million_tokens()),
        }
    }

    fn none(stored: &StoredModel) -> Call {
        Call { model: stored.model.name.clone(), took: Duration::ZERO, status: None, tokens: None, cost: 0.0 }
    }
}
