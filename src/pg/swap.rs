//! The end of a change of model: the new column takes the place of the old one, in one transaction.
//!
//! Searches must not notice. They ask for the query's vector, lock the table as every reader does, look again which model it is, and keep
//! the lock to the end of their transaction (see [`crate::pg::query`]); the swap locks them out for the moment that it takes. And a snapshot
//! that is older than the new vectors would find none in the new column: so the swap comes when those that were there when the last row was
//! done are gone, as CREATE INDEX CONCURRENTLY waits for them. Users never wait behind a long transaction: where one holds the table, the
//! lock is not even asked for.

use crate::finds_neighbours;
use crate::pg::catalog::{self, Table, Vectorizer};
use crate::pg::change::{self, Change};
use crate::pg::distance::Distance;
use crate::pg::error::Error;
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::rights::{ahead_of_autovacuum, as_extension, as_owner, as_queue};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::{locks, process};
use crate::pg::ident::{literal, qualified, quote};
use crate::pg::twins::{self, Vectors};
use crate::pg::{index, vectorizers};
use crate::points;
use pgrx::{PgSqlErrorCode, pg_sys};

/// What somebody must do before a change can be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Something hangs on the column: what, and what to do.
    Column(String),
    /// An index that the old vectors have is missing over the new ones: the statements that would build it.
    NoIndex(Vec<String>),
}

/// A change whose table has been walked.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Rows that wait for the second vectorizer.
    pub rows: Rows,
    /// The new model is in trouble.
    pub is_in_trouble: bool,
    /// A transaction that has lasted for a while uses the table.
    pub is_in_use: bool,
    /// Snapshots that may be older than the new vectors, each as a text of its own.
    pub snapshots: Vec<String>,
    /// What is in the way.
    pub obstacle: Option<Obstacle>,
}

/// Both vectorizers of a change and their table, as they are now.
struct Pair {
    table: Table,
    first: Vectorizer,
    old: String,
    new: String,
    distances: (Distance, Distance),
}

impl Pair {
    fn of(change: &Change) -> Option<Pair> {
        let (first, second) = (catalog::now(change.of)?, catalog::now(change.id)?);
        let table = catalog::table(first.source).filter(|_| !first.is_restored && !second.is_restored)?;
        let pgvector = catalog::pgvector().ok()?;
        let distance =
            |v: &Vectorizer| Some(Distance::new(&catalog::model(&v.model).ok()?.model, v.column_dimensions, &pgvector));
        let distances = (distance(&first)?, distance(&second)?);
        Some(Pair { table, old: first.embedding.clone()?, new: second.embedding?, first, distances })
    }

    fn before(&self) -> Vectors<'_> {
        Vectors { column: &self.old, distance: &self.distances.0 }
    }

    fn after(&self) -> Vectors<'_> {
        Vectors { column: &self.new, distance: &self.distances.1 }
    }

    /// Whether the new column is to have an index that the old one has not: its vectors were too long for one.
    fn wants_index_of_its_own(&self) -> bool {
        self.first.index_method == "auto"
            && self.distances.1.indexed().is_ok()
            && !twins::is_served(&self.table, self.after())
    }

    fn tables(&self) -> Vec<pg_sys::Oid> {
        catalog::with_partitions(&self.table)
    }

    /// Builds them at once.
    fn build_indexes(&self) {
        for twin in twins::missing(&self.table, self.before(), self.after()) {
            if let Some(statement) = twin.statement(&self.new, "") {
                spi::execute(&statement, &[]);
            }
        }
        if self.wants_index_of_its_own() {
            spi::execute(&index::statement(&self.table, &self.new, &self.distances.1, ""), &[]);
        }
    }

    fn missing_indexes(&self) -> Vec<String> {
        let missing = twins::missing(&self.table, self.before(), self.after());
        missing.iter().filter_map(|twin| twin.statement(&self.new, "CONCURRENTLY")).collect()
    }
}

