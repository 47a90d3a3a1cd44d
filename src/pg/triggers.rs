//! What runs in users' transactions: queueing keys, clearing vectors. Cheap, and never failing because of a provider.

use crate::pg::ffi::insert::Queue;
use crate::pg::ffi::rights::{as_extension, with_stable_output};
use crate::pg::ffi::rows::{KeyColumn, TriggerCall, output_is_stable};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::types::TriggerRow;
use crate::pg::ffi::{process, snapshot};
use crate::pg::queue::{BACKFILL, LIVE};
use crate::pg::settings::{self, Lane};
use crate::pg::source::join_key;
use crate::pg::wake;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

#[derive(Clone)]
struct Known {
    vectorizer: i32,
    delay_ms: f64,
    key: Vec<KeyColumn>,
    stable_output: bool,
    /// The target column, where the vectorizer is that of the trigger's table.
    embedding: Option<String>,
}

thread_local! {
    // By the trigger's oid, which is never that of another vectorizer's; emptied when the table's definition changes.
    static KNOWN: RefCell<HashMap<pg_sys::Oid, (pg_sys::Oid, Known)>> = RefCell::new(HashMap::new());
    static WRITING: RefCell<Option<(i32, HashSet<String>)>> = const { RefCell::new(None) };
}

/// Forgets what is known of a table (`None`: of all).
pub fn forget(table: Option<pg_sys::Oid>) {
    // Nothing is left of it in a process that ends by exit().
    let _ = KNOWN.try_with(|known| {
        if let Ok(mut known) = known.try_borrow_mut() {
            known.retain(|_, (of, _)| table.is_some_and(|table| *of != table));
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

fn known(call: &TriggerCall) -> Known {
    let (trigger, relation) = (call.trigger(), call.relation());
    if let Some(known) = KNOWN.with(|k| k.borrow().get(&trigger).map(|(_, known)| known.clone())) {
        return known;
    }
    let arguments = call.arguments();
    let vectorizer: i32 = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(0);
    let delay_ms: f64 = arguments.get(1).and_then(|a| a.parse().ok()).unwrap_or(0.0);
    // The table, or the partitioned table that it is a part of, must be the vectorizer's: anybody can make a trigger with
    // another's number.
    const OURS: &str = "SELECT COALESCE(a.attname, v.embedding)::text FROM autoembed.vectorizer v \
         LEFT JOIN pg_attribute a ON a.attrelid = v.source AND a.attnum = v.embedding_attnum AND NOT a.attisdropped AND v.source = v.source_oid \
         WHERE v.id = $1 AND (v.source = $2 OR v.source IN (SELECT relid FROM pg_partition_ancestors($2)))";
    const KEY: &str = "SELECT a.attnum, a.atttypid FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, ord) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = $1 AND i.indisprimary AND k.ord <= i.indnkeyatts ORDER BY k.ord";
    // As others have committed it: a transaction may have begun before enable().
    let known = snapshot::with_latest(false, || {
        as_extension(|| Known {
            vectorizer,
            delay_ms,
            embedding: spi::first(OURS, args![vectorizer, relation], Mode::Read, |row| row.get(1)).flatten(),
            key: spi::query(KEY, args![relation], Mode::Read, |row| KeyColumn {
                attnum: row.or_default(1),
                type_oid: row.get(2).unwrap_or(pg_sys::InvalidOid),
            }),
            stable_output: true,
        })
    });
    let known = Known { stable_output: known.key.iter().all(|c| output_is_stable(c.type_oid)), ..known };
    if known.embedding.is_some() {
        KNOWN.with(|k| k.borrow_mut().insert(trigger, (relation, known.clone())));
    }
    known
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
    let known = known(&call);
    if known.embedding.is_none() || known.key.is_empty() {
        return;
    }
    let lane = if settings::lane() == Lane::Backfill { BACKFILL } else { LIVE };
    let not_before = if known.delay_ms > 0.0 { process::now_plus(known.delay_ms) } else { None };
    let Some(queue) = Queue::open() else { return };
    let mut any = false;
    let mut add = |parts: Vec<Option<String>>| {
        let parts: Option<Vec<String>> = parts.into_iter().collect();
        let Some(key) = parts.map(|parts| join_key(&parts)) else { return };
        if is_own_write(known.vectorizer, &key) && call.changes_column(known.embedding.as_deref().unwrap_or_default()) {
            return;
        }
        any = true;
        queue.add(known.vectorizer, lane, &key, not_before);
    };
    if known.stable_output {
        call.for_each_key(&known.key, &mut add);
    } else {
        with_stable_output(|| call.for_each_key(&known.key, &mut add));
    }
    drop(queue);
    if any {
        wake::at_commit();
    }
}

/// Sets the vector NULL in a BEFORE row trigger, so that a vector that is there belongs to the present text.
#[pg_extern(sql = false)]
fn clear_vector(fcinfo: pg_sys::FunctionCallInfo) -> TriggerRow {
    let Some(call) = TriggerCall::new(fcinfo).filter(|call| call.is_row() && call.is_before()) else {
        pgrx::ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            "autoembed.clear_vector() can only be called as a BEFORE trigger for each row"
        );
    };
    match known(&call).embedding {
        Some(column) => TriggerRow::new(call.row_without(&column)),
        None => TriggerRow::new(call.same_row()),
    }
}
