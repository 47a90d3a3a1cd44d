//! Writing vectors: only where the text is still the one that was embedded, compared under the row's lock, as the table's
//! owner. Rows that users hold are passed over. Knows nothing of the queue.

use crate::pg::chunks;
use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::ffi::rights::{as_owner, may_read_whole};
use crate::pg::ffi::spi::{self, Arg, Mode};
use crate::pg::ffi::types::{VectorArray, bytea_array};
use crate::pg::ident::quote;
use crate::pg::source::{Target, exist, hash_sql, key_arguments, key_condition, keys_from};
use crate::pg::triggers::while_writing;
use pgrx::pg_sys;

/// Bytes of vectors that one statement writes: they are read again from the processor's own memory. Tests in the server have few and short
/// ones.
const PORTION: usize = if cfg!(feature = "pg_test") { 64 } else { 1 << 20 };

/// One vector to write.
pub struct Entry<'a> {
    /// The row's key as text.
    pub key: &'a str,
    /// sha256 of the text that was embedded; `None` is the hash of NULL.
    pub hash: Option<&'a [u8]>,
    /// Its vector; `None` clears the column.
    pub vector: Option<&'a [f32]>,
}

/// What became of an entry.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The column holds the vector.
    Written,
    /// The text has changed since; nothing was written.
    Stale,
    /// There is no such row.
    Gone,
    /// A user holds the row; nothing was written.
    Locked,
    /// The row was there and had the text, but a trigger of the table kept the write back.
    Suppressed,
    /// The table refused the write.
    Failed(Caught),
}

/// Writes `entries`; each key must occur once. Never raises what the write raises: a statement that fails because of a
/// row is halved until the row at fault stands alone.
pub fn write(target: &Target<'_>, vector_type: pg_sys::Oid, entries: &[Entry<'_>]) -> Vec<Outcome> {
    if entries.is_empty() {
        return Vec::new();
    }
    by_halves(entries, &|entries| write_once(target, vector_type, entries))
}

/// What comes of `entries` where `once` writes them all or raises an error.
pub fn by_halves<E>(entries: &[E], once: &dyn Fn(&[E]) -> Vec<Outcome>) -> Vec<Outcome> {
    match subtransaction(|| once(entries)) {
        Ok(outcomes) => outcomes,
        Err(caught) if caught.is_contention() => vec![Outcome::Locked; entries.len()],
        Err(caught) if entries.len() == 1 || !caught.may_be_one_row() => vec![Outcome::Failed(caught); entries.len()],
        Err(_) => {
            let (left, right) = entries.split_at(entries.len() / 2);
            let mut outcomes = by_halves(left, once);
            outcomes.extend(by_halves(right, once));
            outcomes
        }
    }
}

/// Before each statement that writes vectors: a trigger that waits for the commit cannot be fired with the rights that they are written
/// with, and code of the table, which the statement before has run, may have told its triggers to wait.
pub fn fire_at_once() {
    spi::planned("SET CONSTRAINTS ALL IMMEDIATE", &[], Mode::Write, |_| ());
}

/// Raises what keeps the table's owner from writing vectors; only planned, so that no trigger fires.
pub fn may_write(target: &Target<'_>) {
    if let Some(chunks) = target.chunks {
        return chunks::write::may_write(target, chunks);
    }
    let column = quote(target.embedding);
    let sql = format!("EXPLAIN UPDATE {} SET {column} = {column} WHERE false", target.table.source_sql());
    as_owner(target.table.owner, &target.vectorizer.input_path, || spi::query(&sql, &[], Mode::Write, |_| ()));
}

/// A row that is locked.
struct Locked {
    /// Its place among the entries.
    entry: usize,
    /// It has the text that was embedded.
    is_same: bool,
    /// Where its newest version is; `None` where rows are not written by their places. While the lock is held nobody but this transaction can
    /// put another one elsewhere.
    place: Option<pg_sys::ItemPointerData>,
}

