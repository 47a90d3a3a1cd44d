//! Replacing the pieces of rows: only where the text is still the one that was cut, compared under the row's lock, as the table's owner.
//! Rows that users hold are passed over. What is as it was is left alone, and vectors that belong elsewhere by now move along.

use super::{COLUMNS, ChunkTable, hash, rows_from};
use crate::pg::catalog::Pgvector;
use crate::pg::ffi::rights::as_owner;
use crate::pg::ffi::spi::{self, Arg, Mode};
use crate::pg::ffi::types::{bytea_array, vector_array};
use crate::pg::ident::{qualified, quote};
use crate::pg::source::{Target, exist, hash_sql, key_arguments, key_condition, keys_from};
use crate::pg::writer::{Outcome, by_halves, fire_at_once};
use autoembed_core::chunk::{Changes, New, Stored, changes};
use autoembed_core::hash::text_hash;
use std::ops::Range;

/// One piece of a row.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Where it is in the text.
    pub range: Range<usize>,
    /// Its vector; `None`: that of the stored piece with the same text.
    pub vector: Option<Vec<f32>>,
}

/// A row with all its pieces.
pub struct Row<'a> {
    /// The row's key as text.
    pub key: &'a str,
    /// sha256 of the text that was cut; `None` is the hash of NULL.
    pub hash: Option<&'a [u8]>,
    /// The text.
    pub text: &'a str,
    /// All its pieces, in order.
    pub pieces: &'a [Piece],
}

/// Which pieces the rows with these keys have: places among the keys, and sha256 of the texts.
pub fn texts(target: &Target<'_>, chunks: &ChunkTable, keys: &[&str]) -> Vec<(usize, Vec<u8>)> {
    let all = stored(target, chunks, keys);
    all.into_iter().map(|(place, piece)| (place, piece.hash)).collect()
}

fn stored(target: &Target<'_>, chunks: &ChunkTable, keys: &[&str]) -> Vec<(usize, Stored)> {
    let name = chunks.table.sql();
    let [number, start, end, text] = COLUMNS.map(|column| format!("{name}.{}", quote(column)));
    let columns = chunks.table.key.len();
    let sql = format!(
        "SELECT {prefix}o, {number}, {start}, {end}, {hash} FROM {keys} JOIN ONLY {name} ON {condition} ORDER BY {prefix}o, {number}",
        prefix = chunks.table.prefix,
        hash = hash(&text),
        keys = keys_from(&chunks.table.prefix, columns, &[]),
        condition = key_condition(&chunks.table, "k"),
    );
    let arguments = key_arguments(columns, keys);
    as_owner(target.table.owner, &target.vectorizer.input_path, || {
        spi::query(&sql, &arguments, Mode::Write, |row| {
            let at = |column| row.or_default::<i32>(column).max(0) as usize;
            let piece = Stored { number: row.or_default(2), range: at(3)..at(4), hash: row.or_default(5) };
            ((row.or_default::<i64>(1) - 1).max(0) as usize, piece)
        })
    })
}

/// Raises what keeps the table's owner from replacing pieces; only planned, so that no trigger fires.
pub fn may_write(target: &Target<'_>, chunks: &ChunkTable) {
    let name = chunks.table.sql();
    let number = quote(COLUMNS[0]);
    for sql in [
        format!("EXPLAIN SELECT FROM {} WHERE false FOR NO KEY UPDATE", target.table.source_sql()),
        format!("EXPLAIN DELETE FROM ONLY {name} WHERE false"),
        format!("EXPLAIN UPDATE ONLY {name} SET {number} = {number} WHERE false"),
        format!("EXPLAIN INSERT INTO {name} SELECT * FROM ONLY {name} WHERE false"),
    ] {
        as_owner(target.table.owner, &target.vectorizer.input_path, || spi::query(&sql, &[], Mode::Write, |_| ()));
    }
}

/// Makes these the pieces of their rows; each key must occur once. Never raises what the write raises.
pub fn write(target: &Target<'_>, chunks: &ChunkTable, pgvector: &Pgvector, rows: &[Row<'_>]) -> Vec<Outcome> {
    if rows.is_empty() {
        return Vec::new();
    }
    by_halves(rows, &|rows| write_once(target, chunks, pgvector, rows))
}

