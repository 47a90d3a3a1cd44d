//! What the threads of one stub share: counters, records, the gate that holds requests, and the script's place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::fault::{Player, Verdict};
use crate::format::{Ask, Reason, Refusal};
use crate::http::Response;
use crate::meter::{Meter, fit, total};
use crate::{Format, Kind, Limits, Script, StubConfig};

/// The oldest records go when there are more: a benchmark of hours must not eat the memory.
const MAX_RECORDS: usize = 100_000;

/// Counters since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests read to their end, those for unknown paths included; `/health` and `/control` are not counted.
    pub requests: u64,
    /// Texts in them.
    pub inputs: u64,
    /// Requests that have no answer yet.
    pub in_flight: u64,
    /// The most at one time.
    pub max_in_flight: u64,
    /// Requests that [`crate::Stub::hold`] holds back.
    pub held: u64,
    /// Tokens of the requests that the limits let through.
    pub tokens: u64,
    /// Requests refused because they came too often or too many at once, or because the quota was used up.
    pub limited: u64,
    /// Requests refused for their size: texts, tokens of a text, tokens of all.
    pub oversized: u64,
    /// The most requests within any window (`Limits::window_ms`, a minute by default), refused ones included.
    pub max_window_requests: u64,
    /// The most tokens within any window, those of refused requests included.
    pub max_window_tokens: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
    /// Answers by status; 0 counts requests that got none.
    pub by_status: BTreeMap<u16, u64>,
}

/// One request as it came in.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// When it had been read.
    #[serde(skip)]
    pub at: Instant,
    /// As `/v1/embeddings`.
    pub path: String,
    /// The format whose path it is; `None` for unknown paths.
    pub format: Option<Format>,
    /// The model it names; empty if it could not be read or names none.
    pub model: String,
    /// What it says its texts are for; `None` if it does not say, or could not be read.
    pub kind: Option<Kind>,
    /// How many texts.
    pub count: usize,
    /// The texts, if the configuration asks for them; else empty.
    pub inputs: Vec<String>,
    /// Their tokens, before anything was cut.
    pub tokens: u64,
    /// The dimensions it asks for.
    pub dimensions: Option<usize>,
    /// Whether it lets texts be cut that are too long, be it that this is the provider's default.
    pub truncate: bool,
    /// The answer's status; 0 while there is none.
    pub status: u16,
    /// Whether it had an `Authorization` header.
    pub authorization: bool,
    /// The name of the header that brought a key, of those in which its provider takes one.
    pub key_header: Option<&'static str>,
}

/// A request that is counted and not answered yet.
pub(crate) struct Ticket {
    number: u64,
    /// How many had no answer yet when it came, itself included.
    pub(crate) in_flight: u64,
    pub(crate) verdict: Option<Verdict>,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Done,
    /// The stub stops or the client has gone: nobody wants the answer.
    Pointless,
}

pub(crate) struct State {
    pub(crate) config: StubConfig,
    inner: Mutex<Inner>,
    /// Counters have changed.
    changed: Condvar,
    /// The gate has opened or the stub stops.
    gate: Condvar,
}

struct Inner {
    stats: Stats,
    records: VecDeque<(u64, Recorded)>,
    next: u64,
    holding: bool,
    stopping: bool,
    player: Player,
    meter: Meter,
}

impl State {
    pub(crate) fn new(config: StubConfig) -> Self {
        let inner = Inner {
            stats: Stats::default(),
            records: VecDeque::new(),
            next: 0,
            holding: false,
            stopping: false,
            player: Player::new(config.script.clone()),
            meter: Meter::new(config.limits.clone(), Instant::now()),
        };
        Self { config, inner: Mutex::new(inner), changed: Condvar::new(), gate: Condvar::new() }
    }

    /// A panic elsewhere leaves counters that are still worth reading.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request and asks the script what is to become of it.
    pub(crate) fn begin(&self, record: Recorded, inputs: &[String]) -> Ticket {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.stats.requests += 1;
        inner.stats.inputs += inputs.len() as u64;
        inner.stats.in_flight += 1;
        inner.stats.max_in_flight = inner.stats.max_in_flight.max(inner.stats.in_flight);
        let weight = inner.meter.weight(inputs.len());
        let (requests, tokens) = inner.meter.arrive(weight, record.tokens, record.at);
        inner.stats.max_window_requests = inner.stats.max_window_requests.max(requests);
        inner.stats.max_window_tokens = inner.stats.max_window_tokens.max(tokens);
        let in_flight = inner.stats.in_flight;
        inner.records.push_back((number, record));
        if inner.records.len() > MAX_RECORDS {
            inner.records.pop_front();
        }
        let verdict = inner.player.next(inputs);
        drop(inner);
        self.changed.notify_all();
        Ticket { number, in_flight, verdict }
    }

