//! Calling a model: all that is needed for it, and one call from texts to vectors. The call itself touches nothing of the server and
//! may run on any thread.

use crate::pg::catalog::StoredModel;
use crate::pg::ffi::process;
use crate::pg::{keys, settings};
use autoembed_core::rate::RateHeaders;
use autoembed_core::{Action, Answer, Failure, InputKind, Model, Secret, Vectors};
use autoembed_http::{Client, ClientConfig, Route, SharedClient};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// All that one call needs; cheap to clone and to send to another thread.
#[derive(Clone)]
pub struct Endpoint {
    /// The model.
    pub model: Arc<Model>,
    key: Option<Secret>,
    client: Option<Client>,
    builtin: PathBuf,
}

/// Finds a model's key and a connection pool for it. Reads files and environment: for the main thread.
pub fn endpoint(stored: &StoredModel) -> Result<Endpoint, Failure> {
    let model = &stored.model;
    let is_remote = model.provider.is_remote();
    Ok(Endpoint {
        model: Arc::new(model.clone()),
        key: if is_remote { keys::find(stored)? } else { None },
        client: if is_remote { Some(client()?) } else { None },
        builtin: process::share_directory().join("autoembed").join("builtin"),
    })
}

fn client() -> Result<Client, Failure> {
    static CLIENT: SharedClient = SharedClient::new();
    let mut route = route()?;
    if let (Some(proxy), Some(file)) = (&route.proxy, settings::proxy_password_file()) {
        let password = keys::read_file(Path::new(&file)).map_err(|e| Failure { code: "proxy".to_string(), ..e })?;
        route.proxy = Some(proxy.clone().with_password(password));
    }
    let ca_file = settings::work().ca_file.map(PathBuf::from);
    let config = ClientConfig { ca_file, max_connections: 256, route };
    CLIENT.get(&config).map_err(|e| Failure::new(Action::Halt, "ca_file", &e.message, e.hint))
}

/// Where requests may go, and through what; a password in a file is not looked for.
///
/// # Errors
/// A [`Failure`] that halts: a setting of it cannot be read. Nothing is sent then.
pub fn route() -> Result<Route, Failure> {
    let allowed = settings::allowed_hosts().map_err(|e| {
        let message = format!("autoembed.allowed_hosts is wrong, so no host is allowed: {e}");
        Failure::new(Action::Halt, "allowed_hosts", &message, e.hint())
    })?;
    let proxy = settings::proxy().map_err(|e| Failure::new(Action::Halt, "proxy", &e.message, e.hint))?;
    Ok(Route { allowed, proxy })
}

/// What a call brought.
pub struct Called {
    /// Vectors in the order of the texts, or why there are none.
    pub result: Result<Answer, Failure>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What the answer said about the account's limits.
    pub headers: RateHeaders,
}

impl Called {
    /// A call that brought no answer.
    pub fn unanswered(failure: Failure) -> Called {
        Called { result: Err(failure), status: None, headers: RateHeaders::default() }
    }
}

impl Endpoint {
    /// Embeds `texts`. Blocks for as long as the model's timeout allows.
    pub fn call(&self, kind: InputKind, texts: &[&str]) -> Called {
        let Some(client) = &self.client else {
            return Called { result: self.call_builtin(texts), status: None, headers: RateHeaders::default() };
        };
        let request = match autoembed_core::provider::build_request(&self.model, self.key.as_ref(), kind, texts) {
            Ok(request) => request,
            Err(failure) => return Called::unanswered(failure),
        };
        let response = match client.send(&request) {
            Ok(response) => response,
            Err(error) => {
                let failure = autoembed_core::error::from_transport(&self.model, texts.len(), &error);
                return Called::unanswered(failure);
            }
        };
        let result = if (200..300).contains(&response.status) {
            autoembed_core::provider::read_answer(&self.model, texts.len(), &response)
        } else {
            let (model, key) = (&self.model, self.key.as_ref());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            Err(autoembed_core::error::from_response(model, key, texts.len(), &response, now))
        };
        Called { result, status: Some(response.status), headers: RateHeaders::read(&response) }
    }

    fn call_builtin(&self, texts: &[&str]) -> Result<Answer, Failure> {
        let builtin = builtin(&self.builtin)?;
        let dimensions = builtin.dimensions();
        if dimensions != self.model.dimensions {
            return Err(Failure::new(
                Action::Halt,
                "wrong_dimensions",
                &format!("the built-in model has {dimensions} dimensions, not {}", self.model.dimensions),
                "Create the model again with that number.",
            ));
        }
        let mut data = vec![0.0_f32; dimensions * texts.len()];
        for (text, row) in texts.iter().zip(data.chunks_exact_mut(dimensions)) {
            if !builtin.embed_into(text, row).usable {
                let action = if texts.len() > 1 { Action::Split } else { Action::Reject };
                return Err(Failure::new(
                    action,
                    "unknown_words",
                    "the built-in model knows no word of the text",
                    "The built-in model reads English; use a model of another provider for other languages.",
                ));
            }
        }
        Ok(Answer { vectors: Vectors { dimensions, data }, tokens: None })
    }
}

fn builtin(directory: &Path) -> Result<&'static autoembed_local::Model, Failure> {
    static BUILTIN: OnceLock<autoembed_local::Model> = OnceLock::new();
    if let Some(model) = BUILTIN.get() {
        return Ok(model);
    }
    let opened = autoembed_local::Model::open(directory).map_err(|e| {
        Failure::new(
            Action::Halt,
            "builtin_model",
            &e.to_string(),
            "Install the extension with make install, which puts the built-in model beside it.",
        )
    })?;
    Ok(BUILTIN.get_or_init(|| opened))
}
