//! `POST /v1beta/models/{model}:batchEmbedContents` of Google's Gemini API.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::vectors::{Answer, Count, Embedding, List, collect, in_order};
use super::{InputKind, Spec, Wire, extra_fields, json, options, place, unreadable};
use crate::error::Failure;
use crate::model::{Limits, Model};
use crate::secret::Secret;
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "gemini",
    url: Some("https://generativelanguage.googleapis.com"),
    url_example: "https://generativelanguage.googleapis.com",
    // The server refuses more than 100 requests in one batch; the page on embeddings: 2048 tokens a text for
    // gemini-embedding-001. A limit over a batch is not stated.
    limits: Limits { batch_inputs: 100, batch_tokens: 204_800, batch_bytes: 3 * 1024 * 1024, input_tokens: 2048 },
    timeout: Duration::from_secs(60),
    key_env: Some("GEMINI_API_KEY"),
    key_hosts: &["generativelanguage.googleapis.com"],
    wire: Some(&Gemini),
};

struct Gemini;

#[derive(Serialize)]
struct Batch<'a> {
    requests: Vec<Request<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<usize>,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    embeddings: List<Values<'a>>,
    #[serde(default)]
    usage_metadata: Option<Usage>,
}

#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: Embedding<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(default)]
    prompt_token_count: Count,
}

/// The name without `models/`, with which Google's own lists begin it.
fn name(model: &Model) -> &str {
    model.remote.strip_prefix("models/").unwrap_or(&model.remote)
}

impl Wire for Gemini {
    fn url(&self, base: &Url, model: &Model) -> String {
        place::versioned(base, "v1beta", &format!("/models/{}:batchEmbedContents", place::escaped(name(model))))
    }

    fn auth(&self, key: &Secret) -> (&'static str, String) {
        ("x-goog-api-key", key.expose().to_owned())
    }

    fn switches(&self) -> &'static [&'static str] {
        &["send_dimensions"]
    }

    fn texts(&self) -> &'static [&'static str] {
        &options::KIND_TYPES
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &["requests", "model", "content", "taskType", "outputDimensionality"]
    }

    fn body(&self, model: &Model, kind: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let extra = extra_fields(model);
        let name = name(model);
        let full_name = format!("models/{name}");
        let task_type = match kind {
            InputKind::Document => "RETRIEVAL_DOCUMENT",
            InputKind::Query => "RETRIEVAL_QUERY",
        };
        // Models from gemini-embedding-2 on have no types of tasks: the text says what it is for.
        let knows_tasks = name == "gemini-embedding-001" || name.starts_with("text-embedding-");
        let task_type = options::kind_type(model, kind, knows_tasks.then_some(task_type));
        let shortens = name.starts_with("gemini-embedding-") || name.starts_with("text-embedding-");
        let output_dimensionality = options::dimensions(model, shortens);
        let requests = texts.iter().map(|text| Request {
            model: &full_name,
            content: Content { parts: [Part { text }] },
            task_type,
            output_dimensionality,
            extra,
        });
        json(texts, &Batch { requests: requests.collect() })
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        let body: Body<'_> = serde_json::from_slice(body).map_err(|error| unreadable(inputs, body, &error))?;
        let tokens = body.usage_metadata.and_then(|usage| usage.prompt_token_count.0);
        let embeddings = body.embeddings.map(|embedding| embedding.values);
        Ok(Answer { vectors: collect(model, inputs, in_order(embeddings))?, tokens })
    }
}
