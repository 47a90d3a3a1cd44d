//! The loop's body, the same for the background worker (each step a transaction of its own) and for embed_pending() (all in the
//! caller's): send what can be sent, take in what has come back.

use crate::pg::cache;
use crate::pg::call::Called;
use crate::pg::catalog::StoredModel;
use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::process;
use crate::pg::notify;
use crate::pg::queue::{BACKFILL, LIVE};
use crate::pg::settings::Work;
use crate::pg::usage;
use crate::pg::writer;
use crate::points;
use crate::worker;
use crate::worker::batch::{Batch, Item, merge, pack_items};
use crate::worker::finish;
use crate::worker::gather::{self, Busy, Gathered};
use crate::worker::models::{Models, policy};
use crate::worker::state;
use autoembed_core::governor::{Gate, Ticket};
use autoembed_core::{Action, Failure, Limits};
use autoembed_http::{Panicked, Pool};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Of this many looks into the queue, one begins with the slow lane.
const BACKFILL_TURN: u64 = 4;
/// Most looks into the queue before answers are taken in.
const LOOKS: usize = 64;

/// The answer to a request wakes whoever waits for it.
const UNTIL_TOLD: Duration = Duration::from_secs(60);
/// How long a vectorizer is left alone whose step failed as a whole.
const TROUBLED: Duration = Duration::from_secs(1);
/// Rows of a table that are written at once, at first: a slow index or trigger would have their users wait.
const FIRST_WRITE: usize = 256;
/// Rows are not held for a model that may not be called for so long.
const LONG: Duration = Duration::from_secs(5);
/// Bytes of rows that may follow the texts on their way to one model; other rows of it wait in the queue.
const MOST_FOLLOWING: usize = 8 << 20;

mod alarms;
mod backlog;
mod careful;
mod flight;
mod held;
mod hints;
mod memory;
mod pieces;
mod portions;
mod shown;

use alarms::Alarms;
use careful::{Ahead, Careful};
use hints::Hint;
use portions::Portions;
use shown::Watched;

struct Flight {
    /// `None`: a probe without rows.
    batch: Option<Batch>,
    stored: StoredModel,
    ticket: Ticket,
    /// Rows, with their vectorizers, whose texts are on their way in this request.
    followers: Vec<(i32, Item)>,
    /// Their size in memory.
    following: usize,
}

/// A batch that was refused in a way that may be meant for every request: a fixed word is sent to find out.
struct Accused {
    batch: Batch,
    stored: StoredModel,
    failure: Failure,
    since: Instant,
}

struct Returned {
    flight: u64,
    called: Called,
    took: Duration,
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

impl Round {
    /// Something waits for a model that may be asked again after `pause`.
    fn wait(&mut self, pause: Duration) {
        self.backlog = true;
        self.rest = Some(self.rest.map_or(pause, |rest| rest.min(pause)));
    }
}

/// Work under way, between the queue and the models.
pub struct Engine {
    in_session: bool,
    /// Only these vectorizers; `None`: all.
    scope: Option<HashSet<i32>>,
    /// Rows that may still be claimed; `None`: any number.
    room: Option<usize>,
    pool: Pool<Returned>,
    /// An answer that was looked at, but not taken in.
    answered: Option<Result<Returned, Panicked>>,
    /// What is known of the models.
    pub models: Models,
    flights: HashMap<u64, Flight>,
    /// Texts that are on their way, and the flight that each is in.
    flying: HashMap<cache::Key, u64>,
    /// Parts of batches that failed.
    ready: VecDeque<Batch>,
    /// Batches whose failure may be their model's or their own, by model.
    accused: HashMap<String, Vec<Accused>>,
    buffers: HashMap<(i32, i16), Vec<Item>>,
    hints: HashMap<(i32, i16), Hint>,
    /// Rows that are read at once, where texts are huge.
    reads: Portions,
    /// Rows that are written at once, where writing takes long.
    writes: Portions,
    failed_alone: HashMap<(i32, String), Duration>,
    resting: HashMap<i32, Instant>,
    /// Vectorizers whose tables have refused vectors, how often in a row: they are tried with one row, since each costs a request.
    refusals: HashMap<i32, u32>,
    /// Somebody wants the database for himself: no more answers are taken in.
    is_leaving: bool,
    watched: Watched,
    careful: Careful,
    renewed: Instant,
    turns: u64,
    /// Rows of the slow lane were taken: when they are done, an index may be due.
    pub has_backfilled: bool,
    /// Whose rows were taken last, by lane.
    served: [i32; 2],
    next_flight: u64,
    /// Rows whose vectors were written.
    pub written: u64,
    alarms: Alarms,
    /// The last failure of a model, for those who wait.
    pub last_failure: Option<(String, Failure)>,
}

impl Engine {
    /// For the background worker.
    pub fn for_worker() -> Engine {
        let mut engine = Engine::new(false, None, None);
        engine.careful = Careful::begin();
        engine
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
            answered: None,
            models: Models::new(),
            flights: HashMap::new(),
            flying: HashMap::new(),
            ready: VecDeque::new(),
            accused: HashMap::new(),
            watched: Watched::default(),
            buffers: HashMap::new(),
            hints: HashMap::new(),
            reads: Portions::default(),
            writes: Portions::beginning_with(FIRST_WRITE),
            failed_alone: HashMap::new(),
            resting: HashMap::new(),
            refusals: HashMap::new(),
            is_leaving: false,
            careful: Careful::default(),
            renewed: Instant::now(),
            turns: 0,
            has_backfilled: true,
            served: [0; 2],
            next_flight: 0,
            written: 0,
            alarms: Alarms::new(),
            last_failure: None,
        }
    }

