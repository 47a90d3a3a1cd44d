//! report(): what there is to be seen, as a page. It is read through the views and with the caller's own rights, so that he is shown what
//! they show him; only reading, so that a standby can do it.

use crate::pg::error::{Error, Result};
use crate::pg::ffi::spi::{self, Arg, Mode, Row, args};
use crate::pg::ffi::types::Text;
use crate::pg::settings;
use autoembed_core::report::{
    About, Between, CLASSES, Classes, Errors, Failures, MOST_LINES, Period, Point, Progress, Report, Table, Times,
    Usage, Worker, page, part_seconds,
};
use pgrx::datum::Interval;
use std::collections::HashMap;

/// A hundred years.
const LONGEST: f64 = 100.0 * 365.25 * 86_400.0;

/// The page about the time given, up to now.
///
/// # Errors
/// 22023 where that is no time.
pub fn of(since: Interval) -> Result<String> {
    let (about, now, midnight, asked) = about(since);
    if asked.is_nan() || asked <= 0.0 {
        return Err(Error::argument(
            "since is not more than no time",
            "Give the time to look back, for instance '1 day'.",
        ));
    }
    // "infinity" has seconds without end from 17 on, and many years before.
    let asked = asked.min(LONGEST);
    let kept = settings::work().request_retention.as_secs_f64();
    let seconds = part_seconds(asked.min(kept));
    // Parts begin at round times of the clock on the wall.
    let begin = midnight + ((now - asked.min(kept) - midnight) / seconds).floor() * seconds;
    let period = Period {
        asked,
        kept,
        seconds,
        last_seconds: (now - begin).rem_euclid(seconds),
        parts: parts(begin, now, seconds),
    };
    let range = [begin, seconds];
    let mut tables = tables();
    let places = tables.iter().enumerate().map(|(i, t)| ((t.name.clone(), t.column.clone()), i)).collect();
    let mut points = points(range, &places);
    let times = times(range, &places, &mut tables, &mut points);
    Ok(page(Report {
        about,
        period,
        tables,
        points,
        times,
        errors: errors(range),
        failures: failures(),
        progress: progress(),
        workers: workers(),
        usage: may_see_usage().then(|| usage(begin)),
        between: Between::new(|| {
            pgrx::check_for_interrupts!();
        }),
    }))
}

fn read<T>(sql: &str, args: &[Arg], mut row: impl FnMut(&Row) -> T) -> Vec<T> {
    // There may be a million of them.
    spi::query(sql, args, Mode::Read, |found| {
        pgrx::check_for_interrupts!();
        row(found)
    })
}

fn text(row: &Row, column: usize) -> String {
    row.get::<Text>(column).map(|text| text.0).unwrap_or_default()
}

/// With the time, the beginning of its day, and the length of what is asked for, in seconds.
fn about(since: Interval) -> (About, f64, f64, f64) {
    const SQL: &str = "SELECT current_database()::text, current_user::text, current_setting('server_version'), \
           to_char(statement_timestamp(), 'YYYY-MM-DD HH24:MI:SS'), current_setting('TimeZone'), pg_is_in_recovery(), \
           COALESCE((SELECT extversion FROM pg_extension WHERE extname = 'autoembed'), ''), \
           COALESCE((SELECT extversion FROM pg_extension WHERE extname = 'vector'), ''), \
           date_part('epoch', statement_timestamp()), date_part('epoch', date_trunc('day', statement_timestamp())), date_part('epoch', $1)";
    let found = read(SQL, args![since], |row| {
        let about = About {
            database: text(row, 1),
            role: text(row, 2),
            server: text(row, 3),
            made_at: text(row, 4),
            time_zone: text(row, 5),
            is_standby: row.or_default(6),
            extension: text(row, 7),
            library: env!("CARGO_PKG_VERSION").to_string(),
            pgvector: text(row, 8),
        };
        (about, row.or_default(9), row.or_default(10), row.or_default(11))
    });
    found.into_iter().next().unwrap_or_default()
}

