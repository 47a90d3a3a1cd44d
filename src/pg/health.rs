//! health(): whether all works, for monitors. Never raises, and looks at no more than the first jobs of each lane, so that it is as
//! quick with a million of them as with ten.

use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::ffi::process;
use crate::pg::ffi::rights::{as_extension, as_queue, current_user};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::{catalog, interface};
use pgrx::pg_sys;
use serde_json::{Map, Value, json};

/// Jobs of a lane that are counted; how many more there are is asked of the server's statistics.
const COUNTED: i64 = 10_000;
/// What mends itself is no problem for so many seconds.
const SOON: f64 = 60.0;
/// What is said of tables and models that are not the caller's business.
const ELSEWHERE: &str = "something that this role may not look at needs somebody";

/// What is known of one vectorizer.
struct Vectorizer {
    source: pg_sys::Oid,
    name: String,
    model: String,
    is_paused: bool,
    /// Why its table cannot be read or written.
    block: Option<String>,
    /// Rows that a backfill has still to go through.
    to_walk: i64,
    /// Seconds since that backfill was begun, where it has not come to its end.
    walks_since: Option<f64>,
    failed: i64,
    /// Jobs, as far as they were counted.
    jobs: i64,
    /// There are more.
    is_long: bool,
    in_flight: i64,
    /// Age in seconds of the oldest job.
    oldest: Option<f64>,
}

/// What is said of a model that cannot be called.
struct Trouble {
    model: String,
    state: String,
    message: String,
    since: String,
    seconds: f64,
}

/// The report.
pub fn report() -> Value {
    match subtransaction(look) {
        Ok(report) => report,
        Err(caught) => broken(&caught),
    }
}

fn broken(caught: &Caught) -> Value {
    let problem = format!("the state of autoembed could not be read: {}", caught.message);
    json!({
        "healthy": false, "problems": [problem], "waiting": 0, "active": 0, "failed": 0,
        "oldest_pending_seconds": null, "workers": 0, "models": {},
    })
}

fn look() -> Value {
    let all = vectorizers();
    let troubles = troubles();
    let workers = workers();
    let seen = catalog::all_of_whose_rows_are_seen(all.iter().map(|v| v.source).collect());
    let is_monitor = is_monitor();
    let is_counted = |v: &&Vectorizer| is_monitor || seen.contains(&v.source);
    let mut problems: Vec<String> = Vec::new();
    let mut complain = |problem: String| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    if let Some((message, hint)) = interface::misfit() {
        complain(format!("{message}; {hint}"));
    }
    let unpaused = || all.iter().filter(|v| !v.is_paused);
    let longest = unpaused().filter_map(Vectorizer::waits).fold(0.0, f64::max);
    if workers == 0 && longest > SOON && !process::in_recovery() {
        complain("no worker serves this database, and rows wait for one".to_string());
    }
    if is_builder_late() {
        complain(
            "an index has waited for a process for more than a minute: max_worker_processes is used up; raise it and restart the server"
                .to_string(),
        );
    }
    for v in unpaused() {
        // What stops a table may quote its rows.
        match &v.block {
            Some(block) if seen.contains(&v.source) => complain(format!("table {} is blocked: {block}", v.name)),
            Some(_) if is_monitor => complain(format!("table {} is blocked", v.name)),
            Some(_) => complain(ELSEWHERE.to_string()),
            None => {}
        }
        // What the last worker wrote down may be over.
        for trouble in troubles.iter().filter(|t| t.model == v.model && workers > 0 && t.is_problem()) {
            complain(if is_counted(&v) { trouble.problem() } else { ELSEWHERE.to_string() });
        }
    }
    let sum = |of: &dyn Fn(&Vectorizer) -> i64| all.iter().filter(is_counted).map(of).sum::<i64>();
    let estimate = Estimate::new(&all);
    let models: Map<String, Value> =
        all.iter().filter(is_counted).map(|v| (v.model.clone(), describe(&v.model, &troubles))).collect();
    let oldest = unpaused()
        .filter(is_counted)
        .filter_map(|v| v.oldest)
        .fold(None, |most: Option<f64>, age| Some(most.map_or(age, |most| most.max(age))));
    json!({
        "healthy": problems.is_empty(),
        "problems": problems,
        "waiting": sum(&|v| estimate.jobs(v).saturating_sub(v.in_flight).max(0).saturating_add(v.to_walk)),
        "active": sum(&|v| v.in_flight),
        "failed": sum(&|v| v.failed),
        "oldest_pending_seconds": oldest.map(|age| (age.max(0.0) * 10.0).round() / 10.0),
        "workers": workers,
        "models": models,
    })
}

impl Vectorizer {
    /// Seconds for which something of it has waited.
    fn waits(&self) -> Option<f64> {
        self.oldest.into_iter().chain(self.walks_since).reduce(f64::max)
    }
}

impl Trouble {
    fn is_problem(&self) -> bool {
        match self.state.as_str() {
            "blocked" => true,
            "waiting" => self.seconds > SOON,
            _ => false,
        }
    }

    fn problem(&self) -> String {
        let what = if self.state == "blocked" { "is blocked" } else { "is waited for" };
        format!("model \"{}\" {what}: {}", self.model, self.message)
    }
}

