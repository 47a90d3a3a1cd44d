//! What a server says about its refusal.

use std::time::Duration;

use serde_json::Value;

use super::{beginning, bounded, one_line, wait};
use crate::model::Model;
use crate::redact;
use crate::secret::Secret;

/// Bodies beyond this are no error messages, and are not worth their parsing. Some frameworks repeat the whole request.
const MAX_ERROR_BODY: usize = 8 << 20;

/// So much of a message is looked through for keys; far less is shown.
const MAX_REDACTED: usize = 64 << 10;

/// Values of headers and of the url's query that are shorter are versions and flags; without those no message could be
/// read.
const MIN_SECRET: usize = 8;

/// Fields that hold the inputs, whatever the wire format.
const INPUT_FIELDS: [&str; 14] = [
    "input",
    "inputs",
    "input_text",
    "input_tokens",
    "text",
    "texts",
    "content",
    "contents",
    "parts",
    "prompt",
    "prompts",
    "documents",
    "messages",
    "tokens",
];

/// The parts of an error body, as far as they are there.
#[derive(Default)]
pub(super) struct Said {
    message: String,
    /// The message in lower case, to look for words in.
    pub(super) words: String,
    /// Codes, types and reasons, in lower case.
    pub(super) codes: Vec<String>,
    /// The names of the quotas that were hit, in lower case.
    pub(super) quotas: Vec<String>,
    /// The field of the request that is at fault, in lower case, if it is none that holds inputs.
    pub(super) field: Option<String>,
    /// How long to wait, where the body has a field for it.
    pub(super) wait: Option<Duration>,
    /// A page for browsers: nothing that speaks the API's format has answered.
    pub(super) is_page: bool,
}

impl Said {
    /// Reads `{error:{message,type,code,param,details}}`, `{error}`, `{message}`, `{detail}`, or short plain text.
    pub(super) fn read(body: &[u8]) -> Self {
        let body = &body[..body.len().min(MAX_ERROR_BODY)];
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let mut said = match bounded::read(body) {
            Ok(value) => Self::of_json(&value),
            Err(_) => Self::of_text(body),
        };
        said.words = said.message.to_ascii_lowercase();
        said
    }

    fn of_json(value: &Value) -> Self {
        // Some servers wrap the object into a list of one.
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").filter(|error| error.is_object()).unwrap_or(value);
        let message = [
            &error["message"],
            &value["error"],
            &value["message"],
            &value["detail"],
            &value["errors"],
            &value["title"],
        ]
        .into_iter()
        .find_map(text_of)
        .unwrap_or_default();
        let details = || error["details"].as_array().into_iter().flatten();
        let codes =
            [&error["code"], &error["type"], &error["status"], &value["error_type"], &value["code"], &value["type"]]
                .into_iter()
                .chain(details().map(|detail| &detail["reason"]))
                .filter_map(lower)
                .collect();
        let quotas = details()
            .flat_map(|detail| detail["violations"].as_array().into_iter().flatten())
            .filter_map(|violation| lower(&violation["quotaId"]))
            .collect();
        let wait = details()
            .find_map(|detail| wait::whole(detail["retryDelay"].as_str()?))
            .or_else(|| wait::seconds(value["estimated_time"].as_f64()?));
        Self { message, codes, quotas, field: field_of(value, error), wait, ..Self::default() }
    }

    /// The beginning of a body that is not JSON; pages say nothing to people who read logs.
    fn of_text(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(2_000)]);
        let text = text.trim();
        let is_page = text.starts_with('<');
        let message = if is_page {
            "the server answered with a page, not with JSON"
        } else if text.starts_with(['{', '[']) {
            "the server's error message is not readable"
        } else {
            text
        };
        Self { message: message.to_owned(), is_page, ..Self::default() }
    }

    /// One sentence for people: the server's own, or what its status means.
    pub(super) fn sentence(&self, model: &Model, status: u16, key: Option<&Secret>) -> String {
        // Control characters and marks may be what keeps a key from being found, so it is looked for again without them.
        let said = redact(beginning(&self.message, MAX_REDACTED), model, key);
        let said = redact(&one_line(&said, usize::MAX), model, key);
        if said.is_empty() {
            return format!("the server of model \"{}\" answered with status {status}", model.name);
        }
        said
    }

    /// Whether the message has one of these words; they are in lower case.
    pub(super) fn says(&self, any: &[&str]) -> bool {
        any.iter().any(|words| self.words.contains(words))
    }

    /// Whether one of these is among the codes.
    pub(super) fn has_code(&self, any: &[&str]) -> bool {
        self.codes.iter().any(|code| any.contains(&code.as_str()))
    }
}

/// `text` without the key and without what the model's headers and url may hold instead of one.
fn redact(text: &str, model: &Model, key: Option<&Secret>) -> String {
    let mut text = key.map_or_else(|| text.to_owned(), |key| key.redact(text));
    let headers = model.options["headers"].as_object().into_iter().flat_map(|headers| headers.values());
    let headers = headers.filter_map(Value::as_str).flat_map(|value| std::iter::once(value).chain(value.split(' ')));
    let query = model.url.as_deref().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name != "api-version");
    let secrets = headers.chain(values.map(|(_, value)| value)).filter(|secret| secret.len() >= MIN_SECRET);
    for secret in secrets {
        text = redact::redact(&text, secret);
    }
    text
}

fn lower(text: &Value) -> Option<String> {
    text.as_str().map(|text| beginning(text, 200).to_ascii_lowercase())
}

/// A text, or the texts of a list of `{msg}` (as validators of web frameworks answer).
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(list) => {
            let texts: Vec<&str> = list
                .iter()
                .take(3)
                .filter_map(|item| item.get("msg").or(item.get("message")).unwrap_or(item).as_str())
                .collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        Value::Object(object) => ["message", "msg", "detail"].iter().find_map(|name| text_of(object.get(*name)?)),
        _ => None,
    }
}

/// The name of the field at fault: `param`, the end of a path such as `requests[0].taskType`, or of a list of names.
fn field_of(value: &Value, error: &Value) -> Option<String> {
    if let Some(param) = error["param"].as_str() {
        return field_in(param.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')));
    }
    let violation = error["details"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|detail| detail["fieldViolations"][0]["field"].as_str());
    if let Some(path) = violation {
        return field_in(path.split(['.', '[', ']']));
    }
    let loc = [&value["detail"], &value["message"]["detail"], &error["message"]["detail"]]
        .into_iter()
        .find_map(|detail| detail[0]["loc"].as_array())?;
    field_in(loc.iter().filter_map(Value::as_str))
}

/// The last of `names`, which lead to a field from the outside to the inside, unless they lead to the inputs.
fn field_in<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = names
        .filter(|name| !name.is_empty() && !name.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|name| beginning(name, 64).to_ascii_lowercase())
        .collect();
    let leads_to_inputs = names.iter().any(|name| INPUT_FIELDS.contains(&name.as_str()));
    let is_name = |name: &String| {
        // LiteLLM writes "None" where there is none.
        !["body", "requests", "query", "path", "none", "null"].contains(&name.as_str())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    names.last().filter(|name| !leads_to_inputs && is_name(name)).cloned()
}
