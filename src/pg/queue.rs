//! The queue: claim, complete, put back, fail, rescue, feed. SQL only; every statement is one short step of a transaction.

use crate::pg::ffi::insert::{New, Queue};
use crate::pg::ffi::process;
use crate::pg::ffi::rights::{as_extension, as_queue};
use crate::pg::ffi::spi::{self, Arg, Mode, Row, args};
use crate::points;
use autoembed_core::record;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

mod log;
mod walk;

pub use log::{Logged, log};
pub use walk::{Walk, is_any_walk_new, lock_walk, step_walk, unfinished_walk};

/// The lane of users' writes.
pub const LIVE: i16 = 0;
/// The lane behind it.
pub const BACKFILL: i16 = 1;
/// The code of rows that were given up since the worker ended each time it had them in hand.
pub const WORKER_DIED: &str = "worker_died";

/// One claimed job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its number; grows in the order of queueing, though commits may come in another.
    pub id: i64,
    /// Proof of the claim: another holder has another.
    pub token: i64,
    /// [`LIVE`] or [`BACKFILL`].
    pub lane: i16,
    /// The row's key as text.
    pub key: String,
    /// Nothing to do where a vector is there already.
    pub if_missing: bool,
    /// Vectors that are there, and those remembered, do not count.
    pub is_forced: bool,
    /// Tries, this one included.
    pub attempts: i16,
    /// When it was queued.
    pub queued_at: Option<TimestampWithTimeZone>,
    /// Where it was put by its claim; its lease may have been renewed since, and it is elsewhere.
    pub place: Option<pg_sys::ItemPointerData>,
}

impl Job {
    /// One job that does what all of these would; it is the last of them.
    pub fn for_all<'a>(jobs: impl Iterator<Item = &'a Job>) -> Option<Job> {
        let merge = |before: Job, job: &Job| Job {
            if_missing: before.if_missing && job.if_missing,
            is_forced: before.is_forced || job.is_forced,
            attempts: before.attempts.max(job.attempts),
            ..job.clone()
        };
        jobs.fold(None, |before, job| Some(before.map_or_else(|| job.clone(), |before| merge(before, job))))
    }
}

fn read_job(row: &Row) -> Job {
    Job {
        id: row.or_default(1),
        token: row.or_default(2),
        lane: row.or_default(3),
        key: row.or_default(4),
        if_missing: row.or_default(5),
        attempts: row.or_default(6),
        queued_at: row.get(7),
        is_forced: row.or_default(8),
        place: row.get(9),
    }
}

/// One lane of a vectorizer that is not paused.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    /// The vectorizer.
    pub vectorizer: i32,
    /// [`LIVE`] or [`BACKFILL`].
    pub lane: i16,
    /// It has a job, or a backfill that has not walked to its end.
    pub waits: bool,
    /// The last number that any job was given.
    pub last: i64,
}

/// All lanes, live ones first. `above`: vectorizer, lane, and the number up to which jobs are not looked for.
pub fn lanes(above: &[(i32, i16, i64)]) -> Vec<Lane> {
    // In two steps: one that joins them is quadratic where there are no hash joins, and there may be thousands.
    const IDS: &str = "SELECT v.id FROM autoembed.vectorizer v WHERE NOT v.paused ORDER BY 1";
    const SQL: &str = "SELECT h.id, h.lane, EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = h.id AND j.lane = h.lane AND j.id > h.low) \
           OR h.lane = 1 AND EXISTS (SELECT FROM autoembed.backfill b WHERE b.vectorizer_id = h.id AND b.walked_at IS NULL), \
         (SELECT s.last_value FROM autoembed.job_id_seq s) \
         FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS h (id, lane, low)";
    let above: HashMap<(i32, i16), i64> = above.iter().map(|(id, lane, low)| ((*id, *lane), *low)).collect();
    as_queue(|| {
        let known: Vec<i32> = spi::planned(IDS, &[], Mode::Write, |row| row.or_default(1));
        let (mut ids, mut lanes, mut lows) = (Vec::<i32>::new(), Vec::<i16>::new(), Vec::<i64>::new());
        for lane in [0_i16, 1] {
            ids.extend(&known);
            lanes.extend(known.iter().map(|_| lane));
            lows.extend(known.iter().map(|id| above.get(&(*id, lane)).copied().unwrap_or(0)));
        }
        spi::planned(SQL, args![ids, lanes, lows], Mode::Write, |row| Lane {
            vectorizer: row.or_default(1),
            lane: row.or_default(2),
            waits: row.or_default(3),
            last: row.or_default(4),
        })
    })
}

