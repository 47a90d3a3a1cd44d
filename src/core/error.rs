//! What failed, and what follows from it.
//!
//! Every failure of a request becomes a [`Failure`]: an [`Action`] for the worker, and a code, a message and a hint for
//! people. The rules for answers of servers are in [`from_response`], those for answers that never came in
//! [`from_transport`]; the readers of the wire formats use the constructors of [`Failure`].

use std::fmt;
use std::time::Duration;

use crate::host::Refusal;
use crate::model::Model;

mod body;
mod bounded;
mod meaning;
mod oversize;
mod rules;
pub(crate) mod wait;

pub use oversize::{Oversize, Part, Unit};
pub use rules::from_response;

/// The longest message that is kept, in bytes.
pub const MAX_MESSAGE: usize = 500;

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Try again later, with backoff: the server, the network or the answer was at fault.
    Retry,
    /// Send nothing for a while; costs no attempt.
    SlowDown {
        /// How long, if the server said so; never zero, at most an hour.
        after: Option<Duration>,
    },
    /// One of several inputs is at fault: send them in halves.
    Split,
    /// This one input will never be accepted.
    Reject,
    /// Nothing of this model can work until somebody changes something.
    Halt,
}

/// One failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do.
    pub action: Action,
    /// Short and machine-readable: `http_401`, `timeout`, `insufficient_quota`, `daily_quota`, `bad_vector`, ...
    pub code: String,
    /// What happened, in the server's own words where it gave any: at most [`MAX_MESSAGE`] bytes, without control
    /// characters and without the key.
    pub message: String,
    /// What a database user does next.
    pub hint: String,
    /// The server works and this single input is at fault, though it may be accepted another time: the attempt is the
    /// input's, whatever the state of the model.
    pub blames_input: bool,
    /// The request, or one of its inputs, is too large: what the server says about sizes.
    pub oversize: Option<Box<Oversize>>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure whose message is cleaned and cut.
    #[must_use]
    pub fn new(action: Action, code: impl Into<String>, message: &str, hint: impl Into<String>) -> Self {
        Self {
            action,
            code: code.into(),
            message: sentence(message),
            hint: hint.into(),
            blames_input: false,
            oversize: None,
        }
    }

    /// The model's definition or the place it points to cannot work.
    pub(crate) fn halt(code: &str, message: &str, hint: impl Into<String>) -> Self {
        Self::new(Action::Halt, code, message, hint)
    }

    /// An answer with status 200 that is none: an outage of the server behind the address.
    pub(crate) fn bad_answer(message: &str) -> Self {
        Self::new(
            Action::Retry,
            "bad_answer",
            message,
            "It is tried again. If it stays, check that the model's url is the base of an embedding API that speaks its provider's format.",
        )
    }

    /// Vectors that cannot be matched to `inputs` inputs, or cannot be used.
    pub(crate) fn bad_vectors(inputs: usize, code: &str, message: &str) -> Self {
        let alone = inputs <= 1;
        Self {
            blames_input: alone,
            ..Self::new(
                if alone { Action::Retry } else { Action::Split },
                code,
                message,
                "Nothing of this answer was written. Call autoembed.retry_failed() after changing the text or the server.",
            )
        }
    }

    /// Vectors of another length than the model's.
    pub(crate) fn wrong_dimensions(model: &Model, got: usize) -> Self {
        let want = model.dimensions;
        Self::halt(
            "wrong_dimensions",
            &format!("model \"{}\" returned a vector of {got} dimensions, expected {want}", model.name),
            format!(
                "The server's vectors have {got} dimensions, the model is defined with {want}. Create the model again with dimensions => {got}, \
                 or, if the server can shorten its vectors, with options => '{{\"send_dimensions\": true}}'."
            ),
        )
    }
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportError {
    /// The model's timeout passed.
    Timeout,
    /// No connection, or the connection broke.
    Connect(String),
    /// The host's name was not found.
    Dns(String),
    /// TLS could not be set up.
    Tls(String),
    /// The answer is larger than the vectors asked for can be.
    TooLarge,
    /// The server answered with this redirect.
    Redirect(u16),
    /// What came is not HTTP, or broke off.
    Protocol(String),
    /// Nothing was sent: the host is not one of those that are allowed.
    Refused(String),
}

