//! Why a model's files could not be opened.

use std::path::{Path, PathBuf};

/// A model's file that is missing, unreadable or not what it should be. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused the file.
    #[error("could not open the built-in model's file \"{path}\": {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is there and its content is wrong.
    #[error("the built-in model's file \"{path}\" is damaged: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}
