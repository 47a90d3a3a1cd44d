//! What autoembed decides, apart from everything it touches.
//!
//! Nothing here knows of Postgres, sockets, files, the clock or chance: time and jitter are arguments, so that every
//! decision can be tested to exhaustion. The rooms:
//!
//! - [`model`]: how one embedding model is called; [`url`]: where it may be.
//! - [`provider`]: the wire formats, one file each.
//! - [`error`]: what failed, and what follows from it.
//! - [`governor`]: whether a model is called now, and with how much; made of [`circuit`] (does it work?), [`rate`] (requests
//!   and tokens a minute), [`concurrency`] (how much at once) and [`learned`] (what its answers teach about its limits).
//! - [`trouble`]: what a log says of it when it repeats.
//! - [`retry`]: when to try again; [`batch`]: what goes into one request; [`usage`]: what it has cost; [`speed`]: how fast it goes.
//! - [`chunk`]: where long texts are cut into pieces.
//! - [`record`]: what is kept of each vector, to find those whose text has changed unseen.
//! - [`fusion`]: what a match of words is worth beside a similarity, in hybrid searches.
//! - [`report`]: the page that shows all of it.
//! - [`hash`], [`host`], [`key`], [`secret`]: small things that must be exactly right.
#![forbid(unsafe_code)]

pub mod alarms;
pub mod batch;
pub mod chunk;
pub mod circuit;
pub mod concurrency;
pub mod error;
pub mod fusion;
pub mod governor;
pub mod hash;
pub mod host;
pub mod key;
pub mod learned;
pub mod model;
pub mod provider;
pub mod rate;
pub mod record;
mod redact;
pub mod report;
pub mod retry;
pub mod secret;
pub mod speed;
pub mod trouble;
pub mod url;
pub mod usage;

pub use error::{Action, Failure, Oversize, Part, TransportError, Unit};
pub use model::{Limits, Model, Provider};
pub use provider::{Answer, InputKind, Request, Response, Vectors};
pub use secret::Secret;
