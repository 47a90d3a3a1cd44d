//! Jina AI's `POST /v1/embeddings`.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::vectors::Answer;
use super::{InputKind, Spec, Wire, data, extra_fields, json, options, place};
use crate::error::Failure;
use crate::model::{Limits, Model, TooLong};
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "jina",
    url: Some("https://api.jina.ai/v1"),
    url_example: "https://api.jina.ai/v1",
    // A list has at most 512 items, says the server; its OpenAPI description gives 8192 tokens a text for the models
    // with the least, a million tokens a minute for an account without a tier, and no limit over a request: so one
    // takes a quarter of a minute's.
    limits: Limits { batch_inputs: 512, batch_tokens: 250_000, batch_bytes: 4 * 1024 * 1024, input_tokens: 8192 },
    timeout: Duration::from_secs(60),
    key_env: Some("JINA_API_KEY"),
    key_hosts: &["api.jina.ai"],
    wire: Some(&Jina),
};

struct Jina;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_type: Option<&'static str>,
    #[serde(flatten)]
    extra: Option<&'a Map<String, Value>>,
}

/// What a model's schema in the OpenAPI description has.
struct Knows {
    /// `task` for stored texts and for queries.
    tasks: [Option<&'static str>; 2],
    dimensions: bool,
}

fn knows(remote: &str) -> Knows {
    let version = remote.strip_prefix("jina-embeddings-v").and_then(|rest| rest.split('-').next());
    if version.and_then(|version| version.parse::<u32>().ok()).is_some_and(|version| version >= 3) {
        Knows { tasks: [Some("retrieval.passage"), Some("retrieval.query")], dimensions: true }
    } else if remote.starts_with("jina-code-embeddings-") {
        Knows { tasks: [Some("nl2code.passage"), Some("nl2code.query")], dimensions: true }
    } else if remote == "jina-clip-v2" {
        Knows { tasks: [None, Some("retrieval.query")], dimensions: true }
    } else {
        Knows { tasks: [None, None], dimensions: false }
    }
}

impl Wire for Jina {
    fn url(&self, base: &Url, _: &Model) -> String {
        place::versioned(base, "v1", "/embeddings")
    }

    fn switches(&self) -> &'static [&'static str] {
        &["send_dimensions"]
    }

    fn texts(&self) -> &'static [&'static str] {
        &options::KIND_TYPES
    }

    // `late_chunking` and `return_multivector` answer other things than one vector for each text by itself.
    fn own_fields(&self) -> &'static [&'static str] {
        &["model", "input", "task", "dimensions", "truncate", "late_chunking", "return_multivector"]
    }

    fn body(&self, model: &Model, kind: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let extra = extra_fields(model);
        let Knows { tasks: [document, query], dimensions } = knows(&model.remote);
        let task = match kind {
            InputKind::Document => document,
            InputKind::Query => query,
        };
        json(
            texts,
            &Request {
                model: &model.remote,
                input: texts,
                task: options::kind_type(model, kind, task),
                dimensions: options::dimensions(model, dimensions),
                truncate: model.too_long() == TooLong::Truncate,
                embedding_type: options::unless_given(extra, "embedding_type", "base64"),
                extra,
            },
        )
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        data::read(model, inputs, body)
    }
}
