//! Ollama's `POST /api/embed`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::vectors::{Answer, Count, Embedding, List, collect, in_order};
use super::{InputKind, Spec, Wire, extra_fields, json, options, unreadable};
use crate::error::Failure;
use crate::model::{Limits, Model, TooLong};
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "ollama",
    url: Some("http://localhost:11434"),
    url_example: "http://localhost:11434",
    // Ollama states no limits. Its models run on the machine at hand, so batches are kept to what one answers in
    // seconds; inputs to the context that its embedding models are usually loaded with.
    limits: Limits { batch_inputs: 256, batch_tokens: 262_144, batch_bytes: 4 * 1024 * 1024, input_tokens: 8192 },
    timeout: Duration::from_secs(120),
    // Only for ollama.com; Ollama's own API page.
    key_env: Some("OLLAMA_API_KEY"),
    key_hosts: &["ollama.com"],
    wire: Some(&Ollama),
};

struct Ollama;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    embeddings: List<Embedding<'a>>,
    #[serde(default)]
    prompt_eval_count: Count,
}

impl Wire for Ollama {
    fn url(&self, base: &Url, _: &Model) -> String {
        // Ollama's documentation calls both the base.
        base.join(if base.path.ends_with("/api") { "/embed" } else { "/api/embed" })
    }

    fn switches(&self) -> &'static [&'static str] {
        &["truncate", "send_dimensions"]
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &["model", "input", "truncate", "dimensions"]
    }

    fn body(&self, model: &Model, _: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        json(
            texts,
            &Request {
                model: &model.remote,
                input: texts,
                // Written out, though true is Ollama's own default: what is too long is cut at the context it gives the
                // model, which only it knows.
                truncate: options::switch(&model.options, "truncate").unwrap_or(model.too_long() == TooLong::Truncate),
                dimensions: options::dimensions(model, false),
                extra: extra_fields(model),
            },
        )
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        let body: Body<'_> = serde_json::from_slice(body).map_err(|error| unreadable(inputs, body, &error))?;
        Ok(Answer { vectors: collect(model, inputs, in_order(body.embeddings))?, tokens: body.prompt_eval_count.0 })
    }
}
