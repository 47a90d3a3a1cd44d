//! How many requests and tokens a minute: what the model's owner allows, and what the server's own headers tell.
//!
//! A server counts a request when it arrives, which is somewhere between its sending and its answer. So a request counts
//! here from its sending until a minute after its end: whatever window the server uses, the limit is never crossed in it.
//! Requests are spread evenly too, because servers enforce `60 a minute` as `1 a second`, and because spread requests are
//! fuller: what comes meanwhile goes along with the next one.
//!
//! Where nobody states a limit, it is found from what a server accepts and refuses.

use std::collections::VecDeque;
use std::time::Duration;

mod headers;
mod pace;

pub use headers::{Meter, RateHeaders};

use pace::Pace;

const MINUTE: Duration = Duration::from_secs(60);

/// Up to this rate a server's bucket of one second's worth holds a single request, and so leaves no room for one that comes
/// early.
const ONE_BY_ONE: u64 = 60;

/// What a model's owner allows; `None`: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerMinute {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens, all requests together.
    pub tokens: Option<u64>,
}

impl PerMinute {
    fn is_any(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some()
    }
}

#[derive(Debug)]
struct Entry {
    id: u64,
    sent: Duration,
    /// `None`: under way.
    ended: Option<Duration>,
    requests: u64,
    tokens: u64,
}

impl Entry {
    /// When it counts no more; `None`: not before it has ended.
    fn expires(&self) -> Option<Duration> {
        self.ended.map(|ended| ended.saturating_add(MINUTE))
    }

    fn counts(&self, now: Duration) -> bool {
        self.expires().is_none_or(|at| at > now)
    }
}

/// What was sent in the last minute, and what the server said about its limits. `now` is a `Duration` since any fixed
/// moment, never going back.
#[derive(Debug, Default)]
pub struct Rate {
    window: VecDeque<Entry>,
    last_sent: Option<(u64, Duration)>,
    reported: Option<Reported>,
    pace: Pace,
    /// The server refused although its headers promised room: its limits refill at once, not bit by bit. The number is of
    /// the last request that was sent before this was known.
    refills_at_once: Option<u64>,
}

/// The latest headers, and what was sent after the request that brought them.
#[derive(Debug)]
struct Reported {
    at: Duration,
    id: u64,
    headers: RateHeaders,
    requests_since: u64,
    tokens_since: u64,
}

impl Rate {
    /// How long a request of `tokens` tokens has to wait; `None`: it may go. Where that depends on requests under way, a
    /// minute: ask again when one has ended.
    #[must_use]
    pub fn wait(&self, now: Duration, allowed: &PerMinute, tokens: u64) -> Option<Duration> {
        let waits = [
            allowed.requests.and_then(|most| self.wait_for_requests(now, most)),
            allowed.tokens.and_then(|most| self.wait_for_tokens(now, most, tokens)),
            self.wait_as_told(now, tokens),
            self.wait_for_pace(now),
        ];
        waits.into_iter().flatten().max()
    }

    /// Request number `id` goes out with about `tokens` tokens.
    pub fn on_send(&mut self, now: Duration, allowed: &PerMinute, id: u64, tokens: u64) {
        self.last_sent = Some((id, now));
        if let Some(reported) = &mut self.reported {
            reported.requests_since += 1;
            reported.tokens_since = reported.tokens_since.saturating_add(tokens);
        }
        self.forget_old(now);
        if !allowed.is_any() {
            // What is under way is still needed: later than a report, it is not in its figures.
            self.window.retain(|entry| entry.ended.is_none());
        }
        self.window.push_back(Entry { id, sent: now, ended: None, requests: 1, tokens });
    }

    /// Request number `id` has ended, and the server counted `tokens` tokens (`None`: it did not say).
    pub fn on_end(&mut self, now: Duration, id: u64, tokens: Option<u64>) {
        if let Some(entry) = self.window.iter_mut().rev().find(|entry| entry.id == id && entry.ended.is_none()) {
            entry.ended = Some(now);
            entry.tokens = tokens.unwrap_or(entry.tokens);
        }
    }

    /// The server accepted request number `id`; to be told before its end.
    pub fn on_accepted(&mut self, id: u64) {
        if let Some(sent) = self.sent(id) {
            self.pace.on_accepted(id, sent);
        }
    }

    /// Request number `id` was one too many for the server; to be told before its end and its headers.
    pub fn on_refused(&mut self, id: u64) {
        let (Some(sent), Some((last_id, _))) = (self.sent(id), self.last_sent) else { return };
        // Headers that promised room for it were meant in another way; no pace is needed beside them unless that does not
        // help.
        match self.refills_at_once {
            None if self.reported.is_some() => self.refills_at_once = Some(last_id),
            Some(known_at) if id <= known_at => {}
            _ => self.pace.on_refused(sent, last_id),
        }
    }

    /// The limits may have been changed: what was found out about them is forgotten.
    pub fn forget_found(&mut self) {
        self.pace = Pace::default();
        self.reported = None;
        self.refills_at_once = None;
    }

