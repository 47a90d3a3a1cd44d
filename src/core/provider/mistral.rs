//! Mistral's `POST /v1/embeddings`.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::vectors::Answer;
use super::{InputKind, Spec, Wire, data, extra_fields, json, options, place};
use crate::error::Failure;
use crate::model::{Limits, Model};
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "mistral",
    url: Some("https://api.mistral.ai"),
    url_example: "https://api.mistral.ai",
    // No page states the limits of a request; the server does when it refuses one: 16,384 tokens over all inputs, and
    // "too many inputs" above several hundred, of which this stays clear. The pages of the models: 8k tokens an input;
    // the server counts two marks of its own.
    limits: Limits { batch_inputs: 256, batch_tokens: 16_384, batch_bytes: 4 * 1024 * 1024, input_tokens: 8190 },
    timeout: Duration::from_secs(60),
    key_env: Some("MISTRAL_API_KEY"),
    key_hosts: &["api.mistral.ai"],
    wire: Some(&Mistral),
};

struct Mistral;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<usize>,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

impl Wire for Mistral {
    fn url(&self, base: &Url, _: &Model) -> String {
        place::versioned(base, "v1", "/embeddings")
    }

    fn switches(&self) -> &'static [&'static str] {
        &["send_dimensions"]
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &["model", "input", "output_dimension", "output_dtype"]
    }

    // Base64 is left alone: a batch is small, and whether each model has it is not said.
    fn body(&self, model: &Model, _: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        json(
            texts,
            &Request {
                model: &model.remote,
                input: texts,
                output_dimension: options::dimensions(model, model.remote.starts_with("codestral-embed")),
                extra: extra_fields(model),
            },
        )
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        data::read(model, inputs, body)
    }
}
