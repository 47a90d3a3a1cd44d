//! Acting as somebody else for the length of a closure.

use crate::pg::ffi::process;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, CString};

thread_local! {
    static OWNERS_CODE_RAN: Cell<bool> = const { Cell::new(false) };
}

struct Scope {
    user: pg_sys::Oid,
    context: i32,
    nest: Option<i32>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The abort of the (sub)transaction puts user and settings back.
            return;
        }
        // SAFETY: puts back what `enter` found, in the reverse order.
        unsafe {
            if let Some(nest) = self.nest {
                pg_sys::AtEOXact_GUC(false, nest);
            }
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

fn enter(user: pg_sys::Oid, flags: u32, settings: &[(&str, &str)]) -> Scope {
    let mut scope = Scope { user: pg_sys::InvalidOid, context: 0, nest: None };
    // SAFETY: plain reads and writes of the session's identity, undone by Drop or by the abort of the transaction.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut scope.user, &mut scope.context);
        pg_sys::SetUserIdAndSecContext(user, scope.context | flags as i32);
        if !settings.is_empty() {
            scope.nest = Some(pg_sys::NewGUCNestLevel());
            for (name, value) in settings {
                set(name, value);
            }
            // Names are stored and compared as the server writes them, and are the same under every setting of a session.
            if pg_sys::quote_all_identifiers {
                set("quote_all_identifiers", "off");
            }
        }
    }
    scope
}

unsafe fn set(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
    // SAFETY: both texts end with NUL; the action is undone when the nest level ends.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// What `pg_has_role` calls it that a role can become another by SET ROLE. From 16 on, a MEMBER may be one who can do no more than make others
/// members; whether a role has another's rights as it is, is USAGE in all versions.
#[cfg(feature = "pg15")]
pub const CAN_BECOME: &str = "MEMBER";
/// What `pg_has_role` calls it that a role can become another by SET ROLE.
#[cfg(not(feature = "pg15"))]
pub const CAN_BECOME: &str = "SET";

/// Runs `body` with the rights to the extension's own tables and a search_path of the server's own names. Only for
/// statements of this crate over those tables and the catalogue.
pub fn as_extension<R>(body: impl FnOnce() -> R) -> R {
    let _scope = enter(
        pg_sys::BOOTSTRAP_SUPERUSERID.into(),
        pg_sys::SECURITY_LOCAL_USERID_CHANGE,
        &[("search_path", "pg_catalog, pg_temp"), ("jit", "off")],
    );
    body()
}

/// As [`as_extension`], with the queue's one index always used: its statistics are of no use, since it is empty one minute and
/// holds a million rows the next.
pub fn as_queue<R>(body: impl FnOnce() -> R) -> R {
    let _scope = enter(
        pg_sys::BOOTSTRAP_SUPERUSERID.into(),
        pg_sys::SECURITY_LOCAL_USERID_CHANGE,
        &[
            ("search_path", "pg_catalog, pg_temp"),
            // Plans that avoid what is off look so dear that each would be compiled.
            ("jit", "off"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ],
    );
    body()
}

/// `path` as it is used: where it is not named, the schema of temporary objects is looked into first.
pub fn before_temporary(path: &str) -> String {
    if path.trim().is_empty() { "pg_temp".to_string() } else { format!("{path}, pg_temp") }
}

/// Runs `body`, which may run code of the table's owner (expressions, triggers, policies), as that owner, in a context
/// that cannot be left: neither SET ROLE nor RESET ROLE works in it. `path` is the search_path for that code. Texts
/// of dates, intervals and numbers come out the same in every session; policies raise instead of hiding rows.
///
/// Raises an error where that code has made temporary objects: they would stay in this process, in the way of others' names.
pub fn as_owner<R>(owner: pg_sys::Oid, path: &str, body: impl FnOnce() -> R) -> R {
    let path = before_temporary(path);
    let before = process::temporary_schema();
    OWNERS_CODE_RAN.set(true);
    let scope = enter(
        owner,
        pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION,
        &[
            ("search_path", &path),
            ("row_security", "off"),
            ("jit", "off"),
            // A batch of keys is looked up in the key's index; a hash of the whole table looks cheaper and is not.
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("datestyle", "ISO, YMD"),
            ("intervalstyle", "postgres"),
            ("timezone", "UTC"),
            ("extra_float_digits", "1"),
            ("bytea_output", "hex"),
            ("lock_timeout", "200ms"),
        ],
    );
    let limit = process::TimeLimit::start();
    let value = body();
    drop(limit);
    drop(scope);
    if process::temporary_schema() != before {
        const WHAT: &str = "code that runs while vectors are read or written has made temporary objects";
        ErrorReport::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, WHAT, "")
            .set_hint("See the table's triggers, and the functions that it and the input expression call.")
            .report(pgrx::PgLogLevel::ERROR);
    }
    value
}

/// Runs `body`, which plans a statement that is kept for later: by the keys and places of rows that it is given, however small its tables
/// are by now, or seem to be.
pub fn planning_by_index<R>(body: impl FnOnce() -> R) -> R {
    let _scope = enter(
        current_user(),
        0,
        &[
            ("jit", "off"),
            ("enable_indexscan", "on"),
            ("enable_tidscan", "on"),
            ("enable_nestloop", "on"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ],
    );
    body()
}

/// As [`as_owner`], with values read as the session's own settings have them, not written: for what a session has given.
pub fn as_owner_who_reads<R>(owner: pg_sys::Oid, path: &str, body: impl FnOnce() -> R) -> R {
    let own = [c"datestyle", c"intervalstyle", c"timezone"].map(|name| {
        // SAFETY: the server's own settings; the value is copied before anything else is called.
        let value = unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) };
        // SAFETY: a text that ends with NUL, where there is one.
        let value = (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned());
        (name.to_string_lossy(), value.unwrap_or_default())
    });
    as_owner(owner, path, || {
        let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
        let _scope = enter(owner, 0, &own);
        body()
    })
}

