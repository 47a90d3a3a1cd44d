//! From vectors, or a failure, to rows and queue. One transaction.

use crate::pg::chunks;
use crate::pg::chunks::write::{Piece, Row};
use crate::pg::ffi::catch::Caught;
use crate::pg::notify;
use crate::pg::queue::{self, Charge, Job, Logged};
use crate::pg::record::{self, Given};
use crate::pg::settings::Work;
use crate::pg::writer::{self, Entry, Outcome};
use crate::points;
use crate::worker::batch::{Batch, Item};
use crate::worker::gather::{self, Context, Look};
use crate::worker::pieces::Complete;
use crate::worker::state;
use autoembed_core::retry::backoff;
use autoembed_core::{Action, Failure, Vectors};
use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

/// How long a row that a user holds is left alone.
pub const LOCKED_PAUSE: Duration = Duration::from_millis(100);
/// How long rows are left alone that could not be written for a reason that is not theirs.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What is to be written of a row.
enum Content<'a> {
    /// Its vector.
    Vector(&'a [f32]),
    /// Its text and all its pieces.
    Pieces(&'a str, &'a [Piece]),
    /// It has none: what is there is cleared.
    Nothing,
}

impl<'a> Content<'a> {
    fn vector(&self) -> Option<&'a [f32]> {
        if let Content::Vector(vector) = self { Some(vector) } else { None }
    }

    fn pieces(&self) -> (&'a str, &'a [Piece]) {
        if let Content::Pieces(text, pieces) = self { (text, pieces) } else { ("", &[]) }
    }

    fn is_there(&self) -> bool {
        !matches!(self, Content::Nothing)
    }
}

/// A row with the hash of its text (`None`: it is NULL).
type Ready<'a> = (&'a Item, Option<&'a [u8]>, Content<'a>);

/// A number from 0 to 1 by chance.
pub fn chance() -> f64 {
    crate::pg::ffi::process::random()
}

/// What came of writing vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows that have their vector.
    pub rows: usize,
    /// Rows among them whose text was cut.
    pub cut: usize,
    /// When the first of them was queued, in the server's microseconds.
    pub oldest: Option<i64>,
    /// The table refuses vectors as such.
    pub is_refused: bool,
}

impl Written {
    /// The sum of both.
    pub fn and(self, more: Written) -> Written {
        Written {
            rows: self.rows + more.rows,
            cut: self.cut + more.cut,
            oldest: self.oldest.into_iter().chain(more.oldest).min(),
            is_refused: self.is_refused || more.is_refused,
        }
    }
}

/// Writes the vectors of `rows` of a batch and ends their jobs, in this transaction.
pub fn write(context: &Context, batch: &Batch, rows: Range<usize>, vectors: &Vectors, work: &Work) -> Written {
    let entries: Vec<Ready<'_>> = batch
        .items
        .iter()
        .enumerate()
        .skip(rows.start)
        .take(rows.len())
        .filter_map(|(i, item)| Some((item, Some(item.hash.as_slice()), Content::Vector(batch.vector(i, vectors)?))))
        .collect();
    settle(context, &entries, work)
}

/// Clears the vectors of rows that have no text, and ends their jobs.
pub fn clear(context: &Context, items: Vec<(Item, Option<Vec<u8>>)>, work: &Work) {
    if items.is_empty() {
        return;
    }
    let entries: Vec<Ready<'_>> = items.iter().map(|(item, hash)| (item, hash.as_deref(), Content::Nothing)).collect();
    settle(context, &entries, work);
}

/// Writes rows that have all their pieces, and ends their jobs.
pub fn write_in_pieces(context: &Context, rows: &[Complete], work: &Work) -> Written {
    let entries: Vec<Ready<'_>> = rows
        .iter()
        .map(|row| (&row.row, Some(row.row.hash.as_slice()), Content::Pieces(&row.text, &row.pieces)))
        .collect();
    settle(context, &entries, work)
}

