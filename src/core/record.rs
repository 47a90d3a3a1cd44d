//! What is kept of each vector that was written: enough to tell later whether a row's vector is that of its text.
//!
//! An entry says that the row with this key was given this vector for this text, by fingerprints of 16 bytes in all. Entries are a set:
//! their order does not count, and one that is there twice says nothing more.

use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Components of a vector that its entry looks at: two texts have no two vectors that begin alike.
pub const COMPONENTS: usize = 32;

const SIZE: usize = 16;

/// One vector that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Stands for the row's key.
    pub row: u64,
    /// Stands for the vector.
    pub vector: u32,
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
        Entry { row: row(key), vector: vector(head), mark: first_four(&both.finalize()) }
    }

    /// Vector and text without the row.
    fn pair(&self) -> u64 {
        u64::from(self.vector) << 32 | u64::from(self.mark)
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

/// What stands for a vector that begins so.
#[must_use]
pub fn vector(head: &[u8]) -> u32 {
    first_four(&Sha256::digest(head))
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
        bytes.extend(entry.vector.to_be_bytes());
        bytes.extend(entry.mark.to_be_bytes());
    }
    bytes
}

/// The entries in what [`encode`] gave; what is left over at the end is no entry.
pub fn decode(bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    bytes.chunks_exact(SIZE).map(|chunk| {
        let mut row = [0; 8];
        row.copy_from_slice(&chunk[..8]);
        Entry { row: u64::from_be_bytes(row), vector: first_four(&chunk[8..]), mark: first_four(&chunk[12..]) }
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

/// How often a record is measured that has not grown.
const MEASURED: Duration = Duration::from_secs(3600);

/// When records are worth being measured: that reads something of each of their batches, the size on disk is known at once.
#[derive(Debug, Default)]
pub struct Looks {
    last: Option<(Duration, u64)>,
}

impl Looks {
    /// Whether they are to be measured now, by their size in bytes: at first, once an hour, and when they have grown by a tenth.
    /// Times are those of any clock that does not go back.
    #[must_use]
    pub fn is_due(&self, bytes: u64, now: Duration) -> bool {
        self.last.is_none_or(|(at, before)| now.saturating_sub(at) >= MEASURED || bytes > before + before / 10)
    }

    /// They were measured, and nothing is to be done, or it was seen to.
    pub fn note(&mut self, bytes: u64, now: Duration) {
        self.last = Some((now, bytes));
    }
}

/// What the record says of a row's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Neither row nor vector was ever seen: whoever put the vector there knows where it is from.
    Unknown,
    /// This vector was written for this text, in this row or in another.
    Right,
    /// The vector was written for other texts only, or the row was given other vectors.
    Wrong,
}

/// The entries of a part, to be looked up.
#[derive(Debug, Default)]
pub struct Known {
    rows: Vec<u64>,
    pairs: Vec<u64>,
}

impl Known {
    /// Adds an entry. All of them must have been added when the first is looked up: see [`Known::sorted`].
    pub fn add(&mut self, entry: &Entry) {
        self.rows.push(entry.row);
        self.pairs.push(entry.pair());
    }

    /// Ready to be asked.
    #[must_use]
    pub fn sorted(mut self) -> Known {
        for all in [&mut self.rows, &mut self.pairs] {
            all.sort_unstable();
            all.dedup();
        }
        self
    }

    /// What is known of a vector that is there.
    #[must_use]
    pub fn verdict(&self, entry: &Entry) -> Verdict {
        if self.pairs.binary_search(&entry.pair()).is_ok() {
            return Verdict::Right;
        }
        let is_known = self.has_vector(entry) || self.rows.binary_search(&entry.row).is_ok();
        if is_known { Verdict::Wrong } else { Verdict::Unknown }
    }

    /// Whether the vector is one that was written, for whichever text.
    #[must_use]
    pub fn has_vector(&self, entry: &Entry) -> bool {
        let of_vector = self.pairs.partition_point(|pair| pair >> 32 < u64::from(entry.vector));
        self.pairs.get(of_vector).is_some_and(|pair| pair >> 32 == u64::from(entry.vector))
    }
}

/// Bits that note vectors which were seen: a fingerprint counts by its upper part.
const SEEN_BITS: u32 = 26;

/// Entries of a part on their way to a shorter record: the newest of each row that is there, and those of vectors that are there in
/// other rows, as after a change of keys.
#[derive(Debug)]
pub struct Newest {
    of_row: HashMap<u64, (Entry, bool)>,
    vectors: Vec<u64>,
}

impl Default for Newest {
    fn default() -> Newest {
        Newest { of_row: HashMap::new(), vectors: vec![0; 1 << (SEEN_BITS - 6)] }
    }
}

impl Newest {
    /// Takes an entry in; the newest must come first.
    pub fn add(&mut self, entry: Entry) {
        self.of_row.entry(entry.row).or_insert((entry, false));
    }

    /// Notes that a row is there, with this vector.
    pub fn see(&mut self, row: u64, vector: Option<u32>) {
        if let Some((_, seen)) = self.of_row.get_mut(&row) {
            *seen = true;
        }
        if let Some(bit) = vector.map(bit) {
            self.vectors[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Entries whose row or vector was seen.
    #[must_use]
    pub fn seen(&self) -> Vec<Entry> {
        let of_rows = self.of_row.values().filter(|(_, seen)| *seen).map(|(entry, _)| *entry);
        let mut entries: Vec<Entry> = of_rows.collect();
        let mut pairs: HashSet<u64> = entries.iter().map(Entry::pair).collect();
        let others = self.of_row.values().filter(|(_, seen)| !*seen).map(|(entry, _)| *entry);
        entries.extend(others.filter(|entry| self.has_vector(entry.vector) && pairs.insert(entry.pair())));
        entries
    }

    fn has_vector(&self, vector: u32) -> bool {
        let bit = bit(vector);
        self.vectors[bit / 64] & 1 << (bit % 64) != 0
    }
}

fn bit(vector: u32) -> usize {
    (vector >> (32 - SEEN_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::text_hash;

    fn entry(key: &str, text: &str, vector: &[f32]) -> Entry {
        Entry::new(key, &text_hash(text), &head(vector))
    }

    fn known(entries: &[Entry]) -> Known {
        let mut known = Known::default();
        entries.iter().for_each(|entry| known.add(entry));
        known.sorted()
    }

    #[test]
    fn a_vector_belongs_to_its_row_and_text() {
        let known = known(&[entry("1", "old", &[1.0]), entry("2", "two", &[2.0]), entry("1", "new", &[3.0])]);
        assert_eq!(known.verdict(&entry("1", "new", &[3.0])), Verdict::Right);
        assert_eq!(known.verdict(&entry("2", "two", &[2.0])), Verdict::Right);
        // Both came back together, as from an older dump.
        assert_eq!(known.verdict(&entry("1", "old", &[1.0])), Verdict::Right);
        assert_eq!(known.verdict(&entry("1", "edited", &[3.0])), Verdict::Wrong);
        // The text came back, its vector did not.
        assert_eq!(known.verdict(&entry("1", "old", &[3.0])), Verdict::Wrong);
        assert_eq!(known.verdict(&entry("1", "new", &[1.0])), Verdict::Wrong);
        // A row under another key, or copied with its vector; then its text was edited.
        assert_eq!(known.verdict(&entry("3", "two", &[2.0])), Verdict::Right);
        assert_eq!(known.verdict(&entry("3", "edited", &[2.0])), Verdict::Wrong);
        // A vector from elsewhere: in a row that had one of ours, and in one that had not.
        assert_eq!(known.verdict(&entry("1", "new", &[4.0])), Verdict::Wrong);
        assert_eq!(known.verdict(&entry("3", "two", &[4.0])), Verdict::Unknown);
        assert!(known.has_vector(&entry("1", "edited", &[3.0])) && !known.has_vector(&entry("1", "new", &[4.0])));
        assert_eq!(Known::default().verdict(&entry("1", "new", &[3.0])), Verdict::Unknown);
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let entries =
            [entry("1", "a", &[1.0]), entry("2", "b", &[-0.0]), Entry { row: u64::MAX, vector: 0, mark: u32::MAX }];
        let mut bytes = encode(&entries);
        assert_eq!(bytes.len(), 48);
        assert_eq!(decode(&bytes).collect::<Vec<_>>(), entries);
        bytes.extend([1, 2, 3]);
        assert_eq!(decode(&bytes).count(), 3, "half an entry is none");
        assert_eq!(decode(&[]).count(), 0);
    }

    /// Entries are in dumps and outlive the version that wrote them.
    #[test]
    fn fingerprints_stay_what_they_are() {
        let entry = entry("42", "a text", &[0.5, -1.0]);
        assert_eq!(
            format!("{:016x} {:08x} {:08x}", entry.row, entry.vector, entry.mark),
            "73475cb40a568e8d ccf4194c bdb4f45c"
        );
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
    fn a_record_is_measured_rarely() {
        let minute = Duration::from_secs(60);
        let mut looks = Looks::default();
        let mut measured = |bytes: u64, minutes: u32| {
            let is_due = looks.is_due(bytes, minutes * minute);
            if is_due {
                looks.note(bytes, minutes * minute);
            }
            is_due
        };
        let still: Vec<u32> = (0..150).filter(|n| measured(1_000_000, *n)).collect();
        assert_eq!(still, [0, 60, 120]);
        // It doubles in an hour, by the same each minute.
        let grown: Vec<u32> = (0..60).filter(|n| measured(1_000_000 + u64::from(*n) * 17_000, 150 + n)).collect();
        assert_eq!(grown.len(), 7, "{grown:?}");
        assert!(!measured(500_000, 210), "after VACUUM");
    }

    #[test]
    fn the_newest_of_rows_that_are_there() {
        let mut newest = Newest::default();
        let moved = entry("4", "moved", &[4.0]);
        let twice = entry("5", "moved", &[4.0]);
        for entry in [entry("1", "new", &[2.0]), entry("1", "old", &[1.0]), entry("2", "gone", &[1.0]), moved, twice] {
            newest.add(entry);
        }
        newest.see(row("1"), Some(vector(&head(&[2.0]))));
        newest.see(row("3"), None);
        assert_eq!(newest.seen(), [entry("1", "new", &[2.0])]);
        newest.see(row("6"), Some(vector(&head(&[4.0]))));
        let seen = newest.seen();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen.contains(&moved) || seen.contains(&twice));
    }
}
