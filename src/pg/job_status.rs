//! job_status(): how far one row is. The row is found as the table's owner, in the context in which the worker reads it, so that nothing
//! of his runs as somebody else; whether the caller may see it is asked as the caller, by nothing but the row's place. All under the
//! snapshot of the calling statement, in which a vector and the end of its job come together.

use crate::pg::catalog::{self, Table};
use crate::pg::chunks::{ChunkTable, as_error};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::rights::{as_extension, as_queue, current_user};
use crate::pg::ffi::spi::{self, Arg, Mode, Row, args};
use crate::pg::interface;
use crate::pg::queue::{self, BACKFILL, LIVE};
use crate::pg::row_key;
use crate::pg::source::{self, Place, Target};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{PgSqlErrorCode, pg_sys};

/// The newest jobs of a lane, which are looked through before all others: who asks has often just written the row.
const NEWEST: i64 = 10_000;

/// Why a row was given up.
pub struct Failure {
    /// When.
    pub at: Option<TimestampWithTimeZone>,
    /// The kind of error.
    pub code: String,
    /// What was wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    attempts: i32,
}

/// How far a row is.
#[derive(Default)]
pub struct Status {
    /// A word of those in the reference.
    pub state: &'static str,
    /// Tries.
    pub attempts: i32,
    /// Since when it waits.
    pub queued_at: Option<TimestampWithTimeZone>,
    /// Until when it is left alone.
    pub not_before: Option<TimestampWithTimeZone>,
    /// Why it was given up.
    pub failure: Option<Failure>,
}

/// The state of the row with this key.
///
/// # Errors
/// 22P02 where the text is no key; 42P01 and 42704 where there is no such table or vectorizer, 42501 where the caller may not read the table, 55000 where a column that is
/// needed was dropped.
pub fn of(source: pg_sys::Oid, key: &str, embedding: &str) -> Result<Status> {
    interface::check()?;
    let table = readable(source)?;
    let vectorizer = catalog::find(source, embedding).ok_or_else(|| {
        Error::missing(
            format!("table \"{}\" has no vectorizer for column \"{embedding}\"", table.name),
            "SELECT * FROM autoembed.status shows what there is.",
        )
    })?;
    let (Some(column), Some(input)) = (&vectorizer.embedding, &vectorizer.input) else {
        return Err(Error::state(
            format!("a column that the vectorizer of table \"{}\" needs was dropped", table.name),
            "Call autoembed.disable() and autoembed.enable() again.",
        ));
    };
    let chunks = ChunkTable::owned(&vectorizer, &table).map_err(as_error)?;
    let target = Target { vectorizer: &vectorizer, table: &table, embedding: column, input, chunks: chunks.as_ref() };
    let id = vectorizer.id;
    let walk = queue::unfinished_walk(id);
    let between = walk.as_ref().map_or((None, None), |w| (w.last_key.as_deref(), w.end_key.as_deref()));
    let key = row_key::given(&table, &vectorizer.input_path, vec![key.to_string()])?.pop().unwrap_or_default();
    let place = match subtransaction(|| source::place(&target, &key, between)) {
        Ok(place) => place,
        Err(caught) if caught.may_be_one_row() => None,
        Err(caught) => {
            let hint =
                "The table is read as its owner, as the worker reads it; SELECT * FROM autoembed.status says more.";
            return Err(Error::new(caught.code, caught.message, caught.hint.unwrap_or_else(|| hint.to_string())));
        }
    };
    // What is not there is looked for as well, so that it takes as long as what may not be seen.
    let is_visible = is_visible(&table, place.as_ref());
    let Some(place) = place.filter(|_| is_visible) else {
        return Ok(Status { state: "missing", ..Status::default() });
    };
    if let Some(job) = newest_job(id, &place) {
        return Ok(job);
    }
    if let Some(failure) = failure(id, &place.key) {
        return Ok(Status { state: "failed", attempts: failure.attempts, failure: Some(failure), ..Status::default() });
    }
    if walk.is_some_and(|walk| place.is_between && (walk.why != queue::Why::Missing || !place.has_vector)) {
        return Ok(Status { state: "waiting", queued_at: walking_since(id), ..Status::default() });
    }
    let state = match place.has_vector {
        true => "embedded",
        false if is_blank(&target, &place) => "no_text",
        false => "not_queued",
    };
    Ok(Status { state, ..Status::default() })
}

