//! A good answer's body, and the ways in which single items of it can be spoilt.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::format::Ask;
use crate::meter::total;
use crate::vectors::Source;

/// One item of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The index it carries, where the format has one.
    pub(crate) index: Option<usize>,
    /// Which input its vector belongs to.
    pub(crate) of: usize,
    pub(crate) spoil: Option<Spoil>,
}

/// A vector that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    Nan,
    Inf,
    Zero,
}

/// An item for every input, in order.
pub(crate) fn items(count: usize) -> Vec<Item> {
    let item = |of| Item { index: Some(of), of, spoil: None };
    (0..count).map(item).collect()
}

/// Writes answers from one source of vectors.
pub(crate) struct Answerer {
    pub(crate) source: Source,
    /// The constant vector as base64 and as JSON, if the source is one.
    constant: Option<(Vec<u8>, Vec<u8>)>,
}

impl Answerer {
    pub(crate) fn new(source: Source) -> Self {
        let constant = match &source {
            Source::Constant(vector) => {
                let (mut base64, mut json) = (Vec::new(), Vec::new());
                write_base64(vector, &mut Vec::new(), &mut base64);
                write_floats(vector, &mut json);
                Some((base64, json))
            }
            _ => None,
        };
        Self { source, constant }
    }

    /// The body with these items, their vectors of `dims` dimensions.
    pub(crate) fn body(&self, ask: &Ask, items: &[Item], dims: usize) -> Vec<u8> {
        let size = if ask.base64 { dims * 16 / 3 + 64 } else { dims * 13 + 64 };
        let mut out = Vec::with_capacity(items.len() * size + 256);
        let mut bytes = Vec::new();
        let wire = ask.format.wire();
        out.extend_from_slice(wire.open(ask).as_bytes());
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            let (before, after) = wire.item(item.index);
            out.extend_from_slice(before.as_bytes());
            self.vector(ask, item, dims, &mut bytes, &mut out);
            out.extend_from_slice(after.as_bytes());
        }
        out.extend_from_slice(wire.close(ask, total(&ask.inputs)).as_bytes());
        out
    }

    fn vector(&self, ask: &Ask, item: &Item, dims: usize, bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
        if let (Some((base64, json)), None) = (&self.constant, item.spoil)
            && dims == self.source.dimensions()
        {
            out.extend_from_slice(if ask.base64 { base64 } else { json });
            return;
        }
        let text = ask.inputs.get(item.of).map_or("", String::as_str);
        let mut vector = self.source.vector(text, dims);
        match (item.spoil, vector.get_mut(dims / 2)) {
            (Some(Spoil::Zero), _) => vector.fill(0.0),
            (Some(Spoil::Nan), Some(value)) => *value = f32::NAN,
            (Some(Spoil::Inf), Some(value)) => *value = f32::INFINITY,
            _ => {}
        }
        if ask.base64 {
            write_base64(&vector, bytes, out);
        } else {
            write_floats(&vector, out);
        }
    }
}

/// Little-endian f32 in base64, quoted.
fn write_base64(vector: &[f32], bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
    bytes.resize(vector.len() * 4, 0);
    for (place, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(vector) {
        *place = value.to_le_bytes();
    }
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    if let Some(space) = out.get_mut(start..) {
        // The space is exactly what the encoding takes, so this cannot fail.
        let written = STANDARD.encode_slice(bytes.as_slice(), space).unwrap_or(0);
        out.truncate(start + written);
    }
    out.push(b'"');
}

/// JSON numbers; what JSON cannot say is written as some servers write it.
fn write_floats(vector: &[f32], out: &mut Vec<u8>) {
    out.push(b'[');
    for (place, value) in vector.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        if value.is_nan() {
            out.extend_from_slice(b"NaN");
        } else if value.is_infinite() {
            out.extend_from_slice(b"1e39");
        } else {
            // Shortest digits that read back as the same f32. Writing to memory cannot fail.
            let _ = serde_json::to_writer(&mut *out, value);
        }
    }
    out.push(b']');
}
