//! Reading a source table, as its owner: the texts of given rows, and keys in order for a backfill.

use crate::pg::catalog::{KeyColumn, Table, Vectorizer};
use crate::pg::chunks::{self, ChunkTable};
use crate::pg::ffi::rights::as_owner;
use crate::pg::ffi::spi::{self, Arg, Mode, Row};
use crate::pg::ffi::types;
use crate::pg::ident::{qualified, quote};
use autoembed_core::hash::text_hash;
use autoembed_core::{Model, key, record};
use pgrx::pg_sys;
use std::collections::HashSet;

/// Most characters that are read of one text, whatever the model takes.
const MAX_CHARS: usize = 1_000_000;

/// Characters that are read of a text for a model.
pub fn max_chars(model: &Model) -> i32 {
    model.limits.input_tokens.saturating_mul(8).min(MAX_CHARS) as i32
}

/// One row as it is now.
#[derive(Debug)]
pub struct Found {
    /// The input, cut after as many characters as the caller asked for.
    pub text: Option<String>,
    /// sha256 of the whole input in UTF-8.
    pub hash: Option<Vec<u8>>,
    /// The target column is not NULL; there are pieces, where texts go in pieces.
    pub has_vector: bool,
    /// sha256 of the texts of its pieces.
    pub pieces: HashSet<Vec<u8>>,
}

/// A vectorizer with all that is needed to build its statements.
pub struct Target<'a> {
    /// The vectorizer.
    pub vectorizer: &'a Vectorizer,
    /// Its table.
    pub table: &'a Table,
    /// Its target column.
    pub embedding: &'a str,
    /// Its input as SQL.
    pub input: &'a str,
    /// Where the pieces are, where texts go in pieces: the target column is there.
    pub chunks: Option<&'a ChunkTable>,
}

impl Target<'_> {
    /// Runs a statement over rows of the table that are given by keys, as its owner. Where an expression of a user's is in it, it is planned
    /// each time, since that may read other tables; and where a plan is as large as all partitions together.
    pub fn query<T>(&self, sql: &str, arguments: &[Arg], row: impl FnMut(&Row) -> T) -> Vec<T> {
        if self.vectorizer.is_expression || self.table.kind != 'r' {
            spi::query(sql, arguments, Mode::Write, row)
        } else {
            spi::kept(sql, arguments, Mode::Write, row)
        }
    }

    /// SQL over a row: whether it has a vector.
    fn has_vector(&self) -> String {
        match self.chunks {
            Some(chunks) => chunks.any(self.table),
            None => format!("{}.{} IS NOT NULL", self.table.sql(), quote(self.embedding)),
        }
    }

    /// SQL over a row: how its vector begins.
    fn head(&self, vector_schema: &str) -> String {
        let send = qualified(vector_schema, "vector_send");
        match self.chunks {
            Some(chunks) => chunks.head(self.table, self.embedding, vector_schema),
            None => format!(
                "pg_catalog.substring({send}({}.{}), 5, {})",
                self.table.sql(),
                quote(self.embedding),
                record::COMPONENTS * 4
            ),
        }
    }
}

/// The arguments `$1..$n` of a statement that joins keys: one array of texts a key column. A key that has not as many parts
/// as the table's key has columns matches no row.
pub fn key_arguments(columns: usize, keys: &[&str]) -> Vec<Arg> {
    let mut parts: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(keys.len()); columns];
    for text in keys {
        let decoded = split_key(text, columns);
        for (i, part) in parts.iter_mut().enumerate() {
            part.push(decoded.as_ref().and_then(|d| d.get(i).cloned()));
        }
    }
    parts.into_iter().map(Arg::new).collect()
}

/// `ROWS FROM (unnest($1::text[]), ...) WITH ORDINALITY AS autoembed_k (autoembed_k1, ..., autoembed_o)`, with `more` further
/// arrays (their casts) before the ordinality, named `autoembed_v1`, ... `prefix` is the beginning of all these names.
pub fn keys_from(prefix: &str, columns: usize, more: &[&str]) -> String {
    let casts = (1..=columns)
        .map(|i| format!("pg_catalog.unnest(${i}::pg_catalog.text[])"))
        .chain(more.iter().enumerate().map(|(i, cast)| format!("pg_catalog.unnest(${}::{cast})", columns + 1 + i)))
        .collect::<Vec<_>>()
        .join(", ");
    let names = (1..=columns)
        .map(|i| format!("{prefix}k{i}"))
        .chain((1..=more.len()).map(|i| format!("{prefix}v{i}")))
        .chain([format!("{prefix}o")])
        .collect::<Vec<_>>()
        .join(", ");
    format!("ROWS FROM ({casts}) WITH ORDINALITY AS {prefix}k ({names})")
}