    fn step<R>(&self, body: impl FnOnce() -> R) -> Result<R, Caught> {
        if self.in_session {
            return Ok(notify::telling(body));
        }
        worker::transaction(|| {
            writer::fire_at_once();
            notify::telling(body)
        })
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether the worker has been asked to leave while it wrote.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Sends what can be sent.
    pub fn send(&mut self, work: &Work) -> Result<Round, Caught> {
        let mut round = Round { sent: 0, settled: 0, backlog: false, rest: None };
        self.ask_for_the_accused(work, &mut round)?;
        let candidates = self.candidates()?;
        let mut trouble = None;
        // Parts of a batch that failed go before other rows of their vectorizer, and take turns with those of others.
        let in_pieces: HashSet<i32> = self.ready.iter().map(|batch| batch.vectorizer).collect();
        if self.turns.is_multiple_of(2) {
            self.send_ready(work, &mut round)?;
        }
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
            if in_pieces.contains(&id) && self.ready.iter().any(|batch| batch.vectorizer == id) {
                round.backlog = true;
                continue;
            }
            let before = round.sent + round.settled;
            let served = self.serve(id, lane, work, &mut round);
            if round.sent + round.settled > before {
                self.served[usize::from(lane == BACKFILL)] = id;
                self.has_backfilled |= lane == BACKFILL;
            }
            match served {
                Ok(true) => candidates.push_back((id, lane)),
                Ok(false) => {}
                Err(caught) => {
                    // The others are served nevertheless.
                    self.rest(id, TROUBLED.min(work.retry_max));
                    trouble = Some(caught);
                }
            }
        }
        self.send_ready(work, &mut round)?;
        self.show_states()?;
        trouble.map_or(Ok(round), Err)
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
        let after = |id: i32, lane: i16| id > self.served[usize::from(lane == BACKFILL)];
        mine.sort_by_key(|(id, lane)| (*lane != first, !after(*id, *lane), *id));
        mine
    }

