//! The built-in embedding model: one vector a token, mean-pooled and normalised.
//!
//! No network, no key, no threads. The files are mapped and not read, so that hundreds of server processes share one
//! copy through the page cache and opening costs microseconds. It is an English model that sees neither word order
//! nor, mostly, negation.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = autoembed_local::Model::open(std::path::Path::new("share/builtin"))?;
//! let vector = model.embed("where is my parcel?");
//! # Ok(()) }
//! ```
#![deny(unsafe_code)]

mod error;
mod map;
mod model;
mod normalize;
mod safetensors;
mod tokenizer;
pub mod vocabulary;

pub use error::OpenError;
pub use model::{Embedded, Model};
