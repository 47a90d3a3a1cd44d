//! The server of a run, a database for each measurement, and what all of them do there.

use super::machine;
use autoembed_stub::{Stub, StubConfig, Vectors};
use autoembed_tests::db::{explain, literal};
use autoembed_tests::process::Peak;
use autoembed_tests::{Cluster, Db};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The most texts that a request to this provider takes.
pub const BATCH: usize = 2048;
/// Most of a text: about what a short message has.
pub const WORDS: &str = "my parcel was to arrive on Tuesday and never did; where is it now, and who pays for it?";

/// The text of a row, unlike every other.
pub fn text_of(row: usize) -> String {
    format!("message {row}: {WORDS}")
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Whether it works at all, in seconds.
    Tiny,
    /// All in five minutes.
    Quick,
    /// All in half an hour.
    Full,
}

impl Size {
    /// One of three.
    pub fn of<T>(self, tiny: T, quick: T, full: T) -> T {
        match self {
            Size::Tiny => tiny,
            Size::Quick => quick,
            Size::Full => full,
        }
    }

    /// A budget of so many seconds.
    pub fn seconds(self, quick: u64, full: u64) -> Duration {
        Duration::from_secs(self.of(0, quick, full))
    }
}

/// A session whose errors are sentences.
pub struct Session(Db);

impl Session {
    /// Runs statements; several are one transaction. Errors: the server's.
    pub fn run(&mut self, sql: &str) -> Result<(), String> {
        self.0.batch_execute(sql).map_err(|e| explain(&e))
    }

