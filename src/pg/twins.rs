//! Indexes over the vectors of one column, and the same over another: those that find neighbours, of whatever kind and whoever made them.
//!
//! The other column may be of a model with another metric, or with more dimensions: what was for the metric of the one is made for that of the
//! other, over the form that it can be over (see [`Distance::counterpart`]). What a user has made for another metric stays for that.

use crate::pg::catalog::{self, Table};
use crate::pg::distance::{Distance, Indexed};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ident::{literal, qualified, quote};
use crate::pg::index;
use pgrx::pg_sys;

/// The vectors of a column, and how they are compared.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    /// The column's name.
    pub column: &'a str,
    /// By its model.
    pub distance: &'a Distance,
}

/// An index that is to be made over another column, too.
pub struct Twin {
    table: pg_sys::Oid,
    method: String,
    over: String,
    /// ` WITH (...)`; empty: no options.
    options: String,
}

impl Twin {
    /// The statement that builds it over `column`; `how` may be `CONCURRENTLY`. `None`: its table is gone.
    pub fn statement(&self, column: &str, how: &str) -> Option<String> {
        let table = catalog::table(self.table)?;
        Some(self.named(&index::free_name(&table, column), &table, how))
    }

    fn named(&self, name: &str, table: &Table, how: &str) -> String {
        let Twin { method, over, options, .. } = self;
        format!("CREATE INDEX {how} {} ON {} USING {} ({over}){options}", quote(name), table.sql(), quote(method))
    }
}

/// An index that finds neighbours.
struct Found {
    table: pg_sys::Oid,
    schema: String,
    name: String,
    method: String,
    class_schema: String,
    class: String,
    options: Option<Vec<String>>,
    is_valid: bool,
    /// It only holds together the indexes of partitions.
    is_frame: bool,
    /// It is held together with others by such a one.
    is_part: bool,
}

impl Found {
    fn form(&self) -> Indexed {
        if self.class.starts_with("halfvec_") { Indexed::Halved } else { Indexed::Whole }
    }

    /// What it is over the vectors of another column: the form, and the operator class.
    fn there(&self, here: Vectors, there: Vectors) -> Option<(Indexed, String)> {
        there.distance.counterpart(&self.class, here.distance)
    }

    fn twin(&self, (form, class): &(Indexed, String), distance: &Distance, column: &str) -> Twin {
        let over = format!("{} {}", distance.over(column, *form), qualified(&self.class_schema, class));
        let options = self.options.clone().map(with).filter(|options| !options.is_empty());
        let options = options.map(|options| format!(" WITH ({options})")).unwrap_or_default();
        Twin { table: self.table, method: self.method.clone(), over, options }
    }

    /// Whether it is of this kind.
    fn is(&self, other: &Found, class: &(Indexed, String)) -> bool {
        self.table == other.table && self.method == other.method && self.class == class.1 && self.form() == class.0
    }
}

/// The condition that the index `i` (with `c` of `pg_class`, `o` of `pg_opclass`) finds neighbours in the column `a`, by itself or, with
/// components of two bytes, by an expression; and can be told from others by its operator class.
#[macro_export]
macro_rules! finds_neighbours {
    () => {
        "c.relam >= 16384 AND i.indpred IS NULL AND i.indnatts = 1 \
           AND (i.indkey[0] = a.attnum OR i.indkey[0] = 0 AND o.opcname LIKE 'halfvec\\_%' \
             AND a.atttypmod = (SELECT k.atttypmod FROM pg_attribute k WHERE k.attrelid = i.indexrelid AND k.attnum = 1))"
    };
}

/// Those over a column of these tables, the valid ones first.
fn over(tables: &[pg_sys::Oid], column: &str) -> Vec<Found> {
    const SQL: &str = concat!(
        "SELECT i.indrelid, n.nspname::text, c.relname::text, m.amname::text, on_.nspname::text, o.opcname::text, c.reloptions, i.indisvalid, \
           c.relkind = 'I', EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid) \
         FROM pg_attribute a JOIN pg_index i ON i.indrelid = a.attrelid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam \
         JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_opclass o ON o.oid = i.indclass[0] JOIN pg_namespace on_ ON on_.oid = o.opcnamespace \
         WHERE a.attrelid = ANY ($1) AND a.attname = $2 AND NOT a.attisdropped AND ",
        finds_neighbours!(),
        " AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid \
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum) \
         ORDER BY i.indisvalid DESC, i.indrelid, c.oid"
    );
    as_extension(|| {
        spi::query(SQL, args![tables.to_vec(), column.to_string()], Mode::Write, |row| Found {
            table: row.get(1).unwrap_or(pg_sys::InvalidOid),
            schema: row.or_default(2),
            name: row.or_default(3),
            method: row.or_default(4),
            class_schema: row.or_default(5),
            class: row.or_default(6),
            options: row.get(7),
            is_valid: row.or_default(8),
            is_frame: row.or_default(9),
            is_part: row.or_default(10),
        })
    })
}

