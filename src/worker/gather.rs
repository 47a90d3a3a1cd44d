//! From jobs to items: claim, bring together what is of one row, read the texts, end what needs no request. One transaction.

use crate::pg::catalog::{self, Pgvector, Silenced, StoredModel, Table, Vectorizer};
use crate::pg::chunks::ChunkTable;
use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::ffi::{locks, process};
use crate::pg::notify;
use crate::pg::queue::{self, Charge, Job};
use crate::pg::settings::Work;
use crate::pg::source::{self, Found, Target};
use crate::pg::{change, enable, repair};
use crate::worker::batch::Item;
use crate::worker::finish;
use crate::worker::pieces::{Complete, MOST_CHARS};
use crate::worker::state;
use autoembed_core::hash::{CacheKeys, text_hash};
use autoembed_core::model::TooLong;
use autoembed_core::{InputKind, Limits};
use pgrx::PgSqlErrorCode;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

mod look;
mod pieces;
mod portions;
mod walk;

pub use look::{Look, look};
use pieces::{Pieces, in_pieces};
use portions::{MOST_AT_ONCE, Portions};
use walk::{Walk, walk};

/// How long a table that somebody has locked is left alone.
pub const IN_USE: Duration = Duration::from_millis(500);
/// How long a table that refuses to be read is left alone.
const REFUSED: Duration = Duration::from_secs(5);

/// A vectorizer with its table and model, as they are in this transaction.
pub struct Context {
    /// The vectorizer.
    pub vectorizer: Vectorizer,
    /// Its table.
    pub table: Table,
    /// Its model.
    pub stored: StoredModel,
    /// pgvector here.
    pub pgvector: Pgvector,
    /// Its chunk table, where texts go in pieces.
    pub chunks: Option<ChunkTable>,
    embedding: String,
    input: String,
}

impl Context {
    /// Locks the table for writing, in this transaction, without waiting; false: somebody has it locked.
    pub fn lock(&self) -> bool {
        let mut tables = catalog::with_partitions(&self.table);
        tables.extend(self.chunks.as_ref().map(|chunks| chunks.table.oid));
        locks::try_lock_for_writing(&tables)
    }

    /// What reading and writing need.
    pub fn target(&self) -> Target<'_> {
        Target {
            vectorizer: &self.vectorizer,
            table: &self.table,
            embedding: &self.embedding,
            input: &self.input,
            chunks: self.chunks.as_ref(),
        }
    }

    /// Most characters that are read of one text.
    fn max_chars(&self) -> i32 {
        match self.chunks {
            // One more, to know that there are more.
            Some(_) => MOST_CHARS as i32 + 1,
            None => source::max_chars(&self.stored.model),
        }
    }
}

