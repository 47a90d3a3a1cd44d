//! OpenAI's models on Azure: OpenAI's JSON, another address and another header.

use std::time::Duration;

use super::vectors::Answer;
use super::{InputKind, Spec, Wire, data, openai, options, place};
use crate::error::Failure;
use crate::model::{Limits, Model};
use crate::secret::Secret;
use crate::url::Url;

pub(super) const SPEC: Spec = Spec {
    name: "azure",
    // Every resource has a host of its own.
    url: None,
    url_example: "https://NAME.openai.azure.com",
    // Azure's REST reference for embeddings and its quota page: 2048 inputs, 8192 tokens an input. A limit over all
    // inputs is not stated; the models are OpenAI's, and so is theirs.
    limits: Limits { batch_inputs: 2048, batch_tokens: 300_000, batch_bytes: 1_200_000, input_tokens: 8192 },
    timeout: Duration::from_secs(60),
    key_env: Some("AZURE_OPENAI_API_KEY"),
    key_hosts: &[".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"],
    wire: Some(&Azure),
};

/// The newest version of the deployments' API that is no preview, by the page on its lifecycle.
const API_VERSION: &str = "2024-10-21";

struct Azure;

/// The model's url, which may be as long as the addresses that the portal shows.
fn without_method(base: &Url) -> Url {
    let path = base.path.strip_suffix("/embeddings").unwrap_or(&base.path).to_owned();
    Url { path, ..base.clone() }
}

/// Whether the base is that of the API without versions by date, which takes the deployment in the JSON.
fn is_v1(base: &Url) -> bool {
    base.path.ends_with("/openai/v1")
}

impl Wire for Azure {
    fn url(&self, base: &Url, model: &Model) -> String {
        let base = without_method(base);
        let version = options::text(&model.options, "api_version");
        if is_v1(&base) {
            let base = version.map_or_else(|| base.clone(), |it| place::with_parameter(&base, "api-version", it));
            return base.join("/embeddings");
        }
        let deployment = place::escaped(&model.remote);
        let path = if base.path.contains("/openai/deployments/") {
            "/embeddings".to_owned()
        } else if base.path.ends_with("/openai") {
            format!("/deployments/{deployment}/embeddings")
        } else {
            format!("/openai/deployments/{deployment}/embeddings")
        };
        place::with_parameter(&base, "api-version", version.unwrap_or(API_VERSION)).join(&path)
    }

    fn auth(&self, key: &Secret) -> (&'static str, String) {
        ("api-key", key.expose().to_owned())
    }

    fn switches(&self) -> &'static [&'static str] {
        &openai::SWITCHES
    }

    fn texts(&self) -> &'static [&'static str] {
        &["api_version"]
    }

    fn own_fields(&self) -> &'static [&'static str] {
        &openai::OWN_FIELDS
    }

    fn body(&self, model: &Model, _: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
        let base = model.base_url().and_then(|url| Url::parse(url).ok());
        let name = base.is_some_and(|base| is_v1(&without_method(&base))).then_some(model.remote.as_str());
        openai::body(model, texts, name)
    }

    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure> {
        data::read(model, inputs, body)
    }
}
