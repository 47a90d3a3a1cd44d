//! Limits at work: what they let through, what they refuse and why, and what the answers' headers say of them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Limits;
use crate::format::{Ask, Reason, tokens};
use crate::http::Response;
use crate::limits::{Pace, RetryAfter, duration, http_date};
use crate::rate::{Bucket, Rate, Sliding};

/// The limits and how much of them is used.
pub(crate) struct Meter {
    limits: Limits,
    requests: Option<Rate>,
    tokens: Option<Rate>,
    /// Tokens of the quota that are used, and since when it runs.
    quota: (u64, Option<Instant>),
    /// All that came, for the high-water marks.
    arrived: (Sliding, Sliding),
}

impl Meter {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let window = limits.window();
        let rate = |limit| match limits.pace {
            Pace::Sliding => Rate::Sliding(Sliding::new(limit, window)),
            Pace::Even => Rate::Even(Bucket::new(limit, window, now)),
        };
        let endless = || Sliding::new(u64::MAX, window);
        Self {
            requests: limits.requests_per_window.map(rate),
            tokens: limits.tokens_per_window.map(rate),
            quota: (0, None),
            arrived: (endless(), endless()),
            limits,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request that came, whatever becomes of it; gives requests and tokens of the window that it ends.
    pub(crate) fn arrive(&mut self, requests: u64, tokens: u64, now: Instant) -> (u64, u64) {
        self.arrived.0.push(requests, now);
        self.arrived.1.push(tokens, now);
        (self.arrived.0.sum(), self.arrived.1.sum())
    }

    /// How much a request is.
    pub(crate) fn weight(&self, inputs: usize) -> u64 {
        if self.limits.count_inputs { inputs as u64 } else { 1 }
    }

    /// Whether there is anything that a request uses up.
    pub(crate) fn counts(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some() || self.limits.quota_tokens.is_some()
    }

    /// Takes a request, or says why not. What is refused uses nothing up.
    pub(crate) fn take(&mut self, inputs: usize, tokens: u64, now: Instant) -> Result<(), Reason> {
        let limits = &self.limits;
        if let (Some(period), Some(since)) = (limits.quota_ms, self.quota.1)
            && now.saturating_duration_since(since) >= Duration::from_millis(period)
        {
            self.quota = (0, None);
        }
        if limits.quota_tokens.is_some_and(|most| self.quota.0.saturating_add(tokens) > most) {
            return Err(Reason::Quota);
        }
        if let Some(limit) = limits.tokens_per_window.filter(|limit| tokens > *limit) {
            return Err(Reason::TooLarge { limit, asked: tokens });
        }
        let weight = self.weight(inputs);
        let told = |wait| (limits.retry_after != RetryAfter::None).then_some(wait);
        let wait = |rate: &mut Option<Rate>, need| rate.as_mut().map_or(Duration::ZERO, |rate| rate.wait(need, now));
        let (by_requests, by_tokens) = (wait(&mut self.requests, weight), wait(&mut self.tokens, tokens));
        let longest = by_requests.max(by_tokens);
        if longest > Duration::ZERO {
            return Err(if by_requests >= by_tokens {
                Reason::Requests { limit: limits.requests_per_window.unwrap_or(0), wait: told(longest) }
            } else {
                Reason::Tokens { limit: limits.tokens_per_window.unwrap_or(0), asked: tokens, wait: told(longest) }
            });
        }
        for (rate, need) in [(&mut self.requests, weight), (&mut self.tokens, tokens)] {
            if let Some(rate) = rate {
                rate.take(need, now);
            }
        }
        self.quota = (self.quota.0 + tokens, self.quota.1.or(Some(now)));
        Ok(())
    }

    /// The answer with the headers that say how much is left.
    pub(crate) fn headed(&mut self, mut response: Response) -> Response {
        if !self.limits.headers || !self.counts() {
            return response;
        }
        let now = Instant::now();
        for (rate, what) in [(&mut self.requests, "requests"), (&mut self.tokens, "tokens")] {
            if let Some(rate) = rate {
                let room = rate.room(now);
                response = response
                    .header(&format!("x-ratelimit-limit-{what}"), room.limit.to_string())
                    .header(&format!("x-ratelimit-remaining-{what}"), room.remaining.to_string())
                    .header(&format!("x-ratelimit-reset-{what}"), duration(room.reset));
            }
        }
        response
    }
}

/// The refusal with the header that says when to come back, if that is told.
pub(crate) fn come_back(response: Response, wait: Option<Duration>, how: RetryAfter) -> Response {
    let Some(wait) = wait else { return response };
    let seconds = u64::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX).max(1);
    match how {
        RetryAfter::Seconds => response.header("retry-after", seconds.to_string()),
        RetryAfter::Millis => response.header("retry-after-ms", wait.as_nanos().div_ceil(1_000_000).to_string()),
        RetryAfter::Date => {
            // Up to the next whole second, so that nobody is told to come too early.
            let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + wait;
            response.header("retry-after", http_date(then.as_secs() + 1))
        }
        RetryAfter::None => response,
    }
}