/// The keys of up to `most` rows that wait, those that are claimed first.
pub fn next_keys(vectorizer: i32, most: i64) -> Vec<String> {
    const SQL: &str = "SELECT key FROM autoembed.job WHERE vectorizer_id = $1 ORDER BY lane, id LIMIT $2";
    as_queue(|| spi::planned(SQL, args![vectorizer, most], Mode::Write, |row| row.or_default(1)))
}

/// The models that rows wait for whose tables can be read and written.
pub fn models_waited_for() -> HashSet<String> {
    const SQL: &str = "SELECT DISTINCT v.model FROM autoembed.vectorizer v WHERE NOT v.paused \
         AND (EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = v.id) \
           OR EXISTS (SELECT FROM autoembed.backfill b WHERE b.vectorizer_id = v.id AND b.walked_at IS NULL)) \
         AND NOT EXISTS (SELECT FROM autoembed.vectorizer_state s WHERE s.vectorizer_id = v.id AND s.code NOT IN ('index', 'locked'))";
    as_queue(|| spi::planned(SQL, &[], Mode::Write, |row| row.or_default(1))).into_iter().collect()
}

/// Takes up to `limit` due jobs with ids above `above` for the length of a lease, oldest first. The attempt is counted here, so
/// that a row which brings the worker down is given up one day. Jobs that others hold are passed over.
pub fn claim(vectorizer: i32, lane: i16, above: i64, limit: usize, lease: Duration) -> Vec<Job> {
    // One scan by the places of all rows: to look for them one by one costs a third of the claim.
    const SQL: &str = "UPDATE autoembed.job j SET leased_until = clock_timestamp() + $5 * interval '1 ms', \
           lease_token = (SELECT nextval('autoembed.lease_token_seq')), attempts = j.attempts + 1 \
         WHERE j.ctid = ANY (ARRAY(SELECT d.ctid FROM autoembed.job d \
           WHERE d.vectorizer_id = $1 AND d.lane = $2 AND d.id > $3 \
             AND (d.leased_until IS NULL OR d.leased_until <= clock_timestamp()) \
             AND (d.not_before IS NULL OR d.not_before <= clock_timestamp()) \
           ORDER BY d.id LIMIT $4 FOR UPDATE SKIP LOCKED)) \
         RETURNING j.id, j.lease_token, j.lane, j.key, j.if_missing, j.attempts, j.queued_at, j.is_forced, j.ctid";
    let mut jobs = as_queue(|| {
        spi::planned(SQL, args![vectorizer, lane, above, limit as i64, lease.as_millis() as f64], Mode::Write, read_job)
    });
    jobs.sort_unstable_by_key(|job: &Job| job.id);
    points::reach("claimed");
    jobs
}

/// The most attempts of the jobs that [`claim`] would take.
pub fn most_attempts(vectorizer: i32, lane: i16, above: i64, limit: usize) -> i16 {
    const SQL: &str = "SELECT COALESCE(max(d.attempts), 0::smallint) FROM (SELECT j.attempts FROM autoembed.job j \
           WHERE j.vectorizer_id = $1 AND j.lane = $2 AND j.id > $3 \
             AND (j.leased_until IS NULL OR j.leased_until <= clock_timestamp()) \
             AND (j.not_before IS NULL OR j.not_before <= clock_timestamp()) ORDER BY j.id LIMIT $4) d";
    let args = args![vectorizer, lane, above, limit as i64];
    as_queue(|| spi::planned(SQL, args, Mode::Write, |row| row.or_default(1))).into_iter().next().unwrap_or(0)
}

