//! One request: out with its texts, back with vectors or a failure.

use super::{Accused, Engine, Flight, Returned, Round};
use crate::pg::call::{self, Called, Endpoint};
use crate::pg::catalog::StoredModel;
use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::locks;
use crate::pg::queue;
use crate::pg::settings::Work;
use crate::points;
use crate::worker::batch::Batch;
use crate::worker::finish::{self, Call};
use crate::worker::gather;
use crate::worker::log::{self, Subject};
use autoembed_core::governor::{Arrival, Gate};
use autoembed_core::learned::{Load, shorter};
use autoembed_core::model::TooLong;
use autoembed_core::usage::{self, Usage};
use autoembed_core::{Action, Failure, InputKind, Part, Vectors};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Rows that failed alone and are remembered.
const REMEMBERED: usize = 10_000;
/// What a model is asked when no row that has not failed is there to try it with.
const PROBE: &str = "hello";
const PROBE_LOAD: Load = Load { inputs: 1, tokens: 5, bytes: PROBE.len() + 4 };

impl Engine {
    /// Sends a batch; `None`: a fixed word, to see whether the model works.
    pub(super) fn launch(&mut self, batch: Option<Batch>, stored: StoredModel, work: &Work) {
        self.next_flight += 1;
        let flight = self.next_flight;
        let texts = match &batch {
            Some(batch) => batch.texts.clone(),
            // Another each time: a gateway that remembers answers must not answer for the model.
            None => vec![format!("{PROBE} {}", flight % 1000)],
        };
        let load = batch.as_ref().map_or(PROBE_LOAD, |batch| batch.load);
        let ticket = self.models.sent(&stored, work, load);
        if let Some(batch) = &batch {
            self.fly(flight, batch);
        }
        points::reach("sending");
        let endpoint = call::endpoint(&stored);
        self.flights.insert(flight, Flight { batch, stored, ticket, followers: Vec::new(), following: 0 });
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
        if self.is_leaving {
            return Ok(false);
        }
        let returned = match self.answered.take().or_else(|| self.pool.try_recv()) {
            Some(Ok(returned)) => returned,
            Some(Err(_)) => return self.abandon_lost().map(|()| true),
            None => return Ok(false),
        };
        points::reach("answered");
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
        let name = flight.stored.model.name.clone();
        let Some(known) = self.models.called(&name) else { return Ok(()) };
        let policy = known.policy;
        let booked = known.governor.on_success(flight.ticket, arrival, &policy, tokens);
        known.works = true;
        known.rejects = 0;
        known.word_refused &= flight.batch.is_some();
        if known.looks_well() {
            // What an earlier worker has said of it is over.
            log::works(&Subject::Model(name.clone()));
        }
        if self.last_failure.as_ref().is_some_and(|(of, _)| *of == name) {
            self.last_failure = None;
        }
        let call = self.call_of(&flight.stored, arrival, booked);
        match &flight.batch {
            Some(batch) => {
                self.note(&call, batch.load.inputs, false);
                Self::remember(batch, vectors);
                let written = self.write(batch, &flight.stored, vectors, Some(call), work);
                self.serve_followers(flight, vectors, work).and(written)
            }
            None => {
                self.note(&call, PROBE_LOAD.inputs, false);
                let entry = call.entry(PROBE_LOAD.inputs, Default::default(), None);
                self.step(|| queue::log(None, &entry))?;
                self.find_guilty(&name);
                Ok(())
            }
        }
    }