fn write_once(target: &Target<'_>, chunks: &ChunkTable, pgvector: &Pgvector, rows: &[Row<'_>]) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; rows.len()];
    for (place, is_same) in lock(target, rows) {
        if let Some(outcome) = outcomes.get_mut(place) {
            *outcome = Some(if is_same { Outcome::Written } else { Outcome::Stale });
        }
    }
    let missed: Vec<usize> = (0..rows.len()).filter(|i| outcomes[*i].is_none()).collect();
    if !missed.is_empty() {
        let keys: Vec<&str> = missed.iter().map(|i| rows[*i].key).collect();
        for (i, there) in missed.into_iter().zip(exist(target, &keys)) {
            outcomes[i] = Some(if there { Outcome::Locked } else { Outcome::Gone });
        }
    }
    let mut outcomes: Vec<Outcome> = outcomes.into_iter().map(|o| o.unwrap_or(Outcome::Locked)).collect();
    let locked: Vec<usize> = (0..rows.len()).filter(|i| matches!(outcomes[*i], Outcome::Written)).collect();
    let keys: Vec<&str> = locked.iter().map(|i| rows[*i].key).collect();
    let mut there: Vec<Vec<Stored>> = vec![Vec::new(); locked.len()];
    for (place, piece) in stored(target, chunks, &keys) {
        there[place].push(piece);
    }
    let mut work = Vec::with_capacity(locked.len());
    for (place, there) in locked.into_iter().zip(there) {
        match plan(&rows[place], &there) {
            Some(changes) => work.push((place, changes)),
            // Somebody has deleted pieces by hand since they were read: the row is read again.
            None => outcomes[place] = Outcome::Stale,
        }
    }
    let statements = Statements { target, chunks, pgvector, rows, work: &work };
    as_owner(target.table.owner, &target.vectorizer.input_path, || {
        statements.shift();
        fire_at_once();
        statements.replace()
    });
    for place in statements.suppressed() {
        outcomes[place] = Outcome::Suppressed;
    }
    outcomes
}

/// Locks the rows that can be locked at once: their places, and whether the text is the one that was cut.
fn lock(target: &Target<'_>, rows: &[Row<'_>]) -> Vec<(usize, bool)> {
    let table = target.table;
    let (columns, prefix) = (table.key.len(), &table.prefix);
    let sql = format!(
        "SELECT {prefix}k.{prefix}o, NOT ({hash} IS DISTINCT FROM {prefix}k.{prefix}v1) \
         FROM {keys} JOIN {from} ON {condition} FOR NO KEY UPDATE OF {name} SKIP LOCKED",
        hash = hash_sql(target.input),
        keys = keys_from(prefix, columns, &["pg_catalog.bytea[]"]),
        from = table.source_sql(),
        name = quote(&table.name),
        condition = key_condition(table, "k"),
    );
    let keys: Vec<&str> = rows.iter().map(|row| row.key).collect();
    let mut arguments = key_arguments(columns, &keys);
    arguments.push(bytea_array(rows.iter().map(|row| row.hash.map(<[u8]>::to_vec)).collect()));
    as_owner(table.owner, &target.vectorizer.input_path, || {
        spi::query(&sql, &arguments, Mode::Write, |row| {
            ((row.or_default::<i64>(1) - 1).max(0) as usize, row.or_default::<bool>(2))
        })
    })
}

fn plan(row: &Row<'_>, there: &[Stored]) -> Option<Changes> {
    let hashes: Vec<[u8; 32]> = row.pieces.iter().map(|piece| text_hash(&row.text[piece.range.clone()])).collect();
    let new: Vec<New<'_>> = row
        .pieces
        .iter()
        .zip(&hashes)
        .map(|(piece, hash)| New { range: &piece.range, hash, has_vector: piece.vector.is_some() })
        .collect();
    changes(there, &new)
}