/// The jobs `$2` of vectorizer `$1` in lane `$4` that are still held by their tokens `$3`, as a condition on `j`. One look-up a job,
/// whatever the planner thinks of the table's size; the token is looked at once more where a job changes hands meanwhile.
macro_rules! held {
    () => {
        "j.ctid = ANY (ARRAY(SELECT x.ctid FROM unnest($2::bigint[], $3::bigint[]) AS u (id, token) \
           CROSS JOIN LATERAL (SELECT i.ctid FROM autoembed.job i WHERE i.vectorizer_id = $1 AND i.lane = $4 AND i.id = u.id \
             AND i.lease_token = u.token OFFSET 0) x)) AND j.lease_token = ANY ($3::bigint[])"
    };
}

/// Removes jobs that are still held by their tokens, and tells which were: a holder that overslept its lease gets nothing.
pub fn complete<'a>(vectorizer: i32, jobs: impl Iterator<Item = &'a Job>) -> HashSet<i64> {
    // Where the claim has put it, a job is found without its index; what is compared besides is written so that the index cannot be used: it
    // would be gone through, with all that an old snapshot keeps in it, for each job.
    const BY_PLACE: &str = "DELETE FROM autoembed.job j \
         USING (SELECT unnest($2::tid[]) AS place, unnest($3::bigint[]) AS id, unnest($4::bigint[]) AS token) u \
         WHERE j.ctid = u.place AND j.id - u.id = 0 AND j.lease_token = u.token AND j.vectorizer_id - $1 = 0 RETURNING j.id";
    const SQL: &str = concat!("DELETE FROM autoembed.job j WHERE ", held!(), " RETURNING j.id");
    let jobs: Vec<&Job> = jobs.collect();
    let mut done = HashSet::with_capacity(jobs.len());
    let placed: Vec<(pg_sys::ItemPointerData, &Job)> = jobs.iter().filter_map(|job| Some((job.place?, *job))).collect();
    if !placed.is_empty() {
        let (ids, tokens) = ids_and_tokens(placed.iter().map(|(_, job)| *job));
        let places: Vec<pg_sys::ItemPointerData> = placed.iter().map(|(place, _)| *place).collect();
        done.extend(as_queue(|| {
            spi::kept(BY_PLACE, args![vectorizer, places, ids, tokens], Mode::Write, |row| row.or_default::<i64>(1))
        }));
    }
    for lane in [LIVE, BACKFILL] {
        let is_left = |job: &&Job| job.lane == lane && !done.contains(&job.id);
        let (ids, tokens) = ids_and_tokens(jobs.iter().copied().filter(is_left));
        if !ids.is_empty() {
            done.extend(as_queue(|| {
                spi::planned(SQL, args![vectorizer, ids, tokens, lane], Mode::Write, |row| row.or_default::<i64>(1))
            }));
        }
    }
    done
}

fn ids_and_tokens<'a>(jobs: impl Iterator<Item = &'a Job>) -> (Vec<i64>, Vec<i64>) {
    jobs.map(|job| (job.id, job.token)).unzip()
}

/// Whether the try that a job was claimed for counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Charge {
    /// The row was at fault, or may have been.
    Kept,
    /// It was not.
    GivenBack,
}

thread_local! {
    static DUE_AGAIN: RefCell<Vec<(i32, Instant)>> = const { RefCell::new(Vec::new()) };
}

fn due_again(vectorizer: i32, pause: Duration) {
    if process::is_worker() && !pause.is_zero() {
        DUE_AGAIN.with_borrow_mut(|due| due.push((vectorizer, Instant::now() + pause)));
    }
}

/// When jobs are due again that were given or put back since this was asked last, with their vectorizers. In a worker; it is said of those,
/// too, whose transaction was rolled back.
pub fn take_due_again() -> Vec<(i32, Instant)> {
    DUE_AGAIN.take()
}

