//! Finds a limit that a server has but does not state.

/// A limit between what was taken and what was refused is close enough within this part of it.
const CLOSE: usize = 32;
/// After that many requests of the size that was found, a larger one is tried; each time in vain doubles it.
const PATIENCE: u32 = 100;

/// Brings the largest size that is taken and the smallest that is refused together, by halves. Every limit is smaller than
/// what was refused, so it ends.
#[derive(Debug)]
pub(super) struct Finder {
    taken: usize,
    /// `usize::MAX`: nothing was refused.
    refused: usize,
    run: u32,
    patience: u32,
}

impl Default for Finder {
    fn default() -> Self {
        Self { taken: 0, refused: usize::MAX, run: 0, patience: PATIENCE }
    }
}

impl Finder {
    /// The largest size to send.
    pub(super) fn limit(&self) -> usize {
        if self.refused == usize::MAX {
            usize::MAX
        } else if !self.is_close() {
            self.taken + (self.refused - self.taken) / 2
        } else if self.run >= self.patience {
            self.refused
        } else {
            self.taken.max(1)
        }
    }

    /// This size was refused as too large.
    pub(super) fn on_refused(&mut self, size: usize) {
        if self.refused != usize::MAX && self.run >= self.patience {
            self.patience = self.patience.saturating_mul(2);
        }
        self.run = 0;
        self.refused = self.refused.min(size.max(1));
        if self.taken >= self.refused {
            // What was taken before says nothing any more.
            self.taken = 0;
        }
    }

    /// This size was taken, with whatever was in it.
    pub(super) fn on_taken(&mut self, size: usize) {
        if self.refused == usize::MAX {
            return;
        }
        if self.is_close() && size.saturating_add(size / CLOSE) >= self.taken {
            self.run = self.run.saturating_add(1);
        }
        self.taken = self.taken.max(size);
        if self.taken >= self.refused {
            *self = Self::default();
        }
    }

    fn is_close(&self) -> bool {
        self.refused - self.taken <= (self.taken / CLOSE).max(1)
    }
}
