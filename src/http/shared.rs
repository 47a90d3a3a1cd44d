//! One client for everybody, made anew when what it was made from changes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::{Client, ClientConfig, ConfigError};

/// Keeps the client of the latest configuration.
///
/// A client that is replaced takes its idle connections with it, so none of them leads to a host that is not allowed any
/// more, or was trusted through certificates that are gone. Requests under way are not disturbed.
#[derive(Debug, Default)]
pub struct SharedClient(Mutex<Option<(ClientConfig, Option<Stamp>, Client)>>);

/// What changes when a file is replaced or written to: device, inode, size, and when it was written, in nanoseconds.
type Stamp = (u64, u64, u64, i128);

impl SharedClient {
    /// Nothing kept yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The client for `config`: the one that was given last, if neither the configuration nor the file of certificates has
    /// changed since.
    ///
    /// # Errors
    /// Those of [`Client::new`].
    pub fn get(&self, config: &ClientConfig) -> Result<Client, ConfigError> {
        // Looked at before the file is read: a change in between is found the next time.
        let stamp = config.ca_file.as_deref().and_then(stamp);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, at, client)) = kept.as_ref()
            && of == config
            && *at == stamp
        {
            return Ok(client.clone());
        }
        let client = Client::new(config)?;
        *kept = Some((config.clone(), stamp, client.clone()));
        Ok(client)
    }
}

/// `None` where the file cannot be seen; whoever reads it then says why.
fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    let written = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Some((meta.dev(), meta.ino(), meta.size(), written))
}
