//! Scenarios, seen from outside: SQL in, states out. One binary, since each one links in seconds.
//!
//! A figure that belongs to a scenario (how long, how many requests) is printed; `cargo test -- --nocapture` shows it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod altered;
mod blame;
mod chaos;
mod decoys;
mod doorman;
mod dumps;
mod errors;
mod faults;
mod grants;
mod harness;
mod hosts;
mod inputs;
mod keys;
mod lifecycle;
mod manual;
mod memory;
mod options;
mod outage;
mod pace;
mod partitions;
mod providers;
mod quickstart;
mod rights;
mod search;
mod secrets;
mod sizes;
mod slots;
mod spending;
mod stale;
mod standby;
mod stops;
mod upgrade;
mod writes;
