//! What the catalogue says of a new vectorizer.

use super::{Input, Request};
use crate::pg::catalog::{StoredModel, Table};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Arg, Mode};
use pgrx::pg_sys;

/// Writes a new vectorizer down; its id.
pub(super) fn store(
    request: &Request,
    stored: &StoredModel,
    input: &Input,
    vectors: &Table,
    attnum: i16,
    path: String,
) -> Result<i32> {
    // The lock on the model is what a foreign key would take: drop_model() waits for it.
    const SQL: &str = "WITH made AS (INSERT INTO autoembed.vectorizer (source, embedding, embedding_attnum, input, input_attnum, input_path, \
         model, on_change, delay, index_method, text_search, chunk_size, chunk_overlap, chunk_table) \
         SELECT $1, $2, $3, $4, $5, $6, m.name, $8, $9, $10, $11, $12, $13, $14::oid \
         FROM autoembed.models m WHERE m.name = $7 FOR KEY SHARE RETURNING id), \
         numbered AS (INSERT INTO autoembed.numbered SELECT id FROM made) SELECT id FROM made";
    let sizes = request.chunks.as_ref().map(|chunks| chunks.sizes);
    as_extension(|| {
        spi::first(
            SQL,
            &[
                Arg::new(request.source),
                Arg::new(request.embedding.clone()),
                Arg::new(attnum),
                Arg::new(input.stored.clone()),
                Arg::new::<i16>(input.attnum),
                Arg::new(path),
                Arg::new(stored.model.name.clone()),
                Arg::new(request.on_change.clone()),
                Arg::new(request.delay),
                Arg::new(request.index.clone()),
                Arg::new::<String>(request.text_search.as_ref().map(|words| words.name.clone())),
                Arg::new::<i32>(sizes.map(|sizes| sizes.size as i32)),
                Arg::new::<i32>(sizes.map(|sizes| sizes.overlap as i32)),
                Arg::new::<pg_sys::Oid>(sizes.map(|_| vectors.oid)),
            ],
            Mode::Write,
            |row| row.or_default(1),
        )
    })
    .ok_or_else(|| {
        Error::missing(
            format!("model \"{}\" was dropped just now", stored.model.name),
            "Call enable() with another model.",
        )
    })
}
