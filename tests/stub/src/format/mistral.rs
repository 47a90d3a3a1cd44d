//! Mistral's `POST /v1/embeddings`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Ask, Format, Place, Reason, Wire, list, read};

pub(super) struct Mistral;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: Option<String>,
    input: Option<read::Texts>,
    output_dimension: Option<usize>,
    output_dtype: Option<String>,
    encoding_format: Option<String>,
    #[serde(rename = "metadata")]
    _metadata: Option<Map<String, Value>>,
}

impl Wire for Mistral {
    fn most_inputs(&self) -> Option<usize> {
        Some(512)
    }

    fn read(&self, body: &[u8], _: &Place) -> Result<Ask, Reason> {
        let wanted: Wanted = read::body(body)?;
        let model = read::model(wanted.model)?;
        let inputs = read::texts(wanted.input, "input")?;
        read::not_empty(&inputs)?;
        read::float_type(wanted.output_dtype.as_deref(), "output_dtype")?;
        let base64 = read::base64(wanted.encoding_format.as_deref(), "encoding_format")?;
        Ok(Ask { dimensions: wanted.output_dimension, base64, ..Ask::new(Format::Mistral, model, inputs) })
    }

    fn open(&self, _: &Ask) -> String {
        list::open()
    }

    fn item(&self, index: Option<usize>) -> (String, &'static str) {
        list::item(index)
    }

    fn close(&self, ask: &Ask, tokens: u64) -> String {
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0});
        list::close(ask, &usage, r#","id":"00000000000040008000000000000000""#)
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        const PROMPT: &str = "invalid_request_prompt";
        let schema = |kind: &str, field: &str, said: String| {
            let detail = json!({"detail": [{"type": kind, "loc": ["body", field], "msg": said}]});
            (422, error(&detail, "invalid_request_error", None))
        };
        let (status, message, kind, code) = match reason {
            Reason::Key | Reason::NoKey => return (401, json!({"detail": "Unauthorized"})),
            Reason::Quota => return (402, json!({"detail": "Payment required"})),
            Reason::UnknownField(field) => {
                return schema("extra_forbidden", field, "Extra inputs are not permitted".to_owned());
            }
            Reason::Field { field, why } => return schema("value_error", field, format!("Value error, it {why}")),
            Reason::Body(said) => return schema("json_invalid", "body", said.clone()),
            Reason::Model(model) => (400, format!("Invalid model: {model}"), "invalid_model", Some("1500")),
            Reason::TooManyInputs { .. } => {
                (400, "Too many inputs in request, split into more batches.".to_owned(), PROMPT, Some("3210"))
            }
            Reason::BatchTooLong { .. } => {
                (400, "Too many tokens overall, split into more batches.".to_owned(), PROMPT, Some("3210"))
            }
            Reason::InputTooLong { index, most, got } => {
                let message = format!("Input id {index} has {got} tokens, exceeding max {most} tokens.");
                (400, message, PROMPT, Some("3210"))
            }
            Reason::Dimensions { .. } => (400, reason.to_string(), "invalid_request_invalid_args", Some("3051")),
            Reason::Requests { .. } | Reason::Tokens { .. } | Reason::TooLarge { .. } => {
                (429, "Rate limit exceeded".to_owned(), "rate_limited", Some("1300"))
            }
            Reason::Overloaded => (503, reason.to_string(), "service_unavailable", Some("3505")),
            Reason::Internal => (500, reason.to_string(), "internal_server_error", Some("1000")),
            other => (other.status(), other.to_string(), "invalid_request_error", None),
        };
        (status, error(&message.into(), kind, code))
    }
}

fn error(message: &Value, kind: &str, code: Option<&str>) -> Value {
    json!({"object": "error", "message": message, "type": kind, "param": null, "code": code})
}
