//! A worker that keeps the rules of the house, on a clock that costs nothing.

use std::collections::VecDeque;
use std::time::Duration;

use autoembed_core::batch::{Size, bisect, pack};
use autoembed_core::circuit::{self, Config};
use autoembed_core::error::{from_response, from_transport};
use autoembed_core::governor::{Arrival, Gate, Governor, Policy, Ticket};
use autoembed_core::learned::Load;
use autoembed_core::rate::{PerMinute, RateHeaders};
use autoembed_core::retry::backoff;
use autoembed_core::{Action, Failure, Limits, Model, Provider};

use crate::server::{Chance, Reply, S, Server};

const MAX_ATTEMPTS: u32 = 5;
const DAY: u64 = 24 * 3600;

#[derive(Clone, Default)]
struct Row {
    failed_alone: Option<Duration>,
    charged: u32,
    not_before: Duration,
    is_done: bool,
    is_dead: bool,
}

struct Flight {
    lands: Duration,
    ticket: Ticket,
    /// None: a fixed word is tried.
    rows: Vec<usize>,
    reply: Reply,
}

/// Where rows of a request waited.
#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    /// A whole batch of those that go first, or the beginning of one.
    Ready,
    ReadyPart,
    Lone,
    Queue,
}

/// What a run came to.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub rows: usize,
    pub done: usize,
    pub dead: Vec<usize>,
    pub charged: u32,
    pub requests: usize,
    /// When the last row was done or dead.
    pub ended: Duration,
    /// When nothing waited for the first time after the trouble.
    pub caught_up: Option<Duration>,
    pub most_in_flight: usize,
}

pub struct World {
    pub server: Server,
    pub policy: Policy,
    /// When rows come, and how many.
    pub arrivals: VecDeque<(Duration, usize)>,
    /// When the trouble is over.
    pub trouble_ends: Duration,
    /// Of each row, by our estimate.
    pub row_tokens: usize,
    /// The clock at the beginning, in seconds since a midnight.
    pub begins: u64,
    model: Model,
    governor: Governor,
    now: Duration,
    rows: Vec<Row>,
    queue: VecDeque<usize>,
    /// Halves of batches that were split; they go first.
    ready: VecDeque<Vec<usize>>,
    /// Rows that have failed alone; they go alone, so that they do not fail others.
    lone: VecDeque<usize>,
    flying: Vec<Flight>,
    wake: Option<Duration>,
    chance: Chance,
    figures: Figures,
}

impl World {
    /// Requests of at most `batch` inputs, at most `max_concurrent` at once.
    pub fn new(batch: usize, max_concurrent: usize) -> Self {
        let model = Model::new("m", Provider::OpenAi, "text-embedding-3-small", 8);
        Self {
            server: Server::new(),
            policy: Policy {
                limits: Limits { batch_inputs: batch, ..model.limits },
                per_minute: PerMinute::default(),
                daily_token_budget: None,
                max_concurrent,
                timeout: 30 * S,
                day: 0,
            },
            arrivals: VecDeque::new(),
            trouble_ends: Duration::ZERO,
            row_tokens: 20,
            begins: 0,
            model,
            governor: Governor::new(Config::default()),
            now: S,
            rows: Vec::new(),
            queue: VecDeque::new(),
            ready: VecDeque::new(),
            lone: VecDeque::new(),
            flying: Vec::new(),
            wake: None,
            chance: Chance(1),
            figures: Figures::default(),
        }
    }

    /// `rows` wait from the beginning.
    pub fn backlog(&mut self, rows: usize) {
        self.arrivals.push_front((S, rows));
    }

    /// `rows` come every `every` until `end`.
    pub fn flow(&mut self, rows: usize, every: Duration, end: Duration) {
        let mut at = S;
        while at < end {
            self.arrivals.push_back((at, rows));
            at += every;
        }
    }

    /// Plays until everything is done or dead, at most until `end`.
    pub fn run(&mut self, end: Duration) -> Figures {
        loop {
            while self.arrivals.front().is_some_and(|(at, _)| *at <= self.now) {
                let count = self.arrivals.pop_front().map_or(0, |(_, count)| count);
                let first = self.rows.len();
                self.rows.resize(first + count, Row::default());
                self.queue.extend(first..first + count);
            }
            self.policy.day = ((self.begins + self.now.as_secs()) / DAY) as i32;
            self.wake = None;
            while self.send() {}
            let waiting = !self.flying.is_empty() || self.holds_rows();
            if !waiting && self.now >= self.trouble_ends && self.figures.caught_up.is_none() {
                self.figures.caught_up = Some(self.now);
            }
            if !waiting && self.arrivals.is_empty() || self.now >= end {
                break;
            }
            let lands = self.flying.iter().map(|flight| flight.lands).min();
            let comes = self.arrivals.front().map(|(at, _)| *at);
            self.now = lands.into_iter().chain(comes).chain(self.wake).min().expect("something happens");
            let landed: Vec<Flight> = self.flying.extract_if(.., |flight| flight.lands <= self.now).collect();
            landed.into_iter().for_each(|flight| self.land(flight));
        }
        assert_eq!(self.governor.in_flight(), self.flying.len());
        self.figures.rows = self.rows.len();
        self.figures.done = self.rows.iter().filter(|row| row.is_done).count();
        self.figures.dead = (0..self.rows.len()).filter(|row| self.rows[*row].is_dead).collect();
        self.figures.charged = self.rows.iter().map(|row| row.charged).sum();
        self.figures.ended = self.now;
        self.figures.clone()
    }

