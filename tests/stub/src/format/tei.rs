//! The `POST /embed` of Hugging Face's Text Embeddings Inference.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Format, Place, Reason, Wire, read};

pub(super) struct Tei;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    inputs: Option<read::Texts>,
    truncate: Option<bool>,
    truncation_direction: Option<String>,
    #[serde(rename = "normalize")]
    _normalize: Option<bool>,
    prompt_name: Option<String>,
    dimensions: Option<usize>,
}

impl Wire for Tei {
    fn most_inputs(&self) -> Option<usize> {
        Some(32)
    }

    fn read(&self, body: &[u8], _: &Place) -> Result<Ask, Reason> {
        let wanted: Wanted = read::body(body)?;
        if let Some(direction) = wanted.truncation_direction.filter(|way| !["Left", "Right"].contains(&way.as_str())) {
            return Err(read::not_one_of("truncation_direction", &direction, &["Left", "Right"]));
        }
        let inputs = read::texts(wanted.inputs, "inputs")?;
        read::not_empty(&inputs)?;
        // The names of prompts are the model's; these two are what models that have any call them.
        let kind = read::kind(wanted.prompt_name.as_deref(), "prompt_name", "document", "query", &["passage"])?;
        // A server of this kind has one model, which no request names.
        let ask = Ask::new(Format::Tei, String::new(), inputs);
        Ok(Ask { dimensions: wanted.dimensions, kind, truncate: wanted.truncate.unwrap_or(false), ..ask })
    }

    fn has_index(&self) -> bool {
        false
    }

    fn open(&self, _: &Ask) -> String {
        "[".to_owned()
    }

    fn item(&self, _: Option<usize>) -> (String, &'static str) {
        (String::new(), "")
    }

    fn close(&self, _: &Ask, _: u64) -> String {
        "]".to_owned()
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        let (status, kind, message) = match reason {
            // The check of the key is before all else and says nothing.
            Reason::Key | Reason::NoKey => return (401, Value::Null),
            Reason::Path | Reason::Method => return (reason.status(), Value::Null),
            Reason::Empty => (400, "Empty", "`inputs` cannot be empty".to_owned()),
            Reason::TooManyInputs { most, got } => {
                (413, "Validation", format!("batch size {got} > maximum allowed batch size {most}"))
            }
            Reason::InputTooLong { most, got, .. } => {
                let message =
                    format!("Input validation error: `inputs` must have less than {most} tokens. Given: {got}");
                (413, "Validation", message)
            }
            Reason::Requests { .. } | Reason::Tokens { .. } | Reason::TooLarge { .. } | Reason::Quota => {
                (429, "Overloaded", "Model is overloaded".to_owned())
            }
            Reason::Overloaded => (503, "Unhealthy", "unhealthy".to_owned()),
            Reason::Internal => (424, "Backend", "Inference failed".to_owned()),
            Reason::UnknownField(_) | Reason::Field { .. } | Reason::Body(_) | Reason::BadInput => {
                (422, "Tokenizer", format!("Tokenization error: {reason}"))
            }
            other => (413, "Validation", format!("Input validation error: {other}")),
        };
        (status, json!({"error": message, "error_type": kind}))
    }
}