/// What keeps a change from being completed now; `None`: the table is still being walked, or its index is to be built; or it is paused, or gone.
pub fn outlook(change: &Change) -> Option<Outlook> {
    let is_in_trouble = has_walked(change)?;
    let rows = rows(change);
    let pair = Pair::of(change)?;
    let hangs_on = obstacles(&pair.table, &pair.old);
    let obstacle = hangs_on.first().map(|what| {
        let hint = "drop it, and make it again when the change is over";
        Obstacle::Column(format!("{what} reads column \"{}\"; {hint}", pair.old))
    });
    let missing = || Some(pair.missing_indexes()).filter(|missing| !missing.is_empty()).map(Obstacle::NoIndex);
    let is_in_use = is_in_long_use(&pair.tables());
    Some(Outlook { rows, is_in_trouble, is_in_use, snapshots: snapshots(), obstacle: obstacle.or_else(missing) })
}

/// Whether missing indexes may be built while users wait.
pub fn is_small(change: &Change) -> bool {
    Pair::of(change).is_some_and(|pair| catalog::estimated_rows(pair.table.oid) < index::SMALL_TABLE)
}

fn pair_of(second: i32) -> Option<Pair> {
    Pair::of(&change::all().into_iter().find(|change| change.id == second)?)
}

/// What the builder of indexes has left over the new column that was broken off.
pub fn broken_indexes(second: i32) -> Vec<String> {
    pair_of(second).map(|pair| twins::broken(&pair.table, &pair.new)).unwrap_or_default()
}

/// The statement that builds the next of what finds neighbours in the old vectors over the new ones.
pub fn next_index(second: i32) -> Option<String> {
    pair_of(second)?.missing_indexes().into_iter().next()
}

/// Whether the new column is to have an index that the old one has not.
pub fn wants_index_of_its_own(second: i32) -> bool {
    pair_of(second).is_some_and(|pair| pair.wants_index_of_its_own())
}

/// Whether all rows that were there are embedded, or on their way as those are that users write; and the index is built. Then whether the
/// new model is in trouble.
fn has_walked(change: &Change) -> Option<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT FROM autoembed.model_state d WHERE d.model = v.model AND d.state <> 'paced') \
         FROM autoembed.vectorizer v JOIN autoembed.vectorizer o ON o.id = v.replaces \
         WHERE v.id = $1 AND NOT v.paused AND NOT o.paused AND (NOT v.index_wanted OR $2) \
           AND NOT EXISTS (SELECT FROM autoembed.backfill b WHERE b.vectorizer_id = v.id AND b.walked_at IS NULL) \
           AND NOT EXISTS (SELECT FROM autoembed.job j WHERE j.vectorizer_id = v.id AND j.lane = 1 AND (j.if_missing OR j.is_forced))";
    // In a session no process builds indexes.
    let args = args![change.id, !process::is_worker()];
    as_queue(|| spi::planned(SQL, args, Mode::Write, |row| row.or_default::<bool>(1))).first().copied()
}

/// Rows that wait for the second vectorizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    /// There are such rows.
    pub is_any: bool,
    /// For how long the first of those has waited that do not wait for the first vectorizer, or not for as long, in seconds: searches would
    /// miss them, or find them by an older text. `None`: there are none.
    pub behind: Option<f64>,
    /// The last batch that the second vectorizer has written.
    pub last_batch: i64,
}

