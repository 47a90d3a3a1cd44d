//! What runs in users' transactions: queueing keys, clearing vectors. Cheap, and never failing because of a provider.

use crate::pg::chunks::clear::Deletion;
use crate::pg::ffi::insert::{New, Queue};
use crate::pg::ffi::rights::{as_extension, with_stable_output};
use crate::pg::ffi::rows::{KeyColumn, TriggerCall, output_is_stable};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::types::TriggerRow;
use crate::pg::ffi::{locks, process, snapshot};
use crate::pg::queue::{BACKFILL, LIVE, Why};
use crate::pg::settings::{self, Lane};
use crate::pg::source::join_key;
use crate::pg::wake;
use pgrx::prelude::*;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

struct Known {
    vectorizer: i32,
    delay_ms: f64,
    key: Vec<KeyColumn>,
    stable_output: bool,
    /// The target column, where the vectorizer is that of the trigger's table.
    embedding: Option<String>,
    /// The target column is there, and holds vectors: another that has its name by now is the user's.
    is_vector: bool,
    /// The chunk table, where its texts go in pieces.
    chunks: Option<pg_sys::Oid>,
    /// How the pieces of a row are deleted, where they can be.
    deletion: Option<Deletion>,
}

thread_local! {
    // By the trigger's oid, which is never that of another vectorizer's; emptied when the table's definition changes, or a schema's.
    static KNOWN: RefCell<HashMap<pg_sys::Oid, (pg_sys::Oid, Rc<Known>)>> = RefCell::new(HashMap::new());
    static WRITING: RefCell<Option<(i32, HashSet<String>)>> = const { RefCell::new(None) };
}

/// Forgets what is known of a table (`None`: of all).
pub fn forget(table: Option<pg_sys::Oid>) {
    // Nothing is left of it in a process that ends by exit().
    let _ = KNOWN.try_with(|known| {
        if let Ok(mut known) = known.try_borrow_mut() {
            let is_of =
                |of: pg_sys::Oid, known: &Known| table.is_none_or(|table| of == table || known.chunks == Some(table));
            known.retain(|_, (of, known)| !is_of(*of, known));
        }
    });
}

/// Runs `body`, which writes vectors of `vectorizer` into the rows `keys`: where a trigger of the table edits the text in the very
/// update that writes the vector, the row is not queued again, or it would keep the worker busy for ever. Other
/// updates that triggers make meanwhile are queued.
pub fn while_writing<R>(vectorizer: i32, keys: &[&str], body: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            WRITING.with(|w| *w.borrow_mut() = None);
        }
    }
    let _reset = Reset;
    WRITING.with(|w| *w.borrow_mut() = Some((vectorizer, keys.iter().map(|k| (*k).to_string()).collect())));
    body()
}

fn is_own_write(vectorizer: i32, key: &str) -> bool {
    WRITING.with(|w| w.borrow().as_ref().is_some_and(|(id, keys)| *id == vectorizer && keys.contains(key)))
}

/// How the pieces of a row are deleted, where they can be. The chunk table stays as it is until the end of the transaction.
fn deletion(vectorizer: i32, chunks: pg_sys::Oid) -> Option<Deletion> {
    locks::lock_for_writing(chunks);
    let deletion = snapshot::with_latest(false, || as_extension(|| Deletion::of(vectorizer)));
    deletion.filter(Deletion::is_allowed)
}

