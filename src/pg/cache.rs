//! Vectors that this process remembers: by owner, so that nobody can tell from the time of an answer what others asked for.

use crate::pg::settings;
use lru::LruCache;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::time::Instant;

/// Whose it is (the user who asks, or the owner of the table that is embedded), and the hash of model, kind and text
/// ([`autoembed_core::hash::cache_key`]).
pub type Key = (pg_sys::Oid, [u8; 32]);
type Cache = LruCache<Key, (Instant, Vec<f32>)>;

thread_local! {
    static CACHE: RefCell<Option<Cache>> = const { RefCell::new(None) };
}

/// The vector that is remembered for `key`, if it is not too old.
pub fn get(key: &Key) -> Option<Vec<f32>> {
    let (_, ttl) = settings::cache();
    with_cache(|cache| {
        let (at, vector) = cache.get(key)?;
        (at.elapsed() <= ttl).then(|| vector.clone())
    })
}

/// Remembers a vector; the one that was not asked for the longest is forgotten.
pub fn put(key: Key, vector: &[f32]) {
    with_cache(|cache| cache.put(key, (Instant::now(), vector.to_vec())));
}

/// Nothing where the cache is switched off.
fn with_cache<R>(body: impl FnOnce(&mut Cache) -> Option<R>) -> Option<R> {
    let (size, _) = settings::cache();
    CACHE.with_borrow_mut(|cache| {
        let Some(size) = NonZeroUsize::new(size) else {
            *cache = None;
            return None;
        };
        let cache = cache.get_or_insert_with(|| LruCache::new(size));
        if cache.cap() != size {
            cache.resize(size);
        }
        body(cache)
    })
}
