//! Ollama's `POST /api/embed`.

use std::time::Duration;

use serde::Deserialize;
use serde::ser::{SerializeMap, Serializer};

use super::vectors::{Answer, Embedding, Item, collect};
use super::{Spec, Wire, extra_fields, options, unreadable};
use crate::error::Failure;
use crate::model::{Limits, Model};

pub(super) const SPEC: Spec = Spec {
    name: "ollama",
    url: Some("http://localhost:11434"),
    // Ollama states no limits. Its models run on the machine at hand, so batches are kept to what one answers in
    // seconds; inputs to the context that its embedding models are usually loaded with.
    limits: Limits { batch_inputs: 256, batch_tokens: 262_144, batch_bytes: 4 * 1024 * 1024, input_tokens: 8192 },
    timeout: Duration::from_secs(120),
    key_env: None,
    key_hosts: &["ollama.com"],
    wire: Some(&Ollama),
};

struct Ollama;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    embeddings: Vec<Embedding<'a>>,
    prompt_eval_count: Option<u64>,
}

impl Wire for Ollama {
    fn path(&self) -> &'static str {
        "/api/embed"
    }

    fn switches(&self) -> &'static [&'static str] {
        &["truncate"]
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &["model", "input", "truncate"]
    }

    fn body(&self, model: &Model, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = Vec::with_capacity(256 + texts.iter().map(|text| text.len() + 8).sum::<usize>());
        let mut json = serde_json::Serializer::new(&mut body);
        let mut map = json.serialize_map(None)?;
        map.serialize_entry("model", &model.remote)?;
        map.serialize_entry("input", texts)?;
        // Ollama's own default, written out: what is too long is cut at the context it gives the model, which only it knows.
        let truncate = options::switch(&model.options, "truncate").unwrap_or(true);
        map.serialize_entry("truncate", &truncate)?;
        for (name, value) in extra_fields(model) {
            map.serialize_entry(name, value)?;
        }
        map.end()?;
        Ok(body)
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        let body: Body<'_> = serde_json::from_slice(body).map_err(|error| unreadable(inputs, body, &error))?;
        let items = body.embeddings.into_iter().map(|embedding| Item { index: None, embedding }).collect();
        Ok(Answer { vectors: collect(model, inputs, items)?, tokens: body.prompt_eval_count })
    }
}