/// What the trigger that has called is about; `clears`: it deletes pieces.
fn known(call: &TriggerCall, clears: bool) -> Rc<Known> {
    let (trigger, relation) = (call.trigger(), call.relation());
    if let Some(known) = KNOWN.with(|k| k.borrow().get(&trigger).map(|(_, known)| Rc::clone(known))) {
        return known;
    }
    let arguments = call.arguments();
    let vectorizer: i32 = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(0);
    let delay_ms: f64 = arguments.get(1).and_then(|a| a.parse().ok()).unwrap_or(0.0);
    // The table, or the partitioned table that it is a part of, must be the vectorizer's: anybody can make a trigger with
    // another's number.
    const OURS: &str = "SELECT COALESCE(a.attname, v.embedding)::text, v.chunk_table::oid, \
           a.atttypid = (SELECT t.oid FROM pg_extension x JOIN pg_type t ON t.typnamespace = x.extnamespace AND t.typname = 'vector' WHERE x.extname = 'vector') \
         FROM autoembed.vectorizer v LEFT JOIN autoembed.numbered n ON n.vectorizer_id = v.id \
         LEFT JOIN pg_attribute a ON a.attrelid = v.source AND NOT a.attisdropped AND v.chunk_table IS NULL \
           AND CASE WHEN n.vectorizer_id IS NOT NULL THEN a.attnum = v.embedding_attnum ELSE a.attname = v.embedding END \
         WHERE v.id = $1 AND (v.source = $2 OR v.source IN (SELECT relid FROM pg_partition_ancestors($2)))";
    const KEY: &str = "SELECT a.attnum, a.atttypid FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, ord) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = $1 AND i.indisprimary AND k.ord <= i.indnkeyatts ORDER BY k.ord";
    // As others have committed it: a transaction may have begun before enable().
    let known = snapshot::with_latest(false, || {
        let ours = as_extension(|| {
            spi::first(OURS, args![vectorizer, relation], Mode::Read, |row| {
                (row.get::<String>(1), row.get::<pg_sys::Oid>(2), row.or_default::<bool>(3))
            })
        });
        let (embedding, chunks, is_vector) = ours.unwrap_or_default();
        as_extension(|| Known {
            vectorizer,
            delay_ms,
            embedding,
            is_vector,
            key: spi::query(KEY, args![relation], Mode::Read, |row| KeyColumn {
                attnum: row.or_default(1),
                type_oid: row.get(2).unwrap_or(pg_sys::InvalidOid),
            }),
            stable_output: true,
            chunks,
            deletion: None,
        })
    });
    let known = Known {
        stable_output: known.key.iter().all(|c| output_is_stable(c.type_oid)),
        deletion: known.chunks.filter(|_| clears).and_then(|chunks| deletion(vectorizer, chunks)),
        ..known
    };
    let known = Rc::new(known);
    if known.embedding.is_some() {
        KNOWN.with(|k| k.borrow_mut().insert(trigger, (relation, Rc::clone(&known))));
    }
    known
}

fn key_text(parts: &[String]) -> Cow<'_, str> {
    match parts {
        [one] => Cow::Borrowed(one),
        more => Cow::Owned(join_key(more)),
    }
}

/// Queues the keys of the rows that a statement or a row trigger tells of.
#[pg_extern(sql = false)]
fn queue_change(fcinfo: pg_sys::FunctionCallInfo) {
    let Some(call) = TriggerCall::new(fcinfo) else {
        pgrx::ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            "autoembed.queue_change() can only be called as a trigger"
        );
    };
    let known = known(&call, false);
    if known.embedding.is_none() || known.key.is_empty() {
        return;
    }
    let lane = if settings::lane() == Lane::Backfill { BACKFILL } else { LIVE };
    let not_before = if known.delay_ms > 0.0 { process::now_plus(known.delay_ms) } else { None };
    let Some(mut queue) = Queue::open() else { return };
    let mut any = false;
    let mut add = |parts: &[String]| {
        let key = key_text(parts);
        if is_own_write(known.vectorizer, &key) && call.changes_column(known.embedding.as_deref().unwrap_or_default()) {
            return;
        }
        any = true;
        queue.add(&New { vectorizer: known.vectorizer, lane, key: &key, why: Why::Changed, not_before });
    };
    if known.stable_output {
        call.for_each_key(&known.key, &mut add);
    } else {
        with_stable_output(|| call.for_each_key(&known.key, &mut add));
    }
    queue.finish();
    if any {
        wake::at_commit();
    }
}

/// Sets the vector NULL in a BEFORE row trigger, so that a vector that is there belongs to the present text. In an AFTER row trigger: deletes
/// the row's pieces.
#[pg_extern(sql = false)]
fn clear_vector(fcinfo: pg_sys::FunctionCallInfo) -> TriggerRow {
    let is_right = |call: &TriggerCall| call.is_row() && (call.is_before() || call.is_update());
    let Some(call) = TriggerCall::new(fcinfo).filter(is_right) else {
        pgrx::ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            "autoembed.clear_vector() can only be called as a trigger for each row"
        );
    };
    if !call.is_before() {
        if let Some(chunks) = known(&call, true).chunks {
            // What others have done to it since it was used last is known from then on.
            locks::lock_for_writing(chunks);
        }
        let known = known(&call, true);
        if let Some(deletion) = &known.deletion {
            with_stable_output(|| call.for_each_key(&known.key, |key| deletion.run(key)));
        }
        return TriggerRow::new(call.same_row());
    }
    let known = known(&call, false);
    match known.embedding.as_ref().filter(|_| known.is_vector) {
        Some(column) => TriggerRow::new(call.row_without(column)),
        None => TriggerRow::new(call.same_row()),
    }
}
