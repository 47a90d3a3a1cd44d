//! What reading the formats has in common.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Kind, Reason};

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub(crate) fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Reads a body. Fields that the format does not have are refused in every format, even where the real server would
/// overlook them: here they are a client's mistake.
pub(crate) fn body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reason> {
    // An array would be read as the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Reason::Body("it is no JSON object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| {
        let error = error.to_string();
        let unknown = error.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        unknown.map(|(field, _)| Reason::UnknownField(field.to_owned())).unwrap_or(Reason::Body(error))
    })
}

pub(crate) fn model(model: Option<String>) -> Result<String, Reason> {
    model.filter(|model| !model.is_empty()).ok_or_else(|| missing("model"))
}

pub(crate) fn texts(texts: Option<Texts>, field: &'static str) -> Result<Vec<String>, Reason> {
    texts.map(Texts::list).ok_or_else(|| missing(field))
}

pub(crate) fn missing(field: &'static str) -> Reason {
    Reason::Field { field, why: "is required".to_owned() }
}

/// There must be texts, and none of them empty.
pub(crate) fn not_empty(inputs: &[String]) -> Result<(), Reason> {
    if inputs.is_empty() || inputs.iter().any(String::is_empty) { Err(Reason::Empty) } else { Ok(()) }
}

/// Whether the vectors are wanted as base64.
pub(crate) fn base64(format: Option<&str>, field: &'static str) -> Result<bool, Reason> {
    match format {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(other) => Err(not_one_of(field, other, &["float", "base64"])),
    }
}

/// Vectors are of floats here; other types are the provider's business and would be another format.
pub(crate) fn float_type(value: Option<&str>, field: &'static str) -> Result<(), Reason> {
    match value {
        None | Some("float") => Ok(()),
        Some(other) => Err(not_one_of(field, other, &["float"])),
    }
}

/// The kind that a provider's word means: its document, its query, its others.
pub(crate) fn kind(
    value: Option<&str>,
    field: &'static str,
    document: &'static str,
    query: &'static str,
    others: &[&'static str],
) -> Result<Option<Kind>, Reason> {
    match value {
        None => Ok(None),
        Some(value) if value == document => Ok(Some(Kind::Document)),
        Some(value) if value == query => Ok(Some(Kind::Query)),
        Some(value) if others.contains(&value) => Ok(Some(Kind::Other)),
        Some(value) => {
            let all: Vec<&str> = [document, query].into_iter().chain(others.iter().copied()).collect();
            Err(not_one_of(field, value, &all))
        }
    }
}

pub(crate) fn not_one_of(field: &'static str, value: &str, known: &[&str]) -> Reason {
    Reason::Field { field, why: format!("must be one of {}, not '{value}'", known.join(", ")) }
}
