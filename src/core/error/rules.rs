//! What follows from an answer that is none.

use std::time::Duration;

use super::body::Said;
use super::oversize::{Oversize, Part, Unit};
use super::{Action, Failure, public_url, redirected, wait};
use crate::model::Model;
use crate::provider::Response;
use crate::secret::Secret;

/// What follows from an answer whose status is not 2xx.
///
/// `inputs` is how many the request had; `key` is removed from what the server says; `now_unix` (seconds) is what dates
/// in `Retry-After` are compared with.
///
/// | status | action |
/// |---|---|
/// | 401, 402, 403, 404, 405, 406, 407, 410, 415, 426, 451, 498, 501, 3xx | halt |
/// | 429, 529, 503 with a wait or that speaks of overload | slow down; halt if the account has run dry, or a quota of an hour or longer |
/// | 400, 413, 422, 500 that speaks of a size | split, or reject one input; halt if the key, the place, the model, its dimensions or another parameter is at fault, or a page answers |
/// | 429 "request too large" | split, or reject one input that is larger than the limit |
/// | everything else | retry |
#[must_use]
pub fn from_response(
    model: &Model,
    key: Option<&Secret>,
    inputs: usize,
    response: &Response,
    now_unix: u64,
) -> Failure {
    let status = response.status;
    if (300..400).contains(&status) {
        return redirected(model, status);
    }
    let said = Said::read(&response.body);
    let refusal = Refused { model, inputs, status, message: said.sentence(model, status, key) };

    if let Some(failure) = refusal.of_account(&said, response, now_unix) {
        return failure;
    }
    if (400..500).contains(&status) && status != 413 && said.is_about_content() {
        return refusal.of_text(
            "content_filter",
            "The provider's rules refuse this text. Change it, then call autoembed.retry_failed().",
        );
    }
    if (400..500).contains(&status) && said.is_about_key() || matches!(status, 401 | 498) {
        return refusal.halt(None, key_hint(key.is_some()));
    }
    if let Some(failure) = refusal.of_size(&said) {
        return failure;
    }
    match status {
        400 | 403 | 451 if said.is_about_place() => refusal.halt(
            Some("region"),
            "The provider does not serve the place that the requests come from. Use an endpoint in a region that it serves.".to_owned(),
        ),
        400 | 422 if said.is_about_dimensions() => refusal.halt(Some("dimensions_refused"), format!(
            "The server does not accept {} dimensions. Create the model again with the length of its own vectors, and without send_dimensions.",
            model.dimensions
        )),
        400 | 403 | 404 | 422 | 501 if said.is_unknown_model() => refusal.halt(Some("unknown_model"), format!(
            "The server does not offer \"{}\" for embeddings, or not to this key. Create the model with a name it offers, or load it there.",
            model.remote
        )),
        403 | 407 | 451 if status == 407 || said.is_about_access() => refusal.halt(None, access_hint(model)),
        403 | 451 => refusal.halt(None, right_hint(key.is_some())),
        404 | 405 | 406 | 410 | 415 | 426 | 501 => refusal.halt(None, format!(
            "Check the model's url ({}): it is the base of the API, as the provider's own SDK takes it.",
            public_url(model)
        )),
        400 | 422 if said.is_page => refusal.halt(None, access_hint(model)),
        400 if said.has_code(&["failed_precondition"]) => refusal.halt(
            None,
            "The provider wants something of the account first; work goes on by itself then.".to_owned(),
        ),
        400 | 422 if said.is_about_a_parameter(model) => refusal.halt(
            None,
            "The server refuses a parameter of the request. Check that the model's provider is the one that its url speaks, and correct its options.".to_owned(),
        ),
        400 | 413 | 422 => refusal.of_input(),
        429 | 529 => refusal.slow_down(wait::asked_for(response, said.wait, &said.words, now_unix)),
        503 if said.is_overload() => refusal.slow_down(wait::asked_for(response, said.wait, &said.words, now_unix)),
        503 => match wait::by_retry_after(response, now_unix) {
            Some(after) => refusal.slow_down(Some(after)),
            None => refusal.retry(),
        },
        _ => refusal.retry(),
    }
}

/// What every rule needs to say what follows.
struct Refused<'a> {
    model: &'a Model,
    inputs: usize,
    status: u16,
    message: String,
}

