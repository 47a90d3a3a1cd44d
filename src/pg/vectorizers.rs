//! What owners do with vectorizers that are there: disable, pause, backfill, enqueue, retry.

use crate::pg::catalog::{self, Table, Vectorizer};
use crate::pg::change::Change;
use crate::pg::distance::Distance;
use crate::pg::enable::{owned_table, trigger_names};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::locks;
use crate::pg::ffi::rights::{as_extension, current_user};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ident::quote;
use crate::pg::queue::{self, Why};
use crate::pg::settings::{self, Lane};
use crate::pg::{change, chunks, index, interface, row_key, search, source as table_source, text_index, wake};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The caller's vectorizer for a table's column.
///
/// # Errors
/// As `owned_table`, 42704 where the column has no vectorizer, 55000 where a change of model makes it.
pub fn own(source: pg_sys::Oid, embedding: &str) -> Result<(Table, Vectorizer)> {
    let table = owned_table(source)?;
    match catalog::find(source, embedding) {
        Some(vectorizer) if change::is_second(vectorizer.id) => Err(Error::state(
            format!(
                "column \"{embedding}\" of table \"{}\" is there for a change of model that is under way",
                table.name
            ),
            "Name the column that it is to replace.",
        )),
        Some(vectorizer) => Ok((table, vectorizer)),
        None => Err(Error::missing(
            format!("table \"{}\" has no vectorizer for column \"{embedding}\"", table.name),
            "Call autoembed.enable() first; SELECT * FROM autoembed.status shows what there is.",
        )),
    }
}

/// The same, and the change of its model that is under way: which neither begins nor ends before the transaction does. What is queued for
/// both models would be lost for the one that is not known yet. Who writes to the table, or builds an index of it, is not waited for: rows are queued
/// in triggers of other tables, too.
fn own_to_queue(source: pg_sys::Oid, embedding: &str) -> Result<(Table, Vectorizer, Option<Change>)> {
    let (table, _) = own(source, embedding)?;
    locks::lock_for_reading(table.oid);
    let (table, vectorizer) = own(source, embedding)?;
    let change = change::under_way_now(vectorizer.id);
    Ok((table, vectorizer, change))
}

/// Ends a vectorizer.
///
/// # Errors
/// As [`own`].
pub fn disable(source: pg_sys::Oid, embedding: &str, drop_column: bool) -> Result<()> {
    let (mut table, mut vectorizer) = own(source, embedding)?;
    if let Some(change) = change::under_way(vectorizer.id) {
        change::cancel(&table, &change);
        (table, vectorizer) = own(source, embedding)?;
    }
    // A build of its index is not waited for; the table's first lock is.
    let vectors = catalog::table(vectorizer.vectors_in()).filter(|_| wants_index(vectorizer.id));
    if let Some(vectors) = &vectors {
        change::end_builder(vectors);
        locks::lock_table(table.oid, true);
        drop_broken(vectors, &vectorizer);
    }
    drop_triggers(&table, vectorizer.id);
    search::functions::drop(vectorizer.id);
    text_index::drop(&table, &vectorizer);
    remove(vectorizer.id);
    if let Some(of) = vectorizer.chunks {
        match catalog::table(of.table) {
            Some(table) if drop_column => drop(spi::execute(&format!("DROP TABLE {}", table.sql()), &[])),
            Some(table) => chunks::make::unguard(&table),
            None => {}
        }
    } else if drop_column && let Some(column) = &vectorizer.embedding {
        spi::execute(&format!("ALTER TABLE {} DROP COLUMN {}", table.sql(), quote(column)), &[]);
    }
    Ok(())
}

fn drop_broken(vectors: &Table, vectorizer: &Vectorizer) {
    if let (Some(column), Ok(stored), Ok(pgvector)) =
        (&vectorizer.embedding, catalog::model(&vectorizer.model), catalog::pgvector())
    {
        index::drop_broken(vectors, column, &Distance::new(&stored.model, vectorizer.column_dimensions, &pgvector));
    }
}

/// Whether an index of its is still to be built.
fn wants_index(id: i32) -> bool {
    const SQL: &str = "SELECT index_wanted OR text_index_wanted FROM autoembed.vectorizer WHERE id = $1";
    as_extension(|| spi::first(SQL, args![id], Mode::Write, |row| row.or_default::<bool>(1))).unwrap_or(false)
}

