//! How a stub is to be set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::{Limits, Script};

/// Where the answered vectors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// The built-in model (256 dimensions); fewer `dimensions` cut and normalise, more are refused.
    Builtin,
    /// [`crate::hashed_vector`] of the text, with so many dimensions, or as many as the request asks for.
    Hashed(usize),
    /// The same precomputed vector for every text: for measuring others.
    Constant(usize),
}

impl FromStr for Vectors {
    type Err = String;

    /// Reads `builtin`, `hashed:N` or `constant:N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("vectors are builtin, hashed:N or constant:N, not \"{text}\"");
        let (kind, dimensions) = match text.split_once(':') {
            Some((kind, number)) => (kind, number.parse().ok().filter(|n| (1..=16_000).contains(n))),
            None => (text, None),
        };
        match (kind, dimensions) {
            ("builtin", None) if text == "builtin" => Ok(Self::Builtin),
            ("hashed", Some(n)) => Ok(Self::Hashed(n)),
            ("constant", Some(n)) => Ok(Self::Constant(n)),
            _ => Err(wrong()),
        }
    }
}

/// What [`crate::Stub::start`] takes. The default: a free port, 1536 hashed dimensions, no latency, no limit, nothing recorded.
#[derive(Clone, Debug)]
pub struct StubConfig {
    /// Where to listen; loopback only, everything else is refused. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What is answered.
    pub vectors: Vectors,
    /// Folder of the built-in model's files, read only if `vectors` asks for them. Default: this repository's.
    pub model_dir: PathBuf,
    /// How long every embedding request takes at least, whatever the script says.
    pub latency: Duration,
    /// What is refused or slowed down.
    pub limits: Limits,
    /// Key to be sent where each provider takes it; without it, or with another, the answer is the provider's refusal.
    pub key: Option<String>,
    /// Whether [`crate::Recorded::inputs`] keeps the texts.
    pub record: bool,
    /// Faults to play from the start.
    pub script: Script,
}

impl Default for StubConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            vectors: Vectors::Hashed(1536),
            model_dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../share/builtin"),
            latency: Duration::ZERO,
            limits: Limits::default(),
            key: None,
            record: false,
            script: Script::default(),
        }
    }
}

impl StubConfig {
    /// The default with other vectors.
    pub fn vectors(vectors: Vectors) -> Self {
        Self { vectors, ..Self::default() }
    }

    /// The same on a given port.
    pub fn port(mut self, port: u16) -> Self {
        self.listen.set_port(port);
        self
    }

    /// The same, keeping the texts of all requests.
    pub fn recorded(mut self) -> Self {
        self.record = true;
        self
    }
}
