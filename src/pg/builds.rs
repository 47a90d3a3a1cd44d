//! Indexes on vectors and on words that are being built, by the extension's own process or by anybody's CREATE INDEX.

use crate::pg::catalog;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode};
use pgrx::pg_sys;

/// One that is being built.
#[derive(Debug, Clone)]
pub struct Build {
    /// Whose vectors it is on.
    pub vectorizer: i32,
    /// `index`, or `text index`.
    pub kind: &'static str,
    /// Their table.
    pub source: pg_sys::Oid,
    /// As `pg_stat_progress_create_index` calls it.
    pub phase: String,
    /// The process that it waits for.
    pub waits_for: Option<i32>,
    /// Blocks of the table, or of the partition, that were read in this phase.
    pub blocks_done: i64,
    /// Of how many.
    pub blocks_total: i64,
    /// Vectors that are in it.
    pub rows_done: i64,
    /// Rows of the table, or of the partition, by the planner's estimate.
    pub rows_total: Option<i64>,
}

/// All of this database.
pub fn all() -> Vec<Build> {
    // What depends on the column is found by it, be it indexed as it is or as an expression; methods of extensions have numbers above
    // those of the server. An index of words is one of text search over the input, whatever its configuration.
    const SQL: &str = "SELECT v.id, v.source::oid, p.phase, NULLIF(p.current_locker_pid, 0)::int, p.blocks_done, p.blocks_total, p.tuples_done, \
             CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END, k.is_text \
         FROM pg_stat_progress_create_index p JOIN pg_class c ON c.oid = p.relid \
         JOIN autoembed.vectorizer v ON p.relid = COALESCE(v.chunk_table, v.source) \
           OR v.chunk_table IS NULL AND v.source IN (SELECT a.relid FROM pg_partition_ancestors(p.relid) a) \
         CROSS JOIN (VALUES (false), (true)) k (is_text) \
         WHERE p.datname = current_database() AND EXISTS (SELECT FROM pg_depend d JOIN pg_class i ON i.oid = d.objid \
           JOIN pg_index x ON x.indexrelid = i.oid JOIN pg_attribute t ON t.attrelid = d.refobjid AND t.attnum = d.refobjsubid \
           WHERE d.classid = 'pg_class'::regclass AND d.objid = p.index_relid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.relid \
             AND CASE WHEN k.is_text THEN v.text_search IS NOT NULL AND v.chunk_table IS NULL AND x.indexprs IS NOT NULL \
                   AND x.indclass[0] IN (SELECT o.oid FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod WHERE m.amname = 'gin' AND o.opcname = 'tsvector_ops') \
                   AND t.attname = (SELECT s.attname FROM pg_attribute s WHERE s.attrelid = v.source AND s.attnum = v.input_attnum) \
                 ELSE t.attname = v.embedding AND i.relam >= 16384 END)";
    as_extension(|| {
        spi::planned(SQL, &[], Mode::Write, |row| Build {
            vectorizer: row.or_default(1),
            kind: if row.or_default(9) { "text index" } else { "index" },
            source: row.get(2).unwrap_or(pg_sys::InvalidOid),
            phase: row.or_default(3),
            waits_for: row.get(4),
            blocks_done: row.or_default(5),
            blocks_total: row.or_default(6),
            rows_done: row.or_default(7),
            rows_total: row.get(8),
        })
    })
}

/// Those on tables all of whose rows the caller may read.
pub fn visible() -> Vec<Build> {
    let all = all();
    if all.is_empty() {
        return all;
    }
    let visible = catalog::all_of_whose_rows_are_seen(all.iter().map(|build| build.source).collect());
    all.into_iter().filter(|build| visible.contains(&build.source)).collect()
}
