//! The servers of the simulation: what they allow, when they fail, and how they say so.

use std::collections::VecDeque;
use std::time::Duration;

use autoembed_core::{Response, TransportError};

pub const S: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);

/// Numbers that look like chance and are the same every time (Knuth's multiplier).
pub struct Chance(pub u64);

impl Chance {
    /// From 0 to 1.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((self.0 >> 40) as u32) / f64::from(1u32 << 24)
    }
}

/// What a server allows in a minute, and how it counts.
pub enum Meter {
    /// At most `most` in any minute.
    Window { most: u64, seen: VecDeque<(Duration, u64)> },
    /// `full` at once, and `most` a minute refilled bit by bit.
    Bucket { most: u64, full: f64, left: f64, at: Duration },
}

impl Meter {
    pub fn window(most: u64) -> Self {
        Self::Window { most, seen: VecDeque::new() }
    }

    /// A second's worth, as servers do that enforce 60 a minute as 1 a second.
    pub fn bucket(most: u64) -> Self {
        Self::deep_bucket(most, (most as f64 / 60.0).max(1.0))
    }

    pub fn deep_bucket(most: u64, full: f64) -> Self {
        Self::Bucket { most, full, left: full, at: Duration::ZERO }
    }

    /// Takes `n` at `now`, or says how long until that can be.
    fn take(&mut self, now: Duration, n: u64) -> Result<(), Duration> {
        match self {
            Self::Window { most, seen } => {
                while seen.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
                    seen.pop_front();
                }
                let mut sum: u64 = seen.iter().map(|(_, n)| n).sum();
                if sum + n <= *most {
                    seen.push_back((now, n));
                    return Ok(());
                }
                for (at, n_then) in seen.iter() {
                    sum -= n_then;
                    if sum + n <= *most {
                        return Err(*at + MINUTE - now);
                    }
                }
                Err(MINUTE)
            }
            Self::Bucket { most, full, left, at } => {
                let a_second = *most as f64 / 60.0;
                *left = (*left + now.saturating_sub(*at).as_secs_f64() * a_second).min(*full);
                *at = now.max(*at);
                // Sums of fractions are not exact.
                if *left + 1e-6 >= n as f64 {
                    *left -= n as f64;
                    return Ok(());
                }
                Err(Duration::from_secs_f64((n as f64 - *left) / a_second))
            }
        }
    }

    /// What it allows in all, what is left, and how long until all is back.
    fn report(&self, now: Duration) -> (u64, u64, Duration) {
        match self {
            Self::Window { most, seen } => {
                let sum: u64 = seen.iter().map(|(_, n)| n).sum();
                (*most, most - sum, seen.back().map_or(Duration::ZERO, |(at, _)| (*at + MINUTE).saturating_sub(now)))
            }
            Self::Bucket { most, full, left, .. } => {
                let back = Duration::from_secs_f64((full - left).max(0.0) * 60.0 / *most as f64);
                (*full as u64, left.max(0.0) as u64, back)
            }
        }
    }
}

/// How a server says that it was too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tells {
    Nothing,
    RetryAfter,
    Headers,
}

/// What is wrong with a server at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    None,
    Refused,
    Unavailable,
    Silent,
    TooMany(Tells),
    Unpaid,
}

/// How long an answer takes: for its inputs, with so many requests under way.
type Latency = fn(now: Duration, inputs: usize, in_flight: usize) -> Duration;

