//! Who writes: sessions at a steady rate, and one that looks how long a row takes.

use super::{DATABASE, PLACES, session};
use autoembed_tests::{Cluster, Db, Dice, db};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Milliseconds, since the last sample was taken.
#[derive(Debug, Default)]
pub struct Window {
    /// Of one-row INSERTs.
    pub inserts: Vec<f64>,
    /// From the commit of a row to its vector.
    pub vectors: Vec<f64>,
}

/// A load that all threads of a run share.
pub struct Load {
    begun: Instant,
    ended: AtomicBool,
    held: AtomicBool,
    /// Nanoseconds between two statements of all clients; 0: none.
    pause: AtomicU64,
    /// When the next statement is due, in nanoseconds from the beginning.
    next: AtomicU64,
    statements: AtomicU64,
    rows: u64,
    window: Mutex<Window>,
    wrong: Mutex<Option<String>>,
}

/// Ends the load when it goes, be it by an error.
pub struct End<'a>(&'a Load);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// No statement is written yet; the table has these rows.
    pub fn new(rows: u64) -> Load {
        Load {
            begun: Instant::now(),
            ended: AtomicBool::new(false),
            held: AtomicBool::new(false),
            pause: AtomicU64::new(0),
            next: AtomicU64::new(0),
            statements: AtomicU64::new(0),
            rows,
            window: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// The load lasts as long as this lives.
    pub fn ends_with_this(&self) -> End<'_> {
        End(self)
    }

    /// Statements so far.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Nobody writes, or all do again.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// From now on so many statements a second by all clients together.
    pub fn keep_to(&self, rate: f64) {
        self.next.store(self.now(), Ordering::Relaxed);
        self.pause.store((1e9 / rate.max(1.0)) as u64, Ordering::Relaxed);
    }

    /// Forgets the times so far.
    pub fn begin_window(&self) {
        self.end_window();
        self.next.store(self.now(), Ordering::Relaxed);
    }

    /// The times since the last call.
    pub fn end_window(&self) -> Window {
        std::mem::take(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Errors: what stopped a client.
    pub fn check(&self) -> Result<(), String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Waits for this client's next turn; false: the load has ended.
    fn turn(&self) -> bool {
        while self.held.load(Ordering::Relaxed) && !self.has_ended() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let due = self.next.fetch_add(self.pause.load(Ordering::Relaxed), Ordering::Relaxed);
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(self.now())));
        !self.has_ended()
    }

    /// One client, until the load ends.
    pub fn write(&self, cluster: &Cluster, client: u64) {
        self.note(session(cluster, DATABASE).and_then(|mut db| {
            let mut dice = Dice::new(1, client);
            while self.turn() {
                self.statement(&mut db, &mut dice).map_err(|e| db::explain(&e))?;
                self.statements.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }));
    }

    fn note(&self, result: Result<(), String>) {
        if let Err(e) = result {
            *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        }
    }

    /// As many rows come as go.
    fn statement(&self, db: &mut Db, dice: &mut Dice) -> Result<(), postgres::Error> {
        // By chance among the rows that there are: where numbers are never used again, gaps would lead to ever the same rows.
        let place = i32::try_from(dice.below(PLACES)).unwrap_or(0);
        let row = "SELECT id FROM docs WHERE place >= $1 ORDER BY place LIMIT 1 FOR UPDATE SKIP LOCKED";
        match dice.below(20) {
            0..4 => {
                let begun = Instant::now();
                let text = format!("new document {}", dice.next());
                db.execute("INSERT INTO docs (body) VALUES ($1)", &[&text])?;
                let ms = begun.elapsed().as_secs_f64() * 1000.0;
                self.window.lock().unwrap_or_else(PoisonError::into_inner).inserts.push(ms);
            }
            4..8 => {
                let many = format!("DELETE FROM docs WHERE id = ({row}) AND (SELECT last_value FROM docs_id_seq) > $2");
                db.execute(&many, &[&place, &i64::try_from(self.rows).unwrap_or(0)])?;
            }
            8..18 => {
                let text = format!("document {}, changed", dice.next());
                db.execute(&format!("UPDATE docs SET body = $2 WHERE id = ({row})"), &[&place, &text])?;
            }
            _ => {
                let text = format!("one of many documents {}", dice.next());
                let rows = row.replace("LIMIT 1", "LIMIT 20");
                db.execute(&format!("UPDATE docs SET body = $2 || ', ' || id WHERE id IN ({rows})"), &[&place, &text])?;
            }
        }
        Ok(())
    }

    /// Writes a row now and then, and looks for its vector.
    pub fn probe(&self, cluster: &Cluster) {
        self.note(session(cluster, DATABASE).and_then(|mut db| {
            let mut dice = Dice::new(2, 0);
            while !self.has_ended() {
                self.probe_once(&mut db, &mut dice).map_err(|e| db::explain(&e))?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        }));
    }

    fn probe_once(&self, db: &mut Db, dice: &mut Dice) -> Result<(), postgres::Error> {
        let text = format!("probe {}", dice.next());
        let begun = Instant::now();
        let id: i64 = db.query_one("INSERT INTO docs (body) VALUES ($1) RETURNING id", &[&text])?.get(0);
        while !self.has_ended() {
            // A client may have changed or deleted it.
            let seen = db.query_opt("SELECT embedding IS NOT NULL FROM docs WHERE id = $1", &[&id])?;
            if seen.is_none_or(|row| row.get(0)) {
                let ms = begun.elapsed().as_secs_f64() * 1000.0;
                self.window.lock().unwrap_or_else(PoisonError::into_inner).vectors.push(ms);
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        db.execute("DELETE FROM docs WHERE id = $1", &[&id])?;
        Ok(())
    }
}
