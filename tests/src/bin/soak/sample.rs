//! What the load takes at one moment.

use super::{DATABASE, Load, session};
use autoembed_tests::db::explain;
use autoembed_tests::process::own_memory;
use autoembed_tests::{Cluster, Db};
use std::time::{Duration, Instant};

/// Figures since the sample before, or at the moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// Vectors written a second.
    pub rows_per_second: f64,
    /// Milliseconds from the commit of a row to its vector.
    pub vectors: Vec<f64>,
    /// Milliseconds of one-row INSERTs.
    pub inserts: Vec<f64>,
    /// Bytes of the worker's own memory.
    pub memory: f64,
    /// Jobs in the queue.
    pub jobs: f64,
    /// Bytes of the queue with its index.
    pub queue: f64,
    /// Dead rows in it, as the server's statistics say.
    pub dead: f64,
    /// Bytes of the other tables that the worker writes.
    pub others: f64,
}

/// Takes samples.
pub struct Sampler<'a> {
    cluster: &'a Cluster,
    db: Db,
    before: (Instant, f64),
}

const LOOK: &str = "SELECT (SELECT sum(embedded) FROM autoembed.status), (SELECT count(*) FROM autoembed.job), \
    pg_total_relation_size('autoembed.job'), \
    (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'autoembed.job'::regclass), \
    (SELECT sum(pg_total_relation_size(c)) FROM unnest(ARRAY['autoembed.request', 'autoembed.backfill', 'autoembed.usage_day', \
     'autoembed.model_state', 'autoembed.vectorizer_state', 'autoembed.vectorizer', 'autoembed.failed']::regclass[]) c)";

impl<'a> Sampler<'a> {
    /// The first sample counts from now.
    pub fn new(cluster: &'a Cluster) -> Result<Sampler<'a>, String> {
        let mut db = session(cluster, DATABASE)?;
        let embedded = look(&mut db)?[0];
        Ok(Sampler { cluster, db, before: (Instant::now(), embedded) })
    }

    /// One sample. Errors: what the server says, or that the worker is gone.
    pub fn take(&mut self, load: &Load, at: Duration) -> Result<Sample, String> {
        load.check()?;
        let seen = look(&mut self.db)?;
        let (now, window) = (Instant::now(), load.end_window());
        let worker = self.cluster.worker_pid(DATABASE).ok_or("the worker is gone")?;
        let took = now.duration_since(self.before.0).as_secs_f64().max(0.001);
        let sample = Sample {
            at,
            rows_per_second: (seen[0] - self.before.1) / took,
            vectors: window.vectors,
            inserts: window.inserts,
            memory: own_memory(worker).unwrap_or(0) as f64,
            jobs: seen[1],
            queue: seen[2],
            dead: seen[3],
            others: seen[4],
        };
        self.before = (now, seen[0]);
        Ok(sample)
    }
}

fn look(db: &mut Db) -> Result<Vec<f64>, String> {
    let rows = db.try_rows(LOOK).map_err(|e| explain(&e))?;
    let row = rows.into_iter().next().unwrap_or_default();
    Ok(row.into_iter().map(|value| value.and_then(|value| value.parse().ok()).unwrap_or(0.0)).collect())
}
