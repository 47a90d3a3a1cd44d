//! Limits as servers have them. Plain data, the same in Rust and in JSON.
//!
//! ```json
//! { "requests_per_window": 3, "tokens_per_window": 10000, "window_ms": 60000, "pace": "sliding",
//!   "tokens_per_request": 300000, "tokens_per_input": 8192, "inputs_per_request": 96, "quota_tokens": 1000000,
//!   "retry_after": "seconds", "headers": true,
//!   "capacity": { "at_once": 4, "latency_ms": 20, "beyond": "slower" } }
//! ```
//!
//! All parts may be left out. Tokens are the stub's own: one for each 4 bytes begun of every text ([`crate::tokens`]),
//! the same number that an answer reports as its usage.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a stub refuses or slows down, besides its script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most requests in a window.
    pub requests_per_window: Option<u64>,
    /// Most tokens in a window. A request that has more than this by itself is never taken.
    pub tokens_per_window: Option<u64>,
    /// How long a window is; a minute unless a test is to be faster.
    pub window_ms: u64,
    /// How a window is measured.
    pub pace: Pace,
    /// Every text counts as a request, as Gemini counts the texts of a batch.
    pub count_inputs: bool,
    /// Most tokens of one request.
    pub tokens_per_request: Option<u64>,
    /// Most tokens of one text; longer ones are cut if the request lets them be, or refused.
    pub tokens_per_input: Option<u64>,
    /// Most texts of one request, instead of the provider's own limit.
    pub inputs_per_request: Option<usize>,
    /// So many tokens, and then nothing but refusals that waiting does not mend.
    pub quota_tokens: Option<u64>,
    /// The quota is whole again so long after its first token was taken, as a day's is.
    pub quota_ms: Option<u64>,
    /// How a refusal says when to come back.
    pub retry_after: RetryAfter,
    /// Whether answers carry `x-ratelimit-limit-requests` and its relatives, for those windows that have a limit.
    pub headers: bool,
    /// A server with so much strength and no more.
    pub capacity: Option<Capacity>,
}

/// How a window is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// What was taken within the last window counts.
    #[default]
    Sliding,
    /// A bucket that fills evenly and holds a 60th of the window's worth: a second's for a minute.
    Even,
}

/// How a refusal says when to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// `retry-after: 7`, rounded up.
    #[default]
    Seconds,
    /// `retry-after: Sun, 06 Nov 1994 08:49:37 GMT`, rounded up.
    Date,
    /// `retry-after-ms: 6500`, rounded up.
    Millis,
    /// Not at all.
    None,
}

/// What requests at the same time do to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// So many requests at once have no effect on each other.
    pub at_once: u64,
    /// How long each of them takes.
    #[serde(default)]
    pub latency_ms: u64,
    /// What becomes of a request beyond them.
    #[serde(default)]
    pub beyond: Beyond,
}

/// What becomes of a request that is one too many at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// It takes longer, in proportion to the requests in flight: twice as long with twice as many as go at once.
    #[default]
    Slower,
    /// It is refused at once with this status, as 503 or 429.
    Status(u16),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_window: None,
            tokens_per_window: None,
            window_ms: 60_000,
            pace: Pace::Sliding,
            count_inputs: false,
            tokens_per_request: None,
            tokens_per_input: None,
            inputs_per_request: None,
            quota_tokens: None,
            quota_ms: None,
            retry_after: RetryAfter::Seconds,
            headers: true,
            capacity: None,
        }
    }
}

impl Limits {
    /// So many requests a minute, evenly.
    pub fn even_requests(per_minute: u64) -> Self {
        Self { requests_per_window: Some(per_minute), pace: Pace::Even, ..Self::default() }
    }

    /// Reads limits from the JSON object of the module's example.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        // An array would be read as the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err("no limits: not a JSON object".to_owned());
        }
        serde_json::from_str(text).map_err(|error| format!("no limits: {error}"))
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms.max(1))
    }
}

impl Capacity {
    /// How long a request takes that makes it so many in flight; the error is the status that it gets instead.
    pub(crate) fn latency(&self, in_flight: u64) -> Result<Duration, u16> {
        let latency = Duration::from_millis(self.latency_ms);
        let at_once = self.at_once.max(1);
        match self.beyond {
            _ if in_flight <= at_once => Ok(latency),
            Beyond::Slower => Ok(latency.mul_f64(in_flight as f64 / at_once as f64)),
            Beyond::Status(status) => Err(status),
        }
    }
}

/// A time as rate limit headers write it: `12ms`, `1s`, `1.5s`, `6m0s`, `1h0m30s`.
pub(crate) fn duration(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut out = String::new();
    if hours > 0 {
        out.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        out.push_str(&format!("{minutes}m"));
    }
    out.push_str(&seconds.to_string());
    if millis > 0 {
        out.push_str(format!(".{millis:03}").trim_end_matches('0'));
    }
    out.push('s');
    out
}

/// A moment as HTTP writes it (RFC 9110, section 5.6.7), of seconds since 1970.
pub(crate) fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS.into_iter().cycle().nth((days % 7) as usize).unwrap_or_default();
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut name = "";
    for (month, length) in MONTHS.into_iter().zip(lengths) {
        name = month;
        if day < length {
            break;
        }
        day -= length;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{weekday}, {:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn durations_read_as_servers_write_them() {
        let cases = [
            (0, "0ms"),
            (12, "12ms"),
            (999, "999ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_630_500, "1h0m30.5s"),
        ];
        for (millis, text) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration(Duration::from_nanos(1)), "1ms", "rounded up, or a client comes too early");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // The RFC's own example, the first second, leap days and turns of years (from `date -u -R -d @SECONDS`).
        let cases = [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ];
        for (seconds, text) in cases {
            assert_eq!(http_date(seconds), text);
        }
    }

    #[test]
    fn latency_grows_in_proportion_or_the_status_comes() {
        let slower = Capacity { at_once: 4, latency_ms: 20, beyond: Beyond::Slower };
        let at = |in_flight| slower.latency(in_flight).unwrap().as_millis();
        assert_eq!([at(1), at(4), at(5), at(8), at(40)], [20, 20, 25, 40, 200]);
        let refusing = Capacity { beyond: Beyond::Status(503), ..slower };
        assert_eq!(refusing.latency(4), Ok(Duration::from_millis(20)));
        assert_eq!(refusing.latency(5), Err(503));
    }

    #[test]
    fn limits_read_the_same_from_json() {
        assert_eq!(Limits::from_json("{}").unwrap(), Limits::default());
        let limits = Limits {
            requests_per_window: Some(3),
            window_ms: 500,
            pace: Pace::Even,
            retry_after: RetryAfter::Date,
            capacity: Some(Capacity { at_once: 2, latency_ms: 0, beyond: Beyond::Status(429) }),
            ..Limits::default()
        };
        assert_eq!(Limits::from_json(&serde_json::to_string(&limits).unwrap()).unwrap(), limits);
        let text = r#"{"requests_per_window": 3, "window_ms": 500, "pace": "even", "retry_after": "date",
            "capacity": {"at_once": 2, "beyond": {"status": 429}}}"#;
        assert_eq!(Limits::from_json(text).unwrap(), limits);
        for wrong in ["", "[]", r#"{"requests": 1}"#, r#"{"pace": "fast"}"#, r#"{"capacity": {}}"#] {
            assert!(Limits::from_json(wrong).unwrap_err().starts_with("no limits"), "{wrong}");
        }
    }
}
