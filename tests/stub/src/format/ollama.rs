//! Ollama's `POST /api/embed`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Format, Place, Reason, Wire, read};

pub(super) struct Ollama;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: Option<String>,
    input: Option<read::Texts>,
    dimensions: Option<usize>,
    truncate: Option<bool>,
    #[serde(rename = "keep_alive")]
    _keep_alive: Option<Value>,
    #[serde(rename = "options")]
    _options: Option<serde_json::Map<String, Value>>,
}

impl Wire for Ollama {
    fn most_inputs(&self) -> Option<usize> {
        None
    }

    fn read(&self, body: &[u8], _: &Place) -> Result<Ask, Reason> {
        let wanted: Wanted = read::body(body)?;
        let inputs = match wanted.input {
            None => Vec::new(),
            // One empty text is no text, and no error.
            Some(read::Texts::One(text)) if text.is_empty() => Vec::new(),
            Some(texts) => texts.list(),
        };
        let ask = Ask::new(Format::Ollama, read::model(wanted.model)?, inputs);
        Ok(Ask { dimensions: wanted.dimensions, truncate: wanted.truncate.unwrap_or(true), ..ask })
    }

    fn has_index(&self) -> bool {
        false
    }

    fn open(&self, ask: &Ask) -> String {
        format!(r#"{{"model":{},"embeddings":["#, Value::from(ask.model.as_str()))
    }

    fn item(&self, _: Option<usize>) -> (String, &'static str) {
        (String::new(), "")
    }

    fn close(&self, _: &Ask, tokens: u64) -> String {
        format!(r#"],"total_duration":1000000,"load_duration":1000,"prompt_eval_count":{tokens}}}"#)
    }

    fn refuse(&self, reason: &Reason) -> (u16, Value) {
        let message = match reason {
            Reason::Key | Reason::NoKey => "unauthorized".to_owned(),
            Reason::Model(model) => format!("model \"{model}\" not found, try pulling it first"),
            Reason::UnknownField(field) => format!("json: unknown field \"{field}\""),
            Reason::InputTooLong { .. } => "the input length exceeds the context length".to_owned(),
            Reason::Requests { .. } | Reason::Tokens { .. } => "too many concurrent requests".to_owned(),
            Reason::Quota => "you've reached your hourly usage limit, please upgrade to continue".to_owned(),
            Reason::Overloaded => "server busy, please try again. maximum pending requests exceeded".to_owned(),
            other => other.to_string(),
        };
        (reason.status(), json!({"error": message}))
    }
}