/// What follows from a request of `inputs` inputs that got no answer.
///
/// Everything is tried again, but for an answer that is too large (halved until one input stands alone: then its
/// vector's length can be named), a redirect (the url is wrong) and a host that is not allowed.
#[must_use]
pub fn from_transport(model: &Model, inputs: usize, error: &TransportError) -> Failure {
    let seconds = model.timeout.as_secs_f64();
    let retry = |code: &str, message: String, hint: &str| Failure::new(Action::Retry, code, &message, hint);
    match error {
        TransportError::Timeout => retry(
            "timeout",
            format!("the server of model \"{}\" did not answer within {seconds} s", model.name),
            "It is tried again. If the server needs longer, create the model with a larger timeout or a smaller max_batch_inputs.",
        ),
        TransportError::Connect(why) => retry(
            "connection",
            format!("could not reach the server of model \"{}\": {why}", model.name),
            "It is tried again. Check that the server runs and that the model's url names its host and port.",
        ),
        TransportError::Dns(why) => retry(
            "dns",
            format!("could not find the host of model \"{}\": {why}", model.name),
            "It is tried again. Check the host name in the model's url, and that this server can resolve it.",
        ),
        TransportError::Tls(why) => retry(
            "tls",
            format!("could not set up TLS with the server of model \"{}\": {why}", model.name),
            "It is tried again. Check that the model's url names the right host, and set autoembed.ca_file if its certificate comes from a private authority.",
        ),
        TransportError::Protocol(why) => retry(
            "protocol",
            format!("the server of model \"{}\" did not answer in HTTP: {why}", model.name),
            "It is tried again. If it stays, check scheme and port of the model's url.",
        ),
        TransportError::TooLarge => Failure::new(
            if inputs > 1 { Action::Split } else { Action::Retry },
            "answer_too_large",
            &format!(
                "the server of model \"{}\" sent more than {inputs} vectors of {} dimensions can need",
                model.name, model.dimensions
            ),
            "Check that the model's dimensions are those of the server's vectors, and that its url is the base of an embedding API.",
        ),
        TransportError::Redirect(status) => redirected(model, *status),
        TransportError::Refused(why) => Failure::halt("host_not_allowed", why, Refusal::HINT),
    }
}

fn redirected(model: &Model, status: u16) -> Failure {
    Failure::halt(
        "url",
        &format!("the server of model \"{}\" redirects to another address (status {status})", model.name),
        format!("Redirects are not followed. Create the model with the url that {} leads to.", public_url(model)),
    )
}

fn public_url(model: &Model) -> String {
    model
        .base_url()
        .and_then(|url| crate::url::Url::parse(url).ok())
        .map_or_else(|| "none".to_owned(), |url| url.public())
}

/// A server's sentence may end in a full stop; it goes on in states and error messages.
fn sentence(message: &str) -> String {
    let cleaned = clean(message);
    match cleaned.trim_end_matches(['.', ' ']) {
        "" => "no reason was given".to_owned(),
        said => said.to_owned(),
    }
}

/// One line without control characters, at most [`MAX_MESSAGE`] bytes.
pub(crate) fn clean(text: &str) -> String {
    one_line(text, MAX_MESSAGE)
}

/// One line without control characters, at most `max` bytes.
fn one_line(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for word in
        text.split(|c: char| c.is_control() || c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty())
    {
        let gap = usize::from(!line.is_empty());
        let fits = beginning(word, max.saturating_sub(line.len() + gap));
        if fits.is_empty() {
            break;
        }
        if gap == 1 {
            line.push(' ');
        }
        line.push_str(fits);
        if fits.len() < word.len() {
            break;
        }
    }
    line
}

/// At most `max` bytes of `text`, up to the end of a character.
fn beginning(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

// Marks that turn the direction of what follows, or show nothing, have no place in a log.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
