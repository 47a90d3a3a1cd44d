//! How many rows are read or written at once. A transaction holds the rows that it writes: users must not wait for it for long, and
//! one that takes longer than a statement may would be tried for ever. A table whose index is dear to write to gets small ones.

use std::collections::HashMap;
use std::time::Duration;

/// A transaction that writes is meant to take no longer than this.
const LONG: Duration = Duration::from_secs(1);
/// Where more rows than this could be written at once, all are.
const PLENTY: usize = 4096;

/// So many rows for each vectorizer.
pub(super) struct Portions {
    first: usize,
    of: HashMap<i32, usize>,
}

impl Default for Portions {
    fn default() -> Portions {
        Portions::beginning_with(usize::MAX)
    }
}

impl Portions {
    /// With so many where nothing is known.
    pub(super) fn beginning_with(first: usize) -> Portions {
        Portions { first, of: HashMap::new() }
    }

    /// At most so many rows at once.
    pub(super) fn of(&self, id: i32) -> usize {
        self.of.get(&id).copied().unwrap_or(self.first)
    }

    /// `wanted` rows were to be read, and there was room for so many.
    pub(super) fn read(&mut self, id: i32, wanted: usize, rows: usize) {
        if rows < wanted {
            self.of.insert(id, rows.max(1));
        } else if wanted > 0 {
            self.grow(id, wanted);
        }
    }

    /// So many rows were written, or not, in that time.
    pub(super) fn wrote(&mut self, id: i32, rows: usize, took: Duration) {
        if took > LONG {
            let fit = (rows as f64 * LONG.as_secs_f64() / took.as_secs_f64()) as usize;
            self.of.insert(id, fit.max(1));
        } else if took < LONG / 2 {
            self.grow(id, rows);
        }
    }

    /// Twice as many where as many as allowed went well.
    fn grow(&mut self, id: i32, rows: usize) {
        let portion = self.of(id);
        if portion < usize::MAX && rows >= portion {
            self.of.insert(id, if portion >= PLENTY / 2 { usize::MAX } else { portion * 2 });
        }
    }
}