    /// The first value; an error where there is none.
    pub fn text(&mut self, sql: &str) -> Result<String, String> {
        let rows = self.0.try_rows(sql).map_err(|e| explain(&e))?;
        rows.into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten())
            .ok_or_else(|| format!("nothing from {sql}"))
    }

    /// The first value as a number.
    pub fn number(&mut self, sql: &str) -> Result<f64, String> {
        let text = self.text(sql)?;
        text.parse().map_err(|_| format!("{text} is no number, from {sql}"))
    }

    /// The first column of all rows.
    pub fn column(&mut self, sql: &str) -> Result<Vec<String>, String> {
        let rows = self.0.try_rows(sql).map_err(|e| explain(&e))?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    /// How many seconds the statements took.
    pub fn timed(&mut self, sql: &str) -> Result<f64, String> {
        let begun = Instant::now();
        self.run(sql)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Everything that `SELECT` gives is read and forgotten; seconds.
    pub fn timed_query(&mut self, sql: &str) -> Result<f64, String> {
        let begun = Instant::now();
        self.0.simple_query(sql).map_err(|e| explain(&e))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// COPY from memory; seconds.
    pub fn timed_copy(&mut self, sql: &str, data: &[u8]) -> Result<f64, String> {
        let begun = Instant::now();
        let mut copy = self.0.copy_in(sql).map_err(|e| explain(&e))?;
        std::io::Write::write_all(&mut copy, data).map_err(|e| e.to_string())?;
        copy.finish().map_err(|e| explain(&e))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The process that serves this session.
    pub fn pid(&mut self) -> Result<i32, String> {
        Ok(self.number("SELECT pg_backend_pid()")? as i32)
    }

    /// The session itself, for prepared statements.
    pub fn db(&mut self) -> &mut Db {
        &mut self.0
    }
}

/// A run: its server, and what it was asked for.
pub struct Bench<'a> {
    /// The server; commits reach the disk.
    pub cluster: Cluster,
    /// How much is measured.
    pub size: Size,
    interrupted: &'a (dyn Fn() -> bool + Sync),
    say: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Bench<'a> {
    /// Starts the server. Errors: it does not start.
    pub fn start(
        size: Size,
        interrupted: &'a (dyn Fn() -> bool + Sync),
        say: &'a (dyn Fn(&str) + Sync),
    ) -> Result<Bench<'a>, String> {
        let buffers = (machine::memory_bytes() / 4 / 1_048_576).clamp(128, 2048);
        let cluster = Cluster::builder()
            .preload(true)
            .durable(true)
            .setting("shared_buffers", &format!("{buffers}MB"))
            .setting("maintenance_work_mem", &format!("{}MB", buffers / 4))
            .setting("max_connections", "100")
            // Checkpoints come when the program says so, and then WAL files are used again instead of made anew.
            .setting("checkpoint_timeout", "1h")
            .setting("max_wal_size", "10GB")
            .setting("min_wal_size", &format!("{}MB", size.of(80, 1024, 4096)))
            .try_start()
            .map_err(|e| e.to_string())?;
        let bench = Bench { cluster, size, interrupted, say };
        bench.fill_wal(size.of(0, 512, 2048))?;
        Ok(bench)
    }

    /// A server that has run for a while has its WAL files; a new one would make them in the first measurements.
    fn fill_wal(&self, megabytes: usize) -> Result<(), String> {
        let mut db = self.session("postgres")?;
        for _ in 0..megabytes / 16 {
            self.check()?;
            db.text("SELECT pg_logical_emit_message(false, 'bench', repeat('x', 16000000))::text")?;
        }
        db.run("CHECKPOINT")
    }

    /// Tells people what goes on.
    pub fn say(&self, line: &str) {
        (self.say)(line);
    }

    /// Whether somebody wants it to end.
    pub fn is_interrupted(&self) -> bool {
        (self.interrupted)()
    }

    /// Errors: somebody wants it to end.
    pub fn check(&self) -> Result<(), String> {
        if self.is_interrupted() { Err("interrupted".into()) } else { Ok(()) }
    }

    /// Where the server's data is.
    pub fn data(&self) -> PathBuf {
        self.cluster.socket_dir().join("data")
    }

    /// A session of the superuser. Errors: the server's.
    pub fn session(&self, database: &str) -> Result<Session, String> {
        self.check()?;
        session(&self.cluster, database)
    }

    /// A new database with the extension, and a session there.
    pub fn database(&self, name: &str) -> Result<Session, String> {
        self.session("postgres")?.run(&format!("CREATE DATABASE {name}"))?;
        let mut db = self.session(name)?;
        db.run("CREATE EXTENSION autoembed CASCADE")?;
        Ok(db)
    }

    /// Ends a database and all that is in it.
    pub fn drop_database(&self, name: &str) -> Result<(), String> {
        let mut db = self.session("postgres")?;
        db.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        db.run("CHECKPOINT")
    }

    /// The worker's process. Errors: there is none within ten seconds.
    pub fn worker(&self, database: &str) -> Result<i32, String> {
        let begun = Instant::now();
        loop {
            self.check()?;
            match self.cluster.worker_pid(database) {
                Some(pid) => return Ok(pid),
                None if begun.elapsed() > Duration::from_secs(10) => return Err("there is no worker".into()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until the table `docs` has no work ahead, of that with numbers above `from`; gives the seconds that took. Errors: it never ends.
    pub fn until_done(&self, db: &mut Session, from: i64) -> Result<f64, String> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let asked = Instant::now();
            if db.text(&work_ahead(from))? == "f" {
                return Ok(begun.elapsed().as_secs_f64());
            }
            if begun.elapsed() > Duration::from_secs(900) {
                return Err("the work does not end".into());
            }
            // Looking must not cost what it measures.
            std::thread::sleep((asked.elapsed() * 20).clamp(Duration::from_millis(2), Duration::from_millis(100)));
        }
    }
}

/// The number of the newest job.
pub fn newest_job(db: &mut Session) -> Result<i64, String> {
    Ok(db.number("SELECT last_value FROM autoembed.job_id_seq")? as i64)
}

/// The id of the vectorizer of the table `docs`. What one that has ended may have left in the queue is not its work.
const OF_DOCS: &str = "(SELECT id FROM autoembed.vectorizer WHERE source = to_regclass('docs'))";

/// Whether there is work ahead. Where dead rows of earlier work cannot be removed, their numbers are not looked at.
pub fn work_ahead(from: i64) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM autoembed.job WHERE vectorizer_id = {OF_DOCS} AND lane = ANY ('{{0,1}}') AND id > {from}) \
         OR EXISTS (SELECT FROM autoembed.backfill WHERE vectorizer_id = {OF_DOCS} AND walked_at IS NULL)"
    )
}

/// How many jobs there are.
pub fn jobs() -> String {
    format!("SELECT count(*) FROM autoembed.job WHERE vectorizer_id = {OF_DOCS}")
}

