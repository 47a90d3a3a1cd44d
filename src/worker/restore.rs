//! A database that pg_restore fills: its programs write the extension's tables in any order, beside one another, and a worker that wrote
//! into them meanwhile would take numbers that come, too, and leave the restore with errors.
//!
//! It is looked for when a worker begins, which is when `CREATE EXTENSION` has been committed, and only in a database that has no vectorizers
//! yet, or those of a dump that nobody has seen: where a database is at work, a restore of another table may take hours in which rows are to be
//! embedded. A restore by `psql` cannot be seen; it writes one table after another, with what belongs to users' tables at the end, and needs no
//! more than what [`super::keep`] leaves undone where there is no vectorizer yet.

use crate::pg::ffi::rights::{self, as_extension};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::worker;
use pgrx::log;
use std::time::{Duration, Instant};

/// Between its parts a restore has no session for a moment.
const BETWEEN: Duration = Duration::from_secs(1);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(200);

/// Whether a restore is under way.
pub struct Restore {
    seen_at: Option<Instant>,
    is_over: bool,
}

impl Restore {
    /// Looks for one.
    pub fn new() -> Restore {
        let seen_at = (may_be_filled() && is_there()).then(Instant::now);
        if seen_at.is_some() {
            log!("autoembed: pg_restore fills this database; rows are embedded when it is done");
        }
        Restore { seen_at, is_over: seen_at.is_none() }
    }

    /// For how long nothing is to be done yet; `None`: none was there when the worker began, or it is over.
    pub fn pause(&mut self) -> Option<Duration> {
        if self.is_over {
            return None;
        }
        if is_there() {
            self.seen_at = Some(Instant::now());
        }
        self.is_over = self.seen_at.is_none_or(|at| at.elapsed() > BETWEEN);
        (!self.is_over).then_some(LOOK)
    }
}

fn is_there() -> bool {
    // Who may not restore may call himself as he likes: who neither has the rights of the database's owner nor can become him.
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_stat_get_activity(NULL) a JOIN pg_database d ON d.oid = a.datid \
         WHERE d.datname = current_database() AND a.application_name = 'pg_restore' \
           AND (pg_has_role(a.usesysid, d.datdba, 'USAGE') OR pg_has_role(a.usesysid, d.datdba, $1)))";
    ask(SQL, args![rights::CAN_BECOME.to_string()])
}

/// Whether vectorizers may be still to come, or have come and were never seen.
fn may_be_filled() -> bool {
    ask(
        "SELECT NOT EXISTS (SELECT FROM autoembed.numbered) \
         OR EXISTS (SELECT FROM autoembed.vectorizer v WHERE NOT EXISTS (SELECT FROM autoembed.numbered n WHERE n.vectorizer_id = v.id))",
        &[],
    )
}

fn ask(sql: &'static str, args: &[Arg]) -> bool {
    let look = || as_extension(|| spi::planned(sql, args, Mode::Read, |row| row.or_default::<bool>(1)));
    worker::transaction(look).is_ok_and(|found| found.first() == Some(&true))
}