fn parts(begin: f64, now: f64, seconds: f64) -> Vec<String> {
    const SQL: &str = "SELECT to_char(g, 'YYYY-MM-DD HH24:MI:SS') \
         FROM generate_series(to_timestamp($1), to_timestamp($2), make_interval(secs => $3)) g ORDER BY g";
    read(SQL, args![begin, now, seconds], |row| text(row, 1))
}

fn tables() -> Vec<Table> {
    const SQL: &str = "SELECT s.source::text, s.embedding::text, s.model, s.state, s.pending, s.in_flight, s.failed, s.embedded, \
           date_part('epoch', s.oldest_pending_age), s.rows_per_second::float8, date_part('epoch', s.eta) FROM autoembed.status s";
    read(SQL, &[], |row| Table {
        name: text(row, 1),
        column: text(row, 2),
        model: text(row, 3),
        state: text(row, 4),
        pending: row.get(5),
        in_flight: row.get(6),
        failed: row.get(7),
        embedded: row.get(8),
        oldest: row.get(9),
        rate: row.get(10),
        eta: row.get(11),
        ms: None,
    })
}

/// The requests of the time with the part that each belongs to, as SQL: `$1` is its beginning, `$2` the length of a part.
macro_rules! part_of {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            ", floor((date_part('epoch', t.at) - $1) / $2)::int AS part FROM autoembed.requests t WHERE t.at >= to_timestamp($1)"
        )
    };
}

/// Of these requests.
macro_rules! of_period {
    ($columns:literal, $which:literal, $grouped:literal) => {
        concat!("SELECT ", $columns, " FROM (", part_of!("t.*"), ") r WHERE ", $which, " GROUP BY ", $grouped)
    };
}

type Places = HashMap<(String, String), usize>;

fn points(range: [f64; 2], places: &Places) -> Vec<Point> {
    const SQL: &str = of_period!(
        "r.source::text, r.embedding::text, r.model, r.part, count(*) FILTER (WHERE r.inputs > 0), sum(r.rows)::bigint, sum(r.inputs)::bigint, \
           sum(r.cached)::bigint, COALESCE(sum(r.tokens), 0)::bigint, sum(r.cost), count(r.error_code), \
           max(r.waited_ms)::float8, max(r.pending)",
        "true",
        "r.source, r.embedding, r.model, r.part"
    );
    let found = read(SQL, args![range[0], range[1]], |row| {
        let table = *places.get(&(text(row, 1), text(row, 2)))?;
        Some(Point {
            table,
            model: text(row, 3),
            part: part(row, 4)?,
            requests: row.or_default(5),
            rows: row.or_default(6),
            inputs: row.or_default(7),
            cached: row.or_default(8),
            tokens: row.or_default(9),
            cost: row.or_default(10),
            errors: row.or_default(11),
            p95: None,
            waited: row.get(12),
            pending: row.get(13),
            left: None,
        })
    });
    let mut points: Vec<Point> = found.into_iter().flatten().collect();
    let left = left(range, places);
    points.iter_mut().for_each(|p| p.left = left.get(&(p.table, p.part)).copied());
    points
}

