//! OpenAI's `POST /embeddings`, and every server that speaks it.

use std::time::Duration;

use serde::Deserialize;
use serde::ser::{SerializeMap, Serializer};

use super::vectors::{Answer, Item, collect};
use super::{Spec, Wire, extra_fields, options, unreadable};
use crate::error::Failure;
use crate::model::{Limits, Model};

pub(super) const SPEC: Spec = Spec {
    name: "openai",
    url: Some("https://api.openai.com/v1"),
    // OpenAI's API reference, "Create embeddings": at most 2048 inputs, 8192 tokens an input, 300,000 tokens over all
    // inputs of a request. Bytes are not limited there; this is what 300,000 tokens of plain text come to.
    limits: Limits { batch_inputs: 2048, batch_tokens: 300_000, batch_bytes: 4 * 1024 * 1024, input_tokens: 8192 },
    timeout: Duration::from_secs(60),
    key_env: Some("OPENAI_API_KEY"),
    key_hosts: &["api.openai.com"],
    wire: Some(&OpenAi),
};

struct OpenAi;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: Vec<Item<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
}

impl Wire for OpenAi {
    fn path(&self) -> &'static str {
        "/embeddings"
    }

    fn switches(&self) -> &'static [&'static str] {
        &["send_dimensions"]
    }

    // `encoding_format` may be changed: some servers refuse base64.
    fn own_fields(&self) -> &'static [&'static str] {
        &["model", "input", "dimensions"]
    }

    fn body(&self, model: &Model, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = Vec::with_capacity(256 + texts.iter().map(|text| text.len() + 8).sum::<usize>());
        let mut json = serde_json::Serializer::new(&mut body);
        let mut map = json.serialize_map(None)?;
        map.serialize_entry("model", &model.remote)?;
        map.serialize_entry("input", texts)?;
        // Only these models can shorten their vectors; other servers refuse the field, unless told otherwise.
        let shortens = model.remote.starts_with("text-embedding-3");
        let send = options::switch(&model.options, "send_dimensions").unwrap_or(shortens);
        if send {
            map.serialize_entry("dimensions", &model.dimensions)?;
        }
        if !extra_fields(model).any(|(name, _)| name == "encoding_format") {
            map.serialize_entry("encoding_format", "base64")?;
        }
        for (name, value) in extra_fields(model) {
            map.serialize_entry(name, value)?;
        }
        map.end()?;
        Ok(body)
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        let body: Body<'_> = serde_json::from_slice(body).map_err(|error| unreadable(inputs, body, &error))?;
        let tokens = body.usage.and_then(|usage| usage.total_tokens.or(usage.prompt_tokens));
        Ok(Answer { vectors: collect(model, inputs, body.data)?, tokens })
    }
}
