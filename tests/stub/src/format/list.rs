//! The answer that OpenAI's format and its relatives share: `{"object":"list","data":[...],"model":...,"usage":{...}}`.

use serde_json::Value;

use super::Ask;

pub(super) fn open() -> String {
    r#"{"object":"list","data":["#.to_owned()
}

pub(super) fn item(index: Option<usize>) -> (String, &'static str) {
    let index = index.map(|index| format!(r#""index":{index},"#)).unwrap_or_default();
    (format!(r#"{{"object":"embedding",{index}"embedding":"#), "}")
}

/// With the usage, and with fields besides.
pub(super) fn close(ask: &Ask, usage: &Value, besides: &str) -> String {
    format!(r#"],"model":{},"usage":{usage}{besides}}}"#, Value::from(ask.model.as_str()))
}