/// The statements that replace the pieces of rows, by their places.
struct Statements<'a> {
    target: &'a Target<'a>,
    chunks: &'a ChunkTable,
    pgvector: &'a Pgvector,
    rows: &'a [Row<'a>],
    work: &'a [(usize, Changes)],
}

impl Statements<'_> {
    /// The condition that a piece is the one with key and number in the columns of `rows`.
    fn is_one_of(&self, rows: &str) -> String {
        let key = &self.chunks.table.key;
        let condition = self.chunks.equals(&[], |i| format!("{rows}_{}::{}", i + 1, key[i].type_name));
        format!("{condition} AND {} OPERATOR(pg_catalog.=) {rows}_{}", self.column(0), key.len() + 1)
    }

    fn column(&self, i: usize) -> String {
        format!("{}.{}", self.chunks.table.sql(), quote(COLUMNS[i]))
    }

    fn keys(&self, places: &[usize]) -> Vec<Arg> {
        let keys: Vec<&str> = places.iter().map(|place| self.rows[*place].key).collect();
        key_arguments(self.chunks.table.key.len(), &keys)
    }

    /// Where numbered pieces of a row begin and end.
    fn ranges(&self, of: &[(usize, usize)]) -> [Vec<i32>; 3] {
        let range = |(row, piece): &(usize, usize)| self.rows[*row].pieces[*piece].range.clone();
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        [
            of.iter().map(|(_, piece)| number(*piece)).collect(),
            of.iter().map(|at| number(range(at).start)).collect(),
            of.iter().map(|at| number(range(at).end)).collect(),
        ]
    }

    /// Notes where pieces are now that have stayed.
    fn shift(&self) {
        let shifted = self.work.iter().flat_map(|(row, changes)| changes.shifted.iter().map(|piece| (*row, *piece)));
        let shifted: Vec<(usize, usize)> = shifted.collect();
        if shifted.is_empty() {
            return;
        }
        let (columns, prefix) = (self.chunks.table.key.len(), &self.chunks.table.prefix);
        let moved = format!("{prefix}m");
        let mut casts = vec!["pg_catalog.text[]"; columns];
        casts.extend(["pg_catalog.int4[]"; 3]);
        let sql = format!(
            "UPDATE ONLY {name} SET {start} = {moved}_{from}, {end} = {moved}_{to} FROM {rows} WHERE {condition}",
            name = self.chunks.table.sql(),
            start = quote(COLUMNS[1]),
            end = quote(COLUMNS[2]),
            from = columns + 2,
            to = columns + 3,
            rows = rows_from(&moved, 1, &casts),
            condition = self.is_one_of(&moved),
        );
        let mut arguments = self.keys(&shifted.iter().map(|(row, _)| *row).collect::<Vec<_>>());
        arguments.extend(self.ranges(&shifted).map(Arg::new));
        spi::execute(&sql, &arguments);
    }

    /// Deletes pieces and adds others, in this order: a new one may have the number of an old one, and the vector of another.
    fn replace(&self) {
        let gone = self.work.iter().flat_map(|(row, changes)| changes.gone.iter().map(|number| (*row, *number)));
        let gone: Vec<(usize, i32)> = gone.collect();
        let added = self
            .work
            .iter()
            .flat_map(|(row, changes)| changes.added.iter().map(|(piece, from)| ((*row, *piece), *from)));
        let (added, from): (Vec<(usize, usize)>, Vec<Option<i32>>) = added.unzip();
        if gone.is_empty() && added.is_empty() {
            return;
        }
        let table = &self.chunks.table;
        let (columns, prefix) = (table.key.len(), &table.prefix);
        let (old, new) = (format!("{prefix}d"), format!("{prefix}n"));
        let vectors = format!("{}[]", qualified(&self.pgvector.schema, "vector"));
        let mut of_old = vec!["pg_catalog.text[]"; columns];
        of_old.push("pg_catalog.int4[]");
        let mut of_new = vec!["pg_catalog.text[]"; columns];
        of_new.extend(["pg_catalog.int4[]", "pg_catalog.int4[]", "pg_catalog.int4[]", "pg_catalog.text[]"]);
        of_new.extend([vectors.as_str(), "pg_catalog.int4[]"]);
        let mut names: Vec<String> = table.key.iter().map(|column| quote(&column.name)).collect();
        names.extend(COLUMNS.map(quote));
        names.push(quote(self.target.embedding));
        let mut values: Vec<String> =
            table.key.iter().enumerate().map(|(i, column)| format!("{new}_{}::{}", i + 1, column.type_name)).collect();
        values.extend((1..=4).map(|i| format!("{new}_{}", columns + i)));
        let embedding = format!("{}.{}", table.sql(), quote(self.target.embedding));
        values.push(format!("COALESCE({new}_{}, {embedding})", columns + 5));
        let same_row = self.chunks.equals(&[], |i| format!("{new}_{}::{}", i + 1, table.key[i].type_name));
        // Counting what was deleted has it deleted first.
        let sql = format!(
            "WITH {prefix}g AS (DELETE FROM ONLY {name} USING {gone} WHERE {is_gone} RETURNING 1) \
             INSERT INTO {name} ({names}) SELECT {values} FROM {added} \
             LEFT JOIN ONLY {name} ON {same_row} AND {number} OPERATOR(pg_catalog.=) {new}_{from} \
             WHERE (SELECT pg_catalog.count(*) FROM {prefix}g) IS NOT NULL",
            name = table.sql(),
            gone = rows_from(&old, 1, &of_old),
            is_gone = self.is_one_of(&old),
            names = names.join(", "),
            values = values.join(", "),
            added = rows_from(&new, of_old.len() + 1, &of_new),
            number = self.column(0),
            from = columns + 6,
        );
        let mut arguments = self.keys(&gone.iter().map(|(row, _)| *row).collect::<Vec<_>>());
        arguments.push(Arg::new(gone.iter().map(|(_, number)| *number).collect::<Vec<i32>>()));
        arguments.extend(self.keys(&added.iter().map(|(row, _)| *row).collect::<Vec<_>>()));
        arguments.extend(self.ranges(&added).map(Arg::new));
        let text = |(row, piece): &(usize, usize)| {
            let row = &self.rows[*row];
            row.text[row.pieces[*piece].range.clone()].to_string()
        };
        arguments.push(Arg::new(added.iter().map(text).collect::<Vec<String>>()));
        let vector = |(row, piece): &(usize, usize)| self.rows[*row].pieces[*piece].vector.as_deref();
        arguments.push(vector_array(self.pgvector.type_oid, added.iter().map(vector)));
        arguments.push(Arg::new(from));
        spi::execute(&sql, &arguments);
    }

    /// Places of rows whose pieces are not all there: a trigger of the table has kept some back.
    fn suppressed(&self) -> Vec<usize> {
        let places: Vec<usize> = self.work.iter().map(|(place, _)| *place).collect();
        let keys: Vec<&str> = places.iter().map(|place| self.rows[*place].key).collect();
        let mut counts = vec![0; places.len()];
        let table = &self.chunks.table;
        let sql = format!(
            "SELECT {prefix}o, pg_catalog.count(*) FROM {keys} JOIN ONLY {name} ON {condition} GROUP BY {prefix}o",
            prefix = table.prefix,
            keys = keys_from(&table.prefix, table.key.len(), &[]),
            name = table.sql(),
            condition = key_condition(table, "k"),
        );
        let arguments = key_arguments(table.key.len(), &keys);
        let found = as_owner(self.target.table.owner, &self.target.vectorizer.input_path, || {
            spi::query(&sql, &arguments, Mode::Write, |row| (row.or_default::<i64>(1), row.or_default::<i64>(2)))
        });
        for (ordinal, count) in found {
            if let Some(place) = usize::try_from(ordinal - 1).ok().and_then(|i| counts.get_mut(i)) {
                *place = count as usize;
            }
        }
        let wanted = |place: &usize| self.rows[*place].pieces.len();
        places
            .into_iter()
            .zip(counts)
            .filter(|(place, count)| wanted(place) != *count)
            .map(|(place, _)| place)
            .collect()
    }
}
