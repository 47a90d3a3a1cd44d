//! OpenAI's `POST /embeddings`, and every server that speaks it.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::vectors::Answer;
use super::{InputKind, Spec, Wire, data, extra_fields, json, options};
use crate::error::Failure;
use crate::model::{Limits, Model};
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "openai",
    url: Some("https://api.openai.com/v1"),
    url_example: "https://api.openai.com/v1",
    // OpenAI's API reference, "Create embeddings": at most 2048 inputs, 8192 tokens an input, 300,000 tokens over all
    // inputs of a request. Bytes are not limited there, but users report that the 300,000 are counted
    // as a quarter of the bytes; this keeps to both.
    limits: Limits { batch_inputs: 2048, batch_tokens: 300_000, batch_bytes: 1_200_000, input_tokens: 8192 },
    timeout: Duration::from_secs(60),
    key_env: Some("OPENAI_API_KEY"),
    key_hosts: &["api.openai.com"],
    wire: Some(&OpenAi),
};

/// Options of this format's JSON.
pub(super) const SWITCHES: [&str; 1] = ["send_dimensions"];

/// Fields of this format's JSON that options may not change. `encoding_format` may be: some servers refuse base64.
pub(super) const OWN_FIELDS: [&str; 3] = ["model", "input", "dimensions"];

struct OpenAi;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

/// The JSON of a request, with the model's name where the address does not carry it.
pub(super) fn body(model: &Model, texts: &[&str], name: Option<&str>) -> Result<Vec<u8>, serde_json::Error> {
    let extra = extra_fields(model);
    // Only these models can shorten their vectors; other servers refuse the field, unless told otherwise.
    let shortens = model.remote.starts_with("text-embedding-3");
    json(
        texts,
        &Body {
            model: name,
            input: texts,
            dimensions: options::dimensions(model, shortens),
            encoding_format: options::unless_given(extra, "encoding_format", "base64"),
            extra,
        },
    )
}

impl Wire for OpenAi {
    fn url(&self, base: &Url, _: &Model) -> String {
        base.join("/embeddings")
    }

    fn switches(&self) -> &'static [&'static str] {
        &SWITCHES
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &OWN_FIELDS
    }

    fn body(&self, model: &Model, _: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        body(model, texts, Some(&model.remote))
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        data::read(model, inputs, body)
    }
}
