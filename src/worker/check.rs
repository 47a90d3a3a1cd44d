//! Looks at vectorizers, also those that have nothing to do, so that no state outlives its cause.

use crate::pg::ffi::catch::subtransaction;
use crate::pg::{chunks, queue, source, writer};
use crate::worker::gather::{self, Context};
use crate::worker::{index, state, text_index};

/// Notes what [`gather::load`] finds wrong with these vectorizers, and forgets what is mended. In a transaction.
pub fn these(vectorizers: &[i32]) {
    for &id in vectorizers {
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
        text_index::check(&context);
        if let Some(chunks) = &context.chunks {
            chunks::adopt::tie(chunks.table.oid, context.table.oid, || context.lock());
        }
    }
}

/// Rows that wait and are read to see whether their table can be.
const TRIED: i64 = 1000;

/// Whether a table that refused something does so no more: the rows to be embedded next are read, or where none waits any row, and the
/// server is asked whether the owner may write. Nothing is written, so what a trigger refuses is found by the worker's own
/// tries alone, as long as rows wait; without any, nothing is stopped.
fn is_over(context: &Context, code: &str, message: &str) -> bool {
    const RIGHTS: &str = "42501";
    const CANCELED: &str = "57014";
    let mut keys = queue::next_keys(context.vectorizer.id, TRIED);
    let can_be_seen = message.starts_with(gather::UNREADABLE) && code != CANCELED;
    // A trigger may raise the same code, and what it wants is not known; in other languages the worker's own tries have to do.
    let is_of_rights = code == RIGHTS && message.contains("permission denied");
    if !(keys.is_empty() || can_be_seen || is_of_rights || code == state::LOCKED) || !context.lock() {
        return false;
    }
    let target = context.target();
    if keys.is_empty() {
        match subtransaction(|| source::walk(&target, None, None, 1)) {
            Ok(any) => keys.extend(any.into_iter().map(|(key, _)| key)),
            Err(_) => return false,
        }
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let is_read = match subtransaction(|| source::read(&target, &keys, 1)) {
        Ok(_) => true,
        Err(caught) => caught.may_be_one_row(),
    };
    is_read && subtransaction(|| writer::may_write(&target)).is_ok()
}
