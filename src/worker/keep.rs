//! Housekeeping: old entries of the request log are added up and removed, old failures are forgotten, names are brought up to
//! date.

use crate::pg::catalog;
use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, args};
use crate::pg::settings::Work;
use crate::worker::{self, check};
use std::time::Duration;

/// How often.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// After tables were changed: names and column numbers come together again, and each vectorizer is looked at.
pub fn follow_tables() -> Result<(), Caught> {
    worker::transaction(|| {
        catalog::repair();
        check::all();
    })
}

/// Keeps house once.
pub fn house(work: &Work) -> Result<(), Caught> {
    const LOG: &str = "WITH old AS (DELETE FROM autoembed.request WHERE at < clock_timestamp() - $1 * interval '1 s' RETURNING *), \
         days AS (INSERT INTO autoembed.usage_day AS u (model, day, requests, inputs, tokens, cost, errors, cache_hits) \
           SELECT model, timezone('UTC', at)::date, count(*) FILTER (WHERE inputs > 0), sum(inputs), COALESCE(sum(tokens), 0), sum(cost), \
             count(error_code), sum(cached) FROM old WHERE NOT noted GROUP BY 1, 2 ON CONFLICT (model, day) DO UPDATE SET \
             requests = u.requests + EXCLUDED.requests, inputs = u.inputs + EXCLUDED.inputs, tokens = u.tokens + EXCLUDED.tokens, \
             cost = u.cost + EXCLUDED.cost, errors = u.errors + EXCLUDED.errors, cache_hits = u.cache_hits + EXCLUDED.cache_hits), \
         sums AS (SELECT vectorizer_id, sum(rows) AS rows, sum(truncated) AS truncated FROM old GROUP BY 1) \
         UPDATE autoembed.vectorizer v SET embedded = v.embedded + sums.rows, truncated = v.truncated + sums.truncated \
         FROM sums WHERE v.id = sums.vectorizer_id";
    const FAILED: &str = "DELETE FROM autoembed.failed WHERE failed_at < clock_timestamp() - $1 * interval '1 s'";
    worker::transaction(|| {
        as_extension(|| {
            spi::execute(LOG, args![work.request_retention.as_secs_f64()]);
            remove_orphans("job");
            remove_orphans("embedded");
            spi::execute(FAILED, args![work.failed_retention.as_secs_f64()]);
        });
    })
}

/// Removes what was put back, or written down, while its vectorizer was disabled. The numbers of vectorizers are found by skipping
/// through the index.
fn remove_orphans(table: &str) {
    let sql = format!(
        "WITH RECURSIVE ids AS ((SELECT vectorizer_id AS id FROM autoembed.{table} ORDER BY vectorizer_id LIMIT 1) \
         UNION ALL SELECT (SELECT t.vectorizer_id FROM autoembed.{table} t WHERE t.vectorizer_id > ids.id ORDER BY t.vectorizer_id LIMIT 1) \
         FROM ids WHERE ids.id IS NOT NULL) \
         DELETE FROM autoembed.{table} WHERE vectorizer_id IN (SELECT ids.id FROM ids WHERE ids.id IS NOT NULL \
         AND NOT EXISTS (SELECT FROM autoembed.vectorizer v WHERE v.id = ids.id))"
    );
    spi::execute(&sql, &[]);
}
