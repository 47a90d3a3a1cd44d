//! Answers of the form `{"data": [{"index", "embedding"}], "usage": {...}}`: OpenAI's, which others took over.

use serde::Deserialize;

use super::unreadable;
use super::vectors::{Answer, Count, Item, List, collect};
use crate::error::Failure;
use crate::model::Model;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: List<Item<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    total_tokens: Count,
    #[serde(default)]
    prompt_tokens: Count,
}

pub(super) fn read(model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| unreadable(inputs, body, &error))?;
    let tokens = body.usage.and_then(|usage| usage.total_tokens.0.or(usage.prompt_tokens.0));
    Ok(Answer { vectors: collect(model, inputs, body.data)?, tokens })
}
