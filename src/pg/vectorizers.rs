//! What owners do with vectorizers that are there: disable, pause, backfill, enqueue, retry.

use crate::pg::catalog::{self, Table, Vectorizer};
use crate::pg::enable::{owned_table, trigger_names};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::{as_extension, current_user};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ident::quote;
use crate::pg::{interface, queue, source as table_source, wake};
use pgrx::pg_sys;

/// The caller's vectorizer for a table's column.
///
/// # Errors
/// As `owned_table`, and 42704 where the column has no vectorizer.
pub fn own(source: pg_sys::Oid, embedding: &str) -> Result<(Table, Vectorizer)> {
    let table = owned_table(source)?;
    match catalog::find(source, embedding) {
        Some(vectorizer) => Ok((table, vectorizer)),
        None => Err(Error::missing(
            format!("table \"{}\" has no vectorizer for column \"{embedding}\"", table.name),
            "Call autoembed.enable() first; SELECT * FROM autoembed.status shows what there is.",
        )),
    }
}

/// Ends a vectorizer.
///
/// # Errors
/// As [`own`].
pub fn disable(source: pg_sys::Oid, embedding: &str, drop_column: bool) -> Result<()> {
    let (table, vectorizer) = own(source, embedding)?;
    const THERE: &str = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = $1 AND tgname = ANY ($2)";
    let names = trigger_names(vectorizer.id).to_vec();
    let there: Vec<String> =
        as_extension(|| spi::query(THERE, args![source, names], Mode::Write, |row| row.or_default(1)));
    for trigger in there {
        spi::execute(&format!("DROP TRIGGER {} ON {}", quote(&trigger), table.sql()), &[]);
    }
    if let Some((schema, name)) = &vectorizer.search_function {
        // It goes with the table unless it came from a dump, and has its old name unless it or its schema was given another.
        const SQL: &str = "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosrc LIKE $3 \
             AND (n.nspname = $1 AND p.proname = $2 OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid \
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $4 AND d.deptype = 'a'))";
        let mark = format!("%autoembed.query_vector({},%", vectorizer.id);
        let functions: Vec<String> = as_extension(|| {
            spi::query(SQL, args![schema.clone(), name.clone(), mark, source], Mode::Write, |row| row.or_default(1))
        });
        for signature in functions {
            spi::execute(&format!("DROP FUNCTION IF EXISTS {signature}"), &[]);
        }
    }
    as_extension(|| {
        spi::execute("DELETE FROM autoembed.vectorizer WHERE id = $1", args![vectorizer.id]);
        for table in ["job", "failed", "embedded", "backfill", "request", "vectorizer_state"] {
            spi::execute(&format!("DELETE FROM autoembed.{table} WHERE vectorizer_id = $1"), args![vectorizer.id]);
        }
    });
    if drop_column && let Some(column) = &vectorizer.embedding {
        spi::execute(&format!("ALTER TABLE {} DROP COLUMN {}", table.sql(), quote(column)), &[]);
    }
    Ok(())
}

/// Stops or resumes embedding.
///
/// # Errors
/// As [`own`].
pub fn set_paused(source: pg_sys::Oid, embedding: &str, paused: bool) -> Result<()> {
    let (_, vectorizer) = own(source, embedding)?;
    as_extension(|| {
        spi::execute("UPDATE autoembed.vectorizer SET paused = $2 WHERE id = $1", args![vectorizer.id, paused]);
    });
    wake::at_commit();
    Ok(())
}

/// Notes that the worker is to walk the table up to `end_key`; the estimated number of rows.
pub fn start_backfill(vectorizer: i32, table: &Table, end_key: String, force: bool) -> i64 {
    const SQL: &str = "INSERT INTO autoembed.backfill (vectorizer_id, force, total, end_key) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (vectorizer_id) DO UPDATE SET last_key = NULL, end_key = EXCLUDED.end_key, force = EXCLUDED.force, total = EXCLUDED.total, walked = 0, \
         started_at = clock_timestamp(), walked_at = NULL";
    let rows = catalog::estimated_rows(table.oid).max(1);
    as_extension(|| spi::execute(SQL, args![vectorizer, force, rows, end_key]));
    rows
}

/// Starts a backfill; the estimated number of rows.
///
/// # Errors
/// As [`own`].
pub fn backfill(source: pg_sys::Oid, embedding: &str, force: bool) -> Result<i64> {
    let (table, vectorizer) = own(source, embedding)?;
    let rows = table_source::last_key(&table).map_or(0, |end| start_backfill(vectorizer.id, &table, end, force));
    wake::at_commit();
    Ok(rows)
}

/// Queues rows by key; `None`: all rows.
///
/// # Errors
/// As [`own`], and 22023 for a NULL among the keys.
pub fn enqueue(source: pg_sys::Oid, keys: Option<Vec<Option<String>>>, embedding: &str) -> Result<i64> {
    let Some(keys) = keys else { return backfill(source, embedding, true) };
    let (_, vectorizer) = own(source, embedding)?;
    let keys: Option<Vec<String>> = keys.into_iter().collect();
    let Some(keys) = keys else {
        return Err(Error::argument("a key is NULL", "Give primary keys as text; a composite key as ROW(...)::text."));
    };
    let count = keys.len() as i64;
    queue::add(vectorizer.id, queue::LIVE, keys, false);
    wake::at_commit();
    Ok(count)
}

/// The caller's vectorizers: of one table, or of all tables that are his.
///
/// # Errors
/// As `owned_table`; 42704 where the named table has no vectorizer.
pub fn own_all(source: Option<pg_sys::Oid>) -> Result<Vec<Vectorizer>> {
    interface::check()?;
    let all = catalog::vectorizers();
    let Some(source) = source else {
        let user = current_user();
        return Ok(all
            .into_iter()
            .filter(|v| catalog::table(v.source).is_some_and(|t| catalog::owns(user, &t)))
            .collect());
    };
    let table = owned_table(source)?;
    let of_table: Vec<Vectorizer> = all.into_iter().filter(|v| v.source == source).collect();
    if of_table.is_empty() {
        return Err(Error::missing(
            format!("table \"{}\" has no vectorizer", table.name),
            "Call autoembed.enable() first; SELECT * FROM autoembed.status shows what there is.",
        ));
    }
    Ok(of_table)
}

fn ids(source: Option<pg_sys::Oid>) -> Result<Vec<i32>> {
    Ok(own_all(source)?.into_iter().map(|v| v.id).collect())
}

/// Puts failed jobs back into the queue; how many.
///
/// # Errors
/// As [`own_all`].
pub fn retry_failed(source: Option<pg_sys::Oid>) -> Result<i64> {
    const SQL: &str = "WITH gone AS (DELETE FROM autoembed.failed WHERE vectorizer_id = ANY ($1) RETURNING vectorizer_id, key) \
         INSERT INTO autoembed.job (vectorizer_id, lane, key) SELECT vectorizer_id, 0, key FROM gone";
    let ids = ids(source)?;
    let count = as_extension(|| spi::execute(SQL, &[Arg::new(ids)]));
    wake::at_commit();
    Ok(count as i64)
}

/// Forgets failed jobs; how many.
///
/// # Errors
/// As [`own_all`].
pub fn discard_failed(source: Option<pg_sys::Oid>) -> Result<i64> {
    let ids = ids(source)?;
    Ok(as_extension(|| spi::execute("DELETE FROM autoembed.failed WHERE vectorizer_id = ANY ($1)", &[Arg::new(ids)]))
        as i64)
}
