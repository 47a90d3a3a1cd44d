//! Types that pgrx does not know: `name`, and pgvector's `vector`.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::nullable::Nullable;
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use std::ffi::CStr;

/// Lets a one-field struct around a datum be the return value of a function of the given SQL type.
macro_rules! returned_as_is {
    ($type:ident, $sql:literal) => {
        // SAFETY: the field is a datum of the declared type.
        unsafe impl pgrx::callconv::BoxRet for $type {
            unsafe fn box_into<'fcx>(self, fcinfo: &mut pgrx::callconv::FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
                // SAFETY: the datum lives in the memory context of the call.
                unsafe { fcinfo.return_raw_datum(self.0) }
            }
        }
        // SAFETY: says only how the type is called in SQL.
        unsafe impl pgrx::pgrx_sql_entity_graph::metadata::SqlTranslatable for $type {
            const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!($type);
            const TYPE_ORIGIN: pgrx::pgrx_sql_entity_graph::metadata::TypeOrigin =
                pgrx::pgrx_sql_entity_graph::metadata::TypeOrigin::External;
            const ARGUMENT_SQL: Result<
                pgrx::pgrx_sql_entity_graph::metadata::SqlMappingRef,
                pgrx::pgrx_sql_entity_graph::metadata::ArgumentError,
            > = Ok(pgrx::pgrx_sql_entity_graph::metadata::SqlMappingRef::literal($sql));
            const RETURN_SQL: Result<
                pgrx::pgrx_sql_entity_graph::metadata::ReturnsRef,
                pgrx::pgrx_sql_entity_graph::metadata::ReturnsError,
            > = Ok(pgrx::pgrx_sql_entity_graph::metadata::ReturnsRef::One(
                pgrx::pgrx_sql_entity_graph::metadata::SqlMappingRef::literal($sql),
            ));
        }
    };
}

/// SQL's `name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Name(pub String);

impl FromDatum for Name {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, null: bool, _: pg_sys::Oid) -> Option<Name> {
        if null {
            return None;
        }
        // SAFETY: a `name` is 64 bytes that end with NUL.
        let text = unsafe { CStr::from_ptr(datum.cast_mut_ptr()) };
        Some(Name(text.to_string_lossy().into_owned()))
    }
}

// SAFETY: the function is declared with `name` at this place, which from_datum reads.
unsafe impl<'fcx> ArgAbi<'fcx> for Name {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Name(String::new()))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: as above.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: says only how the type is called in SQL.
unsafe impl SqlTranslatable for Name {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Name);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("name"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("name")));
}

/// A value of pgvector's type `vector`, in the current memory context.
pub struct Vector(pg_sys::Datum);

impl Vector {
    /// Builds the datum: a length word, the number of components (16 bits), 16 unused bits, then the components.
    pub fn new(components: &[f32]) -> Vector {
        let bytes = 8 + 4 * components.len();
        // SAFETY: the block has `bytes` bytes; header, count and components fill it.
        unsafe {
            let block = pg_sys::palloc(bytes).cast::<u8>();
            pgrx::set_varsize_4b(block.cast(), bytes as i32);
            block.add(4).cast::<i16>().write(components.len() as i16);
            block.add(6).cast::<i16>().write(0);
            std::ptr::copy_nonoverlapping(components.as_ptr().cast::<u8>(), block.add(8), 4 * components.len());
            Vector(pg_sys::Datum::from(block))
        }
    }
}

returned_as_is!(Vector, "vector");

/// A statement's argument of type `vector[]`: one element a row, `None` is NULL.
/// `vector_type` is the type's oid in this database.
pub fn vector_array<'a>(
    vector_type: pg_sys::Oid,
    rows: impl ExactSizeIterator<Item = Option<&'a [f32]>>,
) -> super::spi::Arg {
    let mut datums = Vec::with_capacity(rows.len());
    let mut nulls = Vec::with_capacity(rows.len());
    for row in rows {
        nulls.push(row.is_none());
        datums.push(row.map_or(pg_sys::Datum::null(), |r| Vector::new(r).0));
    }
    let mut dims = [datums.len() as i32];
    let mut lower = [1_i32];
    // SAFETY: as many datums as the dimension says, each a `vector` (variable length, aligned as an int).
    unsafe {
        let array = pg_sys::construct_md_array(
            datums.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            dims.as_mut_ptr(),
            lower.as_mut_ptr(),
            vector_type,
            -1,
            false,
            b'i' as std::ffi::c_char,
        );
        super::spi::Arg::raw(pg_sys::get_array_type(vector_type), Some(pg_sys::Datum::from(array)))
    }
}

/// A statement's argument of type `bytea[]`; `None` is NULL.
pub fn bytea_array(rows: Vec<Option<Vec<u8>>>) -> super::spi::Arg {
    // SAFETY: pgrx builds a bytea[] from these.
    unsafe { super::spi::Arg::raw(pg_sys::BYTEAARRAYOID, rows.into_datum()) }
}

/// The row that a BEFORE trigger gives back.
pub struct TriggerRow(pg_sys::Datum);

impl TriggerRow {
    /// `row` comes from the call of the trigger.
    pub fn new(row: pg_sys::Datum) -> TriggerRow {
        TriggerRow(row)
    }
}

returned_as_is!(TriggerRow, "trigger");
