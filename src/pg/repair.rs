//! The catalogue's names and numbers of columns, brought together again after renames, dumps and dropped tables.
//!
//! What is stored of a column is its number, which a rename leaves, and its name, which a dump brings; a row in `autoembed.numbered` says that
//! the number counts. That is in no dump: a table may have the same oid in another database and other numbers, where a column was dropped.

use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, args};
use pgrx::pg_sys;

/// A vectorizer is numbered in one statement, and only where each of its names is found: one that was changed before anybody looked counts
/// again when it is changed back.
const NUMBER: &str = "UPDATE autoembed.vectorizer v SET embedding_attnum = e.attnum, input_attnum = i.attnum \
     FROM of JOIN autoembed.vectorizer w ON w.id = of.id \
     JOIN pg_attribute e ON e.attrelid = COALESCE(w.chunk_table, w.source) AND e.attname = w.embedding AND NOT e.attisdropped \
     LEFT JOIN pg_attribute i ON i.attrelid = w.source AND i.attname = w.input AND NOT i.attisdropped AND w.input_attnum IS NOT NULL \
     WHERE v.id = w.id AND (w.input_attnum IS NULL OR i.attnum IS NOT NULL) RETURNING v.id";

fn number(which: &str, args: &[spi::Arg]) {
    let sql = format!(
        "WITH of AS MATERIALIZED (SELECT x.id FROM autoembed.vectorizer x WHERE NOT EXISTS (SELECT FROM autoembed.numbered n WHERE n.vectorizer_id = x.id) {which}), \
         found AS ({NUMBER}) INSERT INTO autoembed.numbered SELECT id FROM found ON CONFLICT DO NOTHING"
    );
    spi::execute(&sql, args);
}

/// Brings stored names and column numbers together again: after a rename the number leads, after a dump was restored the name does. Removes
/// what belongs to tables that are gone. For the worker: a session's transaction may last. Who has a vectorizer for himself is not waited for.
pub fn all() {
    const RENAMED: &str = "UPDATE autoembed.vectorizer v SET embedding = e.attname, input = COALESCE(i.attname::text, v.input) \
         FROM autoembed.numbered n JOIN autoembed.vectorizer w ON w.id = n.vectorizer_id \
         JOIN pg_attribute e ON e.attrelid = COALESCE(w.chunk_table, w.source) AND e.attnum = w.embedding_attnum AND NOT e.attisdropped \
         LEFT JOIN pg_attribute i ON i.attrelid = w.source AND i.attnum = w.input_attnum AND NOT i.attisdropped \
         WHERE v.id = w.id AND (v.embedding <> e.attname OR v.input <> COALESCE(i.attname::text, v.input))";
    as_extension(|| {
        number("FOR NO KEY UPDATE SKIP LOCKED", &[]);
        spi::execute(RENAMED, &[]);
    });
    gone();
}

/// Numbers the columns of one table's vectorizers, where a dump has brought them and no worker has seen them yet.
pub fn of_table(source: pg_sys::Oid) {
    as_extension(|| number("AND x.source = $1", args![source]));
}

/// Removes what belongs to tables that are gone.
pub fn gone() {
    const GONE: &str =
        "DELETE FROM autoembed.vectorizer v WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = v.source)";
    as_extension(|| {
        if spi::execute(GONE, &[]) > 0 {
            remove_orphans();
        }
    });
}

/// Removes work of vectorizers that are no more.
pub fn remove_orphans() {
    for table in ["job", "failed", "embedded", "backfill", "request", "vectorizer_state", "pace"] {
        let sql = format!(
            "DELETE FROM autoembed.{table} x WHERE NOT EXISTS (SELECT FROM autoembed.vectorizer v WHERE v.id = x.vectorizer_id)"
        );
        spi::execute(&sql, &[]);
    }
}
