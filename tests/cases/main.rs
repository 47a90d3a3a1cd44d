//! Scenarios, seen from outside: SQL in, states out. One binary, since each one links in seconds.
//!
//! A figure that belongs to a scenario (how long, how many requests) is printed; `cargo test -- --nocapture` shows it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod altered;
mod atomic;
mod blame;
mod bounded;
mod builder;
mod canary;
mod chaos;
mod crowd;
mod decoys;
mod doorman;
mod dumps;
mod errors;
mod fair;
mod faults;
mod grants;
mod guarantees;
mod harness;
mod hostile;
mod hosts;
mod inputs;
mod interleavings;
mod keys;
mod lies;
mod lifecycle;
mod log;
mod manual;
mod memory;
mod midway;
mod names;
mod options;
mod outage;
mod pace;
mod pages;
mod partitions;
mod providers;
mod quickstart;
mod reconcile;
mod rights;
mod runbook;
mod search;
mod secrets;
mod sizes;
mod slots;
mod soak;
mod spending;
mod stale;
mod standby;
mod steps;
mod stops;
mod tenants;
mod trojans;
mod trusted;
mod upgrade;
mod ways;
mod writes;
