//! The search function of a table whose texts go in pieces: each row once, with the piece of it that is nearest.
//!
//! Pieces come nearest first, and more of them are fetched until there are k rows: how many that takes depends on the texts, so no number
//! is asked for. A cursor is planned for its first rows, which makes the index the way to get them. A scan that goes on leaves out what it
//! finds too late for the order, so the nearest piece of each of these rows is looked up by the key. Where the cursor ends before there are
//! k rows, all pieces are read without the index.

use super::{COLUMNS, ChunkTable, as_error, key_operators};
use crate::pg::catalog::{self, Table, Vectorizer};
use crate::pg::distance::Distance;
use crate::pg::error::Result;
use crate::pg::ffi::rights::{as_extension, current_user};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ident::quote;
use crate::pg::search::{IF_FEW, IF_MANY, few_visible};

/// Above so many rows, all pieces are read and sorted at once.
const MOST_ROWS: i32 = 1000;

/// What a search function of pieces is made of.
pub struct Function {
    /// Its result's columns.
    pub columns: String,
    /// Its settings, beside the iterative scan.
    pub settings: &'static str,
    /// How pgvector scans on: pieces must come in their order, since the first one below the least similarity ends the search.
    pub order: &'static str,
    /// Its body.
    pub body: String,
}

/// The search function of a vectorizer for its source; `name` gives each column a name that is free. Its body has no name of a column in
/// it: whatever they are called, and whatever values their types refuse, nothing is assigned to them.
pub fn function(source: &Table, vectorizer: &Vectorizer, mut name: impl FnMut(&str) -> String) -> Function {
    let mut columns: Vec<String> =
        source.key.iter().map(|column| format!("{} {}", quote(&name(&column.name)), column.type_name)).collect();
    let others = [("chunk", "text"), ("chunk_no", "int4"), ("byte_start", "int4"), ("byte_end", "int4")];
    columns.extend(others.map(|(column, type_name)| format!("{} pg_catalog.{type_name}", quote(&name(column)))));
    columns.push("similarity pg_catalog.float4".to_string());
    let (id, made) = (vectorizer.id, vectorizer.made);
    let statement = |k: &str, filter: &str| format!("autoembed.search_statement({id}, {k}, {filter}, $5, {made})");
    // As in the function of other tables: what is wrong is told first, and the statement asked for anew under the lock.
    let body = format!(
        "DECLARE\n    \
             autoembed_q pg_catalog.record;\n    \
             autoembed_hits pg_catalog.refcursor;\n    \
             autoembed_hit pg_catalog.record;\n    \
             autoembed_seen pg_catalog.text[] := '{{}}';\n    \
             autoembed_at pg_catalog.tid[] := '{{}}';\n\
         BEGIN\n    \
             PERFORM {nearest};\n    \
             SELECT autoembed.query_vector({id}, $1) AS autoembed_v INTO autoembed_q;\n    \
             IF $2 OPERATOR(pg_catalog.=) 0 THEN\n        \
                 RETURN;\n    \
             END IF;\n    \
             IF $2 IS NULL OR $2 OPERATOR(pg_catalog.>) {MOST_ROWS} THEN\n        \
                 RETURN QUERY EXECUTE {nearest} USING autoembed_q.autoembed_v, $2, $3, $4;\n        \
                 RETURN;\n    \
             END IF;\n    \
             OPEN autoembed_hits NO SCROLL FOR EXECUTE {nearest} USING autoembed_q.autoembed_v, $2, $3, $4, autoembed_at;\n    \
             WHILE pg_catalog.cardinality(autoembed_seen) OPERATOR(pg_catalog.<) $2 LOOP\n        \
                 FETCH autoembed_hits INTO autoembed_hit;\n        \
                 IF NOT FOUND OR autoembed_hit.autoembed_at IS NULL THEN\n            \
                     CLOSE autoembed_hits;\n            \
                     -- An index does not lead to everything where many vectors are alike.\n            \
                     RETURN QUERY EXECUTE {all} USING autoembed_q.autoembed_v, $2, $3, $4;\n            \
                     RETURN;\n        \
                 END IF;\n        \
                 EXIT WHEN autoembed_hit.autoembed_similarity OPERATOR(pg_catalog.<) $3;\n        \
                 CONTINUE WHEN autoembed_hit.autoembed_row OPERATOR(pg_catalog.=) ANY (autoembed_seen);\n        \
                 autoembed_seen := pg_catalog.array_append(autoembed_seen, autoembed_hit.autoembed_row);\n        \
                 autoembed_at := pg_catalog.array_append(autoembed_at, autoembed_hit.autoembed_at);\n    \
             END LOOP;\n    \
             CLOSE autoembed_hits;\n    \
             -- Each of these rows, with its nearest chunk.\n    \
             RETURN QUERY EXECUTE {best} USING autoembed_q.autoembed_v, $2, $3, $4, autoembed_at;\n\
         END",
        nearest = statement("$2", "$4"),
        all = statement("NULL", "$4"),
        best = statement("0", "NULL"),
    );
    Function {
        columns: columns.join(", "),
        settings: "SET cursor_tuple_fraction = '0.001'",
        order: "strict_order",
        body,
    }
}

