//! The wire formats, one file each.
//!
//! A new provider is a file with its description (a `Spec`) and wire format, its `mod` and its line in the table
//! below.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::model::{Limits, Model, ModelError};
use crate::secret::Secret;
use crate::url::Url;

mod azure;
mod cohere;
mod data;
mod gemini;
mod jina;
mod local;
mod message;
mod mistral;
mod ollama;
mod openai;
mod options;
mod place;
mod tei;
mod vectors;
mod voyage;

pub use message::{HeaderValue, Request, Response};
pub(crate) use options::prefix;
pub use vectors::{Answer, Vectors};

/// What the rest of the house knows about a provider: data, and its wire format.
struct Spec {
    name: &'static str,
    /// The base of its API, `None` where there is no network or each user has an address of his own.
    url: Option<&'static str>,
    /// A base of its API as users write it.
    url_example: &'static str,
    limits: Limits,
    timeout: Duration,
    key_env: Option<&'static str>,
    /// Hosts that answer nobody without a key; a leading dot stands for every host that ends so.
    key_hosts: &'static [&'static str],
    wire: Option<&'static dyn Wire>,
}

/// One wire format. It knows JSON and addresses; keys and sizes are handled for it.
trait Wire: Sync {
    /// Where a request goes, if `base` is the model's url.
    fn url(&self, base: &Url, model: &Model) -> String;

    /// The header that carries the key.
    fn auth(&self, key: &Secret) -> (&'static str, String) {
        ("authorization", format!("Bearer {}", key.expose()))
    }

    /// Options beyond those that every wire format has: booleans.
    fn switches(&self) -> &'static [&'static str] {
        &[]
    }

    /// Options beyond those that every wire format has: strings.
    fn texts(&self) -> &'static [&'static str] {
        &[]
    }

    /// Fields of the body that are the format's own and that options may not change.
    fn own_fields(&self) -> &'static [&'static str];

    /// Whether an answer holds the texts besides their vectors.
    fn repeats_texts(&self) -> bool {
        false
    }

    /// The request's JSON. `texts` have their prefix already.
    fn body(&self, model: &Model, kind: InputKind, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error>;

    /// The answer's vectors, checked.
    fn read(&self, model: &Model, inputs: usize, body: &[u8]) -> Result<Answer, Failure>;
}

macro_rules! providers {
    ($($(#[$doc:meta])* $variant:ident => $spec:path,)*) => {
        /// Who is asked, and so in which wire format.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Provider { $($(#[$doc])* $variant,)* }

        impl Provider {
            /// Every provider.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn spec(self) -> &'static Spec {
                match self { $(Self::$variant => &$spec,)* }
            }
        }
    };
}

providers! {
    /// OpenAI and every server that speaks its format.
    OpenAi => openai::SPEC,
    /// OpenAI's models on Azure.
    Azure => azure::SPEC,
    /// Ollama's own format.
    Ollama => ollama::SPEC,
    /// Hugging Face's Text Embeddings Inference.
    Tei => tei::SPEC,
    /// Cohere.
    Cohere => cohere::SPEC,
    /// Voyage AI.
    Voyage => voyage::SPEC,
    /// Jina AI.
    Jina => jina::SPEC,
    /// Mistral.
    Mistral => mistral::SPEC,
    /// Google's Gemini API.
    Gemini => gemini::SPEC,
    /// The built-in model: no network.
    Local => local::SPEC,
}

/// What a provider has where the model says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Base of its API; `None` for the built-in model and where each user has an address of his own.
    pub url: Option<&'static str>,
    /// What fits into one request.
    pub limits: Limits,
    /// Total time of one request.
    pub timeout: Duration,
    /// The environment variable that its own SDK reads the key from.
    pub key_env: Option<&'static str>,
}

/// The name is no provider's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownProvider(String);

impl fmt::Display for UnknownProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown provider \"{}\"", crate::error::clean(&self.0))
    }
}