/// Holds a request to the limits of its size: texts that are too long are cut where the request lets them be.
pub(crate) fn fit(ask: &mut Ask, limits: &Limits) -> Result<(), Reason> {
    let got = ask.inputs.len();
    if let Some(most) = limits.inputs_per_request.or(ask.format.wire().most_inputs()).filter(|most| got > *most) {
        return Err(Reason::TooManyInputs { most, got });
    }
    if let Some(most) = limits.tokens_per_input {
        for (index, input) in ask.inputs.iter_mut().enumerate() {
            let got = tokens(input);
            if got > most && ask.truncate {
                cut(input, most);
            } else if got > most {
                return Err(Reason::InputTooLong { index, most, got });
            }
        }
    }
    let got = total(&ask.inputs);
    match limits.tokens_per_request.filter(|most| got > *most) {
        Some(most) => Err(Reason::BatchTooLong { most, got }),
        None => Ok(()),
    }
}

/// The tokens of all texts.
pub(crate) fn total(inputs: &[String]) -> u64 {
    inputs.iter().map(|input| tokens(input)).sum()
}

/// The longest beginning of whole characters that has so many tokens.
fn cut(text: &mut String, tokens: u64) {
    let most = usize::try_from(tokens.saturating_mul(4)).unwrap_or(usize::MAX).min(text.len());
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::Format;
    use crate::format::Place;

    fn meter(limits: Limits) -> (Meter, Instant) {
        let now = Instant::now();
        (Meter::new(limits, now), now)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn tokens_are_four_bytes_begun() {
        let count = |text: &str| tokens(text);
        assert_eq!([count(""), count("a"), count("abcd"), count("abcde"), count("ääää")], [1, 1, 1, 2, 2]);
    }

    #[test]
    fn the_longer_wait_is_the_one_that_is_told() {
        let limits = Limits { requests_per_window: Some(2), tokens_per_window: Some(10), ..Limits::default() };
        let (mut meter, now) = meter(limits);
        assert_eq!(meter.take(1, 8, now), Ok(()));
        assert_eq!(meter.take(1, 1, now + ms(10_000)), Ok(()));
        let later = now + ms(20_000);
        assert_eq!(meter.take(1, 1, later), Err(Reason::Requests { limit: 2, wait: Some(ms(40_000)) }));
        assert_eq!(meter.take(1, 10, later), Err(Reason::Tokens { limit: 10, asked: 10, wait: Some(ms(50_000)) }));
        assert_eq!(meter.take(1, 11, later), Err(Reason::TooLarge { limit: 10, asked: 11 }));
        assert_eq!(meter.take(1, 9, now + ms(60_000)), Ok(()), "refusals have used nothing up");
    }

    #[test]
    fn a_quota_ends_and_comes_back() {
        let (mut meter, now) = meter(Limits { quota_tokens: Some(5), quota_ms: Some(1000), ..Limits::default() });
        assert_eq!(meter.take(1, 4, now), Ok(()));
        assert_eq!(meter.take(1, 2, now), Err(Reason::Quota));
        assert_eq!(meter.take(1, 1, now + ms(999)), Ok(()));
        assert_eq!(meter.take(1, 1, now + ms(999)), Err(Reason::Quota));
        assert_eq!(meter.take(1, 5, now + ms(1000)), Ok(()));
    }

    #[test]
    fn texts_count_as_requests_where_told() {
        let limits = Limits { requests_per_window: Some(3), count_inputs: true, ..Limits::default() };
        let (mut meter, now) = meter(limits);
        assert_eq!(meter.take(2, 2, now), Ok(()));
        assert!(matches!(meter.take(2, 2, now), Err(Reason::Requests { limit: 3, .. })));
        assert_eq!(meter.take(1, 1, now), Ok(()));
    }

    #[test]
    fn high_water_is_of_any_window() {
        let (mut meter, now) = meter(Limits { window_ms: 100, ..Limits::default() });
        assert_eq!(meter.arrive(1, 5, now), (1, 5));
        assert_eq!(meter.arrive(1, 5, now + ms(99)), (2, 10));
        assert_eq!(meter.arrive(1, 5, now + ms(100)), (2, 10), "the first has left");
    }

    #[test]
    fn size_is_cut_or_refused() {
        let body = br#"{"model": "m", "input": ["abcdefgh", "\u00e4\u00e4\u00e4\u00e4\u00e4"], "truncation": true}"#;
        let ask = Format::Voyage.wire().read(body, &Place::default()).unwrap();
        let fitted = |ask: &Ask, limits: Limits| {
            let mut ask = ask.clone();
            fit(&mut ask, &limits).map(|()| ask.inputs)
        };
        let limits = |per_input, per_request| Limits {
            tokens_per_input: Some(per_input),
            tokens_per_request: Some(per_request),
            ..Limits::default()
        };
        assert_eq!(fitted(&ask, limits(3, 9)).unwrap(), ["abcdefgh", "äääää"]);
        assert_eq!(fitted(&ask, limits(1, 9)).unwrap(), ["abcd", "ää"]);
        assert_eq!(fitted(&ask, limits(3, 4)).unwrap_err(), Reason::BatchTooLong { most: 4, got: 5 });
        let strict = Ask { truncate: false, ..ask.clone() };
        assert_eq!(fitted(&strict, limits(2, 9)).unwrap_err(), Reason::InputTooLong { index: 1, most: 2, got: 3 });
        let few = Limits { inputs_per_request: Some(1), ..Limits::default() };
        assert_eq!(fitted(&ask, few).unwrap_err(), Reason::TooManyInputs { most: 1, got: 2 });
    }
}