/// Of each change of a row since the new column is there, both vectorizers have a job, of the same time. A row of which the first one's is
/// done and the second one's is not has an old vector, and no new one, or that of an older text. What the first one has in hand may be
/// done at any moment.
fn rows(change: &Change) -> Rows {
    const MOST: i64 = 100_000;
    const COUNT: &str = "SELECT count(*) FROM (SELECT FROM autoembed.job WHERE vectorizer_id = $1 LIMIT $2) x";
    // So many are not compared. The first of each lane.
    const FIRST: &str = "SELECT EXTRACT(epoch FROM clock_timestamp() - min(j.queued_at))::float8 FROM (VALUES (0), (1)) AS l (lane) \
         CROSS JOIN LATERAL (SELECT i.queued_at FROM autoembed.job i WHERE i.vectorizer_id = $1 AND i.lane = l.lane::smallint ORDER BY i.id LIMIT 1) j";
    const BEHIND: &str = "SELECT EXTRACT(epoch FROM clock_timestamp() - min(second))::float8 FROM (\
           SELECT min(queued_at) FILTER (WHERE vectorizer_id = $1) AS second, \
             min(queued_at) FILTER (WHERE vectorizer_id = $2 AND (leased_until IS NULL OR leased_until <= clock_timestamp())) AS first \
           FROM autoembed.job WHERE vectorizer_id IN ($1, $2) GROUP BY key) x WHERE second < first OR second IS NOT NULL AND first IS NULL";
    // Whoever has an older snapshot than a batch sees its rows without it.
    const LAST: &str = "SELECT COALESCE(max(id), 0) FROM autoembed.embedded WHERE vectorizer_id = $1";
    as_queue(|| {
        let last = || spi::planned(LAST, args![change.id], Mode::Write, |row| row.or_default::<i64>(1));
        let last_batch = || last().first().copied().unwrap_or(0);
        let counted = spi::planned(COUNT, args![change.id, MOST], Mode::Write, |row| row.or_default::<i64>(1));
        let behind = match counted.first().copied().unwrap_or(0) {
            0 => return Rows { is_any: false, behind: None, last_batch: last_batch() },
            MOST => spi::planned(FIRST, args![change.id], Mode::Write, |row| row.get::<f64>(1)),
            _ => spi::planned(BEHIND, args![change.id, change.of], Mode::Write, |row| row.get::<f64>(1)),
        };
        Rows { is_any: true, behind: behind.first().copied().flatten(), last_batch: last_batch() }
    })
}

/// Snapshots that other processes of this database have now. One that is still there when it is asked again is an old one.
pub fn snapshots() -> Vec<String> {
    const CLEAR: &str = "SELECT pg_stat_clear_snapshot()";
    const SQL: &str = "SELECT concat_ws(' ', pid, xact_start, backend_xmin) FROM pg_stat_activity \
         WHERE datid = $1 AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL AND backend_type <> 'autovacuum worker'";
    as_extension(|| {
        spi::planned(CLEAR, &[], Mode::Write, |_| ());
        spi::planned(SQL, args![process::database()], Mode::Write, |row| row.or_default(1))
    })
}

/// What hangs on a column and could not go over to another: views, constraints, generated columns, and whatever else would be dropped with
/// it, but for indexes that find neighbours, which are built anew.
pub fn obstacles(table: &Table, column: &str) -> Vec<String> {
    const SQL: &str = concat!(
        "SELECT DISTINCT COALESCE((SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_rewrite r \
             WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid), pg_describe_object(d.classid, d.objid, d.objsubid)) \
         FROM pg_attribute a JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum \
         WHERE a.attrelid = ANY ($1) AND a.attname = $2 AND NOT a.attisdropped \
           AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             JOIN pg_opclass o ON o.oid = i.indclass[0] WHERE i.indexrelid = d.objid AND ",
        finds_neighbours!(),
        ")) ORDER BY 1"
    );
    let args = args![catalog::with_partitions(table), column.to_string()];
    as_extension(|| spi::query(SQL, args, Mode::Write, |row| row.or_default(1)))
}

/// Whether a transaction that has lasted for more than a moment holds a lock on one of these tables: who waits behind it for the strongest
/// lock keeps all others waiting as well. Autovacuum comes after each change, for long, and gives way, unless it prevents wraparound.
fn is_in_long_use(tables: &[pg_sys::Oid]) -> bool {
    const CLEAR: &str = "SELECT pg_stat_clear_snapshot()";
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'relation' AND l.database = $1 AND l.relation = ANY ($2) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() \
           AND (a.pid IS NULL OR a.xact_start < clock_timestamp() - interval '500 ms') \
           AND (a.backend_type IS DISTINCT FROM 'autovacuum worker' OR a.query LIKE '%(to prevent wraparound)'))";
    let args = args![process::database(), tables.to_vec()];
    as_extension(|| {
        spi::planned(CLEAR, &[], Mode::Write, |_| ());
        spi::planned(SQL, args, Mode::Write, |row| row.or_default::<bool>(1)).first() == Some(&true)
    })
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swapped {
    /// The first vectorizer has the new model.
    Done,
    /// A transaction that has lasted for a while uses the table.
    InUse,
    /// Somebody changes the vectorizer just now.
    Later,
}

