//! The fields of a model's `options`.

use serde_json::Value;

use super::{InputKind, Wire};
use crate::model::ModelError;
use crate::secret::Secret;

const COMMON: [&str; 4] = ["headers", "body", "document_prefix", "query_prefix"];

/// Headers that are the connection's, not the model's.
const RESERVED: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-encoding", "expect"];

/// Checks every field; see [`crate::Model::validate`] for what they are.
pub(super) fn validate(options: &Value, wire: &dyn Wire) -> Result<(), ModelError> {
    let fields = match options {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err(wrong("options must be a JSON object", wire)),
    };
    for (name, value) in fields {
        match name.as_str() {
            "headers" => validate_headers(value, wire)?,
            "body" => validate_body(value, wire)?,
            "document_prefix" | "query_prefix" if value.is_string() => {}
            "document_prefix" | "query_prefix" => {
                return Err(wrong(&format!("the option \"{name}\" must be a string"), wire));
            }
            switch if wire.switches().contains(&switch) => {
                if !value.is_boolean() {
                    return Err(wrong(&format!("the option \"{switch}\" must be true or false"), wire));
                }
            }
            _ => {
                return Err(wrong(&format!("unknown option \"{}\"", crate::error::clean(name)), wire));
            }
        }
    }
    Ok(())
}

fn validate_headers(value: &Value, wire: &dyn Wire) -> Result<(), ModelError> {
    let headers =
        value.as_object().ok_or_else(|| wrong("the option \"headers\" must be an object of strings", wire))?;
    for (name, value) in headers {
        let token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b));
        if !token || RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(wrong("the option \"headers\" names a header that cannot be set", wire));
        }
        if value.as_str().is_none_or(|text| Secret::new(text).is_err()) {
            return Err(wrong("the option \"headers\" holds a value that is no visible ASCII text", wire));
        }
    }
    Ok(())
}

fn validate_body(value: &Value, wire: &dyn Wire) -> Result<(), ModelError> {
    let body = value.as_object().ok_or_else(|| wrong("the option \"body\" must be a JSON object", wire))?;
    match body.keys().find(|name| wire.own_fields().contains(&name.as_str())) {
        Some(name) => Err(wrong(&format!("the option \"body\" must not hold \"{name}\""), wire)),
        None => Ok(()),
    }
}

fn wrong(message: &str, wire: &dyn Wire) -> ModelError {
    let known: Vec<&str> = COMMON.iter().chain(wire.switches()).copied().collect();
    ModelError::new(message, format!("Known options of this provider: {}.", known.join(", ")))
}

/// Names in lower case, and values.
pub(super) fn headers(options: &Value) -> impl Iterator<Item = (String, &str)> {
    let headers = options.get("headers").and_then(Value::as_object).into_iter().flatten();
    headers.filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.as_str()?)))
}

/// What goes before each text of that kind.
pub(super) fn prefix(options: &Value, kind: InputKind) -> Option<&str> {
    let name = match kind {
        InputKind::Document => "document_prefix",
        InputKind::Query => "query_prefix",
    };
    options.get(name)?.as_str().filter(|prefix| !prefix.is_empty())
}

/// A boolean option, if it is there.
pub(super) fn switch(options: &Value, name: &str) -> Option<bool> {
    options.get(name)?.as_bool()
}
