//! The client and the pool against servers that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod hostile;
mod hosts;
mod memory;
mod pool;
mod proxy;
mod server;
mod tls;