/// Options of an index as CREATE INDEX takes them.
fn with(options: Vec<String>) -> String {
    const OPTIONS: &str = "SELECT option_name, option_value FROM pg_options_to_table($1)";
    let pairs = as_extension(|| {
        spi::query(OPTIONS, args![options], Mode::Write, |row| {
            format!("{} = {}", quote(&row.or_default::<String>(1)), literal(&row.or_default::<String>(2)))
        })
    });
    pairs.join(", ")
}

/// Valid indexes over `old` that have no counterpart over `new`. Those that only hold together the indexes of partitions are not among
/// them; and none where the new vectors are too long for one.
pub fn missing(table: &Table, old: Vectors, new: Vectors) -> Vec<Twin> {
    let tables = catalog::with_partitions(table);
    let mut there = over(&tables, new.column);
    there.retain(|found| found.is_valid);
    let mut missing: Vec<Twin> = Vec::new();
    for found in over(&tables, old.column).iter().filter(|found| found.is_valid && !found.is_frame) {
        let Some(class) = found.there(old, new).filter(|class| !there.iter().any(|other| other.is(found, class)))
        else {
            continue;
        };
        let twin = found.twin(&class, new.distance, new.column);
        let is_same =
            |other: &Twin| (other.table, &other.method, &other.over) == (twin.table, &twin.method, &twin.over);
        if !missing.iter().any(is_same) {
            missing.push(twin);
        }
    }
    missing.sort_by_key(|twin| twin.table.to_u32());
    missing
}

/// Indexes over a column that a build has left which was broken off, by their qualified names.
pub fn broken(table: &Table, column: &str) -> Vec<String> {
    let found = over(&catalog::with_partitions(table), column).into_iter();
    let broken = found.filter(|found| !found.is_valid && !found.is_frame && !found.is_part);
    broken.map(|found| qualified(&found.schema, &found.name)).collect()
}

/// Whether each of the tables that a table is made of has a valid index that finds neighbours by the metric.
pub fn is_served(table: &Table, vectors: Vectors) -> bool {
    const LEAVES: &str = "SELECT oid FROM pg_class WHERE oid = ANY ($1) AND relkind = 'r'";
    let tables = catalog::with_partitions(table);
    let found = over(&tables, vectors.column);
    let by = vectors.distance.operator_class().split_once('_').map_or("", |(_, by)| by);
    let leaves = as_extension(|| {
        spi::query(LEAVES, args![tables], Mode::Write, |row| row.get::<pg_sys::Oid>(1).unwrap_or(pg_sys::InvalidOid))
    });
    let is_served = |leaf: &pg_sys::Oid| found.iter().any(|f| f.is_valid && f.table == *leaf && f.class.ends_with(by));
    !leaves.is_empty() && leaves.iter().all(is_served)
}

/// An index that takes over another's name.
pub struct Renamed {
    schema: String,
    from: String,
    to: String,
}

impl Renamed {
    /// To be run when the other is gone.
    pub fn statement(&self) -> String {
        format!("ALTER INDEX {} RENAME TO {}", qualified(&self.schema, &self.from), quote(&self.to))
    }
}

/// Which indexes over `new` take over the names of those over `old`: those of the same table that do the same. Those that the old vectors
/// had none of, and that have a name of ours, get the one that they would have had over `old`.
pub fn renames(tables: &[pg_sys::Oid], old: Vectors, new: Vectors) -> Vec<Renamed> {
    let mut news = over(tables, new.column);
    let renamed = over(tables, old.column).into_iter().filter_map(|found| {
        let class = found.there(old, new)?;
        let place = news.iter().position(|other| other.is(&found, &class))?;
        Some(Renamed { schema: found.schema, from: news.remove(place).name, to: found.name })
    });
    let mut renamed: Vec<Renamed> = renamed.collect();
    for found in news {
        let Some(table) = catalog::table(found.table) else { continue };
        let to = index::free_name(&table, old.column);
        if found.name == index::name(&table, new.column) && !renamed.iter().any(|other| other.to == to) {
            renamed.push(Renamed { schema: found.schema, from: found.name, to });
        }
    }
    renamed
}

/// The statements that make anew what holds together the indexes of partitions over `old`, where nothing does so over `new`: to be run
/// when `new` has the name of `old`.
pub fn parents(tables: &[pg_sys::Oid], old: Vectors, new: Vectors) -> Vec<String> {
    let there = over(tables, new.column);
    let frames =
        over(tables, old.column).into_iter().filter(|found| found.is_frame && found.is_valid && !found.is_part);
    let missing = frames.filter_map(|found| {
        let class = found.there(old, new).filter(|class| !there.iter().any(|other| other.is(&found, class)))?;
        let table = catalog::table(found.table)?;
        Some(found.twin(&class, new.distance, old.column).named(&found.name, &table, ""))
    });
    missing.collect()
}
