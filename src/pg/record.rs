//! The record of which vector was written for which text: `autoembed.embedded`.

use crate::pg::catalog::{self, Pgvector};
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::rights::{as_extension, as_queue};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::source::{self, Target};
use autoembed_core::record::{self, Entry};

/// A row's key, sha256 of its text, and the vector that was written for it.
pub type Given<'a> = (&'a str, &'a [u8], &'a [f32]);

/// Entries that a record may have beyond what it needs: a smaller one is not worth bringing together.
const SLACK: i64 = 100_000;
/// Entries in a batch that was brought together.
const BLOCK: usize = 65_536;

/// Records vectors that this transaction has written.
pub fn add(target: &Target<'_>, pgvector: &Pgvector, given: &[Given<'_>]) {
    if given.is_empty() {
        return;
    }
    let mut heads: Vec<Option<Vec<u8>>> = given.iter().map(|(.., vector)| Some(record::head(vector))).collect();
    if target.chunks.is_some() || catalog::has_editing_triggers(target.table) {
        // The vector that is there may be another than the one that was sent, and pieces may have been there before. What cannot be read
        // stays unknown.
        let keys: Vec<&str> = given.iter().map(|(key, ..)| *key).collect();
        heads = subtransaction(|| source::heads(target, &pgvector.schema, &keys)).unwrap_or_default();
    }
    let entries: Vec<Entry> =
        given.iter().zip(heads).filter_map(|((key, text, _), head)| Some(Entry::new(key, text, &head?))).collect();
    const SQL: &str = "INSERT INTO autoembed.embedded (vectorizer_id, marks) VALUES ($1, $2)";
    if !entries.is_empty() {
        as_queue(|| spi::planned(SQL, args![target.vectorizer.id, record::encode(&entries)], Mode::Write, |_| ()));
    }
}

/// How many entries there are for a vectorizer, as the calling statement sees them.
pub fn count(vectorizer: i32) -> u64 {
    const SQL: &str =
        "SELECT COALESCE(sum(octet_length(marks)) / 16, 0)::bigint FROM autoembed.embedded WHERE vectorizer_id = $1";
    let counted = as_queue(|| spi::planned(SQL, args![vectorizer], Mode::Read, |row| row.or_default::<i64>(1)));
    counted.first().map_or(0, |n| u64::try_from(*n).unwrap_or(0))
}

/// Goes through the batches of a vectorizer, newest first, as the calling statement sees them: `each` is given the number and the
/// entries of one.
pub fn for_each(vectorizer: i32, mut each: impl FnMut(i64, &mut dyn Iterator<Item = Entry>)) {
    // A few at a time: what a statement has read stays in memory until it ends.
    const SQL: &str =
        "SELECT id, marks FROM autoembed.embedded WHERE vectorizer_id = $1 AND id < $2 ORDER BY id DESC LIMIT 64";
    let mut below = i64::MAX;
    loop {
        let mut last = None;
        as_queue(|| {
            spi::planned(SQL, args![vectorizer, below], Mode::Read, |row| {
                let id = row.or_default(1);
                each(id, &mut record::decode(&row.or_default::<Vec<u8>>(2)));
                last = Some(id);
            })
        });
        pgrx::check_for_interrupts!();
        match last {
            Some(id) => below = id,
            None => return,
        }
    }
}

/// Bytes of all records on disk, dead ones included.
pub fn size() -> u64 {
    const SQL: &str = "SELECT pg_total_relation_size('autoembed.embedded')";
    let size = as_extension(|| spi::planned(SQL, &[], Mode::Read, |row| row.or_default::<i64>(1)));
    size.first().map_or(0, |bytes| u64::try_from(*bytes).unwrap_or(0))
}

/// Vectorizers whose record has grown to more than twice what it was when it was last brought together, and than its table has rows.
pub fn overgrown() -> Vec<i32> {
    // The length of a batch is read without the batch.
    const SQL: &str = "SELECT v.id FROM autoembed.vectorizer v \
         CROSS JOIN LATERAL (SELECT sum(octet_length(e.marks)) / 16 AS entries, sum(octet_length(e.marks)) FILTER (WHERE e.id < 0) / 16 AS kept \
           FROM autoembed.embedded e WHERE e.vectorizer_id = v.id) m \
         CROSS JOIN LATERAL (SELECT sum(GREATEST(c.reltuples, 0)) AS rows FROM pg_class c WHERE c.relkind = 'r' \
           AND (c.oid = v.source OR c.oid IN (SELECT relid FROM pg_partition_tree(v.source)))) t \
         WHERE m.entries > $1 + 2 * GREATEST(t.rows, m.kept)";
    // As long as the whole of it is small, nothing is counted.
    if size() <= 16 * SLACK as u64 {
        return Vec::new();
    }
    as_extension(|| spi::query(SQL, args![SLACK], Mode::Write, |row| row.or_default::<i32>(1)))
}

/// Adds entries that were brought together. They count as older than any that the worker adds meanwhile.
pub fn keep(vectorizer: i32, entries: &[Entry]) {
    const SQL: &str = "INSERT INTO autoembed.embedded (vectorizer_id, id, marks) OVERRIDING SYSTEM VALUE \
         SELECT v.id, -nextval('autoembed.embedded_id_seq'), $2 FROM autoembed.vectorizer v WHERE v.id = $1";
    for block in entries.chunks(BLOCK) {
        as_queue(|| spi::planned(SQL, args![vectorizer, record::encode(block)], Mode::Write, |_| ()));
    }
}

/// Removes batches whose entries were brought together.
pub fn remove(vectorizer: i32, batches: &[i64]) {
    const SQL: &str = "DELETE FROM autoembed.embedded WHERE vectorizer_id = $1 AND id = ANY ($2)";
    for some in batches.chunks(BLOCK) {
        as_queue(|| spi::planned(SQL, args![vectorizer, some.to_vec()], Mode::Write, |_| ()));
    }
}
