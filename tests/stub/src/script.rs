//! Scripts: which request meets which fault. Plain data, the same in Rust and in JSON.
//!
//! ```json
//! { "rules": [
//!     { "when": { "text_contains": "poison" }, "do": { "fault": { "status": { "code": 400 } } } },
//!     { "when": { "nth": [2, 4] }, "do": { "delay_ms": 50, "fault": "close" }, "times": 2 }
//!   ],
//!   "random": { "seed": 7, "probability": 0.1, "faults": [ { "fault": "nan" } ] } }
//! ```
//!
//! The first rule that matches wins; if none does, the random faults get their chance. An array is read as the rules alone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a stub is to do besides answering well.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Script {
    /// Looked at in order.
    pub rules: Vec<Rule>,
    /// Faults by chance, for requests that no rule caught.
    pub random: Option<Random>,
}

/// One line of a script.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests. The empty condition is all of them.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    #[serde(rename = "do")]
    pub what: Do,
    /// How often at most; `None` is always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// A condition; all of its parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Embedding requests from the first to the second number, both included, counted from 1 since the script was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<[u64; 2]>,
    /// Every so many requests: with 3 the third, the sixth and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Some input contains this. Faults of single items then strike these items, otherwise the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_contains: Option<String>,
    /// The request has more inputs than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs_over: Option<usize>,
}

/// A delay, a fault, or a delay and then a fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Do {
    /// Milliseconds before the answer (or before the fault).
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_ms: u64,
    /// What goes wrong; `None` is a good answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Everything that can go wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Another status than 200.
    Status {
        /// The status.
        code: u16,
        /// The body; by default what the provider would say with this status.
        #[serde(default)]
        body: Body,
        /// Headers besides, as `retry-after`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// No answer until the client closes.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// A good answer that ends, with the connection, after so many bytes of its body.
    Truncate(usize),
    /// A good answer that drips.
    SlowBody {
        /// Bytes at a time.
        bytes: usize,
        /// Milliseconds between them.
        interval_ms: u64,
    },
    /// A body that never ends.
    Endless,
    /// 302 to this address; `None` is the stub itself, where following would be counted as a request.
    Redirect(Option<String>),
    /// 200 with a web page.
    Html,
    /// 200 labelled JSON that is none.
    NotJson,
    /// 200 with JSON nested 200,000 deep.
    DeepJson,
    /// Vectors of this size, in every item.
    WrongDimensions(usize),
    /// A not-a-number in an item (in JSON floats the bare word `NaN`, as some servers print it).
    Nan,
    /// An infinity in an item (in JSON floats `1e39`, which an f32 reads as infinity).
    Inf,
    /// An item that is all zero.
    Zero,
    /// One item is left out.
    Missing,
    /// Two items have the same index. (In formats without an index: one vector too many, a copy.)
    Double,
    /// One item too many, with the next index.
    Extra,
    /// The items in another order. Where they have an index, each still has its own, so that nothing is wrong; where they
    /// have none, the answer is wrong and nobody can know.
    Shuffled,
    /// The items have no index. (In formats without an index: a good answer.)
    NoIndex,
    /// A small body, labelled gzip, that unpacks to so many mebibytes.
    GzipBomb(u32),
    /// A good answer labelled `text/plain`.
    WrongContentType,
    /// Refused, as the provider would, if the request has more inputs than this; others are answered well.
    TooManyInputs(usize),
    /// Refused, as the provider would, if an input contains this text; others are answered well.
    Poison(String),
    /// 500 if an input contains this text; others are answered well.
    ServerErrorOn(String),
}

/// The body of an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// What fits the status.
    #[default]
    Auto,
    /// 429 that waiting mends.
    RateLimit,
    /// 429 that only paying mends; set the status besides, for providers that have another for it.
    InsufficientQuota,
    /// 401.
    InvalidKey,
    /// 404.
    ModelNotFound,
    /// 400: an input is too long.
    TooLong,
    /// 400: a bad input.
    BadInput,
    /// 503.
    Overloaded,
    /// 500.
    Internal,
    /// Nothing at all.
    Empty,
    /// This very text, as `application/json` if it begins with a brace, else as `text/plain`.
    Raw(String),
}

/// Faults by chance, the same for the same seed and the same sequence of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// Where the sequence starts.
    pub seed: u64,
    /// Of a fault, for each request, from 0 to 1.
    pub probability: f64,
    /// Chosen among evenly.
    pub faults: Vec<Do>,
}

impl Fault {
    /// A status with the provider's own error body.
    pub fn status(code: u16) -> Self {
        Self::Status { code, body: Body::Auto, headers: BTreeMap::new() }
    }

    /// A status with a body of this kind.
    pub fn status_with(code: u16, body: Body) -> Self {
        Self::Status { code, body, headers: BTreeMap::new() }
    }

    /// The same with a header besides, if it is a status; any other fault stays as it is.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.insert(name.to_owned(), value.to_owned());
        }
        self
    }
}

impl From<Fault> for Do {
    fn from(fault: Fault) -> Self {
        Self { delay_ms: 0, fault: Some(fault) }
    }
}

impl Do {
    /// A good answer, late.
    pub fn delay(delay: Duration) -> Self {
        Self { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), fault: None }
    }

    /// The same with a fault after the delay.
    pub fn then(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}

impl Rule {
    /// This for every request, until narrowed.
    pub fn new(what: impl Into<Do>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// Only the requests from the `from`th to the `to`th, both included, counted from 1 since the script was set.
    pub fn nth(mut self, from: u64, to: u64) -> Self {
        self.when.nth = Some([from, to]);
        self
    }

    /// Only every so many requests.
    pub fn every(mut self, n: u64) -> Self {
        self.when.every = Some(n);
        self
    }

    /// Only requests with an input that contains this.
    pub fn text_contains(mut self, text: &str) -> Self {
        self.when.text_contains = Some(text.to_owned());
        self
    }

    /// Only requests with more inputs than this.
    pub fn inputs_over(mut self, n: usize) -> Self {
        self.when.inputs_over = Some(n);
        self
    }

    /// At most so often.
    pub fn times(mut self, n: u64) -> Self {
        self.times = Some(n);
        self
    }
}

impl Script {
    /// Every request.
    pub fn always(what: impl Into<Do>) -> Self {
        Self::default().rule(Rule::new(what))
    }

    /// The next `n` requests.
    pub fn first(n: u64, what: impl Into<Do>) -> Self {
        Self::default().rule(Rule::new(what).times(n))
    }

    /// With one more rule, looked at after the others.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// With faults by chance for what no rule caught.
    pub fn random(mut self, seed: u64, probability: f64, faults: Vec<Do>) -> Self {
        self.random = Some(Random { seed, probability, faults });
        self
    }

    /// Reads a script from JSON: the object of the module's example, or an array of rules.
    pub fn from_json(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            #[serde(default)]
            rules: Vec<Rule>,
            #[serde(default)]
            random: Option<Random>,
        }
        let wrong = |error: serde_json::Error| format!("not a script: {error}");
        if text.trim_start().starts_with('[') {
            let rules = serde_json::from_str(text).map_err(wrong)?;
            return Ok(Self { rules, random: None });
        }
        let Whole { rules, random } = serde_json::from_str(text).map_err(wrong)?;
        Ok(Self { rules, random })
    }
}

impl std::str::FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_json(text)
    }
}
