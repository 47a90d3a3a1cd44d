//! `POST /embed` of Hugging Face's Text Embeddings Inference.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::vectors::{Answer, Embedding, List, collect, in_order};
use super::{InputKind, Spec, Wire, extra_fields, json, options, unreadable};
use crate::error::Failure;
use crate::model::{Limits, Model, TooLong};
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "tei",
    // One server, one model, at an address of the user's own.
    url: None,
    url_example: "http://localhost:8080",
    // Its page of arguments: `--max-client-batch-size` is 32 and `--payload-limit` two megabytes of JSON unless
    // configured; tokens are not limited over a request. An input's limit is the model's, and the server cuts there.
    limits: Limits { batch_inputs: 32, batch_tokens: 262_144, batch_bytes: 1024 * 1024, input_tokens: 8192 },
    timeout: Duration::from_secs(60),
    key_env: None,
    key_hosts: &[],
    wire: Some(&Tei),
};

struct Tei;

#[derive(Serialize)]
struct Request<'a> {
    inputs: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize: Option<bool>,
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

impl Wire for Tei {
    fn url(&self, base: &Url, _: &Model) -> String {
        base.join("/embed")
    }

    fn switches(&self) -> &'static [&'static str] {
        &["send_dimensions"]
    }

    fn texts(&self) -> &'static [&'static str] {
        &options::KIND_TYPES
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &["inputs", "truncate", "prompt_name", "dimensions"]
    }

    fn body(&self, model: &Model, kind: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let extra = extra_fields(model);
        json(
            texts,
            &Request {
                inputs: texts,
                normalize: options::unless_given(extra, "normalize", true),
                truncate: model.too_long() == TooLong::Truncate,
                // A prompt must be among those that the model comes with, so that none can be assumed.
                prompt_name: options::kind_type(model, kind, None),
                dimensions: options::dimensions(model, false),
                extra,
            },
        )
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        let body: List<Embedding<'_>> =
            serde_json::from_slice(body).map_err(|error| unreadable(inputs, body, &error))?;
        Ok(Answer { vectors: collect(model, inputs, in_order(body))?, tokens: None })
    }
}
