//! Catalogue effects that SQL has no statement for.

use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

/// Makes a function go away with a table: DROP TABLE then needs no CASCADE and leaves no function behind.
pub fn drop_function_with_table(function: pg_sys::Oid, table: pg_sys::Oid) {
    drop_with_table(pg_sys::ProcedureRelationId, function, table);
}

/// The same of a table that belongs to another.
pub fn drop_table_with_table(belongs: pg_sys::Oid, table: pg_sys::Oid) {
    drop_with_table(pg_sys::RelationRelationId, belongs, table);
}

fn drop_with_table(class: pg_sys::Oid, object: pg_sys::Oid, table: pg_sys::Oid) {
    let depender = pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    let referenced = pg_sys::ObjectAddress { classId: pg_sys::RelationRelationId, objectId: table, objectSubId: 0 };
    // SAFETY: both objects exist in this transaction.
    unsafe { pg_sys::recordDependencyOn(&depender, &referenced, pg_sys::DependencyType::DEPENDENCY_AUTO) };
}

/// The oid of the extension in this database, where it is there.
pub fn extension_oid() -> Option<pg_sys::Oid> {
    // SAFETY: a look-up in the catalogue, inside a transaction.
    let oid = unsafe { pg_sys::get_extension_oid(c"autoembed".as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Makes misspelt settings `autoembed.*` an error.
pub fn reserve_setting_prefix() {
    // SAFETY: once, when the library is loaded.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"autoembed".as_ptr()) };
}

/// Told of the table, or of all.
type TableChanged = fn(Option<pg_sys::Oid>);

/// Calls `callback` when the definition of a table has changed (`None`: of any table, or the name of a schema, or a cast or an operator, of
/// which none is part of a table). It must not raise errors.
pub fn on_table_change(callback: TableChanged) {
    use pg_sys::SysCacheIdentifier::{CASTSOURCETARGET, NAMESPACEOID, OPERNAMENSP};
    TOLD.with(|told| told.set(Some(callback)));
    // SAFETY: once, when the library is loaded; the functions stay as long as the library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(changed_table), pg_sys::Datum::null());
        for names in [NAMESPACEOID, CASTSOURCETARGET, OPERNAMENSP] {
            pg_sys::CacheRegisterSyscacheCallback(names as std::ffi::c_int, Some(changed_names), pg_sys::Datum::null());
        }
    }
}

/// Tables whose definitions have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These, and no others.
    Tables(Vec<pg_sys::Oid>),
    /// Any.
    All,
}

/// Of more tables than this it is not remembered which they were.
const MOST_CHANGED: usize = 1000;

/// Tables whose definitions have changed since this was asked last; when it is asked first, all. Statistics and temporary tables
/// count too. Who never asks remembers nothing.
pub fn changed_tables() -> Changed {
    let changed = CHANGED.replace(Some(HashSet::new()));
    if ALL_CHANGED.replace(false) {
        return Changed::All;
    }
    changed.map_or(Changed::All, |tables| Changed::Tables(tables.into_iter().collect()))
}

/// Whether [`changed_tables`] has any to tell of, inside a transaction.
pub fn is_any_table_changed() -> bool {
    ALL_CHANGED.get() || CHANGED.with_borrow(|changed| changed.as_ref().is_some_and(|tables| !tables.is_empty()))
}

thread_local! {
    static CHANGED: RefCell<Option<HashSet<pg_sys::Oid>>> = const { RefCell::new(None) };
    static ALL_CHANGED: Cell<bool> = const { Cell::new(false) };
    static TOLD: Cell<Option<TableChanged>> = const { Cell::new(None) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn changed_table(_unused: pg_sys::Datum, table: pg_sys::Oid) {
    let table = (table != pg_sys::InvalidOid).then_some(table);
    CHANGED.with_borrow_mut(|changed| {
        let Some(changed) = changed else { return };
        match table {
            Some(table) if changed.len() < MOST_CHANGED => drop(changed.insert(table)),
            _ => ALL_CHANGED.set(true),
        }
    });
    if let Some(callback) = TOLD.with(Cell::get) {
        callback(table);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn changed_names(_unused: pg_sys::Datum, _cache: std::ffi::c_int, _which: u32) {
    if let Some(callback) = TOLD.with(Cell::get) {
        callback(None);
    }
}
