//! Looks at every vectorizer, also those that have nothing to do, so that no state outlives its cause.

use crate::pg::catalog;
use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::{queue, source, writer};
use crate::worker::gather::{self, Context};
use crate::worker::{index, state};

/// Notes what [`gather::load`] finds wrong, and forgets what is mended. In a transaction.
pub fn all() {
    for vectorizer in catalog::vectorizers() {
        let id = vectorizer.id;
        let Some(context) = gather::load(id) else { continue };
        state::unblock_definition(id);
        if let Some((code, message)) = state::refusal(id)
            && is_over(&context, &code, &message)
        {
            state::unblock_vectorizer(id);
        }
        if !index::is_missing(&context) {
            state::forget_index(id);
        } else if !state::is_noted(id) {
            state::note_index(id, &format!("table \"{}\" has no valid index on its vectors", context.table.name));
        }
    }
}

/// Whether a table that refused something does so no more: the next row to be embedded is read, or where none waits any row, and the
/// server is asked whether the owner may write. Nothing is written, so what a trigger refuses is found by the worker's own
/// tries alone, as long as rows wait; without any, nothing is stopped.
fn is_over(context: &Context, code: &str, message: &str) -> bool {
    const RIGHTS: &str = "42501";
    const CANCELED: &str = "57014";
    let waiting = queue::next_key(context.vectorizer.id);
    let can_be_seen = message.starts_with(gather::UNREADABLE) && code != CANCELED || code == RIGHTS;
    if waiting.is_some() && !can_be_seen && code != state::LOCKED || !context.lock() {
        return false;
    }
    let target = context.target();
    let is_no_refusal = |caught: Caught| caught.may_be_one_row();
    let key = match waiting {
        Some(key) => Some(key),
        None => match subtransaction(|| source::walk(&target, None, None, 1)) {
            Ok(keys) => keys.into_iter().next().map(|(key, _)| key),
            Err(_) => return false,
        },
    };
    let keys: Vec<&str> = key.iter().map(String::as_str).collect();
    subtransaction(|| source::read(&target, &keys, 1)).map_or_else(is_no_refusal, |_| true)
        && subtransaction(|| writer::may_write(&target)).is_ok()
}