fn equality(column: &KeyColumn) -> &'static str {
    if column.is_builtin { "OPERATOR(pg_catalog.=)" } else { "=" }
}

/// The condition that joins the table to the keys; `keys` names, after the table's prefix, the relation with the columns
/// `autoembed_k1`, ...
pub fn key_condition(table: &Table, keys: &str) -> String {
    let prefix = &table.prefix;
    table
        .key
        .iter()
        .enumerate()
        .map(|(i, column)| {
            format!(
                "{}.{} {} {prefix}{keys}.{prefix}k{}::{}",
                table.sql(),
                quote(&column.name),
                equality(column),
                i + 1,
                column.type_name
            )
        })
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// sha256 of the input in UTF-8, as SQL.
pub fn hash_sql(input: &str) -> String {
    format!("pg_catalog.sha256(pg_catalog.convert_to(({input})::pg_catalog.text, 'UTF8'))")
}

/// The input, cut after so many characters as argument `limit` says, and its hash, as SQL. Of a column whose whole text comes along in
/// UTF-8 there is no hash: it is as well computed from that.
fn text_and_hash(target: &Target<'_>, limit: usize) -> (String, String) {
    let (input, hash) = (target.input, hash_sql(target.input));
    let cut = format!("pg_catalog.left(({input})::pg_catalog.text, ${limit})");
    if target.vectorizer.is_expression || !types::is_utf8() {
        return (cut, hash);
    }
    // No text has more characters than bytes.
    let is_whole = format!("pg_catalog.octet_length(({input})::pg_catalog.text) OPERATOR(pg_catalog.<=) ${limit}");
    let text = format!("CASE WHEN {is_whole} THEN ({input})::pg_catalog.text ELSE {cut} END");
    (text, format!("CASE WHEN {is_whole} THEN NULL ELSE {hash} END"))
}

/// The rows of `keys` as they are now, in the same order; `None` where there is no such row. Texts are cut after
/// `max_chars` characters. Raises what the table or the input expression raises.
pub fn read(target: &Target<'_>, keys: &[&str], max_chars: i32) -> Vec<Option<Found>> {
    let columns = target.table.key.len();
    let (text, hash) = text_and_hash(target, columns + 1);
    let sql = format!(
        "SELECT {prefix}o, {text}, {hash}, {has_vector} FROM {keys} JOIN {from} ON {condition}",
        has_vector = target.has_vector(),
        prefix = target.table.prefix,
        keys = keys_from(&target.table.prefix, columns, &[]),
        from = target.table.source_sql(),
        condition = key_condition(target.table, "k"),
    );
    let mut arguments = key_arguments(columns, keys);
    arguments.push(Arg::new(max_chars));
    let mut rows: Vec<Option<Found>> = (0..keys.len()).map(|_| None).collect();
    let found = as_owner(target.table.owner, &target.vectorizer.input_path, || {
        target.query(&sql, &arguments, |row| {
            let (text, hash, has_vector) = (row.get::<String>(2), row.get(3), row.or_default(4));
            let hash = hash.or_else(|| text.as_deref().map(|text| text_hash(text).to_vec()));
            (row.or_default::<i64>(1), Found { text, hash, has_vector, pieces: HashSet::new() })
        })
    });
    for (ordinal, row) in found {
        if let Some(place) = rows.get_mut((ordinal - 1).max(0) as usize) {
            *place = Some(row);
        }
    }
    if let Some(chunks) = target.chunks {
        for (place, piece) in chunks::write::texts(target, chunks, keys) {
            if let Some(Some(row)) = rows.get_mut(place) {
                row.pieces.insert(piece);
            }
        }
    }
    rows
}

/// Whether there are rows with these keys. Raises what a text that is no key raises.
pub fn exist(target: &Target<'_>, keys: &[&str]) -> Vec<bool> {
    let columns = target.table.key.len();
    let sql = format!(
        "SELECT {}o FROM {} JOIN {} ON {}",
        target.table.prefix,
        keys_from(&target.table.prefix, columns, &[]),
        target.table.source_sql(),
        key_condition(target.table, "k"),
    );
    let mut there = vec![false; keys.len()];
    let arguments = key_arguments(columns, keys);
    as_owner(target.table.owner, &target.vectorizer.input_path, || {
        for ordinal in spi::query(&sql, &arguments, Mode::Write, |row| row.or_default::<i64>(1)) {
            if let Some(place) = usize::try_from(ordinal - 1).ok().and_then(|i| there.get_mut(i)) {
                *place = true;
            }
        }
    });
    there
}

/// The keys of the rows that have these keys, as the rows have them; `None` where there is none. Raises what a text that is no key raises.
pub fn own_keys(table: &Table, path: &str, keys: &[&str]) -> Vec<Option<String>> {
    let columns = table.key.len();
    let sql = format!(
        "SELECT {texts}, {prefix}o FROM {keys} JOIN {from} ON {condition}",
        texts = key_names(table).iter().map(|name| key_text(name)).collect::<Vec<_>>().join(", "),
        prefix = table.prefix,
        keys = keys_from(&table.prefix, columns, &[]),
        from = table.source_sql(),
        condition = key_condition(table, "k"),
    );
    let mut own = vec![None; keys.len()];
    let arguments = key_arguments(columns, keys);
    as_owner(table.owner, path, || {
        let found = spi::query(&sql, &arguments, Mode::Write, |row| {
            let parts: Vec<String> = (1..=columns).map(|i| row.or_default(i)).collect();
            (row.or_default::<i64>(columns + 1), join_key(&parts))
        });
        for (ordinal, key) in found {
            if let Some(place) = usize::try_from(ordinal - 1).ok().and_then(|i| own.get_mut(i)) {
                *place = Some(key);
            }
        }
    });
    own
}

// Qualified: a bare name in ORDER BY would be the text in the select list.
fn key_names(table: &Table) -> Vec<String> {
    table.key.iter().map(|column| format!("{}.{}", table.sql(), quote(&column.name))).collect()
}

/// The condition that a row comes after (`>`) or not after (`<=`) a key, with its arguments; always true for no key.
fn bound(table: &Table, key: Option<&str>, operator: &str, arguments: &mut Vec<Arg>) -> String {
    let Some(parts) = key.and_then(|key| split_key(key, table.key.len())) else { return "true".into() };
    let casts = table.key.iter().enumerate().map(|(i, c)| format!("${}::{}", arguments.len() + i + 1, c.type_name));
    let sql = format!("({}) {operator} ({})", key_names(table).join(", "), casts.collect::<Vec<_>>().join(", "));
    arguments.extend(parts.into_iter().map(Arg::new));
    sql
}

/// Up to `rows` keys above `after` and not above `end` in key order, each with whether it has a vector.
pub fn walk(target: &Target<'_>, after: Option<&str>, end: Option<&str>, rows: i64) -> Vec<(String, bool)> {
    let table = target.table;
    let columns = table.key.len();
    let names = key_names(table);
    let texts = names.iter().map(|name| key_text(name)).collect::<Vec<_>>().join(", ");
    let mut arguments = Vec::new();
    let bounds = [(after, ">"), (end, "<=")].map(|(key, operator)| bound(table, key, operator, &mut arguments));
    let sql = format!(
        "SELECT {texts}, {has_vector} FROM {from} WHERE {bounds} ORDER BY {order} LIMIT {rows}",
        has_vector = target.has_vector(),
        from = table.source_sql(),
        bounds = bounds.join(" AND "),
        order = names.join(", "),
    );
    as_owner(table.owner, &target.vectorizer.input_path, || {
        spi::query(&sql, &arguments, Mode::Write, |row| {
            let parts: Vec<String> = (1..=columns).map(|i| row.or_default(i)).collect();
            (join_key(&parts), row.or_default::<bool>(columns + 1))
        })
    })
}

/// Where one row is, as the calling statement sees it.
#[derive(Debug)]
pub struct Place {
    /// Its key as text, in the one form that keys have.
    pub key: String,
    /// Its `ctid`.
    pub ctid: String,
    /// The table, or the partition, that it is in.
    pub table: pg_sys::Oid,
    /// The target column is not NULL; there are pieces, where texts go in pieces.
    pub has_vector: bool,
    /// It lies between the two keys that were asked about.
    pub is_between: bool,
}

/// Finds one row by its key; tells whether it lies in `between`, as [`look`] does. Raises what a text that is no key raises.
pub fn place(target: &Target<'_>, key: &str, between: (Option<&str>, Option<&str>)) -> Option<Place> {
    let table = target.table;
    let columns = table.key.len();
    let names = key_names(table);
    let mut arguments = key_arguments(columns, &[key]);
    let [above, up_to] =
        [(between.0, ">"), (between.1, "<=")].map(|(key, operator)| bound(table, key, operator, &mut arguments));
    let sql = format!(
        "SELECT {texts}, {table}.ctid::pg_catalog.text, {table}.tableoid, {has_vector}, {above} AND {up_to} \
         FROM {keys} JOIN {from} ON {condition}",
        texts = names.iter().map(|name| key_text(name)).collect::<Vec<_>>().join(", "),
        table = table.sql(),
        has_vector = target.has_vector(),
        keys = keys_from(&table.prefix, columns, &[]),
        from = table.source_sql(),
        condition = key_condition(table, "k"),
    );
    as_owner(table.owner, &target.vectorizer.input_path, || {
        spi::first(&sql, &arguments, Mode::Read, |row| {
            let parts: Vec<String> = (1..=columns).map(|i| row.or_default(i)).collect();
            Place {
                key: join_key(&parts),
                ctid: row.or_default(columns + 1),
                table: row.get(columns + 2).unwrap_or(table.oid),
                has_vector: row.or_default(columns + 3),
                is_between: row.or_default(columns + 4),
            }
        })
    })
}

/// Whether there is nothing to embed in the row at a place: its input, or as much of it as is read, is NULL or blank. Raises what the
/// input expression raises.
pub fn is_blank(target: &Target<'_>, place: &Place, max_chars: i32) -> bool {
    let sql = format!(
        "SELECT COALESCE(pg_catalog.ltrim(pg_catalog.left(({input})::pg_catalog.text, $3), $4) OPERATOR(pg_catalog.=) '', true) \
         FROM {from} WHERE {at}",
        input = target.input,
        from = target.table.source_sql(),
        at = at_place(target.table),
    );
    let mut arguments = place_arguments(place);
    arguments.extend([Arg::new(max_chars), Arg::new(blanks())]);
    as_owner(target.table.owner, &target.vectorizer.input_path, || {
        spi::first(&sql, &arguments, Mode::Read, |row| row.or_default(1)).unwrap_or(true)
    })
}

/// The condition that a row is at the place given by [`place_arguments`].
pub fn at_place(table: &Table) -> String {
    format!(
        "{table}.ctid OPERATOR(pg_catalog.=) $1::pg_catalog.tid AND {table}.tableoid OPERATOR(pg_catalog.=) $2",
        table = table.sql()
    )
}

/// The arguments `$1` and `$2` of [`at_place`].
pub fn place_arguments(place: &Place) -> Vec<Arg> {
    vec![Arg::new(place.ctid.clone()), Arg::new(place.table)]
}

/// One row as the calling statement sees it.
#[derive(Debug)]
pub struct Seen {
    /// Its key as text.
    pub key: String,
    /// sha256 of the whole input in UTF-8; `None`: the input is NULL.
    pub hash: Option<Vec<u8>>,
    /// There is nothing to embed: the input, or as much of it as is read, is NULL or blank.
    pub is_blank: bool,
    /// How its vector begins, as [`record::head`] has it; `None`: it has none.
    pub head: Option<Vec<u8>>,
    /// It lies between the two keys that were asked about.
    pub is_between: bool,
}

/// Up to `rows` rows above `after` in key order, each with whether it lies in `between`: above the one key, and not above the
/// other. Raises what the table or the input expression raises.
pub fn look(
    target: &Target<'_>,
    vector_schema: &str,
    after: Option<&str>,
    between: (Option<&str>, Option<&str>),
    max_chars: i32,
    rows: i64,
) -> Vec<Seen> {
    let table = target.table;
    let columns = table.key.len();
    let names = key_names(table);
    let mut arguments = Vec::new();
    let [after, above, up_to] = [(after, ">"), (between.0, ">"), (between.1, "<=")]
        .map(|(key, operator)| bound(table, key, operator, &mut arguments));
    arguments.push(Arg::new(max_chars));
    arguments.push(Arg::new(blanks()));
    let keys = (1..=columns).map(|i| format!("autoembed_r.autoembed_k{i}")).collect::<Vec<_>>();
    let sql = format!(
        "SELECT {texts}, {hash}, \
           COALESCE(pg_catalog.ltrim(pg_catalog.left(autoembed_r.autoembed_t, ${limit}), ${blanks}) OPERATOR(pg_catalog.=) '', true), \
           autoembed_r.autoembed_e, autoembed_r.autoembed_b \
         FROM (SELECT {inner}, ({input})::pg_catalog.text AS autoembed_t, {head} AS autoembed_e, \
             {above} AND {up_to} AS autoembed_b \
           FROM {from} WHERE {after} ORDER BY {order} LIMIT {rows}) autoembed_r ORDER BY {outer}",
        texts = keys.iter().map(|name| key_text(name)).collect::<Vec<_>>().join(", "),
        hash = hash_sql("autoembed_r.autoembed_t"),
        limit = arguments.len() - 1,
        blanks = arguments.len(),
        head = target.head(vector_schema),
        inner = names
            .iter()
            .enumerate()
            .map(|(i, n)| format!("{n} AS autoembed_k{}", i + 1))
            .collect::<Vec<_>>()
            .join(", "),
        input = target.input,
        from = table.source_sql(),
        order = names.join(", "),
        outer = keys.join(", "),
    );
    as_owner(table.owner, &target.vectorizer.input_path, || {
        spi::query(&sql, &arguments, Mode::Read, |row| {
            let parts: Vec<String> = (1..=columns).map(|i| row.or_default(i)).collect();
            Seen {
                key: join_key(&parts),
                hash: row.get(columns + 1),
                is_blank: row.or_default(columns + 2),
                head: row.get(columns + 3),
                is_between: row.or_default(columns + 4),
            }
        })
    })
}

/// Every character that Rust takes for white space, as the worker does when it decides that there is nothing to embed.
fn blanks() -> String {
    ('\0'..='\u{ffff}').filter(|c| c.is_whitespace()).collect()
}

/// How the vectors of these rows begin, as this transaction has written them; `None`: there is none.
pub fn heads(target: &Target<'_>, vector_schema: &str, keys: &[&str]) -> Vec<Option<Vec<u8>>> {
    let columns = target.table.key.len();
    let sql = format!(
        "SELECT {prefix}o, {head} FROM {keys} JOIN {from} ON {condition}",
        head = target.head(vector_schema),
        keys = keys_from(&target.table.prefix, columns, &[]),
        from = target.table.source_sql(),
        condition = key_condition(target.table, "k"),
        prefix = target.table.prefix,
    );
    let mut heads = vec![None; keys.len()];
    let arguments = key_arguments(columns, keys);
    as_owner(target.table.owner, &target.vectorizer.input_path, || {
        for (ordinal, head) in spi::query(&sql, &arguments, Mode::Write, |row| (row.or_default::<i64>(1), row.get(2))) {
            if let Some(place) = usize::try_from(ordinal - 1).ok().and_then(|i| heads.get_mut(i)) {
                *place = head;
            }
        }
    });
    heads
}

/// The last key of the table; `None` where it has no rows.
pub fn last_key(table: &Table) -> Option<String> {
    let names = key_names(table);
    let texts = names.iter().map(|name| key_text(name)).collect::<Vec<_>>().join(", ");
    let order = names.iter().map(|name| format!("{name} DESC")).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT {texts} FROM {} ORDER BY {order} LIMIT 1", table.source_sql());
    as_owner(table.owner, "pg_catalog, pg_temp", || {
        spi::first(&sql, &[], Mode::Write, |row| {
            let parts: Vec<String> = (1..=names.len()).map(|i| row.or_default(i)).collect();
            join_key(&parts)
        })
    })
}

/// Whether the table has so many rows, counted.
pub fn has_rows(table: &Table, rows: i64) -> bool {
    let sql = format!("SELECT pg_catalog.count(*) FROM (SELECT FROM {} LIMIT {rows}) x", table.source_sql());
    as_owner(table.owner, "pg_catalog, pg_temp", || {
        spi::first(&sql, &[], Mode::Write, |row| row.or_default::<i64>(1)).is_some_and(|counted| counted >= rows)
    })
}

fn split_key(text: &str, columns: usize) -> Option<Vec<String>> {
    if columns == 1 {
        return Some(vec![text.to_string()]);
    }
    key::decode(text, columns).ok()
}

// The text that the type's output function gives, as in the triggers: a cast to text differs for some types.
fn key_text(column: &str) -> String {
    format!("pg_catalog.format('%s', {column})")
}

/// The text of a key: a single column's own text, a composite key in the form of a row literal.
pub fn join_key(parts: &[String]) -> String {
    match parts {
        [one] => one.clone(),
        more => key::encode(&more.iter().map(String::as_str).collect::<Vec<_>>()),
    }
}
