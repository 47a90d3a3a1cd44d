//! Whether a model may be asked now, and with how much.
//!
//! One [`Circuit`] stands for one model in one process. It takes the time as an argument: `now` is a `Duration` since any
//! fixed moment, never going back. Its states:
//!
//! ```text
//!            retry (nothing charged)                 pause over: one probe of 1 input
//!   Open ───────────────────────────────▶ Paused ◀──────────────────────┐ retry: pause doubles
//!     ▲                                     │ └─────────────────────────┘
//!     │ all suspects answered               │ success
//!     └──────────────── Recovering ◀────────┘
//!                       1 → 8 → 64 → 512 → any, one step a success;
//!                       a failing batch of n: down to n/8 until n inputs were answered, no pause;
//!                       a failing single input: charged, or (not chargeable) back to Paused
//!
//!   any ── slow down ──▶ the same state, nothing sent until the wait is over; batch size untouched
//!   any ── halt ───────▶ Blocked: one probe of 1 input after 5 s, doubling up to 60 s; success ──▶ Open
//! ```
//!
//! **Outage or poison?** A server that is down and a row that makes the server fail look alike: status 500. A failure
//! is taken for an outage first, so it pauses the model and costs nobody an attempt. When the server is back, the rows
//! go out in small batches; a batch that fails now, while the server demonstrably works, is taken to hold a poison row,
//! and goes out again in pieces of an eighth, down to single inputs. An attempt is charged to a row only if it fails
//! *alone*, has failed *before*, and the model answered *another request* in between. So an outage, however long, charges
//! nothing, and a poison row is charged whenever anything else got through meanwhile.
//!
//! What this asks of the caller:
//!
//! - [`Circuit::on_send`] before each request, exactly one of `on_success`, `on_failure`, `on_abandon` after it;
//! - remember for each row when it failed last (in memory is enough), and hand that to [`Circuit::on_failure`];
//! - rows of a failed batch go out again before others, in their order, but a row that failed *alone* goes behind the
//!   others, so that the next probe is another row's;
//! - a row that has been charged goes out alone, so that it does not fail others again;
//! - where the only row there is has failed alone, the probe is some fixed word instead: it tells whether the server
//!   works, so that the row can be charged and comes to an end.

use std::time::Duration;

use crate::error::{Action, Failure};
use crate::retry::backoff;

mod recovery;

use recovery::Recovery;

/// How patient a circuit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// First pause after an outage began, and after a slow-down without a wait.
    pub base: Duration,
    /// Longest such pause.
    pub max: Duration,
    /// First pause of a blocked model.
    pub blocked_base: Duration,
    /// Longest such pause.
    pub blocked_max: Duration,
    /// A probe that was sent this long ago and never reported is forgotten: more than any request takes.
    pub probe_lost: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            blocked_base: Duration::from_secs(5),
            blocked_max: Duration::from_secs(60),
            probe_lost: Duration::from_secs(3900),
        }
    }
}

/// Whether a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes, with at most that many inputs.
    Open {
        /// `None`: as many as fit.
        max_inputs: Option<usize>,
    },
    /// No; ask again after that time, or when a request in flight has reported.
    Wait(Duration),
}

/// One request under way, from [`Circuit::on_send`] to its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the circuit waits for the report of a request"]
pub struct Ticket {
    id: u64,
    era: u64,
    epoch: u64,
    inputs: usize,
}

impl Ticket {
    /// Its number: later requests have higher ones.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// What a failure means for the rows of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The attempt is charged to the rows of the request's single input; otherwise it cost nothing.
    pub charge: bool,
}

/// Why nothing, or little, is sent: for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// See [`Failure::code`].
    pub code: String,
    /// See [`Failure::message`].
    pub message: String,
    /// See [`Failure::hint`].
    pub hint: String,
}

impl From<&Failure> for Reason {
    fn from(failure: &Failure) -> Self {
        Self { code: failure.code.clone(), message: failure.message.clone(), hint: failure.hint.clone() }
    }
}