/// How many rows waited at the end of each part with a count: the last of them, less what was written by requests that began after it; what
/// a worker had in hand was not counted. The last request of a burst is seldom one with a count.
fn left(range: [f64; 2], places: &Places) -> HashMap<(usize, usize), i64> {
    const SQL: &str = concat!(
        "SELECT l.source::text, l.embedding::text, l.part, GREATEST(l.last[2] - COALESCE(sum(w.rows), 0), 0)::bigint FROM (",
        of_period!(
            "r.source, r.embedding, r.model, r.part, max(ARRAY[r.id, r.pending, (date_part('epoch', r.at) * 1000)::bigint]) AS last",
            "r.pending IS NOT NULL",
            "r.source, r.embedding, r.model, r.part"
        ),
        ") l LEFT JOIN (",
        part_of!("t.id, t.source, t.embedding, t.model, t.rows, t.at, t.ms"),
        ") w ON w.source = l.source AND w.embedding = l.embedding AND w.model = l.model AND w.part = l.part AND w.id > l.last[1] \
           AND date_part('epoch', w.at) * 1000 - w.ms >= l.last[3] \
         GROUP BY l.source, l.embedding, l.model, l.part, l.last"
    );
    let mut all: HashMap<(usize, usize), i64> = HashMap::new();
    let found = read(SQL, args![range[0], range[1]], |row| {
        let table = *places.get(&(text(row, 1), text(row, 2)))?;
        Some(((table, part(row, 3)?), row.or_default::<i64>(4)))
    });
    for (place, n) in found.into_iter().flatten() {
        all.entry(place).and_modify(|most| *most = (*most).max(n)).or_insert(n);
    }
    all
}

fn part(row: &Row, column: usize) -> Option<usize> {
    row.get::<i32>(column).and_then(|part| usize::try_from(part).ok())
}

/// How long requests took, and rows waited: of each part, and set down with the tables and points. A sort of a million lines would take
/// several times as long as this takes to count them.
fn times(range: [f64; 2], places: &Places, tables: &mut [Table], points: &mut [Point]) -> Vec<Times> {
    const ANSWERED: &str = of_period!(
        "r.source::text, r.embedding::text, r.part, floor(ln(GREATEST(r.ms::float8, 0.01)) * $3)::int, count(*)",
        "r.inputs > 0 AND r.error_code IS NULL",
        "r.source, r.embedding, r.part, 4"
    );
    const WAITED: &str = of_period!(
        "r.part, floor(ln(GREATEST(r.waited_ms::float8, 0.01)) * $3)::int, count(*), max(r.waited_ms)::float8",
        "r.waited_ms IS NOT NULL",
        "r.part, 2"
    );
    let range = args![range[0], range[1], CLASSES];
    let mut of_part: HashMap<usize, Classes> = HashMap::new();
    let mut of_table: HashMap<usize, Classes> = HashMap::new();
    let mut of_both: HashMap<(usize, usize), Classes> = HashMap::new();
    let answered = read(ANSWERED, range, |row| {
        let table = *places.get(&(text(row, 1), text(row, 2)))?;
        Some((table, part(row, 3)?, row.get::<i32>(4)?, row.get::<i64>(5)?))
    });
    for (table, part, class, count) in answered.into_iter().flatten() {
        pgrx::check_for_interrupts!();
        of_part.entry(part).or_default().add(class, count);
        of_table.entry(table).or_default().add(class, count);
        of_both.entry((table, part)).or_default().add(class, count);
    }
    for (table, mut classes) in of_table {
        tables[table].ms = classes.quantiles([0.5, 0.95]).map(|[p50, p95]| (p50, p95));
    }
    let p95: HashMap<(usize, usize), f64> =
        of_both.into_iter().filter_map(|(place, mut classes)| Some((place, classes.quantiles([0.95])?[0]))).collect();
    points.iter_mut().for_each(|point| point.p95 = p95.get(&(point.table, point.part)).copied());
    let mut waited: HashMap<usize, (Classes, f64)> = HashMap::new();
    let counted = read(WAITED, range, |row| {
        Some((part(row, 1)?, row.get::<i32>(2)?, row.get::<i64>(3)?, row.or_default::<f64>(4)))
    });
    for (part, class, count, most) in counted.into_iter().flatten() {
        let (classes, longest) = waited.entry(part).or_default();
        classes.add(class, count);
        *longest = longest.max(most);
    }
    let mut times: HashMap<usize, Times> = HashMap::new();
    for (part, mut classes) in of_part {
        let [p50, p95] = classes.quantiles([0.5, 0.95]).map_or([None; 2], |found| found.map(Some));
        times.insert(part, Times { part, p50, p95, ..Times::default() });
    }
    for (part, (mut classes, longest)) in waited {
        let times = times.entry(part).or_insert(Times { part, ..Times::default() });
        // The middle of a class may be above the longest that is in it.
        times.waited = classes.quantiles([0.5]).map(|[median]| median.min(longest));
        times.waited_most = Some(longest);
    }
    times.into_values().collect()
}

