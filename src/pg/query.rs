//! The vector of a search text, by the model that the searched column has.

use crate::pg::error::Result;
use crate::pg::ffi::locks;
use crate::pg::{embed, search};
use autoembed_core::InputKind;

/// The vector of `text` by the model of vectorizer `id`. The table is locked then, as by a query that reads it: until the end of the
/// transaction the column has vectors of this model. Nothing is locked while the model is called, which may take long.
///
/// # Errors
/// 42704 where there is no such vectorizer, 42501 where the caller may not read its table; as [`embed::vector_of`].
pub fn vector(id: i32, text: &str) -> Result<Vec<f32>> {
    let (mut table, mut stored) = search::model_of(id)?;
    loop {
        let model = stored.model.name.clone();
        let vector = embed::vector_of(text, stored, InputKind::Query, search::hides_rows(id))?;
        locks::lock_for_reading(table);
        if search::column_of(search::Of { id, made: None })? == (table, model) {
            return Ok(vector);
        }
        // It was changed while the old one was at work. Now it cannot be any more.
        (table, stored) = search::model_of(id)?;
    }
}