/// Loads all that is needed to work for a vectorizer; notes in its state why that is not possible where it is not.
pub fn load(id: i32) -> Option<Context> {
    let mut vectorizer = catalog::vectorizer(id)?;
    // In a session's transaction, which may last, its names do.
    if vectorizer.is_restored && process::is_worker() {
        repair::all();
        vectorizer = catalog::vectorizers().into_iter().find(|v| v.id == id)?;
    }
    let table = catalog::table(vectorizer.source)?;
    let stored = catalog::model(&vectorizer.model);
    let pgvector = catalog::pgvector();
    let dimensions = stored.as_ref().map_or(0, |s| s.model.dimensions as i32);
    let chunks = ChunkTable::owned(&vectorizer, &table);
    let mut triggers = enable::trigger_names(id).to_vec();
    triggers.truncate(if vectorizer.on_change == "clear" { 3 } else { 2 });
    let again = "call autoembed.disable() and autoembed.enable() again; the vectors stay".to_string();
    let problem = match (&stored, &pgvector, &vectorizer.embedding, &vectorizer.input) {
        _ if table.is_partition => Some((
            "is_partition",
            format!("table \"{}\" has become a partition", table.name),
            "call autoembed.disable() for it and autoembed.enable() for the partitioned table".to_string(),
        )),
        (Err(e), ..) => Some(("model", e.to_string(), "create the model again".to_string())),
        (_, Err(e), ..) => Some(("pgvector", e.to_string(), "run CREATE EXTENSION vector".to_string())),
        _ if !table.key.is_empty() && let Err((message, hint)) = &chunks => {
            Some(("no_column", message.clone(), hint.clone()))
        }
        // With a column, the triggers that watch it are dropped: what is named is what has happened.
        (_, _, None, _) => Some((
            "no_column",
            format!(
                "the vector column of {}table \"{}\" was dropped or has another type",
                if vectorizer.chunks.is_some() { "the chunk table of " } else { "" },
                table.name
            ),
            "call autoembed.disable() and autoembed.enable() again".to_string(),
        )),
        (_, _, _, None) => Some((
            "no_column",
            format!("the input column of table \"{}\" was dropped", table.name),
            "call autoembed.disable(), and autoembed.enable() with another input; the vectors stay".to_string(),
        )),
        _ if table.key.is_empty() => {
            Some(("no_key", format!("table \"{}\" has no primary key any more", table.name), "add one".to_string()))
        }
        _ if vectorizer.column_dimensions > 0 && dimensions > 0 && vectorizer.column_dimensions != dimensions => {
            Some((
                "wrong_dimensions",
                format!(
                    "the column has {} dimensions, model \"{}\" has {dimensions}",
                    vectorizer.column_dimensions, vectorizer.model
                ),
                "call autoembed.disable() and autoembed.enable() with a model or a column that fits".to_string(),
            ))
        }
        _ => catalog::silenced(&table, &triggers).map(|how| match how {
            Silenced::Dropped => {
                ("no_trigger", format!("a trigger of autoembed on table \"{}\" was dropped", table.name), again)
            }
            Silenced::Disabled { table: of, trigger } => (
                "no_trigger",
                format!("trigger {trigger} of table {of} is disabled, so changes are not seen"),
                format!("run ALTER TABLE {of} ENABLE TRIGGER {trigger}; then call autoembed.reconcile() for what was changed meanwhile"),
            ),
        }),
    };
    if let Some((code, message, hint)) = problem {
        let would_end_all = hint.contains("autoembed.disable()");
        let hint = change::hint_for(id).filter(|_| would_end_all).unwrap_or(hint);
        state::block_vectorizer(id, code, &message, &hint);
        return None;
    }
    let (stored, pgvector, chunks) = (stored.ok()?, pgvector.ok()?, chunks.ok()?);
    let (embedding, input) = (vectorizer.embedding.clone()?, vectorizer.input.clone()?);
    Some(Context { vectorizer, table, stored, pgvector, chunks, embedding, input })
}

/// What one look at a lane brought.
#[derive(Default)]
pub struct Gathered {
    /// Rows that need a request.
    pub items: Vec<Item>,
    /// Jobs claimed.
    pub claimed: usize,
    /// As many as were asked for: there may be more.
    pub is_full: bool,
    /// The highest number among them; where some were given back, the lowest of those.
    pub highest: Option<i64>,
    /// A backfill has more rows to walk.
    pub walks_on: bool,
    /// Rows that were settled without a request.
    pub settled: usize,
    /// Jobs among the claimed that were given back unread, because the texts before them are huge.
    pub left: usize,
    /// The table could not be read: leave the vectorizer alone for so long.
    pub rest: Option<Duration>,
}

/// Rows that are on their way in this process.
#[derive(Default)]
pub struct Busy {
    /// Their keys.
    pub keys: HashSet<String>,
    /// Their jobs.
    pub jobs: HashSet<i64>,
}

