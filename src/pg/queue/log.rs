//! The log of requests.

use crate::pg::ffi::rights::as_queue;
use crate::pg::ffi::spi::{self, Arg, Mode};
use pgrx::datum::TimestampWithTimeZone;

/// What one request did.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The model's name.
    pub model: String,
    /// Texts sent.
    pub inputs: i32,
    /// Vectors written.
    pub rows: i32,
    /// Texts that needed no request.
    pub cached: i32,
    /// Rows whose text was cut.
    pub truncated: i32,
    /// Tokens.
    pub tokens: Option<i64>,
    /// US dollars.
    pub cost: f64,
    /// What it cost is counted elsewhere: see [`crate::pg::usage::note`].
    pub is_noted: bool,
    /// From sending to the answer.
    pub ms: f32,
    /// When the first of the rows was queued whose vectors were written, in the server's microseconds; `None`: there were none.
    pub oldest: Option<i64>,
    /// Jobs of the vectorizer that nobody has in hand; `None`: not counted.
    pub waiting: Option<i64>,
    /// HTTP status, where there was one.
    pub status: Option<i32>,
    /// The failure's code.
    pub error_code: Option<String>,
}

/// Writes the request log; `None`: a request that was made for no vectorizer.
pub fn log(vectorizer: Option<i32>, entry: &Logged) {
    // A clock that was put back makes nothing wait for less than no time.
    const SQL: &str = "INSERT INTO autoembed.request (vectorizer_id, model, inputs, rows, tokens, ms, status, error_code, cached, truncated, cost, noted, waited_ms, pending) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
           CASE WHEN $13 IS NOT NULL THEN GREATEST(date_part('epoch', clock_timestamp() - $13) * 1000, 0) END, \
           CASE WHEN $14 IS NOT NULL THEN $14 + COALESCE((SELECT GREATEST(b.total - b.walked, 0) FROM autoembed.backfill b \
             WHERE b.vectorizer_id = $1 AND b.walked_at IS NULL), 0) END)";
    let oldest = entry.oldest.and_then(|at| TimestampWithTimeZone::try_from(at).ok());
    as_queue(|| {
        spi::planned(
            SQL,
            &[
                Arg::new::<i32>(vectorizer),
                Arg::new(entry.model.clone()),
                Arg::new(entry.inputs),
                Arg::new(entry.rows),
                Arg::new::<i64>(entry.tokens),
                Arg::new(entry.ms),
                Arg::new::<i32>(entry.status),
                Arg::new::<String>(entry.error_code.clone()),
                Arg::new(entry.cached),
                Arg::new(entry.truncated),
                Arg::new(entry.cost),
                Arg::new(entry.is_noted),
                Arg::new::<TimestampWithTimeZone>(oldest),
                Arg::new::<i64>(entry.waiting),
            ],
            Mode::Write,
            |_| (),
        )
    });
}
