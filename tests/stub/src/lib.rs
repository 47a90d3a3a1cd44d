//! The embedding server that all tests, the demo and the benchmarks share.
//!
//! It speaks the OpenAI format (`POST /v1/embeddings`) and Ollama's (`POST /api/embed`) on loopback, answers with the
//! built-in model's vectors or with vectors a checker can compute by itself, counts what it is asked, holds requests
//! back until told otherwise, and plays faults from a [`Script`].
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use autoembed_stub::{Fault, Script, Stub, StubConfig, Vectors};
//! let stub = Stub::start(StubConfig { vectors: Vectors::Hashed(8), ..StubConfig::default() })?;
//! stub.script(Script::first(1, Fault::status(503)));
//! println!("{} answers 503 once, then with vectors", stub.url());
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod answer;
mod config;
mod control;
mod fault;
mod http;
mod rate;
mod script;
mod server;
mod state;
mod stub;
mod vectors;
mod wire;

pub use config::{StubConfig, Vectors};
pub use script::{Body, Do, Fault, Random, Rule, Script, When};
pub use state::{Recorded, Stats};
pub use stub::Stub;
pub use vectors::hashed_vector;