/// What a request of these rows gets for its content; `None`: vectors.
type Taste = Box<dyn Fn(&[usize]) -> Option<(u16, &'static str)>>;

pub struct Server {
    pub trouble: Box<dyn Fn(Duration) -> Trouble>,
    pub requests: Option<Meter>,
    pub tokens: Option<Meter>,
    pub tells: Tells,
    pub latency: Latency,
    pub taste: Taste,
    /// No two requests take the same time: a fifth more or less.
    pub chance: Chance,
    /// Its tokens for each one of our estimate.
    pub ratio: f64,
    /// Tokens that it counted, with the time.
    pub counted: Vec<(Duration, u64)>,
}

pub struct Reply {
    pub took: Duration,
    pub result: Result<Response, TransportError>,
    pub tokens: u64,
}

impl Server {
    pub fn new() -> Self {
        Self {
            trouble: Box::new(|_| Trouble::None),
            requests: None,
            tokens: None,
            tells: Tells::Nothing,
            latency: |_, _, _| S / 10,
            taste: Box::new(|_| None),
            chance: Chance(7),
            ratio: 0.75,
            counted: Vec::new(),
        }
    }

    /// What becomes of a request that is sent at `now`; `in_flight`: with this one.
    pub fn answer(
        &mut self,
        now: Duration,
        rows: &[usize],
        estimate: usize,
        in_flight: usize,
        timeout: Duration,
    ) -> Reply {
        let inputs = rows.len().max(1);
        let tokens = (estimate as f64 * self.ratio).ceil() as u64;
        let latency = (self.latency)(now, inputs, in_flight).mul_f64(0.8 + 0.4 * self.chance.next());
        let arrives = now + latency / 2;
        let reply = |took, result| Reply { took, result, tokens };
        match (self.trouble)(arrives) {
            Trouble::None => {}
            Trouble::Refused => return reply(S / 1000, Err(TransportError::Connect("connection refused".into()))),
            Trouble::Silent => return reply(timeout, Err(TransportError::Timeout)),
            Trouble::Unavailable => return reply(latency, Ok(response(503, Vec::new(), "upstream is down"))),
            Trouble::TooMany(tells) => {
                let headers = match tells {
                    Tells::Nothing => Vec::new(),
                    Tells::RetryAfter => vec![("retry-after".to_owned(), "60".to_owned())],
                    Tells::Headers => meter_headers("requests", (60, 0, MINUTE)),
                };
                return reply(latency, Ok(response(429, headers, r#"{"error":{"message":"slow down"}}"#)));
            }
            Trouble::Unpaid => {
                let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
                return reply(latency, Ok(response(429, Vec::new(), body)));
            }
        }
        if let Err(wait) = self.meters(arrives, tokens) {
            let mut headers = self.headers(arrives);
            if self.tells == Tells::RetryAfter {
                headers.push(("retry-after".to_owned(), wait.as_secs_f64().ceil().to_string()));
            }
            return reply(latency, Ok(response(429, headers, r#"{"error":{"message":"Rate limit reached"}}"#)));
        }
        if latency > timeout {
            self.counted.push((now, tokens));
            return reply(timeout, Err(TransportError::Timeout));
        }
        if let Some((status, body)) = (self.taste)(rows) {
            return reply(latency, Ok(response(status, self.headers(arrives), body)));
        }
        self.counted.push((now, tokens));
        reply(latency, Ok(response(200, self.headers(arrives), "")))
    }

    fn meters(&mut self, arrives: Duration, tokens: u64) -> Result<(), Duration> {
        if let Some(meter) = &mut self.tokens {
            meter.take(arrives, tokens)?;
        }
        self.requests.as_mut().map_or(Ok(()), |meter| meter.take(arrives, 1))
    }

    fn headers(&self, now: Duration) -> Vec<(String, String)> {
        if self.tells != Tells::Headers {
            return Vec::new();
        }
        let mut headers = Vec::new();
        for (what, meter) in [("requests", &self.requests), ("tokens", &self.tokens)] {
            headers.extend(meter.iter().flat_map(|meter| meter_headers(what, meter.report(now))));
        }
        headers
    }
}

fn meter_headers(what: &str, (limit, remaining, reset): (u64, u64, Duration)) -> Vec<(String, String)> {
    let header = |field: &str, value: String| (format!("x-ratelimit-{field}-{what}"), value);
    let reset = format!("{}ms", reset.as_millis() + 1);
    vec![header("limit", limit.to_string()), header("remaining", remaining.to_string()), header("reset", reset)]
}

fn response(status: u16, headers: Vec<(String, String)>, body: &str) -> Response {
    Response { status, headers, body: body.as_bytes().to_vec() }
}
