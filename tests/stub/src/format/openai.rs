//! OpenAI's `POST /v1/embeddings`. Messages, types and codes are the API's own.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Format, Place, Reason, Wire, list, read};

pub(super) struct OpenAi;

/// A request; Azure's is the same, but for the model that its path names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pub(super) model: Option<String>,
    input: Option<read::Texts>,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

impl Wanted {
    pub(super) fn ask(self, format: Format, model: String) -> Result<Ask, Reason> {
        let inputs = read::texts(self.input, "input")?;
        read::not_empty(&inputs)?;
        let base64 = read::base64(self.encoding_format.as_deref(), "encoding_format")?;
        Ok(Ask { dimensions: self.dimensions, base64, ..Ask::new(format, model, inputs) })
    }
}

impl Wire for OpenAi {
    fn most_inputs(&self) -> Option<usize> {
        Some(2048)
    }

    fn read(&self, body: &[u8], _: &Place) -> Result<Ask, Reason> {
        let mut wanted: Wanted = read::body(body)?;
        let model = read::model(wanted.model.take())?;
        wanted.ask(Format::OpenAi, model)
    }

    fn open(&self, _: &Ask) -> String {
        list::open()
    }

    fn item(&self, index: Option<usize>) -> (String, &'static str) {
        list::item(index)
    }

    fn close(&self, ask: &Ask, tokens: u64) -> String {
        list::close(ask, &json!({"prompt_tokens": tokens, "total_tokens": tokens}), "")
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        let (kind, param, code) = tags(reason);
        let error = json!({"message": message(reason), "type": kind, "param": param, "code": code});
        (reason.status(), json!({"error": error}))
    }
}

type Tags = (&'static str, Option<&'static str>, Option<&'static str>);

/// Type, parameter and code.
fn tags(reason: &Reason) -> Tags {
    const INVALID: &str = "invalid_request_error";
    match reason {
        Reason::Key => (INVALID, None, Some("invalid_api_key")),
        Reason::Model(_) => (INVALID, None, Some("model_not_found")),
        Reason::Field { field, .. } => (INVALID, Some(field), Some("invalid_value")),
        Reason::TooManyInputs { .. } => (INVALID, Some("input"), Some("array_above_max_length")),
        Reason::InputTooLong { .. } => (INVALID, None, Some("context_length_exceeded")),
        Reason::BatchTooLong { .. } => ("max_tokens_per_request", None, Some("max_tokens_per_request")),
        Reason::Requests { .. } => ("requests", None, Some("rate_limit_exceeded")),
        Reason::Tokens { .. } | Reason::TooLarge { .. } => ("tokens", None, Some("rate_limit_exceeded")),
        Reason::Quota => ("insufficient_quota", None, Some("insufficient_quota")),
        Reason::Overloaded => ("server_error", None, Some("overloaded")),
        Reason::Internal => ("server_error", None, None),
        _ => (INVALID, None, None),
    }
}

pub(super) fn message(reason: &Reason) -> String {
    match reason {
        Reason::Key => "Incorrect API key provided.".to_owned(),
        Reason::NoKey => "You didn't provide an API key.".to_owned(),
        Reason::Model(model) => format!("The model `{model}` does not exist or you do not have access to it."),
        Reason::UnknownField(field) => format!("Unrecognized request argument supplied: {field}"),
        Reason::Empty => "'$.input' is invalid.".to_owned(),
        Reason::TooManyInputs { most, got } => format!(
            "Invalid 'input': array too long. Expected an array with maximum length {most}, but got an array with \
             length {got} instead."
        ),
        Reason::InputTooLong { most, got, .. } => {
            format!("This model's maximum context length is {most} tokens, however you requested {got} tokens.")
        }
        Reason::BatchTooLong { most, got } => format!("Requested {got} tokens, max {most} tokens per request"),
        Reason::Dimensions { asked, most } => {
            format!("Invalid value for 'dimensions' = {asked}. Must be less than or equal to {most}.")
        }
        Reason::Requests { limit, wait } => limited("requests per min (RPM)", *limit, "", *wait),
        Reason::Tokens { limit, asked, wait } => {
            limited("tokens per min (TPM)", *limit, &format!(", Requested {asked}"), *wait)
        }
        Reason::TooLarge { limit, asked } => {
            format!("Request too large for the model on tokens per min (TPM): Limit {limit}, Requested {asked}.")
        }
        Reason::Quota => "You exceeded your current quota, please check your plan and billing details.".to_owned(),
        other => other.to_string(),
    }
}

fn limited(of: &str, limit: u64, asked: &str, wait: Option<std::time::Duration>) -> String {
    let wait = wait.map(|wait| format!(" Please try again in {}.", crate::limits::duration(wait))).unwrap_or_default();
    format!("Rate limit reached for the model on {of}: Limit {limit}{asked}.{wait}")
}
