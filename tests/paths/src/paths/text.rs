//! What is done with each text that is read.

use super::model;
use crate::path::{Path, Work};
use crate::texts;
use autoembed_core::InputKind;
use autoembed_core::batch::{estimate_tokens, truncate};
use autoembed_core::hash::{CacheKeys, text_hash};
use std::hint::black_box;

const PAGE: usize = 64 << 10;

/// Its paths.
pub const PATHS: &[Path] = &[
    Path { name: "text: tokens estimated", unit: "text", items: 2048, prepare: estimate },
    Path { name: "text: cut to 8192 tokens", unit: "text of 64 kB", items: 16, prepare: cut },
    Path { name: "text: hashed", unit: "text", items: 2048, prepare: hash },
    Path { name: "text: key for the cache", unit: "text", items: 2048, prepare: cache_keys },
];

fn estimate(items: usize) -> Result<Work, String> {
    let texts = texts::messages(items);
    Ok(Box::new(move || texts.iter().filter(|text| estimate_tokens(text) > 0).count()))
}

fn cut(items: usize) -> Result<Work, String> {
    let pages = texts::pages(items, PAGE);
    Ok(Box::new(move || pages.iter().filter(|page| truncate(page, 8192).len() < page.len()).count()))
}

fn hash(items: usize) -> Result<Work, String> {
    let texts = texts::messages(items);
    Ok(Box::new(move || texts.iter().map(|text| text_hash(text)).map(black_box).count()))
}

fn cache_keys(items: usize) -> Result<Work, String> {
    let texts = texts::messages(items);
    let model = model();
    Ok(Box::new(move || {
        let keys = CacheKeys::new(&model, InputKind::Document);
        texts.iter().map(|text| keys.of(text)).map(black_box).count()
    }))
}