/// Locks the rows that can be locked at once, and compares. Then writes, by the places of the rows: a row that code of the table has
/// changed meanwhile, in this very transaction, is somewhere else, and is left alone.
fn write_once(target: &Target<'_>, vector_type: pg_sys::Oid, entries: &[Entry<'_>]) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; entries.len()];
    as_owner(target.table.owner, &target.vectorizer.input_path, || {
        let all: Vec<usize> = (0..entries.len()).collect();
        let mut array = VectorArray::default();
        let rows = unchanged(target, entries, &all, &mut outcomes);
        put_all(target, entries, &rows, vector_type, &mut array, true, &mut outcomes);
        // What code of the table has moved meanwhile is elsewhere: once more, all in one statement, before whose end no such code runs.
        let left = rows.iter().map(|row| row.entry).filter(|entry| outcomes[*entry].is_none()).collect::<Vec<usize>>();
        if left.is_empty() {
            return;
        }
        let rows = unchanged(target, entries, &left, &mut outcomes);
        put_all(target, entries, &rows, vector_type, &mut array, false, &mut outcomes);
        for row in rows.iter().filter(|row| outcomes[row.entry].is_none()).map(|row| row.entry).collect::<Vec<usize>>()
        {
            // A column that is NULL already is left alone.
            let is_null = entries[row].vector.is_none();
            set(&mut outcomes, row, if is_null { Outcome::Written } else { Outcome::Suppressed });
        }
    });
    let missed: Vec<usize> = (0..entries.len()).filter(|i| outcomes[*i].is_none()).collect();
    if !missed.is_empty() {
        let missed_keys: Vec<&str> = missed.iter().map(|i| entries[*i].key).collect();
        let there = exist(target, &missed_keys);
        for (i, there) in missed.into_iter().zip(there) {
            outcomes[i] = Some(if there { Outcome::Locked } else { Outcome::Gone });
        }
    }
    outcomes.into_iter().map(|o| o.unwrap_or(Outcome::Locked)).collect()
}

fn set(outcomes: &mut [Option<Outcome>], entry: usize, outcome: Outcome) {
    if let Some(place) = outcomes.get_mut(entry) {
        *place = Some(outcome);
    }
}

/// Locks those of the entries `which` whose rows are there and can be locked at once; those whose texts are not the same are stale.
fn unchanged(
    target: &Target<'_>,
    entries: &[Entry<'_>],
    which: &[usize],
    outcomes: &mut [Option<Outcome>],
) -> Vec<Locked> {
    let (same, stale): (Vec<Locked>, Vec<Locked>) =
        lock(target, entries, which).into_iter().partition(|row| row.is_same);
    stale.iter().for_each(|row| set(outcomes, row.entry, Outcome::Stale));
    same
}

/// Writes to rows that are locked. In portions it ends where some of a portion were not written.
fn put_all(
    target: &Target<'_>,
    entries: &[Entry<'_>],
    rows: &[Locked],
    vector_type: pg_sys::Oid,
    array: &mut VectorArray,
    in_portions: bool,
    outcomes: &mut [Option<Outcome>],
) {
    let (with_vector, without): (Vec<&Locked>, Vec<&Locked>) =
        rows.iter().partition(|row| entries[row.entry].vector.is_some());
    let bytes = with_vector.first().and_then(|row| entries[row.entry].vector).map_or(1, |vector| 8 + 4 * vector.len());
    let most = if in_portions { (PORTION / bytes).max(1) } else { with_vector.len().max(1) };
    for rows in with_vector.chunks(most) {
        let written = put(target, entries, rows, Some((vector_type, &mut *array)));
        let is_whole = written.len() == rows.len();
        written.into_iter().for_each(|entry| set(outcomes, entry, Outcome::Written));
        if in_portions && !is_whole {
            return;
        }
    }
    if !without.is_empty() {
        let written = put(target, entries, &without, None);
        written.into_iter().for_each(|entry| set(outcomes, entry, Outcome::Written));
    }
}

/// Locks those of the entries `which` whose rows are there and can be locked at once. A row that was changed after the statement's snapshot
/// is compared in its newest version (READ COMMITTED).
fn lock(target: &Target<'_>, entries: &[Entry<'_>], which: &[usize]) -> Vec<Locked> {
    let table = target.table;
    let (columns, prefix) = (table.key.len(), &table.prefix);
    let sql = format!(
        "SELECT {prefix}k.{prefix}o, NOT ({hash} IS DISTINCT FROM {prefix}k.{prefix}v1), {place} \
         FROM {keys} JOIN {from} ON {condition} FOR NO KEY UPDATE OF {name} SKIP LOCKED",
        hash = hash_sql(target.input),
        place = if is_by_place(target) { format!("{}.ctid", table.sql()) } else { "NULL::pg_catalog.tid".to_string() },
        keys = keys_from(prefix, columns, &["pg_catalog.bytea[]"]),
        from = table.source_sql(),
        condition = key_condition(table, "k"),
        name = quote(&table.name),
    );
    let keys: Vec<&str> = which.iter().map(|i| entries[*i].key).collect();
    let mut arguments = key_arguments(columns, &keys);
    arguments.push(hashes(which.iter().map(|i| &entries[*i])));
    let rows = target.query(&sql, &arguments, |row| (row.or_default::<i64>(1), row.or_default(2), row.get(3)));
    let locked = rows.into_iter().filter_map(|(ordinal, is_same, place)| {
        let entry = *which.get(usize::try_from(ordinal - 1).ok()?)?;
        Some(Locked { entry, is_same, place })
    });
    locked.collect()
}

fn hashes<'e, 'k: 'e>(entries: impl Iterator<Item = &'e Entry<'k>>) -> Arg {
    bytea_array(entries.map(|entry| entry.hash.map(<[u8]>::to_vec)).collect())
}

