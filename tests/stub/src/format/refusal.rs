//! Why a request is refused, before it is put into a provider's words.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::Format;
use crate::Body;
use crate::http::Response;

/// Why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reason {
    /// The key is not the right one.
    Key,
    /// There is no key where this provider looks for it.
    NoKey,
    /// There is no such model.
    Model(String),
    /// There is no such path.
    Path,
    /// Another method than POST.
    Method,
    /// A field that the provider does not know.
    UnknownField(String),
    /// A field with a value that it may not have.
    Field {
        field: &'static str,
        why: String,
    },
    /// A body that is not of the format.
    Body(String),
    /// No text, or an empty one.
    Empty,
    TooManyInputs {
        most: usize,
        got: usize,
    },
    /// One text is too long.
    InputTooLong {
        index: usize,
        most: u64,
        got: u64,
    },
    /// All texts of the request together are too long.
    BatchTooLong {
        most: u64,
        got: u64,
    },
    Dimensions {
        asked: usize,
        most: usize,
    },
    /// The texts do not please.
    BadInput,
    /// Too many requests in the window; `wait` until there is room, if that is told.
    Requests {
        limit: u64,
        wait: Option<Duration>,
    },
    /// Too many tokens in the window.
    Tokens {
        limit: u64,
        asked: u64,
        wait: Option<Duration>,
    },
    /// More tokens in one request than the window ever allows.
    TooLarge {
        limit: u64,
        asked: u64,
    },
    /// Nothing is left of what was paid for.
    Quota,
    Overloaded,
    Internal,
}

impl Reason {
    /// The status of most providers.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Key | Self::NoKey => 401,
            Self::Model(_) | Self::Path => 404,
            Self::Method => 405,
            Self::Requests { .. } | Self::Tokens { .. } | Self::TooLarge { .. } | Self::Quota => 429,
            Self::Overloaded => 503,
            Self::Internal => 500,
            _ => 400,
        }
    }

    /// How long to wait, where waiting helps and it is told.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Requests { wait, .. } | Self::Tokens { wait, .. } => *wait,
            _ => None,
        }
    }

    /// What a scripted error body means.
    fn scripted(status: u16, body: &Body) -> Self {
        match body {
            Body::RateLimit => Self::Requests { limit: 60, wait: None },
            Body::InsufficientQuota => Self::Quota,
            Body::InvalidKey => Self::Key,
            Body::ModelNotFound => Self::Model("m".to_owned()),
            Body::TooLong => Self::InputTooLong { index: 0, most: 8192, got: 9000 },
            Body::BadInput => Self::BadInput,
            Body::Overloaded => Self::Overloaded,
            Body::Internal => Self::Internal,
            Body::Auto | Body::Empty | Body::Raw(_) => Self::scripted(status, fitting(status)),
        }
    }
}

/// What usually comes with a status.
fn fitting(status: u16) -> &'static Body {
    match status {
        401 | 403 => &Body::InvalidKey,
        404 => &Body::ModelNotFound,
        413 => &Body::TooLong,
        429 => &Body::RateLimit,
        503 | 529 => &Body::Overloaded,
        400..500 => &Body::BadInput,
        _ => &Body::Internal,
    }
}

impl fmt::Display for Reason {
    /// A plain sentence, for providers that have no wording of their own for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("This API key is not valid"),
            Self::NoKey => f.write_str("An API key must be given"),
            Self::Model(model) => write!(f, "There is no such model: {model}"),
            Self::Path => f.write_str("There is no such path"),
            Self::Method => f.write_str("Only POST works here"),
            Self::UnknownField(field) => write!(f, "The field '{field}' is not known"),
            Self::Field { field, why } => write!(f, "The field '{field}' {why}"),
            Self::Body(error) => write!(f, "The request could not be read: {error}"),
            Self::Empty => f.write_str("An input must not be empty"),
            Self::TooManyInputs { most, got } => write!(f, "{got} inputs are more than {most}"),
            Self::InputTooLong { index, most, got } => {
                write!(f, "Input {index} has {got} tokens, which are more than {most}")
            }
            Self::BatchTooLong { most, got } => write!(f, "{got} tokens are more than {most}"),
            Self::Dimensions { most, .. } => write!(f, "This model has no more than {most} dimensions"),
            Self::BadInput => f.write_str("An input is not acceptable"),
            Self::Requests { .. } => f.write_str("Too many requests for now"),
            Self::Tokens { .. } => f.write_str("Too many tokens for now"),
            Self::TooLarge { limit, asked } => write!(f, "{asked} tokens are more than the {limit} of a minute"),
            Self::Quota => f.write_str("The quota is used up"),
            Self::Overloaded => f.write_str("The server is overloaded"),
            Self::Internal => f.write_str("The server had an error"),
        }
    }
}

/// A no in a format.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) format: Format,
    pub(crate) reason: Reason,
    /// Instead of the provider's own for this reason.
    pub(crate) status: Option<u16>,
}

impl Refusal {
    pub(crate) fn new(format: Format, reason: Reason) -> Self {
        Self { format, reason, status: None }
    }

    /// What a script asks for.
    pub(crate) fn scripted(format: Format, status: u16, body: &Body) -> Self {
        Self { format, reason: Reason::scripted(status, body), status: Some(status) }
    }

    pub(crate) fn response(&self) -> Response {
        let (status, body) = self.format.wire().refuse(&self.reason);
        let status = self.status.unwrap_or(status);
        match body {
            Value::Null => Response::json(status, Vec::new()),
            body => Response::json(status, at_status(body, status).to_string()),
        }
    }
}

/// Google's errors repeat the status within.
fn at_status(mut body: Value, status: u16) -> Value {
    if let Some(code) = body.pointer_mut("/error/code")
        && code.is_u64()
    {
        *code = status.into();
    }
    body
}
