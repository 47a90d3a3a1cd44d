//! Cohere's `POST /v2/embed`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::vectors::{Answer, Count, Embedding, List, collect, in_order};
use super::{InputKind, Spec, Wire, extra_fields, json, options, place, unreadable};
use crate::error::Failure;
use crate::model::{Limits, Model, TooLong};
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "cohere",
    url: Some("https://api.cohere.com"),
    url_example: "https://api.cohere.com",
    // The API reference, "Embed API (v2)": at most 96 texts a call; the page of models: 128k tokens an input for
    // embed-v4.0, 512 for the models before it. A limit over all texts is not stated, one over the payload (20 MB) is.
    limits: Limits { batch_inputs: 96, batch_tokens: 262_144, batch_bytes: 4 * 1024 * 1024, input_tokens: 128_000 },
    timeout: Duration::from_secs(60),
    key_env: Some("CO_API_KEY"),
    key_hosts: &["api.cohere.com", "api.cohere.ai"],
    wire: Some(&Cohere),
};

struct Cohere;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    texts: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    input_type: Option<&'a str>,
    embedding_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<usize>,
    truncate: &'static str,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    embeddings: ByType<'a>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct ByType<'a> {
    #[serde(borrow)]
    float: List<Embedding<'a>>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<BilledUnits>,
}

#[derive(Deserialize)]
struct BilledUnits {
    #[serde(default)]
    input_tokens: Count,
}

/// `output_dimension` is for embed-v4 and what comes after it.
fn shortens(remote: &str) -> bool {
    let version = remote.strip_prefix("embed-v").and_then(|rest| rest.split('.').next());
    version.and_then(|version| version.parse::<u32>().ok()).is_some_and(|version| version >= 4)
}

impl Wire for Cohere {
    fn url(&self, base: &Url, _: &Model) -> String {
        place::versioned(base, "v2", "/embed")
    }

    fn switches(&self) -> &'static [&'static str] {
        &["send_dimensions"]
    }

    fn texts(&self) -> &'static [&'static str] {
        &options::KIND_TYPES
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &["model", "texts", "input_type", "embedding_types", "output_dimension", "truncate", "images", "inputs"]
    }

    fn repeats_texts(&self) -> bool {
        true
    }

    fn body(&self, model: &Model, kind: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let input_type = match kind {
            InputKind::Document => "search_document",
            InputKind::Query => "search_query",
        };
        json(
            texts,
            &Request {
                model: &model.remote,
                texts,
                input_type: options::kind_type(model, kind, Some(input_type)),
                embedding_types: ["float"],
                output_dimension: options::dimensions(model, shortens(&model.remote)),
                truncate: match model.too_long() {
                    TooLong::Truncate => "END",
                    TooLong::Fail => "NONE",
                },
                extra: extra_fields(model),
            },
        )
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        let body: Body<'_> = serde_json::from_slice(body).map_err(|error| unreadable(inputs, body, &error))?;
        let tokens = body.meta.and_then(|meta| meta.billed_units).and_then(|units| units.input_tokens.0);
        Ok(Answer { vectors: collect(model, inputs, in_order(body.embeddings.float))?, tokens })
    }
}
