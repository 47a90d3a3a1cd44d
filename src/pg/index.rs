//! The HNSW index over a target column: at once, or by the process that builds indexes.
//!
//! What has been done and what is still to be done is read from the server's catalogue before each statement and noted nowhere
//! else, so that a build may end between any two of them, or in the middle of one, and be taken up again:
//!
//! | found | next |
//! |---|---|
//! | an index that is not valid, on a table or a partition with rows of its own | it is dropped |
//! | none there | CREATE INDEX CONCURRENTLY |
//! | no index of a partitioned table | CREATE INDEX ON ONLY: a frame, which partitions made from now on take over |
//! | an index of a partition that is not part of the frame | ALTER INDEX ... ATTACH PARTITION: the last one makes the frame valid |
//!
//! Partitions come first and the frame after them: the statements on the frame take locks for a moment that the long ones do not.

use crate::pg::catalog::{self, Table, Vectorizer};
use crate::pg::distance::{Distance, Indexed};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::snapshot;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ident::{derived, qualified, quote};
use crate::pg::source;
use pgrx::{PgSqlErrorCode, pg_sys};

/// Tables with fewer rows get their index at once, the others after the backfill.
pub const SMALL_TABLE: i64 = 10_000;

/// Whether a table has fewer rows than that: counted, where it seems so. By its size a table of short rows seems smaller than it is, and one that
/// has grown since it was analysed by what the server has noted.
pub fn is_small(table: &Table) -> bool {
    catalog::estimated_rows(table.oid) < SMALL_TABLE && !source::has_rows(table, SMALL_TABLE)
}

/// Makes the index of a table that has just been enabled, or notes that it is to be built after the backfill. `table`: the one with the
/// vectors; `is_large`: there will be many.
pub fn begin(table: &Table, vectorizer: &Vectorizer, distance: &Distance, is_large: bool) {
    let Some(column) = &vectorizer.embedding else { return };
    if let Err(why) = distance.indexed() {
        pgrx::ereport!(
            NOTICE,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("no index is built: {why}"),
            "searches read the whole table".to_string()
        );
        return;
    }
    let parts = parts(table, column, distance, Mode::Write);
    if parts.iter().filter(|part| part.oid == table.oid).flat_map(|part| &part.indexes).any(|index| index.is_valid) {
        return;
    }
    // What a build has left that was broken off is for the process that builds indexes.
    let is_begun = parts.iter().flat_map(|part| &part.indexes).any(|index| !index.is_valid);
    if is_begun || is_large {
        const WANTED: &str = "UPDATE autoembed.vectorizer SET index_wanted = true WHERE id = $1";
        as_extension(|| spi::execute(WANTED, args![vectorizer.id]));
        return;
    }
    spi::execute(&statement(table, column, distance, ""), &[]);
}

/// An index of one kind: over the target column, as [`Distance::key`] has it, or over the words of the input.
pub struct Index {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Its qualified name, quoted where it must be.
    pub name: String,
    /// It is complete.
    pub is_valid: bool,
    /// The index that it is a part of.
    pub part_of: Option<pg_sys::Oid>,
    /// Somebody is building it just now.
    pub is_in_work: bool,
    /// It may be made a part of another: it goes with that one then.
    pub is_ours: bool,
    /// It goes with the extension.
    pub is_tied: bool,
}

/// A table, or one of the tables that a partitioned table is made of; the lowest first.
pub struct Part {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Its name.
    pub name: String,
    /// Its qualified name, quoted.
    pub sql: String,
    parent: Option<pg_sys::Oid>,
    /// It has rows of its own.
    pub has_rows: bool,
    /// Those that are valid first.
    pub indexes: Vec<Index>,
}

impl Part {
    /// It has the index.
    pub fn is_indexed(&self) -> bool {
        self.indexes.iter().any(|index| index.is_valid)
    }
}

/// What a table is made of, without its indexes.
pub fn parts_of(table: &Table, mode: Mode) -> Vec<Part> {
    // Foreign tables have no such indexes, and rows that are not embedded.
    const PARTS: &str = "SELECT c.oid, t.parent, c.relkind = 'r', c.relname::text, n.nspname::text FROM pg_class c \
         JOIN (SELECT $1::oid, NULL::oid, 0 WHERE NOT EXISTS (SELECT FROM pg_partition_tree($1)) \
               UNION ALL SELECT relid::oid, CASE WHEN level > 0 THEN parentrelid::oid END, level FROM pg_partition_tree($1)) AS t (oid, parent, level) USING (oid) \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') ORDER BY t.level DESC, c.oid";
    as_extension(|| {
        spi::query(PARTS, args![table.oid], mode, |row| {
            let name: String = row.or_default(4);
            Part {
                oid: row.get(1).unwrap_or(pg_sys::InvalidOid),
                sql: qualified(&row.or_default::<String>(5), &name),
                name,
                parent: row.get(2),
                has_rows: row.or_default(3),
                indexes: Vec::new(),
            }
        })
    })
}

