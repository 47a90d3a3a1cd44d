//! Cohere's `POST /v2/embed`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Format, Place, Reason, Wire, read};

pub(super) struct Cohere;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: Option<String>,
    texts: Option<Vec<String>>,
    input_type: Option<String>,
    embedding_types: Option<Vec<String>>,
    output_dimension: Option<usize>,
    truncate: Option<String>,
    #[serde(rename = "max_tokens")]
    _max_tokens: Option<u64>,
    #[serde(rename = "priority")]
    _priority: Option<u64>,
}

impl Wire for Cohere {
    fn most_inputs(&self) -> Option<usize> {
        Some(96)
    }

    fn read(&self, body: &[u8], _: &Place) -> Result<Ask, Reason> {
        let wanted: Wanted = read::body(body)?;
        let model = read::model(wanted.model)?;
        let inputs = wanted.texts.ok_or_else(|| read::missing("texts"))?;
        read::not_empty(&inputs)?;
        let word = wanted.input_type.ok_or_else(|| read::missing("input_type"))?;
        let others = ["classification", "clustering"];
        let kind = read::kind(Some(&word), "input_type", "search_document", "search_query", &others)?;
        let base64 = match wanted.embedding_types.as_deref() {
            None => false,
            Some([one]) => read::base64(Some(one), "embedding_types")?,
            Some(several) => {
                return Err(read::not_one_of("embedding_types", &several.join(", "), &["float", "base64"]));
            }
        };
        let truncate = match wanted.truncate.as_deref() {
            None | Some("END" | "START") => true,
            Some("NONE") => false,
            Some(other) => return Err(read::not_one_of("truncate", other, &["NONE", "START", "END"])),
        };
        Ok(Ask {
            dimensions: wanted.output_dimension,
            base64,
            kind,
            truncate,
            ..Ask::new(Format::Cohere, model, inputs)
        })
    }

    fn has_index(&self) -> bool {
        false
    }

    fn open(&self, ask: &Ask) -> String {
        let kind = if ask.base64 { "base64" } else { "float" };
        format!(r#"{{"id":"00000000-0000-4000-8000-000000000000","embeddings":{{"{kind}":["#)
    }

    fn item(&self, _: Option<usize>) -> (String, &'static str) {
        (String::new(), "")
    }

    fn close(&self, ask: &Ask, tokens: u64) -> String {
        let meta = json!({"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}});
        format!(r#"]}},"texts":{},"meta":{meta},"response_type":"embeddings_by_type"}}"#, json!(ask.inputs))
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        let mut status = reason.status();
        let message = match reason {
            Reason::Key => "invalid api token".to_owned(),
            Reason::NoKey => "no api key supplied".to_owned(),
            Reason::Model(model) => format!("model '{model}' not found, make sure the correct model ID was used"),
            Reason::UnknownField(field) => {
                status = 422;
                format!("unknown field: parameter {field} is not a valid field")
            }
            Reason::Field { field: "input_type", .. } => {
                "invalid request: valid input_type must be provided with the provided model".to_owned()
            }
            Reason::TooManyInputs { most, got } => {
                format!("invalid request: total number of texts must be at most {most} - received {got}")
            }
            Reason::InputTooLong { most, got, .. } => {
                format!("too many tokens: total number of tokens in the text cannot exceed {most} - received {got}")
            }
            Reason::Tokens { limit, .. } | Reason::TooLarge { limit, .. } => {
                format!("token rate limit exceeded, limit is {limit} tokens per minute")
            }
            Reason::Requests { limit, .. } => {
                format!("You are using a Trial key, which is limited to {limit} API calls / minute.")
            }
            Reason::Quota => {
                status = 402;
                "Please add or update your payment method to continue.".to_owned()
            }
            other => format!("invalid request: {other}"),
        };
        (status, json!({"id": "00000000-0000-4000-8000-000000000000", "message": message}))
    }
}
