//! The paths: what the worker does for a row or a batch, and a session for a search, outside of Postgres.
//!
//! Each group is a feature, so that those which an older revision has no code for can be left out there.

use crate::path::Path;

#[cfg(feature = "batch")]
mod batch;
#[cfg(feature = "builtin")]
mod builtin;
#[cfg(feature = "page")]
mod page;
#[cfg(feature = "row")]
mod row;
#[cfg(feature = "search")]
mod search;
#[cfg(feature = "text")]
mod text;

#[cfg(any(feature = "text", feature = "batch"))]
const DIMENSIONS: usize = 1536;

/// The model that the texts are for.
#[cfg(any(feature = "text", feature = "batch"))]
fn model() -> autoembed_core::Model {
    autoembed_core::Model::new("bench", autoembed_core::Provider::OpenAi, "text-embedding-3-small", DIMENSIONS)
}

/// All of them, in the order in which a row meets them.
pub fn all() -> impl Iterator<Item = &'static Path> {
    let groups: &[&[Path]] = &[
        #[cfg(feature = "text")]
        text::PATHS,
        #[cfg(feature = "page")]
        page::PATHS,
        #[cfg(feature = "batch")]
        batch::PATHS,
        #[cfg(feature = "row")]
        row::PATHS,
        #[cfg(feature = "builtin")]
        builtin::PATHS,
        #[cfg(feature = "search")]
        search::PATHS,
    ];
    groups.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_path_can_be_gone_and_does_all_of_its_items() {
        for path in all() {
            path.go().unwrap();
        }
    }

    #[test]
    fn no_two_have_one_name() {
        let mut names: Vec<&str> = all().map(|path| path.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }
}
