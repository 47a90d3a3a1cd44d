//! The loop's body, the same for the background worker (each step a transaction of its own) and for embed_pending() (all in the
//! caller's): send what can be sent, take in what has come back.

use crate::pg::call::{Called, Endpoint};
use crate::pg::catalog::StoredModel;
use crate::pg::ffi::catch::{self, Caught};
use crate::pg::ffi::process;
use crate::pg::ffi::spi;
use crate::pg::queue::{self, BACKFILL, LIVE};
use crate::pg::settings::Work;
use crate::worker::batch::{Batch, Item, merge, pack_items};
use crate::worker::gather::{self, Busy, Gathered};
use crate::worker::models::{Models, endpoint};
use crate::worker::{finish, state};
use autoembed_core::circuit::{Gate, Ticket};
use autoembed_core::{Action, Failure, InputKind};
use autoembed_http::Pool;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Numbers below the highest that was claimed are looked through again this far: numbers commit out of order.
const SLACK: i64 = 1000;
/// Of this many looks into the queue, one begins with the slow lane.
const BACKFILL_TURN: u64 = 4;
/// How often the queue is looked through from its beginning, at the least time between.
const RESCAN: Duration = Duration::from_secs(1);
/// Most looks into the queue before answers are taken in.
const LOOKS: usize = 64;
/// Rows that failed alone and are remembered.
const REMEMBERED: usize = 10_000;
/// What a model is asked when no row that has not failed is there to try it with.
const PROBE: &str = "hello";

mod held;

struct Flight {
    /// `None`: a probe without rows.
    batch: Option<Batch>,
    stored: StoredModel,
    ticket: Ticket,
}

struct Returned {
    flight: u64,
    called: Called,
    took: Duration,
}

struct Hint {
    low: i64,
    rescan_at: Instant,
}

/// What a round of [`Engine::send`] came to.
pub struct Round {
    /// Requests sent.
    pub sent: usize,
    /// Rows settled without one.
    pub settled: usize,
    /// More rows are waiting than were taken.
    pub backlog: bool,
    /// The soonest time at which a model that rests may be asked again.
    pub rest: Option<Duration>,
}

/// Work under way, between the queue and the models.
pub struct Engine {
    in_session: bool,
    /// Only these vectorizers; `None`: all.
    scope: Option<HashSet<i32>>,
    /// Rows that may still be claimed; `None`: any number.
    room: Option<usize>,
    pool: Pool<Returned>,
    /// What is known of the models.
    pub models: Models,
    flights: HashMap<u64, Flight>,
    ready: VecDeque<(Batch, StoredModel)>,
    buffers: HashMap<(i32, i16), Vec<Item>>,
    hints: HashMap<(i32, i16), Hint>,
    failed_alone: HashMap<(i32, String), Duration>,
    resting: HashMap<i32, Instant>,
    renewed: Instant,
    turns: u64,
    next_flight: u64,
    /// Rows whose vectors were written.
    pub written: u64,
    /// When rows that were put back for a short while are due again.
    pub soon: Option<Instant>,
    /// The last failure of a model, for those who wait.
    pub last_failure: Option<(String, Failure)>,
}

impl Engine {
    /// For the background worker.
    pub fn for_worker() -> Engine {
        Engine::new(false, None, None)
    }

    /// For a session: these vectorizers, at most so many rows.
    pub fn for_session(scope: HashSet<i32>, room: Option<usize>) -> Engine {
        Engine::new(true, Some(scope), room)
    }

    fn new(in_session: bool, scope: Option<HashSet<i32>>, room: Option<usize>) -> Engine {
        Engine {
            in_session,
            scope,
            room,
            pool: Pool::new(1, process::waker()),
            models: Models::new(),
            flights: HashMap::new(),
            ready: VecDeque::new(),
            buffers: HashMap::new(),
            hints: HashMap::new(),
            failed_alone: HashMap::new(),
            resting: HashMap::new(),
            renewed: Instant::now(),
            turns: 0,
            next_flight: 0,
            written: 0,
            soon: None,
            last_failure: None,
        }
    }

