//! Whether this library and the catalogue of this database fit together. Files are replaced, servers restarted and ALTER EXTENSION
//! run in any order; until all three are done users write and their changes are queued, and nothing else happens.
//!
//! The scripts leave a number in the view `autoembed.interface`. It is changed when an older library could do harm, not with each
//! version. What triggers need has no number, since a user's statement must not fail: see CONTRIBUTING.md.

use crate::pg::error::{Error, Result};
use crate::pg::ffi::process;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode};
use pgrx::pg_sys;
use std::cell::Cell;

/// Numbers of catalogues that this library works with.
const OLDEST: i32 = 1;
const NEWEST: i32 = 1;

thread_local! {
    // The view and the number in it: an update makes the view anew, which every session is told of.
    static FOUND: Cell<Option<(pg_sys::Oid, i32)>> = const { Cell::new(None) };
}

/// Forgets what was read, when the definition of a table or view (`None`: of any) has changed.
pub fn forget(relation: Option<pg_sys::Oid>) {
    // Nothing is left of it in a process that ends by exit().
    let _ = FOUND.try_with(|found| match (found.get(), relation) {
        (Some((view, _)), Some(changed)) if view != changed => {}
        _ => found.set(None),
    });
}

fn number() -> i32 {
    const THERE: &str = "SELECT to_regclass('autoembed.interface')::oid";
    if let Some((_, number)) = FOUND.get() {
        return number;
    }
    as_extension(|| {
        let view = spi::first(THERE, &[], Mode::Read, |row| row.get::<pg_sys::Oid>(1)).flatten();
        let Some(view) = view else { return 0 };
        let number =
            spi::first("SELECT number FROM autoembed.interface", &[], Mode::Read, |row| row.or_default::<i32>(1))
                .unwrap_or(0);
        FOUND.set(Some((view, number)));
        number
    })
}

/// Why library and catalogue do not fit, and what to do; `None`: they do. In a transaction, where the extension is there.
pub fn misfit() -> Option<(String, &'static str)> {
    const VERSION: &str = "SELECT extversion FROM pg_extension WHERE extname = 'autoembed'";
    let number = number();
    if (OLDEST..=NEWEST).contains(&number) {
        return None;
    }
    let catalogue = as_extension(|| spi::first(VERSION, &[], Mode::Read, |row| row.or_default::<String>(1)));
    let (what, hint) = match (number > NEWEST, process::is_preloaded()) {
        (false, _) => ("older", "Run ALTER EXTENSION autoembed UPDATE; changes are queued until then"),
        (true, true) => {
            ("newer", "Restart the server, so that it loads the library of that version; changes are queued until then")
        }
        (true, false) => ("newer", "Install the library of that version, and reconnect; changes are queued until then"),
    };
    let (catalogue, library) = (catalogue.unwrap_or_default(), env!("CARGO_PKG_VERSION"));
    Some((
        format!(
            "the extension autoembed in this database has version {catalogue}, which is {what} than the loaded library can work with ({library})"
        ),
        hint,
    ))
}

/// That they fit.
///
/// # Errors
/// 55000 where they do not.
pub fn check() -> Result<()> {
    match misfit() {
        None => Ok(()),
        Some((message, hint)) => Err(Error::state(message, hint)),
    }
}
