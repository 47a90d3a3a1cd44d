//! What is done with each batch: what goes into it, its request, its answer.

use super::{DIMENSIONS, model};
use crate::path::{Path, Work};
use crate::texts;
use autoembed_core::batch::{Size, pack, unique};
use autoembed_core::provider::{build_request, read_answer};
use autoembed_core::{InputKind, Limits, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::hint::black_box;

/// Its paths.
pub const PATHS: &[Path] = &[
    Path { name: "batch: packed", unit: "text", items: 10_000, prepare: pack_texts },
    Path { name: "batch: request written", unit: "text", items: 2048, prepare: write_request },
    Path { name: "batch: answer read, base64", unit: "vector of 1536", items: 2048, prepare: read_base64 },
    Path { name: "batch: answer read, decimal", unit: "vector of 1536", items: 128, prepare: read_decimal },
];

/// As the worker does it with the rows that wait: of equal texts one is sent.
fn pack_texts(items: usize) -> Result<Work, String> {
    let mut texts = texts::messages(items * 9 / 10);
    texts.extend_from_within(..items - texts.len());
    let sizes: Vec<Size> = texts.iter().map(|text| Size::of(text)).collect();
    let limits: Limits = model().limits;
    Ok(Box::new(move || {
        let all: Vec<&str> = texts.iter().map(String::as_str).collect();
        let unique = unique(&all);
        let sizes: Vec<Size> = unique.firsts.iter().filter_map(|first| sizes.get(*first).copied()).collect();
        let batches = black_box(pack(&sizes, &limits));
        if batches.last().is_some_and(|last| last.end == unique.firsts.len()) { unique.of.len() } else { 0 }
    }))
}

fn write_request(items: usize) -> Result<Work, String> {
    let mut texts = texts::messages(items / 2);
    texts.extend(texts::foreign(items - texts.len()));
    let model = model();
    Ok(Box::new(move || {
        let inputs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let bytes: usize = inputs.iter().map(|text| text.len()).sum();
        let request = build_request(&model, None, InputKind::Document, &inputs);
        if black_box(request).is_ok_and(|request| request.body.len() > bytes) { inputs.len() } else { 0 }
    }))
}

fn read_base64(items: usize) -> Result<Work, String> {
    read(items, |vector| {
        let bytes: Vec<u8> = vector.iter().copied().flat_map(f32::to_le_bytes).collect();
        format!("\"{}\"", STANDARD.encode(bytes))
    })
}

fn read_decimal(items: usize) -> Result<Work, String> {
    read(items, |vector| format!("{vector:?}"))
}

/// The answer to a request for `items` vectors, each as `written`. A few different ones are enough.
fn read(items: usize, written: impl Fn(&[f32]) -> String) -> Result<Work, String> {
    let vectors: Vec<String> = texts::vectors(16, DIMENSIONS).iter().map(|vector| written(vector)).collect();
    let one = |(index, vector)| format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#);
    let data: Vec<String> = (0..items).zip(vectors.iter().cycle()).map(one).collect();
    let body = format!(
        r#"{{"object":"list","data":[{}],"model":"m","usage":{{"prompt_tokens":9,"total_tokens":9}}}}"#,
        data.join(",")
    );
    let response = Response { status: 200, headers: Vec::new(), body: body.into_bytes() };
    let model = model();
    Ok(Box::new(move || black_box(read_answer(&model, items, &response)).map_or(0, |answer| answer.vectors.len())))
}
