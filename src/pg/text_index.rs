//! The text index of hybrid searches: a GIN index over the words of the input, made where `enable()` was given a text search
//! configuration, and dropped by `disable()`.
//!
//! It is known by its expression, which the planner compares as well, and is the extension's where it depends on it: one that a
//! user made himself is used and left alone. A large table's is built by the builder's process (`worker::text_index`), step by step as
//! the index on vectors is (see [`crate::pg::index`]); until it is there, and where somebody drops it, searches read the table.
//! Between its build and the step that makes it the extension's it is known by its name, while it is waited for.

use crate::pg::catalog::{self, Table, Vectorizer};
use crate::pg::enable::Input;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::parse;
use crate::pg::ffi::rights::{as_extension, for_owner_in_session};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ident::{derived, literal, qualified, quote};
use crate::pg::index::{self, Index, Part, Step};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::HashMap;

/// Characters of a text that full text search sees. The server refuses a tsvector of more than 1 MB; of so many characters the largest that
/// was found has 688 kB.
const MOST_CHARACTERS: usize = 65_536;

/// A text search configuration: its oid, and its qualified name as it is stored.
pub struct Configuration {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Its qualified name, quoted where it must be.
    pub name: String,
}

/// The configuration with this oid.
///
/// # Errors
/// 42704 where it is not there.
pub fn configuration(oid: pg_sys::Oid) -> Result<Configuration> {
    const SQL: &str = "SELECT format('%I.%I', n.nspname, c.cfgname) FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace WHERE c.oid = $1";
    let name = as_extension(|| spi::first(SQL, args![oid], Mode::Read, |row| row.or_default::<String>(1)));
    name.map(|name| Configuration { oid, name }).ok_or_else(|| {
        Error::missing(format!("text search configuration {} does not exist", oid.to_u32()), "\\dF in psql lists them.")
    })
}

/// The configuration that a vectorizer has: by its name, and where that is gone, since somebody has given it or its schema another, by what the
/// text index that was made with it says.
///
/// # Errors
/// 55000 where it has none, 42704 where it is not found.
pub fn configuration_of(table: &Table, vectorizer: &Vectorizer) -> Result<Configuration> {
    const SQL: &str = "SELECT c.oid FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace WHERE format('%I.%I', n.nspname, c.cfgname) = $1";
    let again = "Call autoembed.disable() and autoembed.enable(..., text_search => 'english'), or another configuration; the vectors stay.";
    let Some(name) = vectorizer.text_search.clone() else {
        return Err(Error::state(format!("table \"{}\" was enabled without text search", table.name), again));
    };
    if let Some(oid) = as_extension(|| spi::first(SQL, args![name.clone()], Mode::Read, |row| row.get(1))).flatten() {
        return Ok(Configuration { oid, name });
    }
    if let Some(oid) = renamed(table, vectorizer) {
        return configuration(oid);
    }
    Err(Error::missing(
        format!("text search configuration {name} does not exist"),
        format!("Where it was renamed, give it its name back. Or: {again}"),
    ))
}

/// The configuration that text indexes of a vectorizer were made with whose name nobody has any more; `None`: there are none, or several.
fn renamed(table: &Table, vectorizer: &Vectorizer) -> Option<pg_sys::Oid> {
    const SQL: &str = "SELECT DISTINCT d.refobjid FROM pg_depend d JOIN pg_ts_config c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.cfgnamespace \
         WHERE d.classid = 'pg_class'::regclass AND d.objid = ANY ($1) AND d.refclassid = 'pg_ts_config'::regclass \
           AND NOT EXISTS (SELECT FROM autoembed.vectorizer v WHERE v.source = $2 AND v.text_search = format('%I.%I', n.nspname, c.cfgname))";
    let indexes: Vec<pg_sys::Oid> = tied(table, vectorizer, Mode::Read).into_iter().map(|(oid, _)| oid).collect();
    let found: Vec<Option<pg_sys::Oid>> =
        as_extension(|| spi::query(SQL, args![indexes, table.oid], Mode::Read, |row| row.get(1)));
    found.first().copied().flatten().filter(|_| found.len() == 1)
}

