//! The front door: the functions that SQL calls. Each unpacks its arguments, calls the rooms behind, and raises what they return
//! as errors.

use crate::pg::error::{Error, or_raise};
use crate::pg::ffi::answer::{Answer, Rows};
use crate::pg::ffi::types::{Json, Name, Text, Vector};
use crate::pg::search::Of;
use crate::pg::search::rows::Request;
use crate::pg::{
    change, chunks, embed, enable, estimate, hybrid, interface, models, query, reconcile, search, settings, text_index,
    usage, vectorizers,
};
use crate::worker::{drain, wait};
use autoembed_core::fusion::{self, Similarity};
use pgrx::datum::{Date, Interval};
use pgrx::prelude::*;
use pgrx::{AnyNumeric, pg_sys};

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
    options: Option<Json>,
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
        text_search: or_raise(text_search.map(text_index::configuration).transpose()),
        chunks: or_raise(chunks::make::Request::read(chunk_size, chunk_overlap, chunk_table.map(|name| name.0))),
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
fn set_model(source: Option<pg_sys::Oid>, model: Option<String>, embedding: Option<Name>) {
    let (source, model, embedding) = (given(source, "source"), given(model, "model"), given(embedding, "embedding"));
    or_raise(change::set_model(source, &model, &embedding.0));
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn estimate_cost(
    source: Option<pg_sys::Oid>,
    model: Option<String>,
    embedding: Option<Name>,
    input: Option<String>,
) -> TableIterator<'static, (name!(rows, i64), name!(tokens, i64), name!(price, Option<AnyNumeric>))> {
    let (source, embedding) = (given(source, "source"), given(embedding, "embedding"));
    let cost = or_raise(estimate::cost(source, model, &embedding.0, input));
    TableIterator::once((cost.rows, cost.tokens, cost.price))
}

#[pg_extern(sql = false)]
fn embed(input: Option<Text>, model: Option<Text>) -> Option<Vector> {
    let Text(input) = input?;
    let model = model.map_or_else(settings::default_model, |model| model.0);
    let vector = or_raise(embed::vector_for_caller(&input, &model));
    Some(Vector::new(&vector))
}

#[pg_extern(sql = false)]
fn query_vector(vectorizer: i32, query: String) -> Vector {
    Vector::new(&or_raise(query::vector(vectorizer, &query)))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn search_rows(
    vectorizer: Option<i32>,
    query: Option<String>,
    k: Option<i32>,
    min_similarity: Option<f32>,
    filter: Option<Json>,
    mode: Option<String>,
    made: Option<i64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Rows {
    let of = Of { id: given(vectorizer, "vectorizer"), made };
    let request = Request { query, k, least: min_similarity, filter, mode: given(mode, "mode") };
    let mut answer = or_raise(Answer::new(fcinfo).ok_or_else(|| {
        Error::unsupported(
            "search_rows() is called where its rows cannot be taken",
            "Call the search function of the table, or write SELECT ... FROM autoembed.search_rows(...) AS found (...).",
        )
    }));
    or_raise(search::rows::search(of, &request, &mut answer));
    answer.done()
}

#[pg_extern(sql = false)]
fn row_search_statement(vectorizer: Option<i32>, k: Option<i32>, filter: Option<Json>, made: Option<i64>) -> String {
    let of = Of { id: given(vectorizer, "vectorizer"), made };
    or_raise(search::row_statement(of, k, filter))
}

#[pg_extern(sql = false)]
fn search_statement(
    vectorizer: Option<i32>,
    k: Option<i32>,
    filter: Option<Json>,
    mode: Option<String>,
    made: Option<i64>,
) -> String {
    let of = Of { id: given(vectorizer, "vectorizer"), made };
    or_raise(search::statement(of, k, filter, &given(mode, "mode")))
}

#[pg_extern(sql = false)]
fn word_information(word: Option<String>, rows: Option<f64>, found: Option<i64>, looked_at: Option<f64>) -> f64 {
    hybrid::word_information(&word.unwrap_or_default(), rows.unwrap_or(0.0), found.unwrap_or(0), looked_at)
}

#[pg_extern(sql = false)]
fn words_matched(
    information: Option<Vec<f64>>,
    ranks: Option<Vec<f32>>,
    length: Option<f64>,
    usual_length: Option<f64>,
) -> f64 {
    let length = length.unwrap_or(0.0) / usual_length.filter(|usual| *usual > 0.0).unwrap_or(1.0);
    fusion::matched(&hybrid::words(&information.unwrap_or_default(), &ranks.unwrap_or_default()), length)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn fused(
    similarity: Option<f64>,
    usual: Option<f64>,
    best: Option<f64>,
    information: Option<Vec<f64>>,
    ranks: Option<Vec<f32>>,
    matched: Option<f64>,
    best_matched: Option<f64>,
    rows: Option<f64>,
) -> f64 {
    let similarity = Similarity { own: similarity, usual: usual.unwrap_or(0.0), best: best.unwrap_or(1.0) };
    let words = hybrid::words(&information.unwrap_or_default(), &ranks.unwrap_or_default());
    let matched = (matched.unwrap_or(0.0), best_matched.unwrap_or(0.0));
    let likeness = fusion::likeness(similarity);
    likeness + fusion::credit(&words, matched, likeness, rows.unwrap_or(0.0))
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
