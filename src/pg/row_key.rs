//! Keys by which a session names rows: they are read as the session writes values, and stored in the one form that triggers store.

use crate::pg::catalog::Table;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::{in_other_words, subtransaction};
use crate::pg::ffi::given::in_key_form;
use crate::pg::ffi::rights::as_owner_who_reads;
use crate::pg::ffi::rows::output_is_stable;
use crate::pg::source;
use autoembed_core::key::{self, KeyError};
use pgrx::{PgSqlErrorCode, pg_sys};

const WRONG: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION;

/// The keys in the form that triggers store, as far as their texts tell. `path` is the search_path of code of the table's owner.
///
/// # Errors
/// 22P02 where a key has not the columns of the table's. Raises 22P02 where a column's type does not take its text.
pub fn given(table: &Table, path: &str, keys: Vec<String>) -> Result<Vec<String>> {
    match table.key.as_slice() {
        [] => return Ok(keys),
        [only] if is_any_text(only.type_oid) => return Ok(keys),
        _ => {}
    }
    let mut columns: Vec<Vec<String>> = vec![Vec::with_capacity(keys.len()); table.key.len()];
    for key in &keys {
        let wrong =
            |e: KeyError| Error::new(WRONG, format!("\"{key}\" is no key of table \"{}\": {e}", table.name), e.hint());
        for (column, part) in columns.iter_mut().zip(key::decode(key, table.key.len()).map_err(wrong)?) {
            column.push(part);
        }
    }
    for (column, texts) in table.key.iter().zip(&mut columns) {
        if is_any_text(column.type_oid) {
            continue;
        }
        *texts = in_other_words(
            || match output_is_stable(column.type_oid) {
                // One of the server's own, which runs nobody's code.
                true => in_key_form(column.type_oid, texts),
                false => as_owner_who_reads(table.owner, path, || in_key_form(column.type_oid, texts)),
            },
            |wrong| {
                let message = format!(
                    "a key of table \"{}\" does not fit column \"{}\": {}",
                    table.name, column.name, wrong.message
                );
                let hint =
                    format!("Give values of type {} as this session writes them, such as id::text.", column.type_name);
                Error::new(WRONG, message, hint)
            },
        );
    }
    let row = |i: usize| columns.iter().filter_map(|column| column.get(i).cloned()).collect::<Vec<_>>();
    Ok((0..keys.len()).map(|i| source::join_key(&row(i))).collect())
}

/// The keys in the form that triggers store: where equal values may have different texts, the row says which it is.
///
/// # Errors
/// As [`given`].
pub fn stored(table: &Table, path: &str, keys: Vec<String>) -> Result<Vec<String>> {
    let keys = given(table, path, keys)?;
    if table.key.iter().all(|column| has_one_text(column.type_oid)) {
        return Ok(keys);
    }
    let texts: Vec<&str> = keys.iter().map(String::as_str).collect();
    // Where the table cannot be read at present, the worker finds the row by what equals its key.
    let own = subtransaction(|| source::own_keys(table, path, &texts)).unwrap_or_default();
    let mut own = own.into_iter();
    Ok(keys.into_iter().map(|key| own.next().flatten().unwrap_or(key)).collect())
}

/// Every text is a value, and looks the same in every session.
fn is_any_text(type_oid: pg_sys::Oid) -> bool {
    matches!(type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID)
}

/// Equal values have the same text, under most collations.
fn has_one_text(type_oid: pg_sys::Oid) -> bool {
    matches!(
        type_oid,
        pg_sys::INT2OID
            | pg_sys::INT4OID
            | pg_sys::INT8OID
            | pg_sys::UUIDOID
            | pg_sys::TEXTOID
            | pg_sys::VARCHAROID
            | pg_sys::NAMEOID
            | pg_sys::BOOLOID
            | pg_sys::OIDOID
            | pg_sys::BYTEAOID
            | pg_sys::DATEOID
            | pg_sys::TIMESTAMPOID
            | pg_sys::TIMESTAMPTZOID
    )
}
