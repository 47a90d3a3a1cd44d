//! Deleting the pieces of a row in the transaction of the user who has changed its text: `on_change => 'clear'`.

use super::{ChunkTable, key_operators};
use crate::pg::catalog;
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::rights::for_owner_in_session;
use crate::pg::ffi::spi::{self, Arg, Mode};
use pgrx::pg_sys;

/// How the pieces of a row are deleted.
#[derive(Debug)]
pub struct Deletion {
    /// The chunk table's owner, as whom the server deletes what goes with a row: the source may be another's by now.
    owner: pg_sys::Oid,
    path: String,
    sql: String,
    key_columns: usize,
}

impl Deletion {
    /// Of a vectorizer; `None` where it has no chunk table, or none that fits: the user's write goes on nevertheless, and the worker
    /// shows what is wrong.
    pub fn of(vectorizer: i32) -> Option<Deletion> {
        let vectorizer = catalog::vectorizer(vectorizer)?;
        let source = catalog::table(vectorizer.source)?;
        let chunks = ChunkTable::by_key(vectorizer.chunks?, &source).ok()?;
        let place = |i: usize| format!("${}::{}", i + 1, chunks.table.key[i].type_name);
        let condition = chunks.equals(&key_operators(&source), place);
        let table = &chunks.table;
        Some(Deletion {
            owner: table.owner,
            path: vectorizer.input_path,
            sql: format!("DELETE FROM ONLY {} WHERE {condition}", table.sql()),
            key_columns: table.key.len(),
        })
    }

    /// Whether the server lets its owner do it: he may have no right to the table or its schema any more. Nothing is run.
    pub fn is_allowed(&self) -> bool {
        let key: Vec<Arg> = (0..self.key_columns).map(|_| Arg::new::<String>(None)).collect();
        let sql = format!("EXPLAIN {}", self.sql);
        let explain = || spi::query(&sql, &key, Mode::Write, |_| ());
        subtransaction(|| for_owner_in_session(self.owner, &self.path, explain)).is_ok()
    }

    /// Deletes the pieces of the row with this key.
    pub fn run(&self, key: &[String]) {
        let arguments: Vec<Arg> = key.iter().cloned().map(Arg::new::<String>).collect();
        // Whoever writes into the source need not have rights to the pieces.
        for_owner_in_session(self.owner, &self.path, || spi::execute(&self.sql, &arguments));
    }
}