/// As [`as_owner`], in a user's own transaction: how long it waits for locks, and how values look, is his own.
pub fn for_owner_in_session<R>(owner: pg_sys::Oid, path: &str, body: impl FnOnce() -> R) -> R {
    let path = before_temporary(path);
    let _scope = enter(
        owner,
        pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION,
        &[("search_path", &path), ("row_security", "on"), ("jit", "off")],
    );
    body()
}

/// Whether this is code in a context that cannot be left, as that of [`as_owner`].
pub fn is_restricted() -> bool {
    // SAFETY: a read.
    unsafe { pg_sys::InSecurityRestrictedOperation() }
}

/// Whether code of table owners has run since this was asked last.
pub fn has_run_owners_code() -> bool {
    OWNERS_CODE_RAN.take()
}

/// Runs `body` with texts of dates, intervals and numbers in the one form that keys have.
pub fn with_stable_output<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: reads the session's identity, which stays as it is.
    let user = unsafe { pg_sys::GetUserId() };
    let _scope = enter(
        user,
        0,
        &[
            ("datestyle", "ISO, YMD"),
            ("intervalstyle", "postgres"),
            ("timezone", "UTC"),
            ("extra_float_digits", "1"),
            ("bytea_output", "hex"),
        ],
    );
    body()
}

/// Runs `body` as who it is, with settings of his own.
pub fn with_settings<R>(settings: &[(&str, &str)], body: impl FnOnce() -> R) -> R {
    let _scope = enter(current_user(), 0, settings);
    body()
}

/// Whether `role` may read a whole table, which is the server's to say; false where the table is gone.
pub fn may_read_whole(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    let mut is_missing = false;
    // Rights are a wider number from PostgreSQL 16 on.
    #[allow(clippy::useless_conversion)]
    // SAFETY: a look into the catalogue, inside a transaction.
    let may =
        unsafe { pg_sys::pg_class_aclcheck_ext(table, role, pg_sys::ACL_SELECT as pg_sys::AclMode, &mut is_missing) };
    may == pg_sys::AclResult::ACLCHECK_OK && !is_missing
}

/// Raises the server's own error where the caller may not use the schema, as a statement would that names it.
pub fn look_into(schema: &str) {
    let Ok(name) = std::ffi::CString::new(schema) else { return };
    // SAFETY: a look into the catalogue, inside a transaction; one that is gone is no error here.
    unsafe { pg_sys::LookupExplicitNamespace(name.as_ptr(), true) };
}

/// Whether policies count in the caller's statements over a table, at this moment.
pub fn is_under_policies(table: pg_sys::Oid) -> bool {
    const COUNT: i32 = pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32;
    // SAFETY: a look into the catalogue, inside a transaction; it raises no error.
    unsafe { pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true) == COUNT }
}

/// Runs `body`, which takes a lock, with a short wait for it in which autovacuum is told to end where it is in the way, but not one that
/// prevents wraparound: the server has it so where a wait lasts for `deadlock_timeout`.
pub fn ahead_of_autovacuum<R>(body: impl FnOnce() -> R) -> R {
    let _scope = enter(current_user(), 0, &[("lock_timeout", "200ms"), ("deadlock_timeout", "50ms")]);
    body()
}

/// The effective user.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: a read.
    unsafe { pg_sys::GetUserId() }
}
