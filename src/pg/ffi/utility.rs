//! Catalogue effects that SQL has no statement for.

use pgrx::pg_sys;

/// Makes a function go away with a table: DROP TABLE then needs no CASCADE and leaves no function behind.
pub fn drop_function_with_table(function: pg_sys::Oid, table: pg_sys::Oid) {
    let depender = pg_sys::ObjectAddress { classId: pg_sys::ProcedureRelationId, objectId: function, objectSubId: 0 };
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

/// Calls `callback` when the definition of a table has changed (`None`: of any table). It must not raise errors.
pub fn on_table_change(callback: TableChanged) {
    CHANGED.with(|changed| changed.set(Some(callback)));
    // SAFETY: once, when the library is loaded; the function stays as long as the library, which is never unloaded.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(changed_table), pg_sys::Datum::null()) };
}

/// Whether the definition of any table has changed since this was asked last.
pub fn a_table_changed() -> bool {
    A_TABLE_CHANGED.with(|changed| changed.replace(false))
}

thread_local! {
    static A_TABLE_CHANGED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static CHANGED: std::cell::Cell<Option<TableChanged>> = const { std::cell::Cell::new(None) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn changed_table(_unused: pg_sys::Datum, table: pg_sys::Oid) {
    A_TABLE_CHANGED.with(|changed| changed.set(true));
    if let Some(callback) = CHANGED.with(std::cell::Cell::get) {
        callback((table != pg_sys::InvalidOid).then_some(table));
    }
}
