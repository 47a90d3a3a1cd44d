//! The front door: the functions that SQL calls. Each unpacks its arguments, calls the rooms behind, and raises what they return
//! as errors.

use crate::pg::error::{Error, or_raise};
use crate::pg::ffi::types::{Name, Vector};
use crate::pg::{catalog, embed, enable, interface, models, reconcile, search, settings, usage, vectorizers};
use crate::worker::{drain, wait};
use autoembed_core::InputKind;
use pgrx::datum::{Date, Interval};
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};

fn given<T>(value: Option<T>, name: &str) -> T {
    match value {
        Some(value) => value,
        None => Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{name} cannot be NULL"),
            "Give a value, or leave the argument out for its default.",
        )
        .raise(),
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn create_model(
    name: Option<String>,
    provider: Option<String>,
    dimensions: Option<i32>,
    model: Option<String>,
    url: Option<String>,
    api_key_env: Option<String>,
    api_key_file: Option<String>,
    max_batch_inputs: Option<i32>,
    max_batch_tokens: Option<i32>,
    max_input_tokens: Option<i32>,
    requests_per_minute: Option<i32>,
    tokens_per_minute: Option<i32>,
    daily_token_budget: Option<i64>,
    max_concurrent_requests: Option<i32>,
    timeout: Option<Interval>,
    options: Option<JsonB>,
) {
    or_raise(models::create(models::Definition {
        name: given(name, "name"),
        provider: given(provider, "provider"),
        dimensions: given(dimensions, "dimensions"),
        model,
        url,
        api_key_env,
        api_key_file,
        limits: [
            max_batch_inputs,
            max_batch_tokens,
            max_input_tokens,
            requests_per_minute,
            tokens_per_minute,
            max_concurrent_requests,
        ],
        daily_token_budget,
        timeout,
        options,
    }));
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn session_usage() -> TableIterator<
    'static,
    (
        name!(model, String),
        name!(day, Date),
        name!(requests, i64),
        name!(inputs, i64),
        name!(tokens, i64),
        name!(cost, f64),
        name!(errors, i64),
        name!(cache_hits, i64),
    ),
> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    TableIterator::new(usage::noted().into_iter().map(move |entry| {
        let used = entry.usage;
        let day = Date::saturating_from_raw(entry.day.saturating_sub(usage::POSTGRES_EPOCH));
        let (requests, inputs, tokens) = (count(used.requests), count(used.inputs), count(used.tokens));
        (entry.model, day, requests, inputs, tokens, used.cost, count(used.errors), count(used.cache_hits))
    }))
}

#[pg_extern(sql = false)]
fn drop_model(name: String) {
    or_raise(models::drop(&name));
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn test_model(
    name: String,
) -> TableIterator<
    'static,
    (name!(ok, bool), name!(dimensions, Option<i32>), name!(latency_ms, f32), name!(error, Option<String>)),
> {
    TableIterator::once(or_raise(models::test(&name)))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn enable(
    source: Option<pg_sys::Oid>,
    input: Option<String>,
    model: Option<String>,
    embedding: Option<Name>,
    on_change: Option<String>,
    delay: Option<Interval>,
    backfill: Option<bool>,
    index: Option<String>,
    search_function: Option<Name>,
    text_search: Option<pg_sys::Oid>,
    chunk_size: Option<i32>,
    chunk_overlap: Option<i32>,
    chunk_table: Option<Name>,
) -> i32 {
    let later = [
        ("text_search", text_search.is_some()),
        ("chunk_size", chunk_size.is_some()),
        ("chunk_overlap", chunk_overlap.is_some()),
        ("chunk_table", chunk_table.is_some()),
    ];
    if let Some((name, _)) = later.into_iter().find(|(_, is_given)| *is_given) {
        Error::unsupported(format!("{name} is not supported by this version"), "Leave it out.").raise();
    }
    or_raise(enable::enable(enable::Request {
        source: given(source, "source"),
        input: given(input, "input"),
        model,
        embedding: given(embedding, "embedding").0,
        on_change: given(on_change, "on_change"),
        delay: given(delay, "delay"),
        backfill: given(backfill, "backfill"),
        index: given(index, "index"),
        search_function: search_function.map(|name| name.0),
    }))
}

#[pg_extern(sql = false)]
fn disable(source: pg_sys::Oid, embedding: Name, drop_column: bool) {
    or_raise(vectorizers::disable(source, &embedding.0, drop_column));
}

#[pg_extern(sql = false)]
fn pause(source: pg_sys::Oid, embedding: Name) {
    or_raise(vectorizers::set_paused(source, &embedding.0, true));
}

#[pg_extern(sql = false)]
fn resume(source: pg_sys::Oid, embedding: Name) {
    or_raise(vectorizers::set_paused(source, &embedding.0, false));
}

#[pg_extern(sql = false)]
fn embed(input: Option<String>, model: Option<String>) -> Option<Vector> {
    let input = input?;
    let model = or_raise(embed::model_for_caller(&model.unwrap_or_else(settings::default_model)));
    let vector = or_raise(embed::vector_of(&input, model, InputKind::Query));
    Some(Vector::new(&vector))
}

#[pg_extern(sql = false)]
fn query_vector(vectorizer: i32, query: String) -> Vector {
    let model = or_raise(search::model_of(vectorizer).and_then(|name| catalog::model(&name)));
    Vector::new(&or_raise(embed::vector_of(&query, model, InputKind::Query)))
}

#[pg_extern(sql = false)]
fn search_statement(vectorizer: Option<i32>, k: Option<i32>, filter: Option<JsonB>, mode: Option<String>) -> String {
    let vectorizer = given(vectorizer, "vectorizer");
    or_raise(search::statement(vectorizer, k, filter.as_ref().map(|f| &f.0), &given(mode, "mode")))
}

#[pg_extern(sql = false)]
fn misfit() -> Option<String> {
    interface::misfit().map(|(message, hint)| format!("{message}; {hint}"))
}

#[pg_extern(sql = false)]
fn embed_pending(source: Option<pg_sys::Oid>, max_rows: Option<i32>) -> i64 {
    or_raise(drain::embed_pending(source, max_rows))
}

#[pg_extern(sql = false)]
fn backfill(source: pg_sys::Oid, embedding: Name, force: bool) -> i64 {
    or_raise(vectorizers::backfill(source, &embedding.0, force))
}

#[pg_extern(sql = false)]
fn enqueue(source: Option<pg_sys::Oid>, keys: Option<Vec<Option<String>>>, embedding: Option<Name>) -> i64 {
    or_raise(vectorizers::enqueue(given(source, "source"), keys, &given(embedding, "embedding").0))
}

#[pg_extern(sql = false)]
fn retry_failed(source: Option<pg_sys::Oid>) -> i64 {
    or_raise(vectorizers::retry_failed(source))
}

#[pg_extern(sql = false)]
fn discard_failed(source: Option<pg_sys::Oid>) -> i64 {
    or_raise(vectorizers::discard_failed(source))
}

#[pg_extern(sql = false)]
fn reconcile(source: pg_sys::Oid) -> i64 {
    or_raise(reconcile::reconcile(source))
}

#[pg_extern(sql = false)]
fn wait(source: Option<pg_sys::Oid>, timeout: Option<Interval>) -> bool {
    or_raise(wait::until_done(source, given(timeout, "timeout")))
}