    fn step<R>(&self, body: impl FnOnce() -> R) -> Result<R, Caught> {
        if self.in_session {
            return Ok(body());
        }
        catch::transaction(|| {
            // A trigger that waits for the commit would run outside the rights that it must run with.
            spi::execute("SET CONSTRAINTS ALL IMMEDIATE", &[]);
            body()
        })
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Looks at the whole queue again next time.
    pub fn look_everywhere(&mut self) {
        self.hints.clear();
    }

    /// Tries again at once what was left alone for a while.
    pub fn wake_resting(&mut self) {
        self.resting.clear();
    }

    /// Sends what can be sent.
    pub fn send(&mut self, work: &Work) -> Result<Round, Caught> {
        let mut round = Round { sent: 0, settled: 0, backlog: false, rest: None };
        self.send_ready(work, &mut round);
        let candidates = self.step(queue::candidates)?;
        self.drop_orphans(&candidates)?;
        let mut candidates: VecDeque<(i32, i16)> = self.in_turn(candidates).into();
        let mut looks = 0;
        while let Some((id, lane)) = candidates.pop_front() {
            looks += 1;
            if looks > LOOKS {
                // Answers may have come, and somebody may want the worker to end.
                round.backlog = true;
                break;
            }
            if self.room == Some(0) && self.buffers.is_empty() {
                break;
            }
            let again = self.serve(id, lane, work, &mut round)?;
            if again {
                candidates.push_back((id, lane));
            }
        }
        Ok(round)
    }

    /// Live lanes first, in rotation; now and then the slow lane goes first, so that it never starves.
    fn in_turn(&mut self, candidates: Vec<(i32, i16)>) -> Vec<(i32, i16)> {
        self.turns += 1;
        let now = Instant::now();
        let mut mine: Vec<(i32, i16)> = candidates
            .into_iter()
            .filter(|(id, _)| self.scope.as_ref().is_none_or(|scope| scope.contains(id)))
            .filter(|(id, _)| self.resting.get(id).is_none_or(|until| *until <= now))
            .collect();
        let first = if self.turns.is_multiple_of(BACKFILL_TURN) { BACKFILL } else { LIVE };
        mine.sort_by_key(|(id, lane)| (*lane != first, *id));
        let count = mine.iter().filter(|(_, lane)| *lane == first).count();
        if count > 1 {
            mine[..count].rotate_left(self.turns as usize % count);
        }
        mine
    }

    /// One look at one lane of one vectorizer. True: more may be there.
    fn serve(&mut self, id: i32, lane: i16, work: &Work, round: &mut Round) -> Result<bool, Caught> {
        let Some(stored) = self.step(|| gather::load(id).map(|context| context.stored))? else {
            self.resting.insert(id, Instant::now() + Duration::from_secs(5));
            return Ok(false);
        };
        let max_inputs = match self.models.gate(&stored, work) {
            Gate::Wait(pause) => {
                round.backlog = true;
                round.rest = Some(round.rest.map_or(pause, |rest| rest.min(pause)));
                return Ok(false);
            }
            Gate::Open { max_inputs } => max_inputs,
        };
        let most = max_inputs.unwrap_or(usize::MAX).min(stored.model.limits.batch_inputs).max(1);
        let kept = self.buffers.get(&(id, lane)).map_or(0, Vec::len);
        let limit = most.saturating_sub(kept).max(1).min(self.room.unwrap_or(usize::MAX));
        let gathered = if limit == 0 { Gathered::default() } else { self.look(id, lane, limit, work)? };
        if let Some(pause) = gathered.rest {
            self.resting.insert(id, Instant::now() + pause);
        }
        if let Some(room) = &mut self.room {
            *room = room.saturating_sub(gathered.claimed);
        }
        round.settled += gathered.settled;
        let more = gathered.rest.is_none() && limit > 0 && gathered.claimed == limit;
        let items = merge(self.buffers.remove(&(id, lane)).unwrap_or_default(), gathered.items);
        let keep_last = more && items.len() < stored.model.limits.batch_inputs;
        self.pack_and_send(id, lane, items, stored, max_inputs, keep_last, work, round);
        let more = more || gathered.walks_on;
        round.backlog |= more;
        Ok(more)
    }

    fn look(&mut self, id: i32, lane: i16, limit: usize, work: &Work) -> Result<Gathered, Caught> {
        let now = Instant::now();
        let hint = self.hints.entry((id, lane)).or_insert(Hint { low: 0, rescan_at: now });
        let above = if hint.rescan_at <= now { 0 } else { hint.low };
        let busy = if lane == BACKFILL { self.busy(id) } else { Busy::default() };
        let gathered = self.step(|| match gather::load(id) {
            Some(context) => gather::gather(&context, lane, above, limit, &busy, work),
            None => Gathered::default(),
        })?;
        let took = now.elapsed();
        if let Some(hint) = self.hints.get_mut(&(id, lane)) {
            if above == 0 {
                // Where old snapshots keep dead rows in place, looking through them is paid for rarely.
                hint.rescan_at = Instant::now() + RESCAN.max(took * 10);
            }
            if let Some(highest) = gathered.highest {
                hint.low = hint.low.max(highest - SLACK);
            }
        }
        Ok(gathered)
    }

    #[allow(clippy::too_many_arguments)]
    fn pack_and_send(
        &mut self,
        id: i32,
        lane: i16,
        items: Vec<Item>,
        stored: StoredModel,
        max_inputs: Option<usize>,
        keep_last: bool,
        work: &Work,
        round: &mut Round,
    ) {
        // Rows that have failed alone go alone, so that they do not fail others again.
        let (alone, items): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| self.failed_alone.contains_key(&(id, item.key.clone())));
        let (batches, rest) = pack_items(id, items, &stored.model.limits, max_inputs, keep_last);
        if !rest.is_empty() {
            self.buffers.insert((id, lane), rest);
        }
        self.ready.extend(batches.into_iter().map(|batch| (batch, stored.clone())));
        for item in alone {
            let (batches, _) = pack_items(id, vec![item], &stored.model.limits, None, false);
            self.ready.extend(batches.into_iter().map(|batch| (batch, stored.clone())));
        }
        self.send_ready(work, round);
    }

