//! Housekeeping: old entries of the request log are added up and removed, old failures are forgotten, names are brought up to
//! date.

use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::utility::{self, Changed};
use crate::pg::repair;
use crate::pg::settings::Work;
use crate::worker::{self, check, index};
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How often.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Vectorizers that are looked at in one transaction.
const AT_ONCE: usize = 50;
/// How often all of them are looked at where it is not known which tables were changed.
const ALL_AGAIN: Duration = Duration::from_secs(10);

/// Brings names and column numbers together again, and looks at each vectorizer.
pub fn follow_tables() -> Result<(), Caught> {
    const SQL: &str = "SELECT id FROM autoembed.vectorizer ORDER BY id";
    let all = worker::transaction(|| {
        repair::all();
        as_extension(|| spi::query(SQL, &[], Mode::Write, |row| row.or_default::<i32>(1)))
    })?;
    look_at(&all)
}

fn look_at(vectorizers: &[i32]) -> Result<(), Caught> {
    vectorizers.chunks(AT_ONCE).try_for_each(|some| worker::transaction(|| check::these(some)))
}

/// Looks at the vectorizers whose tables were changed, soon after it, and at no others.
pub struct Follower {
    wants_all: bool,
    all_at: Instant,
}

/// Vectorizers that were looked at.
pub enum Followed {
    /// These.
    These(Vec<i32>),
    /// Each one.
    All,
}

impl Follower {
    /// All have just been looked at, or are about to be.
    pub fn new() -> Follower {
        utility::changed_tables();
        Follower { wants_all: false, all_at: Instant::now() + ALL_AGAIN }
    }

    /// From time to time. After an error all are looked at, when it is their time.
    pub fn follow(&mut self) -> Result<Followed, Caught> {
        let changed = utility::changed_tables();
        self.wants_all |= changed == Changed::All;
        if self.wants_all && Instant::now() >= self.all_at {
            self.all_at = Instant::now() + ALL_AGAIN;
            follow_tables()?;
            self.wants_all = false;
            return Ok(Followed::All);
        }
        let followed = match changed {
            Changed::Tables(tables) if !tables.is_empty() => follow_these(&tables),
            Changed::Tables(_) | Changed::All => Ok(Vec::new()),
        };
        self.wants_all |= followed.is_err();
        followed.map(Followed::These)
    }
}

/// Looks at the vectorizers of these tables, and of those that they are partitions of.
fn follow_these(tables: &[pg_sys::Oid]) -> Result<Vec<i32>, Caught> {
    const SQL: &str = "SELECT v.id FROM autoembed.vectorizer v WHERE v.source::oid = ANY ($1) OR v.chunk_table::oid = ANY ($1) \
         OR v.source::oid IN (SELECT a.relid::oid FROM unnest($1) AS t (changed) CROSS JOIN pg_partition_ancestors(t.changed) a) ORDER BY v.id";
    let concerned = worker::transaction(|| {
        let concerned: Vec<i32> =
            as_extension(|| spi::planned(SQL, args![tables.to_vec()], Mode::Write, |row| row.or_default(1)));
        if !concerned.is_empty() {
            repair::all();
        }
        concerned
    })?;
    look_at(&concerned)?;
    if !concerned.is_empty() {
        index::start_indexes()?;
    }
    Ok(concerned)
}

/// Keeps house once; `is_first`: a worker has just begun. A restore brings all vectorizers in one statement, after the other tables: where there is
/// none, that of waiting rows may be still to come, and a sum that is made of the log now would be in the way of the sum that comes.
pub fn house(work: &Work, is_first: bool) -> Result<(), Caught> {
    const LOG: &str = "WITH old AS (DELETE FROM autoembed.request WHERE at < clock_timestamp() - $1 * interval '1 s' RETURNING *), \
         days AS (INSERT INTO autoembed.usage_day AS u (model, day, requests, inputs, tokens, cost, errors, cache_hits) \
           SELECT model, timezone('UTC', at)::date, count(*) FILTER (WHERE inputs > 0), sum(inputs), COALESCE(sum(tokens), 0), sum(cost), \
             count(error_code), sum(cached) FROM old WHERE NOT noted GROUP BY 1, 2 ON CONFLICT (model, day) DO UPDATE SET \
             requests = u.requests + EXCLUDED.requests, inputs = u.inputs + EXCLUDED.inputs, tokens = u.tokens + EXCLUDED.tokens, \
             cost = u.cost + EXCLUDED.cost, errors = u.errors + EXCLUDED.errors, cache_hits = u.cache_hits + EXCLUDED.cache_hits), \
         sums AS (SELECT vectorizer_id, sum(rows) AS rows, sum(truncated) AS truncated FROM old GROUP BY 1) \
         UPDATE autoembed.vectorizer v SET embedded = v.embedded + sums.rows, truncated = v.truncated + sums.truncated \
         FROM sums WHERE v.id = sums.vectorizer_id";
    const ANY: &str = "SELECT EXISTS (SELECT FROM autoembed.vectorizer)";
    const FAILED: &str = "DELETE FROM autoembed.failed WHERE failed_at < clock_timestamp() - $1 * interval '1 s'";
    worker::transaction(|| {
        as_extension(|| {
            let is_any = spi::planned(ANY, &[], Mode::Write, |row| row.or_default::<bool>(1)).first() == Some(&true);
            if is_any {
                remove_orphans("job");
                remove_orphans("embedded");
            } else if is_first {
                return;
            }
            spi::execute(LOG, args![work.request_retention.as_secs_f64()]);
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
