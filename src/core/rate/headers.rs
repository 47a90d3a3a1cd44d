//! The `x-ratelimit-*` headers of an answer.

use std::time::Duration;

use crate::error::wait::{number, span};
use crate::provider::Response;

/// One limit as a server reports it; what it does not say, or says without sense, is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// What is allowed in all.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// How long until all of it is back; never zero.
    pub reset: Option<Duration>,
}

/// What an answer says about the account's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateHeaders {
    /// Requests.
    pub requests: Meter,
    /// Tokens.
    pub tokens: Meter,
}

impl RateHeaders {
    /// Reads `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`.
    #[must_use]
    pub fn read(response: &Response) -> Self {
        let meter = |what: &str| Meter {
            limit: count(response, "limit", what),
            remaining: count(response, "remaining", what),
            reset: response.header(&format!("x-ratelimit-reset-{what}")).and_then(span),
        };
        Self { requests: meter("requests"), tokens: meter("tokens") }
    }

    /// Whether nothing follows from them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let says_nothing = |meter: &Meter| meter.remaining.is_none() || meter.reset.is_none();
        says_nothing(&self.requests) && says_nothing(&self.tokens)
    }
}

// Some servers answer -1 where they count nothing.
fn count(response: &Response, what: &str, of: &str) -> Option<u64> {
    let number = number(response.header(&format!("x-ratelimit-{what}-{of}"))?)?;
    (number >= 0.0).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> RateHeaders {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        RateHeaders::read(&Response { status: 200, headers, body: Vec::new() })
    }

    #[test]
    fn reads_what_makes_sense() {
        let read_all = read(&[
            ("x-ratelimit-limit-requests", "60"),
            ("X-RateLimit-Remaining-Requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let meter = |limit, remaining, ms| Meter {
            limit: Some(limit),
            remaining: Some(remaining),
            reset: Some(Duration::from_millis(ms)),
        };
        assert_eq!(read_all, RateHeaders { requests: meter(60, 59, 1000), tokens: meter(150_000, 149_984, 360_000) });
        assert_eq!(read(&[("x-ratelimit-reset-tokens", "12ms")]).tokens.reset, Some(Duration::from_millis(12)));
    }

    #[test]
    fn leaves_out_what_makes_none() {
        let odd = read(&[
            ("x-ratelimit-limit-requests", "many"),
            ("x-ratelimit-remaining-requests", "-1"),
            ("x-ratelimit-reset-requests", "0"),
            ("x-ratelimit-remaining-tokens", "NaN"),
            ("x-ratelimit-reset-tokens", "-1"),
        ]);
        assert_eq!(odd, RateHeaders::default());
        assert!(odd.is_empty());
        assert!(read(&[("x-ratelimit-remaining-requests", "5")]).is_empty());
    }
}
