//! Finds tensors in a safetensors file: eight bytes of header length, a JSON header, the data.
//!
//! Every number of the header is checked against the file before it is used, so that a truncated or hostile file is an
//! error and never a wrong read. Layout: <https://huggingface.co/docs/safetensors>.

use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;

/// The largest header that is read: far above the 200 bytes of a two-tensor file, far below what would hurt.
const MAX_HEADER: usize = 1 << 20;

/// Type of a tensor's elements, as far as this crate reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    I8,
}

impl Dtype {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::I8 => "I8",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::I8 => 1,
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The parsed header of a file.
pub(crate) struct Header {
    entries: HashMap<String, Entry>,
    data: Range<usize>,
}

impl Header {
    /// Reads the header of `file` (the whole file's bytes). The error says what is wrong, in lower case.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, String> {
        let (length, rest) = file.split_first_chunk::<8>().ok_or("it is shorter than its header's length")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| "its header's length is absurd")?;
        if length > MAX_HEADER {
            return Err(format!("its header claims {length} bytes, more than {MAX_HEADER}"));
        }
        let text = rest.get(..length).ok_or("it ends within its header")?;
        let mut raw: HashMap<String, serde_json::Value> =
            serde_json::from_slice(text).map_err(|error| format!("its header is not the expected json: {error}"))?;
        raw.remove("__metadata__");
        let mut entries = HashMap::with_capacity(raw.len());
        for (name, value) in raw {
            let entry = serde_json::from_value(value).map_err(|error| format!("tensor \"{name}\": {error}"))?;
            entries.insert(name, entry);
        }
        Ok(Self { entries, data: 8 + length..file.len() })
    }

    /// The place of tensor `name` in the file, in bytes, if it has the type and exactly `rank` axes; and its shape.
    pub(crate) fn tensor(&self, name: &str, dtype: Dtype, rank: usize) -> Result<(Range<usize>, &[usize]), String> {
        let entry = self.entries.get(name).ok_or_else(|| format!("it has no tensor \"{name}\""))?;
        if entry.dtype != dtype.name() {
            return Err(format!("tensor \"{name}\" is {}, not {}", clip(&entry.dtype), dtype.name()));
        }
        if entry.shape.len() != rank {
            return Err(format!("tensor \"{name}\" has {} axes, not {rank}", entry.shape.len()));
        }
        let wanted = entry.shape.iter().try_fold(dtype.bytes(), |size, &axis| size.checked_mul(axis));
        let [from, to] = entry.data_offsets;
        if wanted.is_none() || to.checked_sub(from) != wanted {
            return Err(format!("the shape of tensor \"{name}\" does not fit its bytes"));
        }
        if to > self.data.len() {
            return Err(format!("it ends within tensor \"{name}\""));
        }
        Ok((self.data.start + from..self.data.start + to, &entry.shape))
    }
}

/// The first characters of a name that came out of a file.
fn clip(name: &str) -> String {
    name.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    const GOOD: &str = r#"{"__metadata__":{"a":"b"},"t":{"dtype":"I8","shape":[3,4],"data_offsets":[2,14]}}"#;

    #[test]
    fn finds_a_tensor_behind_the_header() {
        let bytes = file(GOOD, 14);
        let header = Header::parse(&bytes).unwrap();
        let (range, shape) = header.tensor("t", Dtype::I8, 2).unwrap();
        assert_eq!(range, 8 + GOOD.len() + 2..8 + GOOD.len() + 14);
        assert_eq!(shape, [3, 4]);
    }

    #[test]
    fn refuses_every_truncation() {
        let bytes = file(GOOD, 14);
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            let found = Header::parse(cut).and_then(|h| h.tensor("t", Dtype::I8, 2).map(|(range, _)| range));
            assert!(found.is_err(), "{length} of {} bytes passed", bytes.len());
        }
    }

    #[test]
    fn refuses_headers_that_lie() {
        let cases = [
            (r#"{"t":{"dtype":"I8","shape":[3,4],"data_offsets":[14,2]}}"#, "does not fit"),
            (r#"{"t":{"dtype":"I8","shape":[3,5],"data_offsets":[0,12]}}"#, "does not fit"),
            (r#"{"t":{"dtype":"I8","shape":[18446744073709551615,2],"data_offsets":[0,12]}}"#, "does not fit"),
            (r#"{"t":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}"#, "is F32, not I8"),
            (r#"{"t":{"dtype":"I8","shape":[12],"data_offsets":[0,12]}}"#, "1 axes, not 2"),
            (r#"{"t":{"dtype":"I8","shape":[30,4],"data_offsets":[0,120]}}"#, "ends within tensor"),
            (r#"{"t":{"dtype":"I8","shape":[-3,4],"data_offsets":[0,12]}}"#, "invalid value"),
            (r#"{"t":7}"#, "invalid type"),
            (r#"{"u":{"dtype":"I8","shape":[3,4],"data_offsets":[0,12]}}"#, "no tensor \"t\""),
            ("[]", "not the expected json"),
        ];
        for (header, expected) in cases {
            let error = Header::parse(&file(header, 14))
                .and_then(|h| h.tensor("t", Dtype::I8, 2).map(|(range, _)| range))
                .unwrap_err();
            assert!(error.contains(expected), "{header}: {error}");
        }
        let mut huge = file(GOOD, 14);
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Header::parse(&huge).is_err());
        let nested = "[".repeat(100_000);
        assert!(Header::parse(&file(&nested, 0)).is_err());
    }
}