    fn send_ready(&mut self, work: &Work, round: &mut Round) {
        for _ in 0..self.ready.len() {
            let Some((batch, stored)) = self.ready.pop_front() else { break };
            match self.models.gate(&stored, work) {
                Gate::Open { max_inputs } if max_inputs.is_none_or(|most| batch.texts.len() <= most) => {
                    let failed_before = batch.texts.len() == 1
                        && batch
                            .items
                            .iter()
                            .all(|i| self.failed_alone.contains_key(&(batch.vectorizer, i.key.clone())));
                    if max_inputs == Some(1) && failed_before {
                        // Whether the model works cannot be learned from a row that may be at fault itself.
                        self.launch(None, stored.clone(), work);
                        self.ready.push_back((batch, stored));
                    } else {
                        self.launch(Some(batch), stored, work);
                    }
                    round.sent += 1;
                }
                Gate::Open { max_inputs: Some(most) } => {
                    let limits = stored.model.limits;
                    let (smaller, _) = pack_items(batch.vectorizer, batch.items, &limits, Some(most), false);
                    for (i, batch) in smaller.into_iter().enumerate() {
                        if i == 0 {
                            self.launch(Some(batch), stored.clone(), work);
                            round.sent += 1;
                        } else {
                            self.ready.push_back((batch, stored.clone()));
                        }
                    }
                }
                Gate::Open { max_inputs: None } => self.ready.push_back((batch, stored)),
                Gate::Wait(pause) => {
                    round.backlog = true;
                    round.rest = Some(round.rest.map_or(pause, |rest| rest.min(pause)));
                    self.ready.push_back((batch, stored));
                }
            }
        }
    }

