//! The fields of a model's `options`.

use serde_json::{Map, Value};

use super::{InputKind, Wire};
use crate::model::{Metric, Model, ModelError};
use crate::secret::Secret;

/// What every model has.
const COMMON: [&str; 3] = ["too_long", "price_per_million_tokens", "metric"];

/// What every wire format has besides.
const WIRE: [&str; 4] = ["headers", "body", "document_prefix", "query_prefix"];

/// Texts that replace the provider's own word for what a text is for, on providers that have such a field.
pub(super) const KIND_TYPES: [&str; 2] = ["document_type", "query_type"];

/// Headers that are the connection's, not the model's.
const RESERVED: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-encoding", "expect"];

/// Checks every field; see [`crate::Model::validate`] for what they are. `wire` is `None` for the built-in model.
pub(super) fn validate(options: &Value, wire: Option<&dyn Wire>) -> Result<(), ModelError> {
    let fields = match options {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err(wrong("options must be a JSON object", wire)),
    };
    fields.iter().try_for_each(|(name, value)| validate_field(name, value, wire))
}

fn validate_field(name: &str, value: &Value, wire: Option<&dyn Wire>) -> Result<(), ModelError> {
    let must_be = |what: &str| Err(wrong(&format!("the option \"{name}\" must be {what}"), wire));
    match (name, wire) {
        ("too_long", _) => match value.as_str() {
            Some("truncate" | "fail") => Ok(()),
            _ => must_be("\"truncate\" or \"fail\""),
        },
        ("price_per_million_tokens", _) => match value.as_f64() {
            Some(price) if price.is_finite() && price >= 0.0 => Ok(()),
            _ => must_be("a number of US dollars, zero or more"),
        },
        ("metric", _) => match value.as_str().and_then(Metric::named) {
            Some(_) => Ok(()),
            None => must_be("\"cosine\", \"inner_product\" or \"l2\""),
        },
        ("headers", Some(_)) => validate_headers(value, wire),
        ("body", Some(it)) => validate_body(value, it),
        ("document_prefix" | "query_prefix", Some(_)) if value.is_string() => Ok(()),
        ("document_prefix" | "query_prefix", Some(_)) => must_be("a string"),
        (switch, Some(it)) if it.switches().contains(&switch) => match value {
            Value::Bool(_) => Ok(()),
            _ => must_be("true or false"),
        },
        (text, Some(it)) if it.texts().contains(&text) => match value {
            Value::String(_) => Ok(()),
            _ => must_be("a string"),
        },
        _ => Err(wrong(&format!("unknown option \"{}\"", crate::error::clean(name)), wire)),
    }
}

fn validate_headers(value: &Value, wire: Option<&dyn Wire>) -> Result<(), ModelError> {
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
    let body = value.as_object().ok_or_else(|| wrong("the option \"body\" must be a JSON object", Some(wire)))?;
    match body.keys().find(|name| wire.own_fields().contains(&name.as_str())) {
        Some(name) => Err(wrong(&format!("the option \"body\" must not hold \"{name}\""), Some(wire))),
        None => Ok(()),
    }
}

fn wrong(message: &str, wire: Option<&dyn Wire>) -> ModelError {
    let mut known = COMMON.to_vec();
    if let Some(wire) = wire {
        known.extend(WIRE.iter().chain(wire.switches()).chain(wire.texts()));
    }
    ModelError::new(message, format!("Known options of this provider: {}.", known.join(", ")))
}

/// Names in lower case, and values.
pub(super) fn headers(options: &Value) -> impl Iterator<Item = (String, &str)> {
    let headers = options.get("headers").and_then(Value::as_object).into_iter().flatten();
    headers.filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.as_str()?)))
}

/// What goes before each text of that kind.
pub(crate) fn prefix(options: &Value, kind: InputKind) -> Option<&str> {
    let name = match kind {
        InputKind::Document => "document_prefix",
        InputKind::Query => "query_prefix",
    };
    text(options, name)
}

/// The provider's word for what a text of that kind is for: the option's, `own` without one, none if it is empty.
pub(super) fn kind_type<'a>(model: &'a Model, kind: InputKind, own: Option<&'a str>) -> Option<&'a str> {
    let [document, query] = KIND_TYPES;
    let name = match kind {
        InputKind::Document => document,
        InputKind::Query => query,
    };
    let given = model.options.get(name).and_then(Value::as_str);
    given.or(own).filter(|word| !word.is_empty())
}

/// A boolean option, if it is there.
pub(super) fn switch(options: &Value, name: &str) -> Option<bool> {
    options.get(name)?.as_bool()
}

/// A string option, if it is there and not empty.
pub(super) fn text<'a>(options: &'a Value, name: &str) -> Option<&'a str> {
    options.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// The length to ask for: the model's, where it is one that can shorten its vectors or where the options say so.
pub(super) fn dimensions(model: &Model, shortens: bool) -> Option<usize> {
    switch(&model.options, "send_dimensions").unwrap_or(shortens).then_some(model.dimensions)
}

/// `value` for the field `name`, unless the option `body` has that field.
pub(super) fn unless_given<T>(extra: Option<&Map<String, Value>>, name: &str, value: T) -> Option<T> {
    let given = extra.is_some_and(|extra| extra.contains_key(name));
    (!given).then_some(value)
}