/// The table, which the caller must be able to read.
fn readable(source: pg_sys::Oid) -> Result<Table> {
    const MAY: &str = "SELECT has_table_privilege($1, $2, 'SELECT')";
    let table = catalog::table(source).ok_or_else(|| {
        Error::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("table with oid {} does not exist", source.to_u32()),
            "Name a table of this database.",
        )
    })?;
    // Who asks is looked up before the extension's rights are taken.
    let caller = current_user();
    let may = as_extension(|| spi::planned(MAY, args![caller, source], Mode::Read, |row| row.or_default::<bool>(1)));
    if may.first() != Some(&true) {
        return Err(Error::rights(
            format!("permission denied for table {}", table.name),
            "The state of its rows is for those who have SELECT on the table.",
        ));
    }
    Ok(table)
}

/// Whether no policy hides the row at this place from the caller.
fn is_visible(table: &Table, place: Option<&Place>) -> bool {
    let is_restricted = spi::first("SELECT pg_catalog.row_security_active($1)", args![table.oid], Mode::Read, |row| {
        row.or_default::<bool>(1)
    });
    if is_restricted == Some(false) {
        return true;
    }
    let sql = format!("SELECT true FROM {} WHERE {}", table.source_sql(), source::at_place(table));
    let arguments = place
        .map_or_else(|| vec![Arg::new("(4294967294,1)".to_string()), Arg::new(table.oid)], source::place_arguments);
    !spi::query(&sql, &arguments, Mode::Read, |_| ()).is_empty()
}

/// The job that was queued last for the row: older ones end with it. One that asks for nothing where there is a vector counts only where
/// there is none.
fn newest_job(id: i32, place: &Place) -> Option<Status> {
    const NEW: &str = "SELECT x.attempts, x.queued_at, x.not_before, x.leased_until > clock_timestamp() FROM ( \
           SELECT * FROM autoembed.job j WHERE j.vectorizer_id = $1 AND j.lane = $4 ORDER BY j.id DESC LIMIT $5) x \
         WHERE x.key = $2 AND NOT (x.if_missing AND $3) ORDER BY x.id DESC LIMIT 1";
    // There is no index on keys, which every writer would have to keep up: where the queue is long, all of it is read.
    const ALL: &str = "SELECT j.attempts, j.queued_at, j.not_before, j.leased_until > clock_timestamp() FROM autoembed.job j \
         WHERE j.vectorizer_id = $1 AND j.key = $2 AND NOT (j.if_missing AND $3) ORDER BY j.id DESC LIMIT 1";
    const IS_LONG: &str =
        "SELECT EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = $1 AND j.lane = $2 OFFSET $3)";
    let of = |lane: i16| {
        let args = args![id, place.key.clone(), place.has_vector, lane, NEWEST];
        as_queue(|| spi::planned(NEW, args, Mode::Read, read_job)).into_iter().next()
    };
    let is_long = |lane: i16| {
        as_queue(|| spi::planned(IS_LONG, args![id, lane, NEWEST], Mode::Read, |row| row.or_default::<bool>(1))).first()
            == Some(&true)
    };
    of(LIVE).or_else(|| of(BACKFILL)).or_else(|| {
        if !is_long(LIVE) && !is_long(BACKFILL) {
            return None;
        }
        let args = args![id, place.key.clone(), place.has_vector];
        as_extension(|| spi::query(ALL, args, Mode::Read, read_job)).into_iter().next()
    })
}

fn read_job(row: &Row) -> Status {
    Status {
        state: if row.or_default(4) { "in_flight" } else { "waiting" },
        attempts: row.or_default::<i16>(1).into(),
        queued_at: row.get(2),
        not_before: row.get(3),
        failure: None,
    }
}

fn failure(id: i32, key: &str) -> Option<Failure> {
    const SQL: &str = "SELECT failed_at, code, message, hint, attempts FROM autoembed.failed \
         WHERE vectorizer_id = $1 AND key = $2 ORDER BY id DESC LIMIT 1";
    let failures = as_queue(|| {
        spi::planned(SQL, args![id, key.to_string()], Mode::Read, |row| Failure {
            at: row.get(1),
            code: row.or_default(2),
            message: row.or_default(3),
            hint: row.or_default(4),
            attempts: row.or_default(5),
        })
    });
    failures.into_iter().next()
}

/// When the backfill was begun that will come to the row.
fn walking_since(id: i32) -> Option<TimestampWithTimeZone> {
    const SQL: &str = "SELECT started_at FROM autoembed.backfill WHERE vectorizer_id = $1";
    as_extension(|| spi::planned(SQL, args![id], Mode::Read, |row| row.get(1))).into_iter().flatten().next()
}

/// Where the input raises an error for the row, there is something wrong with a text, so there is one.
fn is_blank(target: &Target<'_>, place: &Place) -> bool {
    let max_chars =
        catalog::model(&target.vectorizer.model).map_or(i32::MAX, |stored| source::max_chars(&stored.model));
    subtransaction(|| source::is_blank(target, place, max_chars)).unwrap_or(false)
}