    fn launch(&mut self, batch: Option<Batch>, stored: StoredModel, work: &Work) {
        let texts = batch.as_ref().map_or_else(|| vec![PROBE.to_string()], |batch| batch.texts.clone());
        let ticket = self.models.sent(&stored.model.name, texts.len(), work);
        self.next_flight += 1;
        let flight = self.next_flight;
        let endpoint = endpoint(&stored);
        self.flights.insert(flight, Flight { batch, stored, ticket });
        self.pool.resize(work.max_concurrent_requests.saturating_mul(self.models.len().max(1)));
        self.pool.submit(move || {
            let started = Instant::now();
            let called = match endpoint {
                Ok(endpoint) => call(&endpoint, &texts),
                Err(failure) => Called { result: Err(failure), status: None },
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
        let Some(flight) = self.flights.remove(&returned.flight) else { return Ok(true) };
        let now = self.models.now();
        let known = self.models.get(&flight.stored.model.name, work);
        known.in_flight = known.in_flight.saturating_sub(1);
        match returned.called.result {
            Ok(answer) => {
                known.circuit.on_success(now, flight.ticket);
                if let Some(batch) = &flight.batch {
                    let log = (returned.took, returned.called.status, answer.tokens);
                    self.write(batch, &answer.vectors, log, work)?;
                }
            }
            Err(failure) => {
                let alone = flight.batch.as_ref().filter(|b| b.texts.len() == 1).and_then(|b| b.items.first());
                let key = alone.zip(flight.batch.as_ref()).map(|(item, b)| (b.vectorizer, item.key.clone()));
                let before = key.as_ref().and_then(|key| self.failed_alone.get(key).copied());
                let verdict = known.circuit.on_failure(now, flight.ticket, &failure, before, finish::chance());
                if let Some(key) = key.filter(|_| failure.action == Action::Retry) {
                    if self.failed_alone.len() >= REMEMBERED {
                        self.failed_alone.clear();
                    }
                    self.failed_alone.insert(key, now);
                }
                self.last_failure = Some((flight.stored.model.name.clone(), failure.clone()));
                if let Some(batch) = flight.batch {
                    let log = (returned.took, returned.called.status);
                    self.failed(batch, flight.stored, failure, verdict.charge, log, work)?;
                }
            }
        }
        let changed = self.models.changed();
        if !changed.is_empty() && !self.in_session {
            self.step(|| changed.iter().for_each(|(model, shown)| state::write(model, shown)))?;
        }
        Ok(true)
    }

    fn write(
        &mut self,
        batch: &Batch,
        vectors: &autoembed_core::Vectors,
        (took, status, tokens): (Duration, Option<u16>, Option<u64>),
        work: &Work,
    ) -> Result<(), Caught> {
        let written = self.step(|| {
            let Some(context) = gather::load(batch.vectorizer) else {
                finish::give_back(batch, Duration::from_secs(5));
                return 0;
            };
            if context.stored.model.dimensions != vectors.dimensions {
                finish::give_back(batch, Duration::ZERO);
                return 0;
            }
            let rows = finish::write(&context, batch, vectors, work);
            let entry = finish::entry(&context.stored.model.name, batch, rows, took, status, tokens, None);
            queue::log(batch.vectorizer, &entry);
            rows
        });
        match written {
            Ok(rows) => {
                self.written += rows as u64;
                if rows < batch.items.len() {
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
        (took, status): (Duration, Option<u16>),
        work: &Work,
    ) -> Result<(), Caught> {
        self.forget_hints(batch.vectorizer);
        let entry = finish::entry(&stored.model.name, &batch, 0, took, status, None, Some(&failure));
        let id = batch.vectorizer;
        let split = failure.action == Action::Split;
        let batch = if split {
            match batch.bisect() {
                Ok((left, right)) => {
                    self.ready.push_front((right, stored.clone()));
                    self.ready.push_front((left, stored));
                    return self.step(|| queue::log(id, &entry)).map(|_| ());
                }
                Err(batch) => *batch,
            }
        } else {
            batch
        };
        self.step(|| {
            queue::log(id, &entry);
            match failure.action {
                Action::Reject | Action::Split => finish::reject(&batch, &failure),
                Action::Retry if charge || failure.blames_input => finish::charge(&batch, &failure, work),
                Action::Retry if batch.texts.len() == 1 => finish::give_back(&batch, work.retry_base),
                Action::Retry | Action::SlowDown { .. } | Action::Halt => finish::give_back(&batch, Duration::ZERO),
            }
        })
        .map(|_| ())
    }

    fn again_in(&mut self, pause: Duration) {
        let at = Instant::now() + pause;
        self.soon = Some(self.soon.map_or(at, |soon| soon.min(at)));
    }

    fn forget_hints(&mut self, id: i32) {
        self.hints.retain(|(of, _), _| *of != id);
    }

    /// Whether the last thing that a model said was that somebody has to change something.
    pub fn is_halted(&self) -> bool {
        self.last_failure.as_ref().is_some_and(|(_, failure)| failure.action == Action::Halt)
    }
}

fn call(endpoint: &Endpoint, texts: &[String]) -> Called {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    catch_unwind(AssertUnwindSafe(|| endpoint.call(InputKind::Document, &texts))).unwrap_or_else(|_| Called {
        result: Err(Failure::new(
            Action::Retry,
            "internal",
            "the call of the model panicked",
            "This is a fault of autoembed; please report it with the server's log.",
        )),
        status: None,
    })
}
