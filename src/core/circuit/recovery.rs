//! How batches grow after a pause, and shrink where one of them fails.

/// The sizes of batches after a pause, one step a success; after the last there is no limit.
const RAMP: [usize; 4] = [1, 8, 64, 512];

/// A failing batch is cut into this many pieces.
const PIECES: usize = 8;

#[derive(Debug)]
pub(super) struct Recovery {
    /// Index into [`RAMP`]; beyond it there is no limit.
    step: usize,
    /// Inputs of the failures that led here, still to be answered before all is well.
    suspects: usize,
    /// Failing batches that are sent again in pieces, the smallest last.
    pieces: Vec<Pieces>,
}

#[derive(Debug)]
struct Pieces {
    limit: usize,
    /// Inputs that are still to be settled, by requests sent after number `since`: what was in flight when the batch
    /// failed is not of its pieces.
    left: usize,
    since: u64,
}

impl Recovery {
    /// The beginning: one input, after which `suspects` inputs have to be settled.
    pub(super) fn new(suspects: usize) -> Self {
        Self { step: 0, suspects, pieces: Vec::new() }
    }

    pub(super) fn suspects(&self) -> usize {
        self.suspects
    }

    /// `inputs` more of the time before have failed.
    pub(super) fn suspect(&mut self, inputs: usize) {
        self.suspects = self.suspects.saturating_add(inputs);
    }

    /// The size of a batch; `None`: as many as fit.
    pub(super) fn limit(&self) -> Option<usize> {
        self.pieces.last().map(|pieces| pieces.limit).or_else(|| RAMP.get(self.step).copied())
    }

    /// Request number `id` settled `inputs` more; `grow`: and the server showed that it can take more.
    pub(super) fn answered(&mut self, id: u64, inputs: usize, grow: bool) {
        self.suspects = self.suspects.saturating_sub(inputs);
        if self.pieces.is_empty() {
            self.step += usize::from(grow);
        }
        for pieces in self.pieces.iter_mut().filter(|pieces| id > pieces.since) {
            pieces.left = pieces.left.saturating_sub(inputs);
        }
        while self.pieces.last().is_some_and(|pieces| pieces.left == 0) {
            self.pieces.pop();
        }
    }

    /// A batch of `inputs` failed while the server works: smaller pieces until all of them are settled. `since`: the
    /// last request sent.
    pub(super) fn failed(&mut self, inputs: usize, since: u64) {
        let limit = (inputs / PIECES).max(1);
        match self.pieces.last_mut() {
            // Sent before the pieces became as small as this or smaller.
            Some(pieces) if pieces.limit == limit => pieces.left = pieces.left.saturating_add(inputs),
            Some(pieces) if pieces.limit < limit => {}
            _ => self.pieces.push(Pieces { limit, left: inputs, since }),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.suspects == 0 && self.limit().is_none()
    }
}
