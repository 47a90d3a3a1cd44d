//! Embedding in the user's own session: cancellable, remembered, counted.

use crate::pg::cache;
use crate::pg::call::{self, Called, Endpoint};
use crate::pg::catalog::{self, StoredModel};
use crate::pg::error::{Error, Result, of_failure};
use crate::pg::ffi::settings::made_up;
use crate::pg::ffi::{process, rights};
use crate::pg::{settings, usage};
use autoembed_core::batch::{estimate_tokens, truncate};
use autoembed_core::learned::shorter;
use autoembed_core::model::TooLong;
use autoembed_core::usage::{Usage, cost, may_have_cost};
use autoembed_core::{Action, Answer, Failure, InputKind, hash};
use autoembed_http::Pool;
use pgrx::PgSqlErrorCode;
use std::cell::RefCell;
use std::time::{Duration, Instant};

thread_local! {
    static POOL: RefCell<Option<Pool<Called>>> = const { RefCell::new(None) };
}

/// The model called `name`, for whoever may call it at any time: the built-in one costs nothing and is for everybody.
///
/// # Errors
/// 42704 where there is none, 42501 where the caller may not.
pub fn model_for_caller(name: &str) -> Result<StoredModel> {
    let stored = catalog::model(name)?;
    if stored.model.provider.is_remote() && !catalog::may_call(rights::current_user(), name) {
        return Err(Error::rights(
            format!("permission denied for model \"{name}\""),
            "Whoever may read a table that the model embeds may call it; others need GRANT EXECUTE ON FUNCTION autoembed.embed(text, text).",
        ));
    }
    Ok(stored)
}

/// The vector of a search text by the model called `name`.
///
/// # Errors
/// As [`model_for_caller`] and [`vector_of`].
pub fn vector_for_caller(text: &str, name: &str) -> Result<Vec<f32>> {
    let stored = model_for_caller(name)?;
    let under_policies = !made_up().is_empty() && catalog::is_under_policies(name);
    vector_of(text, stored, InputKind::Query, under_policies)
}

/// The vector of one text by a model, from memory where this user asked for it before. That the caller may call it has been
/// looked at. `under_policies`: it is for a table whose policies tell users apart.
///
/// # Errors
/// Bad input, a budget that is used up, and all that calling the model can bring.
pub fn vector_of(text: &str, mut stored: StoredModel, kind: InputKind, under_policies: bool) -> Result<Vec<f32>> {
    if text.trim().is_empty() {
        return Err(Error::argument("there is no text to embed", "Give at least one word."));
    }
    let name = stored.model.name.clone();
    let text = fitting(text, &stored, kind)?;
    let key = (rights::current_user(), memory_key(&stored, kind, text, under_policies));
    if let Some(vector) = cache::get(&key) {
        usage::note(&name, Usage { cache_hits: 1, ..Usage::default() });
        return Ok(vector);
    }
    let tokens = (estimate_tokens(text) + stored.model.prefix_size(kind).tokens) as u64;
    keep_budget(&stored, tokens)?;
    // Somebody waits for this one.
    let patience = settings::query_timeout();
    let is_shorter = patience < stored.model.timeout;
    stored.model.timeout = stored.model.timeout.min(patience);
    let answer = call_shorter(&stored, kind, text).map_err(|mut failure| {
        if failure.action == Action::Reject {
            failure.hint = "The server refuses this text. Give another, or a shorter one.".to_string();
        } else if is_shorter && failure.code == "timeout" {
            failure.hint = "Try it again, or give it more time with SET autoembed.query_timeout.".to_string();
        }
        of_failure(&name, &failure)
    })?;
    let vector = answer.vectors.data;
    cache::put(key, &vector);
    Ok(vector)
}

/// Under what a vector is remembered, for one role. Policies may tell users apart by settings (`app.user_id`) under one role, as servers do
/// that take a session from a pool for each request: by the time of an answer nobody is to tell what another of them has asked for.
fn memory_key(stored: &StoredModel, kind: InputKind, text: &str, under_policies: bool) -> [u8; 32] {
    let mut key = hash::cache_key(&stored.model, kind, text);
    let settings = if under_policies { made_up() } else { String::new() };
    if !settings.is_empty() {
        for (byte, other) in key.iter_mut().zip(hash::text_hash(&settings)) {
            *byte ^= other;
        }
    }
    key
}

