//! Everything that decides whether a model is called now, and with how much: one [`Governor`] a model and process.
//!
//! It brings together the [`Circuit`] (does the model work?), the [`Rate`] (what may be sent a minute?), the
//! [`Concurrency`] (how much at once?), what was [`Learned`] of its limits, and the day's budget. The caller asks
//! [`Governor::gate`] before it takes rows, packs them by the limits that the gate gives, asks
//! [`Governor::wait_for`] for the very batch, and then reports: [`on_send`](Governor::on_send), and exactly one of
//! `on_success`, `on_failure` and `on_abandon`.
//!
//! `now` is a `Duration` since any fixed moment, never going back; the day comes with the [`Policy`].

use std::time::Duration;

use crate::circuit::{self, Circuit, Verdict};
use crate::concurrency::Concurrency;
use crate::error::{Action, Failure};
use crate::learned::{Learned, Load};
use crate::model::Limits;
use crate::rate::{PerMinute, Rate, RateHeaders};

/// How long to wait for what only a report, a new day or a new policy can bring.
const UNTIL_TOLD: Duration = Duration::from_secs(60);

/// What the model's owner and the settings allow, as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What fits into one request.
    pub limits: Limits,
    /// What may be sent in a minute.
    pub per_minute: PerMinute,
    /// What may be spent in a day.
    pub daily_token_budget: Option<u64>,
    /// Requests at once.
    pub max_concurrent: usize,
    /// Time of one request.
    pub timeout: Duration,
    /// Today, counted from 1970-01-01 in UTC.
    pub day: i32,
}

/// Whether a request may be made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes: what fits into it, in estimated tokens.
    Open(Limits),
    /// No; ask again after that time, or when a request under way has reported.
    Wait(Duration),
}

/// One request under way, from [`Governor::on_send`] to its report.
#[derive(Debug, Clone, Copy)]
#[must_use = "the governor waits for the report of a request"]
pub struct Ticket {
    circuit: circuit::Ticket,
    load: Load,
    /// What it will likely come to, as the server counts.
    tokens: u64,
    was_full: bool,
}

/// What came back: what the report of a request is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival {
    /// When.
    pub now: Duration,
    /// How long after the sending.
    pub took: Duration,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// Its headers.
    pub headers: RateHeaders,
}

/// The state of one model in one process. See the module's text.
#[derive(Debug)]
pub struct Governor {
    circuit: Circuit,
    rate: Rate,
    concurrency: Concurrency,
    learned: Learned,
    in_flight: usize,
    tokens_in_flight: u64,
    last_id: u64,
    day: i32,
    used_today: u64,
    /// The budget that kept a request from being sent.
    refused_by: Option<u64>,
}

impl Governor {
    /// Of a model that was not called yet.
    #[must_use]
    pub fn new(config: circuit::Config) -> Self {
        Self {
            circuit: Circuit::new(config),
            rate: Rate::default(),
            concurrency: Concurrency::default(),
            learned: Learned::default(),
            in_flight: 0,
            tokens_in_flight: 0,
            last_id: 0,
            day: i32::MIN,
            used_today: 0,
            refused_by: None,
        }
    }

    /// Whether a request may be made up now, and how large. A pause that only the batch itself can tell comes from
    /// [`wait_for`](Self::wait_for).
    pub fn gate(&mut self, now: Duration, policy: &Policy) -> Gate {
        self.turn_page(policy.day);
        if self.in_flight >= self.concurrency.allowed(policy.max_concurrent) {
            return Gate::Wait(UNTIL_TOLD);
        }
        let most = match self.circuit.may_send(now) {
            circuit::Gate::Wait(wait) => return Gate::Wait(wait),
            circuit::Gate::Open { max_inputs } => max_inputs.unwrap_or(usize::MAX),
        };
        let left = self.left_today(policy);
        // What was refused once is not asked for again and again: rows would come and go for it all day.
        if left == 0 || self.spent(policy).is_some() {
            self.note_spent(policy);
            return Gate::Wait(UNTIL_TOLD);
        }
        // What is under way may cost less than it was estimated at: one request then takes what is left, not one after each.
        if left < self.tokens_in_flight / (self.in_flight as u64).max(1) {
            return Gate::Wait(UNTIL_TOLD);
        }
        if let Some(wait) = self.rate.wait(now, &policy.per_minute, 1) {
            return Gate::Wait(wait);
        }
        let mut limits = self.learned.limits(&policy.limits);
        limits.batch_inputs = limits.batch_inputs.min(most);
        let in_a_minute = policy.per_minute.tokens.unwrap_or(u64::MAX);
        let tokens = usize::try_from(left.min(in_a_minute)).unwrap_or(usize::MAX);
        limits.batch_tokens = limits.batch_tokens.min(self.learned.estimate(tokens));
        Gate::Open(limits)
    }

    /// How long a batch of this size has to wait though the gate is open; `None`: it may go.
    pub fn wait_for(&mut self, now: Duration, policy: &Policy, load: Load) -> Option<Duration> {
        self.turn_page(policy.day);
        let tokens = self.learned.tokens(load.tokens);
        if tokens > self.left_today(policy) {
            self.note_spent(policy);
            return Some(UNTIL_TOLD);
        }
        self.rate.wait(now, &policy.per_minute, tokens)
    }

    /// A request goes out, as the gate allowed.
    pub fn on_send(&mut self, now: Duration, policy: &Policy, load: Load) -> Ticket {
        self.refused_by = None;
        let circuit = self.circuit.on_send(now, load.inputs);
        self.last_id = circuit.id();
        let tokens = self.learned.tokens(load.tokens);
        self.rate.on_send(now, &policy.per_minute, self.last_id, tokens);
        self.in_flight += 1;
        self.tokens_in_flight = self.tokens_in_flight.saturating_add(tokens);
        let was_full = self.in_flight >= self.concurrency.allowed(policy.max_concurrent);
        Ticket { circuit, load, tokens, was_full }
    }

