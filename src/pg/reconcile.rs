//! reconcile(): finds rows that changed without the triggers' knowledge.
//!
//! Everything is read under the snapshot of the calling statement: a row with a new text is seen together with the job that its
//! trigger has queued, and a new vector together with the end of its job. So what somebody writes meanwhile is not found twice.

use crate::pg::catalog::{self, Vectorizer};
use crate::pg::chunks::{ChunkTable, as_error};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::queue::{self, BACKFILL, Failed, Walk, Why};
use crate::pg::source::{self, Seen, Target};
use crate::pg::{record, vectorizers, wake};
use autoembed_core::record::{Entry, Known, Part, Verdict, row, text};
use pgrx::pg_sys;

/// Rows that are read at once.
const ROWS: i64 = 4096;
/// Rows that are queued at once.
const FOUND: usize = 16_384;
/// Entries of the record that are held in memory at once, of 16 bytes each. Where there are more, the table is read several times.
const MOST_ENTRIES: u64 = 4_000_000;

/// Queues the rows of a table whose vector is missing or was written for another text, for each of its vectorizers; how many.
///
/// # Errors
/// As `vectorizers::own_all`; 55000 where a vectorizer's table is not as it was; what reading the table raises.
pub fn reconcile(source: pg_sys::Oid) -> Result<i64> {
    in_parts(source, MOST_ENTRIES)
}

/// As [`reconcile`], with at most about so many entries of the record in memory.
///
/// # Errors
/// As [`reconcile`].
pub fn in_parts(source: pg_sys::Oid, most_entries: u64) -> Result<i64> {
    let own = vectorizers::own_all_to_queue(source)?;
    let mut queued = 0;
    for vectorizer in &own {
        queued += of_one(vectorizer, most_entries)?;
    }
    if queued > 0 {
        wake::at_commit();
    }
    Ok(queued)
}

fn of_one(vectorizer: &Vectorizer, most_entries: u64) -> Result<i64> {
    let gone = |what: &str| {
        Error::state(
            format!("{what} of vectorizer {} is gone", vectorizer.id),
            "Call autoembed.disable() and autoembed.enable() again; the vectors stay.",
        )
    };
    let table = catalog::table(vectorizer.source).ok_or_else(|| gone("the table"))?;
    if table.key.is_empty() {
        return Err(gone("the table's primary key"));
    }
    let chunks = ChunkTable::owned(vectorizer, &table).map_err(as_error)?;
    let embedding = vectorizer.embedding.as_deref().ok_or_else(|| gone("the vector column"))?;
    let input = vectorizer.input.as_deref().ok_or_else(|| gone("the input column"))?;
    let stored = catalog::model(&vectorizer.model)?;
    let mut search = Search {
        target: Target { vectorizer, table: &table, embedding, input, chunks: chunks.as_ref() },
        vector_schema: catalog::pgvector()?.schema,
        max_chars: source::max_chars(&stored.model),
        walk: queue::unfinished_walk(vectorizer.id),
        missing: Vec::new(),
        other: Vec::new(),
        queued: 0,
    };
    for part in Part::all(record::count(vectorizer.id), most_entries) {
        search.walk(part)?;
    }
    search.queue();
    Ok(search.queued)
}

/// A row that may have to be queued.
struct Found {
    key: String,
    /// What stands for its text; `None`: the input raised an error.
    text: Option<u32>,
    /// It has vectors that were never written, of which a job that waits for a new text would take some for right.
    is_foreign: bool,
}

/// The search through one vectorizer's table.
struct Search<'a> {
    target: Target<'a>,
    vector_schema: String,
    max_chars: i32,
    /// A backfill that has not ended.
    walk: Option<Walk>,
    /// Rows without a vector.
    missing: Vec<Found>,
    /// Rows with the vector of another text, or of none.
    other: Vec<Found>,
    queued: i64,
}