/// Drops those triggers of a vectorizer that are there.
pub fn drop_triggers(table: &Table, id: i32) {
    const THERE: &str = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = $1 AND tgname = ANY ($2)";
    let names = trigger_names(id).to_vec();
    let there: Vec<String> =
        as_extension(|| spi::query(THERE, args![table.oid, names], Mode::Write, |row| row.or_default(1)));
    drop_named(table, there);
}

/// Triggers of a table that are for no vectorizer of it: a dump has brought them without theirs, and its number is nobody's here, or another's.
/// They queue nothing, but may have the names that are wanted. `made`: one whose triggers are still to be made.
pub fn strange_triggers(table: &Table, made: Option<i32>) -> Vec<String> {
    // What is no partition's copy: that goes with the table's own.
    const SQL: &str = "SELECT t.tgname::text FROM pg_trigger t \
         WHERE t.tgrelid = $1 AND t.tgparentid = 0 AND t.tgfoid IN ('autoembed.queue_change()'::regprocedure, 'autoembed.clear_vector()'::regprocedure) \
           AND NOT EXISTS (SELECT FROM autoembed.vectorizer v WHERE v.source = t.tgrelid AND v.id IS DISTINCT FROM $2 \
             AND encode(t.tgargs, 'hex') LIKE encode(convert_to(v.id::text, 'UTF8'), 'hex') || '00%')";
    let args = [Arg::new(table.oid), Arg::new::<i32>(made)];
    as_extension(|| spi::query(SQL, &args, Mode::Write, |row| row.or_default(1)))
}

/// Drops these triggers.
pub fn drop_named(table: &Table, triggers: Vec<String>) {
    for trigger in triggers {
        spi::execute(&format!("DROP TRIGGER {} ON {}", quote(&trigger), table.sql()), &[]);
    }
}

/// Removes a vectorizer from the catalogue, with its work.
pub fn remove(id: i32) {
    as_extension(|| {
        spi::execute("DELETE FROM autoembed.vectorizer WHERE id = $1", args![id]);
        for table in ["job", "failed", "embedded", "backfill", "request", "vectorizer_state", "pace"] {
            spi::execute(&format!("DELETE FROM autoembed.{table} WHERE vectorizer_id = $1"), args![id]);
        }
    });
}

/// Stops or resumes embedding, also by the model that it is to have.
///
/// # Errors
/// As [`own`].
pub fn set_paused(source: pg_sys::Oid, embedding: &str, paused: bool) -> Result<()> {
    let (_, vectorizer) = own(source, embedding)?;
    as_extension(|| {
        const SQL: &str = "UPDATE autoembed.vectorizer SET paused = $2 WHERE id = $1 OR replaces = $1";
        spi::execute(SQL, args![vectorizer.id, paused]);
    });
    wake::at_commit();
    Ok(())
}

/// Notes that the worker is to walk the table up to `end_key`; the estimated number of rows.
pub fn start_backfill(vectorizer: i32, table: &Table, end_key: String, why: Why) -> i64 {
    // One under way that does more than is asked for goes on. Behind its place rows may have lost their vectors: these it comes to afterwards.
    const GOES_ON: &str = "UPDATE autoembed.backfill SET end_key = CASE WHEN last_key IS NULL THEN $2 ELSE end_key END, \
         again_to = CASE WHEN last_key IS NOT NULL THEN $2 END WHERE vectorizer_id = $1 AND walked_at IS NULL AND (force OR rereads)";
    // What one under way was to embed or read again is still to be.
    const SQL: &str = "INSERT INTO autoembed.backfill AS b (vectorizer_id, force, rereads, total, end_key) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (vectorizer_id) DO UPDATE SET last_key = NULL, end_key = EXCLUDED.end_key, again_to = NULL, \
         force = EXCLUDED.force OR b.force AND b.walked_at IS NULL, rereads = EXCLUDED.rereads OR b.rereads AND b.walked_at IS NULL, \
         total = EXCLUDED.total, walked = 0, started_at = clock_timestamp(), walked_at = NULL";
    let rows = catalog::estimated_rows(table.oid).max(1);
    as_extension(|| {
        if why != Why::Missing || spi::execute(GOES_ON, args![vectorizer, end_key.clone()]) == 0 {
            spi::execute(SQL, args![vectorizer, why == Why::Forced, why == Why::Changed, rows, end_key]);
        }
    });
    rows
}

