//! Writing vectors: only where the text is still the one that was embedded, compared under the row's lock, as the table's
//! owner. Rows that users hold are passed over. Knows nothing of the queue.

use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::ffi::rights::as_owner;
use crate::pg::ffi::spi::{self, Mode};
use crate::pg::ffi::types::{bytea_array, vector_array};
use crate::pg::ident::quote;
use crate::pg::source::{Target, exist, hash_sql, key_arguments, key_condition, keys_from};
use crate::pg::triggers::while_writing;
use pgrx::pg_sys;

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
pub fn write(target: &Target<'_>, vector_type: pg_sys::Oid, vector_sql: &str, entries: &[Entry<'_>]) -> Vec<Outcome> {
    if entries.is_empty() {
        return Vec::new();
    }
    match subtransaction(|| write_once(target, vector_type, vector_sql, entries)) {
        Ok(outcomes) => outcomes,
        Err(caught) if caught.is_contention() => vec![Outcome::Locked; entries.len()],
        Err(caught) if entries.len() == 1 || !caught.may_be_one_row() => vec![Outcome::Failed(caught); entries.len()],
        Err(_) => {
            let (left, right) = entries.split_at(entries.len() / 2);
            let mut outcomes = write(target, vector_type, vector_sql, left);
            outcomes.extend(write(target, vector_type, vector_sql, right));
            outcomes
        }
    }
}

/// Raises what keeps the table's owner from writing vectors; only planned, so that no trigger fires.
pub fn may_write(target: &Target<'_>) {
    let column = quote(target.embedding);
    let sql = format!("EXPLAIN UPDATE {} SET {column} = {column} WHERE false", target.table.source_sql());
    as_owner(target.table.owner, &target.vectorizer.input_path, || spi::query(&sql, &[], Mode::Write, |_| ()));
}

fn write_once(target: &Target<'_>, vector_type: pg_sys::Oid, vector_sql: &str, entries: &[Entry<'_>]) -> Vec<Outcome> {
    let columns = target.table.key.len();
    let keys: Vec<&str> = entries.iter().map(|e| e.key).collect();
    let mut arguments = key_arguments(columns, &keys);
    arguments.push(vector_array(vector_type, entries.iter().map(|e| e.vector)));
    arguments.push(bytea_array(entries.iter().map(|e| e.hash.map(<[u8]>::to_vec)).collect()));
    let sql = statement(target, vector_sql);
    let mut outcomes: Vec<Option<Outcome>> = vec![None; entries.len()];
    let path = &target.vectorizer.input_path;
    let rows = while_writing(target.vectorizer.id, &keys, || {
        as_owner(target.table.owner, path, || {
            spi::query(&sql, &arguments, Mode::Write, |row| {
                (row.or_default::<i64>(1), row.or_default::<bool>(2), row.or_default::<bool>(3))
            })
        })
    });
    // First every row that was locked, then every row that was written.
    for (ordinal, same, written) in rows {
        let Some((outcome, entry)) = place(&mut outcomes, entries, ordinal) else { continue };
        *outcome = Some(match (same, written) {
            (false, _) => Outcome::Stale,
            (true, true) => Outcome::Written,
            // A column that is NULL already is left alone.
            (true, false) if entry.vector.is_none() => Outcome::Written,
            (true, false) => Outcome::Suppressed,
        });
    }
    let missed: Vec<usize> = (0..entries.len()).filter(|i| outcomes[*i].is_none()).collect();
    if !missed.is_empty() {
        let missed_keys: Vec<&str> = missed.iter().map(|i| keys[*i]).collect();
        let there = exist(target, &missed_keys);
        for (i, there) in missed.into_iter().zip(there) {
            outcomes[i] = Some(if there { Outcome::Locked } else { Outcome::Gone });
        }
    }
    outcomes.into_iter().map(|o| o.unwrap_or(Outcome::Locked)).collect()
}

fn place<'o, 'e, 'k>(
    outcomes: &'o mut [Option<Outcome>],
    entries: &'e [Entry<'k>],
    ordinal: i64,
) -> Option<(&'o mut Option<Outcome>, &'e Entry<'k>)> {
    let index = usize::try_from(ordinal - 1).ok()?;
    Some((outcomes.get_mut(index)?, entries.get(index)?))
}

/// One statement: lock the rows that can be locked at once, compare, write, tell. A row that was changed after the
/// statement's snapshot is compared and written in its newest version (READ COMMITTED).
fn statement(target: &Target<'_>, vector_sql: &str) -> String {
    let table = target.table;
    let (columns, prefix) = (table.key.len(), &table.prefix);
    let key_names = (1..=columns).map(|i| format!("{prefix}k.{prefix}k{i}")).collect::<Vec<_>>().join(", ");
    let column = quote(target.embedding);
    format!(
        "WITH {prefix}l AS MATERIALIZED (\
           SELECT {key_names}, {prefix}k.{prefix}v1, {prefix}k.{prefix}o, \
             NOT ({hash} IS DISTINCT FROM {prefix}k.{prefix}v2) AS same \
           FROM {keys} JOIN {from} ON {condition} FOR NO KEY UPDATE OF {name} SKIP LOCKED), \
         {prefix}w AS (\
           UPDATE {from} SET {column} = {prefix}l.{prefix}v1 FROM {prefix}l \
           WHERE {update_condition} AND {prefix}l.same \
             AND ({prefix}l.{prefix}v1 IS NOT NULL OR {table}.{column} IS NOT NULL) \
           RETURNING {prefix}l.{prefix}o) \
         SELECT {prefix}l.{prefix}o, {prefix}l.same, false FROM {prefix}l \
         UNION ALL SELECT {prefix}w.{prefix}o, true, true FROM {prefix}w",
        hash = hash_sql(target.input),
        keys = keys_from(prefix, columns, &[&format!("{vector_sql}[]"), "pg_catalog.bytea[]"]),
        from = table.source_sql(),
        name = quote(&table.name),
        condition = key_condition(table, "k"),
        update_condition = key_condition(table, "l"),
        table = table.sql(),
    )
}
