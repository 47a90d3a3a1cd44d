//! What is done with each row whose vector is written.

use crate::path::{Path, Work};
use crate::texts;
use autoembed_core::hash::text_hash;
use autoembed_core::key;
use autoembed_core::record::{self, Entry};
use std::hint::black_box;

/// Its paths.
pub const PATHS: &[Path] = &[
    Path { name: "row: key of two columns", unit: "key", items: 2048, prepare: keys },
    Path { name: "row: record of its vector", unit: "vector", items: 2048, prepare: record_vectors },
];

/// There and back: a key is split where a vector is written, and put together where a row is queued by hand.
fn keys(items: usize) -> Result<Work, String> {
    let keys = texts::keys(items);
    Ok(Box::new(move || {
        let comes_back = |[number, name]: &&[String; 2]| {
            let text = key::encode(&[number, name]);
            key::decode(&text, 2).is_ok_and(|columns| columns.len() == 2)
        };
        keys.iter().filter(comes_back).count()
    }))
}

fn record_vectors(items: usize) -> Result<Work, String> {
    let vectors = texts::vectors(items, 64);
    let texts: Vec<[u8; 32]> = texts::messages(items).iter().map(|text| text_hash(text)).collect();
    let keys: Vec<String> = (1..=items).map(|key| key.to_string()).collect();
    Ok(Box::new(move || {
        let given = keys.iter().zip(&texts).zip(&vectors);
        let entries: Vec<Entry> =
            given.map(|((key, text), vector)| Entry::new(key, text, &record::head(vector))).collect();
        record::decode(&black_box(record::encode(&entries))).count()
    }))
}