    fn holds_rows(&self) -> bool {
        !self.queue.is_empty() || !self.ready.is_empty() || !self.lone.is_empty()
    }

    fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Sends one request; false: nothing can be sent now.
    fn send(&mut self) -> bool {
        if !self.holds_rows() {
            return false;
        }
        let limits = match self.governor.gate(self.now, &self.policy) {
            Gate::Wait(wait) => {
                self.wake_at(self.now + wait);
                return false;
            }
            Gate::Open(limits) => limits,
        };
        let is_probe = self.governor.circuit().may_send(self.now) == circuit::Gate::Open { max_inputs: Some(1) };
        let Some((rows, place)) = self.pick(&limits, is_probe) else {
            let due = self.lone.iter().map(|row| self.rows[*row].not_before).min();
            due.into_iter().for_each(|at| self.wake_at(at));
            return false;
        };
        let load = Load {
            inputs: rows.len().max(1),
            tokens: rows.len().max(1) * self.row_tokens,
            bytes: rows.len().max(1) * self.row_tokens * 4,
        };
        if let Some(wait) = self.governor.wait_for(self.now, &self.policy, load) {
            self.wake_at(self.now + wait);
            self.put_back(rows, place);
            return false;
        }
        let ticket = self.governor.on_send(self.now, &self.policy, load);
        let in_flight = self.flying.len() + 1;
        let reply = self.server.answer(self.now, &rows, load.tokens, in_flight, self.policy.timeout);
        self.figures.requests += 1;
        self.figures.most_in_flight = self.figures.most_in_flight.max(in_flight);
        self.flying.push(Flight { lands: self.now + reply.took, ticket, rows, reply });
        true
    }

    /// Takes the rows of the next request from where they wait. No rows: only suspects wait, so a fixed word is tried.
    fn pick(&mut self, limits: &Limits, is_probe: bool) -> Option<(Vec<usize>, Place)> {
        let size = Size { tokens: self.row_tokens, bytes: self.row_tokens * 4 };
        if let Some(mut batch) = self.ready.pop_front() {
            let fits = pack(&vec![size; batch.len()], limits).first().map_or(0, |range| range.end);
            let rest = batch.split_off(fits);
            let whole = rest.is_empty();
            if !whole {
                self.ready.push_front(rest);
            }
            return Some((batch, if whole { Place::Ready } else { Place::ReadyPart }));
        }
        if let Some(at) = self.lone.iter().position(|row| self.rows[*row].not_before <= self.now) {
            if is_probe {
                return Some((Vec::new(), Place::Nowhere));
            }
            return self.lone.remove(at).map(|row| (vec![row], Place::Lone));
        }
        let waiting = self.queue.len().min(limits.batch_inputs);
        let fits = pack(&vec![size; waiting], limits).first().map_or(0, |range| range.end);
        (fits > 0).then(|| (self.queue.drain(..fits).collect(), Place::Queue))
    }

    fn put_back(&mut self, rows: Vec<usize>, place: Place) {
        match place {
            Place::Nowhere => {}
            Place::Ready => self.ready.push_front(rows),
            Place::ReadyPart => {
                let rest = self.ready.pop_front().unwrap_or_default();
                self.ready.push_front(rows.into_iter().chain(rest).collect());
            }
            Place::Lone => self.lone.extend(rows),
            Place::Queue => rows.into_iter().rev().for_each(|row| self.queue.push_front(row)),
        }
    }

    fn land(&mut self, flight: Flight) {
        let Flight { ticket, rows, reply, .. } = flight;
        let inputs = rows.len().max(1);
        let mut arrival = Arrival { now: self.now, took: reply.took, ..Arrival::default() };
        let failure = match &reply.result {
            Err(error) => from_transport(&self.model, inputs, error),
            Ok(response) => {
                arrival.status = Some(response.status);
                arrival.headers = RateHeaders::read(response);
                if response.status == 200 {
                    self.governor.on_success(ticket, &arrival, &self.policy, Some(reply.tokens));
                    rows.iter().for_each(|row| self.rows[*row].is_done = true);
                    return;
                }
                from_response(&self.model, None, inputs, response, self.now.as_secs())
            }
        };
        let failed_before = if let [row] = rows[..] { self.rows[row].failed_alone } else { None };
        let (verdict, _) = self.governor.on_failure(ticket, &arrival, &failure, failed_before, self.chance.next());
        self.failed(rows, &failure, verdict.charge);
    }

    fn failed(&mut self, rows: Vec<usize>, failure: &Failure, charge: bool) {
        match (&failure.action, &rows[..]) {
            (_, []) => {}
            (Action::Split, [_, _, ..]) => {
                let (left, right) = bisect(&(0..rows.len())).expect("more than one row");
                self.ready.push_front(rows[right].to_vec());
                self.ready.push_front(rows[left].to_vec());
            }
            (Action::Split | Action::Reject, _) => rows.iter().for_each(|row| self.rows[*row].is_dead = true),
            (Action::Retry, [row]) => {
                let state = &mut self.rows[*row];
                state.failed_alone = Some(self.now);
                state.charged += u32::from(charge);
                let pause = backoff(state.charged.saturating_sub(1), S, 60 * S, 1.0);
                state.not_before = self.now + pause;
                state.is_dead = state.charged >= MAX_ATTEMPTS;
                if !state.is_dead {
                    self.lone.push_back(*row);
                }
            }
            (Action::Retry | Action::SlowDown { .. } | Action::Halt, _) => {
                assert!(!charge, "{failure:?}");
                self.put_back(rows, Place::Queue);
            }
        }
    }
}
