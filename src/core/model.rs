//! How one embedding model is called.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::batch::Size;
use crate::provider::{self, InputKind};
pub use crate::provider::{Defaults, Provider};
use crate::url::Url;

/// The most texts of one request, whatever a model's definition says: no provider takes nearly as many.
pub const MAX_INPUTS: usize = 16_384;

/// pgvector's largest `vector`.
pub const MAX_DIMENSIONS: usize = 16_000;

/// One embedding model: what `autoembed.create_model` stores.
#[derive(Clone)]
pub struct Model {
    /// The name users call it by.
    pub name: String,
    /// The wire format it speaks.
    pub provider: Provider,
    /// The name the API knows it by.
    pub remote: String,
    /// Length of its vectors, 1 to [`MAX_DIMENSIONS`].
    pub dimensions: usize,
    /// Base of the API; `None` is the provider's own, if it has one.
    pub url: Option<String>,
    /// What fits into one request.
    pub limits: Limits,
    /// Total time of one request, from the name lookup to the last byte.
    pub timeout: Duration,
    /// An object, see [`Model::validate`] for its fields; `Null` counts as empty.
    pub options: Value,
}

/// What fits into one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Inputs a request.
    pub batch_inputs: usize,
    /// Tokens a request, all inputs together.
    pub batch_tokens: usize,
    /// Bytes of text a request, all inputs together.
    pub batch_bytes: usize,
    /// Tokens of one input; see [`Model::too_long`] for longer ones.
    pub input_tokens: usize,
}

/// What becomes of a text that is longer than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooLong {
    /// Its beginning is embedded.
    #[default]
    Truncate,
    /// It is not embedded.
    Fail,
}

/// How near two vectors of a model are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metric {
    /// The angle between them, whatever their lengths.
    #[default]
    Cosine,
    /// Their inner product: of two directions the longer vector is the nearer one.
    InnerProduct,
    /// The length of the straight line from one to the other.
    L2,
}

impl Metric {
    /// Its word in a model's options, if it is one.
    #[must_use]
    pub fn named(word: &str) -> Option<Metric> {
        match word {
            "cosine" => Some(Metric::Cosine),
            "inner_product" => Some(Metric::InnerProduct),
            "l2" => Some(Metric::L2),
            _ => None,
        }
    }
}

/// What is wrong with a model's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelError {
    /// One lower-case sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ModelError {}

impl ModelError {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

// Options may hold headers with keys in them, the URL a key in its query.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.name)
            .field("provider", &self.provider)
            .field("remote", &self.remote)
            .field("dimensions", &self.dimensions)
            .field("limits", &self.limits)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// A model with everything its provider has a default for.
    #[must_use]
    pub fn new(name: &str, provider: Provider, remote: &str, dimensions: usize) -> Self {
        let defaults = provider.defaults();
        Self {
            name: name.to_owned(),
            provider,
            remote: remote.to_owned(),
            dimensions,
            url: None,
            limits: defaults.limits,
            timeout: defaults.timeout,
            options: Value::Null,
        }
    }

    /// The base URL: the model's own or the provider's; `None` for a provider that needs no network, and where each user
    /// has an address of his own and none is given.
    #[must_use]
    pub fn base_url(&self) -> Option<&str> {
        self.url.as_deref().or(self.provider.defaults().url)
    }

