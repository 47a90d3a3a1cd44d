//! The two wire formats: reading a request, and saying no in the provider's own shape.

use serde::Deserialize;
use serde_json::json;

use crate::Body;
use crate::http::Response;

/// Most inputs of one OpenAI request.
const OPENAI_INPUTS: usize = 2048;

/// A provider's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    OpenAi,
    Ollama,
}

/// What a request asks for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) wire: Wire,
    pub(crate) model: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) dimensions: Option<usize>,
    pub(crate) base64: bool,
}

/// A no: what the provider would say.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    model: String,
    input: Option<Input>,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

impl Wire {
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        match path {
            "/v1/embeddings" => Some(Self::OpenAi),
            "/api/embed" => Some(Self::Ollama),
            _ => None,
        }
    }

    pub(crate) fn read(self, body: &[u8]) -> Result<Ask, Refusal> {
        let wanted: Wanted = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad(format!("The request could not be read: {error}"), None))?;
        if wanted.model.is_empty() {
            return Err(Refusal::bad("A model must be named".to_owned(), None));
        }
        let base64 = match wanted.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(other) => {
                return Err(Refusal::bad(format!("'{other}' is not an encoding format"), None));
            }
        };
        let inputs = match (self, wanted.input) {
            (Self::Ollama, None) => Vec::new(),
            // Ollama's answer to one empty text is 200 and no vector.
            (Self::Ollama, Some(Input::One(text))) if text.is_empty() => Vec::new(),
            (_, Some(Input::One(text))) => vec![text],
            (_, Some(Input::Many(texts))) => texts,
            (Self::OpenAi, None) => {
                return Err(Refusal::bad("An input must be given".to_owned(), None));
            }
        };
        if self == Self::OpenAi {
            check_openai(&inputs)?;
        }
        Ok(Ask {
            wire: self,
            model: wanted.model,
            inputs,
            dimensions: wanted.dimensions,
            base64: base64 && self == Self::OpenAi,
        })
    }

    /// A refusal in this format's shape.
    pub(crate) fn refuse(self, refusal: &Refusal) -> Response {
        let body = match self {
            Self::OpenAi => json!({"error": {
                "message": refusal.message, "type": refusal.kind, "param": null, "code": refusal.code,
            }}),
            Self::Ollama => json!({"error": refusal.message}),
        };
        Response::json(refusal.status, body.to_string())
    }
}

fn check_openai(inputs: &[String]) -> Result<(), Refusal> {
    if inputs.is_empty() || inputs.iter().any(String::is_empty) {
        return Err(Refusal::bad("An input must not be empty".to_owned(), None));
    }
    if inputs.len() > OPENAI_INPUTS {
        let message = format!("{} inputs are more than {OPENAI_INPUTS}", inputs.len());
        return Err(Refusal::bad(message, None));
    }
    Ok(())
}

impl Refusal {
    /// 400.
    pub(crate) fn bad(message: String, code: Option<&'static str>) -> Self {
        Self { status: 400, kind: "invalid_request_error", code, message }
    }

    /// 429, to be tried again.
    pub(crate) fn rate_limit(message: &str) -> Self {
        Self::of(429, &Body::RateLimit, message)
    }

    /// The refusal of this kind, with this status. Types and codes are the ones that OpenAI documents.
    pub(crate) fn of(status: u16, body: &Body, message: &str) -> Self {
        let (kind, code, said) = match body {
            Body::RateLimit => ("requests", Some("rate_limit_exceeded"), "Too many requests for now"),
            Body::InsufficientQuota => ("insufficient_quota", Some("insufficient_quota"), "The quota is used up"),
            Body::InvalidKey => ("invalid_request_error", Some("invalid_api_key"), "This API key is not valid"),
            Body::ModelNotFound => ("invalid_request_error", Some("model_not_found"), "There is no such model"),
            Body::TooLong => ("invalid_request_error", Some("context_length_exceeded"), "An input is too long"),
            Body::BadInput => ("invalid_request_error", None, "An input is not acceptable"),
            Body::Overloaded => ("server_error", Some("overloaded"), "The server is overloaded"),
            Body::Internal => ("server_error", None, "The server had an error"),
            Body::Auto | Body::Empty | Body::Raw(_) => {
                return Self::of(status, fitting(status), message);
            }
        };
        Self { status, kind, code, message: if message.is_empty() { said } else { message }.to_owned() }
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