    /// The request brought its vectors, for `tokens` tokens (`None`: the server does not say). Gives the tokens that were booked.
    pub fn on_success(&mut self, ticket: Ticket, arrival: &Arrival, policy: &Policy, tokens: Option<u64>) -> u64 {
        let id = ticket.circuit.id();
        let booked = tokens.unwrap_or(ticket.tokens);
        self.turn_page(policy.day);
        self.rate.on_accepted(id);
        self.landed(ticket, arrival, Some(booked));
        self.used_today = self.used_today.saturating_add(booked);
        if let Some(tokens) = tokens {
            self.learned.on_usage(ticket.load, tokens);
        }
        self.learned.on_success(ticket.load, arrival.took, policy.timeout);
        self.concurrency.on_success(id, policy.max_concurrent, ticket.was_full);
        self.circuit.on_success(arrival.now, ticket.circuit);
        booked
    }

    /// The request failed; `failed_before` and `jitter01` as for [`Circuit::on_failure`]. Gives what that means for its rows, and
    /// the tokens that were booked.
    pub fn on_failure(
        &mut self,
        ticket: Ticket,
        arrival: &Arrival,
        failure: &Failure,
        failed_before: Option<Duration>,
        jitter01: f64,
    ) -> (Verdict, u64) {
        let id = ticket.circuit.id();
        let is_slow_down = matches!(failure.action, Action::SlowDown { .. });
        let is_timeout = failure.code == "timeout";
        // What broke off, and what was answered with rubbish, may have been counted there.
        let booked = match arrival.status {
            Some(status) if (200..300).contains(&status) => ticket.tokens,
            None if is_timeout || failure.code == "protocol" => ticket.tokens,
            _ => 0,
        };
        let in_flight = self.in_flight;
        if is_slow_down {
            self.rate.on_refused(id);
        }
        self.landed(ticket, arrival, Some(booked));
        self.used_today = self.used_today.saturating_add(booked);
        if is_slow_down || is_timeout {
            let were_too_many = self.concurrency.on_overload(id, in_flight, self.last_id);
            if is_timeout && !were_too_many {
                self.learned.on_timeout(ticket.load);
            }
        }
        match &failure.oversize {
            Some(what) => self.learned.on_oversize(ticket.load, what),
            None if failure.action == Action::Split => self.learned.on_refused(ticket.load),
            None => {}
        }
        (self.circuit.on_failure(arrival.now, ticket.circuit, failure, failed_before, jitter01), booked)
    }

    /// The request was never sent, or its result will never be known.
    pub fn on_abandon(&mut self, ticket: Ticket, now: Duration) {
        self.landed(ticket, &Arrival { now, ..Arrival::default() }, None);
        self.circuit.on_abandon(ticket.circuit);
    }

    /// Others have used this model: it counts for the minute, and for the day.
    pub fn on_others(&mut self, now: Duration, policy: &Policy, requests: u64, tokens: u64) {
        self.turn_page(policy.day);
        self.used_today = self.used_today.saturating_add(tokens);
        self.rate.on_others(now, &policy.per_minute, requests, tokens);
    }

    /// What was used today before this process began to count.
    pub fn set_used_today(&mut self, day: i32, tokens: u64) {
        self.day = day;
        self.used_today = tokens;
    }

    /// Whether the day's budget is what stops this model, and how much of it was used.
    #[must_use]
    pub fn spent(&self, policy: &Policy) -> Option<u64> {
        let is_spent =
            self.day == policy.day && self.refused_by.is_some() && self.refused_by == policy.daily_token_budget;
        is_spent.then_some(self.used_today)
    }

    /// Whether the model works.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Something was changed that may mend what blocks the model: it is tried at once.
    pub fn try_now(&mut self, now: Duration) {
        self.refused_by = None;
        self.rate.forget_found();
        self.circuit.try_now(now);
    }

    /// How long requests have to wait for their minute, with none under way; `None`: it is not that what they wait for.
    #[must_use]
    pub fn pace_wait(&self, now: Duration, policy: &Policy) -> Option<Duration> {
        if self.in_flight > 0 { None } else { self.rate.wait(now, &policy.per_minute, 1) }
    }

    /// The limits to cut and pack by, whatever the model's state.
    #[must_use]
    pub fn limits(&self, defined: &Limits) -> Limits {
        self.learned.limits(defined)
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn landed(&mut self, ticket: Ticket, arrival: &Arrival, tokens: Option<u64>) {
        let id = ticket.circuit.id();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.tokens_in_flight = self.tokens_in_flight.saturating_sub(ticket.tokens);
        self.rate.on_end(arrival.now, id, tokens);
        self.rate.on_headers(arrival.now, id, &arrival.headers);
    }

    fn left_today(&self, policy: &Policy) -> u64 {
        let spoken_for = self.used_today.saturating_add(self.tokens_in_flight);
        policy.daily_token_budget.map_or(u64::MAX, |budget| budget.saturating_sub(spoken_for))
    }

    /// While requests are under way, they may turn out to cost less than they were estimated at.
    fn note_spent(&mut self, policy: &Policy) {
        if self.in_flight == 0 {
            self.refused_by = policy.daily_token_budget;
        }
    }

    fn turn_page(&mut self, day: i32) {
        if day != self.day {
            self.day = day;
            self.used_today = 0;
            self.refused_by = None;
        }
    }
}

#[cfg(test)]
mod tests;