impl Busy {
    /// Whether another job of the same row is on its way. A job that is so itself was claimed anew because its lease ran out:
    /// what is on its way for it will count for nothing.
    fn has_another(&self, jobs: &[Job]) -> bool {
        self.keys.contains(&jobs[0].key) && !jobs.iter().any(|job| self.jobs.contains(&job.id))
    }
}

/// Jobs that were claimed ahead.
pub struct Claimed {
    /// They.
    pub jobs: Vec<Job>,
    /// There may be more.
    pub is_full: bool,
}

/// Gives back what was claimed ahead.
pub fn give_back(id: i32, ahead: Option<Claimed>, pause: Duration) -> Gathered {
    queue::release(id, ahead.iter().flat_map(|claimed| &claimed.jobs), Charge::GivenBack, pause);
    Gathered::default()
}

/// Claims up to `limit` jobs of a lane and prepares their rows. For the backfill lane the queue is filled up first, and rows that
/// are on their way already (`busy`) need nothing more.
/// Texts are cut by `cut`. `ahead`: the jobs were claimed before.
#[allow(clippy::too_many_arguments)]
pub fn gather(
    context: &Context,
    lane: i16,
    above: i64,
    limit: usize,
    ahead: Option<Claimed>,
    cut: &Limits,
    busy: &Busy,
    work: &Work,
) -> Gathered {
    let id = context.vectorizer.id;
    let not_now = |ahead, rest| Gathered { rest: Some(rest), ..give_back(id, ahead, rest) };
    if !context.lock() || !change::is_as_loaded(&context.vectorizer) {
        return not_now(ahead, IN_USE);
    }
    let mut walked = Walk::Over;
    if lane == queue::BACKFILL {
        match walk(context, above, limit) {
            Ok(came_to) => walked = came_to,
            Err(rest) => return not_now(ahead, rest),
        }
    }
    let was_claimed_ahead = ahead.is_some();
    let Claimed { jobs, is_full } = ahead.unwrap_or_else(|| {
        let jobs = queue::claim(id, lane, above, limit, work.lease);
        Claimed { is_full: jobs.len() == limit, jobs }
    });
    if !context.vectorizer.delay.is_zero() && jobs.len() < limit {
        queue::note_delays(id, lane, above);
    }
    let walks_on = match walked {
        Walk::On => true,
        // Rows that wait for their time, or for others, are no reason to look again at once.
        Walk::Full => !jobs.is_empty(),
        // What was claimed ahead was so before these rows were queued, and nobody will tell of them.
        Walk::Last => was_claimed_ahead,
        Walk::Over => false,
    };
    let mut gathered = Gathered {
        walks_on,
        claimed: jobs.len(),
        is_full,
        highest: jobs.iter().map(|job| job.id).max(),
        ..Gathered::default()
    };
    if jobs.is_empty() {
        return gathered;
    }
    let jobs = drop_superseded(context, jobs);
    let rows = by_row(jobs);
    let (rows, given_up): (Vec<Vec<Job>>, Vec<Vec<Job>>) =
        rows.into_iter().partition(|jobs| attempts(jobs) <= work.max_attempts as i16);
    for jobs in &given_up {
        queue::complete(id, jobs.iter());
        let Some(job) = Job::for_all(jobs.iter()) else { continue };
        queue::fail(
            id,
            &Job { attempts: job.attempts - 1, ..job },
            &[],
            queue::WORKER_DIED,
            "the worker ended each time it had this row in hand",
            "Look into the server's log for that time; then call autoembed.retry_failed().",
        );
        notify::failed(id);
    }
    let rows = if context.chunks.is_some() { pieces::distrust(id, rows) } else { rows };
    let max_chars = context.max_chars();
    // A text in pieces is there several times, and its vectors with it.
    let most = if context.chunks.is_some() { MOST_AT_ONCE / 4 } else { MOST_AT_ONCE };
    let mut portions = Portions::new(rows, max_chars as usize, most);
    while let Some(rows) = portions.next() {
        let keys: Vec<&str> = rows.iter().map(|jobs| jobs[0].key.as_str()).collect();
        match read(context, &keys, max_chars) {
            Ok(found) => {
                portions.took(&found);
                sort_out(context, rows, found, max_chars, cut, busy, work, &mut gathered);
            }
            Err(caught) => {
                let rest = rows.into_iter().chain(portions.rest()).flatten().collect::<Vec<Job>>();
                let pause = if caught.is_contention() { IN_USE } else { REFUSED };
                queue::release(id, rest.iter(), Charge::GivenBack, pause);
                if !caught.is_contention() {
                    block(context, UNREADABLE, &caught);
                }
                gathered.rest = Some(pause);
                gathered.walks_on = false;
                return gathered;
            }
        }
    }
    let left: Vec<Job> = portions.rest().flatten().collect();
    if !left.is_empty() {
        queue::release(id, left.iter(), Charge::GivenBack, Duration::ZERO);
        gathered.left = left.len();
        gathered.highest = left.iter().map(|job| job.id).min();
    }
    if gathered.items.is_empty() {
        state::unblock_vectorizer(id);
    }
    gathered
}