    /// Requests that others have sent on the same account.
    pub fn on_others(&mut self, now: Duration, allowed: &PerMinute, requests: u64, tokens: u64) {
        self.forget_old(now);
        if allowed.is_any() && requests > 0 {
            self.window.push_back(Entry { id: 0, sent: now, ended: Some(now), requests, tokens });
        }
    }

    /// What the answer to request number `id` says of the limits.
    pub fn on_headers(&mut self, now: Duration, id: u64, headers: &RateHeaders) {
        // Answers overtake each other; the last request's headers know the most.
        if headers.is_empty() || self.reported.as_ref().is_some_and(|known| known.id > id) {
            return;
        }
        let under_way = self.window.iter().filter(|entry| entry.id > id && entry.ended.is_none());
        let (requests_since, tokens_since) =
            under_way.fold((0, 0u64), |(n, sum), e| (n + 1, sum.saturating_add(e.tokens)));
        self.reported = Some(Reported { at: now, id, headers: *headers, requests_since, tokens_since });
    }

    fn sent(&self, id: u64) -> Option<Duration> {
        self.window.iter().rev().find(|entry| entry.id == id).map(|entry| entry.sent)
    }

    fn forget_old(&mut self, now: Duration) {
        while self.window.front().is_some_and(|entry| !entry.counts(now)) {
            self.window.pop_front();
        }
    }

    fn wait_for_requests(&self, now: Duration, most: u64) -> Option<Duration> {
        let most = most.max(1);
        [self.wait_for_turn(now, most), self.wait_for_window(now, most, 1, |entry| entry.requests)]
            .into_iter()
            .flatten()
            .max()
    }

    fn wait_for_tokens(&self, now: Duration, most: u64, tokens: u64) -> Option<Duration> {
        // A text that alone is more than a minute's worth goes out when nothing else did.
        self.wait_for_window(now, most, tokens.min(most), |entry| entry.tokens)
    }

    /// Spreads requests over the minute.
    fn wait_for_turn(&self, now: Duration, most: u64) -> Option<Duration> {
        let (id, sent) = self.last_sent?;
        // Rounded up: a server that counts exactly would refuse what comes a moment early.
        let gap = Duration::from_nanos(60_000_000_000u64.div_ceil(most));
        let at = if most > ONE_BY_ONE {
            sent.saturating_add(gap)
        } else {
            // Counted from its end, the server cannot have seen them closer together; where it answers slowly, a tenth is
            // added for the way there instead.
            let ended = self.window.iter().rev().find(|entry| entry.id == id).and_then(|entry| entry.ended);
            let with_margin = sent.saturating_add(gap).saturating_add(gap / 10);
            ended.map_or(with_margin, |ended| ended.saturating_add(gap).min(with_margin))
        };
        at.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    fn wait_for_pace(&self, now: Duration) -> Option<Duration> {
        let (_, sent) = self.last_sent?;
        sent.saturating_add(self.pace.gap()?).checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// How long until `more` fits beside what counts.
    fn wait_for_window(&self, now: Duration, most: u64, more: u64, weigh: impl Fn(&Entry) -> u64) -> Option<Duration> {
        let mut live: Vec<&Entry> = self.window.iter().filter(|entry| entry.counts(now)).collect();
        let mut sum = live.iter().fold(0u64, |sum, entry| sum.saturating_add(weigh(entry)));
        if sum.saturating_add(more) <= most {
            return None;
        }
        live.sort_by_key(|entry| entry.expires().unwrap_or(Duration::MAX));
        for entry in live {
            sum = sum.saturating_sub(weigh(entry));
            if sum.saturating_add(more) <= most {
                return Some(entry.expires().map_or(MINUTE, |at| at.saturating_sub(now)));
            }
        }
        None
    }

    /// From the server's own headers: where nothing remains, it is not asked in vain.
    fn wait_as_told(&self, now: Duration, tokens: u64) -> Option<Duration> {
        let told = self.reported.as_ref()?;
        let requests = self.until_refilled(&told.headers.requests, told.requests_since.saturating_add(1));
        let tokens = self.until_refilled(&told.headers.tokens, told.tokens_since.saturating_add(tokens));
        let wait = requests.into_iter().chain(tokens).max()?;
        told.at.saturating_add(wait).checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// How long after the report `wanted` is there again.
    fn until_refilled(&self, meter: &Meter, wanted: u64) -> Option<Duration> {
        let (remaining, reset) = (meter.remaining?, meter.reset?);
        // Of nothing at all, nothing remains: such a server does not count.
        if meter.limit == Some(0) {
            return None;
        }
        let missing = wanted.checked_sub(remaining).filter(|missing| *missing > 0)?;
        let used = meter.limit.and_then(|limit| limit.checked_sub(remaining)).filter(|used| *used > 0);
        match used {
            // The reset is when everything is back; a part is back after that part of the time.
            Some(used) if self.refills_at_once.is_none() => {
                Some(reset.mul_f64((missing as f64 / used as f64).min(1.0)))
            }
            _ => Some(reset),
        }
    }
}

#[cfg(test)]
mod tests;