impl Search<'_> {
    /// Looks at the rows of a part, in key order.
    fn walk(&mut self, part: Part) -> Result<()> {
        let mut known = Known::default();
        record::for_each(self.target.vectorizer.id, |_, batch| {
            batch.filter(|entry| part.has(entry.row)).for_each(|entry| known.add(&entry));
        });
        let known = known.sorted();
        let mut after: Option<String> = None;
        let mut rows = ROWS;
        loop {
            pgrx::check_for_interrupts!();
            match subtransaction(|| self.look(after.as_deref(), rows)) {
                Ok(seen) => {
                    let Some(last) = seen.last().map(|row| row.key.clone()) else { return Ok(()) };
                    for row in seen {
                        self.judge(&known, part, row);
                    }
                    after = Some(last);
                    rows = (rows * 2).min(ROWS);
                }
                // A row at which the statement fails is found by smaller and smaller steps.
                Err(caught) if caught.may_be_one_row() && rows > 1 => rows = (rows / 8).max(1),
                Err(caught) if caught.may_be_one_row() => {
                    let next = source::walk(&self.target, after.as_deref(), None, 1).pop();
                    let Some((key, _)) = next else { return Ok(()) };
                    if part.has(row(&key)) {
                        self.other.push(Found { key: key.clone(), text: None, is_foreign: false });
                    }
                    after = Some(key);
                }
                Err(caught) => return Err(raised(caught)),
            }
            if self.missing.len() + self.other.len() >= FOUND {
                self.queue();
            }
        }
    }

    fn look(&self, after: Option<&str>, rows: i64) -> Vec<Seen> {
        let between = self.walk.as_ref().map_or((None, None), |w| (w.last_key.as_deref(), w.end_key.as_deref()));
        source::look(&self.target, &self.vector_schema, after, between, self.max_chars, rows)
    }

    fn judge(&mut self, known: &Known, part: Part, row: Seen) {
        let hash = row.hash.unwrap_or_default();
        let entry = Entry::new(&row.key, &hash, row.head.as_deref().unwrap_or_default());
        if !part.has(entry.row) {
            return;
        }
        // A backfill that is under way comes to it.
        if self.walk.as_ref().is_some_and(|walk| row.is_between && (walk.why != Why::Missing || row.head.is_none())) {
            return;
        }
        let is_foreign = self.target.chunks.is_some() && row.head.is_some() && !known.has_vector(&entry);
        let found = Found { key: row.key, text: Some(text(&hash)), is_foreign };
        match (row.head.is_some(), row.is_blank) {
            (false, true) => {}
            (false, false) => self.missing.push(found),
            (true, true) => self.other.push(found),
            (true, false) if known.verdict(&entry) == Verdict::Wrong => self.other.push(found),
            (true, false) => {}
        }
    }

    /// Queues what was found, but for rows that have a job, or that were given up with the text that they have.
    fn queue(&mut self) {
        let id = self.target.vectorizer.id;
        let (missing, other) = (std::mem::take(&mut self.missing), std::mem::take(&mut self.other));
        for (found, why) in [(missing, Why::Missing), (other, Why::Forced)] {
            let keys: Vec<String> = found.iter().map(|row| row.key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            let waiting = queue::waiting(id, keys.clone());
            let failures = queue::failures(id, keys);
            let keys: Vec<String> = found
                .into_iter()
                .filter(|row| waiting.get(&row.key).is_none_or(|is_forced| row.is_foreign && !is_forced))
                .filter(|row| !failures.get(&row.key).is_some_and(|failed| is_same(failed, row.text)))
                .map(|row| row.key)
                .collect();
            self.queued += keys.len() as i64;
            queue::add(id, BACKFILL, &keys, why);
        }
    }
}

/// Whether trying again would come to the same end.
fn is_same(failed: &Failed, text: Option<u32>) -> bool {
    failed.code == queue::WORKER_DIED || failed.text == text
}

fn raised(caught: Caught) -> Box<Error> {
    if caught.is_contention() {
        return Error::new(caught.code, "somebody has locked the table", "Call it again when the lock is gone.");
    }
    let hint = caught.hint.unwrap_or_else(|| {
        "The table is read as its owner with row_security = off; mend what the message tells of, and call it again."
            .into()
    });
    Error::new(caught.code, format!("the table could not be read: {}", caught.message), hint)
}