/// Whether a vectorizer has this configuration.
pub fn is_of(table: &Table, vectorizer: &Vectorizer, wanted: Option<&Configuration>) -> bool {
    match (&vectorizer.text_search, wanted) {
        (Some(_), Some(wanted)) => configuration_of(table, vectorizer).is_ok_and(|has| has.oid == wanted.oid),
        (has, wanted) => has.is_none() && wanted.is_none(),
    }
}

/// The indexes over words of a vectorizer's column that go with the extension, whatever their configuration, but for parts of others.
fn tied(table: &Table, vectorizer: &Vectorizer, mode: Mode) -> Vec<(pg_sys::Oid, String)> {
    const SQL: &str = "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND '\"' || replace(a.attname, '\"', '\"\"') || '\"' = $2 AND NOT a.attisdropped \
         WHERE i.indrelid = ANY ($1) AND m.amname = 'gin' AND i.indnatts = 1 AND i.indexprs IS NOT NULL AND i.indpred IS NULL \
           AND pg_get_indexdef(c.oid) LIKE '%to_tsvector(%' AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid) \
           AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum) \
           AND EXISTS (SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
             AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x' AND x.extname = 'autoembed')";
    let Some(column) = vectorizer.text_search.as_ref().and_then(|_| column_of(table, vectorizer)) else {
        return Vec::new();
    };
    let args = args![catalog::with_partitions(table), column.to_string()];
    as_extension(|| spi::query(SQL, args, mode, |row| (row.get(1).unwrap_or(pg_sys::InvalidOid), row.or_default(2))))
}

/// The words of a text, as the index has them and a search must ask for them. By its oid a configuration is found without rights
/// to its schema.
pub fn document(configuration: &Configuration, input: &str) -> String {
    words(&format!("'{}'", configuration.oid.to_u32()), input)
}

fn words(configuration: &str, input: &str) -> String {
    format!(
        "pg_catalog.to_tsvector({configuration}::pg_catalog.regconfig, pg_catalog.\"left\"(({input})::pg_catalog.text, {MOST_CHARACTERS}))"
    )
}

fn selected(table: &Table, document: &str) -> String {
    format!("SELECT {document} FROM {}", table.source_sql())
}

/// Whether hybrid searches can go over an input, and a word where they read the whole table because it has no text index.
///
/// # Errors
/// 0A000 where it has a subquery: a reader would need rights to what it reads, and each search would read it for all rows.
pub fn check(table: &Table, wanted: Option<&Configuration>, input: &Input, path: &str) -> Result<()> {
    let Some(configuration) = wanted else { return Ok(()) };
    let statement = selected(table, &document(configuration, &input.sql));
    let found =
        subtransaction(|| for_owner_in_session(table.owner, path, || parse::has_subquery(&statement, table.oid)))
            .map_err(|caught| Error::new(caught.code, caught.message, "Give an input that can be cast to text."))?;
    if found {
        return Err(Error::unsupported(
            "text_search does not go with an input that has a subquery",
            "Keep the text in a column of the table, for instance by a trigger, and give that as input; or leave text_search out.",
        ));
    }
    if !is_indexed(table, input.attnum.map(|_| input.sql.as_str())) {
        pgrx::ereport!(
            NOTICE,
            PgSqlErrorCode::ERRCODE_WARNING,
            "no text index is built, since the input is not a stored column of characters: hybrid searches read the whole table",
            format!(
                "For many rows keep the text in a column and give that as input, for instance ALTER TABLE {} ADD COLUMN words text GENERATED ALWAYS AS (...) STORED.",
                table.sql()
            )
        );
    }
    Ok(())
}