impl std::error::Error for UnknownProvider {}

impl UnknownProvider {
    /// What to do: names those that are known.
    #[must_use]
    pub fn hint(&self) -> String {
        let known: Vec<&str> = Provider::ALL.iter().map(|provider| provider.as_str()).collect();
        format!(
            "Known providers: {}. Servers that speak OpenAI's format are used with provider \"openai\" and their own url.",
            known.join(", ")
        )
    }
}

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, UnknownProvider> {
        Self::ALL
            .iter()
            .copied()
            .find(|provider| provider.as_str() == name)
            .ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Provider {
    /// The name that `create_model` takes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// What holds where the model says nothing.
    #[must_use]
    pub fn defaults(self) -> Defaults {
        let Spec { url, limits, timeout, key_env, .. } = *self.spec();
        Defaults { url, limits, timeout, key_env }
    }

    /// Whether the server at `url` (`None`: the provider's own) answers nobody without a key.
    #[must_use]
    pub fn key_required(self, url: Option<&str>) -> bool {
        let spec = self.spec();
        let host = url.or(spec.url).and_then(|url| Url::parse(url).ok()).map(|url| url.host);
        let asks = |host: &str, pattern: &str| {
            if pattern.starts_with('.') { host.ends_with(pattern) } else { host == pattern }
        };
        host.is_some_and(|host| spec.key_hosts.iter().any(|pattern| asks(&host, pattern)))
    }

    /// Whether its vectors come over HTTP.
    #[must_use]
    pub fn is_remote(self) -> bool {
        self.spec().wire.is_some()
    }

    /// The part of [`Model::validate`] that differs between providers.
    pub(crate) fn validate(self, model: &Model) -> Result<(), ModelError> {
        let spec = self.spec();
        match spec.wire {
            Some(wire) => {
                let example = spec.url_example;
                let url = model.base_url().ok_or_else(|| {
                    ModelError::new(
                        "the model has no url",
                        format!("Give the base of the API as url, such as {example}."),
                    )
                })?;
                Url::parse(url).map_err(|error| {
                    ModelError::new(
                        error.to_string(),
                        format!("The url is the base of the API, such as {example}; keys go into api_key_file or api_key_env."),
                    )
                })?;
                options::validate(&model.options, Some(wire))
            }
            None if model.url.is_some() => Err(ModelError::new("the built-in model has no url", "Leave url NULL.")),
            None => options::validate(&model.options, None),
        }
    }
}

/// Why a text is sent; some models embed the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// A text that is stored.
    Document,
    /// A text that is searched for.
    Query,
}

/// Space for `inputs` vectors in the widest spelling: a number of 64 bits has at most 24 characters in decimal, with a
/// comma and a blank 26; an item's own fields fit into 256 bytes, everything around them into 64 KiB.
fn max_response_bytes(inputs: usize, dimensions: usize) -> u64 {
    let item = (dimensions as u64).saturating_mul(26).saturating_add(256);
    (inputs as u64).saturating_mul(item).saturating_add(64 * 1024)
}

