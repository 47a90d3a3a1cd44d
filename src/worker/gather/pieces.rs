//! What is read of rows whose texts go in pieces.

use super::{Context, fit};
use crate::pg::queue::{self, Job};
use crate::worker::batch::Item;
use crate::worker::finish;
use crate::worker::pieces::{InPieces, MOST_CHARS};
use autoembed_core::hash::CacheKeys;
use autoembed_core::{InputKind, Limits};
use std::collections::HashSet;
use std::rc::Rc;

/// What is to be done for a row whose text goes in pieces.
pub(super) enum Pieces {
    /// It has failed.
    Failed,
    /// All its pieces have vectors.
    Complete(Rc<InPieces>),
    /// These need one.
    Wanted(Vec<Item>),
}

/// The jobs of rows, where those of rows whose vectors were not trusted when they were given up say so: what is there of their pieces is
/// still the same.
pub(super) fn distrust(id: i32, mut rows: Vec<Vec<Job>>) -> Vec<Vec<Job>> {
    let distrusted = queue::distrusted(id, rows.iter().map(|jobs| jobs[0].key.clone()).collect());
    rows.iter_mut().flatten().for_each(|job| job.is_forced |= distrusted.contains(&job.key));
    rows
}

/// Cuts the text of a row.
pub(super) fn in_pieces(
    context: &Context,
    jobs: Vec<Job>,
    text: String,
    hash: Vec<u8>,
    stored: &HashSet<Vec<u8>>,
    cut: &Limits,
    keys: &CacheKeys,
) -> Pieces {
    let id = context.vectorizer.id;
    if text.len() > MOST_CHARS && text.chars().count() > MOST_CHARS {
        finish::too_many_pieces(id, &Item::with_hash(jobs, hash), None);
        return Pieces::Failed;
    }
    let prefix = context.stored.model.prefix_size(InputKind::Document);
    let (row, mut items) = match InPieces::new(context, jobs.clone(), text, hash.clone(), stored, prefix) {
        Ok(row) => row,
        Err(pieces) => {
            finish::too_many_pieces(id, &Item::with_hash(jobs, hash), Some(pieces));
            return Pieces::Failed;
        }
    };
    for item in &mut items {
        if !fit(context, item, false, cut, keys) {
            finish::too_long(id, item, &context.stored.model.name, cut.input_tokens);
            return Pieces::Failed;
        }
    }
    if row.is_complete() { Pieces::Complete(row) } else { Pieces::Wanted(items) }
}