/// Whether an input has a text index: only a column of characters has, which is not generated as it is read (of that there are no indexes). The server parses the expression of an index as whoever builds
/// it, which runs what the table's owner has put behind the literals of an expression; and an expression that fails, or that a
/// writer may not evaluate, would fail his write. A type whose values are texts as they stand (citext) is one of characters: only a superuser
/// can say that of a type.
fn is_indexed(table: &Table, column: Option<&str>) -> bool {
    const SQL: &str = "WITH RECURSIVE base AS (SELECT a.atttypid AS oid FROM pg_attribute a \
             WHERE a.attrelid = $1 AND '\"' || replace(a.attname, '\"', '\"\"') || '\"' = $2 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v' \
           UNION ALL SELECT t.typbasetype FROM base JOIN pg_type t ON t.oid = base.oid WHERE t.typtype = 'd') \
         SELECT EXISTS (SELECT FROM base WHERE oid = ANY (ARRAY['text', 'varchar', 'bpchar', 'name']::regtype[]) \
           OR EXISTS (SELECT FROM pg_cast c WHERE c.castsource = base.oid AND c.casttarget = 'text'::regtype AND c.castmethod = 'b'))";
    column.is_some_and(|name| {
        let args = args![table.oid, name.to_string()];
        as_extension(|| spi::first(SQL, args, Mode::Read, |row| row.or_default::<bool>(1))) == Some(true)
    })
}

/// The input of a vectorizer where it has a text index.
fn column_of<'a>(table: &Table, vectorizer: &'a Vectorizer) -> Option<&'a str> {
    vectorizer.input.as_deref().filter(|input| !vectorizer.is_expression && is_indexed(table, Some(input)))
}

/// The words of a vectorizer's input where it has a text index.
fn indexed(table: &Table, vectorizer: &Vectorizer) -> Option<String> {
    vectorizer.text_search.as_ref()?;
    Some(document(&configuration_of(table, vectorizer).ok()?, column_of(table, vectorizer)?))
}

/// The text indexes over the words `document` of a table, and of all that it is made of. One whose name is ours is the extension's as long as it
/// `is_awaited`, or is not complete: nobody else builds it then.
fn parts(table: &Table, column: &str, document: &str, is_awaited: bool, mode: Mode) -> Vec<Part> {
    const SQL: &str = "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relname::text, i.indisvalid, h.inhparent, \
           EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.datid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND b.index_relid = c.oid), \
           EXISTS (SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
             AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x' AND x.extname = 'autoembed'), i.indexprs::text, i.indrelid \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam \
         LEFT JOIN pg_inherits h ON h.inhrelid = c.oid \
         WHERE i.indrelid = ANY ($1) AND m.amname = 'gin' AND i.indnatts = 1 AND i.indexprs IS NOT NULL AND i.indpred IS NULL \
         ORDER BY i.indisvalid DESC, h.inhparent, c.oid";
    let mut parts = index::parts_of(table, mode);
    let tables: Vec<pg_sys::Oid> = parts.iter().map(|part| part.oid).collect();
    let found: Vec<(pg_sys::Oid, String, Index, String)> = as_extension(|| {
        spi::query(SQL, args![tables], mode, |row| {
            let index = Index {
                oid: row.get(1).unwrap_or(pg_sys::InvalidOid),
                name: row.or_default(2),
                is_valid: row.or_default(4),
                part_of: row.get(5),
                is_in_work: row.or_default(6),
                is_ours: row.or_default(7),
                is_tied: row.or_default(7),
            };
            (row.get(9).unwrap_or(pg_sys::InvalidOid), row.or_default(3), index, row.or_default(8))
        })
    });
    let mut by_table: HashMap<pg_sys::Oid, (Vec<Index>, Vec<String>)> = HashMap::new();
    for (table, name, mut index, expression) in found {
        let Some(part) = parts.iter().find(|part| part.oid == table) else { continue };
        let is_named = is_our_name(&name, &format!("{}_{column}", part.name));
        index.is_ours |= is_named && (is_awaited || !index.is_valid);
        let (indexes, expressions) = by_table.entry(table).or_default();
        indexes.push(index);
        expressions.push(expression);
    }
    for part in &mut parts {
        let Some((indexes, expressions)) = by_table.remove(&part.oid) else { continue };
        let statement = format!("SELECT {document} FROM ONLY {}", part.sql);
        let same = subtransaction(|| parse::same_expression(&statement, part.oid, &expressions)).unwrap_or_default();
        // What a user's own build has left that was broken off is his.
        let is_of_use = |index: &Index| index.is_valid || index.is_ours || index.is_in_work || !part.has_rows;
        let of_use = indexes.into_iter().zip(same).filter(|(index, is_same)| *is_same && is_of_use(index));
        part.indexes = of_use.map(|(index, _)| index).collect();
    }
    parts
}