fn describe(model: &str, troubles: &[Trouble]) -> Value {
    match troubles.iter().find(|trouble| trouble.model == model) {
        Some(Trouble { state, message, since, .. }) => json!({ "state": state, "message": message, "since": since }),
        None => json!({ "state": "ok", "message": null, "since": null }),
    }
}

/// Jobs of queues that are too long to be counted: what the statistics have beyond those that were, in equal shares.
struct Estimate {
    share: i64,
}

impl Estimate {
    fn new(all: &[Vectorizer]) -> Estimate {
        const LIVE: &str = "SELECT COALESCE(pg_stat_get_live_tuples('autoembed.job'::regclass), 0)";
        let long = all.iter().filter(|v| v.is_long).count() as i64;
        if long == 0 {
            return Estimate { share: 0 };
        }
        let in_all = as_extension(|| spi::first(LIVE, &[], Mode::Read, |row| row.or_default::<i64>(1))).unwrap_or(0);
        let counted: i64 = all.iter().filter(|v| !v.is_long).map(|v| v.jobs).sum();
        Estimate { share: (in_all - counted) / long }
    }

    fn jobs(&self, v: &Vectorizer) -> i64 {
        if v.is_long { v.jobs.max(self.share) } else { v.jobs }
    }
}

fn vectorizers() -> Vec<Vectorizer> {
    const SQL: &str = "SELECT v.source::oid, concat(v.source::text, ' (', v.embedding, ')'), v.model, v.paused, \
             COALESCE((SELECT concat(s.message, '; ', s.hint) FROM autoembed.vectorizer_state s \
               WHERE s.vectorizer_id = v.id AND s.code NOT IN ('index', 'locked')), substring(v.held_up_by FROM '^blocked: (.*)')), \
             COALESCE((SELECT GREATEST(b.total - b.walked, 0) FROM autoembed.backfill b WHERE b.vectorizer_id = v.id AND b.walked_at IS NULL), 0), \
             (SELECT EXTRACT(epoch FROM clock_timestamp() - b.started_at)::float8 FROM autoembed.backfill b WHERE b.vectorizer_id = v.id AND b.walked_at IS NULL), \
             (SELECT count(*) FROM (SELECT FROM autoembed.failed f WHERE f.vectorizer_id = v.id LIMIT $1) x), \
             q.jobs, q.most >= $1, q.in_flight, EXTRACT(epoch FROM clock_timestamp() - q.oldest)::float8 \
         FROM autoembed.vectorizer v CROSS JOIN LATERAL ( \
           SELECT sum(w.jobs)::bigint AS jobs, max(w.jobs) AS most, sum(w.in_flight)::bigint AS in_flight, min(w.oldest) AS oldest \
           FROM (VALUES (0::smallint), (1::smallint)) AS l (lane) CROSS JOIN LATERAL ( \
             SELECT count(*) AS jobs, count(*) FILTER (WHERE x.leased_until > clock_timestamp()) AS in_flight, min(x.queued_at) AS oldest \
             FROM (SELECT j.leased_until, j.queued_at FROM autoembed.job j WHERE j.vectorizer_id = v.id AND j.lane = l.lane \
               ORDER BY j.id LIMIT $1) x) w) q";
    as_queue(|| {
        spi::planned(SQL, args![COUNTED], Mode::Write, |row| Vectorizer {
            source: row.get(1).unwrap_or(pg_sys::InvalidOid),
            name: row.or_default(2),
            model: row.or_default(3),
            is_paused: row.or_default(4),
            block: row.get(5),
            to_walk: row.or_default(6),
            walks_since: row.get(7),
            failed: row.or_default(8),
            jobs: row.or_default(9),
            is_long: row.or_default(10),
            in_flight: row.or_default(11),
            oldest: row.get(12),
        })
    })
}

fn troubles() -> Vec<Trouble> {
    const SQL: &str = "SELECT model, state, concat(message, '; ', hint), to_char(timezone('UTC', since), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
         EXTRACT(epoch FROM clock_timestamp() - since)::float8 FROM autoembed.model_state";
    as_extension(|| {
        spi::planned(SQL, &[], Mode::Write, |row| Trouble {
            model: row.or_default(1),
            state: row.or_default(2),
            message: row.or_default(3),
            since: row.or_default(4),
            seconds: row.or_default(5),
        })
    })
}

fn workers() -> i64 {
    const SQL: &str = "SELECT count(*) FROM autoembed.worker_activity() WHERE kind = 'worker'";
    as_extension(|| spi::planned(SQL, &[], Mode::Write, |row| row.or_default::<i64>(1))).into_iter().sum()
}

/// Whether the worker has asked for a process that builds indexes for long: by the lock that tells of it.
fn is_builder_late() -> bool {
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_locks k JOIN pg_database d ON d.oid = k.database WHERE k.locktype = 'object' \
         AND k.classid = 'pg_extension'::regclass AND k.objsubid = 24939 AND k.mode = 'ExclusiveLock' AND d.datname = current_database())";
    as_extension(|| spi::planned(SQL, &[], Mode::Read, |row| row.or_default::<bool>(1))).contains(&true)
}

fn is_monitor() -> bool {
    const SQL: &str = "SELECT pg_has_role($1, 'pg_monitor', 'USAGE')";
    // Who asks is looked up before the extension's rights are taken.
    let caller = current_user();
    as_extension(|| spi::planned(SQL, args![caller], Mode::Read, |row| row.or_default::<bool>(1))).first()
        == Some(&true)
}
