//! How fast backfills and builds of indexes get on. The worker looks at how much is done each second, and writes down every other what
//! [`autoembed_core::speed`] makes of it, for the view `progress`. What was seen is forgotten with the process: a new worker measures anew,
//! and so a night without a server, or a pause, makes nobody's rest look longer.

use crate::pg::builds;
use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::rights::as_queue;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::worker;
use autoembed_core::speed::Speed;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often it is written down.
const WRITTEN: Duration = Duration::from_secs(2);
/// Looking takes at most one part in so many of the time: an old snapshot may keep millions of dead jobs.
const RARELY: u32 = 10;
/// Numbers of jobs commit out of order: of a walk in which none waited, those that come are looked for from so far below the last one.
const SLACK: i64 = 2000;

/// A vectorizer, and `backfill`, `index` or `text index`.
type Task = (i32, &'static str);

/// A backfill as it was seen last.
#[derive(Default)]
struct Walk {
    /// When it began, to see that it has begun anew.
    started: f64,
    /// None of its jobs has a lower number: those that are done are not looked through again, which may be there as long as an old snapshot.
    low: i64,
    /// It has come to its end, and none of its jobs is left.
    is_over: bool,
}

/// What is known of all that is under way.
pub struct Paces {
    begun: Instant,
    not_before: Instant,
    walks: HashMap<i32, Walk>,
    speeds: HashMap<Task, Speed>,
    written_at: Option<Instant>,
    /// Something may be written down that is not under way any more.
    is_any_written: bool,
}

impl Paces {
    /// Nothing is known; what an earlier worker has written down is not looked at, being old.
    pub fn new() -> Paces {
        let now = Instant::now();
        Paces {
            begun: now,
            not_before: now,
            walks: HashMap::new(),
            speeds: HashMap::new(),
            written_at: None,
            is_any_written: true,
        }
    }

    /// Looks, and writes down what it is time for.
    pub fn look(&mut self) -> Result<(), Caught> {
        let begun = Instant::now();
        if begun < self.not_before {
            return Ok(());
        }
        let walks = &mut self.walks;
        let done = worker::transaction(|| done(walks))?;
        self.not_before = Instant::now() + begun.elapsed() * RARELY;
        if done.is_empty() && !self.is_any_written {
            return Ok(());
        }
        let now = self.begun.elapsed();
        self.speeds.retain(|task, _| done.iter().any(|(under_way, _)| under_way == task));
        for (task, rows) in &done {
            self.speeds.entry(*task).or_default().note(now, *rows);
        }
        if !done.is_empty() && self.written_at.is_some_and(|at| at.elapsed() < WRITTEN) {
            return Ok(());
        }
        self.written_at = Some(Instant::now());
        let known: Vec<(Task, f64)> =
            self.speeds.iter().filter_map(|(task, speed)| Some((*task, speed.per_second(now)?))).collect();
        worker::transaction(|| write(&known))?;
        self.is_any_written = !done.is_empty();
        Ok(())
    }
}

/// How much is done of each task that is under way and not paused.
fn done(walks: &mut HashMap<i32, Walk>) -> Vec<(Task, i64)> {
    const ALL: &str = "SELECT b.vectorizer_id, EXTRACT(epoch FROM b.started_at)::float8, v.paused \
         FROM autoembed.backfill b JOIN autoembed.vectorizer v ON v.id = b.vectorizer_id";
    // As in the view: what was walked, but for what waits in the queue.
    const JOBS: &str = "SELECT b.vectorizer_id, b.walked, b.walked_at IS NOT NULL, x.jobs, x.low, (SELECT s.last_value FROM autoembed.job_id_seq s) \
         FROM unnest($1::int[], $2::bigint[]) AS k (id, low) JOIN autoembed.backfill b ON b.vectorizer_id = k.id \
         CROSS JOIN LATERAL (SELECT count(*) AS jobs, min(y.id) AS low FROM (SELECT q.id FROM autoembed.job q \
             WHERE q.vectorizer_id = b.vectorizer_id AND q.lane = 1 AND q.id >= k.low AND (q.if_missing OR q.is_forced OR b.rereads) \
               AND (b.walked_at IS NULL OR q.queued_at <= b.walked_at) ORDER BY q.id LIMIT 20000) y) x";
    let read = |row: &spi::Row| (row.or_default::<i32>(1), row.or_default::<f64>(2), row.or_default::<bool>(3));
    let all = as_queue(|| spi::planned(ALL, &[], Mode::Write, read));
    walks.retain(|id, _| all.iter().any(|(of, ..)| of == id));
    let (mut ids, mut lows) = (Vec::new(), Vec::new());
    for (id, started, is_paused) in all {
        let walk = walks.entry(id).or_default();
        if walk.started != started {
            *walk = Walk { started, ..Walk::default() };
        }
        if !is_paused && !walk.is_over {
            ids.push(id);
            lows.push(walk.low);
        }
    }
    let mut done = Vec::new();
    let mut note = |row: &spi::Row| {
        let (id, jobs, last) = (row.or_default::<i32>(1), row.or_default::<i64>(4), row.or_default::<i64>(6));
        let Some(walk) = walks.get_mut(&id) else { return };
        walk.low = row.get(5).unwrap_or(last - SLACK).max(walk.low);
        walk.is_over = row.or_default::<bool>(3) && jobs == 0;
        if !walk.is_over {
            done.push(((id, "backfill"), row.or_default::<i64>(2) - jobs));
        }
    };
    if !ids.is_empty() {
        as_queue(|| spi::planned(JOBS, args![ids, lows], Mode::Write, &mut note));
    }
    let builds = builds::all().into_iter().map(|build| ((build.vectorizer, build.kind), build.rows_done));
    done.into_iter().chain(builds).collect()
}

/// Writes down how fast these are, and nothing of others.
fn write(known: &[(Task, f64)]) {
    const GONE: &str = "DELETE FROM autoembed.pace p WHERE NOT EXISTS (SELECT FROM unnest($1::int[], $2::text[]) AS k (id, kind) \
         WHERE k.id = p.vectorizer_id AND k.kind = p.kind)";
    const NOW: &str = "INSERT INTO autoembed.pace AS p (vectorizer_id, kind, rows_per_second) \
         SELECT k.id, k.kind, k.pace FROM unnest($1::int[], $2::text[], $3::real[]) AS k (id, kind, pace) \
         ON CONFLICT (vectorizer_id, kind) DO UPDATE SET rows_per_second = EXCLUDED.rows_per_second, at = clock_timestamp()";
    let ids: Vec<i32> = known.iter().map(|((id, _), _)| *id).collect();
    let kinds: Vec<String> = known.iter().map(|((_, kind), _)| (*kind).to_string()).collect();
    let paces: Vec<f32> = known.iter().map(|(_, pace)| *pace as f32).collect();
    as_queue(|| {
        spi::planned(GONE, args![ids.clone(), kinds.clone()], Mode::Write, |_| ());
        spi::planned(NOW, args![ids, kinds, paces], Mode::Write, |_| ());
    });
}