fn parts(table: &Table, column: &str, distance: &Distance, mode: Mode) -> Vec<Part> {
    const INDEXES: &str = "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), i.indisvalid, h.inhparent, \
           EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.datid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND b.index_relid = c.oid) \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam \
         JOIN pg_opclass o ON o.oid = i.indclass[0] JOIN pg_attribute e ON e.attrelid = i.indrelid AND e.attname = $2 \
         JOIN pg_attribute k ON k.attrelid = i.indexrelid AND k.attnum = 1 LEFT JOIN pg_inherits h ON h.inhrelid = c.oid \
         WHERE i.indrelid = $1 AND m.amname = 'hnsw' AND o.opcname = $3 AND i.indpred IS NULL AND i.indnatts = 1 \
           AND CASE WHEN $4 THEN i.indkey[0] = 0 AND k.atttypmod = $5 AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
                 AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = e.attnum) \
               ELSE i.indkey[0] = e.attnum END \
         ORDER BY i.indisvalid DESC, h.inhparent, c.oid";
    let is_halved = distance.indexed() == Ok(Indexed::Halved);
    let mut parts = parts_of(table, mode);
    as_extension(|| {
        for part in &mut parts {
            let (class, dimensions) = (distance.operator_class().to_string(), distance.dimensions());
            let args = args![part.oid, column.to_string(), class, is_halved, dimensions];
            part.indexes = spi::query(INDEXES, args, mode, |row| Index {
                oid: row.get(1).unwrap_or(pg_sys::InvalidOid),
                name: row.or_default(2),
                is_valid: row.or_default(3),
                part_of: row.get(4),
                is_in_work: row.or_default(5),
                is_ours: true,
                is_tied: false,
            });
        }
    });
    parts
}

/// One step on the way to an index.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A statement that cannot run inside a transaction block.
    Long {
        /// The table that it works on.
        table: pg_sys::Oid,
        /// The statement.
        statement: String,
    },
    /// One that takes a lock for a moment which keeps users waiting: it should not wait long for it.
    Short(String),
    /// Somebody else builds it by hand.
    Wait,
}

enum Next<'a> {
    Wait,
    Drop(pg_sys::Oid, &'a Index),
    Repair(pg_sys::Oid, &'a Index),
    Build(pg_sys::Oid),
    Frame(pg_sys::Oid),
    Attach { frame: &'a Index, index: &'a Index },
}

fn next(parts: &[Part]) -> Option<Next<'_>> {
    let is_without = |part: &&Part| part.has_rows && !part.is_indexed();
    if let Some(part) = parts.iter().find(is_without) {
        // Those that are no part of a frame can be dropped.
        return Some(match part.indexes.iter().find(|index| index.part_of.is_none()).or(part.indexes.first()) {
            None => Next::Build(part.oid),
            Some(broken) if broken.is_in_work => Next::Wait,
            Some(broken) if broken.part_of.is_none() => Next::Drop(part.oid, broken),
            Some(broken) => Next::Repair(part.oid, broken),
        });
    }
    if let Some(part) = parts.iter().find(|part| part.indexes.is_empty()) {
        return Some(Next::Frame(part.oid));
    }
    parts.iter().find_map(|part| {
        let parent = parts.iter().find(|other| Some(other.oid) == part.parent)?;
        let is_part = |index: &Index| parent.indexes.iter().any(|frame| index.part_of == Some(frame.oid));
        if part.indexes.iter().any(is_part) {
            return None;
        }
        let index = part.indexes.iter().find(|index| index.part_of.is_none() && index.is_ours)?;
        Some(Next::Attach { frame: parent.indexes.first()?, index })
    })
}

/// What is to be done next so that a table, or all that it is made of, has the index; `None`: it has it.
pub fn next_step(table: &Table, column: &str, distance: &Distance) -> Option<Step> {
    distance.indexed().ok()?;
    let parts = parts(table, column, distance, Mode::Write);
    step(&parts, |table, how| Some(statement(table, column, distance, how)))
}

