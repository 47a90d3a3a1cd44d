//! The built-in model.

use crate::path::{Path, Work};
use crate::texts;
use std::hint::black_box;

/// Its paths.
pub const PATHS: &[Path] = &[
    Path { name: "built-in model: English", unit: "text", items: 512, prepare: embed_english },
    Path { name: "built-in model: other scripts", unit: "text", items: 512, prepare: embed_foreign },
];

fn embed_english(items: usize) -> Result<Work, String> {
    embed(texts::messages(items))
}

fn embed_foreign(items: usize) -> Result<Work, String> {
    embed(texts::foreign(items))
}

fn embed(texts: Vec<String>) -> Result<Work, String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../share/builtin");
    let model = autoembed_local::Model::open(&folder).map_err(|error| error.to_string())?;
    Ok(Box::new(move || {
        let mut vectors = vec![0.0; texts.len() * model.dimensions()];
        let places = vectors.chunks_exact_mut(model.dimensions());
        let each = texts.iter().zip(places).map(|(text, vector)| model.embed_into(text, vector));
        let done = each.filter(|embedded| embedded.usable).count();
        black_box(vectors);
        done
    }))
}