    /// One look at one lane of one vectorizer. True: more may be there.
    fn serve(&mut self, id: i32, lane: i16, work: &Work, round: &mut Round) -> Result<bool, Caught> {
        let Some(stored) = self.step(|| gather::load(id).map(|context| context.stored))? else {
            self.rest(id, Duration::from_secs(5));
            self.give_back_of(id, Duration::ZERO)?;
            return Ok(false);
        };
        if self.accused.contains_key(&stored.model.name) {
            round.wait(UNTIL_TOLD);
            return Ok(false);
        }
        self.look_up_budget(&stored, work)?;
        let limits = match self.models.gate(&stored, work) {
            Gate::Wait(pause) => {
                round.wait(pause);
                self.note_spent(&stored, work);
                if pause >= LONG && self.models.get(&stored, work).governor.in_flight() == 0 {
                    self.give_back_kept((id, lane))?;
                }
                return Ok(false);
            }
            Gate::Open(limits) => limits,
        };
        if self.following(&stored.model.name) >= MOST_FOLLOWING {
            round.wait(UNTIL_TOLD);
            return Ok(false);
        }
        let kept = self.buffers.get(&(id, lane)).map_or(0, Vec::len);
        let portion = if self.refusals.contains_key(&id) { 1 } else { self.reads.of(id).min(limits.batch_inputs) };
        let limit = portion.saturating_sub(kept).min(self.room.unwrap_or(usize::MAX));
        let cut = self.models.get(&stored, work).governor.limits(&stored.model.limits);
        let gathered = if limit == 0 { Gathered::default() } else { self.look((id, lane), limit, &cut, work, round)? };
        if let Some(pause) = gathered.rest {
            self.rest(id, pause);
        }
        self.note_lock(id, gathered.rest == Some(gather::IN_USE))?;
        if let Some(room) = &mut self.room {
            *room = room.saturating_sub(gathered.claimed - gathered.left);
        }
        round.settled += gathered.settled;
        let more = gathered.rest.is_none() && gathered.is_full;
        self.reads.read(id, gathered.claimed, gathered.claimed - gathered.left);
        let kept = self.buffers.remove(&(id, lane)).unwrap_or_default();
        let kept = self.without_older(id, kept, &gathered.items)?;
        let items = merge(kept, gathered.items);
        let items = self.settle_known(id, &stored, items, round, work)?;
        let keep_last = more && items.len() < limits.batch_inputs;
        self.pack_and_send((id, lane), items, &stored, &limits, keep_last, work, round);
        if self.note_spent(&stored, work) {
            self.give_back_kept((id, lane))?;
        }
        let more = more || gathered.walks_on;
        round.backlog |= more;
        Ok(more)
    }

    fn look_up_budget(&mut self, stored: &StoredModel, work: &Work) -> Result<(), Caught> {
        if self.models.wants_budget(stored, work) {
            let used = self.step(|| usage::used_today(&stored.model.name))?;
            self.models.set_budget(stored, work, used);
        }
        Ok(())
    }

    /// Whether the day's budget is used up; those who wait in a session are told.
    fn note_spent(&mut self, stored: &StoredModel, work: &Work) -> bool {
        let name = &stored.model.name;
        let governor = &self.models.get(stored, work).governor;
        let Some(failure) = state::spent(name, governor, &policy(stored, work)) else { return false };
        self.last_failure = Some((name.clone(), failure));
        true
    }

    fn look(
        &mut self,
        (id, lane): (i32, i16),
        limit: usize,
        cut: &Limits,
        work: &Work,
        round: &mut Round,
    ) -> Result<Gathered, Caught> {
        let above = self.look_above((id, lane));
        let busy = if lane == BACKFILL { self.busy(id) } else { Busy::default() };
        let ahead = match self.claim_ahead((id, lane), above, limit, work, round)? {
            Ahead::Later => return Ok(Gathered::default()),
            Ahead::NotNeeded => None,
            Ahead::Claimed(claimed) => Some(claimed),
        };
        let begun = Instant::now();
        let gathered = self.step(|| match gather::load(id) {
            Some(context) => gather::gather(&context, lane, above, limit, ahead, cut, &busy, work),
            None => gather::give_back(id, ahead, Duration::ZERO),
        })?;
        points::reach("gathered");
        self.note_look((id, lane), above, limit, begun.elapsed(), &gathered);
        Ok(gathered)
    }

