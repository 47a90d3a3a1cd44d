//! The front door of what people look at, beside the views: unpacks arguments, calls the rooms behind, raises what they return.

use crate::pg::error::or_raise;
use crate::pg::ffi::types::Name;
use crate::pg::{
    builds, health as state_of_health, job_status as row, notify as notifications, queue_counts as counts,
    report as report_page,
};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};

#[pg_extern(sql = false)]
fn health() -> JsonB {
    JsonB(state_of_health::report())
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn job_status(
    source: pg_sys::Oid,
    key: String,
    embedding: Name,
) -> TableIterator<
    'static,
    (
        name!(state, String),
        name!(attempts, i32),
        name!(queued_at, Option<TimestampWithTimeZone>),
        name!(not_before, Option<TimestampWithTimeZone>),
        name!(failed_at, Option<TimestampWithTimeZone>),
        name!(code, Option<String>),
        name!(message, Option<String>),
        name!(hint, Option<String>),
    ),
> {
    let found = or_raise(row::of(source, &key, &embedding.0));
    let (failed_at, code, message, hint) = match found.failure {
        Some(failure) => (failure.at, Some(failure.code), Some(failure.message), Some(failure.hint)),
        None => (None, None, None, None),
    };
    TableIterator::once((
        found.state.to_string(),
        found.attempts,
        found.queued_at,
        found.not_before,
        failed_at,
        code,
        message,
        hint,
    ))
}

#[pg_extern(sql = false)]
fn report(since: Interval) -> String {
    or_raise(report_page::of(since))
}

#[pg_extern(sql = false)]
fn notify(source: pg_sys::Oid, enabled: bool, embedding: Name) {
    or_raise(notifications::set(source, &embedding.0, enabled));
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn index_builds() -> TableIterator<
    'static,
    (
        name!(vectorizer, i32),
        name!(kind, &'static str),
        name!(phase, String),
        name!(waits_for, Option<i32>),
        name!(blocks_done, i64),
        name!(blocks_total, i64),
        name!(rows_done, i64),
        name!(rows_total, Option<i64>),
    ),
> {
    TableIterator::new(builds::visible().into_iter().map(|build| {
        let builds::Build {
            vectorizer, kind, phase, waits_for, blocks_done, blocks_total, rows_done, rows_total, ..
        } = build;
        (vectorizer, kind, phase, waits_for, blocks_done, blocks_total, rows_done, rows_total)
    }))
}

#[pg_extern(sql = false)]
fn queue_counts() -> TableIterator<
    'static,
    (name!(vectorizer, i32), name!(waiting, i64), name!(in_flight, i64), name!(oldest, Option<TimestampWithTimeZone>)),
> {
    TableIterator::new(counts::visible().into_iter().map(|jobs| {
        let oldest = TimestampWithTimeZone::try_from(jobs.oldest).ok();
        (jobs.vectorizer, jobs.waiting, jobs.in_flight, oldest)
    }))
}