fn errors(range: [f64; 2]) -> Vec<Errors> {
    const SQL: &str = of_period!("r.part, r.error_code, count(*)", "r.error_code IS NOT NULL", "r.part, r.error_code");
    let found = read(SQL, args![range[0], range[1]], |row| {
        Some(Errors { part: part(row, 1)?, code: text(row, 2), count: row.or_default(3) })
    });
    found.into_iter().flatten().collect()
}

/// What a table and its column are called together, as SQL.
macro_rules! named {
    () => {
        "concat(x.source, CASE WHEN x.embedding <> 'embedding' THEN concat('.', x.embedding) END)"
    };
}

fn failures() -> Vec<Failures> {
    const SQL: &str = concat!(
        "SELECT ",
        named!(),
        ", x.code, max(x.hint), count(*), to_char(max(x.failed_at), 'YYYY-MM-DD HH24:MI') FROM autoembed.failed_jobs x \
         GROUP BY x.source, x.embedding, x.code ORDER BY 4 DESC, 1, 2 LIMIT $1"
    );
    read(SQL, args![MOST_LINES as i64 + 1], |row| Failures {
        table: text(row, 1),
        code: text(row, 2),
        hint: text(row, 3),
        count: row.or_default(4),
        last: text(row, 5),
    })
}

fn progress() -> Vec<Progress> {
    const SQL: &str = concat!(
        "SELECT ",
        named!(),
        ", x.kind, x.percent::float8, x.rows_done, x.rows_total, x.rows_per_second::float8, date_part('epoch', x.eta), x.state \
         FROM autoembed.progress x ORDER BY 1, 2 LIMIT $1"
    );
    read(SQL, args![MOST_LINES as i64 + 1], |row| Progress {
        table: text(row, 1),
        kind: text(row, 2),
        percent: row.or_default(3),
        done: row.get(4),
        total: row.get(5),
        rate: row.get(6),
        eta: row.get(7),
        state: text(row, 8),
    })
}

fn workers() -> Vec<Worker> {
    const SQL: &str = "SELECT w.pid, w.kind, w.state, to_char(w.started_at, 'YYYY-MM-DD HH24:MI:SS') FROM autoembed.workers w ORDER BY w.kind, w.pid";
    read(SQL, &[], |row| Worker {
        pid: row.or_default(1),
        kind: text(row, 2),
        state: text(row, 3),
        started: text(row, 4),
    })
}

/// Whether the caller may read the view `usage`, and call the function that is behind it.
fn may_see_usage() -> bool {
    const SQL: &str = "SELECT has_table_privilege('autoembed.usage', 'SELECT') AND has_function_privilege('autoembed.session_usage()', 'EXECUTE')";
    read(SQL, &[], |row| row.or_default::<bool>(1)).contains(&true)
}

fn usage(begin: f64) -> Vec<Usage> {
    const SQL: &str = "SELECT u.model, to_char(u.day, 'YYYY-MM-DD'), u.requests, u.inputs, u.tokens, u.cost::float8, u.errors, u.cache_hits \
         FROM autoembed.usage u WHERE u.day >= timezone('UTC', to_timestamp($1))::date ORDER BY u.day DESC, u.tokens DESC, u.model LIMIT $2";
    read(SQL, args![begin, MOST_LINES as i64 + 1], |row| Usage {
        model: text(row, 1),
        day: text(row, 2),
        requests: row.or_default(3),
        inputs: row.or_default(4),
        tokens: row.or_default(5),
        cost: row.or_default(6),
        errors: row.or_default(7),
        cached: row.or_default(8),
    })
}
