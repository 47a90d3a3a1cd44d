//! A file mapped into memory: the one place of this crate that needs `unsafe`.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::OpenError;

/// Maps a whole file for reading. An empty file is an error, since it cannot be mapped.
#[allow(unsafe_code)]
pub(crate) fn map(path: &Path) -> Result<Mmap, OpenError> {
    let file = File::open(path).map_err(|error| OpenError::io(path, error))?;
    let length = file.metadata().map_err(|error| OpenError::io(path, error))?.len();
    if length == 0 {
        return Err(OpenError::damaged(path, "it is empty"));
    }
    // SAFETY: nothing may change the bytes behind a map. The model's files are installed read-only, belong to whoever
    // installed the extension, and an upgrade replaces them by rename, which leaves this map on the old file.
    unsafe { Mmap::map(&file) }.map_err(|error| OpenError::io(path, error))
}
