//! Tests that run inside the server, one file a room of `src/pg`: what cannot be seen from outside through SQL. Each runs
//! in a transaction of its own, which is rolled back, so the worker of the test server never sees its rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod batch;
mod catalog;
mod catch;
mod gather;
mod ident;
mod parse;
mod queue;
mod record;
mod rights;
mod search;
mod source;
mod spi;
mod triggers;
mod writer;