/// One text; a text that the server calls too long is cut, a few times, where the model's options let it be.
fn call_shorter(stored: &StoredModel, kind: InputKind, text: &str) -> std::result::Result<Answer, Failure> {
    let mut text = text;
    let mut cuts_left = 3;
    loop {
        let (called, _) = call_now(stored, kind, vec![text.to_string()]);
        let failure = match called.result {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let what = failure.oversize.as_deref().filter(|_| stored.model.too_long() == TooLong::Truncate);
        let shorter = what.map(|what| truncate(text, shorter(estimate_tokens(text), what)));
        match shorter.filter(|shorter| cuts_left > 0 && shorter.len() < text.len() && !shorter.trim().is_empty()) {
            Some(shorter) => text = shorter,
            None => return Err(failure),
        }
        cuts_left -= 1;
    }
}

/// The part of a text that the model takes.
fn fitting<'t>(text: &'t str, stored: &StoredModel, kind: InputKind) -> Result<&'t str> {
    let most = stored.model.limits.input_tokens;
    let cut = truncate(text, most.saturating_sub(stored.model.prefix_size(kind).tokens).max(1));
    if cut.len() == text.len() || stored.model.too_long() == TooLong::Truncate {
        return Ok(cut);
    }
    Err(Error::argument(
        format!(
            "the text has more than the {most} tokens that model \"{}\" takes, by a cautious estimate",
            stored.model.name
        ),
        "Give a shorter text, or create the model with options => '{\"too_long\": \"truncate\"}'.",
    ))
}

fn keep_budget(stored: &StoredModel, tokens: u64) -> Result<()> {
    let name = &stored.model.name;
    let Some(budget) = stored.daily_token_budget else { return Ok(()) };
    let used = usage::used_lately(name);
    if used.saturating_add(tokens) <= budget {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        format!("the daily token budget of model \"{name}\" is used up: {used} of {budget} tokens"),
        "It begins anew at 00:00 UTC; a superuser can raise daily_token_budget in autoembed.models.",
    ))
}

/// Calls a model from this session and waits for it; a cancel or a termination of the session is obeyed at once. Also tells
/// how long the call took.
pub fn call_now(stored: &StoredModel, kind: InputKind, texts: Vec<String>) -> (Called, Duration) {
    let started = Instant::now();
    let name = stored.model.name.clone();
    let price = stored.model.price_per_million_tokens();
    let inputs = texts.len() as u64;
    let prefix = stored.model.prefix_size(kind).tokens;
    let estimated: usize = texts.iter().map(|text| estimate_tokens(text) + prefix).sum();
    let endpoint = match call::endpoint(stored) {
        Ok(endpoint) => endpoint,
        Err(failure) => return (Called::unanswered(failure), started.elapsed()),
    };
    if !stored.model.provider.is_remote() {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        return (endpoint.call(kind, &texts), started.elapsed());
    }
    // Until the answer is there: a request that is cancelled may have been paid for nevertheless.
    let usage = Usage { requests: 1, inputs, tokens: estimated as u64, errors: 1, ..Usage::default() };
    let mut count = Count { model: &name, price, usage };
    let called = send_and_wait(endpoint, kind, texts);
    match &called.result {
        Ok(answer) => {
            count.usage.tokens = answer.tokens.unwrap_or(estimated as u64);
            count.usage.errors = 0;
        }
        Err(failure) if may_have_cost(failure, called.status) => {}
        Err(_) => count.usage.tokens = 0,
    }
    drop(count);
    (called, started.elapsed())
}

/// Counts a request when it is over, also where it was cancelled.
struct Count<'a> {
    model: &'a str,
    price: Option<f64>,
    usage: Usage,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.usage.cost = cost(self.usage.tokens, self.price);
        usage::note(self.model, self.usage);
    }
}

fn send_and_wait(endpoint: Endpoint, kind: InputKind, texts: Vec<String>) -> Called {
    POOL.with(|pool| {
        // A call that was cancelled may still be under way in the old pool: its answer must not be taken for this one's.
        let mut pool = pool.borrow_mut();
        if pool.as_ref().is_none_or(|p| p.in_flight() > 0) {
            *pool = Some(Pool::new(1, process::waker()));
        }
    });
    submit(move || {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        endpoint.call(kind, &texts)
    });
    loop {
        if let Some(done) = POOL.with(|pool| pool.borrow_mut().as_mut().and_then(|p| p.try_recv())) {
            let called = done.unwrap_or_else(|panicked| {
                let hint = "This is a fault of autoembed; please report it.";
                let why = panicked.to_string();
                Called::unanswered(Failure::new(Action::Retry, "internal", &why, hint))
            });
            return called;
        }
        process::wait_latch(Duration::from_secs(1));
    }
}

fn submit(job: impl FnOnce() -> Called + Send + 'static) {
    POOL.with(|pool| {
        if let Some(pool) = pool.borrow_mut().as_mut() {
            pool.submit(Box::new(job));
        }
    });
}
