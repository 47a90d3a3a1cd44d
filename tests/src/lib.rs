//! The outside view: a private PostgreSQL cluster, driven through SQL as any user would drive it.
//!
//! Nothing here links to the extension: what a test knows about autoembed is its public SQL interface. A test takes a
//! [`Site`] (cluster, database, extension, embedding server) or, when it wants less, a bare [`Cluster`], and waits for
//! states with [`eventually`]; it never sleeps for a time.
//!
//! A failed step of the harness ends the test at once, so these modules panic on purpose, with the reason and the
//! server log's tail. The demo uses the `try_` variants.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod beside;
pub mod catalogue;
pub mod cluster;
pub mod db;
pub mod dice;
pub mod find;
pub mod interrupt;
pub mod page;
pub mod points;
pub mod process;
pub mod retrieval;
pub mod second;
pub mod site;
pub mod template;
pub mod vectors;
pub mod wait;

pub use beside::Beside;
pub use catalogue::Catalogue;
pub use cluster::{Builder, Cluster, Stop};
pub use db::{Db, SqlError};
pub use dice::Dice;
pub use points::Points;
pub use process::Peak;
pub use site::Site;
pub use wait::eventually;
