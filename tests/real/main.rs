//! The extension against servers that nobody here wrote: llama.cpp's, and a LiteLLM proxy in front of it.
//!
//! Scenarios as in `cases`, where the stub plays every fault; here it is shown that real answers and real refusals are
//! understood. `make real` starts what is needed and says where it is; a figure that belongs to a scenario is printed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod long;
mod plain;
mod proxy;
mod scene;
mod server;
mod texts;
mod trouble;
