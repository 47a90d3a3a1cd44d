//! Taking over the chunk table that a vectorizer has left: pieces whose texts are as they were need not be embedded again.
//!
//! It must be what enable() would make, and hold vectors of the same model, which the comment on their column tells.

use super::make::{protect, unguard, vectors_of};
use super::{COLUMNS, ChunkTable};
use crate::pg::catalog::{self, Chunks, Pgvector, StoredModel, Table};
use crate::pg::enable::column;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::utility;
use autoembed_core::chunk::{LEAST_SIZE, Sizes};
use pgrx::pg_sys;

/// Why a relation is not taken over.
pub(super) enum Misfit {
    /// It is in use: whoever dropped it would drop the pieces of another vectorizer.
    Used,
    /// Something about it is not as it is made.
    Other(String),
}

/// Takes over the relation `there`, or says what is wrong with it. Who was granted something on it keeps that.
pub(super) fn take_over(
    there: pg_sys::Oid,
    source: &Table,
    embedding: &str,
    stored: &StoredModel,
    pgvector: &Pgvector,
) -> Result<Table, Misfit> {
    let table = fitting(there, source)?;
    check_columns(&table, embedding, stored, pgvector).map_err(Misfit::Other)?;
    if is_loose(table.oid, source.oid) {
        utility::drop_table_with_table(table.oid, source.oid);
    }
    unguard(&table);
    protect(&table, source);
    Ok(table)
}

/// Whether both are there, and nothing says that the one goes with the other: a dump does not bring that.
fn is_loose(table: pg_sys::Oid, source: pg_sys::Oid) -> bool {
    const SQL: &str = "SELECT (SELECT count(*) FROM pg_class WHERE oid IN ($1, $2)) = 2 \
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = $1 AND d.objsubid = 0 \
           AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $2 AND d.deptype = 'a')";
    as_extension(|| spi::planned(SQL, args![table, source], Mode::Write, |row| row.or_default::<bool>(1))).first()
        == Some(&true)
}

/// Has a chunk table that came from a dump go with its source again. `lock` locks both, in this transaction, if it can.
pub fn tie(table: pg_sys::Oid, source: pg_sys::Oid, lock: impl FnOnce() -> bool) {
    if is_loose(table, source) && lock() && is_loose(table, source) {
        utility::drop_table_with_table(table, source);
    }
}

/// The table, where it is the owner's, has the source's key, goes with the source's rows, and is nobody's.
fn fitting(there: pg_sys::Oid, source: &Table) -> Result<Table, Misfit> {
    const USED: &str = "SELECT EXISTS (SELECT FROM autoembed.vectorizer WHERE chunk_table = $1)";
    const TIED: &str = "SELECT EXISTS (SELECT FROM pg_constraint f JOIN pg_index s ON s.indrelid = f.confrelid AND s.indisprimary \
         JOIN pg_index c ON c.indrelid = f.conrelid AND c.indisprimary \
         WHERE f.contype = 'f' AND f.conrelid = $1 AND f.confrelid = $2 AND f.confdeltype = 'c' AND f.confupdtype = 'c' AND f.convalidated \
           AND f.confkey = (s.indkey::int2[])[0:s.indnkeyatts - 1] AND f.conkey = (c.indkey::int2[])[0:c.indnkeyatts - 2])";
    let is = |sql: &str, args: &[spi::Arg]| {
        as_extension(|| spi::first(sql, args, Mode::Write, |row| row.or_default::<bool>(1))) == Some(true)
    };
    let no_chunks = || Misfit::Other(format!("it is no chunk table of \"{}\"", source.name));
    let table = catalog::table(there).filter(|table| table.kind == 'r' && !table.is_partition).ok_or_else(no_chunks)?;
    if table.owner != source.owner {
        return Err(Misfit::Other("it belongs to another role".to_string()));
    }
    if is(USED, args![there]) {
        return Err(Misfit::Used);
    }
    let sizes = Sizes { size: LEAST_SIZE, overlap: 0 };
    ChunkTable::by_key(Chunks { table: there, sizes }, source).map_err(|_| no_chunks())?;
    if table.persistence != source.persistence || !is(TIED, args![there, source.oid]) {
        return Err(no_chunks());
    }
    Ok(table)
}

/// That its columns are those of pieces, and its vectors of this model.
fn check_columns(table: &Table, embedding: &str, stored: &StoredModel, pgvector: &Pgvector) -> Result<(), String> {
    const COMMENT: &str = "SELECT col_description($1, $2)";
    let types = [pg_sys::INT4OID, pg_sys::INT4OID, pg_sys::INT4OID, pg_sys::TEXTOID];
    for (name, wanted) in COLUMNS.into_iter().zip(types) {
        if column(table.oid, name).is_none_or(|(_, type_oid, _, is_generated)| type_oid != wanted || is_generated) {
            return Err(format!("its column \"{name}\" is not that of a chunk table"));
        }
    }
    let dimensions = stored.model.dimensions as i32;
    let vectors = column(table.oid, embedding).filter(|(_, type_oid, typmod, is_generated)| {
        *type_oid == pgvector.type_oid && *typmod == dimensions && !is_generated
    });
    let Some((attnum, ..)) = vectors else {
        return Err(format!("it has no column \"{embedding}\" of type vector({dimensions})"));
    };
    let args = args![table.oid, i32::from(attnum)];
    let comment = as_extension(|| spi::first(COMMENT, args, Mode::Write, |row| row.get::<String>(1))).flatten();
    if comment != Some(vectors_of(stored)) {
        return Err(format!("its vectors are not known to be of model \"{}\"", stored.model.name));
    }
    Ok(())
}