/// Gives the first vectorizer the new column and model, in this transaction; of which [`outlook`] must have found nothing in the way. Raises an error
/// that is a contention where users hold the table, or something has changed meanwhile; and what the server says where the table's owner
/// may not do it. Then nothing may be committed.
pub fn swap(change: &Change) -> Swapped {
    const LOCK: &str = "SELECT id FROM autoembed.vectorizer WHERE id = ANY ($1) FOR UPDATE SKIP LOCKED";
    let ids = vec![change.of, change.id];
    let locked = as_extension(|| spi::query(LOCK, args![ids], Mode::Write, |_| ()));
    let Some(pair) = Pair::of(change).filter(|_| locked.len() == 2) else { return Swapped::Later };
    let tables = pair.tables();
    if is_in_long_use(&tables) {
        return Swapped::InUse;
    }
    points::reach("swapping");
    // What takes longer comes before the lock.
    move_records(change);
    let path = pair.first.input_path.clone();
    let owner = pair.table.owner;
    as_owner(owner, &path, || ahead_of_autovacuum(|| locks::lock_against_all(&tables)));
    points::reach("locked");
    // Rows, columns, indexes and views may have come until then.
    if !process::is_worker() && is_small(change) {
        as_owner(owner, &path, || pair.build_indexes());
    }
    let is_ready = has_walked(change).is_some()
        && rows(change).behind.is_none()
        && pair.missing_indexes().is_empty()
        && obstacles(&pair.table, &pair.old).is_empty();
    if !is_ready || tables != pair.tables() {
        Error::new(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "the table was changed while the model was to be",
            "It is tried again.",
        )
        .raise();
    }
    let kept = Kept::of(&pair, &tables);
    // In a session no process has built it.
    let wants_index = !process::is_worker() && pair.wants_index_of_its_own();
    as_owner(owner, &path, || {
        vectorizers::drop_triggers(&pair.table, change.id);
        let table = pair.table.sql();
        spi::execute(&format!("ALTER TABLE {table} DROP COLUMN {}", quote(&pair.old)), &[]);
        spi::execute(&format!("ALTER TABLE {table} RENAME COLUMN {} TO {}", quote(&pair.new), quote(&pair.old)), &[]);
        kept.put_back(&pair.old);
    });
    points::reach("swapped");
    hand_over(change, &pair.old, wants_index);
    points::reach("handed over");
    Swapped::Done
}

/// What is known of rows goes over to the first vectorizer: what was said of its old vectors is over.
fn move_records(change: &Change) {
    as_queue(|| {
        for table in ["embedded", "failed"] {
            spi::execute(&format!("DELETE FROM autoembed.{table} WHERE vectorizer_id = $1"), args![change.of]);
        }
        for table in ["embedded", "failed", "request"] {
            let sql = format!("UPDATE autoembed.{table} SET vectorizer_id = $1 WHERE vectorizer_id = $2");
            spi::execute(&sql, args![change.of, change.id]);
        }
    });
}

