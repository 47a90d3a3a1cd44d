//! What the tests share: SQL in one line, a model of three dimensions, errors as values.

use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::snapshot::with_latest;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::queue::Job;
use crate::pg::settings::{self, Work};
use crate::worker::gather::{self, Context};
use pgrx::datum::FromDatum;
use pgrx::pg_sys;
use std::collections::BTreeSet;

/// Runs statements for their effect, after every other test has ended: tests make objects of the same names, each in its own
/// transaction, and two of them would wait for each other.
pub fn run(sql: &str) {
    spi::execute("SELECT pg_catalog.pg_advisory_xact_lock(6)", &[]);
    spi::execute(sql, &[]);
}

/// The first column of a statement's result, without its NULLs.
pub fn column<T: FromDatum>(sql: &str) -> Vec<T> {
    spi::query(sql, &[], Mode::Write, |row| row.get(1)).into_iter().flatten().collect()
}

/// The one value of a statement's result; `None` for NULL and for no row.
pub fn one<T: FromDatum>(sql: &str) -> Option<T> {
    spi::first(sql, &[], Mode::Write, |row| row.get(1)).flatten()
}

/// The one text of a statement's result.
pub fn text(sql: &str) -> String {
    one(sql).unwrap_or_else(|| panic!("NULL or no row: {sql}"))
}

/// The one number of a statement's result.
pub fn int(sql: &str) -> i64 {
    one(&format!("SELECT ({sql})::bigint")).unwrap_or_else(|| panic!("NULL or no row: {sql}"))
}

/// The one truth value of a statement's result; NULL is no.
pub fn yes(sql: &str) -> bool {
    one(sql).unwrap_or(false)
}

/// The error that a statement raises.
pub fn error(sql: &str) -> Caught {
    raised(|| run(sql))
}

/// The error that a body raises.
pub fn raised<R>(body: impl FnOnce() -> R) -> Caught {
    match subtransaction(body) {
        Ok(_) => panic!("no error was raised"),
        Err(caught) => caught,
    }
}

/// The oid of a table.
pub fn table(name: &str) -> pg_sys::Oid {
    one(&format!("SELECT '{name}'::regclass::oid")).unwrap()
}

/// Enables with these arguments of `autoembed.enable()`, a model of three dimensions that nobody answers for, no
/// backfill and no index; the vectorizer's id.
pub fn enable(arguments: &str) -> i32 {
    if !yes("SELECT EXISTS (SELECT FROM autoembed.models WHERE name = 'three')") {
        run("SELECT autoembed.create_model('three', 'openai', dimensions => 3, url => 'http://127.0.0.1:9/v1')");
    }
    one(&format!("SELECT autoembed.enable({arguments}, model => 'three', backfill => false, index => 'none')")).unwrap()
}

/// All that reading and writing need of a vectorizer made in this transaction.
pub fn context(id: i32) -> Context {
    with_latest(false, || gather::load(id)).expect("the vectorizer cannot be loaded")
}

/// As a worker's claim would be.
pub fn work() -> Work {
    settings::work()
}

/// What waits for a vectorizer: keys in the order of queueing.
pub fn queued(id: i32) -> Vec<String> {
    const SQL: &str = "SELECT key FROM autoembed.job WHERE vectorizer_id = $1 ORDER BY id";
    as_extension(|| spi::query(SQL, args![id], Mode::Write, |row| row.or_default(1)))
}

/// Empties the queue of a vectorizer and gives what was in it.
pub fn take_queued(id: i32) -> BTreeSet<String> {
    const SQL: &str = "DELETE FROM autoembed.job WHERE vectorizer_id = $1 RETURNING key";
    as_extension(|| spi::query(SQL, args![id], Mode::Write, |row| row.or_default(1))).into_iter().collect()
}

/// A set of texts.
pub fn set<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    texts.into_iter().map(str::to_string).collect()
}

/// The keys of jobs, in their order.
pub fn keys(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.key.as_str()).collect()
}

/// The name of a role that owns nothing and may create in `public`, made in this transaction, and its oid.
pub fn role(name: &str) -> pg_sys::Oid {
    run(&format!("CREATE ROLE {name}; GRANT CREATE, USAGE ON SCHEMA public TO {name}"));
    one(&format!("SELECT oid FROM pg_roles WHERE rolname = '{name}'")).unwrap()
}

/// The name of the effective user.
pub fn who() -> String {
    text("SELECT current_user::text")
}
