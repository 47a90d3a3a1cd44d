//! The statement of a hybrid search: candidates of the vectors and of the text index, each with both scores, in one order.
//!
//! In goes the query's text (`$5`) beside what the semantic search has. Its words, as the text search configuration makes them, are looked up
//! one by one, as far as [`MOST_HITS`]; that gives how rare each is and which rows have the most of what the query says. They and the nearest
//! vectors are read once, with the similarity and the words of each, and `autoembed_core::fusion` puts them in order. A query without a
//! word that counts leaves the nearest vectors in their order.
//!
//! Everything is read in the reader's own statement, so policies and grants hold for counts too: how rare a word is, is told by the
//! rows that he may see. Under a policy the server does not use the text index (a condition on a text might leak rows), so there the rows
//! that the policy lets through are read once instead of once a word. Nothing is kept between two searches.

use crate::pg::catalog::{self, Table, Vectorizer};
use crate::pg::distance::Distance;
use crate::pg::error::Result;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ident::quote;
use crate::pg::text_index;
use autoembed_core::fusion::{self, Found, Word};
use pgrx::pg_sys;
use std::f64::consts::PI;

/// Rows that are looked at for one word.
const MOST_HITS: u32 = 500;
/// Words of a query that are looked up.
const MOST_WORDS: u32 = 32;
/// Characters of a query whose words are looked up.
const QUERY_CHARACTERS: u32 = 8192;
/// Candidates of each side, where k is not more: as many as one pass of pgvector's index gives.
const CANDIDATES: u32 = 40;
/// Rows of whose similarity the usual one is the mean.
const SAMPLE: u32 = 100;
/// Fewer than these say little of the others.
const LEAST_SAMPLE: u32 = 30;
/// So many pages are in a sample.
const SAMPLE_PAGES: f64 = 8.0;
/// Tables with so many rows are sampled.
const SAMPLED: i64 = 10_000;
/// So many rows are counted, and how many there are beyond that is estimated.
const COUNTED: i64 = 20_000;

/// What a statement is made of.
pub struct Parts<'a> {
    /// The table.
    pub table: &'a Table,
    /// The vectorizer.
    pub vectorizer: &'a Vectorizer,
    /// The target column and the input as SQL.
    pub columns: (&'a str, &'a str),
    /// The filter as ` AND ...`, or nothing.
    pub condition: &'a str,
    /// How vectors are compared.
    pub distance: &'a Distance,
    /// The index gives rows in the order of the vectors with components of two bytes.
    pub is_halved: bool,
    /// Policies hide rows from the reader.
    pub hides_rows: bool,
    /// The words of the input have an index.
    pub has_text_index: bool,
}

