//! What must hold: for every row, computed from its text, in the end; for some of it, at every moment.

use super::ledger::Ledger;
use super::scene::{self, DIMS, MODEL, prefix};
use super::tables::{TABLES, Table};
use super::texts::POISON;
use autoembed_stub::hashed_vector;
use autoembed_tests::{Cluster, Db, vectors};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The longest transaction of the worker: it holds none while it waits for the API.
const WORKERS: &str = "SELECT extract(epoch FROM clock_timestamp() - xact_start), state, query FROM pg_stat_activity
    WHERE backend_type = 'autoembed worker' AND clock_timestamp() - xact_start > '5 s'";

/// Looks again and again while the run goes on, at what must hold at every moment.
pub fn watch(cluster: &Cluster, ledger: &Ledger) {
    let mut session: Option<Db> = None;
    while !ledger.stopping() {
        let Some(db) = &mut session else {
            session = scene::connect(cluster, scene::DATABASE, "postgres").ok();
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        if look(db, ledger).is_err() {
            session = None;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
}

/// Errors: the session is gone.
fn look(db: &mut Db, ledger: &Ledger) -> Result<(), postgres::Error> {
    for table in TABLES.iter().filter(|table| table.clears()) {
        // One statement is one snapshot: text and vector are of the same moment.
        let sql = format!(
            "SELECT {}, {}, embedding::text FROM {} WHERE embedding IS NOT NULL ORDER BY id DESC LIMIT 1500",
            table.key, table.input, table.name
        );
        let rows = db.try_rows(&sql)?;
        ledger.add("rows looked at meanwhile", rows.len() as u64);
        for row in rows {
            let [key, input, stored] = row.as_slice() else { continue };
            if !belongs(MODEL, input.as_deref(), stored.as_deref()) {
                let (name, key, input) = (table.name, key.as_deref().unwrap_or(""), shown(input.as_deref()));
                ledger.wrong(&format!("meanwhile: {name}, key {key}: a vector that is not of its text {input}"));
            }
        }
    }
    let before = ledger.unrest();
    let open = db.try_rows(WORKERS)?;
    if ledger.calm_since(before) && !open.is_empty() {
        ledger.wrong(&format!("the worker has had a transaction open for over 5 s: {open:?}"));
    }
    ledger.count("looks meanwhile");
    Ok(())
}

/// Whether this vector is what the text must have by this model.
fn belongs(model: &str, input: Option<&str>, stored: Option<&str>) -> bool {
    let text = input.filter(|text| !text.trim().is_empty());
    match (text, stored) {
        (None, None) => true,
        (Some(text), Some(stored)) => {
            vectors::same(&vectors::parse(stored), &hashed_vector(&format!("{}{text}", prefix(model)), DIMS))
        }
        _ => false,
    }
}

/// A chunk as it is stored.
struct Piece {
    start: usize,
    end: usize,
    text: String,
    vector: String,
}

/// What is wrong with the chunks of a text.
fn wrong_in(input: &str, pieces: &[Piece]) -> Option<String> {
    let is_left_out = |from: usize, to: usize| input.get(from..to).is_some_and(|text| text.trim().is_empty());
    let mut done = 0;
    for (number, piece) in pieces.iter().enumerate() {
        if input.get(piece.start..piece.end) != Some(piece.text.as_str()) {
            return Some(format!("stale: chunk {number} is of another text"));
        }
        if piece.start > done && !is_left_out(done, piece.start) {
            return Some(format!("lost: something before chunk {number}"));
        }
        if !belongs(MODEL, Some(&piece.text), Some(&piece.vector)) {
            return Some(format!("stale: chunk {number} has a vector of another text"));
        }
        done = done.max(piece.end);
    }
    (!is_left_out(done, input.len())).then(|| format!("lost: the end of the text, after {} chunks", pieces.len()))
}

fn shown(text: Option<&str>) -> String {
    text.map_or("NULL".to_owned(), |text| format!("{:?}", text.chars().take(60).collect::<String>()))
}

/// After healing: all work done, every row right. Errors: the server's.
pub struct Verdict<'a> {
    /// A superuser's session.
    pub db: Db,
    /// Where complaints go.
    pub ledger: &'a Ledger,
}

impl Verdict<'_> {
    /// Waits until all that was committed is done, and writes down what is still to do. `patience`: for how long it may not become
    /// less; how long all of it takes is the machine's business.
    pub fn wait(&mut self, patience: Duration) -> Result<(), postgres::Error> {
        let (mut begun, mut least) = (Instant::now(), i64::MAX);
        loop {
            let status = self.db.try_rows("SELECT source, state, pending, in_flight, failed FROM autoembed.status")?;
            let open: Vec<String> =
                status.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
            self.ledger.note(&format!("  table, state, pending, in flight, failed: {}", open.join("; ")));
            let done = self.db.try_rows("SELECT autoembed.wait(timeout => '2 s')")?;
            if done.first().and_then(|row| row[0].as_deref()) == Some("t") {
                return Ok(());
            }
            let number = |value: &Option<String>| value.as_deref().and_then(|n| n.parse().ok()).unwrap_or(0);
            let left: i64 = status.iter().map(|row| row[2..4].iter().map(number).sum::<i64>()).sum();
            if left < least {
                (begun, least) = (Instant::now(), left);
            }
            if begun.elapsed() > patience {
                let (seconds, open) = (patience.as_secs(), open.join("; "));
                self.ledger.wrong(&format!("everything is well, and for {seconds} s no work was done: {open}"));
                return Ok(());
            }
        }
    }

    /// While poisoned texts are still refused: just the rows that have one are given up, and all others are right.
    pub fn with_poison(&mut self) -> Result<(), postgres::Error> {
        for table in TABLES {
            let key = if table.key.contains(',') {
                format!("ROW({})::text", table.key)
            } else {
                format!("{}::text", table.key)
            };
            let sql = format!(
                "SELECT f.key, f.code, f.message, coalesce(strpos(t.input, '{POISON}') > 0, false), t.key IS NULL
                 FROM autoembed.failed_jobs f LEFT JOIN (SELECT {key} AS key, {input} AS input FROM {name}) t ON t.key = f.key
                 WHERE f.source = '{name}'::regclass",
                input = table.input,
                name = table.name
            );
            for row in self.db.try_rows(&sql)? {
                let of = |i: usize| row.get(i).and_then(|value| value.as_deref()).unwrap_or("");
                if of(4) == "t" {
                    // Its row is gone, and with it what there was to retry.
                    self.ledger.count("failed jobs whose row is gone");
                } else if of(3) != "t" {
                    let (key, code, message) = (of(0), of(1), of(2));
                    self.ledger.wrong(&format!("{}, key {key}: given up without poison: {code} {message}", table.name));
                } else {
                    self.ledger.count("poisoned rows given up");
                }
            }
            self.rows(table, true)?;
        }
        Ok(())
    }

    /// Nothing is refused any more: what was given up is tried again, once.
    pub fn retry(&mut self) -> Result<(), postgres::Error> {
        self.db.try_rows("SELECT autoembed.retry_failed()").map(drop)
    }

    /// Nothing is left to do and every row is right.
    pub fn all(&mut self, patience: Duration) -> Result<(), postgres::Error> {
        let begun = Instant::now();
        let left = loop {
            let left = self
                .db
                .try_rows("SELECT (SELECT count(*) FROM autoembed.job), (SELECT count(*) FROM autoembed.failed)")?;
            let none = left.iter().flatten().flatten().all(|n| n == "0");
            if none || begun.elapsed() > patience {
                break if none { None } else { Some(left) };
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if let Some(left) = left {
            self.ledger.wrong(&format!("jobs left, and jobs given up, in the end: {left:?}"));
        }
        for row in self.db.try_rows("SELECT source, state FROM autoembed.status WHERE state <> 'active'")? {
            self.ledger.wrong(&format!("in the end a vectorizer is not active: {row:?}"));
        }
        for row in self.db.try_rows("SELECT gid FROM pg_prepared_xacts")? {
            self.ledger.wrong(&format!("the run itself left a transaction prepared: {row:?}"));
        }
        for table in TABLES {
            let rows = self.rows(table, false)?;
            self.ledger.add("rows in the end", rows);
        }
        self.audit()
    }

    /// Waits until no change of model is under way.
    pub fn changed(&mut self, patience: Duration) -> Result<(), postgres::Error> {
        const LEFT: &str =
            "SELECT source, state, rows_done, rows_total FROM autoembed.progress WHERE kind = 'model change'";
        let begun = Instant::now();
        loop {
            let left = self.db.try_rows(LEFT)?;
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > patience {
                self.ledger.wrong(&format!("a change of model does not end: {left:?}"));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn rows(&mut self, table: &Table, poisoned_may_lack: bool) -> Result<u64, postgres::Error> {
        if let Some(chunks) = table.chunks() {
            return self.rows_in_chunks(table, &chunks, poisoned_may_lack);
        }
        let model = self.db.try_rows(&format!(
            "SELECT model FROM autoembed.vectorizer WHERE source = '{}'::regclass AND replaces IS NULL",
            table.name
        ))?;
        let model = model.into_iter().flatten().flatten().next().unwrap_or_default();
        let sql = format!("SELECT ({})::text, {}, embedding::text FROM {}", table.key, table.input, table.name);
        let rows = self.db.try_rows(&sql)?;
        for row in &rows {
            let [key, input, stored] = row.as_slice() else { continue };
            let (key, input, stored) = (key.as_deref().unwrap_or(""), input.as_deref(), stored.as_deref());
            let spared = poisoned_may_lack && input.is_some_and(|text| text.contains(POISON));
            if spared || belongs(&model, input, stored) {
                continue;
            }
            let what = match stored {
                None => "lost: no vector",
                Some(_) => "stale: a vector of another text",
            };
            self.ledger.wrong(&format!("{}, key {key}: {what}, text {}", table.name, shown(input)));
        }
        Ok(rows.len() as u64)
    }

    /// The chunks of a row are its text but for white space, in order, and each has the vector of its own words.
    fn rows_in_chunks(&mut self, table: &Table, chunks: &str, poisoned_may_lack: bool) -> Result<u64, postgres::Error> {
        let (name, key, input) = (table.name, table.key, table.input);
        let rows = self.db.try_rows(&format!("SELECT {key}::text, {input} FROM {name} ORDER BY {key}"))?;
        let sql = format!(
            "SELECT {key}::text, byte_start, byte_end, chunk, embedding::text FROM {chunks} ORDER BY {key}, chunk_no"
        );
        let mut of_rows: HashMap<String, Vec<Piece>> = HashMap::new();
        for row in self.db.try_rows(&sql)? {
            let mut columns = row.into_iter().map(Option::unwrap_or_default);
            let mut next = || columns.next().unwrap_or_default();
            let (key, start, end) = (next(), next(), next());
            let piece = Piece {
                start: start.parse().unwrap_or(0),
                end: end.parse().unwrap_or(0),
                text: next(),
                vector: next(),
            };
            of_rows.entry(key).or_default().push(piece);
        }
        for row in &rows {
            let [key, input] = row.as_slice() else { continue };
            let pieces = of_rows.remove(key.as_deref().unwrap_or("")).unwrap_or_default();
            self.ledger.add("chunks in the end, or while texts were refused", pieces.len() as u64);
            let input = input.as_deref().unwrap_or("");
            if poisoned_may_lack && input.contains(POISON) {
                continue;
            }
            if let Some(what) = wrong_in(input, &pieces) {
                let key = key.as_deref().unwrap_or("");
                self.ledger.wrong(&format!("{name}, key {key}: {what}, text {}", shown(Some(input))));
            }
        }
        for key in of_rows.keys() {
            self.ledger.wrong(&format!("{name}: chunks of a row that is not there, key {key}"));
        }
        Ok(rows.len() as u64)
    }

    /// Every write of a vector into `plain` was of the text that stood there, so none came after a newer one.
    fn audit(&mut self) -> Result<(), postgres::Error> {
        let writes = self.db.try_rows("SELECT id, body, vector FROM audit ORDER BY number")?;
        self.ledger.add("writes of vectors audited", writes.len() as u64);
        for row in writes {
            let [id, body, vector] = row.as_slice() else { continue };
            // NULL is written where the text is empty; a poisoned text has no vector until the end.
            if !belongs(MODEL, body.as_deref(), vector.as_deref()) {
                let (id, body) = (id.as_deref().unwrap_or(""), shown(body.as_deref()));
                self.ledger
                    .wrong(&format!("audit: plain, key {id}: a vector was written that was not of the text {body}"));
            }
        }
        Ok(())
    }
}