fn attempts(jobs: &[Job]) -> i16 {
    jobs.iter().map(|job| job.attempts).max().unwrap_or(0)
}

/// What is said of a table that refuses to be read.
pub const UNREADABLE: &str = "the table could not be read";

/// Notes that the table refuses reading or writing as such.
pub fn block(context: &Context, what: &str, caught: &Caught) {
    let hint = match caught.code {
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => {
            "the worker acts as the table's owner with row_security = off: give the owner the rights, or lift FORCE ROW LEVEL SECURITY"
        }
        _ => "mend it, or call autoembed.disable() and autoembed.enable() with another input",
    };
    state::block_vectorizer(context.vectorizer.id, &caught.sqlstate(), &format!("{what}: {}", caught.message), hint);
}

enum Row {
    Gone,
    Found(Found),
    /// The input expression raised an error for this row.
    Raised(Caught),
}

/// Reads rows; a row at which the statement fails is found by halves.
fn read(context: &Context, keys: &[&str], max_chars: i32) -> Result<Vec<Row>, Caught> {
    match subtransaction(|| source::read(&context.target(), keys, max_chars)) {
        Ok(found) => Ok(found.into_iter().map(|found| found.map_or(Row::Gone, Row::Found)).collect()),
        Err(caught) if !caught.may_be_one_row() => Err(caught),
        Err(caught) => match keys {
            [key] => {
                // A text that the key's type does not take can be no row's key.
                match subtransaction(|| source::exist(&context.target(), &[key])) {
                    Ok(_) => Ok(vec![Row::Raised(caught)]),
                    Err(no_key) if no_key.may_be_one_row() => Ok(vec![Row::Gone]),
                    Err(other) => Err(other),
                }
            }
            _ => {
                let (left, right) = keys.split_at(keys.len() / 2);
                let mut rows = read(context, left, max_chars)?;
                rows.extend(read(context, right, max_chars)?);
                Ok(rows)
            }
        },
    }
}

