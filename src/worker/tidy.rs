//! Bringing a record together that has grown too long: the newest entry of each row that is there, and of vectors that are there in
//! other rows, in few large batches. Short transactions; writers and the worker are not held up.

use crate::pg::ffi::catch::{self, Caught};
use crate::pg::ffi::settings;
use crate::pg::{record, source};
use crate::worker::gather;
use autoembed_core::record::{Newest, Part, row, vector};

/// Keys that are read in one transaction.
const ROWS: i64 = 20_000;
/// Entries that may be held in memory at once, however little memory is meant for it.
const FEW_ENTRIES: u64 = 2_000_000;
/// Memory for an entry: each row has one that is kept, and at least one that is not.
const ENTRY: u64 = 32;

/// Entries that are held in memory at once: each part of a record reads the whole table.
fn most_entries() -> u64 {
    (settings::maintenance_work_mem() / ENTRY).max(FEW_ENTRIES)
}

/// Brings the record of a vectorizer together. Batches that come meanwhile stay as they are. Where it ends half-way, entries are
/// there twice, which changes nothing of what they say. On large tables it takes long: `between` is called between transactions.
pub fn bring_together(vectorizer: i32, between: &mut dyn FnMut()) -> Result<(), Caught> {
    let mut batches: Option<Vec<i64>> = None;
    for part in Part::all(catch::transaction(|| record::count(vectorizer))?, most_entries()) {
        let (mut newest, mut ids) = (Newest::default(), Vec::new());
        catch::transaction(|| {
            record::for_each(vectorizer, |id, entries| {
                ids.push(id);
                entries.filter(|entry| part.has(entry.row)).for_each(|entry| newest.add(entry));
            });
        })?;
        // What a later part finds that the first has not is no part's work yet.
        batches.get_or_insert(ids);
        if !see_rows(vectorizer, &mut newest, between)? {
            return Ok(());
        }
        let entries = newest.seen();
        catch::transaction(|| record::keep(vectorizer, &entries))?;
    }
    catch::transaction(|| record::remove(vectorizer, &batches.unwrap_or_default()))
}

/// Notes which rows are there; false: the table cannot be worked on at present.
fn see_rows(vectorizer: i32, newest: &mut Newest, between: &mut dyn FnMut()) -> Result<bool, Caught> {
    let mut after: Option<String> = None;
    loop {
        between();
        let keys = catch::transaction(|| {
            let context = gather::load(vectorizer)?;
            let keys = source::walk(&context.target(), after.as_deref(), None, ROWS);
            let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
            let heads = source::heads(&context.target(), &context.pgvector.schema, &names);
            Some(keys.into_iter().map(|(key, _)| key).zip(heads).collect::<Vec<_>>())
        })?;
        let Some(keys) = keys else { return Ok(false) };
        let Some((last, _)) = keys.last() else { return Ok(true) };
        after = Some(last.clone());
        keys.iter().for_each(|(key, head)| newest.see(row(key), head.as_deref().map(vector)));
    }
}
