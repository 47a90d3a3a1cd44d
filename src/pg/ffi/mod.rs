//! Every `unsafe` block of the extension, and every difference between server versions. No policy.

pub mod catch;
pub mod files;
pub mod insert;
pub mod locks;
pub mod parse;
pub mod process;
pub mod rights;
pub mod rows;
pub mod settings;
pub mod snapshot;
pub mod spi;
pub mod types;
pub mod utility;
pub mod xact;
