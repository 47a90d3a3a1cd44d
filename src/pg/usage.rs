//! What calling models has cost, counted per model and day.
//!
//! The worker's requests are in the request log. What sessions use (`embed()`, searches) cannot be written into a table:
//! they may be in a read-only transaction, or roll back what was spent nevertheless. They append a line to a file, which the worker
//! adds up: [`note`] and [`fold`]. Where the process dies: a line that was not written, or lines that were read and not
//! added, are lost, a second's worth at most; nothing is counted twice.

use crate::pg::ffi::rights::{as_extension, as_queue};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ffi::{process, snapshot};
use autoembed_core::usage::{Entry, Usage, sum_up};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Beyond this the file is added up by whoever writes to it.
const MAX_BYTES: u64 = 64 * 1024;
/// 2000-01-01, from which PostgreSQL counts days, in days from 1970-01-01.
pub const POSTGRES_EPOCH: i32 = 10_957;
const SECONDS_A_DAY: u64 = 86_400;

/// How old a sum may be that a session judges a budget by; what it has used itself since is added.
const SUM_AGE: Duration = Duration::from_secs(1);

thread_local! {
    /// Sums of today by model: when they were made, for which day, and the tokens.
    static SUMS: RefCell<HashMap<String, (Instant, i32, u64)>> = RefCell::default();
    /// The file, as long as it is this one.
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
    /// What could not be written because the worker was reading.
    static UNWRITTEN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Today, counted from 1970-01-01 in UTC.
pub fn today() -> i32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i32::try_from(seconds / SECONDS_A_DAY).unwrap_or(i32::MAX)
}

// Beside the statistics of other extensions: a folder that backups leave out.
fn path() -> String {
    format!("pg_stat_tmp/autoembed.{}", process::database().to_u32())
}

fn open(create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(create).mode(0o600).open(path())
}

/// Counts what this session has used of a model. Never fails, never waits.
pub fn note(model: &str, usage: Usage) {
    let line = Entry { model: model.to_string(), day: today(), usage }.to_line();
    SUMS.with_borrow_mut(|sums| {
        if let Some((_, _, tokens)) = sums.get_mut(model) {
            *tokens = tokens.saturating_add(usage.tokens);
        }
    });
    UNWRITTEN.with_borrow_mut(|unwritten| {
        unwritten.push_str(&line);
        // One write each, so that lines of several sessions do not mix.
        if append(unwritten).is_ok() || unwritten.len() > 64 * 1024 {
            unwritten.clear();
        }
    });
}

fn append(lines: &str) -> io::Result<()> {
    FILE.with_borrow_mut(|kept| {
        // One that was taken away is there for whoever has it open.
        let known =
            kept.take().and_then(|file| file.metadata().ok().map(|of| (file, of))).filter(|(_, of)| of.nlink() > 0);
        let (file, of) = match known {
            Some(known) => known,
            None => {
                let file = open(true)?;
                let of = file.metadata()?;
                (file, of)
            }
        };
        // What fails may leave a lock, which goes with the file.
        append_to(&file, of.len(), lines)?;
        *kept = Some(file);
        Ok(())
    })
}

fn append_to(mut file: &File, bytes: u64, lines: &str) -> io::Result<()> {
    if bytes > MAX_BYTES {
        add_up(file)?;
    }
    file.try_lock_shared().map_err(io::Error::from)?;
    let written = file.write_all(lines.as_bytes());
    file.unlock()?;
    written
}

/// Without a worker the file would grow: its lines become one a model and day.
fn add_up(mut file: &File) -> io::Result<()> {
    file.try_lock().map_err(io::Error::from)?;
    let sums: String = take_all(file)?.iter().map(Entry::to_line).collect();
    file.write_all(sums.as_bytes())?;
    file.unlock()
}

/// What sessions have noted and nobody has added up.
pub fn noted() -> Vec<Entry> {
    let mut text = String::new();
    if let Ok(mut file) = open(false) {
        let _ = file.read_to_string(&mut text);
    }
    sum_up(&text)
}

/// Whether there is anything to fold.
pub fn is_any_noted() -> bool {
    std::fs::metadata(path()).is_ok_and(|file| file.len() > 0)
}

/// Adds up what sessions have noted, in this transaction; gives it. For the worker alone.
pub fn fold() -> Vec<Entry> {
    let entries = take().unwrap_or_default();
    const SQL: &str = "INSERT INTO autoembed.usage_day AS u (model, day, requests, inputs, tokens, cost, errors, cache_hits) \
         VALUES ($1, date '1970-01-01' + $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (model, day) DO UPDATE SET \
         requests = u.requests + EXCLUDED.requests, inputs = u.inputs + EXCLUDED.inputs, tokens = u.tokens + EXCLUDED.tokens, \
         cost = u.cost + EXCLUDED.cost, errors = u.errors + EXCLUDED.errors, cache_hits = u.cache_hits + EXCLUDED.cache_hits";
    as_queue(|| {
        for Entry { model, day, usage } in &entries {
            let count = |number: u64| Arg::new(i64::try_from(number).unwrap_or(i64::MAX));
            let values = [
                Arg::new(model.clone()),
                Arg::new(*day),
                count(usage.requests),
                count(usage.inputs),
                count(usage.tokens),
                Arg::new(usage.cost),
                count(usage.errors),
                count(usage.cache_hits),
            ];
            spi::planned(SQL, &values, Mode::Write, |_| ());
        }
    });
    entries
}

fn take() -> io::Result<Vec<Entry>> {
    let file = open(false)?;
    file.try_lock().map_err(io::Error::from)?;
    take_all(&file)
}

/// Reads the file and empties it; for who has it locked.
fn take_all(mut file: &File) -> io::Result<Vec<Entry>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    file.set_len(0)?;
    Ok(sum_up(&String::from_utf8_lossy(&bytes)))
}

/// [`used_today`], as of a moment ago.
pub fn used_lately(model: &str) -> u64 {
    let day = today();
    let known = SUMS.with_borrow(|sums| sums.get(model).copied());
    if let Some((_, _, tokens)) = known.filter(|(at, of, _)| at.elapsed() < SUM_AGE && *of == day) {
        return tokens;
    }
    let tokens = used_today(model);
    SUMS.with_borrow_mut(|sums| sums.insert(model.to_string(), (Instant::now(), day, tokens)));
    tokens
}

/// Tokens of a model that were used today, as far as they are written down; with what sessions have noted. As of now,
/// whatever snapshot the statement or transaction has.
pub fn used_today(model: &str) -> u64 {
    const SQL: &str = "SELECT COALESCE((SELECT sum(t.tokens) FROM autoembed.request t WHERE t.model = $1 AND NOT t.noted \
           AND t.at >= timezone('UTC', (date '1970-01-01' + $2)::timestamp)), 0)::bigint \
         + COALESCE((SELECT u.tokens FROM autoembed.usage_day u WHERE u.model = $1 AND u.day = date '1970-01-01' + $2), 0)";
    let day = today();
    // First the file: what is moved to the table meanwhile counts twice rather than not at all.
    let noted = noted();
    let written = snapshot::with_latest(false, || {
        as_extension(|| {
            spi::first(SQL, args![model.to_string(), day], Mode::Read, |row| row.or_default::<i64>(1)).unwrap_or(0)
        })
    });
    let noted = noted.into_iter().filter(|entry| entry.day == day && entry.model == model);
    (written.max(0) as u64).saturating_add(noted.map(|entry| entry.usage.tokens).sum())
}
