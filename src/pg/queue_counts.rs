//! How long the queue is, for the view `status`.

use crate::pg::catalog;
use crate::pg::ffi::count::{self, Jobs};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode};
use pgrx::pg_sys;
use std::collections::HashMap;

/// The jobs of each vectorizer that has any, of tables all of whose rows the caller may read.
pub fn visible() -> Vec<Jobs> {
    const SQL: &str = "SELECT id, source::oid FROM autoembed.vectorizer";
    let counted = count::jobs();
    if counted.is_empty() {
        return counted;
    }
    let source = |row: &spi::Row| (row.or_default::<i32>(1), row.get(2).unwrap_or(pg_sys::InvalidOid));
    let sources: HashMap<i32, pg_sys::Oid> =
        as_extension(|| spi::planned(SQL, &[], Mode::Read, source)).into_iter().collect();
    let of = |jobs: &Jobs| sources.get(&jobs.vectorizer).copied();
    let seen = catalog::all_of_whose_rows_are_seen(counted.iter().filter_map(of).collect());
    counted.into_iter().filter(|jobs| of(jobs).is_some_and(|source| seen.contains(&source))).collect()
}