/// The request for the vectors of `inputs`, in their order.
///
/// # Errors
/// A [`Failure`] that halts, if the model's url or options are unusable or its provider needs no request.
pub fn build_request(
    model: &Model,
    key: Option<&Secret>,
    kind: InputKind,
    inputs: &[&str],
) -> Result<Request, Failure> {
    let wire = wire_of(model)?;
    let url = model.base_url().and_then(|url| Url::parse(url).ok());
    let url = url.ok_or_else(|| {
        Failure::halt("url", "the model's url is not usable", "Create the model with the base of its API as url.")
    })?;

    let prefixed: Vec<String>;
    let mut texts: Vec<&str> = inputs.to_vec();
    if let Some(prefix) = options::prefix(&model.options, kind) {
        prefixed = inputs.iter().map(|text| format!("{prefix}{text}")).collect();
        texts = prefixed.iter().map(String::as_str).collect();
    }
    let body = wire.body(model, kind, &texts).map_err(|error| {
        Failure::halt(
            "options",
            &format!("the request cannot be written as JSON: {error}"),
            "Correct the model's options.",
        )
    })?;

    let mut headers = vec![
        ("content-type".to_owned(), HeaderValue::Plain("application/json".to_owned())),
        ("accept".to_owned(), HeaderValue::Plain("application/json".to_owned())),
    ];
    if let Some(key) = key {
        let (name, value) = wire.auth(key);
        headers.push((name.to_owned(), HeaderValue::Secret(secret(&value)?)));
    }
    for (name, value) in options::headers(&model.options) {
        headers.retain(|(have, _)| *have != name);
        headers.push((name, HeaderValue::Secret(secret(value)?)));
    }
    // A repeated byte has at most the six characters of \u0000.
    let repeated = if wire.repeats_texts() { 6 * texts.iter().map(|text| text.len() as u64).sum::<u64>() } else { 0 };
    Ok(Request {
        url: wire.url(&url, model),
        headers,
        body,
        timeout: model.timeout,
        max_response_bytes: max_response_bytes(inputs.len(), model.dimensions).saturating_add(repeated),
    })
}

/// The vectors of an answer with status 2xx, in the order of the request's `inputs` inputs.
///
/// # Errors
/// A [`Failure`] for any other status (see [`from_response`](crate::error::from_response), which knows more), for what
/// is not the provider's format, and if one vector is missing, double, extra, of the wrong length, not finite or all zero.
pub fn read_answer(model: &Model, inputs: usize, response: &Response) -> Result<Answer, Failure> {
    if !(200..300).contains(&response.status) {
        return Err(crate::error::from_response(model, None, inputs, response, 0));
    }
    wire_of(model)?.read(model, inputs, &response.body)
}

fn wire_of(model: &Model) -> Result<&'static dyn Wire, Failure> {
    model.provider.spec().wire.ok_or_else(|| {
        Failure::halt(
            "no_network",
            &format!("model \"{}\" is built in and takes no requests", model.name),
            "Use a model of another provider.",
        )
    })
}

fn secret(value: &str) -> Result<Secret, Failure> {
    Secret::new(value).map_err(|error| Failure::halt("api_key", &error.to_string(), error.hint()))
}

/// The reason why a body is not what it should be, in words for people.
fn unreadable(inputs: usize, body: &[u8], error: &serde_json::Error) -> Failure {
    let start = body.trim_ascii_start();
    // JSON has no spelling for numbers that are none; some servers write them nevertheless, for one input of a batch.
    if matches!(start.first(), Some(b'{' | b'['))
        && !error.is_eof()
        && (contains(body, b"NaN") || contains(body, b"Infinity"))
    {
        return Failure::bad_vectors(inputs, "bad_vector", "the answer holds a vector that is not finite");
    }
    Failure::bad_answer(&match start.first() {
        None => "the server answered with nothing".to_owned(),
        Some(b'<') => "the server answered with a page, not with JSON".to_owned(),
        Some(_) if error.is_eof() => "the server's answer breaks off".to_owned(),
        // serde's own text would repeat strings of the answer.
        Some(_) => {
            format!("the server's answer is not an embedding answer (line {}, column {})", error.line(), error.column())
        }
    })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// A body as bytes; `texts` tell how many there will be.
fn json(texts: &[&str], body: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(256 + texts.iter().map(|text| text.len() + 8).sum::<usize>());
    serde_json::to_writer(&mut bytes, body)?;
    Ok(bytes)
}

/// Fields of the option `body`, which a wire format adds to its own.
fn extra_fields(model: &Model) -> Option<&Map<String, Value>> {
    model.options.get("body").and_then(Value::as_object)
}

#[cfg(test)]
mod tests;
