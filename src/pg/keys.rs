//! Which key a model is called with. Reads files and the environment: for the main thread.

use crate::pg::catalog::StoredModel;
use crate::pg::ffi::files;
use crate::pg::settings;
use autoembed_core::url::Url;
use autoembed_core::{Action, Failure, Provider, Secret};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Largest key file that is read, in bytes.
const MAX_FILE: u64 = 4096;

fn halt(message: &str, hint: impl Into<String>) -> Failure {
    Failure::new(Action::Halt, "api_key", message, hint)
}

/// The key of a model, looked for anew: the model's own file, its own variable of the environment, then, if it goes to its
/// provider's own hosts, the provider's setting and the variable that the provider's SDK uses.
///
/// # Errors
/// A [`Failure`] that halts: what was found first is no key, or there is none where one is needed.
pub fn find(stored: &StoredModel) -> Result<Option<Secret>, Failure> {
    let model = &stored.model;
    if let Some(file) = &stored.api_key_file {
        return read_file(Path::new(file)).map(Some);
    }
    if let Some(name) = &stored.api_key_env {
        return from_environment(name)?.map(Some).ok_or_else(|| {
            halt(
                &format!("environment variable {name} is not set for the server process"),
                "Set it in the environment that the server is started with, or use api_key_file.",
            )
        });
    }
    let setting = settings::api_key_file(model.provider.as_str());
    if has_no_hosts(model.provider) && (setting.is_some() || !model.key_required()) {
        return setting.map(|file| read_file(Path::new(&file))).transpose();
    }
    if !model.key_required() {
        return Ok(None);
    }
    if !model.base_url().and_then(|url| Url::parse(url).ok()).is_some_and(|url| url.https) {
        return Err(halt(
            &format!("the key of provider {} is not sent without TLS", model.provider),
            "Create the model with an url that begins with https://, or give it an api_key_file of its own.",
        ));
    }
    if let Some(file) = setting {
        return read_file(Path::new(&file)).map(Some);
    }
    let variable = model.provider.defaults().key_env;
    if let Some(key) = variable.map(from_environment).transpose()?.flatten() {
        return Ok(Some(key));
    }
    let or_start = variable.map(|name| format!(", or start the server with {name} set")).unwrap_or_default();
    Err(halt(
        &format!("there is no API key for model \"{}\"", model.name),
        format!(
            "Set autoembed.{}_api_key_file to a file that only the server can read{or_start}.",
            model.provider.as_str()
        ),
    ))
}

/// The sha256 of the key that [`find`] finds now; `None` where it finds none. It tells whether a key was changed, without
/// the key's being kept.
pub fn fingerprint(stored: &StoredModel) -> Option<[u8; 32]> {
    let key = find(stored).ok().flatten()?;
    Some(autoembed_core::hash::text_hash(key.expose()))
}

/// Providers whose servers are always the user's own: a setting that names a key for them is meant for those.
fn has_no_hosts(provider: Provider) -> bool {
    matches!(provider.as_str(), "ollama" | "tei")
}

fn from_environment(name: &str) -> Result<Option<Secret>, Failure> {
    match std::env::var_os(name) {
        None => Ok(None),
        // What is not UTF-8 becomes something that no key may hold.
        Some(text) => Secret::new(&text.to_string_lossy())
            .map(Some)
            .map_err(|e| halt(&format!("environment variable {name} holds no key: {e}"), e.hint())),
    }
}

/// The secret alone on the first line of a file.
///
/// # Errors
/// A [`Failure`] that halts: the file is not there, others may read it, it is no small regular file, or holds no key.
pub fn read_file(path: &Path) -> Result<Secret, Failure> {
    const HINT: &str = "The file must be a regular file of at most 4 kB with the key alone on its first line; it must belong to the server's user and be closed to others (chmod 600), or belong to root and be readable by the server's group at most (chmod 640).";
    let failed = |what: String| halt(&format!("the key file {} {what}", path.display()), HINT);
    let unreadable = |e: std::io::Error| failed(format!("cannot be read: {}", e.kind()));
    // Asked first, since a pipe would wait for somebody to write; asked again of what was opened.
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(failed("is not a small regular file".to_string()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(failed("is not a small regular file".to_string()));
    }
    if let Some(why) = too_open(&meta) {
        return Err(failed(why));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(unreadable)?;
    Secret::new(&text).map_err(|e| failed(format!("holds no key: {e}")))
}

/// The server's own rule for the key of its TLS certificate: 0600 for its own files, 0640 for those of root.
fn too_open(meta: &Metadata) -> Option<String> {
    let mode = meta.mode() & 0o777;
    let closed_to = match meta.uid() {
        owner if owner == files::server_user() => 0o077,
        0 => 0o027,
        _ => return Some("belongs to another user than the server's and root".to_string()),
    };
    (mode & closed_to != 0).then(|| format!("may be used by others (its mode is {mode:04o})"))
}
