//! The model: token vectors, pooled and normalised.

use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::OpenError;
use crate::safetensors::{Dtype, Header};
use crate::tokenizer::tokens;
use crate::vocabulary::Vocabulary;

/// More dimensions than any vector column of the database may have would be a mistake (pgvector's limit is 16,000).
const MAX_DIMENSIONS: usize = 16_000;

/// An opened model. Cheap to keep: two maps of files that all processes share.
pub struct Model {
    table: Mmap,
    /// Bytes of the int8 table, one row of `dimensions` values a token.
    rows: Range<usize>,
    /// Bytes of the f32 scales, one a token.
    scales: Range<usize>,
    vocabulary: Vocabulary,
    dimensions: usize,
}

/// What became of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Tokens that have a vector.
    pub known: usize,
    /// Words that have none; they count for nothing.
    pub unknown: usize,
    /// Whether the vector is one: false if no token is known (the vector is then all zero and has no direction).
    pub usable: bool,
}

impl Model {
    /// Opens the model in `directory`: `model.safetensors` (int8 `embeddings`, one row a token; f32 `weights`, one scale
    /// a row) and `vocab.bin` (see [`crate::vocabulary`]). Reads no more than their heads.
    ///
    /// # Errors
    /// A file that is missing, unreadable, truncated, or does not fit the other one.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join("model.safetensors");
        let vocabulary_path = directory.join("vocab.bin");
        let vocabulary = Vocabulary::open(&vocabulary_path)?;
        let table = crate::map::map(&path)?;
        let damaged = |reason: String| OpenError::damaged(&path, reason);
        let header = Header::parse(&table).map_err(damaged)?;
        let (rows, shape) = header.tensor("embeddings", Dtype::I8, 2).map_err(damaged)?;
        let (scales, scale_shape) = header.tensor("weights", Dtype::F32, 1).map_err(damaged)?;
        let (count, dimensions) = match shape {
            [count, dimensions] => (*count, *dimensions),
            _ => return Err(damaged("tensor \"embeddings\" has no two axes".to_owned())),
        };
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(damaged(format!("{dimensions} dimensions are not between 1 and {MAX_DIMENSIONS}")));
        }
        if scale_shape != [count] {
            return Err(damaged("tensors \"embeddings\" and \"weights\" differ in their rows".to_owned()));
        }
        if vocabulary.tokens() != count {
            let reason = format!("it has {} tokens and the model {count} rows", vocabulary.tokens());
            return Err(OpenError::damaged(&vocabulary_path, reason));
        }
        Ok(Self { table, rows, scales, vocabulary, dimensions })
    }

    /// Length of every vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Writes the vector of `text` (any length; there is no token limit) to `out`, of [`Model::dimensions`] values, with
    /// length 1. If no token is known, `out` becomes all zero and the result is not usable; likewise if `out` has
    /// another length, of which nothing can be made.
    pub fn embed_into(&self, text: &str, out: &mut [f32]) -> Embedded {
        out.fill(0.0);
        let mut result = Embedded { known: 0, unknown: 0, usable: false };
        if out.len() != self.dimensions {
            return result;
        }
        tokens(&self.vocabulary, text, &mut |id| {
            if id != self.vocabulary.unknown() && self.add(id, out) {
                result.known += 1;
            } else {
                result.unknown += 1;
            }
        });
        // The mean points where the sum points, so only the length has to be mended.
        let length = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if length.is_finite() && length > 0.0 {
            let factor = (1.0 / length) as f32;
            out.iter_mut().for_each(|x| *x *= factor);
            result.usable = true;
        } else {
            out.fill(0.0);
        }
        result
    }

    /// The vector of `text`, or `None` if no token of it is known (nothing but blanks, emoji, unknown scripts).
    pub fn embed(&self, text: &str) -> Option<Vec<f32>> {
        let mut vector = vec![0.0; self.dimensions];
        self.embed_into(text, &mut vector).usable.then_some(vector)
    }

    /// Adds the vector of token `id`: int8 values times the row's scale.
    fn add(&self, id: u32, sum: &mut [f32]) -> bool {
        let id = id as usize;
        let row = self.table.get(self.rows.clone()).and_then(|all| all.get(id * sum.len()..)?.get(..sum.len()));
        let scale = self.table.get(self.scales.clone()).and_then(|all| all.get(id * 4..)?.first_chunk());
        let (Some(row), Some(scale)) = (row, scale) else {
            return false;
        };
        let scale = f32::from_le_bytes(*scale);
        for (total, &value) in sum.iter_mut().zip(row) {
            *total += f32::from(value.cast_signed()) * scale;
        }
        true
    }
}
