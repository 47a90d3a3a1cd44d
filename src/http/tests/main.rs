//! The client and the pool against servers that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod pool;
mod server;
mod tls;
