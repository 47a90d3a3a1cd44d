//! set_model(): another model for a column that goes on being searched.
//!
//! A second vectorizer, which `replaces` the first, fills a column of its own beside the old one: with its own triggers, jobs, backfill and
//! index, worked for like any other. Searches know the first one only, so they answer from the old model until [`crate::pg::swap`] gives
//! the first vectorizer the new column and the new model, in one transaction.
//!
//! | step | enters | leaves | may change | where the process dies |
//! |---|---|---|---|---|
//! | begin | a model | the second vectorizer | the table: a column, triggers; the catalogue | before the commit: nothing happened; after: the worker goes on |
//! | embed, index | | vectors and indexes beside the old ones | the new column | as for any vectorizer |
//! | swap | a second vectorizer that has nothing to do | the first one with the new model | columns, indexes, grants, jobs, catalogue | before the commit: as above; after: done |
//! | cancel | the model that the first one has | the first one as it was | the second one goes, with its column | before the commit: nothing; after: done |

use crate::pg::catalog::{self, StoredModel, Table, Vectorizer};
use crate::pg::enable::{self, Input};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::{locks, process, snapshot};
use crate::pg::ident::{as_column, derived, quote};
use crate::pg::queue::Why;
use crate::pg::vectorizers::{self, own};
use crate::pg::{published, repair, source as table_source, swap, wake};
use pgrx::{PgSqlErrorCode, pg_sys};

/// A change of model that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The vectorizer that fills the new column.
    pub id: i32,
    /// The one that it is to replace.
    pub of: i32,
    /// The new model's name.
    pub model: String,
}

/// All changes that are under way.
pub fn all() -> Vec<Change> {
    seen(Mode::Write)
}

fn seen(mode: Mode) -> Vec<Change> {
    const SQL: &str = "SELECT id, replaces, model FROM autoembed.vectorizer WHERE replaces IS NOT NULL ORDER BY id";
    as_extension(|| {
        spi::planned(SQL, &[], mode, |row| Change {
            id: row.or_default(1),
            of: row.or_default(2),
            model: row.or_default(3),
        })
    })
}

/// The change of a vectorizer's model, where one is under way.
pub fn under_way(of: i32) -> Option<Change> {
    all().into_iter().find(|change| change.of == of)
}

/// The same for who has [`locks::lock_for_reading`] on the table, so that none begins or is completed before his transaction ends. One that had
/// begun before is seen by a transaction that sees everything else as it was then.
pub fn under_way_now(of: i32) -> Option<Change> {
    snapshot::of_now(|| seen(Mode::Read)).into_iter().find(|change| change.of == of)
}

/// Whether a vectorizer is the second one of a change.
pub fn is_second(id: i32) -> bool {
    all().into_iter().any(|change| change.id == id)
}

/// Whether a vectorizer has the model and the column that it was loaded with. To be asked when its table is locked: until then a change
/// of model may have been completed by a session.
pub fn is_as_loaded(vectorizer: &Vectorizer) -> bool {
    const SQL: &str = "SELECT v.model = $2 AND CASE WHEN EXISTS (SELECT FROM autoembed.numbered n WHERE n.vectorizer_id = v.id) \
           THEN v.embedding_attnum = (SELECT a.attnum FROM pg_attribute a \
             WHERE a.attrelid = COALESCE(v.chunk_table, v.source) AND a.attname = $3 AND NOT a.attisdropped) \
           ELSE v.embedding = $3 END FROM autoembed.vectorizer v WHERE v.id = $1";
    let args = args![vectorizer.id, vectorizer.model.clone(), vectorizer.embedding.clone().unwrap_or_default()];
    as_extension(|| spi::planned(SQL, args, Mode::Write, |row| row.or_default::<bool>(1))).first() == Some(&true)
}

/// What to do about a second vectorizer that cannot work: the hint that others have would end the first one as well.
pub fn hint_for(id: i32) -> Option<String> {
    const SQL: &str = "SELECT concat('end the change with SELECT autoembed.set_model(', quote_literal(v.source::text), ', ', quote_literal(o.model), \
         CASE WHEN o.embedding <> 'embedding' THEN concat(', ', quote_literal(o.embedding)) END, '); then begin it again') \
         FROM autoembed.vectorizer v JOIN autoembed.vectorizer o ON o.id = v.replaces WHERE v.id = $1";
    as_extension(|| spi::first(SQL, args![id], Mode::Write, |row| row.or_default(1)))
}

/// Begins to give a vectorizer another model, or ends a change that is under way where it is given the model that it has.
///
/// # Errors
/// As `vectorizers::own`; 42704 for an unknown model, 55000 while a change to a third one is under way, 0A000 where texts go in pieces,
/// 2BP01 where something hangs on the column that could not go with it.
pub fn set_model(source: pg_sys::Oid, model: &str, embedding: &str) -> Result<()> {
    let (table, vectorizer) = own(source, embedding)?;
    if under_way(vectorizer.id).is_some() && vectorizer.model == model {
        end_builder(&table);
    }
    // From here on no other session begins or ends a change of this table, and none is completed.
    locks::lock_table(table.oid, true);
    repair::of_table(table.oid);
    let (table, vectorizer) = own(source, embedding)?;
    match under_way(vectorizer.id) {
        Some(change) if vectorizer.model == model => drop_second(&table, &change),
        Some(change) if change.model != model => {
            return Err(Error::state(
                format!(
                    "column \"{embedding}\" of table \"{}\" is being changed to model \"{}\"",
                    table.name, change.model
                ),
                format!(
                    "Wait for it, or end it first: SELECT autoembed.set_model('{}', '{}').",
                    table.sql().replace('\'', "''"),
                    vectorizer.model.replace('\'', "''")
                ),
            ));
        }
        None if vectorizer.model != model => begin(&table, &vectorizer, &catalog::model(model)?)?,
        Some(_) | None => {}
    }
    wake::at_commit();
    Ok(())
}

