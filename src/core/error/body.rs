//! What a server says about its refusal.

use serde_json::Value;

use crate::model::Model;
use crate::secret::{REDACTED, Secret};

/// Bodies beyond this are no error messages, and are not worth their parsing.
const MAX_ERROR_BODY: usize = 1 << 20;

/// The parts of an error body, as far as they are there.
#[derive(Default)]
pub(super) struct Said {
    message: String,
    codes: Vec<String>,
    param: Option<String>,
}

impl Said {
    /// Reads `{error:{message,type,code,param}}`, `{error}`, `{message}`, `{detail}`, or short plain text.
    pub(super) fn read(body: &[u8]) -> Self {
        let body = &body[..body.len().min(MAX_ERROR_BODY)];
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of_json(&value),
            Err(_) => Self { message: plain(body), ..Self::default() },
        }
    }

    fn of_json(value: &Value) -> Self {
        // Some servers wrap the object into a list of one.
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").filter(|error| error.is_object()).unwrap_or(value);
        let message = [&error["message"], &value["error"], &value["message"], &value["detail"]]
            .into_iter()
            .find_map(text_of)
            .unwrap_or_default();
        let codes =
            [&error["code"], &error["type"], &error["status"], &value["error_type"], &value["code"], &value["type"]]
                .into_iter()
                .filter_map(|code| code.as_str().map(str::to_ascii_lowercase))
                .collect();
        Self { message, codes, param: error["param"].as_str().map(str::to_owned) }
    }

    /// One sentence for people: the server's own, or what its status means.
    pub(super) fn sentence(&self, model: &Model, status: u16, key: Option<&Secret>) -> String {
        if self.message.trim().is_empty() {
            return format!("the server of model \"{}\" answered with status {status}", model.name);
        }
        let mut message = self.message.clone();
        if let Some(key) = key {
            message = key.redact(&message);
        }
        for header in model.options["headers"].as_object().into_iter().flat_map(|headers| headers.values()) {
            // Shorter values are versions and flags; replacing those would only make the message unreadable.
            if let Some(secret) = header.as_str().filter(|secret| secret.len() >= 8) {
                message = message.replace(secret, REDACTED);
            }
        }
        message
    }

    /// The code of an account that waiting does not refill.
    pub(super) fn spent_quota(&self) -> Option<String> {
        const SPENT: [&str; 5] = [
            "insufficient_quota",
            "insufficient_balance",
            "insufficient_credits",
            "insufficient_funds",
            "account_deactivated",
        ];
        self.codes.iter().find(|code| SPENT.contains(&code.as_str()) || code.starts_with("billing")).cloned()
    }

    pub(super) fn is_about_key(&self) -> bool {
        self.codes.iter().any(|code| {
            ["invalid_api_key", "api_key_invalid", "authentication_error", "unauthenticated"].contains(&code.as_str())
        }) || self.says(&["api key not valid", "invalid api key", "incorrect api key"])
    }

    pub(super) fn is_unknown_model(&self) -> bool {
        self.codes.iter().any(|code| ["model_not_found", "invalid_model", "unknown_model"].contains(&code.as_str()))
            || self.param.as_deref() == Some("model")
            || self.says(&["does not support embeddings"])
            || (self.says(&["model"])
                && self.says(&[
                    "not found",
                    "does not exist",
                    "not exist",
                    "unknown model",
                    "invalid model",
                    "not supported by this model",
                ]))
    }

    /// Whether the parameter `name` is what is refused.
    pub(super) fn is_about(&self, name: &str) -> bool {
        match &self.param {
            Some(param) => param == name,
            None => {
                self.says(&[name])
                    && self.says(&[
                        "not supported",
                        "does not support",
                        "unsupported",
                        "invalid value",
                        "matryoshka",
                        "not permitted",
                        "extra inputs",
                        "unknown",
                    ])
            }
        }
    }

    /// Whether one of the fields that are the same for every input is what is refused.
    pub(super) fn is_about_a_parameter(&self, model: &Model) -> bool {
        self.param.as_deref().is_some_and(|param| {
            ["encoding_format", "user", "truncate", "keep_alive"].contains(&param)
                || model.options["body"].get(param).is_some()
        })
    }

    /// Whether the request alone exceeds the rate that the account has in a minute.
    pub(super) fn is_too_large(&self) -> bool {
        self.says(&["request too large"])
    }

    fn says(&self, any: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        any.iter().any(|part| message.contains(part))
    }
}

/// A text, or the texts of a list of `{msg}` (as validators of web frameworks answer; their `input` fields repeat users'
/// texts and are left out).
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(list) => {
            let texts: Vec<&str> = list
                .iter()
                .take(3)
                .filter_map(|item| item.get("msg").and_then(Value::as_str).or(item.as_str()))
                .collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        Value::Object(object) => object.get("message").or(object.get("msg")).and_then(Value::as_str).map(str::to_owned),
        _ => None,
    }
}

/// The beginning of a body that is not JSON; pages say nothing to people who read logs.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(2_000)]);
    let text = text.trim();
    if text.starts_with('<') {
        "the server answered with a page, not with JSON".to_owned()
    } else if text.starts_with(['{', '[']) {
        "the server's error message is not readable".to_owned()
    } else {
        text.to_owned()
    }
}