/// What is to be done next for an index that `statement` builds; it takes a table and a word of how, as [`statement`] does.
pub fn step(parts: &[Part], statement: impl Fn(&Table, &str) -> Option<String>) -> Option<Step> {
    Some(match next(parts)? {
        Next::Wait => Step::Wait,
        Next::Drop(table, broken) => {
            Step::Long { table, statement: format!("DROP INDEX CONCURRENTLY {}", broken.name) }
        }
        Next::Repair(table, broken) => {
            Step::Long { table, statement: format!("REINDEX INDEX CONCURRENTLY {}", broken.name) }
        }
        Next::Build(table) => Step::Long { table, statement: statement(&catalog::table(table)?, "CONCURRENTLY")? },
        Next::Frame(oid) => Step::Short(statement(&catalog::table(oid)?, "ONLY")?),
        Next::Attach { frame, index } => {
            Step::Short(format!("ALTER INDEX {} ATTACH PARTITION {}", frame.name, index.name))
        }
    })
}

/// Drops what a build has left that was broken off, by an owner who has the table locked.
pub fn drop_broken(table: &Table, column: &str, distance: &Distance) {
    // A frame holds what is built of it.
    for part in parts(table, column, distance, Mode::Write).into_iter().filter(|part| part.has_rows) {
        for broken in part.indexes.iter().filter(|index| !index.is_valid && index.part_of.is_none()) {
            spi::execute(&format!("DROP INDEX {}", broken.name), &[]);
        }
    }
}

/// Whether there is an index now that gives rows in the order of [`Distance::of_halved`].
pub fn is_halved(table: &Table, column: &str, distance: &Distance) -> bool {
    if distance.indexed() != Ok(Indexed::Halved) {
        return false;
    }
    let parts = snapshot::of_now(|| parts(table, column, distance, Mode::Read));
    parts.iter().flat_map(|part| &part.indexes).any(|index| index.is_valid)
}

/// Whether a table is without the index that it should have: in one of the tables that it is made of, no valid index finds neighbours by
/// the metric's operator, of whatever kind it is and whoever made it.
pub fn is_missing(table: &Table, vectorizer: &Vectorizer, distance: &Distance) -> bool {
    const SQL: &str = "SELECT v.index_method = 'auto' AND NOT v.index_wanted AND EXISTS (SELECT FROM pg_class l \
           JOIN pg_attribute e ON e.attrelid = l.oid AND e.attname = $3 AND NOT e.attisdropped \
         WHERE l.oid = ANY ($2) AND l.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_index i ON i.indexrelid = d.objid \
             JOIN pg_opclass o ON o.oid = i.indclass[0] JOIN pg_amop x ON x.amopfamily = o.opcfamily AND x.amoppurpose = 'o' \
             JOIN pg_operator p ON p.oid = x.amopopr AND p.oprname = $4 \
           WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND d.refobjsubid = e.attnum \
             AND i.indisvalid)) \
         FROM autoembed.vectorizer v WHERE v.id = $1";
    let (Some(column), Ok(_)) = (&vectorizer.embedding, distance.indexed()) else { return false };
    let operator = distance.operator().to_string();
    let args = args![vectorizer.id, catalog::with_partitions(table), column.clone(), operator];
    as_extension(|| spi::planned(SQL, args, Mode::Write, |row| row.or_default::<bool>(1))).first() == Some(&true)
}

/// The name of an index over `column`, where it is free.
pub fn name(table: &Table, column: &str) -> String {
    derived("", &format!("{}_{column}", table.name), "_idx")
}

/// A name in the table's schema that no relation has, for an index over `column`.
pub fn free_name(table: &Table, column: &str) -> String {
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";
    let mut name = name(table, column);
    for number in 1..1000 {
        let pair = args![table.schema.clone(), name.clone()];
        if as_extension(|| spi::first(SQL, pair, Mode::Write, |row| row.or_default::<bool>(1))) != Some(true) {
            break;
        }
        name = derived("", &format!("{}_{column}", table.name), &format!("_idx{number}"));
    }
    name
}

/// The statement that builds the index; `how` may be `CONCURRENTLY`, or `ONLY` for the frame of a partitioned table.
pub fn statement(table: &Table, column: &str, distance: &Distance, how: &str) -> String {
    let (concurrently, only) = if how == "ONLY" { ("", how) } else { (how, "") };
    format!(
        "CREATE INDEX {concurrently} {} ON {only} {} USING hnsw ({})",
        quote(&free_name(table, column)),
        qualified(&table.schema, &table.name),
        distance.key(column)
    )
}