fn begin(table: &Table, vectorizer: &Vectorizer, stored: &StoredModel) -> Result<()> {
    enable::check_table(table)?;
    if vectorizer.chunks.is_some() {
        return Err(Error::unsupported(
            "the model of texts that go in chunks cannot be changed in place",
            "Call autoembed.enable() with the other model, another embedding and another chunk_table; when its chunks are there, autoembed.disable() the first.",
        ));
    }
    let (Some(old), Some(sql)) = (vectorizer.embedding.as_deref(), vectorizer.input.as_deref()) else {
        return Err(Error::state(
            format!("a column that the vectorizer of table \"{}\" needs was dropped", table.name),
            "Call autoembed.disable() and autoembed.enable() again.",
        ));
    };
    if let Some(what) = swap::obstacles(table, old).first() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("{what} reads column \"{old}\" of table \"{}\", which is to be replaced", table.name),
            "Drop it, change the model, and make it again when the change is over.",
        ));
    }
    let input = match as_column(sql).filter(|_| !vectorizer.is_expression) {
        Some(name) => {
            Input { stored: vectorizer.given_input.clone(), sql: sql.to_string(), attnum: None, reads: vec![name] }
        }
        None => enable::read_input(table, &vectorizer.given_input, Some(old), &vectorizer.input_path)?,
    };
    let (new, attnum) = add_column(table, old, stored)?;
    let id = store(vectorizer.id, &new, attnum, stored)?;
    let delay = i64::try_from(vectorizer.delay.as_millis()).unwrap_or(i64::MAX);
    enable::make_triggers(table, &vectorizer.on_change, delay, &input, id, false)?;
    if let Some(end) = table_source::last_key(table) {
        vectorizers::start_backfill(id, table, end, Why::Missing);
    }
    Ok(())
}

/// Adds the column beside the old one, stored as that is; its name and number.
fn add_column(table: &Table, old: &str, stored: &StoredModel) -> Result<(String, i16)> {
    const STORAGE: &str = "SELECT CASE attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' ELSE 'MAIN' END \
         FROM pg_attribute WHERE attrelid = $1 AND attname = $2";
    let mut name = derived("", old, "_next");
    for number in 1..100 {
        if enable::column(table.oid, &name).is_none() {
            break;
        }
        name = derived("", old, &format!("_next{number}"));
    }
    let attnum = published::add_column(table, &name, &catalog::pgvector()?.schema, stored.model.dimensions);
    let args = args![table.oid, old.to_string()];
    if let Some(storage) = as_extension(|| spi::first(STORAGE, args, Mode::Write, |row| row.or_default::<String>(1))) {
        spi::execute(&format!("ALTER TABLE {} ALTER COLUMN {} SET STORAGE {storage}", table.sql(), quote(&name)), &[]);
    }
    attnum.map(|attnum| (name.clone(), attnum)).ok_or_else(|| {
        Error::state(format!("column \"{name}\" could not be added"), "Look into the server's log, and call it again.")
    })
}

fn store(of: i32, column: &str, attnum: i16, stored: &StoredModel) -> Result<i32> {
    // The lock on the model is what a foreign key would take: drop_model() waits for it.
    const SQL: &str = "WITH made AS (INSERT INTO autoembed.vectorizer (source, embedding, embedding_attnum, input, input_attnum, input_path, \
         model, on_change, delay, index_method, index_wanted, paused, replaces) \
         SELECT v.source, $2, $3, v.input, v.input_attnum, v.input_path, m.name, v.on_change, v.delay, v.index_method, \
           true, v.paused, v.id FROM autoembed.vectorizer v CROSS JOIN autoembed.models m WHERE v.id = $1 AND m.name = $4 \
         FOR KEY SHARE OF m RETURNING id), \
         numbered AS (INSERT INTO autoembed.numbered SELECT id FROM made) SELECT id FROM made";
    let name = stored.model.name.clone();
    as_extension(|| spi::first(SQL, args![of, column.to_string(), attnum, name], Mode::Write, |row| row.or_default(1)))
        .ok_or_else(|| {
            Error::missing(
                format!("model \"{}\" was dropped just now", stored.model.name),
                "Call set_model() with another model.",
            )
        })
}

/// Ends a change that has not been completed: its column goes, and all that was made for it.
///
/// # Errors
/// What the server says where something of the user's hangs on the new column.
pub fn cancel(table: &Table, change: &Change) {
    end_builder(table);
    locks::lock_table(table.oid, true);
    drop_second(table, change);
}

fn drop_second(table: &Table, change: &Change) {
    // While the table's lock was waited for, the change may have been completed.
    let column = snapshot::of_now(|| catalog::vectorizer(change.id)).and_then(|second| second.embedding);
    vectorizers::drop_triggers(table, change.id);
    vectorizers::remove(change.id);
    if let Some(column) = column {
        spi::execute(&format!("ALTER TABLE {} DROP COLUMN {}", table.sql(), quote(&column)), &[]);
    }
}

/// Ends the process that builds an index of this table: it would be waited for, and waits itself for older transactions. What it leaves
/// is not valid, and goes with the column or by [`crate::pg::index::drop_broken`].
pub fn end_builder(table: &Table) {
    const SQL: &str = "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.database = a.datid \
         WHERE a.backend_type = 'autoembed indexer' AND a.datid = $1 AND l.relation = ANY ($2) AND l.mode = 'ShareUpdateExclusiveLock'";
    as_extension(|| spi::query(SQL, args![process::database(), catalog::with_partitions(table)], Mode::Write, |_| ()));
}