/// A session of the superuser on any server. Errors: the server's.
pub fn session(cluster: &Cluster, database: &str) -> Result<Session, String> {
    cluster.try_client_as(database, "postgres").map(Session).map_err(|e| explain(&e))
}

/// An embedding server of a run.
pub fn stub(vectors: Vectors, latency: Duration) -> Result<Stub, String> {
    Stub::start(StubConfig { latency, ..StubConfig::vectors(vectors) })
        .map_err(|e| format!("the embedding server: {e}"))
}

/// A model that is answered by this server.
pub fn create_model(db: &mut Session, name: &str, dims: usize, stub: &Stub) -> Result<(), String> {
    create_model_in_batches(db, name, dims, stub, BATCH)
}

/// The same, with at most so many texts in a request.
pub fn create_model_in_batches(
    db: &mut Session,
    name: &str,
    dims: usize,
    stub: &Stub,
    most: usize,
) -> Result<(), String> {
    let url = literal(&stub.url());
    db.run(&format!(
        "SELECT autoembed.create_model('{name}', 'openai', dimensions => {dims}, model => 'm', url => {url}, \
         max_batch_inputs => {most})"
    ))
}

/// An empty table `docs`, not embedded; one that was there is gone, with its work.
pub fn fresh_table(db: &mut Session, dims: usize) -> Result<(), String> {
    drop_table(db)?;
    db.run(&format!(
        "CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, note int NOT NULL DEFAULT 0, \
         embedding vector({dims}))"
    ))
}

/// Ends the table `docs`, if there is one, and empties the queue.
pub fn drop_table(db: &mut Session) -> Result<(), String> {
    db.run(
        "DO $$ BEGIN IF EXISTS (SELECT FROM autoembed.vectorizer) THEN PERFORM autoembed.disable('docs'); END IF; END $$",
    )?;
    db.run("DROP TABLE IF EXISTS docs")?;
    db.run("VACUUM autoembed.job")
}

/// Has the table embedded from now on; `paused` leaves the work waiting.
pub fn enable(db: &mut Session, model: &str, paused: bool) -> Result<(), String> {
    db.run(&format!("SELECT autoembed.enable('docs', 'body', model => '{model}', index => 'none')"))?;
    if paused { db.run("SELECT autoembed.pause('docs')") } else { Ok(()) }
}

/// Rows in one statement; `round` makes their texts unlike those of other rounds, which may be remembered.
pub fn insert(rows: usize, round: usize) -> String {
    format!(
        "INSERT INTO docs (body) SELECT 'message {round}.' || i || {} FROM generate_series(1, {rows}) i",
        literal(&format!(": {WORDS}"))
    )
}

/// An empty table `outbox`, as one that keeps its own list of work would have it.
pub fn fresh_outbox(db: &mut Session) -> Result<(), String> {
    db.run("DROP TABLE IF EXISTS outbox")?;
    db.run("CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL)")
}

/// An INSERT into `docs` that writes the keys into the outbox as well.
pub fn with_outbox(insert: &str) -> String {
    format!("WITH new AS ({insert} RETURNING id) INSERT INTO outbox (key) SELECT id FROM new")
}

/// What a process has used since it was looked at first.
pub struct Used {
    pid: i32,
    ticks: u64,
    peak: Peak,
}

impl Used {
    /// Begins to look.
    pub fn by(pid: i32) -> Used {
        Used { pid, ticks: ticks(pid), peak: Peak::of(pid) }
    }

    /// Seconds of processor time, of all threads.
    pub fn cpu(&self) -> f64 {
        // The kernel counts in hundredths for everybody, whatever it does inside.
        ticks(self.pid).saturating_sub(self.ticks) as f64 / 100.0
    }

    /// The most memory of its own, in MB.
    pub fn peak(&self) -> f64 {
        self.peak.bytes() as f64 / 1_048_576.0
    }
}

fn ticks(pid: i32) -> u64 {
    of_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())
}

fn of_stat(stat: &str) -> u64 {
    // The name, in parentheses, may hold anything; user and system time are the 14th and 15th field.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_user_and_system() {
        assert_eq!(of_stat("12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 5"), 42);
        assert_eq!(of_stat(""), 0);
    }

    #[test]
    fn texts_differ() {
        assert_ne!(text_of(1), text_of(11));
        assert_ne!(insert(5, 1), insert(5, 2));
    }
}
