//! Calling a model: finding its key, and one call from texts to vectors. The call itself touches nothing of the server and
//! may run on any thread.

use crate::pg::catalog::StoredModel;
use crate::pg::ffi::process;
use crate::pg::settings;
use autoembed_core::{Action, Answer, Failure, InputKind, Model, Provider, Secret, Vectors};
use autoembed_http::{Client, ClientConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest key file that is read, in bytes.
const MAX_KEY_FILE: u64 = 4096;

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
        key: if is_remote { find_key(stored)? } else { None },
        client: if is_remote { Some(client()?) } else { None },
        builtin: process::share_directory().join("autoembed").join("builtin"),
    })
}

fn client() -> Result<Client, Failure> {
    static CLIENT: Mutex<Option<(Option<String>, Client)>> = Mutex::new(None);
    let ca_file = settings::work().ca_file;
    let mut kept = CLIENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((of, client)) = kept.as_ref().filter(|(of, _)| *of == ca_file) {
        let _ = of;
        return Ok(client.clone());
    }
    let config = ClientConfig { ca_file: ca_file.clone().map(PathBuf::from), max_connections: 256 };
    let client = Client::new(&config).map_err(|e| {
        Failure::new(
            Action::Halt,
            "ca_file",
            &e.to_string(),
            "Set autoembed.ca_file to a file of certificates in PEM form that the server can read.",
        )
    })?;
    *kept = Some((ca_file, client.clone()));
    Ok(client)
}

fn find_key(stored: &StoredModel) -> Result<Option<Secret>, Failure> {
    let halt = |message: &str, hint: &str| Failure::new(Action::Halt, "api_key", message, hint);
    if let Some(file) = &stored.api_key_file {
        return read_key_file(Path::new(file)).map(Some);
    }
    if let Some(name) = &stored.api_key_env {
        return match std::env::var(name) {
            Ok(text) => Secret::new(&text)
                .map(Some)
                .map_err(|e| halt(&format!("environment variable {name} holds no key: {e}"), e.hint())),
            Err(_) => Err(halt(
                &format!("environment variable {name} is not set for the server process"),
                "Set it in the environment that the server is started with, or use api_key_file.",
            )),
        };
    }
    if stored.model.provider == Provider::OpenAi
        && let Some(file) = settings::openai_api_key_file()
        && stored.model.key_required()
    {
        return read_key_file(Path::new(&file)).map(Some);
    }
    if !stored.model.key_required() {
        return Ok(None);
    }
    let name = stored.model.provider.defaults().key_env.unwrap_or("OPENAI_API_KEY");
    match std::env::var(name) {
        Ok(text) => Secret::new(&text)
            .map(Some)
            .map_err(|e| halt(&format!("environment variable {name} holds no key: {e}"), e.hint())),
        Err(_) => Err(halt(
            &format!("there is no API key for model \"{}\"", stored.model.name),
            "Set autoembed.openai_api_key_file to a file that only the server can read, or start the server with OPENAI_API_KEY set.",
        )),
    }
}

fn read_key_file(path: &Path) -> Result<Secret, Failure> {
    use std::io::Read;
    let hint = "The file must be a regular file of at most 4 kB, readable by the server's user, with the key alone on its first line.";
    let failed =
        |what: String| Failure::new(Action::Halt, "api_key", &format!("the key file {} {what}", path.display()), hint);
    let file = std::fs::File::open(path).map_err(|e| failed(format!("cannot be read: {}", e.kind())))?;
    let meta = file.metadata().map_err(|e| failed(format!("cannot be read: {}", e.kind())))?;
    if !meta.is_file() || meta.len() > MAX_KEY_FILE {
        return Err(failed("is not a small regular file".to_string()));
    }
    let mut text = String::new();
    file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(|e| failed(format!("cannot be read: {}", e.kind())))?;
    Secret::new(&text).map_err(|e| failed(format!("holds no key: {e}")))
}

/// What a call brought.
pub struct Called {
    /// Vectors in the order of the texts, or why there are none.
    pub result: Result<Answer, Failure>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
}

impl Endpoint {
    /// Embeds `texts`. Blocks for as long as the model's timeout allows.
    pub fn call(&self, kind: InputKind, texts: &[&str]) -> Called {
        let Some(client) = &self.client else {
            return Called { result: self.call_builtin(texts), status: None };
        };
        let request = match autoembed_core::provider::build_request(&self.model, self.key.as_ref(), kind, texts) {
            Ok(request) => request,
            Err(failure) => return Called { result: Err(failure), status: None },
        };
        match client.send(&request) {
            Err(error) => Called {
                result: Err(autoembed_core::error::from_transport(&self.model, texts.len(), &error)),
                status: None,
            },
            Ok(response) => {
                let status = Some(response.status);
                let result = if (200..300).contains(&response.status) {
                    autoembed_core::provider::read_answer(&self.model, texts.len(), &response)
                } else {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
                    Err(autoembed_core::error::from_response(
                        &self.model,
                        self.key.as_ref(),
                        texts.len(),
                        &response,
                        now,
                    ))
                };
                Called { result, status }
            }
        }
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