    fn refused(&mut self, flight: Flight, arrival: &Arrival, mut failure: Failure, work: &Work) -> Result<(), Caught> {
        let alone = flight.batch.as_ref().filter(|b| b.texts.len() == 1).and_then(|b| b.items.first());
        let key = alone.zip(flight.batch.as_ref()).map(|(item, b)| (b.vectorizer, item.key.clone()));
        let before = key.as_ref().and_then(|key| self.failed_alone.get(key).copied());
        let name = flight.stored.model.name.clone();
        let Some(known) = self.models.called(&name) else { return Ok(()) };
        if !matches!(failure.action, Action::Split | Action::Reject) {
            log::count(&Subject::Model(name.clone()));
        }
        let is_fair = known.is_fair();
        let is_doubtful = match (&flight.batch, &failure.action) {
            (None, _) | (_, Action::Retry | Action::SlowDown { .. }) => false,
            (_, Action::Halt) => may_be_of_a_text(arrival.status),
            (_, Action::Split | Action::Reject) => !is_fair && failure.oversize.is_none(),
        };
        let mut shown = match &flight.batch {
            Some(_) => in_own_words(&flight.stored, arrival, &failure),
            None => failure.clone(),
        };
        if flight.batch.is_none() {
            known.works = false;
            known.word_refused = matches!(failure.action, Action::Split | Action::Reject);
            if known.word_refused {
                // Who refuses a plain word refuses everything, as far as is known.
                shown.action = Action::Halt;
                shown.hint =
                    "The server refuses even a plain word. See to it there; texts are tried from time to time."
                        .to_string();
                failure = shown.clone();
            }
        } else if is_doubtful {
            let is_suspected = flight.batch.as_ref().is_some_and(|b| b.texts.len() == 1 && b.is_suspected());
            if is_suspected && known.works {
                // As if nobody were let in; but others were, since this text was refused before.
                failure.action = Action::Reject;
            }
            // Whatever it is, it is no outage, and whether the model is to be left alone is asked first.
            shown.action = Action::Reject;
        }
        let (verdict, booked) = known.governor.on_failure(flight.ticket, arrival, &shown, before, finish::chance());
        if let Some(key) = key.filter(|_| failure.action == Action::Retry) {
            if self.failed_alone.len() >= REMEMBERED {
                self.failed_alone.clear();
            }
            self.failed_alone.insert(key, arrival.now);
        }
        let call = self.call_of(&flight.stored, arrival, booked);
        let Some(batch) = flight.batch else {
            self.last_failure = Some((name.clone(), failure.clone()));
            self.note(&call, PROBE_LOAD.inputs, true);
            let entry = call.entry(PROBE_LOAD.inputs, Default::default(), Some(&failure));
            let acquitted = self.accused.remove(&name).unwrap_or_default();
            return self.step(|| {
                queue::log(None, &entry);
                acquitted.iter().for_each(|accused| finish::give_back(&accused.batch, Duration::ZERO));
            });
        };
        if is_doubtful && failure.action != Action::Reject || is_doubtful && !is_fair && !batch.is_suspected() {
            return self.accuse(batch, &flight.stored, failure, &call);
        }
        self.last_failure = Some((name, failure.clone()));
        self.failed(batch, flight.stored, failure, verdict.charge, &call, work)
    }

    /// What a session has sent is counted though its transaction may be rolled back.
    fn note(&self, call: &Call, inputs: usize, failed: bool) {
        if call.is_noted && inputs > 0 {
            let usage = Usage {
                requests: 1,
                inputs: inputs as u64,
                tokens: call.tokens.unwrap_or(0),
                cost: call.cost,
                errors: u64::from(failed),
                cache_hits: 0,
            };
            crate::pg::usage::note(&call.model, usage);
        }
    }

    /// Counts what is under way in a session that ends: it may have been paid for.
    pub(super) fn note_lost(&self) {
        for flight in self.flights.values().filter(|flight| self.in_session && flight.stored.model.provider.is_remote())
        {
            let load = flight.batch.as_ref().map_or(PROBE_LOAD, |batch| batch.load);
            let tokens = load.tokens as u64;
            let cost = usage::cost(tokens, flight.stored.model.price_per_million_tokens());
            let usage = Usage { requests: 1, inputs: load.inputs as u64, tokens, cost, errors: 1, cache_hits: 0 };
            crate::pg::usage::note(&flight.stored.model.name, usage);
        }
    }

    /// Holds a batch back whose failure may be its model's, and has the model asked.
    fn accuse(&mut self, batch: Batch, stored: &StoredModel, failure: Failure, call: &Call) -> Result<(), Caught> {
        self.forget_hints(batch.vectorizer);
        self.note(call, batch.load.inputs, true);
        let entry = call.entry(batch.load.inputs, Default::default(), Some(&failure));
        let id = batch.vectorizer;
        let name = stored.model.name.clone();
        if let Some(known) = self.models.called(&name) {
            known.works = false;
        }
        self.accused.entry(name).or_default().push(Accused {
            batch,
            stored: stored.clone(),
            failure,
            since: Instant::now(),
        });
        self.step(|| self.log(id, entry))
    }

