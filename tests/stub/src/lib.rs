//! The embedding server that all tests, the demo and the benchmarks share.
//!
//! It speaks the [`Format`] of every provider on loopback, answers with the built-in model's vectors or with vectors a
//! checker can compute by itself, counts what it is asked, holds requests back until told otherwise, keeps to [`Limits`],
//! and plays faults from a [`Script`].
//!
//! A path begins with the name of a format (`/voyage/v1/embeddings`, `/cohere/v2/embed`), which may be left out where the
//! rest of it belongs to one format alone or to OpenAI (`/v1/embeddings`, `/api/embed`); [`Stub::url_for`] gives the base
//! URL for each. Requests are read strictly: an unknown field, a wrong type, a missing `input_type`, an empty text, too
//! many texts, a key in another provider's header are refused with the provider's own status and body.
//!
//! From outside, by HTTP: `POST /control/script` and `POST /control/limits` take JSON (see [`Script`] and [`Limits`]),
//! `POST /control/clear` ends the script, `/control/hold` and `/control/release` work the gate, `/control/reset` clears
//! the counters; `GET /control/stats` and `GET /control/requests` show them and the records.
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
mod format;
mod http;
mod limits;
mod meter;
mod port;
mod rate;
mod script;
mod serve;
mod server;
mod state;
mod stub;
mod vectors;

pub use config::{StubConfig, Vectors};
pub use format::{Format, Kind, tokens};
pub use limits::{Beyond, Capacity, Limits, Pace, RetryAfter};
pub use port::Port;
pub use script::{Body, Do, Fault, Random, Rule, Script, When};
pub use state::{Recorded, Stats};
pub use stub::Stub;
pub use vectors::hashed_vector;
