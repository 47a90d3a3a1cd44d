//! Bodies made wrong: first as JSON, then as bytes.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value};

/// One thing that is done to a body.
#[derive(Debug, Clone)]
pub enum Change {
    /// Another value in place of one.
    Replace(Index, &'static str),
    /// A value left out.
    Remove(Index),
    /// A value of a list given again, so many times.
    Repeat(Index, usize),
    /// A field's name spelled otherwise.
    Rename(Index, Index),
    /// A field given twice, the second time with this value.
    Again(Index, &'static str),
    /// A value put into so many lists.
    Bury(Index, usize),
    /// One bit turned over.
    Flip(Index, u8),
    /// The rest left out.
    Cut(Index),
    /// A range left out, or given twice.
    Drop(Index, Index),
    Double(Index, Index),
    /// Something in between.
    Insert(Index, &'static [u8]),
    /// Written in another way.
    Recode(Encoding),
}

#[derive(Debug, Clone, Copy)]
pub enum Encoding {
    Bom,
    Utf16,
    Latin1,
    Escaped,
}

/// JSON, or nearly, in place of a value.
const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "1",
    "-1",
    "1.5",
    "1e39",
    "-1e39",
    "1e-46",
    "3.4e38",
    "1e400",
    "NaN",
    "Infinity",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "\"\"",
    "\"NaN\"",
    "\"1\"",
    "\"AAAA\"",
    "\"AACAPwAAgD8=\"",
    "\"AACAPwAAgD8\"",
    "\"AADAfwAAwH8=\"",
    "\"A\"",
    "\"====\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"sk-canary 0123456789\"",
    "\"\\u0073k-canary\\t0123456789 and canary-in-a-header\"",
    "\"insufficient_quota\"",
    "\"Request too large: Limit 0, Requested 99999999999999999999\"",
    "\"retry after 99999999999999999999 days\"",
    "[]",
    "[[]]",
    "[null]",
    "[0, 0]",
    "[0, 0, 0, 0]",
    "[1e39, 1e39]",
    "[1, 2]",
    "[1, 2, 3, 4]",
    "{}",
    "{\"embedding\": [1, 2, 3]}",
    "{\"values\": [1, 2, 3]}",
    "{\"index\": 0, \"embedding\": \"AACAPwAAgD8=\"}",
    "{\"message\": {\"detail\": [{\"msg\": \"sk-canary 0123456789\"}]}}",
];

const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\\u0073k-canary 0123456789",
    b"sk-canary 0123456789",
    b"sk-canary\\n0123456789",
    b"canary-in-the-query",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":",
    b"]",
    b"}",
    b"\"",
    b",",
    b"e999",
    b"-",
    b" ",
    b"<html>",
    b"\"index\":-1,",
    b"\"index\":0,",
    b"\"index\":1.5,",
    b"\"embedding\":null,",
];

/// A few changes; none at all is one of the cases.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<Index>;
    let value = || select(VALUES);
    let change = prop_oneof![
        8 => (at(), value()).prop_map(|(at, value)| Change::Replace(at, value)),
        2 => at().prop_map(Change::Remove),
        2 => (at(), select(vec![1, 2, 3, 40, 2_000])).prop_map(|(at, times)| Change::Repeat(at, times)),
        2 => (at(), at()).prop_map(|(at, how)| Change::Rename(at, how)),
        2 => (at(), value()).prop_map(|(at, value)| Change::Again(at, value)),
        1 => (at(), select(vec![1, 2, 120, 130, 3_000])).prop_map(|(at, depth)| Change::Bury(at, depth)),
        2 => (at(), 0_u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), at()).prop_map(|(from, to)| Change::Drop(from, to)),
        1 => (at(), at()).prop_map(|(from, to)| Change::Double(from, to)),
        2 => (at(), select(PIECES)).prop_map(|(at, piece)| Change::Insert(at, piece)),
        1 => select(vec![Encoding::Bom, Encoding::Utf16, Encoding::Latin1, Encoding::Escaped]).prop_map(Change::Recode),
    ];
    proptest::collection::vec(change, 0..4)
}

/// `body` with the changes of its JSON, then with those of its bytes.
pub fn mutated(body: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    if changes.iter().any(Change::is_of_json)
        && let Ok(mut tree) = serde_json::from_slice::<Value>(body)
    {
        let mut raw = Vec::new();
        changes.iter().for_each(|change| change.to_json(&mut tree, &mut raw));
        let mut text = tree.to_string();
        // The latest first: it may hold marks of earlier ones.
        for (number, value) in raw.iter().enumerate().rev() {
            text = text.replace(&format!("\"{}\"", mark(number)), value);
        }
        bytes = text.into_bytes();
    }
    changes.iter().for_each(|change| change.to_bytes(&mut bytes));
    bytes
}