/// Notes when the first of the jobs above that number is due which wait for their rows to settle. They were queued in the order in which
/// their time comes, so few are looked at.
pub fn note_delays(vectorizer: i32, lane: i16, above: i64) {
    const SQL: &str = "SELECT EXTRACT(epoch FROM min(x.not_before) - clock_timestamp())::float8 FROM (SELECT j.not_before FROM autoembed.job j \
           WHERE j.vectorizer_id = $1 AND j.lane = $2 AND j.id > $3 AND j.leased_until IS NULL AND j.not_before > clock_timestamp() \
           ORDER BY j.id LIMIT 100) x";
    let pauses = as_queue(|| spi::planned(SQL, args![vectorizer, lane, above], Mode::Write, |row| row.get::<f64>(1)));
    for pause in pauses.into_iter().flatten() {
        due_again(vectorizer, Duration::try_from_secs_f64(pause).unwrap_or_default());
    }
}

/// Ends the lease of jobs that were not done; they are due again after `pause`.
pub fn release<'a>(vectorizer: i32, jobs: impl Iterator<Item = &'a Job>, charge: Charge, pause: Duration) {
    const SQL: &str = concat!(
        "UPDATE autoembed.job j SET leased_until = NULL, lease_token = NULL, attempts = j.attempts - $5, \
           not_before = CASE WHEN $6 > 0 THEN clock_timestamp() + $6 * interval '1 ms' END WHERE ",
        held!()
    );
    let back = if charge == Charge::GivenBack { 1_i16 } else { 0 };
    let jobs: Vec<&Job> = jobs.collect();
    for lane in [LIVE, BACKFILL] {
        let (ids, tokens) = ids_and_tokens(jobs.iter().copied().filter(|j| j.lane == lane));
        if !ids.is_empty() {
            as_queue(|| {
                spi::planned(
                    SQL,
                    args![vectorizer, ids, tokens, lane, back, pause.as_secs_f64() * 1000.0],
                    Mode::Write,
                    |_| (),
                )
            });
            due_again(vectorizer, pause);
        }
    }
}

/// Makes the leases of jobs that are still held last from now on.
pub fn renew<'a>(vectorizer: i32, jobs: impl Iterator<Item = &'a Job>, lease: Duration) {
    const SQL: &str =
        concat!("UPDATE autoembed.job j SET leased_until = clock_timestamp() + $5 * interval '1 ms' WHERE ", held!());
    let jobs: Vec<&Job> = jobs.collect();
    for lane in [LIVE, BACKFILL] {
        let (ids, tokens) = ids_and_tokens(jobs.iter().copied().filter(|j| j.lane == lane));
        if !ids.is_empty() {
            let millis = lease.as_millis() as f64;
            as_queue(|| spi::planned(SQL, args![vectorizer, ids, tokens, lane, millis], Mode::Write, |_| ()));
        }
    }
}

/// Puts a job back that [`complete`] has taken out in this transaction, due again after `pause`; with `by_age`, after half its
/// age where that is more (up to half a minute), so that a row which cannot be written for long costs few requests.
pub fn put_back(vectorizer: i32, job: &Job, charge: Charge, pause: Duration, by_age: bool) {
    const SQL: &str = "INSERT INTO autoembed.job (vectorizer_id, lane, id, key, if_missing, attempts, queued_at, not_before, is_forced) \
         OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, COALESCE($7, now()), clock_timestamp() + GREATEST($8 * interval '1 ms', \
           CASE WHEN $9 THEN LEAST((clock_timestamp() - $7) / 2, interval '30 s') END), NULLIF($10, false)) \
         RETURNING EXTRACT(epoch FROM not_before - clock_timestamp())::float8";
    let attempts = if charge == Charge::GivenBack { (job.attempts - 1).max(0) } else { job.attempts };
    let pauses = as_queue(|| {
        spi::planned(
            SQL,
            &[
                spi::Arg::new(vectorizer),
                spi::Arg::new(job.lane),
                spi::Arg::new(job.id),
                spi::Arg::new(job.key.clone()),
                spi::Arg::new(job.if_missing),
                spi::Arg::new(attempts),
                spi::Arg::new::<TimestampWithTimeZone>(job.queued_at),
                spi::Arg::new(pause.as_secs_f64() * 1000.0),
                spi::Arg::new(by_age),
                spi::Arg::new(job.is_forced),
            ],
            Mode::Write,
            |row| row.or_default::<f64>(1),
        )
    });
    for pause in pauses {
        due_again(vectorizer, Duration::try_from_secs_f64(pause).unwrap_or_default());
    }
}