fn hand_over(change: &Change, column: &str, wants_index: bool) {
    // Of each change of a row since the new column is there, both have a job.
    const OVER: &str = "DELETE FROM autoembed.job WHERE vectorizer_id = $1";
    const WALKED: &str = "DELETE FROM autoembed.backfill WHERE vectorizer_id = $1";
    // What is in hand for the second one will count for nothing: it is sent again.
    const JOBS: &str = "UPDATE autoembed.job SET vectorizer_id = $1, attempts = GREATEST(attempts - (leased_until IS NOT NULL)::int, 0), \
         leased_until = NULL, lease_token = NULL WHERE vectorizer_id = $2";
    const BACKFILL: &str = "UPDATE autoembed.backfill SET vectorizer_id = $1 WHERE vectorizer_id = $2";
    const FIRST: &str = "UPDATE autoembed.vectorizer v SET model = n.model, embedding = $3, embedding_attnum = n.embedding_attnum, \
         embedded = v.embedded + n.embedded, truncated = v.truncated + n.truncated, index_wanted = $4 \
         FROM autoembed.vectorizer n WHERE v.id = $1 AND n.id = $2";
    as_queue(|| {
        spi::execute(OVER, args![change.of]);
        spi::execute(WALKED, args![change.of]);
        spi::execute(JOBS, args![change.of, change.id]);
        spi::execute(BACKFILL, args![change.of, change.id]);
        spi::execute(FIRST, args![change.of, change.id, column.to_string(), wants_index]);
        vectorizers::remove(change.id);
        spi::execute("DELETE FROM autoembed.vectorizer_state WHERE vectorizer_id = $1", args![change.of]);
    });
}

/// What would be lost with the old column, as statements for the new one.
struct Kept {
    grants: Vec<(String, String)>,
    comments: Vec<(String, String)>,
    statistics: Vec<(String, i32)>,
    indexes: Vec<twins::Renamed>,
    parents: Vec<String>,
}

impl Kept {
    fn of(pair: &Pair, tables: &[pg_sys::Oid]) -> Kept {
        const GRANTS: &str = "SELECT concat(n.nspname), concat(c.relname), a.privilege_type, \
             CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.is_grantable \
             FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE t.attrelid = ANY ($1) AND t.attname = $2 AND NOT t.attisdropped";
        const COMMENTS: &str = "SELECT concat(n.nspname), concat(c.relname), col_description(c.oid, t.attnum) \
             FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE t.attrelid = ANY ($1) AND t.attname = $2 AND NOT t.attisdropped AND col_description(c.oid, t.attnum) IS NOT NULL";
        const STATISTICS: &str = "SELECT concat(n.nspname), concat(c.relname), t.attstattarget::int \
             FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE t.attrelid = ANY ($1) AND t.attname = $2 AND NOT t.attisdropped AND t.attstattarget >= 0";
        let args = args![tables.to_vec(), pair.old.clone()];
        let name = |row: &spi::Row| qualified(&row.or_default::<String>(1), &row.or_default::<String>(2));
        let (grants, comments, statistics) = as_extension(|| {
            let grants = spi::query(GRANTS, args, Mode::Write, |row| {
                let option = if row.or_default(5) { " WITH GRANT OPTION" } else { "" };
                let to = format!("ON {} TO {}{option}", name(row), row.or_default::<String>(4));
                (row.or_default::<String>(3), to)
            });
            let comments = spi::query(COMMENTS, args, Mode::Write, |row| (name(row), row.or_default(3)));
            let statistics = spi::query(STATISTICS, args, Mode::Write, |row| (name(row), row.or_default(3)));
            (grants, comments, statistics)
        });
        let (indexes, parents) =
            (twins::renames(tables, pair.before(), pair.after()), twins::parents(tables, pair.before(), pair.after()));
        Kept { grants, comments, statistics, indexes, parents }
    }

    /// As the table's owner.
    fn put_back(&self, column: &str) {
        let column = quote(column);
        for (privilege, to) in &self.grants {
            spi::execute(&format!("GRANT {privilege} ({column}) {to}"), &[]);
        }
        for (table, comment) in &self.comments {
            spi::execute(&format!("COMMENT ON COLUMN {table}.{column} IS {}", literal(comment)), &[]);
        }
        for (table, target) in &self.statistics {
            spi::execute(&format!("ALTER TABLE ONLY {table} ALTER COLUMN {column} SET STATISTICS {target}"), &[]);
        }
        for renamed in &self.indexes {
            // An owner who may create nothing in the schema may give no new names there: then it keeps the one that it was built under.
            drop(subtransaction(|| spi::execute(&renamed.statement(), &[])));
        }
        for statement in &self.parents {
            // The indexes of all partitions are there: they become parts of it.
            spi::execute(statement, &[]);
        }
    }
}
