//! Vectors from an answer: each in its place, each usable, or none at all.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::engine::general_purpose::PAD_INDIFFERENT;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::Failure;
use crate::model::{MAX_DIMENSIONS, MAX_INPUTS, Model};

/// The vectors of a request's inputs, in the inputs' order.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// Length of each.
    pub dimensions: usize,
    /// One after the other: `n * dimensions` numbers, all finite, none of the vectors zero.
    pub data: Vec<f32>,
}

impl Vectors {
    /// The vector of input `i`; empty if there is no such input.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f32] {
        let start = i.saturating_mul(self.dimensions);
        self.data.get(start..start.saturating_add(self.dimensions)).unwrap_or_default()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.dimensions).unwrap_or(0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// What a server answered to a whole request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// One vector an input.
    pub vectors: Vectors,
    /// Tokens the server counted, if it says so.
    pub tokens: Option<u64>,
}

/// One vector as it came.
pub(super) enum Embedding<'a> {
    /// Little-endian f32 in base64.
    Base64(Cow<'a, str>),
    /// Numbers; `null` and what is too large for f32 is not finite.
    Floats(Vec<f32>),
}

/// One vector with its place, if the answer names places.
#[derive(serde::Deserialize)]
pub(super) struct Item<'a> {
    #[serde(default)]
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) embedding: Embedding<'a>,
}

/// The items of an answer. No more than [`MAX_INPUTS`] are kept, the rest is counted: a list of empty lists, three bytes each,
/// would fill the memory many times faster than the wire.
pub(super) struct List<T> {
    kept: Vec<T>,
    count: usize,
}