fn drop_superseded(context: &Context, jobs: Vec<Job>) -> Vec<Job> {
    if context.vectorizer.delay.is_zero() {
        return jobs;
    }
    let superseded = queue::superseded(context.vectorizer.id, &jobs);
    // A later job may take vectors for right that do not count.
    let is_over = |job: &Job| !job.is_forced && superseded.contains(&job.id);
    let (old, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(is_over);
    queue::complete(context.vectorizer.id, old.iter());
    jobs
}

/// Jobs of one row together, in the order of their first jobs.
fn by_row(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let mut place: HashMap<String, usize> = HashMap::with_capacity(jobs.len());
    let mut rows: Vec<Vec<Job>> = Vec::with_capacity(jobs.len());
    for job in jobs {
        match place.get(&job.key) {
            Some(i) => rows[*i].push(job),
            None => {
                place.insert(job.key.clone(), rows.len());
                rows.push(vec![job]);
            }
        }
    }
    rows
}

#[allow(clippy::too_many_arguments)]
fn sort_out(
    context: &Context,
    rows: Vec<Vec<Job>>,
    found: Vec<Row>,
    max_chars: i32,
    cut: &Limits,
    busy: &Busy,
    work: &Work,
    gathered: &mut Gathered,
) {
    let id = context.vectorizer.id;
    let cache_keys = CacheKeys::new(&context.stored.model, InputKind::Document);
    let prefix = context.stored.model.prefix_size(InputKind::Document);
    let mut ended: Vec<Job> = Vec::new();
    let mut to_clear: Vec<(Item, Option<Vec<u8>>)> = Vec::new();
    let mut complete: Vec<Complete> = Vec::new();
    for (jobs, found) in rows.into_iter().zip(found) {
        let found = match found {
            Row::Found(found) => found,
            Row::Gone => {
                ended.extend(jobs);
                continue;
            }
            Row::Raised(caught) => {
                let item = Item::without_text(jobs);
                finish::raised(id, &item, &caught, work);
                gathered.settled += 1;
                continue;
            }
        };
        let is_there = found.has_vector || busy.has_another(&jobs);
        if is_there && jobs.iter().all(|job| job.if_missing) {
            ended.extend(jobs);
            continue;
        }
        match found.text.filter(|text| !text.trim().is_empty()) {
            None => {
                to_clear.push((Item::without_text(jobs), found.hash));
            }
            Some(text) if context.chunks.is_some() => {
                let hash = found.hash.unwrap_or_default();
                match in_pieces(context, jobs, text, hash, &found.pieces, cut, &cache_keys) {
                    Pieces::Failed => gathered.settled += 1,
                    Pieces::Complete(row) => complete.push(row.finish()),
                    Pieces::Wanted(items) => gathered.items.extend(items),
                }
            }
            Some(text) => {
                let is_longer = text.len() >= max_chars as usize && text.chars().count() >= max_chars as usize;
                let mut item = Item::new(jobs, text, found.hash.unwrap_or_default(), prefix);
                if fit(context, &mut item, is_longer, cut, &cache_keys) {
                    gathered.items.push(item);
                } else {
                    finish::too_long(id, &item, &context.stored.model.name, cut.input_tokens);
                    gathered.settled += 1;
                }
            }
        }
    }
    gathered.settled += ended.len() + to_clear.len() + complete.len();
    queue::complete(id, ended.iter());
    finish::clear(context, to_clear, work);
    if !complete.is_empty() {
        finish::write_in_pieces(context, &complete, work);
    }
}

/// Makes an item ready to be sent; false: its text must not be cut and is far too long. What is little too long by the
/// estimate is left to the server. `is_longer`: only its beginning was read.
fn fit(context: &Context, item: &mut Item, is_longer: bool, cut: &Limits, keys: &CacheKeys) -> bool {
    let model = &context.stored.model;
    match model.too_long() {
        TooLong::Truncate => {
            item.cut(cut.input_tokens);
            item.is_cut |= is_longer;
        }
        TooLong::Fail if is_longer || item.tokens.saturating_mul(2) > cut.input_tokens.saturating_mul(3) => {
            return false;
        }
        TooLong::Fail => {}
    }
    // Who asks for a row to be embedded again wants no remembered vector.
    if model.provider.is_remote() && !item.is_forced() {
        let mut key = keys.of(&item.text);
        if context.table.has_row_security {
            // How soon a vector is there tells nobody that another's row has the same text: what is remembered is so for this row.
            key.iter_mut().zip(text_hash(&item.key)).for_each(|(byte, other)| *byte ^= other);
        }
        item.memory = Some((context.table.owner, key));
    }
    true
}