/// What a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Pieces, nearest first: for the cursor.
    Cursor,
    /// Rows with their best pieces, all of which are read and sorted.
    AtOnce,
    /// The rows whose pieces are at the places `$5`, with their best pieces.
    Best,
}

impl Kind {
    /// That of a search for so many rows. For none of them nothing has to be searched.
    pub fn of(k: Option<i32>) -> Kind {
        match k {
            Some(0) => Kind::Best,
            Some(k) if k <= MOST_ROWS => Kind::Cursor,
            _ => Kind::AtOnce,
        }
    }
}

/// What a search of pieces is made of.
pub struct Search<'a> {
    /// The source.
    pub source: &'a Table,
    /// Its vectorizer.
    pub vectorizer: &'a Vectorizer,
    /// How its vectors are compared.
    pub distance: &'a Distance,
    /// The index is over vectors with components of two bytes.
    pub is_halved: bool,
    /// Policies hide rows of the source from the reader.
    pub hides_rows: bool,
}

impl Search<'_> {
    /// The statement, as `search::statement` gives it for other tables. `filter`: a condition on the source.
    ///
    /// # Errors
    /// 55000 where the chunk table is not what it was.
    pub fn statement(&self, kind: Kind, filter: Option<String>) -> Result<String> {
        let source = self.source;
        let chunks = ChunkTable::find(self.vectorizer, source).map_err(as_error)?;
        let (Some(chunks), Some(embedding)) = (chunks, &self.vectorizer.embedding) else {
            let message = format!("the vector column of the chunk table of table \"{}\" was dropped", source.name);
            return Err(as_error((message, "call autoembed.disable() and autoembed.enable() again".to_string())));
        };
        let name = chunks.table.sql();
        let vector = format!("{name}.{}", quote(embedding));
        // The order that the index gives is the one in which the least similarity ends the search, and in which a row's best piece is its best.
        let distance = match self.is_halved && kind != Kind::AtOnce {
            true => self.distance.of_halved(&vector, "$1"),
            false => self.distance.of(&vector, "$1"),
        };
        let outer_key: Vec<String> =
            (0..chunks.table.key.len()).map(|i| format!("autoembed_s.autoembed_k{i}")).collect();
        let outer_key = outer_key.join(", ");
        // Compared as it is shown: what was seen as a similarity can be asked for as the least one.
        let similarity = format!("{}::pg_catalog.float4", self.distance.similarity("autoembed_s.autoembed_d"));
        let is_number = Distance::is_number("autoembed_s.autoembed_d");
        let columns = columns_of(&chunks);
        let result = format!(
            "{outer_key}, autoembed_s.autoembed_t::pg_catalog.text, autoembed_s.autoembed_n::pg_catalog.int4, \
               autoembed_s.autoembed_b::pg_catalog.int4, autoembed_s.autoembed_e::pg_catalog.int4, {similarity}"
        );
        if kind == Kind::Best {
            return Ok(format!(
                "SELECT {result} FROM {} ORDER BY autoembed_s.autoembed_d",
                self.best_of_rows(&chunks, &columns, &distance)
            ));
        }
        // It runs under the reader's search_path, where others may have made operators that fit.
        let joined =
            chunks.equals(&key_operators(source), |i| format!("{}.{}", source.sql(), quote(&source.key[i].name)));
        let from = format!(
            "ONLY {name} JOIN {} ON {joined} WHERE $1 IS NOT NULL{}",
            source.source_sql(),
            filter.as_ref().map_or(String::new(), |filter| format!(" AND {filter}")),
        );
        // Who may read columns alone may not read where a piece is stored; without that all pieces are read.
        let place = match catalog::may_read_all(current_user(), chunks.table.oid) {
            true => format!("{name}.ctid"),
            false => "NULL::pg_catalog.tid".to_string(),
        };
        let pieces = format!("SELECT {columns}, {place} AS autoembed_i, {distance} AS autoembed_d FROM {from}");
        let hit = format!(
            "SELECT ROW({outer_key})::pg_catalog.text AS autoembed_row, {similarity} AS autoembed_similarity, autoembed_s.autoembed_i AS autoembed_at"
        );
        Ok(if kind == Kind::AtOnce {
            format!(
                "SELECT {result} FROM (SELECT DISTINCT ON ({outer_key}) autoembed_s.* FROM ({pieces}) autoembed_s \
                   ORDER BY {outer_key}, autoembed_s.autoembed_d, autoembed_s.autoembed_n) autoembed_s \
                 WHERE {is_number} AND ($3 IS NULL OR {similarity} OPERATOR(pg_catalog.>=) $3) ORDER BY autoembed_s.autoembed_d LIMIT $2"
            )
        } else if self.hides_rows {
            // One of the two gives nothing, and is not begun; each is in order. The order by an expression is one that no index has.
            format!(
                "WITH {few}autoembed_s AS NOT MATERIALIZED (({pieces}{IF_MANY} ORDER BY {distance}) \
                   UNION ALL ({pieces}{IF_FEW} ORDER BY {distance} OPERATOR(pg_catalog.+) 0::pg_catalog.float8)) \
                 {hit} FROM autoembed_s WHERE {is_number}",
                few = few_visible(&from),
            )
        } else {
            format!("{hit} FROM ({pieces} ORDER BY {distance}) autoembed_s WHERE {is_number}")
        })
    }

    /// As FROM takes it: one piece for each of those at `$5`, the best of its row.
    fn best_of_rows(&self, chunks: &ChunkTable, columns: &str, distance: &str) -> String {
        let name = chunks.table.sql();
        let at_places = format!("ONLY {name} WHERE {name}.ctid OPERATOR(pg_catalog.=) ANY ($5)");
        if self.is_key_withheld(chunks) {
            return format!("(SELECT {columns}, {distance} AS autoembed_d FROM {at_places}) autoembed_s");
        }
        let row = format!("{}f", chunks.table.prefix);
        let keys = chunks.table.key.iter().enumerate();
        let keys: Vec<String> =
            keys.map(|(i, column)| format!("{name}.{} AS autoembed_k{i}", quote(&column.name))).collect();
        let of_row = chunks.equals(&key_operators(self.source), |i| format!("{row}.autoembed_k{i}"));
        // The order by an expression is one that no index has: the key's is the one to use.
        format!(
            "(SELECT {keys} FROM {at_places}) {row} CROSS JOIN LATERAL (\
               SELECT {columns}, {distance} OPERATOR(pg_catalog.+) 0::pg_catalog.float8 AS autoembed_d FROM ONLY {name} WHERE {of_row} \
               ORDER BY autoembed_d, autoembed_n LIMIT 1) autoembed_s",
            keys = keys.join(", "),
        )
    }

    /// Whether pieces cannot be looked up by the key for the caller: the server does not compare what a policy may hide with operators that
    /// are not known to tell nothing of it, so each look-up would read the whole chunk table.
    fn is_key_withheld(&self, chunks: &ChunkTable) -> bool {
        const POLICIES: &str = "SELECT pg_catalog.row_security_active($1)";
        const SAFE: &str = "SELECT bool_and(p.proleakproof) FROM pg_index i CROSS JOIN LATERAL unnest(i.indclass) AS k (opclass) \
             JOIN pg_opclass c ON c.oid = k.opclass \
             JOIN pg_amop a ON a.amopfamily = c.opcfamily AND a.amopstrategy = 3 AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype \
             JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_proc p ON p.oid = o.oprcode WHERE i.indrelid = $1 AND i.indisprimary";
        // As the caller: it is his policies that count.
        let hides = spi::first(POLICIES, args![chunks.table.oid], Mode::Read, |row| row.or_default::<bool>(1));
        let is_safe =
            || as_extension(|| spi::first(SAFE, args![self.source.oid], Mode::Read, |row| row.or_default::<bool>(1)));
        hides != Some(false) && is_safe() != Some(true)
    }
}

/// The columns of a piece, as searches name them.
fn columns_of(chunks: &ChunkTable) -> String {
    let name = chunks.table.sql();
    let [number, start, end, text] = COLUMNS.map(|column| format!("{name}.{}", quote(column)));
    let keys = chunks.table.key.iter().enumerate();
    let keys = keys.map(|(i, column)| format!("{name}.{} AS autoembed_k{i}", quote(&column.name)));
    format!(
        "{}, {text} AS autoembed_t, {number} AS autoembed_n, {start} AS autoembed_b, {end} AS autoembed_e",
        keys.collect::<Vec<_>>().join(", ")
    )
}