impl Refused<'_> {
    /// The account has run dry: for good, or for an hour or longer. Where the server says when it may be asked again,
    /// that is a pause like others.
    fn of_account(&self, said: &Said, response: &Response, now_unix: u64) -> Option<Failure> {
        let paid = (self.status == 402).then(|| self.code());
        if let Some(code) = said.spent_account().map(str::to_owned).or(paid) {
            return Some(self.halt(Some(&code), format!(
                "Waiting does not mend this: see to credit, payment and plan with the provider of model \"{}\"; work goes on by itself then.",
                self.model.name
            )));
        }
        if !(self.status == 429 || self.status == 403 && said.is_call_quota()) {
            return None;
        }
        let code = said.spent_period()?;
        match wait::asked_for(response, said.wait, &said.words, now_unix).filter(|_| !said.has_spent_day()) {
            Some(after) => Some(self.slow_down(Some(after))),
            None => Some(self.halt(Some(code), format!(
                "A quota of model \"{}\" is used up. Work goes on by itself when its time is over; a larger quota is the provider's to give.",
                self.model.name
            ))),
        }
    }

    /// The request, or one of its inputs, is too large.
    fn of_size(&self, said: &Said) -> Option<Failure> {
        let alone = self.inputs <= 1;
        let oversize = match self.status {
            400 | 413 | 422 | 429 | 500 => Oversize::read(&said.words),
            _ => None,
        };
        let part = if alone { Part::Input } else { Part::Batch };
        let oversize = oversize.or_else(|| (self.status == 413).then(|| Oversize::unsaid(part, Unit::Bytes)))?;
        // A limit of a minute may leave room for this input when the minute is over.
        if self.status == 429 && alone && !oversize.is_certain() {
            return None;
        }
        Some(Failure { oversize: Some(Box::new(oversize)), ..self.of_input() })
    }

    fn of_input(&self) -> Failure {
        self.of_text(
            &self.code(),
            "The server refuses this text. Change it, or lower the model's max_input_tokens if it is too long; then call autoembed.retry_failed().",
        )
    }

    fn of_text(&self, code: &str, hint: &str) -> Failure {
        let action = if self.inputs > 1 { Action::Split } else { Action::Reject };
        Failure::new(action, code, &self.message, hint)
    }

    fn halt(&self, code: Option<&str>, hint: String) -> Failure {
        Failure::halt(&code.map_or_else(|| self.code(), str::to_owned), &self.message, hint)
    }

    fn retry(&self) -> Failure {
        Failure::new(
            Action::Retry,
            self.code(),
            &self.message,
            "It is tried again. If it stays, look at the log of the embedding server.",
        )
    }

    /// Whoever asks for more than an hour means a day or a mistake: the server is asked every hour, and people are told.
    fn slow_down(&self, after: Option<Duration>) -> Failure {
        let slow = |after, message: &str, hint| Failure::new(Action::SlowDown { after }, self.code(), message, hint);
        match after {
            Some(long) if long > wait::LONGEST => slow(
                Some(wait::LONGEST),
                &format!("the server asks for a pause of {} hours: {}", long.as_secs().div_ceil(3600), self.message),
                "The server is asked again every hour. If this is a quota, a larger one is the provider's to give.",
            ),
            after => slow(
                after,
                &self.message,
                "The server asks for fewer requests, and is given them. If it stays, lower the model's max_concurrent_requests.",
            ),
        }
    }

    fn code(&self) -> String {
        format!("http_{}", self.status)
    }
}

const NO_KEY: &str = "No API key was sent. Name a file that holds it with the model's api_key_file, or a variable of the server's environment with api_key_env.";

fn key_hint(sent: bool) -> String {
    if sent {
        "The server refuses the API key. Correct the key in the model's api_key_file or api_key_env; work goes on by itself then.".to_owned()
    } else {
        NO_KEY.to_owned()
    }
}

fn right_hint(sent: bool) -> String {
    if sent {
        "The server refuses this to the API key. Give the key that right with the provider, or another key in the model's api_key_file or api_key_env; work goes on by itself then.".to_owned()
    } else {
        NO_KEY.to_owned()
    }
}

fn access_hint(model: &Model) -> String {
    format!(
        "A proxy, a firewall or a rule of access stands between here and the API. Have requests to {} let through, or correct the model's url.",
        public_url(model)
    )
}