fn parts_for(table: &Table, vectorizer: &Vectorizer, mode: Mode) -> Vec<Part> {
    const AWAITED: &str =
        "SELECT text_index_wanted OR text_index_trouble IS NOT NULL FROM autoembed.vectorizer WHERE id = $1";
    let Some((document, column)) = indexed(table, vectorizer).zip(vectorizer.embedding.as_deref()) else {
        return Vec::new();
    };
    let is_awaited = as_extension(|| spi::first(AWAITED, args![vectorizer.id], mode, |row| row.or_default::<bool>(1)));
    parts(table, column, &document, is_awaited == Some(true), mode)
}

/// Whether all that a table is made of has a valid text index, whoever has made it.
pub fn is_there(table: &Table, vectorizer: &Vectorizer, mode: Mode) -> bool {
    let parts = parts_for(table, vectorizer, mode);
    !parts.is_empty() && parts.iter().filter(|part| part.has_rows).all(Part::is_indexed)
}

/// Whether a table is without the text index that it should have.
pub fn is_missing(table: &Table, vectorizer: &Vectorizer) -> bool {
    const WANTED: &str = "SELECT text_index_wanted FROM autoembed.vectorizer WHERE id = $1";
    let wanted =
        || as_extension(|| spi::first(WANTED, args![vectorizer.id], Mode::Write, |row| row.or_default::<bool>(1)));
    indexed(table, vectorizer).is_some() && wanted() == Some(false) && !is_there(table, vectorizer, Mode::Write)
}

/// What is to be done next so that a table, or all that it is made of, has the index, and that it is the extension's; `None`: that is so.
pub fn next_step(table: &Table, vectorizer: &Vectorizer) -> Option<Step> {
    let parts = parts_for(table, vectorizer, Mode::Write);
    let how = |table: &Table, how: &str| Some(statement(table, vectorizer, how)?.0);
    index::step(&parts, how).or_else(|| {
        let mut ours =
            parts.iter().flat_map(|part| &part.indexes).filter(|index| index.is_ours && index.part_of.is_none());
        Some(Step::Short(tie(&ours.find(|index| !index.is_tied)?.name)))
    })
}

/// The statement that builds the index, and its name; `how` may be `CONCURRENTLY`, or `ONLY`. `None` where a column or the configuration
/// is gone.
fn statement(table: &Table, vectorizer: &Vectorizer, how: &str) -> Option<(String, String)> {
    let name = free_name(table, vectorizer.embedding.as_deref()?);
    let document = indexed(table, vectorizer)?;
    let (concurrently, only) = if how == "ONLY" { ("", how) } else { (how, "") };
    let statement =
        format!("CREATE INDEX {concurrently} {} ON {only} {} USING gin (({document}))", quote(&name), table.sql());
    Some((statement, qualified(&table.schema, &name)))
}

/// The statement that a user can build the index with.
fn by_hand(table: &Table, vectorizer: &Vectorizer) -> Option<String> {
    let configuration = configuration_of(table, vectorizer).ok()?;
    let words = words(&literal(&configuration.name), column_of(table, vectorizer)?);
    Some(format!("CREATE INDEX CONCURRENTLY ON {} USING gin (({words}))", table.sql()))
}

/// What to do about a text index that is not there.
pub fn hint(table: &Table, vectorizer: &Vectorizer) -> String {
    const AGAIN: &str = "call autoembed.disable() and autoembed.enable() again";
    match by_hand(table, vectorizer) {
        Some(statement) if table.kind != 'p' => format!("drop what is left of it and run {statement}, or {AGAIN}"),
        _ => AGAIN.to_string(),
    }
}

const ENDING: &str = "_text_idx";

