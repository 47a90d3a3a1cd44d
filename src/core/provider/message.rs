//! What is sent, and what comes back.

use std::fmt;
use std::time::Duration;

use crate::secret::{REDACTED, Secret};
use crate::url::Url;

/// A header's value. `Debug` shows only what is no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// May be shown.
    Plain(String),
    /// May not.
    Secret(Secret),
}

impl HeaderValue {
    /// The text to be sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Secret(_) => f.write_str(REDACTED),
        }
    }
}

/// One POST, ready to be sent. `Debug` shows neither keys nor texts.
#[derive(Clone)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, HeaderValue)>,
    /// JSON.
    pub body: Vec<u8>,
    /// Total time, from the name lookup to the last byte of the answer.
    pub timeout: Duration,
    /// A longer answer is none.
    pub max_response_bytes: u64,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &Url::parse(&self.url).map_or_else(|_| REDACTED.to_owned(), |url| url.public()))
            .field("headers", &self.headers)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("timeout", &self.timeout)
            .field("max_response_bytes", &self.max_response_bytes)
            .finish()
    }
}

/// What a server answered.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The status line's number.
    pub status: u16,
    /// As they came.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}