/// What a circuit does, for people. Times are on the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// Everything goes out.
    Open,
    /// The server asked for a pause until then.
    Slowed {
        /// When the pause ends.
        until: Duration,
        /// The server's answer.
        reason: &'a Reason,
    },
    /// The server is down; at `until` (or now, if that is past) one input is tried.
    Paused {
        /// When the next probe may go out.
        until: Duration,
        /// The last failure.
        reason: &'a Reason,
    },
    /// The server is back; batches grow.
    Recovering {
        /// The present size; `None`: as many as fit.
        max_inputs: Option<usize>,
    },
    /// Somebody has to change something; at `until` one input is tried.
    Blocked {
        /// When the next probe may go out.
        until: Duration,
        /// What is wrong and what to do.
        reason: &'a Reason,
    },
}

#[derive(Debug)]
enum Mode {
    Open,
    Paused { reason: Reason, failures: u32 },
    Recovering(Recovery),
    Blocked { reason: Reason, probes: u32 },
}

/// The state of one model. See the module's text.
#[derive(Debug)]
pub struct Circuit {
    config: Config,
    mode: Mode,
    /// Nothing is sent before, as the circuit has it, ...
    not_before: Duration,
    /// ... or as the server asks.
    slow_until: Duration,
    /// Slow-downs in a row, and the last request that was sent before the latest of them.
    slowdowns: u32,
    slowed_at_id: u64,
    slow_reason: Option<Reason>,
    /// Somebody has changed something since it was blocked.
    is_changed: bool,
    /// Inputs that failed as the outage began, which the recovery has to see answered.
    suspects: usize,
    last_success: Option<Duration>,
    probe: Option<(u64, Duration)>,
    next_id: u64,
    /// Counts changes of the mode: a failure of what was sent before one says nothing about what came after.
    era: u64,
    /// Counts changes of the size: a success with an earlier one does not make the present one grow.
    epoch: u64,
}

