//! From vectors, or a failure, to rows and queue. One transaction.

use crate::pg::ffi::catch::Caught;
use crate::pg::queue::{self, Charge, Job, Logged};
use crate::pg::record::{self, Given};
use crate::pg::settings::Work;
use crate::pg::writer::{self, Entry, Outcome};
use crate::points;
use crate::worker::batch::{Batch, Item};
use crate::worker::gather::{self, Context};
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

/// A row with the hash of its text (`None`: it is NULL) and its vector (`None`: to be cleared).
type Ready<'a> = (&'a Item, Option<&'a [u8]>, Option<&'a [f32]>);

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
    /// The table refuses vectors as such.
    pub is_refused: bool,
}

/// Writes the vectors of `rows` of a batch and ends their jobs, in this transaction.
pub fn write(context: &Context, batch: &Batch, rows: Range<usize>, vectors: &Vectors, work: &Work) -> Written {
    let entries: Vec<Ready<'_>> = batch
        .items
        .iter()
        .enumerate()
        .skip(rows.start)
        .take(rows.len())
        .filter_map(|(i, item)| Some((item, Some(item.hash.as_slice()), Some(batch.vector(i, vectors)?))))
        .collect();
    settle(context, &entries, work)
}

/// Clears the vectors of rows that have no text, and ends their jobs.
pub fn clear(context: &Context, items: Vec<(Item, Option<Vec<u8>>)>, work: &Work) {
    if items.is_empty() {
        return;
    }
    let entries: Vec<Ready<'_>> = items.iter().map(|(item, hash)| (item, hash.as_deref(), None)).collect();
    settle(context, &entries, work);
}

fn settle(context: &Context, entries: &[Ready<'_>], work: &Work) -> Written {
    let id = context.vectorizer.id;
    // The jobs go first: who does not hold them any more writes nothing. What is not written comes back below, in the same
    // transaction.
    let held = queue::complete(id, entries.iter().flat_map(|(item, ..)| item.jobs.iter()));
    points::reach("completed");
    let still_held = |item: &Item| item.jobs.iter().any(|job| held.contains(&job.id));
    let entries: Vec<_> = entries.iter().filter(|(item, ..)| still_held(item)).collect();
    let to_write: Vec<Entry<'_>> =
        entries.iter().map(|(item, hash, vector)| Entry { key: &item.key, hash: *hash, vector: *vector }).collect();
    let vector_sql = crate::pg::ident::qualified(&context.pgvector.schema, "vector");
    let outcomes = if context.lock() {
        writer::write(&context.target(), context.pgvector.type_oid, &vector_sql, &to_write)
    } else {
        vec![Outcome::Locked; to_write.len()]
    };
    points::reach("written");
    let mut written = Written::default();
    let mut done_keys = Vec::new();
    let mut stale: Vec<&Item> = Vec::new();
    let mut refused: Option<Caught> = None;
    let mut given: Vec<Given<'_>> = Vec::new();
    for ((item, hash, vector), outcome) in entries.iter().zip(outcomes) {
        match outcome {
            Outcome::Written => {
                written.rows += usize::from(vector.is_some());
                written.cut += usize::from(vector.is_some() && item.is_cut);
                done_keys.push(item.key.clone());
                if let (Some(text), Some(vector)) = (hash, vector) {
                    given.push((item.key.as_str(), *text, *vector));
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
    written
}

/// The text changed while it was embedded. Where a later job of the row waits, that one goes on; where none does (triggers were
/// off, or the input gives another text each time), this one is tried again and counted.
fn stale_again(context: &Context, items: &[&Item], held: &HashSet<i64>, work: &Work) {
    if items.is_empty() {
        return;
    }
    let id = context.vectorizer.id;
    let last_jobs: Vec<Job> = items.iter().filter_map(|item| item.jobs.last().cloned()).collect();
    let superseded = queue::superseded(id, &last_jobs);
    for (item, job) in items.iter().zip(&last_jobs) {
        if !superseded.contains(&job.id) {
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
    if let Some(job) = item.jobs.iter().rev().find(|job| held.contains(&job.id)) {
        let job = Job { attempts: item.attempts(), ..job.clone() };
        queue::put_back(id, &job, charge, pause, by_age);
    }
}

fn try_again(id: i32, item: &Item, held: &HashSet<i64>, work: &Work, code: &str, message: &str, hint: &str) {
    if item.attempts() >= work.max_attempts as i16 {
        queue::fail(id, &item.key, &item.hash, item.attempts(), code, message, hint);
    } else {
        put_back(id, item, held, Charge::Kept, pause_after(item, work), false);
    }
}

fn pause_after(item: &Item, work: &Work) -> Duration {
    let attempt = (item.attempts() - 1).max(0) as u32;
    backoff(attempt, work.retry_base, work.retry_max, chance())
}

/// The same for its rows from `first` on.
pub fn give_back_from(batch: &Batch, first: usize, pause: Duration) {
    let jobs = batch.items.iter().skip(first).flat_map(|item| &item.jobs);
    queue::release(batch.vectorizer, jobs, Charge::GivenBack, pause);
}

/// Gives a batch back whose request failed through no fault of its rows.
pub fn give_back(batch: &Batch, pause: Duration) {
    queue::release(batch.vectorizer, batch.jobs(), Charge::GivenBack, pause);
}

/// A request with one text failed, and the row may be at fault: it is tried again later, or given up after its attempts.
pub fn charge(batch: &Batch, failure: &Failure, work: &Work) {
    for item in &batch.items {
        if item.attempts() >= work.max_attempts as i16 {
            give_up(batch.vectorizer, item, failure);
        } else {
            queue::release(batch.vectorizer, item.jobs.iter(), Charge::Kept, pause_after(item, work));
        }
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
pub fn reject(batch: &Batch, failure: &Failure) {
    for item in &batch.items {
        give_up(batch.vectorizer, item, failure);
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

fn give_up(id: i32, item: &Item, failure: &Failure) {
    if !queue::complete(id, item.jobs.iter()).is_empty() {
        queue::fail(id, &item.key, &item.hash, item.attempts(), &failure.code, &failure.message, &failure.hint);
    }
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
            status: self.status.map(i32::from),
            error_code: failure.map(|f| f.code.clone()),
        }
    }

    /// The entry for `texts` texts that needed no request.
    pub fn known(&self, texts: usize, written: Written) -> Logged {
        Logged { cached: texts as i32, ..self.entry(0, written, None) }
    }
}
