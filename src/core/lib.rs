//! What autoembed decides, apart from everything it touches.
//!
//! Nothing here knows of Postgres, sockets, files, the clock or chance: time and jitter are arguments, so that every
//! decision can be tested to exhaustion. The rooms:
//!
//! - [`model`]: how one embedding model is called; [`url`]: where it may be.
//! - [`provider`]: the wire formats, one file each.
//! - [`error`]: what failed, and what follows from it.
//! - [`retry`], [`circuit`]: when to try again; [`batch`]: what goes into one request.
//! - [`hash`], [`key`], [`secret`]: small things that must be exactly right.
#![forbid(unsafe_code)]

pub mod batch;
pub mod circuit;
pub mod error;
pub mod hash;
pub mod key;
pub mod model;
pub mod provider;
pub mod retry;
pub mod secret;
pub mod url;

pub use error::{Action, Failure, TransportError};
pub use model::{Limits, Model, Provider};
pub use provider::{Answer, InputKind, Request, Response, Vectors};
pub use secret::Secret;