fn write_contents(context: &Context, entries: &[&Ready<'_>]) -> Vec<Outcome> {
    if !context.lock() {
        return vec![Outcome::Locked; entries.len()];
    }
    if let Some(chunks) = &context.chunks {
        let rows: Vec<Row<'_>> = entries
            .iter()
            .map(|(item, hash, content)| {
                let (text, pieces) = content.pieces();
                Row { key: &item.key, hash: *hash, text, pieces }
            })
            .collect();
        return chunks::write::write(&context.target(), chunks, &context.pgvector, &rows);
    }
    let to_write: Vec<Entry<'_>> = entries
        .iter()
        .map(|(item, hash, content)| Entry { key: &item.key, hash: *hash, vector: content.vector() })
        .collect();
    writer::write(&context.target(), context.pgvector.type_oid, &to_write)
}

fn settle(context: &Context, entries: &[Ready<'_>], work: &Work) -> Written {
    let id = context.vectorizer.id;
    // The jobs go first: who does not hold them any more writes nothing. What is not written comes back below, in the same
    // transaction.
    let held = queue::complete(id, entries.iter().flat_map(|(item, ..)| item.jobs.iter()));
    points::reach("completed");
    let still_held = |item: &Item| item.jobs.iter().any(|job| held.contains(&job.id));
    let entries: Vec<_> = entries.iter().filter(|(item, ..)| still_held(item)).collect();
    let outcomes = write_contents(context, &entries);
    points::reach("written");
    let mut written = Written::default();
    let mut done_keys = Vec::new();
    let mut stale: Vec<&Item> = Vec::new();
    let mut refused: Option<Caught> = None;
    let mut given: Vec<Given<'_>> = Vec::new();
    for ((item, hash, content), outcome) in entries.iter().zip(outcomes) {
        match outcome {
            Outcome::Written => {
                written.rows += usize::from(content.is_there());
                written.cut += usize::from(content.is_there() && item.is_cut);
                let queued_at = item.queued_at().filter(|_| content.is_there());
                written.oldest = written.oldest.into_iter().chain(queued_at).min();
                done_keys.push(item.key.clone());
                if let Some(text) = hash.filter(|_| content.is_there()) {
                    given.push((item.key.as_str(), text, content.vector().unwrap_or_default()));
                }
            }
            Outcome::Gone => {}
            Outcome::Locked => put_back(id, item, &held, Charge::GivenBack, LOCKED_PAUSE, true),
            Outcome::Stale => stale.push(item),
            Outcome::Suppressed => try_again(
                id,
                item,
                &held,
                work,
                "write_suppressed",
                "a trigger of the table kept the vector from being written",
                "Let BEFORE UPDATE triggers return the row; then call autoembed.retry_failed().",
            ),
            Outcome::Failed(caught) if caught.may_be_one_row() => {
                let hint = caught
                    .hint
                    .clone()
                    .unwrap_or_else(|| "Mend the row or the table; then call autoembed.retry_failed().".into());
                try_again(id, item, &held, work, &caught.sqlstate(), &caught.message, &hint);
            }
            Outcome::Failed(caught) => {
                put_back(id, item, &held, Charge::GivenBack, REFUSED_PAUSE.min(work.retry_max), true);
                refused = Some(caught);
            }
        }
    }
    stale_again(context, &stale, &held, work);
    written.is_refused = refused.is_some();
    match refused {
        Some(caught) => gather::block(context, "the vectors could not be written", &caught),
        // Rows that others hold, or that are gone, tell nothing.
        None if done_keys.len() + stale.len() > 0 => state::unblock_vectorizer(id),
        None => {}
    }
    queue::forget_failures(id, done_keys);
    record::add(&context.target(), &context.pgvector, &given);
    notify::written(id, written.rows);
    written
}

/// The text changed while it was embedded. Where a later job of the row waits, that one goes on; where none does (triggers were
/// off, or the input gives another text each time), this one is tried again and counted. Where vectors that are there do not count, this
/// one goes on as well: the later one may have taken some of them for right.
fn stale_again(context: &Context, items: &[&Item], held: &HashSet<i64>, work: &Work) {
    if items.is_empty() {
        return;
    }
    let id = context.vectorizer.id;
    let last_jobs: Vec<Job> = items.iter().filter_map(|item| item.jobs.last().cloned()).collect();
    let superseded = queue::superseded(id, &last_jobs);
    for (item, job) in items.iter().zip(&last_jobs) {
        if superseded.contains(&job.id) {
            if item.is_forced() {
                put_back(id, item, held, Charge::GivenBack, LOCKED_PAUSE, true);
            }
        } else {
            try_again(
                id,
                item,
                held,
                work,
                "unsteady_input",
                "the input gave another text each time it was read",
                "Use an input that depends on the row alone; then call autoembed.retry_failed().",
            );
        }
    }
}

fn put_back(id: i32, item: &Item, held: &HashSet<i64>, charge: Charge, pause: Duration, by_age: bool) {
    // One job a row is enough.
    if let Some(job) = Job::for_all(item.jobs.iter().filter(|job| held.contains(&job.id))) {
        queue::put_back(id, &job, charge, pause, by_age);
    }
}

fn try_again(id: i32, item: &Item, held: &HashSet<i64>, work: &Work, code: &str, message: &str, hint: &str) {
    if item.attempts() >= work.max_attempts as i16 {
        fail(id, item, code, message, hint);
    } else {
        put_back(id, item, held, Charge::Kept, pause_after(item, work), false);
    }
}

/// Its jobs are gone.
fn fail(id: i32, row: &Item, code: &str, message: &str, hint: &str) {
    if let Some(job) = Job::for_all(row.jobs.iter()) {
        queue::fail(id, &job, &row.hash, code, message, hint);
        notify::failed(id);
    }
}

fn pause_after(item: &Item, work: &Work) -> Duration {
    let attempt = (item.attempts() - 1).max(0) as u32;
    backoff(attempt, work.retry_base, work.retry_max, chance())
}

/// The same for its rows from `first` on.
pub fn give_back_from(batch: &Batch, first: usize, pause: Duration) {
    release(batch.vectorizer, batch.items.iter().skip(first), pause);
}

/// Gives rows back; what is a piece takes its whole row along.
pub fn release<'a>(id: i32, items: impl Iterator<Item = &'a Item>, pause: Duration) {
    let items: Vec<&Item> = items.collect();
    items.iter().for_each(|item| item.end());
    queue::release(id, items.into_iter().flat_map(|item| &item.jobs), Charge::GivenBack, pause);
}

/// Gives a batch back whose request failed through no fault of its rows.
pub fn give_back(batch: &Batch, pause: Duration) {
    release(batch.vectorizer, batch.items.iter(), pause);
}

/// A request with one text failed, and the row may be at fault: it is tried again later, or given up after its attempts.
pub fn charge(batch: &Batch, failure: &Failure, work: &Work) {
    let (last, others): (Vec<&Item>, Vec<&Item>) =
        batch.items.iter().partition(|item| item.attempts() >= work.max_attempts as i16);
    give_up_unchanged(batch.vectorizer, &last, failure, work);
    for item in others {
        item.end();
        queue::release(batch.vectorizer, item.jobs.iter(), Charge::Kept, pause_after(item, work));
    }
}

/// The input expression raised an error for a row: it is tried again later, or given up after its attempts.
pub fn raised(id: i32, item: &Item, caught: &Caught, work: &Work) {
    if item.attempts() < work.max_attempts as i16 {
        queue::release(id, item.jobs.iter(), Charge::Kept, pause_after(item, work));
        return;
    }
    let hint = "Mend the row or the input expression; then call autoembed.retry_failed().";
    let failure =
        Failure::new(Action::Reject, caught.sqlstate(), &format!("the input cannot be read: {}", caught.message), hint);
    give_up(id, item, &failure);
}

/// The rows of a batch are refused for good.
pub fn reject(batch: &Batch, failure: &Failure, work: &Work) {
    give_up_unchanged(batch.vectorizer, &batch.items.iter().collect::<Vec<_>>(), failure, work);
}

/// Gives up rows that still have the text which was refused. One that has another by now may have been embedded meanwhile: it is read
/// once more.
fn give_up_unchanged(id: i32, items: &[&Item], failure: &Failure, work: &Work) {
    if items.is_empty() {
        return;
    }
    let keys: Vec<&str> = items.iter().map(|item| item.row().key.as_str()).collect();
    let Some(looks) = gather::load(id).map(|context| gather::look(&context, &keys)) else {
        return items.iter().for_each(|item| give_up(id, item, failure));
    };
    let Some(looks) = looks else {
        return release(id, items.iter().copied(), LOCKED_PAUSE);
    };
    for (item, look) in items.iter().zip(looks) {
        let row = item.row();
        match look {
            Look::Gone => {
                item.end();
                queue::complete(id, row.jobs.iter());
            }
            // An input that gives another text each time ends as well.
            Look::Text(hash) if hash != row.hash && row.attempts() < work.max_attempts as i16 => {
                item.end();
                queue::release(id, row.jobs.iter(), Charge::Kept, Duration::ZERO);
            }
            Look::Text(_) | Look::Unknown => give_up(id, item, failure),
        }
    }
}

/// A text is longer than the model takes, and must not be cut.
pub fn too_long(id: i32, item: &Item, model: &str, most: usize) {
    let failure = Failure::new(
        Action::Reject,
        "too_long",
        &format!("the text has about {} tokens, model \"{model}\" takes {most}", item.tokens),
        "Shorten the text, or use a model with options => '{\"too_long\": \"truncate\"}'; then call autoembed.retry_failed().",
    );
    give_up(id, item, &failure);
}

/// A text has more pieces than can be held until the last of them has its vector.
pub fn too_many_pieces(id: i32, item: &Item, pieces: Option<usize>) {
    let message = match pieces {
        Some(pieces) => format!("the text has {pieces} chunks, which are too many for one row"),
        None => "the text has more than 16 million characters".to_string(),
    };
    let hint = "Spread the text over several rows, or call autoembed.disable(), and autoembed.enable() with a larger chunk_size; then call autoembed.retry_failed().";
    give_up(id, item, &Failure::new(Action::Reject, "too_long", &message, hint));
}

fn give_up(id: i32, item: &Item, failure: &Failure) {
    item.end();
    let row = item.row();
    if queue::complete(id, row.jobs.iter()).is_empty() {
        return;
    }
    let message = match &item.part {
        Some(part) => format!("{}: {}", part.name(), failure.message),
        None => failure.message.clone(),
    };
    fail(id, row, &failure.code, &message, &failure.hint);
}

/// One request, as far as the log tells of it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The model's name.
    pub model: String,
    /// From sending to the answer.
    pub took: Duration,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// Tokens, as the server counted or as estimated.
    pub tokens: Option<u64>,
    /// US dollars.
    pub cost: f64,
    /// What it cost is counted elsewhere.
    pub is_noted: bool,
}

impl Call {
    /// The log's entry for a request of `inputs` texts.
    pub fn entry(&self, inputs: usize, written: Written, failure: Option<&Failure>) -> Logged {
        Logged {
            model: self.model.clone(),
            inputs: inputs as i32,
            rows: written.rows as i32,
            cached: 0,
            truncated: written.cut as i32,
            tokens: self.tokens.and_then(|t| i64::try_from(t).ok()),
            cost: self.cost,
            is_noted: self.is_noted,
            ms: self.took.as_secs_f32() * 1000.0,
            oldest: written.oldest,
            waiting: None,
            status: self.status.map(i32::from),
            error_code: failure.map(|f| f.code.clone()),
        }
    }

    /// The entry for `texts` texts that needed no request.
    pub fn known(&self, texts: usize, written: Written) -> Logged {
        Logged { cached: texts as i32, ..self.entry(0, written, None) }
    }
}