impl Circuit {
    /// An open circuit.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            mode: Mode::Open,
            not_before: Duration::ZERO,
            slow_until: Duration::ZERO,
            slowdowns: 0,
            slowed_at_id: 0,
            slow_reason: None,
            is_changed: false,
            suspects: 0,
            last_success: None,
            probe: None,
            next_id: 0,
            era: 0,
            epoch: 0,
        }
    }

    /// Whether a request may be sent at `now`, and how large. Changes nothing.
    #[must_use]
    pub fn may_send(&self, now: Duration) -> Gate {
        let not_before = self.not_before.max(self.slow_until);
        if now < not_before {
            return Gate::Wait(not_before - now);
        }
        match &self.mode {
            Mode::Open => Gate::Open { max_inputs: None },
            Mode::Recovering(recovery) => Gate::Open { max_inputs: recovery.limit() },
            Mode::Paused { .. } | Mode::Blocked { .. } => match self.probe_left(now) {
                Some(left) => Gate::Wait(left),
                None => Gate::Open { max_inputs: Some(1) },
            },
        }
    }

    /// A request of `inputs` inputs goes out, as [`may_send`](Self::may_send) allowed.
    pub fn on_send(&mut self, now: Duration, inputs: usize) -> Ticket {
        self.next_id += 1;
        if matches!(self.mode, Mode::Paused { .. } | Mode::Blocked { .. }) && self.probe_left(now).is_none() {
            self.probe = Some((self.next_id, now));
        }
        Ticket { id: self.next_id, era: self.era, epoch: self.epoch, inputs }
    }

    /// The request was never sent, or its result will never be known: as if it had not been.
    pub fn on_abandon(&mut self, ticket: Ticket) {
        self.forget_probe(ticket);
    }

    /// The request brought its vectors.
    pub fn on_success(&mut self, now: Duration, ticket: Ticket) {
        let probed = self.forget_probe(ticket);
        self.last_success = Some(now);
        if ticket.id > self.slowed_at_id {
            self.slowdowns = 0;
        }
        self.alive(ticket, probed, ticket.inputs);
    }

    /// The request failed. `failed_before`: when the row of a single input failed last, `None` if it never did (that
    /// this process knows of); it is not looked at for more inputs. `jitter01`: 0 to 1, by chance.
    ///
    /// What the failure costs the rows is in the verdict; what else is to be done is [`Failure::action`].
    pub fn on_failure(
        &mut self,
        now: Duration,
        ticket: Ticket,
        failure: &Failure,
        failed_before: Option<Duration>,
        jitter01: f64,
    ) -> Verdict {
        let probed = self.forget_probe(ticket);
        let charge = match &failure.action {
            Action::Halt => {
                self.halted(now, failure, probed || ticket.era == self.era);
                false
            }
            Action::SlowDown { after } => {
                self.slow_reason = Some(failure.into());
                self.slow_down(now, ticket, *after, jitter01);
                false
            }
            // The server took the request apart, so it works; but it may do that before it looks at the key.
            Action::Split | Action::Reject => {
                if probed && matches!(self.mode, Mode::Blocked { .. }) {
                    self.probe_again_later(now, jitter01);
                } else {
                    self.last_success = Some(now);
                    self.alive(ticket, probed, if failure.action == Action::Reject { ticket.inputs } else { 0 });
                }
                false
            }
            Action::Retry => {
                let charge = failure.blames_input || self.is_chargeable(ticket, failed_before);
                if charge {
                    // The row's own fault, which holds up nobody; but a probe's server has still not shown itself.
                    if probed {
                        self.probe_again_later(now, jitter01);
                    }
                    self.settled(ticket, ticket.inputs, false);
                } else if probed {
                    self.probe_failed(now, failure, jitter01);
                } else {
                    self.outage_or_poison(now, ticket, failure, jitter01);
                }
                charge
            }
        };
        Verdict { charge }
    }

    /// Something was changed that may mend what is wrong: the next probe goes out at once, whatever pause was asked for.
    pub fn try_now(&mut self, now: Duration) {
        self.is_changed = true;
        self.not_before = self.not_before.min(now);
        self.slow_until = self.slow_until.min(now);
    }

    /// What the circuit does, for people.
    #[must_use]
    pub fn state(&self, now: Duration) -> State<'_> {
        let until = self.not_before.max(self.slow_until);
        match &self.mode {
            Mode::Blocked { reason, .. } => State::Blocked { until, reason },
            Mode::Paused { reason, .. } => State::Paused { until, reason },
            Mode::Open | Mode::Recovering(_) => match (&self.slow_reason, &self.mode) {
                (Some(reason), _) if now < until => State::Slowed { until, reason },
                (_, Mode::Recovering(recovery)) => State::Recovering { max_inputs: recovery.limit() },
                _ => State::Open,
            },
        }
    }

    /// When the model last answered with vectors, or took a request apart.
    #[must_use]
    pub fn last_success(&self) -> Option<Duration> {
        self.last_success
    }

    /// How long the probe in flight may still take; `None` if there is none to wait for.
    fn probe_left(&self, now: Duration) -> Option<Duration> {
        let (_, sent) = self.probe?;
        sent.saturating_add(self.config.probe_lost).checked_sub(now).filter(|left| !left.is_zero())
    }

    fn forget_probe(&mut self, ticket: Ticket) -> bool {
        self.probe.take_if(|(id, _)| *id == ticket.id).is_some()
    }

    fn enter(&mut self, mode: Mode) {
        self.mode = mode;
        self.is_changed = false;
        self.era += 1;
        self.epoch += 1;
        self.probe = None;
    }

    /// The server answered as it should, and settled `inputs` inputs.
    fn alive(&mut self, ticket: Ticket, probed: bool, inputs: usize) {
        match &self.mode {
            // Only what was sent since can show that the trouble is over.
            Mode::Paused { .. } if probed => {
                let suspects = std::mem::take(&mut self.suspects);
                self.enter(Mode::Recovering(Recovery::new(suspects)));
                self.settled(ticket, inputs, true);
            }
            Mode::Blocked { .. } if probed => {
                self.suspects = 0;
                self.enter(Mode::Open);
            }
            _ => self.settled(ticket, inputs, ticket.epoch == self.epoch),
        }
    }

    fn settled(&mut self, ticket: Ticket, inputs: usize, grow: bool) {
        if let Mode::Recovering(recovery) = &mut self.mode {
            let before = recovery.limit();
            recovery.answered(ticket.id, inputs, grow);
            if recovery.is_over() {
                self.enter(Mode::Open);
            } else if recovery.limit() != before {
                self.epoch += 1;
            }
        }
    }

    /// Whether a failure is the row's own: it stands alone, it failed before, and the model worked in between.
    fn is_chargeable(&self, ticket: Ticket, failed_before: Option<Duration>) -> bool {
        let worked_since = |failed| self.last_success.is_some_and(|success| success > failed);
        ticket.inputs <= 1 && failed_before.is_some_and(worked_since)
    }

    fn probe_failed(&mut self, now: Duration, failure: &Failure, jitter01: f64) {
        match &mut self.mode {
            Mode::Paused { reason, .. } => *reason = failure.into(),
            // What somebody had to change may be changed: what keeps the model away now is another matter. Without that, an outage
            // says nothing of it.
            Mode::Blocked { .. } if self.is_changed => self.enter(Mode::Paused { reason: failure.into(), failures: 0 }),
            Mode::Blocked { .. } | Mode::Open | Mode::Recovering(_) => {}
        }
        self.probe_again_later(now, jitter01);
    }

    fn probe_again_later(&mut self, now: Duration, jitter01: f64) {
        let Config { base, max, blocked_base, blocked_max, .. } = self.config;
        let wait = match &mut self.mode {
            Mode::Paused { failures, .. } => {
                *failures = failures.saturating_add(1);
                backoff(*failures, base, max, jitter01)
            }
            Mode::Blocked { probes, .. } => {
                *probes = probes.saturating_add(1);
                backoff(*probes, blocked_base, blocked_max, 1.0)
            }
            Mode::Open | Mode::Recovering(_) => return,
        };
        self.not_before = self.not_before.max(now.saturating_add(wait));
    }

    fn outage_or_poison(&mut self, now: Duration, ticket: Ticket, failure: &Failure, jitter01: f64) {
        let old = ticket.era != self.era;
        match &mut self.mode {
            Mode::Recovering(recovery) if !old && ticket.inputs > 1 => {
                let before = recovery.limit();
                recovery.failed(ticket.inputs, self.next_id);
                if recovery.limit() != before {
                    self.epoch += 1;
                }
            }
            Mode::Open | Mode::Recovering(_) if !old => {
                if let Mode::Recovering(recovery) = &self.mode {
                    self.suspects = recovery.suspects();
                }
                self.suspects = self.suspects.max(ticket.inputs);
                self.enter(Mode::Paused { reason: failure.into(), failures: 0 });
                let wait = backoff(0, self.config.base, self.config.max, jitter01);
                self.not_before = self.not_before.max(now.saturating_add(wait));
            }
            // Sent before the trouble was known: it is the same trouble.
            Mode::Recovering(recovery) => recovery.suspect(ticket.inputs),
            Mode::Paused { .. } => self.suspects = self.suspects.saturating_add(ticket.inputs),
            Mode::Open | Mode::Blocked { .. } => {}
        }
    }

    fn halted(&mut self, now: Duration, failure: &Failure, known_now: bool) {
        match &mut self.mode {
            Mode::Blocked { reason, .. } => {
                *reason = failure.into();
                if known_now {
                    self.probe_again_later(now, 1.0);
                }
            }
            _ if known_now => {
                self.enter(Mode::Blocked { reason: failure.into(), probes: 0 });
                self.not_before = self.not_before.max(now.saturating_add(self.config.blocked_base));
            }
            _ => {}
        }
    }

    fn slow_down(&mut self, now: Duration, ticket: Ticket, after: Option<Duration>, jitter01: f64) {
        let wait = after.unwrap_or_else(|| backoff(self.slowdowns, self.config.base, self.config.max, jitter01));
        // Requests that were in flight together are slowed down together: one step of the backoff.
        if ticket.id > self.slowed_at_id {
            self.slowdowns = self.slowdowns.saturating_add(1);
            self.slowed_at_id = self.next_id;
        } else if after.is_none() {
            return;
        }
        self.slow_until = self.slow_until.max(now.saturating_add(wait));
    }
}

#[cfg(test)]
mod tests;