/// Starts a backfill, also by the model that is to be; the estimated number of rows.
///
/// # Errors
/// As [`own`].
pub fn backfill(source: pg_sys::Oid, embedding: &str, force: bool) -> Result<i64> {
    let (table, vectorizer, change) = own_to_queue(source, embedding)?;
    let Some(end) = table_source::last_key(&table) else { return Ok(0) };
    let why = if force { Why::Forced } else { Why::Missing };
    // One that has not come to its end comes to all rows without a vector.
    if let Some(change) = change.filter(|change| force || queue::unfinished_walk(change.id).is_none()) {
        start_backfill(change.id, &table, end.clone(), why);
    }
    let rows = start_backfill(vectorizer.id, &table, end, why);
    wake::at_commit();
    Ok(rows)
}

/// Queues rows by key, also for the model that is to be; `None`: all rows.
///
/// # Errors
/// As [`own`], and 22023 for a NULL among the keys.
pub fn enqueue(source: pg_sys::Oid, keys: Option<Vec<Option<String>>>, embedding: &str) -> Result<i64> {
    let Some(keys) = keys else { return enqueue_all(source, embedding) };
    let (table, vectorizer, change) = own_to_queue(source, embedding)?;
    let keys: Option<Vec<String>> = keys.into_iter().collect();
    let Some(keys) = keys else {
        return Err(Error::argument("a key is NULL", "Give primary keys as text; a composite key as ROW(...)::text."));
    };
    let count = keys.len() as i64;
    let keys = row_key::stored(&table, &vectorizer.input_path, keys)?;
    let lane = if settings::lane() == Lane::Backfill { queue::BACKFILL } else { queue::LIVE };
    if let Some(change) = change {
        queue::add(change.id, lane, &keys, Why::Changed);
    }
    queue::add(vectorizer.id, lane, &keys, Why::Changed);
    wake::at_commit();
    Ok(count)
}

/// Queues all rows, and tells: who gathers keys in a query may have meant none.
fn enqueue_all(source: pg_sys::Oid, embedding: &str) -> Result<i64> {
    let rows = backfill(source, embedding, true)?;
    if rows > 0 {
        let name = catalog::table(source).map_or_else(String::new, |table| table.name);
        pgrx::ereport!(
            NOTICE,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("no keys were given, so all rows of table \"{name}\" are embedded anew, about {rows}"),
            "array_agg over no rows is NULL; for no rows give '{}', for instance coalesce(array_agg(id::text), '{}'). A backfill can be begun without this notice: autoembed.backfill(..., force => true)."
        );
    }
    Ok(rows)
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

/// The same of one table, of whose models no change begins or ends before the transaction does.
///
/// # Errors
/// As [`own_all`].
pub fn own_all_to_queue(source: pg_sys::Oid) -> Result<Vec<Vectorizer>> {
    own_all(Some(source))?;
    locks::lock_for_reading(source);
    own_all(Some(source))
}

fn ids(source: Option<pg_sys::Oid>) -> Result<Vec<i32>> {
    Ok(own_all(source)?.into_iter().map(|v| v.id).collect())
}

/// Puts failed jobs back into the queue; how many.
///
/// # Errors
/// As [`own_all`].
pub fn retry_failed(source: Option<pg_sys::Oid>) -> Result<i64> {
    const SQL: &str = "WITH gone AS (DELETE FROM autoembed.failed WHERE vectorizer_id = ANY ($1) RETURNING vectorizer_id, key, is_forced) \
         INSERT INTO autoembed.job (vectorizer_id, lane, key, is_forced) SELECT vectorizer_id, 0, key, is_forced FROM gone";
    const TABLES: &str = "SELECT DISTINCT v.source::oid FROM autoembed.failed f JOIN autoembed.vectorizer v ON v.id = f.vectorizer_id \
         WHERE v.id = ANY ($1) ORDER BY 1";
    let all = ids(source)?;
    let tables: Vec<pg_sys::Oid> =
        as_extension(|| spi::query(TABLES, &[Arg::new(all)], Mode::Write, |row| row.or_default(1)));
    // A change of model takes what has failed over.
    tables.iter().for_each(|table| locks::lock_for_reading(*table));
    let own = own_all(source)?;
    let ids: Vec<i32> = own.into_iter().filter(|v| tables.contains(&v.source)).map(|v| v.id).collect();
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
