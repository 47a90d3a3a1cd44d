//! Batches that a server refuses without saying why: a bad text among them, or too many of them?
//!
//! One bad text shows itself as the batch is halved: a half is refused, and its sister of the same size is taken. A limit
//! shows itself by the refusal of one full batch after the other, while all that is refused is larger than all that is taken.

use super::finder::Finder;

/// That many full batches one after the other have to be refused.
const PROOF: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Unsaid {
    finder: Option<Finder>,
    /// Inputs of the largest request that was seen.
    largest: usize,
    full_refused: u32,
    /// Inputs of the smallest refused and the largest taken since the first of these.
    refused: usize,
    taken: usize,
}

impl Unsaid {
    pub(super) fn limit(&self) -> usize {
        self.finder.as_ref().map_or(usize::MAX, Finder::limit)
    }

    pub(super) fn on_taken(&mut self, inputs: usize) {
        self.largest = self.largest.max(inputs);
        if let Some(finder) = &mut self.finder {
            finder.on_taken(inputs);
            if finder.limit() == usize::MAX {
                self.finder = None;
            }
        }
        self.taken = self.taken.max(inputs);
        if self.taken >= self.refused {
            self.full_refused = 0;
        }
    }

    pub(super) fn on_refused(&mut self, inputs: usize) {
        self.largest = self.largest.max(inputs);
        // Not a half of another.
        let is_full = inputs > self.largest.div_ceil(2);
        if is_full && self.full_refused == 0 {
            (self.refused, self.taken) = (inputs, 0);
        }
        self.full_refused += u32::from(is_full);
        self.refused = self.refused.min(inputs);
        if self.taken >= self.refused {
            self.full_refused = 0;
        }
        if self.full_refused >= PROOF {
            let mut finder = self.finder.take().unwrap_or_default();
            finder.on_refused(self.refused);
            finder.on_taken(self.taken);
            self.finder = Some(finder);
            self.full_refused = 0;
            self.largest = 0;
        }
    }
}