    /// The host a request goes to, in lower case, for a check against the hosts that are allowed.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        Some(Url::parse(self.base_url()?).ok()?.host)
    }

    /// The size of what goes before each text of that kind: a part of what the server counts.
    #[must_use]
    pub fn prefix_size(&self, kind: InputKind) -> Size {
        provider::prefix(&self.options, kind).map_or(Size { tokens: 0, bytes: 0 }, Size::of)
    }

    /// Whether a request without a key is pointless.
    #[must_use]
    pub fn key_required(&self) -> bool {
        self.provider.key_required(self.url.as_deref())
    }

    /// What the options say of texts that are longer than the model takes.
    #[must_use]
    pub fn too_long(&self) -> TooLong {
        match self.options.get("too_long").and_then(Value::as_str) {
            Some("fail") => TooLong::Fail,
            _ => TooLong::Truncate,
        }
    }

    /// By what its vectors are compared: the options' `metric`.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.options.get("metric").and_then(Value::as_str).and_then(Metric::named).unwrap_or_default()
    }

    /// US dollars for a million tokens, if the options say so; never negative, never infinite.
    #[must_use]
    pub fn price_per_million_tokens(&self) -> Option<f64> {
        let price = self.options.get("price_per_million_tokens").and_then(Value::as_f64);
        price.filter(|price| price.is_finite() && *price >= 0.0)
    }

    /// Reads options as a database holds them, whose numbers may be longer and whose values deeper than a program's.
    ///
    /// # Errors
    /// Numbers that a program cannot hold; values too deep.
    pub fn read_options(&mut self, options: &str) -> Result<(), ModelError> {
        self.options = serde_json::from_str(options).map_err(|e| {
            ModelError::new(
                format!("the options of model \"{}\" cannot be read: {e}", self.name),
                "Numbers go to about 1e308, and values are at most 127 deep.",
            )
        })?;
        Ok(())
    }

    /// Checks a definition before it is stored.
    ///
    /// Options of every model: `too_long` (`"truncate"`, the default, or `"fail"`), `metric` (`"cosine"`, the default,
    /// `"inner_product"` or `"l2"`) and `price_per_million_tokens` (US dollars). Options of the HTTP providers: `headers` (object of strings: sent with each request), `body` (object:
    /// added to each request's JSON, with gemini to each text's), `document_prefix` and `query_prefix` (strings put
    /// before each text that is stored or searched for, as some models want), `send_dimensions` (boolean: whether the
    /// length of the vectors is asked for; without it only models that are known to shorten theirs are asked). Some have
    /// `document_type` and `query_type` (strings: what the provider's own field says a text is for; empty: nothing);
    /// `azure` also `api_version` (string), `ollama` also `truncate` (boolean: whether texts too long for the loaded
    /// model are cut there or refused; without it `too_long` decides).
    ///
    /// # Errors
    /// Dimensions outside 1 to 16,000; an empty name; a limit of zero, more than [`MAX_INPUTS`] inputs a request; a timeout of zero or over an hour; a URL that
    /// [`Url::parse`] refuses, or none where one is needed; unknown or wrongly typed options.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.name.is_empty() || self.remote.is_empty() {
            return Err(ModelError::new("the model has no name", "Give the name that the API knows the model by."));
        }
        if !(1..=MAX_DIMENSIONS).contains(&self.dimensions) {
            return Err(ModelError::new(
                format!("dimensions must be between 1 and {MAX_DIMENSIONS}, not {}", self.dimensions),
                "Give the length of the vectors that the model returns.",
            ));
        }
        let Limits { batch_inputs, batch_tokens, batch_bytes, input_tokens } = self.limits;
        if [batch_inputs, batch_tokens, batch_bytes, input_tokens].contains(&0) {
            return Err(ModelError::new(
                "a limit of the model is zero",
                "Leave max_batch_inputs, max_batch_tokens and max_input_tokens NULL for the provider's own limits.",
            ));
        }
        if batch_inputs > MAX_INPUTS {
            return Err(ModelError::new(
                format!("max_batch_inputs must be at most {MAX_INPUTS}, not {batch_inputs}"),
                "Leave it NULL for the provider's own limit.",
            ));
        }
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(3600) {
            return Err(ModelError::new("the timeout must be over zero and at most one hour", "Try '30 seconds'."));
        }
        self.provider.validate(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    type Change = Box<dyn Fn(&mut Model)>;

    fn model() -> Model {
        Model::new("m", Provider::OpenAi, "text-embedding-3-small", 1536)
    }

    #[test]
    fn defaults_are_valid() {
        for provider in Provider::ALL {
            let mut model = Model::new("m", *provider, "r", 8);
            if provider.is_remote() && model.base_url().is_none() {
                let error = model.validate().unwrap_err();
                assert!(error.message.contains("url") && error.hint.contains("http"), "{error:?}");
                model.url = Some("https://h.example".into());
            }
            model.validate().unwrap();
        }
    }

    #[test]
    fn each_fault_is_named() {
        let cases: Vec<(&str, Change)> = vec![
            ("dimensions", Box::new(|m| m.dimensions = 0)),
            ("dimensions", Box::new(|m| m.dimensions = 16_001)),
            ("name", Box::new(|m| m.remote = String::new())),
            ("limit", Box::new(|m| m.limits.batch_inputs = 0)),
            ("max_batch_inputs", Box::new(|m| m.limits.batch_inputs = MAX_INPUTS + 1)),
            ("limit", Box::new(|m| m.limits.input_tokens = 0)),
            ("timeout", Box::new(|m| m.timeout = Duration::ZERO)),
            ("timeout", Box::new(|m| m.timeout = Duration::from_secs(3601))),
            ("http", Box::new(|m| m.url = Some("ftp://h".into()))),
            ("user name", Box::new(|m| m.url = Some("https://u:p@h".into()))),
            ("options", Box::new(|m| m.options = json!([]))),
            ("truncat", Box::new(|m| m.options = json!({"truncat": true}))),
            ("headers", Box::new(|m| m.options = json!({"headers": {"a": 1}}))),
            ("headers", Box::new(|m| m.options = json!({"headers": {"a": "x\r\ny: z"}}))),
            ("headers", Box::new(|m| m.options = json!({"headers": {"a b": "x"}}))),
            ("headers", Box::new(|m| m.options = json!({"headers": {"Content-Length": "1"}}))),
            ("body", Box::new(|m| m.options = json!({"body": {"input": 1}}))),
            ("body", Box::new(|m| m.options = json!({"body": "x"}))),
            ("query_prefix", Box::new(|m| m.options = json!({"query_prefix": 1}))),
            ("send_dimensions", Box::new(|m| m.options = json!({"send_dimensions": "yes"}))),
            ("too_long", Box::new(|m| m.options = json!({"too_long": "cut"}))),
            ("too_long", Box::new(|m| m.options = json!({"too_long": true}))),
            ("metric", Box::new(|m| m.options = json!({"metric": "manhattan"}))),
            ("metric", Box::new(|m| m.options = json!({"metric": "Cosine"}))),
            ("metric", Box::new(|m| m.options = json!({"metric": null}))),
            ("price", Box::new(|m| m.options = json!({"price_per_million_tokens": -0.01}))),
            ("price", Box::new(|m| m.options = json!({"price_per_million_tokens": "0.02"}))),
            ("document_type", Box::new(|m| m.options = json!({"document_type": "passage"}))),
            ("api_version", Box::new(|m| m.options = json!({"api_version": "2024-10-21"}))),
        ];
        for (word, change) in cases {
            let mut model = model();
            change(&mut model);
            let error = model.validate().expect_err(word);
            assert!(error.message.contains(word), "{word}: {error:?}");
            assert!(!error.hint.is_empty());
        }
    }

    #[test]
    fn limits_of_the_edges_are_fine() {
        let mut model = model();
        for dimensions in [1, 16_000] {
            model.dimensions = dimensions;
            model.validate().unwrap();
        }
        model.options =
            json!({"headers": {"x-a": "b"}, "body": {"user": "u"}, "send_dimensions": true, "query_prefix": "q: "});
        model.validate().unwrap();
    }

    #[test]
    fn what_the_options_say() {
        let mut model = model();
        assert_eq!((model.too_long(), model.price_per_million_tokens()), (TooLong::Truncate, None));
        model.options = json!({"too_long": "fail", "price_per_million_tokens": 0.02});
        model.validate().unwrap();
        assert_eq!((model.too_long(), model.price_per_million_tokens()), (TooLong::Fail, Some(0.02)));
        model.options = json!({"too_long": "truncate", "price_per_million_tokens": 0});
        model.validate().unwrap();
        assert_eq!((model.too_long(), model.price_per_million_tokens()), (TooLong::Truncate, Some(0.0)));
        model.options = json!({"price_per_million_tokens": -1});
        assert_eq!(model.price_per_million_tokens(), None);
        assert_eq!(model.metric(), Metric::Cosine);
        for (word, metric) in [("cosine", Metric::Cosine), ("inner_product", Metric::InnerProduct), ("l2", Metric::L2)]
        {
            model.options = json!({"metric": word});
            model.validate().unwrap();
            assert_eq!(model.metric(), metric);
        }
    }

    #[test]
    fn the_built_in_model_has_the_options_of_every_model_and_no_more() {
        let mut model = Model::new("b", Provider::Local, "builtin", 256);
        model.options = json!({"too_long": "fail", "price_per_million_tokens": 0, "metric": "l2"});
        model.validate().unwrap();
        for options in [json!({"headers": {}}), json!({"query_prefix": "q"}), json!({"body": {}}), json!([])] {
            model.options = options;
            let error = model.validate().unwrap_err();
            assert!(error.hint.contains("too_long") && !error.hint.contains("headers"), "{error:?}");
        }
    }

    #[test]
    fn debug_shows_neither_headers_nor_url() {
        let mut model = model();
        model.options = json!({"headers": {"api-key": "canary"}});
        model.url = Some("https://h/v1?key=canary".into());
        assert!(!format!("{model:?}").contains("canary"));
    }

    #[test]
    fn host_and_key() {
        let mut model = model();
        assert_eq!(model.host().as_deref(), Some("api.openai.com"));
        assert!(model.key_required());
        model.url = Some("http://LocalHost:8000/v1".into());
        assert_eq!(model.host().as_deref(), Some("localhost"));
        assert!(!model.key_required());
        for (provider, url, required) in [
            (Provider::Azure, "https://mine.openai.azure.com", true),
            (Provider::Azure, "https://MINE.services.ai.azure.com/openai/v1", true),
            (Provider::Azure, "https://openai.azure.com.evil.example", false),
            (Provider::Azure, "https://gateway.example", false),
            (Provider::Voyage, "https://api.voyageai.com/v1", true),
            (Provider::Voyage, "https://notapi.voyageai.com", false),
            (Provider::Tei, "http://localhost:8080", false),
        ] {
            let mut model = Model::new("m", provider, "r", 8);
            model.url = Some(url.into());
            assert_eq!(model.key_required(), required, "{url}");
        }
        for provider in Provider::ALL.iter().filter(|provider| provider.is_remote()) {
            let model = Model::new("m", *provider, "r", 8);
            assert_eq!(model.key_required(), model.host().is_some_and(|host| host != "localhost"), "{provider}");
            assert!(!model.key_required() || provider.defaults().key_env.is_some(), "{provider}");
        }
    }
}
