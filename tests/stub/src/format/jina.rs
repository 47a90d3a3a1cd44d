//! Jina's `POST /v1/embeddings`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Format, Place, Reason, Wire, list, read};

pub(super) struct Jina;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: Option<String>,
    input: Option<Input>,
    task: Option<String>,
    dimensions: Option<usize>,
    truncate: Option<bool>,
    embedding_type: Option<String>,
    #[serde(rename = "normalized")]
    _normalized: Option<bool>,
    #[serde(rename = "late_chunking")]
    _late_chunking: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Texts(read::Texts),
    Documents(Vec<Document>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    text: String,
}

impl Wire for Jina {
    fn most_inputs(&self) -> Option<usize> {
        Some(512)
    }

    fn read(&self, body: &[u8], _: &Place) -> Result<Ask, Reason> {
        let wanted: Wanted = read::body(body)?;
        let model = read::model(wanted.model)?;
        let inputs = match wanted.input.ok_or_else(|| read::missing("input"))? {
            Input::Texts(texts) => texts.list(),
            Input::Documents(documents) => documents.into_iter().map(|document| document.text).collect(),
        };
        read::not_empty(&inputs)?;
        let others = ["text-matching", "classification", "separation", "clustering", "code.query", "code.passage"];
        let kind = read::kind(wanted.task.as_deref(), "task", "retrieval.passage", "retrieval.query", &others)?;
        let base64 = read::base64(wanted.embedding_type.as_deref(), "embedding_type")?;
        let truncate = wanted.truncate.unwrap_or(false);
        Ok(Ask { dimensions: wanted.dimensions, base64, kind, truncate, ..Ask::new(Format::Jina, model, inputs) })
    }

    fn open(&self, _: &Ask) -> String {
        list::open()
    }

    fn item(&self, index: Option<usize>) -> (String, &'static str) {
        list::item(index)
    }

    fn close(&self, ask: &Ask, tokens: u64) -> String {
        list::close(ask, &json!({"total_tokens": tokens, "prompt_tokens": tokens}), "")
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        // Two layers: what the schema finds is a list, what comes later a sentence.
        let schema = |kind: &str, field: &str, message: String| {
            (422, json!({"detail": [{"type": kind, "loc": ["body", field], "msg": message}]}))
        };
        let (status, message) = match reason {
            Reason::UnknownField(field) => {
                return schema("extra_forbidden", field, "Extra inputs are not permitted".to_owned());
            }
            Reason::Field { field, why } => return schema("value_error", field, format!("Value error, it {why}")),
            Reason::Body(error) => return schema("json_invalid", "body", error.clone()),
            Reason::Empty => return schema("value_error", "input", "Value error, input must not be empty".to_owned()),
            Reason::Dimensions { most, .. } => {
                let message = format!("Input should be less than or equal to {most}");
                return schema("less_than_equal", "dimensions", message);
            }
            Reason::Key | Reason::NoKey => (401, "Failed to authenticate with the provided api key.".to_owned()),
            Reason::Model(model) => (400, format!("Model {model} not found.")),
            Reason::TooManyInputs { most, .. } => {
                (400, format!("Validation error: Each input list can contain at most {most} items."))
            }
            Reason::InputTooLong { most, got, .. } => {
                (400, format!("Single text cannot exceed {most} tokens. {got} tokens given."))
            }
            Reason::Requests { limit, .. } => {
                (429, format!("Rate limit exceeded, at most {limit} requests per minute are allowed."))
            }
            Reason::Tokens { limit, .. } | Reason::TooLarge { limit, .. } => {
                (429, format!("Token rate limit exceeded, at most {limit} tokens per minute are allowed."))
            }
            Reason::Quota => (402, "Insufficient balance in the account of this API key, please top up.".to_owned()),
            other => (other.status(), other.to_string()),
        };
        (status, json!({"detail": message}))
    }
}