impl Parts<'_> {
    /// Rows of others do not count.
    fn is_part(&self) -> bool {
        self.hides_rows || !self.condition.is_empty()
    }

    /// The number of pages of the table, as SQL.
    fn pages(&self) -> String {
        let of = |relation: &str| {
            let size = format!("pg_catalog.pg_relation_size({relation})::pg_catalog.float8");
            format!("{size} OPERATOR(pg_catalog./) {}::pg_catalog.float8", pg_sys::BLCKSZ)
        };
        let (p, oid) = (&self.table.prefix, self.table.oid.to_u32());
        match self.table.kind {
            'p' => format!(
                "(SELECT pg_catalog.sum({}) FROM pg_catalog.pg_partition_tree('{oid}'::pg_catalog.regclass) {p}y WHERE {p}y.isleaf)",
                of(&format!("{p}y.relid"))
            ),
            _ => format!("({})", of(&format!("'{oid}'::pg_catalog.regclass"))),
        }
    }

    /// How many rows there are for the reader and the filter, as SQL: those among which words are counted.
    fn count(&self, reads_all: bool, estimated: i64) -> String {
        let (p, from, condition) = (&self.table.prefix, self.table.source_sql(), self.condition);
        if reads_all {
            return format!("(SELECT pg_catalog.count(*)::pg_catalog.float8 FROM {from} WHERE true{condition})");
        }
        if !self.is_part() && estimated >= COUNTED {
            return format!("{estimated}::pg_catalog.float8");
        }
        // What is told of the whole table is no more than what any reader of the table may know, and bounds nothing under a policy.
        let at_most =
            if self.hides_rows { String::new() } else { format!(", {}::pg_catalog.float8", estimated.max(COUNTED)) };
        let name = self.table.sql();
        format!(
            "(SELECT LEAST(CASE WHEN pg_catalog.sum({p}y.{p}n) OPERATOR(pg_catalog.<) {COUNTED}::pg_catalog.numeric THEN pg_catalog.sum({p}y.{p}n)::pg_catalog.float8 \
               ELSE pg_catalog.sum({p}y.{p}n)::pg_catalog.float8 OPERATOR(pg_catalog.*) GREATEST({pages} OPERATOR(pg_catalog./) pg_catalog.sum({p}y.{p}b), 1::pg_catalog.float8) END{at_most}) \
             FROM (SELECT pg_catalog.count(*) AS {p}n, {read} AS {p}b \
               FROM (SELECT {name}.tableoid AS {p}t, {name}.ctid AS {p}c FROM {from} WHERE true{condition} LIMIT {COUNTED}) {p}z GROUP BY {p}z.{p}t) {p}y)",
            pages = self.pages(),
            read = pages_read(p, &format!("{p}z")),
        )
    }

    /// The similarity of any row, as SQL.
    fn usual(&self, distance: &str, reads_all: bool, estimated: i64) -> String {
        const SIZE: &str = "SELECT COALESCE(sum(pg_relation_size(l.oid)), 0)::float8 FROM pg_class l \
             WHERE l.relkind = 'r' AND (l.oid = $1 OR l.oid IN (SELECT relid FROM pg_partition_tree($1) WHERE isleaf))";
        let (p, from, (vector, _)) = (&self.table.prefix, self.table.source_sql(), self.columns);
        let mean = self.distance.similarity(&format!("pg_catalog.avg({p}y.{p}d)"));
        let of = |sample: &str, having: &str| {
            format!(
                "(SELECT {mean} FROM (SELECT {distance} AS {p}d FROM {from}{sample} WHERE {vector} IS NOT NULL{} LIMIT {SAMPLE}) {p}y WHERE {}{having})",
                self.condition,
                Distance::is_number(&format!("{p}y.{p}d")),
            )
        };
        let first = of("", "");
        if reads_all || self.is_part() || estimated < SAMPLED {
            return first;
        }
        let size =
            as_extension(|| spi::first(SIZE, args![self.table.oid], Mode::Write, |row| row.or_default::<f64>(1)));
        let pages = (size.unwrap_or(0.0) / f64::from(pg_sys::BLCKSZ)).max(1.0);
        // Twice as many, since rows without a vector may be among them.
        let percent = (200.0 * f64::from(SAMPLE) / estimated as f64).max(100.0 * SAMPLE_PAGES / pages).min(100.0);
        // Pages may be empty, or none of them may be in the sample.
        let sample = of(
            &format!(" TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)"),
            &format!(" HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>=) {LEAST_SAMPLE}::pg_catalog.int8"),
        );
        format!("COALESCE({sample}, {first})")
    }
}

/// As SQL, how many pages were read of a table up to the last of the rows of a group, whose places are in `alias`.
fn pages_read(p: &str, alias: &str) -> String {
    format!(
        "(pg_catalog.max({alias}.{p}c)::pg_catalog.text::pg_catalog.point)[0] OPERATOR(pg_catalog.+) 1::pg_catalog.float8"
    )
}

