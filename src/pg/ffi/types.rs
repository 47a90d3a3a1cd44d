//! Types that pgrx does not know: `name`, and pgvector's `vector`.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::nullable::Nullable;
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use std::ffi::{CStr, CString};

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

pub(super) use returned_as_is;

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

/// SQL's `text`, in UTF-8 whatever the database's encoding is: models are sent nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Text(pub String);

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, null: bool, _: pg_sys::Oid) -> Option<Text> {
        if null {
            return None;
        }
        // SAFETY: a `text` of so many bytes; what the conversion gives is either those bytes or a copy that ends with NUL.
        unsafe {
            let text = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            let (bytes, length) = (pgrx::vardata_any(text).cast_mut().cast::<u8>(), pgrx::varsize_any_exhdr(text));
            let (from, to) = (pg_sys::GetDatabaseEncoding(), pg_sys::pg_enc::PG_UTF8 as i32);
            let converted = pg_sys::pg_do_encoding_conversion(bytes, length as i32, from, to);
            let utf8 = match converted == bytes {
                true => std::slice::from_raw_parts(bytes, length),
                false => CStr::from_ptr(converted.cast()).to_bytes(),
            };
            Some(Text(String::from_utf8_lossy(utf8).into_owned()))
        }
    }
}

// SAFETY: the function is declared with `text` at this place, which from_datum reads.
unsafe impl<'fcx> ArgAbi<'fcx> for Text {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Text(String::new()))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: as above.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: says only how the type is called in SQL.
unsafe impl SqlTranslatable for Text {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Text);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("text"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("text")));
}

/// SQL's `jsonb` as it is, for the length of a call: its numbers may be longer, and its values deeper, than what a program reads of it.
#[derive(Debug, Clone, Copy)]
pub struct Json(pg_sys::Datum);

impl Json {
    /// The same as a statement's argument.
    pub fn arg(self) -> super::spi::Arg {
        Json::optional(Some(self))
    }

    /// The same of one that may not be there: NULL.
    pub fn optional(given: Option<Json>) -> super::spi::Arg {
        // SAFETY: the datum is a jsonb.
        unsafe { super::spi::Arg::raw(pg_sys::JSONBOID, given.map(|json| json.0)) }
    }

    /// As the server writes it.
    pub fn text(self) -> String {
        // SAFETY: the datum is a jsonb; the result is a string in the current memory context.
        unsafe {
            let text = pgrx::direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(self.0)]);
            text.unwrap_or_default().to_string_lossy().into_owned()
        }
    }
}

impl FromDatum for Json {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, null: bool, _: pg_sys::Oid) -> Option<Json> {
        (!null).then_some(Json(datum))
    }
}

// SAFETY: the function is declared with `jsonb` at this place, which lives as long as the call.
unsafe impl<'fcx> ArgAbi<'fcx> for Json {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Json(pg_sys::Datum::null()))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: as above.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: says only how the type is called in SQL.
unsafe impl SqlTranslatable for Json {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Json);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
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

/// Memory for arrays of vectors, used again and again: a block of some size is dear to get, and to fill for the first time.
#[derive(Default)]
pub struct VectorArray(Vec<u64>);

impl VectorArray {
    /// Runs `body` with `arguments` and behind them one of type `vector[]`, one element a row. `vector_type` is the type's oid in this
    /// database.
    pub fn with<'a, R>(
        &mut self,
        vector_type: pg_sys::Oid,
        rows: impl ExactSizeIterator<Item = &'a [f32]> + Clone,
        mut arguments: Vec<super::spi::Arg>,
        body: impl FnOnce(&[super::spi::Arg]) -> R,
    ) -> R {
        // Six words before the elements of an array of one dimension without NULLs: size, dimensions, offset of a bitmap that is not
        // there, type, length, lower bound.
        const HEAD: usize = 24;
        let size = HEAD + rows.clone().map(|row| 8 + 4 * row.len()).sum::<usize>();
        if self.0.len() < size.div_ceil(8) {
            self.0.resize(size.div_ceil(8), 0);
        }
        let start = self.0.as_mut_ptr().cast::<u8>();
        // SAFETY: the block has room for the head and for each row with its own head, as counted, and is aligned for all of them; it lives
        // for longer than the arguments, which `body` cannot keep.
        unsafe {
            pgrx::set_varsize_4b(start.cast(), size as i32);
            let words = [1, 0, vector_type.to_u32() as i32, rows.len() as i32, 1];
            std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), start.add(4), HEAD - 4);
            let mut at = start.add(HEAD);
            for row in rows {
                let bytes = 8 + 4 * row.len();
                pgrx::set_varsize_4b(at.cast(), bytes as i32);
                at.add(4).cast::<i16>().write(row.len() as i16);
                at.add(6).cast::<i16>().write(0);
                std::ptr::copy_nonoverlapping(row.as_ptr().cast::<u8>(), at.add(8), 4 * row.len());
                at = at.add(bytes);
            }
            let array_type = pg_sys::get_array_type(vector_type);
            arguments.push(super::spi::Arg::raw(array_type, Some(pg_sys::Datum::from(start))));
        }
        body(&arguments)
    }
}

/// A statement's argument of the type `vector`, of which this is the oid; `None`: NULL.
pub fn vector(vector_type: pg_sys::Oid, components: Option<&[f32]>) -> super::spi::Arg {
    // SAFETY: a datum of that type, in the memory context of the call.
    unsafe { super::spi::Arg::raw(vector_type, components.map(|components| Vector::new(components).0)) }
}

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

/// Whether the database's texts are in UTF-8.
pub fn is_utf8() -> bool {
    // SAFETY: a read.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// The operator that a type's own ordering takes for equality, also of domains, enums and arrays; `None`: it has none.
pub fn equality(type_oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: looks the type up in the catalogue, inside a transaction; the entry lives as long as the process.
    let found = unsafe { (*pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// The schema that a type is in now, and its name; `None`: it is gone.
pub fn name_of(type_oid: pg_sys::Oid) -> Option<(pg_sys::Oid, CString)> {
    const TYPES: std::ffi::c_int = pg_sys::SysCacheIdentifier::TYPEOID as std::ffi::c_int;
    // SAFETY: looks the type up in the catalogue, inside a transaction; the entry is read before it is given back.
    unsafe {
        let found = pg_sys::SearchSysCache1(TYPES, pg_sys::Datum::from(type_oid));
        if found.is_null() {
            return None;
        }
        let entry = pg_sys::GETSTRUCT(found).cast::<pg_sys::FormData_pg_type>();
        let name = ((*entry).typnamespace, CStr::from_ptr((*entry).typname.data.as_ptr()).to_owned());
        pg_sys::ReleaseSysCache(found);
        Some(name)
    }
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