    /// Sends the fixed word to models that have refused a batch, as they are now.
    pub(super) fn ask_for_the_accused(&mut self, work: &Work, round: &mut Round) -> Result<(), Caught> {
        let accused: Vec<(String, i32)> = self
            .accused
            .iter()
            .filter_map(|(name, accused)| Some((name.clone(), accused.first()?.batch.vectorizer)))
            .collect();
        for (name, id) in accused {
            if self.flights.values().any(|f| f.batch.is_none() && f.stored.model.name == name) {
                continue;
            }
            let stored = self.step(|| gather::load(id).map(|context| context.stored))?;
            let Some(stored) = stored.filter(|stored| stored.model.name == name) else {
                let acquitted = self.accused.remove(&name).unwrap_or_default();
                self.step(|| {
                    acquitted.iter().for_each(|accused| finish::give_back(&accused.batch, Duration::ZERO));
                })?;
                continue;
            };
            match self.models.gate(&stored, work) {
                Gate::Open(_) => {
                    self.launch(None, stored, work);
                    round.sent += 1;
                }
                Gate::Wait(pause) => round.wait(pause),
            }
        }
        Ok(())
    }

    /// The model works: the batches that were held back are at fault themselves.
    fn find_guilty(&mut self, model: &str) {
        for Accused { mut batch, stored, failure, .. } in self.accused.remove(model).unwrap_or_default() {
            // What was wrong may have been mended between the two, so a text that is alone has to be refused once more.
            if batch.texts.len() == 1 {
                batch.suspect();
                self.ready.push_back(batch);
                continue;
            }
            let failure = Failure { action: Action::Split, ..failure };
            match self.in_pieces(batch, &stored, &failure) {
                Ok(pieces) => self.ready.extend(pieces),
                Err(batch) => self.ready.push_back(*batch),
            }
        }
    }

    fn reject(&mut self, batch: &Batch, stored: &StoredModel, failure: &Failure, work: &Work) -> Result<(), Caught> {
        if let Some(known) = self.models.called(&stored.model.name) {
            known.rejects = known.rejects.saturating_add(1);
        }
        self.step(|| finish::reject(batch, failure, work))
    }

    /// For vectors that were known.
    pub(super) fn no_call(&self, stored: &StoredModel) -> Call {
        let model = stored.model.name.clone();
        Call { model, took: Duration::ZERO, status: None, tokens: None, cost: 0.0, is_noted: self.in_session }
    }

    fn call_of(&self, stored: &StoredModel, arrival: &Arrival, booked: u64) -> Call {
        // The built-in model costs nothing.
        let tokens = stored.model.provider.is_remote().then_some(booked);
        Call {
            model: stored.model.name.clone(),
            took: arrival.took,
            status: arrival.status,
            tokens,
            cost: usage::cost(tokens.unwrap_or(0), stored.model.price_per_million_tokens()),
            is_noted: self.in_session && tokens.is_some(),
        }
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
        let known = self.no_call(stored);
        if call.is_none() && known.is_noted {
            let cache_hits = batch.texts.len() as u64;
            crate::pg::usage::note(&known.model, Usage { cache_hits, ..Usage::default() });
        }
        if batch.items.iter().any(|item| item.part.is_some()) {
            return self.write_pieces(batch, stored, vectors, call, work);
        }
        self.count_backlog()?;
        let entry = |written| match &call {
            Some(call) => call.entry(batch.load.inputs, written, None),
            None => known.known(batch.texts.len(), written),
        };
        let (mut written, mut done) = (finish::Written::default(), 0_usize);
        loop {
            let rows = done..batch.items.len().min(done.saturating_add(self.writes.of(batch.vectorizer)));
            let (is_last, begun) = (rows.end == batch.items.len(), Instant::now());
            let step = self.step(|| {
                let now = write_rows(batch, rows.clone(), vectors, work);
                let written = written.and(now);
                if is_last {
                    self.log(batch.vectorizer, entry(written));
                }
                written
            });
            self.writes.wrote(batch.vectorizer, rows.len(), begun.elapsed());
            match step {
                Ok(sum) => written = sum,
                Err(caught) => {
                    // The whole step failed, for instance at commit: the rows are free again after a while.
                    self.forget_hints(batch.vectorizer);
                    self.step(|| finish::give_back_from(batch, done, finish::REFUSED_PAUSE.min(work.retry_max)))?;
                    return Err(caught);
                }
            }
            if is_last {
                break;
            }
            done = rows.end;
            if !self.in_session && locks::database_is_wanted() {
                // Who waits for the worker to leave does not wait for a slow table.
                self.is_leaving = true;
                self.step(|| {
                    self.log(batch.vectorizer, entry(written));
                    finish::give_back_from(batch, done, Duration::ZERO);
                })?;
                break;
            }
            self.renew_rest(batch, done, work)?;
        }
        self.written += written.rows as u64;
        if written.is_refused {
            self.rest_refused(batch.vectorizer, work)?;
        } else if written.rows > 0 {
            self.refusals.remove(&batch.vectorizer);
        }
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
        self.note(call, batch.load.inputs, true);
        let entry = call.entry(batch.load.inputs, Default::default(), Some(&failure));
        let id = batch.vectorizer;
        self.step(|| self.log(id, entry))?;
        let batch = match self.in_pieces(batch, &stored, &failure) {
            Ok(pieces) => {
                pieces.into_iter().rev().for_each(|batch| self.ready.push_front(batch));
                return Ok(());
            }
            Err(batch) => *batch,
        };
        let batch = match self.keep_pieces(batch, &failure) {
            Some(batch) => batch,
            None => return Ok(()),
        };
        match failure.action {
            Action::Reject | Action::Split => self.reject(&batch, &stored, &failure, work),
            Action::Retry if charge || failure.blames_input => self.step(|| finish::charge(&batch, &failure, work)),
            Action::Retry if batch.texts.len() == 1 => self.step(|| finish::give_back(&batch, work.retry_base)),
            _ => self.step(|| finish::give_back(&batch, Duration::ZERO)),
        }
    }