/// The statement: as in `search::statement`, and `$5` the query's text.
///
/// # Errors
/// 55000 where the vectorizer has no text search, 42704 where its configuration is gone.
pub fn statement(parts: &Parts) -> Result<String> {
    let Parts { table, vectorizer, columns: (vector, input), condition, distance: by, is_halved, .. } = parts;
    let configuration = text_index::configuration_of(table, vectorizer)?;
    let reads_all = reads_all_rows(parts);
    let config = format!("'{}'::pg_catalog.regconfig", configuration.oid.to_u32());
    let estimated = catalog::estimated_rows(table.oid).max(1);
    let p = &table.prefix;
    let document = text_index::document(&configuration, input);
    let (name, from) = (table.sql(), table.source_sql());
    let distance = by.of(vector, "$1");
    let order = match (parts.hides_rows && reads_all, *is_halved) {
        // No index has this order. All rows that the policies let through are read anyway, and a scan of the index would come by others.
        (true, _) => format!("{distance} OPERATOR(pg_catalog.+) 0::pg_catalog.float8"),
        (false, true) => by.of_halved(vector, "$1"),
        (false, false) => distance.clone(),
    };
    let is_number = Distance::is_number(&format!("({distance})"));
    let similarity = format!("CASE WHEN {is_number} THEN {} END", by.similarity(&format!("({distance})")));
    let limit = format!("CASE WHEN $2 IS NOT NULL THEN GREATEST($2, {CANDIDATES}) END");
    // All rows are asked of the table. Two bytes put near neighbours in another order at times: more of them are taken.
    let by_index = match is_halved {
        false => format!("CASE WHEN $2 IS NULL THEN 0 ELSE GREATEST($2, {CANDIDATES}) END"),
        true => format!(
            "CASE WHEN $2 IS NULL THEN 0::pg_catalog.int8 ELSE GREATEST($2, {CANDIDATES}) OPERATOR(pg_catalog.*) 2::pg_catalog.int8 END"
        ),
    };
    let found = format!("(SELECT pg_catalog.count(*) FROM {p}near)");
    let again = format!("($2 IS NULL OR {found} OPERATOR(pg_catalog.<) $2::pg_catalog.int8)");
    let keys: Vec<String> =
        table.key.iter().enumerate().map(|(i, c)| format!("{name}.{} AS {p}k{i}", quote(&c.name))).collect();
    let outer: Vec<String> = (0..table.key.len()).map(|i| format!("{p}r.{p}k{i}")).collect();
    let place = format!("{name}.tableoid AS {p}t, {name}.ctid AS {p}c");
    let is_place = |alias: &str| {
        format!(
            "{name}.ctid OPERATOR(pg_catalog.=) {alias}.{p}c AND {name}.tableoid OPERATOR(pg_catalog.=) {alias}.{p}t"
        )
    };
    // How long the text is, without reading it: of rows with the same words the shorter ones come first.
    let size = format!("pg_catalog.octet_length(({input})::pg_catalog.text) AS {p}s");
    let has = |query: &str| format!("{document} OPERATOR(pg_catalog.@@) {query}");
    // Where not all rows with a word were looked at: the word is common, and how far the look came in the table.
    let is_common = format!("{p}h.{p}n OPERATOR(pg_catalog.>=) {MOST_HITS}::pg_catalog.int8");
    let (hits, together, looked_at) = if reads_all {
        let hits = format!(
            "SELECT {p}w.{p}w, {p}d.{p}t, {p}d.{p}c, {p}d.{p}s FROM (SELECT {place}, {size}, {document} AS {p}d FROM {from} WHERE true{condition} OFFSET 0) {p}d \
             CROSS JOIN LATERAL (SELECT {p}x.{p}w FROM {p}words {p}x WHERE {p}d.{p}d OPERATOR(pg_catalog.@@) {p}x.{p}q OFFSET 0) {p}w"
        );
        (hits, String::new(), "NULL::pg_catalog.float8".to_string())
    } else {
        let hits = format!(
            "SELECT {p}x.{p}w, {p}h.{p}t, {p}h.{p}c, {p}h.{p}s FROM {p}words {p}x CROSS JOIN LATERAL \
             (SELECT {place}, {size} FROM {from} WHERE {}{condition} LIMIT {MOST_HITS}) {p}h",
            has(&format!("{p}x.{p}q"))
        );
        // Of common words not all rows were looked at: rows that have several of them are asked for.
        let together = format!(
            " UNION ALL SELECT {p}h.{p}t, {p}h.{p}c, {p}h.{p}s, {p}a.{p}i FROM {p}together {p}a CROSS JOIN LATERAL \
             (SELECT {place}, {size} FROM {from} WHERE {}{condition} LIMIT {CANDIDATES}) {p}h",
            has(&format!("{p}a.{p}q"))
        );
        let looked_at = format!("CASE WHEN {is_common} THEN {p}h.{p}b OPERATOR(pg_catalog./) {} END", parts.pages());
        (hits, together, looked_at)
    };
    Ok(format!(
        "WITH {p}words AS MATERIALIZED (SELECT {p}u.lexeme AS {p}w, \
             pg_catalog.concat('''', pg_catalog.replace(pg_catalog.replace({p}u.lexeme, E'\\\\', E'\\\\\\\\'), '''', ''''''), '''') AS {p}l, \
             pg_catalog.concat('''', pg_catalog.replace(pg_catalog.replace({p}u.lexeme, E'\\\\', E'\\\\\\\\'), '''', ''''''), '''')::pg_catalog.tsquery AS {p}q \
           FROM pg_catalog.unnest(pg_catalog.to_tsvector({config}, pg_catalog.\"left\"($5, {QUERY_CHARACTERS}))) {p}u ORDER BY {p}u.positions LIMIT {MOST_WORDS}), \
         {p}hits AS MATERIALIZED ({hits}), \
         {p}rows AS MATERIALIZED (SELECT {count} AS {p}n), \
         {p}rare AS MATERIALIZED (SELECT {p}x.{p}w, {p}x.{p}l, {p}x.{p}q, \
             autoembed.word_information({p}x.{p}w, (SELECT {p}n FROM {p}rows), {p}h.{p}n, {looked_at}) AS {p}i, {is_common} AS {p}e FROM {p}words {p}x CROSS JOIN LATERAL \
             (SELECT COALESCE(pg_catalog.sum({p}z.{p}n), 0::pg_catalog.numeric)::pg_catalog.int8 AS {p}n, pg_catalog.sum({p}z.{p}b) AS {p}b FROM \
                (SELECT pg_catalog.count(*) AS {p}n, {read} AS {p}b FROM {p}hits {p}y WHERE {p}y.{p}w OPERATOR(pg_catalog.=) {p}x.{p}w GROUP BY {p}y.{p}t) {p}z) {p}h), \
         {p}together AS MATERIALIZED (SELECT {p}o.{p}a::pg_catalog.tsquery AS {p}q, {p}o.{p}i FROM \
             (SELECT pg_catalog.string_agg({p}x.{p}l, ' & ') OVER {p}v AS {p}a, pg_catalog.sum({p}x.{p}i) OVER {p}v AS {p}i, pg_catalog.row_number() OVER {p}v AS {p}n \
              FROM {p}rare {p}x WINDOW {p}v AS (ORDER BY {p}x.{p}i DESC, {p}x.{p}w)) {p}o \
             WHERE {p}o.{p}n OPERATOR(pg_catalog.>) 1 AND {p}o.{p}n OPERATOR(pg_catalog.<=) 6 AND EXISTS (SELECT FROM {p}rare {p}x WHERE {p}x.{p}e)), \
         {p}near AS MATERIALIZED (SELECT {p}y.{p}t, {p}y.{p}c FROM \
             (SELECT {place}, {order} AS {p}d FROM {from} WHERE {vector} IS NOT NULL AND $1 IS NOT NULL{condition} ORDER BY {p}d LIMIT {by_index}) {p}y WHERE {near}), \
         {p}told AS MATERIALIZED (SELECT {p}g.{p}t, {p}g.{p}c FROM \
             (SELECT {p}y.{p}t, {p}y.{p}c, {p}y.{p}s, {p}x.{p}i FROM {p}hits {p}y JOIN {p}rare {p}x ON {p}x.{p}w OPERATOR(pg_catalog.=) {p}y.{p}w{together}) {p}g \
             GROUP BY {p}g.{p}t, {p}g.{p}c ORDER BY pg_catalog.sum({p}g.{p}i) DESC, pg_catalog.min({p}g.{p}s), {p}g.{p}t, {p}g.{p}c LIMIT {limit}), \
         {p}read AS MATERIALIZED (SELECT {inner}, ({input})::pg_catalog.text AS {p}i, \
             {similarity} AS {p}s, {document} AS {p}d \
           FROM (SELECT {p}near.{p}t, {p}near.{p}c FROM {p}near \
             UNION (SELECT {p}y.{p}t, {p}y.{p}c FROM \
               (SELECT {place}, {distance} OPERATOR(pg_catalog.+) 0::pg_catalog.float8 AS {p}d FROM {from} WHERE {again} AND {vector} IS NOT NULL AND $1 IS NOT NULL{condition} \
                ORDER BY {p}d LIMIT {limit}) {p}y WHERE {near}) \
             UNION SELECT {p}told.{p}t, {p}told.{p}c FROM {p}told) {p}z JOIN {from} ON {here}), \
         {p}all AS MATERIALIZED (SELECT pg_catalog.max({p}r.{p}s) AS {p}b, pg_catalog.avg(pg_catalog.length({p}r.{p}d))::pg_catalog.float8 AS {p}l, \
             {usual} AS {p}u \
           FROM {p}read {p}r), \
         {p}told_of AS MATERIALIZED (SELECT {p}r.*, {p}m.{p}v, {p}m.{p}o, \
             autoembed.words_matched({p}m.{p}v, {p}m.{p}o, pg_catalog.length({p}r.{p}d)::pg_catalog.float8, {p}a.{p}l) AS {p}m \
           FROM {p}read {p}r CROSS JOIN {p}all {p}a CROSS JOIN LATERAL \
             (SELECT pg_catalog.array_agg({p}x.{p}i) AS {p}v, pg_catalog.array_agg(pg_catalog.ts_rank('{{1,1,1,1}}'::pg_catalog.float4[], {p}r.{p}d, {p}x.{p}q)) AS {p}o \
              FROM {p}rare {p}x) {p}m) \
         SELECT {outer}, {p}r.{p}i, {p}r.{p}s::pg_catalog.float4 FROM {p}told_of {p}r CROSS JOIN {p}all {p}a CROSS JOIN LATERAL \
           (SELECT autoembed.fused({p}r.{p}s, {p}a.{p}u, {p}a.{p}b, {p}r.{p}v, {p}r.{p}o, {p}r.{p}m, \
               (SELECT pg_catalog.max({p}y.{p}m) FROM {p}told_of {p}y), (SELECT {p}n FROM {p}rows)) AS {p}f) {p}f \
         WHERE $5 IS NOT NULL AND ($3 IS NULL OR {p}r.{p}s::pg_catalog.float4 OPERATOR(pg_catalog.>=) $3) \
         ORDER BY {p}f.{p}f DESC, {p}r.{p}s DESC NULLS LAST LIMIT $2",
        count = parts.count(reads_all, estimated),
        read = pages_read(p, &format!("{p}y")),
        near = Distance::is_number(&format!("{p}y.{p}d")),
        usual = parts.usual(&distance, reads_all, estimated),
        inner = keys.join(", "),
        outer = outer.join(", "),
        here = is_place(&format!("{p}z")),
    ))
}