/// Writes a row that is given up into the list of failed jobs. `job` stands for its jobs, which must have been taken out by [`complete`].
/// `text`: sha256 of the text; empty where it was not read.
pub fn fail(vectorizer: i32, job: &Job, text: &[u8], code: &str, message: &str, hint: &str) {
    const SQL: &str = "WITH old AS (DELETE FROM autoembed.failed WHERE vectorizer_id = $1 AND key = $2 RETURNING is_forced) \
         INSERT INTO autoembed.failed (vectorizer_id, key, attempts, code, message, hint, text_mark, is_forced) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULLIF($8 OR EXISTS (SELECT FROM old WHERE is_forced), false))";
    let mark: Option<i64> = (!text.is_empty()).then(|| record::text(text).into());
    as_queue(|| {
        spi::planned(
            SQL,
            &[
                Arg::new(vectorizer),
                Arg::new(job.key.clone()),
                Arg::new(i32::from(job.attempts)),
                Arg::new(code.to_string()),
                Arg::new(message.to_string()),
                Arg::new(hint.to_string()),
                Arg::new::<i64>(mark),
                Arg::new(job.is_forced),
            ],
            Mode::Write,
            |_| (),
        )
    });
}

/// Forgets that rows had failed, now that they are embedded.
pub fn forget_failures(vectorizer: i32, keys: Vec<String>) {
    const ANY: &str = "SELECT EXISTS (SELECT FROM autoembed.failed WHERE vectorizer_id = $1)";
    const SQL: &str = "DELETE FROM autoembed.failed WHERE vectorizer_id = $1 AND key = ANY ($2)";
    as_queue(|| {
        let any = spi::planned(ANY, args![vectorizer], Mode::Write, |row| row.or_default::<bool>(1));
        if any.first() == Some(&true) {
            spi::planned(SQL, args![vectorizer, keys], Mode::Write, |_| ());
        }
    });
}

/// Of `keys`, those that were given up when the vectors that they had did not count. They do not yet.
pub fn distrusted(vectorizer: i32, keys: Vec<String>) -> HashSet<String> {
    const SQL: &str = "SELECT key FROM autoembed.failed WHERE vectorizer_id = $1 AND key = ANY ($2) AND is_forced";
    as_queue(|| spi::planned(SQL, args![vectorizer, keys], Mode::Write, |row| row.or_default(1))).into_iter().collect()
}

/// Of `jobs`, those whose row has a job that was queued later: that one does the work.
pub fn superseded(vectorizer: i32, jobs: &[Job]) -> HashSet<i64> {
    const SQL: &str = "SELECT u.id FROM unnest($2::bigint[], $3::text[]) AS u (id, key) \
         WHERE EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = $1 AND j.lane = ANY (ARRAY[0, 1]::smallint[]) \
           AND j.id > $4 AND j.id > u.id AND j.key = u.key)";
    let ids: Vec<i64> = jobs.iter().map(|job| job.id).collect();
    let keys: Vec<String> = jobs.iter().map(|job| job.key.clone()).collect();
    let Some(first) = ids.iter().min().copied() else { return HashSet::new() };
    // Here a hash join is right: there is no index on keys.
    as_extension(|| {
        spi::planned(SQL, args![vectorizer, ids, keys, first], Mode::Write, |row| row.or_default::<i64>(1))
            .into_iter()
            .collect()
    })
}