    /// Counts the answer. Called before its last byte is written, so that whoever has the answer finds it counted.
    pub(crate) fn finish(&self, ticket: &Ticket, status: u16, bytes: usize) {
        let mut inner = self.lock();
        inner.stats.in_flight = inner.stats.in_flight.saturating_sub(1);
        inner.stats.bytes += bytes as u64;
        *inner.stats.by_status.entry(status).or_default() += 1;
        let place = inner.records.binary_search_by_key(&ticket.number, |record| record.0);
        if let Ok(place) = place
            && let Some(record) = inner.records.get_mut(place)
        {
            record.1.status = status;
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Waits while requests are held back.
    pub(crate) fn pass_gate(&self, gone: impl Fn() -> bool) -> Waited {
        let mut inner = self.lock();
        if !inner.holding {
            return Waited::Done;
        }
        inner.stats.held += 1;
        self.changed.notify_all();
        let mut result = Waited::Done;
        while inner.holding && result == Waited::Done {
            inner = self.gate.wait_timeout(inner, PEEK).unwrap_or_else(PoisonError::into_inner).0;
            if inner.stopping || gone() {
                result = Waited::Pointless;
            }
        }
        inner.stats.held = inner.stats.held.saturating_sub(1);
        drop(inner);
        self.changed.notify_all();
        result
    }

    /// Waits this long, or without an end.
    pub(crate) fn pause(&self, time: Option<Duration>, gone: impl Fn() -> bool) -> Waited {
        let until = time.and_then(|time| Instant::now().checked_add(time));
        let mut inner = self.lock();
        loop {
            if inner.stopping {
                return Waited::Pointless;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Waited::Done;
            }
            let slice = left.map_or(PEEK, |left| left.min(PEEK));
            let (kept, end) = self.gate.wait_timeout(inner, slice).unwrap_or_else(PoisonError::into_inner);
            inner = kept;
            if end.timed_out() && slice == PEEK && gone() {
                return Waited::Pointless;
            }
        }
    }

    /// Holds a request to the limits: what is too long is cut if it may be, the rest is taken or refused. Gives how long the
    /// strain of all requests in flight makes it take.
    pub(crate) fn admit(&self, ask: &mut Ask, ticket: &Ticket) -> Result<Duration, Refusal> {
        let mut inner = self.lock();
        let Inner { meter, stats, .. } = &mut *inner;
        let latency = match &meter.limits().capacity {
            None => Duration::ZERO,
            Some(capacity) => capacity.latency(ticket.in_flight).map_err(|status| {
                stats.limited += 1;
                Refusal { status: Some(status), ..Refusal::new(ask.format, Reason::Overloaded) }
            })?,
        };
        fit(ask, meter.limits()).map_err(|reason| {
            stats.oversized += 1;
            Refusal::new(ask.format, reason)
        })?;
        let tokens = total(&ask.inputs);
        if meter.counts() {
            meter.take(ask.inputs.len(), tokens, Instant::now()).map_err(|reason| {
                stats.limited += 1;
                Refusal::new(ask.format, reason)
            })?;
        }
        stats.tokens += tokens;
        Ok(latency)
    }

    /// The answer with the headers that say how much of the limits is left.
    pub(crate) fn headed(&self, response: Response) -> Response {
        self.lock().meter.headed(response)
    }

    pub(crate) fn limits(&self, limits: Limits) {
        self.lock().meter = Meter::new(limits, Instant::now());
    }

    pub(crate) fn retry_after(&self) -> crate::RetryAfter {
        self.lock().meter.limits().retry_after
    }

    pub(crate) fn stopping(&self) -> bool {
        self.lock().stopping
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.gate.notify_all();
        self.changed.notify_all();
    }

    pub(crate) fn hold(&self, holding: bool) {
        self.lock().holding = holding;
        self.gate.notify_all();
    }

    pub(crate) fn script(&self, script: Script) {
        self.lock().player = Player::new(script);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    pub(crate) fn records(&self) -> Vec<Recorded> {
        self.lock().records.iter().map(|record| record.1.clone()).collect()
    }

    /// Starts counting anew; what is under way stays counted as that.
    pub(crate) fn reset(&self) {
        let mut inner = self.lock();
        inner.records.clear();
        inner.stats = Stats {
            in_flight: inner.stats.in_flight,
            max_in_flight: inner.stats.in_flight,
            held: inner.stats.held,
            ..Stats::default()
        };
    }

    /// Waits until the counters satisfy `enough`; false if they did not in time.
    pub(crate) fn wait(&self, timeout: Duration, enough: impl Fn(&Stats) -> bool) -> bool {
        let inner = self.lock();
        let waited = self.changed.wait_timeout_while(inner, timeout, |inner| !enough(&inner.stats));
        let inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        enough(&inner.stats)
    }
}

/// How often a waiting request looks whether its client is still there.
const PEEK: Duration = Duration::from_millis(20);
