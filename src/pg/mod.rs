//! Everything that touches the server, one file a question.

pub mod api;
pub mod cache;
pub mod call;
pub mod catalog;
pub mod embed;
pub mod enable;
pub mod error;
#[allow(unsafe_code)]
pub mod ffi;
pub mod ident;
pub mod interface;
pub mod keys;
pub mod models;
pub mod queue;
pub mod reconcile;
pub mod record;
pub mod search;
pub mod settings;
pub mod source;
pub mod triggers;
pub mod usage;
pub mod vectorizers;
pub mod wake;
pub mod writer;