/// Of `keys`, those with a job, as the calling statement sees them; and whether one of its jobs is forced.
pub fn waiting(vectorizer: i32, keys: Vec<String>) -> HashMap<String, bool> {
    const SQL: &str = "SELECT u.key, COALESCE(bool_or(j.is_forced), false) FROM unnest($2::text[]) AS u (key) \
         JOIN autoembed.job j ON j.vectorizer_id = $1 AND j.key = u.key GROUP BY u.key";
    let read = |row: &Row| (row.or_default(1), row.or_default(2));
    as_extension(|| spi::planned(SQL, args![vectorizer, keys], Mode::Read, read)).into_iter().collect()
}

/// Why a row is in the list of failed jobs.
pub struct Failed {
    /// The failure's code.
    pub code: String,
    /// What [`record::text`] gives for the text that was given up; `None` where it was not read.
    pub text: Option<u32>,
}

/// Of `keys`, those that are in the list of failed jobs, as the calling statement sees them.
pub fn failures(vectorizer: i32, keys: Vec<String>) -> HashMap<String, Failed> {
    const SQL: &str = "SELECT key, code, text_mark FROM autoembed.failed WHERE vectorizer_id = $1 AND key = ANY ($2)";
    as_queue(|| {
        spi::planned(SQL, args![vectorizer, keys], Mode::Read, |row| {
            let text = row.get::<i64>(3).and_then(|mark| u32::try_from(mark).ok());
            (row.or_default::<String>(1), Failed { code: row.or_default(2), text })
        })
        .into_iter()
        .collect()
    })
}

/// Frees what a worker that is no more had claimed. For a new worker, which is the only one of its database.
pub fn rescue() -> u64 {
    as_queue(|| {
        spi::execute(
            "UPDATE autoembed.job SET leased_until = NULL, lease_token = NULL WHERE leased_until IS NOT NULL",
            &[],
        )
    })
}

/// Frees what is claimed but for these jobs; the tries do not count, and they are due again after `pause`. For the worker: what a session
/// claims is never committed as claimed. How many there were.
pub fn free_all_but(held: Vec<i64>, pause: Duration) -> u64 {
    const SQL: &str = "WITH lost AS MATERIALIZED (SELECT l.ctid FROM autoembed.job l WHERE l.leased_until IS NOT NULL AND l.id <> ALL ($1::bigint[]) \
           FOR UPDATE SKIP LOCKED) \
         UPDATE autoembed.job j SET leased_until = NULL, lease_token = NULL, attempts = GREATEST(j.attempts - 1, 0), \
           not_before = clock_timestamp() + $2 * interval '1 ms' FROM lost WHERE j.ctid = lost.ctid";
    as_queue(|| spi::execute(SQL, args![held, pause.as_millis() as f64]))
}

/// Why rows are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Their texts may have changed.
    Changed,
    /// They have no vectors, as far as is known.
    Missing,
    /// Their vectors are not to be trusted.
    Forced,
}

/// Queues rows by key.
pub fn add(vectorizer: i32, lane: i16, keys: &[String], why: Why) {
    let Some(mut queue) = Queue::open() else { return };
    for key in keys {
        queue.add(&New { vectorizer, lane, key, why, not_before: None });
    }
    queue.finish();
    process::show_own_writes();
}

/// Jobs of a vectorizer in the slow lane, with numbers above `above`, that nobody has in hand, counted up to `most`.
pub fn waiting_in_backfill(vectorizer: i32, above: i64, most: i64) -> i64 {
    const SQL: &str = "SELECT count(*) FROM (SELECT FROM autoembed.job \
         WHERE vectorizer_id = $1 AND lane = 1 AND id > $2 AND leased_until IS NULL LIMIT $3) x";
    as_queue(|| spi::planned(SQL, args![vectorizer, above, most], Mode::Write, |row| row.or_default::<i64>(1)))
        .into_iter()
        .next()
        .unwrap_or(0)
}
