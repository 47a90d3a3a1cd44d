//! One drain of a full queue, and one UPDATE that writes the same vectors: what the drain is measured against.

use super::scene::{Bench, Session, Used, enable, fresh_table, insert, newest_job};
use autoembed_stub::Stub;

/// A table and how it is to be filled.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Rows that wait.
    pub rows: usize,
    /// Dimensions of their vectors.
    pub dims: usize,
    /// The model.
    pub model: &'a str,
    /// Whether the column has its HNSW index before it is filled.
    pub indexed: bool,
    /// Sessions that call `embed_pending()` beside the worker.
    pub helpers: usize,
}

/// What a drain took.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Rows a second.
    pub rate: f64,
    /// Bytes of WAL a row.
    pub wal: f64,
    /// Processor seconds of the worker a thousand rows.
    pub cpu: f64,
    /// The most memory of the worker's own, in MB.
    pub peak: f64,
    /// Requests to the embedding server.
    pub requests: f64,
    /// The most at once.
    pub at_once: f64,
}

const LSN: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')";
const INDEX: &str = "CREATE INDEX docs_hnsw ON docs USING hnsw (embedding vector_cosine_ops)";

/// What an index needs, alone, for a column that is full; in seconds.
pub fn index_afterwards(db: &mut Session) -> Result<f64, String> {
    db.timed(&INDEX.replace("INDEX", "INDEX CONCURRENTLY"))
}

fn prepare(bench: &Bench, db: &mut Session, job: &Job, embedded: bool, round: usize) -> Result<(), String> {
    fresh_table(db, job.dims)?;
    if job.indexed {
        db.run(INDEX)?;
    }
    if embedded {
        enable(db, job.model, true)?;
    }
    db.run(&insert(job.rows, round))?;
    db.run("ANALYZE docs")?;
    bench.check()?;
    db.run("CHECKPOINT")
}

fn all_have_vectors(db: &mut Session, rows: usize) -> Result<(), String> {
    let found = db.number("SELECT count(embedding) FROM docs")?;
    if found == rows as f64 { Ok(()) } else { Err(format!("{found} of {rows} rows have a vector")) }
}

/// Fills a new table and lets the worker embed it; from `resume()` until no job is left.
pub fn drain(
    bench: &Bench,
    db: &mut Session,
    database: &str,
    stub: &Stub,
    job: &Job,
    round: usize,
) -> Result<Drained, String> {
    let from = newest_job(db)?;
    prepare(bench, db, job, true, round)?;
    // The first worker of a database comes with its first vectorizer.
    let used = Used::by(bench.worker(database)?);
    stub.reset_stats();
    let before = db.number(LSN)?;
    let mut helpers = (0..job.helpers).map(|_| bench.session(database)).collect::<Result<Vec<_>, _>>()?;
    let begun = std::time::Instant::now();
    db.run("SELECT autoembed.resume('docs')")?;
    std::thread::scope(|scope| {
        for helper in &mut helpers {
            scope.spawn(move || {
                while helper.number("SELECT autoembed.embed_pending('docs', 100)").is_ok_and(|rows| rows > 0.0) {}
            });
        }
        bench.until_done(db, from)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let (rows, stats) = (job.rows as f64, stub.stats());
    let drained = Drained {
        rate: rows / seconds,
        wal: (db.number(LSN)? - before) / rows,
        cpu: used.cpu() * 1000.0 / rows,
        peak: used.peak(),
        requests: stats.requests as f64,
        at_once: stats.max_in_flight as f64,
    };
    all_have_vectors(db, job.rows)?;
    Ok(drained)
}

/// Keeps the vectors of `docs` as the table `staging_<model>`, for [`update`].
pub fn keep_as_staging(db: &mut Session, model: &str) -> Result<(), String> {
    db.run(&format!(
        "DROP TABLE IF EXISTS staging_{model}; CREATE TABLE staging_{model} AS SELECT id, embedding FROM docs;
         ALTER TABLE staging_{model} ADD PRIMARY KEY (id)"
    ))?;
    db.run(&format!("VACUUM (FREEZE, ANALYZE) staging_{model}"))
}

/// What one UPDATE took.
#[derive(Clone, Copy, Debug)]
pub struct Updated {
    /// Rows a second.
    pub rate: f64,
    /// Bytes of WAL a row.
    pub wal: f64,
    /// Processor seconds of the session a thousand rows.
    pub cpu: f64,
}

/// Fills a new table, without the extension, and writes the vectors from the staging table in one statement.
pub fn update(bench: &Bench, db: &mut Session, job: &Job, round: usize) -> Result<Updated, String> {
    prepare(bench, db, job, false, round)?;
    let before = db.number(LSN)?;
    let sql = format!(
        "UPDATE docs SET embedding = s.embedding FROM staging_{} s WHERE s.id = docs.id AND s.id <= {}",
        job.model, job.rows
    );
    // Enough memory that the plan is the best there is.
    db.run("SET work_mem = '512MB'")?;
    let used = Used::by(db.pid()?);
    let seconds = db.timed(&sql)?;
    let cpu = used.cpu() * 1000.0 / job.rows as f64;
    db.run("RESET work_mem")?;
    let rows = job.rows as f64;
    let wal = (db.number(LSN)? - before) / rows;
    all_have_vectors(db, job.rows)?;
    Ok(Updated { rate: rows / seconds, wal, cpu })
}
