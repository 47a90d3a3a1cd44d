//! Voyage AI's `POST /v1/embeddings`.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::vectors::Answer;
use super::{InputKind, Spec, Wire, data, extra_fields, json, options, place};
use crate::error::Failure;
use crate::model::{Limits, Model, TooLong};
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "voyage",
    url: Some("https://api.voyageai.com/v1"),
    url_example: "https://api.voyageai.com/v1",
    // The API reference, "Text embedding models": at most 1000 texts, and 120,000 tokens over all of them for the models
    // with the least (the models that take more say so in the table of models); the page of models: 32,000 tokens a
    // text.
    limits: Limits { batch_inputs: 1000, batch_tokens: 120_000, batch_bytes: 4 * 1024 * 1024, input_tokens: 32_000 },
    timeout: Duration::from_secs(60),
    key_env: Some("VOYAGE_API_KEY"),
    key_hosts: &["api.voyageai.com", "ai.mongodb.com"],
    wire: Some(&Voyage),
};

/// How the names of those models begin that take `output_dimension`, by the same pages.
const SHORTEN: [&str; 4] = ["voyage-4", "voyage-3.5", "voyage-3-large", "voyage-code-3"];

struct Voyage;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    input_type: Option<&'a str>,
    truncation: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

impl Wire for Voyage {
    fn url(&self, base: &Url, _: &Model) -> String {
        place::versioned(base, "v1", "/embeddings")
    }

    fn switches(&self) -> &'static [&'static str] {
        &["send_dimensions"]
    }

    fn texts(&self) -> &'static [&'static str] {
        &options::KIND_TYPES
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &["model", "input", "input_type", "truncation", "output_dimension", "output_dtype"]
    }

    fn body(&self, model: &Model, kind: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let extra = extra_fields(model);
        let input_type = match kind {
            InputKind::Document => "document",
            InputKind::Query => "query",
        };
        let shortens = SHORTEN.iter().any(|start| model.remote.starts_with(start));
        json(
            texts,
            &Request {
                model: &model.remote,
                input: texts,
                input_type: options::kind_type(model, kind, Some(input_type)),
                truncation: model.too_long() == TooLong::Truncate,
                output_dimension: options::dimensions(model, shortens),
                // Documented as the bytes of single-precision numbers. JSON's null asks for numbers in decimal.
                encoding_format: options::unless_given(extra, "encoding_format", "base64"),
                extra,
            },
        )
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        data::read(model, inputs, body)
    }
}