/// Writes the vectors of rows that are locked, or clears those that are there; the entries that were written.
fn put(
    target: &Target<'_>,
    entries: &[Entry<'_>],
    rows: &[&Locked],
    vectors: Option<(pg_sys::Oid, &mut VectorArray)>,
) -> Vec<usize> {
    let keys: Vec<&str> = rows.iter().map(|row| entries[row.entry].key).collect();
    let ordinals = Arg::new(rows.iter().map(|row| row.entry as i32).collect::<Vec<i32>>());
    let sql = statement(target, vectors.is_some());
    let read = |row: &spi::Row| row.or_default::<i32>(1);
    fire_at_once();
    let written = while_writing(target.vectorizer.id, &keys, || {
        let is_one = is_by_place(target);
        let mut arguments = match is_one {
            true => vec![Arg::new(rows.iter().filter_map(|row| row.place).collect::<Vec<_>>())],
            false => key_arguments(target.table.key.len(), &keys),
        };
        arguments.push(ordinals);
        if !is_one {
            arguments.push(hashes(rows.iter().map(|row| &entries[row.entry])));
        }
        let run = |arguments: &[Arg]| match is_one {
            true => spi::kept(&sql, arguments, Mode::Write, read),
            false => target.query(&sql, arguments, read),
        };
        match vectors {
            Some((vector_type, array)) => {
                let of_rows = rows.iter().map(|row| entries[row.entry].vector.unwrap_or_default());
                array.with(vector_type, of_rows, arguments, run)
            }
            None => run(&arguments),
        }
    });
    written.into_iter().filter_map(|entry| usize::try_from(entry).ok()).collect()
}

/// Whether rows are written by their places: those tell of one table alone, and to read them the owner needs the right to the whole table.
fn is_by_place(target: &Target<'_>) -> bool {
    target.table.kind == 'r' && may_read_whole(target.table.owner, target.table.oid)
}

/// The statement of [`put`]. The vectors are not stored on their way, as they would be by a function in FROM, or a SELECT in WITH.
fn statement(target: &Target<'_>, has_vectors: bool) -> String {
    let table = target.table;
    let (prefix, name, column) = (&table.prefix, table.sql(), quote(target.embedding));
    let by_place = is_by_place(target);
    let mut given: Vec<String> = Vec::new();
    let mut condition = match by_place {
        true => {
            given.push(format!("{prefix}c"));
            format!("{name}.ctid OPERATOR(pg_catalog.=) {prefix}k.{prefix}c")
        }
        false => {
            given.extend((1..=table.key.len()).map(|i| format!("{prefix}k{i}")));
            format!(
                "{} AND NOT ({} IS DISTINCT FROM {prefix}k.{prefix}h)",
                key_condition(table, "k"),
                hash_sql(target.input)
            )
        }
    };
    given.push(format!("{prefix}o"));
    if !by_place {
        given.push(format!("{prefix}h"));
    }
    let value = match has_vectors {
        true => {
            given.push(format!("{prefix}v"));
            format!("{prefix}k.{prefix}v")
        }
        false => {
            condition.push_str(&format!(" AND {name}.{column} IS NOT NULL"));
            "NULL".to_string()
        }
    };
    let given = given.iter().enumerate().map(|(i, name)| format!("pg_catalog.unnest(${}) AS {name}", i + 1));
    // In a WITH, a rule that would make it other statements is an error.
    format!(
        "WITH {prefix}w AS (UPDATE {from} SET {column} = {value} FROM (SELECT {given}) {prefix}k WHERE {condition} \
           RETURNING {prefix}k.{prefix}o) \
         SELECT {prefix}w.{prefix}o FROM {prefix}w",
        from = table.source_sql(),
        given = given.collect::<Vec<_>>().join(", "),
    )
}
