//! What is kept of each vector that was written: enough to tell later whether a row's vector is that of its text.
//!
//! An entry says that the row with this key was given this vector for this text, by fingerprints of 12 bytes in all. Entries are a set:
//! their order does not count, and one that is there twice says nothing more.

use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Components of a vector that its entry looks at: two texts have no two vectors that begin alike.
pub const COMPONENTS: usize = 32;

const SIZE: usize = 12;

/// One vector that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Stands for the row's key.
    pub row: u64,
    /// Stands for text and vector.
    pub mark: u32,
}

impl Entry {
    /// `key`: the row's key as text; `text`: sha256 of its text; `head`: the vector's first [`COMPONENTS`], as [`head`] gives them.
    #[must_use]
    pub fn new(key: &str, text: &[u8], head: &[u8]) -> Entry {
        let mut both = Sha256::new();
        both.update(text);
        both.update(head);
        Entry { row: row(key), mark: first_four(&both.finalize()) }
    }
}

/// What stands for a row's key.
#[must_use]
pub fn row(key: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(key.as_bytes())[..8]);
    u64::from_be_bytes(first)
}

/// The first components of a vector, as the server's binary format has them.
#[must_use]
pub fn head(vector: &[f32]) -> Vec<u8> {
    vector.iter().take(COMPONENTS).flat_map(|component| component.to_be_bytes()).collect()
}

/// What stands for a text alone: the beginning of its sha256; 0 where there is none.
#[must_use]
pub fn text(sha256: &[u8]) -> u32 {
    first_four(sha256)
}

fn first_four(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

/// Entries as they are stored.
#[must_use]
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * SIZE);
    for entry in entries {
        bytes.extend(entry.row.to_be_bytes());
        bytes.extend(entry.mark.to_be_bytes());
    }
    bytes
}

/// The entries in what [`encode`] gave; what is left over at the end is no entry.
pub fn decode(bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    bytes.chunks_exact(SIZE).map(|chunk| {
        let mut row = [0; 8];
        row.copy_from_slice(&chunk[..8]);
        Entry { row: u64::from_be_bytes(row), mark: first_four(&chunk[8..]) }
    })
}

/// A part of all rows: where there are too many entries to be held at once, they are gone through in several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    number: u64,
    of: u64,
}

impl Part {
    /// As few parts as it takes for about `most` of `entries` in each.
    pub fn all(entries: u64, most: u64) -> impl Iterator<Item = Part> {
        let of = entries.div_ceil(most.max(1)).max(1);
        (0..of).map(move |number| Part { number, of })
    }

    /// Whether the row belongs to it.
    #[must_use]
    pub fn has(&self, row: u64) -> bool {
        row % self.of == self.number
    }
}

/// What the record says of a row's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No vector was ever written for the row: whoever put one there knows where it is from.
    Unknown,
    /// This vector was written for this text.
    Right,
    /// Vectors were written for the row, but not this one for this text.
    Wrong,
}

/// The entries of a part, to be looked up.
#[derive(Debug, Default)]
pub struct Known(Vec<Entry>);

impl Known {
    /// From entries in any order.
    #[must_use]
    pub fn new(mut entries: Vec<Entry>) -> Known {
        entries.sort_unstable();
        entries.dedup();
        Known(entries)
    }

    /// What is known of a vector that is there.
    #[must_use]
    pub fn verdict(&self, entry: &Entry) -> Verdict {
        let from = self.0.partition_point(|known| known.row < entry.row);
        let mut of_row = self.0[from..].iter().take_while(|known| known.row == entry.row).peekable();
        if of_row.peek().is_none() {
            return Verdict::Unknown;
        }
        if of_row.any(|known| known.mark == entry.mark) { Verdict::Right } else { Verdict::Wrong }
    }
}

/// Entries of a part on their way to a shorter record: the newest of each row, of rows that are there.
#[derive(Debug, Default)]
pub struct Newest(HashMap<u64, (u32, bool)>);

impl Newest {
    /// Takes an entry in; the newest must come first.
    pub fn add(&mut self, entry: Entry) {
        self.0.entry(entry.row).or_insert((entry.mark, false));
    }

