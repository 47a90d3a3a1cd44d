//! Rows whose texts go in pieces. Each piece is an item of its own and goes with whatever request has room for it; the row is written
//! when the last of its pieces has a vector, and all of them at once.
//!
//! Every piece that is on its way has the jobs of its row. So whatever happens to one, the row's leases are renewed with it, and the row goes
//! back to the queue, or fails, with it: then the others of the row are dropped where they are met, and vectors that still come for it
//! are at best remembered. When the process dies, what had come for rows that were not complete is lost, and asked for once more.

use crate::pg::chunks::write::Piece;
use crate::pg::queue::Job;
use crate::worker::batch::Item;
use crate::worker::gather::Context;
use autoembed_core::batch::Size;
use autoembed_core::chunk::pieces;
use autoembed_core::hash::text_hash;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

/// Most characters of a text that goes in pieces.
pub const MOST_CHARS: usize = 16 << 20;
/// Most bytes that the vectors of one row may have.
const MOST_BYTES: usize = 64 << 20;

/// A row on its way in pieces.
#[derive(Debug)]
pub struct InPieces {
    /// The row, without its text.
    row: Item,
    text: String,
    pieces: RefCell<Vec<Piece>>,
    missing: Cell<usize>,
    is_over: Cell<bool>,
    is_cut: Cell<bool>,
}

/// One of its pieces.
#[derive(Debug, Clone)]
pub struct Part {
    /// The row.
    pub of: Rc<InPieces>,
    /// Which piece.
    pub number: usize,
}

/// A row all of whose pieces have their vectors.
pub struct Complete {
    /// The row, without its text.
    pub row: Item,
    /// Its text.
    pub text: String,
    /// All its pieces.
    pub pieces: Vec<Piece>,
}

impl InPieces {
    /// Cuts the text of a row. Pieces whose texts are in `stored`, as sha256, have their vectors. The row, and the pieces that need one.
    ///
    /// # Errors
    /// Their number, where the row would have more than can be held.
    pub fn new(
        context: &Context,
        jobs: Vec<Job>,
        text: String,
        hash: Vec<u8>,
        stored: &HashSet<Vec<u8>>,
        prefix: Size,
    ) -> Result<(Rc<InPieces>, Vec<Item>), usize> {
        let ranges = context.vectorizer.chunks.map(|chunks| pieces(&text, chunks.sizes)).unwrap_or_default();
        if ranges.len().saturating_mul(4 * context.stored.model.dimensions) > MOST_BYTES {
            return Err(ranges.len());
        }
        // Who asks for a row to be embedded again wants no vectors that are there.
        let is_forced = jobs.iter().any(|job| job.is_forced);
        let is_stored = |piece: &str| !is_forced && stored.contains(text_hash(piece).as_slice());
        let wanted: Vec<usize> = (0..ranges.len()).filter(|i| !is_stored(&text[ranges[*i].clone()])).collect();
        let row = Item::with_hash(jobs, hash);
        let row = Rc::new(InPieces {
            row,
            text,
            pieces: RefCell::new(ranges.into_iter().map(|range| Piece { range, vector: None }).collect()),
            missing: Cell::new(wanted.len()),
            is_over: Cell::new(false),
            is_cut: Cell::new(false),
        });
        let items = wanted.into_iter().map(|number| row.item(number, prefix)).collect();
        Ok((row.clone(), items))
    }

    fn item(self: &Rc<InPieces>, number: usize, prefix: Size) -> Item {
        let range = self.pieces.borrow()[number].range.clone();
        let mut item = Item::new(self.row.jobs.clone(), self.text[range].to_string(), self.row.hash.clone(), prefix);
        // No key has such a character.
        item.key = format!("{}\0{number}", self.row.key);
        item.part = Some(Part { of: self.clone(), number });
        item
    }

    /// The row, without its text.
    pub fn row(&self) -> &Item {
        &self.row
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.get() == 0
    }

    /// The row has gone back to the queue, or has failed.
    pub fn end(&self) {
        self.is_over.set(true);
    }

    /// All of it, once it is complete.
    pub fn finish(&self) -> Complete {
        let mut row = self.row.clone();
        row.is_cut = self.is_cut.get();
        Complete { row, text: self.text.clone(), pieces: self.pieces.take() }
    }
}

impl Part {
    /// Notes the vector of this piece; true: it was the last that was missing.
    pub fn take(&self, vector: &[f32], is_cut: bool) -> bool {
        let row = &self.of;
        let mut pieces = row.pieces.borrow_mut();
        let Some(piece) = pieces.get_mut(self.number).filter(|piece| piece.vector.is_none()) else { return false };
        if row.is_over.get() {
            return false;
        }
        piece.vector = Some(vector.to_vec());
        row.is_cut.set(row.is_cut.get() || is_cut);
        row.missing.set(row.missing.get().saturating_sub(1));
        row.is_complete()
    }

    /// Whether its row waits for it no more.
    pub fn is_over(&self) -> bool {
        self.of.is_over.get()
    }

    /// What is said of it where the row fails for it.
    pub fn name(&self) -> String {
        let pieces = self.of.pieces.borrow();
        let Some(piece) = pieces.get(self.number) else { return format!("chunk {}", self.number) };
        format!("chunk {} of {} (bytes {} to {})", self.number, pieces.len(), piece.range.start, piece.range.end)
    }
}
