//! Embedding in the user's own session: cancellable, and remembered by the session.

use crate::pg::call::{self, Called};
use crate::pg::catalog::{self, StoredModel};
use crate::pg::error::{Error, Result, of_failure};
use crate::pg::ffi::{process, rights};
use crate::pg::settings;
use autoembed_core::{Failure, InputKind};
use autoembed_http::Pool;
use lru::LruCache;
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// The user who asked, and the hash of model and text.
type Key = (u32, [u8; 32]);
type Cache = LruCache<Key, (Instant, Vec<f32>)>;

thread_local! {
    static CACHE: RefCell<Option<Cache>> = const { RefCell::new(None) };
    static POOL: RefCell<Option<Pool<Called>>> = const { RefCell::new(None) };
}

fn remembered(key: &Key) -> Option<Vec<f32>> {
    let (size, ttl) = settings::cache();
    CACHE.with(|cache| {
        let mut cache = cache.borrow_mut();
        let size = NonZeroUsize::new(size)?;
        let cache = cache.as_mut()?;
        cache.resize(size);
        let (at, vector) = cache.get(key)?;
        (at.elapsed() <= ttl).then(|| vector.clone())
    })
}

fn remember(key: Key, vector: &[f32]) {
    let (size, _) = settings::cache();
    CACHE.with(|cache| {
        let mut cache = cache.borrow_mut();
        match NonZeroUsize::new(size) {
            None => *cache = None,
            Some(size) => {
                cache.get_or_insert_with(|| LruCache::new(size)).put(key, (Instant::now(), vector.to_vec()));
            }
        }
    });
}

/// The vector of one text by the model called `name`, from memory where this user asked for it before.
///
/// # Errors
/// Bad input, an unknown model, and all that calling the model can bring.
pub fn vector_of(text: &str, name: &str, kind: InputKind) -> Result<Vec<f32>> {
    if text.trim().is_empty() {
        return Err(Error::argument("there is no text to embed", "Give at least one word."));
    }
    let stored = catalog::model(name)?;
    let key = (rights::current_user().to_u32(), autoembed_core::hash::cache_key(&stored.model, kind, text));
    if let Some(vector) = remembered(&key) {
        return Ok(vector);
    }
    let (called, _) = call_now(&stored, kind, vec![text.to_string()]);
    let answer = called.result.map_err(|failure| of_failure(name, &failure))?;
    let vector = answer.vectors.data;
    remember(key, &vector);
    Ok(vector)
}

/// Calls a model from this session and waits for it; a cancel or a termination of the session is obeyed at once. Also tells
/// how long the call took.
pub fn call_now(stored: &StoredModel, kind: InputKind, texts: Vec<String>) -> (Called, Duration) {
    let started = Instant::now();
    let endpoint = match call::endpoint(stored) {
        Ok(endpoint) => endpoint,
        Err(failure) => return (Called { result: Err(failure), status: None }, started.elapsed()),
    };
    if !stored.model.provider.is_remote() {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        return (endpoint.call(kind, &texts), started.elapsed());
    }
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
            let called = done.unwrap_or_else(|panicked| Called {
                result: Err(Failure::new(
                    autoembed_core::Action::Retry,
                    "internal",
                    &panicked.to_string(),
                    "This is a fault of autoembed; please report it.",
                )),
                status: None,
            });
            return (called, started.elapsed());
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