/// Stands in the tree for text that no tree can hold.
fn mark(number: usize) -> String {
    format!("@@{number}@@")
}

impl Change {
    fn is_of_json(&self) -> bool {
        use Change::{Again, Bury, Remove, Rename, Repeat, Replace};
        matches!(self, Replace(..) | Remove(..) | Repeat(..) | Rename(..) | Again(..) | Bury(..))
    }

    fn to_json(&self, tree: &mut Value, raw: &mut Vec<String>) {
        let count = size(tree);
        let mut leave = |text: String| {
            raw.push(text);
            Value::String(mark(raw.len() - 1))
        };
        match self {
            Self::Replace(at, value) => {
                let value = leave((*value).to_owned());
                with(tree, at.index(count), |place| *place = value);
            }
            Self::Bury(at, depth) => with(tree, at.index(count), |place| {
                *place = leave(format!("{}{place}{}", "[".repeat(*depth), "]".repeat(*depth)));
            }),
            Self::Remove(at) => with(tree, at.index(count), |place| match place {
                Value::Array(list) if !list.is_empty() => drop(list.remove(at.index(list.len()))),
                Value::Object(object) if !object.is_empty() => drop(object.remove(&name(object, *at))),
                other => *other = Value::Null,
            }),
            Self::Repeat(at, times) => with(tree, at.index(count), |place| match place {
                Value::Array(list) if !list.is_empty() => {
                    let item = list[at.index(list.len())].clone();
                    list.extend(std::iter::repeat_n(item, *times));
                }
                other => *other = Value::Array(vec![other.clone(); (*times).min(40)]),
            }),
            Self::Rename(at, how) => with(tree, at.index(count), |place| {
                if let Value::Object(object) = place
                    && !object.is_empty()
                {
                    let name = name(object, *at);
                    let value = object.remove(&name).unwrap_or_default();
                    let spelled = [name.to_uppercase(), format!("{name} "), format!("_{name}"), String::new()];
                    object.insert(spelled[how.index(spelled.len())].clone(), value);
                }
            }),
            Self::Again(at, value) => with(tree, at.index(count), |place| {
                if let Value::Object(object) = place
                    && !object.is_empty()
                {
                    let name = name(object, *at);
                    let first = object.get(&name).cloned().unwrap_or_default();
                    let twice = leave(format!("{first},{}:{value}", Value::String(name.clone())));
                    object.insert(name, twice);
                }
            }),
            _ => {}
        }
    }

    fn to_bytes(&self, bytes: &mut Vec<u8>) {
        let place = |at: &Index| at.index(bytes.len() + 1);
        let range = |from: &Index, to: &Index| {
            let (from, to) = (place(from), place(to));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Cut(at) => bytes.truncate(place(at)),
            Self::Drop(from, to) => drop(bytes.drain(range(from, to))),
            Self::Double(from, to) => {
                let range = range(from, to);
                let (end, part) = (range.end, bytes[range].to_vec());
                bytes.splice(end..end, part);
            }
            Self::Insert(at, piece) => {
                let at = place(at);
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Recode(encoding) => *bytes = encoding.write(bytes),
            _ => {}
        }
    }
}

impl Encoding {
    fn write(self, bytes: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(bytes);
        match self {
            Self::Bom => [b"\xef\xbb\xbf", bytes].concat(),
            Self::Utf16 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Latin1 => bytes.iter().map(|byte| if *byte == b'e' { 0xe9 } else { *byte }).collect(),
            // Legal: every letter of a string may be written by its number.
            Self::Escaped => text
                .replace("embedding", "\\u0065mbedding")
                .replace("message", "mess\\u0061ge")
                .replace('/', "\\/")
                .into_bytes(),
        }
    }
}

fn name(object: &Map<String, Value>, at: Index) -> String {
    object.keys().nth(at.index(object.len())).cloned().unwrap_or_default()
}

/// How many values there are, the tree itself included.
fn size(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(object) => object.values().map(size).sum(),
        _ => 0,
    }
}

/// Does something to the value with that number, counted from the outside to the inside.
fn with(tree: &mut Value, number: usize, change: impl FnOnce(&mut Value)) {
    if let Some(place) = find(tree, &mut { number }) {
        change(place);
    }
}

fn find<'a>(tree: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(tree);
    }
    *left -= 1;
    match tree {
        Value::Array(list) => list.iter_mut().find_map(|value| find(value, left)),
        Value::Object(object) => object.values_mut().find_map(|value| find(value, left)),
        _ => None,
    }
}
