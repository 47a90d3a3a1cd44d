//! Every `unsafe` block of the extension, and every difference between server versions. No policy.

pub mod answer;
pub mod catch;
pub mod count;
pub mod files;
pub mod given;
pub mod insert;
pub mod kept;
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
pub mod version;
pub mod xact;