fn free_name(table: &Table, column: &str) -> String {
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";
    let stem = format!("{}_{column}", table.name);
    let mut name = derived("", &stem, ENDING);
    for number in 1..1000 {
        let pair = args![table.schema.clone(), name.clone()];
        if as_extension(|| spi::first(SQL, pair, Mode::Write, |row| row.or_default::<bool>(1))) != Some(true) {
            break;
        }
        name = derived("", &stem, &format!("{ENDING}{number}"));
    }
    name
}

/// Whether [`free_name`] gives such names.
fn is_our_name(name: &str, stem: &str) -> bool {
    let without_number = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = &name[without_number.len()..];
    without_number.ends_with(ENDING) && derived("", stem, &format!("{ENDING}{number}")) == name
}

/// The statement that makes an index the extension's own: it goes with it.
fn tie(name: &str) -> String {
    format!("ALTER INDEX {name} DEPENDS ON EXTENSION autoembed")
}

/// Makes the index of a new vectorizer that wants one: at once where the table is small, else it is left to the builder.
pub fn make(table: &Table, vectorizer: &Vectorizer, rows_there: bool) {
    const WANTED: &str = "UPDATE autoembed.vectorizer SET text_index_wanted = true WHERE id = $1";
    if indexed(table, vectorizer).is_none() || is_there(table, vectorizer, Mode::Write) {
        return;
    }
    let parts = parts_for(table, vectorizer, Mode::Write);
    // What a build has left that was broken off is for the process that builds indexes.
    let is_begun = parts.iter().flat_map(|part| &part.indexes).any(|index| !index.is_valid);
    if is_begun || rows_there && !index::is_small(table) {
        as_extension(|| spi::execute(WANTED, args![vectorizer.id]));
        return;
    }
    let Some((statement, name)) = statement(table, vectorizer, "") else { return };
    spi::execute(&statement, &[]);
    spi::execute(&tie(&name), &[]);
}

/// No index is waited for any more.
pub fn give_up(id: i32) {
    const SQL: &str = "UPDATE autoembed.vectorizer SET text_index_wanted = false, build_after = NULL, builds_ended = 0 WHERE id = $1 AND text_index_wanted";
    as_extension(|| spi::execute(SQL, args![id]));
}

/// Notes why there is no text index, or that there is one.
pub fn note(id: i32, trouble: Option<String>) {
    const SQL: &str = "UPDATE autoembed.vectorizer SET text_index_trouble = $2 WHERE id = $1 AND text_index_trouble IS DISTINCT FROM $2";
    as_extension(|| spi::execute(SQL, &[Arg::new(id), Arg::new::<String>(trouble)]));
}

/// Whether it is noted that there is none.
pub fn is_noted(id: i32) -> bool {
    const SQL: &str = "SELECT text_index_trouble IS NOT NULL FROM autoembed.vectorizer WHERE id = $1";
    as_extension(|| spi::first(SQL, args![id], Mode::Write, |row| row.or_default::<bool>(1))) == Some(true)
}

/// Drops what the extension has made of the index of a vectorizer that ends, unless another one of the table has the same.
pub fn drop(table: &Table, vectorizer: &Vectorizer) {
    let others = catalog::vectorizers().into_iter().filter(|v| v.source == table.oid && v.id != vectorizer.id);
    let kept: Vec<Index> =
        others.flat_map(|other| parts_for(table, &other, Mode::Write)).flat_map(|part| part.indexes).collect();
    let parts = parts_for(table, vectorizer, Mode::Write);
    let found =
        parts.into_iter().flat_map(|part| part.indexes).filter(|index| index.is_ours && index.part_of.is_none());
    let mut ours: Vec<(pg_sys::Oid, String)> = found.map(|index| (index.oid, index.name)).collect();
    // What is tied goes, also where its configuration is not found any more.
    ours.extend(tied(table, vectorizer, Mode::Write));
    ours.sort_unstable_by(|one, other| one.1.cmp(&other.1));
    ours.dedup();
    for (_, name) in ours.into_iter().filter(|(oid, _)| !kept.iter().any(|other| other.oid == *oid)) {
        spi::execute(&format!("DROP INDEX {name}"), &[]);
    }
}