impl<T> List<T> {
    /// The same with each item turned into another.
    pub(super) fn map<U>(self, turn: impl FnMut(T) -> U) -> List<U> {
        List { kept: self.kept.into_iter().map(turn).collect(), count: self.count }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < MAX_INPUTS {
                    match items.next_element()? {
                        Some(item) => kept.push(item),
                        None => return Ok(List { count: kept.len(), kept }),
                    }
                }
                let mut count = kept.len();
                while items.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(List { kept, count })
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// Vectors whose places are their order.
pub(super) fn in_order(embeddings: List<Embedding<'_>>) -> List<Item<'_>> {
    embeddings.map(|embedding| Item { index: None, embedding })
}

/// No request comes near as many tokens: a larger count is a mistake.
const MAX_TOKENS: u64 = 10_000_000;

/// What a server counted. Whatever is no count is as good as none: vectors that were paid for are not thrown away for it.
#[derive(Clone, Copy, Default)]
pub(super) struct Count(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lenient;
        impl<'de> Visitor<'de> for Lenient {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Count, E> {
                Ok(Count((count <= MAX_TOKENS).then_some(count)))
            }

            // Some write 12.0.
            fn visit_f64<E: de::Error>(self, count: f64) -> Result<Count, E> {
                let sane = (0.0..=MAX_TOKENS as f64).contains(&count);
                Ok(Count(sane.then_some(count as u64)))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Count, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Count, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
        }
        deserializer.deserialize_any(Lenient)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Embedding<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Embedding<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 or numbers")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Embedding::Base64(Cow::Borrowed(text)))
            }

            // A server that writes the slash as \/.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Embedding::Base64(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Self::Value, A::Error> {
                let mut floats = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(MAX_DIMENSIONS));
                while let Some(number) = numbers.next_element::<Option<f32>>()? {
                    // One too many tells as much as all.
                    if floats.len() <= MAX_DIMENSIONS {
                        floats.push(number.unwrap_or(f32::NAN));
                    }
                }
                Ok(Embedding::Floats(floats))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Puts `items` into the order of the inputs.
///
/// Places count where items name them, and must then be 0 to `inputs - 1`, each once; the order counts only where no
/// item names a place.
pub(super) fn collect(model: &Model, inputs: usize, items: List<Item<'_>>) -> Result<Vectors, Failure> {
    let dimensions = model.dimensions;
    let mismatch = |message: String| Failure::bad_vectors(inputs, "wrong_count", &message);
    if items.count != inputs {
        return Err(mismatch(format!("the server answered {} vectors for {inputs} inputs", items.count)));
    }
    let items = items.kept;
    let placed = items.iter().filter(|item| item.index.is_some()).count();
    if placed != 0 && placed != inputs {
        return Err(mismatch(format!("the server answered {} of {inputs} vectors without an index", inputs - placed)));
    }
    let mut source: Vec<Option<&Embedding<'_>>> = vec![None; inputs];
    for (order, item) in items.iter().enumerate() {
        let at = item.index.map_or(order, |index| usize::try_from(index).unwrap_or(usize::MAX));
        match source.get_mut(at) {
            None => {
                return Err(mismatch(format!("the server answered a vector for input {at} of {inputs}")));
            }
            Some(place) if place.is_some() => {
                return Err(mismatch(format!("the server answered two vectors for input {at}")));
            }
            Some(place) => *place = Some(&item.embedding),
        }
    }
    let mut data: Vec<f32> = Vec::with_capacity(inputs * dimensions);
    let engine = engine();
    let mut scratch = Vec::new();
    for embedding in source.iter().flatten() {
        let start = data.len();
        let readable = match embedding {
            Embedding::Floats(floats) => {
                data.extend_from_slice(floats);
                true
            }
            Embedding::Base64(text) => decode(&engine, text, &mut scratch, &mut data),
        };
        let row = data.get(start..).unwrap_or_default();
        if !readable {
            return Err(Failure::bad_vectors(
                inputs,
                "bad_vector",
                "the server answered a vector that is not readable base64",
            ));
        }
        if row.len() != dimensions {
            return Err(wrong_length(model, inputs, row.len(), &source));
        }
        if let Some(fault) = fault(row) {
            return Err(Failure::bad_vectors(inputs, "bad_vector", fault));
        }
    }
    Ok(Vectors { dimensions, data })
}

/// Every vector of the same wrong length is the model's fault, one among others its input's.
fn wrong_length(model: &Model, inputs: usize, got: usize, all: &[Option<&Embedding<'_>>]) -> Failure {
    let same = all.iter().flatten().all(|embedding| embedding.len() == got);
    if same && got > 0 {
        Failure::wrong_dimensions(model, got)
    } else {
        let message =
            format!("the server answered a vector of {got} dimensions among others, expected {}", model.dimensions);
        Failure::bad_vectors(inputs, "bad_vector", &message)
    }
}

impl Embedding<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Floats(floats) => floats.len(),
            Self::Base64(text) => text.trim_end_matches('=').len() * 3 / 4 / size_of::<f32>(),
        }
    }
}

/// The fastest decoder there is for this machine; padding may be there or not.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn engine() -> base64::engine::Simd {
    base64::engine::Simd::standard(PAD_INDIFFERENT)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn engine() -> base64::engine::GeneralPurpose {
    base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, PAD_INDIFFERENT)
}

/// Appends the numbers of `text` to `data`; false if it is not base64 of whole numbers. `scratch` only grows: what is in it is
/// written over, and need not be cleared for each vector.
fn decode(engine: &impl base64::Engine, text: &str, scratch: &mut Vec<u8>, data: &mut Vec<f32>) -> bool {
    let most = base64::decoded_len_estimate(text.len());
    if scratch.len() < most {
        scratch.resize(most, 0);
    }
    let Ok(length) = engine.decode_slice(text, scratch) else {
        return false;
    };
    let (numbers, rest) = scratch.get(..length).unwrap_or_default().as_chunks();
    data.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
    rest.is_empty()
}

/// What makes a vector useless. Its squares are summed as pgvector sums them, in f32: a vector whose sum is zero or
/// infinite there has no cosine distance, even if each of its numbers is finite.
fn fault(row: &[f32]) -> Option<&'static str> {
    let mut lanes = [0f32; 8];
    let (eights, rest) = row.as_chunks::<8>();
    for eight in eights {
        for (lane, number) in lanes.iter_mut().zip(eight) {
            *lane += number * number;
        }
    }
    let norm = lanes.iter().sum::<f32>() + rest.iter().map(|number| number * number).sum::<f32>();
    if norm.is_finite() && norm > 0.0 {
        None
    } else if row.iter().all(|number| number.is_finite()) {
        Some(if norm > 0.0 {
            "the server answered a vector too large for a distance"
        } else {
            "the server answered a zero vector"
        })
    } else {
        Some("the server answered a vector that is not finite")
    }
}