    #[allow(clippy::too_many_arguments)]
    fn pack_and_send(
        &mut self,
        (id, lane): (i32, i16),
        items: Vec<Item>,
        stored: &StoredModel,
        limits: &Limits,
        keep_last: bool,
        work: &Work,
        round: &mut Round,
    ) {
        // Rows that have failed alone go alone, so that they do not fail others again.
        let (alone, items): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| self.failed_alone.contains_key(&(id, item.key.clone())));
        let (batches, mut rest) = pack_items(id, items, limits, keep_last);
        for batch in batches.into_iter().chain(alone.into_iter().map(|item| Batch::new(id, vec![item]))) {
            // What may not go yet is packed anew, with what comes until it may.
            if let Err(batch) = self.try_send(batch, stored, work, round) {
                rest.extend(batch.items);
            }
        }
        if !rest.is_empty() {
            self.buffers.insert((id, lane), rest);
        }
    }

    fn send_ready(&mut self, work: &Work, round: &mut Round) -> Result<(), Caught> {
        let mut waiting = VecDeque::new();
        // By the model as it is now: it may have been changed since the batch failed.
        let mut models: HashMap<i32, Option<StoredModel>> = HashMap::new();
        while let Some(mut batch) = self.ready.pop_front() {
            let id = batch.vectorizer;
            if batch.has_ended() {
                let items = batch.items.into_iter().filter(|item| !item.is_over()).collect();
                batch = Batch::new(id, items);
                if batch.items.is_empty() {
                    continue;
                }
            }
            let stored = match models.get(&id) {
                Some(stored) => stored.clone(),
                None => {
                    let stored = self.step(|| gather::load(id).map(|context| context.stored))?;
                    models.entry(id).or_insert(stored).clone()
                }
            };
            let Some(stored) = stored else {
                self.step(|| finish::give_back(&batch, Duration::ZERO))?;
                continue;
            };
            let limits = self.models.get(&stored, work).governor.limits(&stored.model.limits);
            let limits = match self.models.gate(&stored, work) {
                Gate::Open(limits) => limits,
                Gate::Wait(_) => limits,
            };
            if batch.fits(&limits) {
                waiting.extend(self.try_send(batch, &stored, work, round).err().map(|batch| *batch));
            } else {
                let (smaller, _) = pack_items(id, batch.items, &limits, false);
                smaller.into_iter().rev().for_each(|batch| self.ready.push_front(batch));
            }
        }
        self.ready = waiting;
        Ok(())
    }

    /// Sends a batch if it may go now, or something to find out whether its model works; the batch where it was not sent.
    fn try_send(
        &mut self,
        batch: Batch,
        stored: &StoredModel,
        work: &Work,
        round: &mut Round,
    ) -> Result<(), Box<Batch>> {
        if self.accused.contains_key(&stored.model.name) {
            round.wait(UNTIL_TOLD);
            return Err(Box::new(batch));
        }
        match self.models.gate(stored, work) {
            Gate::Wait(pause) => {
                round.wait(pause);
                return Err(Box::new(batch));
            }
            Gate::Open(limits) if !batch.fits(&limits) => {
                round.backlog = true;
                return Err(Box::new(batch));
            }
            Gate::Open(_) => {}
        }
        if let Some(pause) = self.models.wait_for(stored, work, batch.load) {
            round.wait(pause);
            return Err(Box::new(batch));
        }
        round.sent += 1;
        // Whether the model works cannot be learned from a row that may be at fault itself; and what a server says to a fixed
        // word can be shown to everybody.
        let is_suspect = |item: &Item| self.failed_alone.contains_key(&(batch.vectorizer, item.key.clone()));
        let is_suspect = batch.texts.len() == 1 && batch.items.iter().all(is_suspect);
        let takes_words = self.models.takes_words(stored, work);
        if (takes_words && self.models.is_down(stored, work)) || (is_suspect && self.models.is_probing(stored, work)) {
            self.launch(None, stored.clone(), work);
            round.backlog = true;
            return Err(Box::new(batch));
        }
        self.launch(Some(batch), stored.clone(), work);
        Ok(())
    }

    /// Whether the last thing that a model said was that somebody has to change something, and nothing is left to find out.
    pub fn is_halted(&self) -> bool {
        let is_settled = self.accused.is_empty() && self.ready.is_empty();
        is_settled && self.last_failure.as_ref().is_some_and(|(_, failure)| failure.action == Action::Halt)
    }
}

impl Drop for Engine {
    // An error or a cancel in a session comes this way.
    fn drop(&mut self) {
        self.note_lost();
    }
}