    /// What goes out again at once in place of a batch that was refused, where anything does: texts cut to what the server
    /// takes, the batch by the limit that it has named, or its halves.
    fn in_pieces(&mut self, batch: Batch, stored: &StoredModel, failure: &Failure) -> Result<Vec<Batch>, Box<Batch>> {
        if !matches!(failure.action, Action::Split | Action::Reject) {
            return Err(Box::new(batch));
        }
        let Some(known) = self.models.called(&stored.model.name) else { return Err(Box::new(batch)) };
        let limits = known.governor.limits(&stored.model.limits);
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

/// Writes the vectors of these rows of a batch, in this transaction; gives them back where the vectorizer or its model is another now.
fn write_rows(batch: &Batch, rows: Range<usize>, vectors: &Vectors, work: &Work) -> finish::Written {
    match gather::load(batch.vectorizer) {
        Some(context) if context.stored.model.dimensions == vectors.dimensions => {
            finish::write(&context, batch, rows, vectors, work)
        }
        context => {
            let pause = if context.is_some() { Duration::ZERO } else { Duration::from_secs(5) };
            finish::give_back_from(batch, rows.start, pause);
            finish::Written::default()
        }
    }
}

fn call(endpoint: &Endpoint, texts: &[String]) -> Called {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let call = || {
        points::reach_in_thread("call");
        endpoint.call(InputKind::Document, &texts)
    };
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let hint = "This is a fault of autoembed; please report it with the server's log.";
        Called::unanswered(Failure::new(Action::Retry, "internal", "the call of the model panicked", hint))
    })
}

/// Whether a refusal that should stop a model can be one of a text: a firewall's, or one whose words are the text's.
fn may_be_of_a_text(status: Option<u16>) -> bool {
    matches!(status, Some(400 | 403 | 406 | 422 | 451))
}

/// What may be shown to everybody whose tables use the model: a server may repeat the texts that it was sent, so its words are
/// left out where those were users', but for refusals that are decided before a text is read.
fn in_own_words(stored: &StoredModel, arrival: &Arrival, failure: &Failure) -> Failure {
    let Some(status) = arrival.status.filter(|status| !(200..300).contains(status)) else { return failure.clone() };
    if failure.action == Action::Halt && !may_be_of_a_text(Some(status)) {
        return failure.clone();
    }
    let mut message = format!("the server of model \"{}\" answered with status {status}", stored.model.name);
    if let Action::SlowDown { after: Some(pause) } = failure.action {
        message.push_str(&format!(" and asks for a pause of {} s", pause.as_secs().max(1)));
    }
    Failure { message, ..failure.clone() }
}
