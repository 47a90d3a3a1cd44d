//! Rows that are read at once.

use super::Row;
use crate::pg::queue::Job;
use crate::pg::source::Found;
use std::collections::VecDeque;

/// Characters of texts that are read at once; about as many bytes are read before the rest of the rows is left for the next time.
pub(super) const MOST_AT_ONCE: usize = 16 << 20;

/// Rows to be read, a portion at a time, so that however huge their texts are only so much of them is in memory.
pub(super) struct Portions {
    rows: VecDeque<Vec<Job>>,
    size: usize,
    bytes: usize,
    most: usize,
}

impl Portions {
    pub(super) fn new(rows: Vec<Vec<Job>>, max_chars: usize, most: usize) -> Portions {
        Portions { rows: rows.into(), size: (most / max_chars.max(1)).max(1), bytes: 0, most }
    }

    /// The next portion; `None` where all are read, or enough.
    pub(super) fn next(&mut self) -> Option<Vec<Vec<Job>>> {
        let size = self.size.min(self.rows.len());
        (size > 0 && self.bytes < self.most).then(|| self.rows.drain(..size).collect())
    }

    /// Notes what the last portion brought. After small texts the next one is larger, though not by much: they may be followed by
    /// huge ones.
    pub(super) fn took(&mut self, found: &[Row]) {
        let length = |row: &Row| match row {
            Row::Found(Found { text: Some(text), .. }) => text.len(),
            _ => 0,
        };
        let bytes: usize = found.iter().map(length).sum();
        self.bytes += bytes;
        if bytes < self.most / 8 {
            self.size *= 4;
        }
    }

    pub(super) fn rest(&mut self) -> impl Iterator<Item = Vec<Job>> {
        self.rows.drain(..)
    }
}