/// Whether all rows that the reader may see are read, once, instead of those with the words: there is no text index now, or the server does
/// not use it under a policy. A function that it does not know to be leakproof might tell of other rows, and those of full text search are
/// only so where a superuser has said it.
fn reads_all_rows(parts: &Parts) -> bool {
    const LEAKPROOF: &str = "SELECT bool_and(proleakproof) FROM pg_proc WHERE oid IN ('ts_match_vq(tsvector, tsquery)'::regprocedure, \
         'to_tsvector(regconfig, text)'::regprocedure, '\"left\"(text, int)'::regprocedure)";
    let is_leakproof = || as_extension(|| spi::first(LEAKPROOF, &[], Mode::Read, |row| row.or_default::<bool>(1)));
    !parts.has_text_index || parts.hides_rows && is_leakproof() != Some(true)
}

/// The information of a word that `having` of `rows` rows were found to have, in a share `looked_at` of them; `None`: in all.
pub fn word_information(word: &str, rows: f64, having: i64, looked_at: Option<f64>) -> f64 {
    fusion::information(word, Found { rows, having: having as f64, looked_at: looked_at.unwrap_or(1.0) })
}

/// The words of a query in one row. `ranks`: what ts_rank() with weights of 1 gives for each of them alone, which is the sum of 1/n² over
/// its occurrences by that of the endless row.
pub fn words(information: &[f64], ranks: &[f32]) -> Vec<Word> {
    let pairs = information.iter().zip(ranks);
    pairs.map(|(&information, &rank)| Word { information, occurs: f64::from(rank) * PI * PI / 6.0 }).collect()
}