    /// Notes that the row is there.
    pub fn see(&mut self, row: u64) {
        if let Some((_, seen)) = self.0.get_mut(&row) {
            *seen = true;
        }
    }

    /// Entries of rows that were seen.
    #[must_use]
    pub fn seen(&self) -> Vec<Entry> {
        self.0.iter().filter(|(_, (_, seen))| *seen).map(|(row, (mark, _))| Entry { row: *row, mark: *mark }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::text_hash;

    fn entry(key: &str, text: &str, vector: &[f32]) -> Entry {
        Entry::new(key, &text_hash(text), &head(vector))
    }

    #[test]
    fn a_vector_belongs_to_its_row_and_text() {
        let known = Known::new(vec![entry("1", "old", &[1.0]), entry("2", "two", &[2.0]), entry("1", "new", &[3.0])]);
        assert_eq!(known.verdict(&entry("1", "new", &[3.0])), Verdict::Right);
        assert_eq!(known.verdict(&entry("2", "two", &[2.0])), Verdict::Right);
        // Both came back together, as from an older dump.
        assert_eq!(known.verdict(&entry("1", "old", &[1.0])), Verdict::Right);
        assert_eq!(known.verdict(&entry("1", "edited", &[3.0])), Verdict::Wrong);
        // The text came back, its vector did not.
        assert_eq!(known.verdict(&entry("1", "old", &[3.0])), Verdict::Wrong);
        assert_eq!(known.verdict(&entry("1", "new", &[1.0])), Verdict::Wrong);
        assert_eq!(known.verdict(&entry("3", "two", &[2.0])), Verdict::Unknown);
        assert_eq!(Known::default().verdict(&entry("1", "new", &[3.0])), Verdict::Unknown);
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let entries = [entry("1", "a", &[1.0]), entry("2", "b", &[-0.0]), Entry { row: u64::MAX, mark: u32::MAX }];
        let mut bytes = encode(&entries);
        assert_eq!(bytes.len(), 36);
        assert_eq!(decode(&bytes).collect::<Vec<_>>(), entries);
        bytes.extend([1, 2, 3]);
        assert_eq!(decode(&bytes).count(), 3, "half an entry is none");
        assert_eq!(decode(&[]).count(), 0);
    }

    /// Entries are in dumps and outlive the version that wrote them.
    #[test]
    fn fingerprints_stay_what_they_are() {
        let entry = entry("42", "a text", &[0.5, -1.0]);
        assert_eq!(format!("{:016x} {:08x}", entry.row, entry.mark), "73475cb40a568e8d bdb4f45c");
        assert_eq!(text(&text_hash("a text")), 0x7341_94ed);
        assert_eq!(text(&[]), 0);
    }

    #[test]
    fn only_the_beginning_of_a_vector_is_looked_at() {
        let mut long = vec![1.0; COMPONENTS];
        let short = entry("1", "a", &long);
        long.push(2.0);
        assert_eq!(entry("1", "a", &long), short);
        long[COMPONENTS - 1] = 2.0;
        assert_ne!(entry("1", "a", &long), short);
    }

    #[test]
    fn parts_share_all_rows_out() {
        assert_eq!(Part::all(0, 10).count(), 1);
        assert_eq!(Part::all(10, 10).count(), 1);
        let parts: Vec<Part> = Part::all(95, 10).collect();
        assert_eq!(parts.len(), 10);
        for key in 0..100 {
            let row = row(&key.to_string());
            assert_eq!(parts.iter().filter(|part| part.has(row)).count(), 1);
        }
    }

    #[test]
    fn the_newest_of_rows_that_are_there() {
        let mut newest = Newest::default();
        for entry in [entry("1", "new", &[2.0]), entry("1", "old", &[1.0]), entry("2", "gone", &[1.0])] {
            newest.add(entry);
        }
        newest.see(row("1"));
        newest.see(row("3"));
        assert_eq!(newest.seen(), [entry("1", "new", &[2.0])]);
    }
}
