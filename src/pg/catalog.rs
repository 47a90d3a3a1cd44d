//! What is stored about models and vectorizers, and what the server's catalogue says of their tables.

use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Arg, Mode, Row, args};
use crate::pg::ffi::version::Version;
use crate::pg::ident::{qualified, quote};
use crate::pg::interface;
use autoembed_core::chunk::Sizes;
use autoembed_core::rate::PerMinute;
use autoembed_core::{Limits, Model, Provider};
use pgrx::pg_sys;
use std::collections::HashSet;
use std::time::Duration;

/// An input expression as it stands in statements: the line breaks keep a comment in it from swallowing what follows.
pub fn expression_sql(given: &str) -> String {
    format!("\n{given}\n")
}

/// A model as it is stored: how to call it, and where its key is.
#[derive(Debug, Clone)]
pub struct StoredModel {
    /// How to call it.
    pub model: Model,
    /// Environment variable with the key.
    pub api_key_env: Option<String>,
    /// File with the key.
    pub api_key_file: Option<String>,
    /// Requests at once.
    pub max_concurrent_requests: Option<usize>,
    /// Requests and tokens a minute.
    pub per_minute: PerMinute,
    /// Tokens a day.
    pub daily_token_budget: Option<u64>,
}

const MODEL: &str = "SELECT name, provider, COALESCE(model, name), dimensions, url, api_key_env, api_key_file, \
     max_batch_inputs, max_batch_tokens, max_input_tokens, max_concurrent_requests, \
     EXTRACT(epoch FROM timeout)::float8, options::text, \
     requests_per_minute, tokens_per_minute, daily_token_budget FROM autoembed.models WHERE name = $1";

/// The model called `name`.
///
/// # Errors
/// 42704 where there is none; as `interface::check`.
pub fn model(name: &str) -> Result<StoredModel> {
    interface::check()?;
    let found = as_extension(|| spi::planned(MODEL, args![name.to_string()], Mode::Read, read_model));
    match found.into_iter().next() {
        Some(stored) => stored,
        None => Err(Error::missing(
            format!("model \"{name}\" does not exist"),
            "See SELECT name FROM autoembed.models; a superuser adds one with autoembed.create_model().",
        )),
    }
}

/// Which version of its row the model called `name` has.
pub fn version_of_model(name: &str) -> Option<Version> {
    const SQL: &str = "SELECT tableoid, ctid, xmin FROM autoembed.models WHERE name = $1";
    as_extension(|| spi::planned(SQL, args![name.to_string()], Mode::Read, |row| Version::read(row, 1))).pop().flatten()
}

/// The names of all models.
pub fn model_names() -> Vec<String> {
    as_extension(|| spi::query("SELECT name FROM autoembed.models", &[], Mode::Read, |row| row.or_default(1)))
}

fn read_model(row: &Row) -> Result<StoredModel> {
    let name: String = row.or_default(1);
    let provider: Provider = row
        .or_default::<String>(2)
        .parse()
        .map_err(|e: autoembed_core::provider::UnknownProvider| Error::argument(e.to_string(), e.hint()))?;
    let mut model = Model::new(&name, provider, &row.or_default::<String>(3), row.or_default::<i32>(4) as usize);
    let or = |column, default: usize| row.get::<i32>(column).map_or(default, |n| n.max(1) as usize);
    model.url = row.get(5);
    model.limits = Limits {
        batch_inputs: or(8, model.limits.batch_inputs),
        batch_tokens: or(9, model.limits.batch_tokens),
        batch_bytes: model.limits.batch_bytes,
        input_tokens: or(10, model.limits.input_tokens),
    };
    if let Some(seconds) = row.get::<f64>(12).filter(|s| *s > 0.0 && s.is_finite()) {
        model.timeout = Duration::from_secs_f64(seconds.min(3600.0));
    }
    if let Some(options) = row.get::<String>(13) {
        model.read_options(&options).map_err(|e| Error::argument(e.message, e.hint))?;
    }
    Ok(StoredModel {
        model,
        api_key_env: row.get(6),
        api_key_file: row.get(7),
        max_concurrent_requests: row.get::<i32>(11).map(|n| n.max(1) as usize),
        per_minute: PerMinute {
            requests: row.get::<i32>(14).map(|n| n.max(1) as u64),
            tokens: row.get::<i32>(15).map(|n| n.max(1) as u64),
        },
        daily_token_budget: row.get::<i64>(16).map(|n| n.max(1) as u64),
    })
}

/// One column of a table's primary key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Its type as a cast takes it: qualified, and by the name in the catalogue, since some words of SQL mean a length of 1.
    pub type_name: String,
    /// Its type.
    pub type_oid: pg_sys::Oid,
    /// Its type is the server's own, and so is its equality.
    pub is_builtin: bool,
}

/// A source table as the catalogue has it now.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: pg_sys::Oid,
    /// `pg_class.relkind`.
    pub kind: char,
    /// `pg_class.relpersistence`.
    pub persistence: char,
    /// A partition of another table.
    pub is_partition: bool,
    /// Columns of its primary key, in the key's order; empty where it has none.
    pub key: Vec<KeyColumn>,
    /// With what names begin that stand beside it in statements: neither it nor a column of it is called so.
    pub prefix: String,
    /// Policies may tell its readers apart.
    pub has_row_security: bool,
}

impl Table {
    /// Its qualified name, quoted.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// For FROM and UPDATE: a plain table without the tables that inherit from it, whose rows have no triggers.
    pub fn source_sql(&self) -> String {
        if self.kind == 'r' { format!("ONLY {}", self.sql()) } else { self.sql() }
    }
}

const TABLE: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relowner, c.relkind::text, c.relpersistence::text, \
     c.relispartition, (SELECT 'autoembed' || repeat('_', 1 + COALESCE(max(length(substring(x.name FROM '^autoembed(_+)'))), 0)) \
       FROM (SELECT c.relname::text UNION ALL SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid) AS x (name)), c.relrowsecurity \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";

/// The planner's estimate of a table's rows, by its size where it was never analysed. Waits for locks on the table.
pub fn estimated_rows(oid: pg_sys::Oid) -> i64 {
    const SQL: &str = "SELECT COALESCE(sum(CASE WHEN l.reltuples > 0 THEN l.reltuples ELSE pg_relation_size(l.oid) / 100 END), 0)::bigint \
         FROM pg_class l WHERE l.relkind = 'r' AND (l.oid = $1 OR l.oid IN (SELECT relid FROM pg_partition_tree($1) WHERE isleaf))";
    as_extension(|| spi::first(SQL, args![oid], Mode::Write, |row| row.or_default::<i64>(1))).unwrap_or(0)
}

const KEY: &str = "SELECT a.attname::text, quote_ident(n.nspname) || '.' || quote_ident(t.typname), a.atttypid, n.nspname = 'pg_catalog' \
     FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, ord) \
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
     WHERE i.indrelid = $1 AND i.indisprimary AND i.indisvalid AND k.ord <= i.indnkeyatts ORDER BY k.ord";

/// What the catalogue has of table `oid`; `None` where it is gone.
pub fn table(oid: pg_sys::Oid) -> Option<Table> {
    as_extension(|| {
        let mut table = spi::planned(TABLE, args![oid], Mode::Read, |row| Table {
            oid: row.get(1).unwrap_or(pg_sys::InvalidOid),
            schema: row.or_default(2),
            name: row.or_default(3),
            owner: row.get(4).unwrap_or(pg_sys::InvalidOid),
            kind: row.or_default::<String>(5).chars().next().unwrap_or(' '),
            persistence: row.or_default::<String>(6).chars().next().unwrap_or(' '),
            is_partition: row.or_default(7),
            key: Vec::new(),
            prefix: row.or_default(8),
            has_row_security: row.or_default(9),
        })
        .into_iter()
        .next()?;
        table.key = spi::planned(KEY, args![oid], Mode::Read, |row| KeyColumn {
            name: row.or_default(1),
            type_name: row.or_default(2),
            type_oid: row.get(3).unwrap_or(pg_sys::InvalidOid),
            is_builtin: row.or_default(4),
        });
        Some(table)
    })
}

/// A table and, where it is partitioned, all its partitions.
pub fn with_partitions(table: &Table) -> Vec<pg_sys::Oid> {
    const SQL: &str = "SELECT relid::oid FROM pg_partition_tree($1)";
    if table.kind != 'p' {
        return vec![table.oid];
    }
    as_extension(|| spi::planned(SQL, args![table.oid], Mode::Write, |row| row.get(1).unwrap_or(table.oid)))
}

/// What keeps triggers from telling of changes.
pub enum Silenced {
    /// One of them is not there.
    Dropped,
    /// One of them does not fire for users' writes.
    Disabled {
        /// The table, or the partition of it.
        table: String,
        /// Its name.
        trigger: String,
    },
}

/// Whether a table has all these triggers, and all of them fire, in each of its partitions too; what is wrong where they do not.
pub fn silenced(table: &Table, names: &[String]) -> Option<Silenced> {
    const SQL: &str = "SELECT t.tgrelid = $1, t.tgenabled IN ('O', 'A'), t.tgrelid::regclass::text, t.tgname::text FROM pg_trigger t \
         WHERE t.tgrelid = ANY ($2) AND t.tgname = ANY ($3)";
    let found: Vec<(bool, bool, String, String)> = as_extension(|| {
        spi::planned(SQL, args![table.oid, with_partitions(table), names.to_vec()], Mode::Write, |row| {
            (row.or_default(1), row.or_default(2), row.or_default(3), row.or_default(4))
        })
    });
    if found.iter().filter(|(is_of_table, ..)| *is_of_table).count() < names.len() {
        return Some(Silenced::Dropped);
    }
    let disabled = found.into_iter().find(|(_, fires, ..)| !fires);
    disabled.map(|(_, _, table, trigger)| Silenced::Disabled { table, trigger: quote(&trigger) })
}

/// Whether somebody's BEFORE trigger may change a row of the table, or of its partitions, on its way into it.
pub fn has_editing_triggers(table: &Table) -> bool {
    // Of the bits of tgtype, 1 is FOR EACH ROW, 2 is BEFORE, 16 is UPDATE.
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ANY ($1) AND tgtype & 19 = 19 AND tgenabled <> 'D' \
         AND tgfoid <> 'autoembed.clear_vector()'::regprocedure)";
    let tables = with_partitions(table);
    as_extension(|| spi::planned(SQL, args![tables], Mode::Write, |row| row.or_default::<bool>(1))).first()
        == Some(&true)
}

/// Whether `role` may read a column of a table; `None`: any column.
pub fn may_read(role: pg_sys::Oid, table: pg_sys::Oid, column: Option<&str>) -> bool {
    const SQL: &str = "SELECT CASE WHEN $3 IS NULL THEN has_any_column_privilege($1, $2, 'SELECT') \
         ELSE has_column_privilege($1, $2, $3, 'SELECT') END";
    let args = [Arg::new(role), Arg::new(table), Arg::new::<String>(column.map(str::to_string))];
    as_extension(|| spi::planned(SQL, &args, Mode::Read, |row| row.or_default::<bool>(1))).first() == Some(&true)
}

/// Whether `role` may read a table with what the server keeps of its rows, for which grants on columns are not enough.
pub fn may_read_all(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    const SQL: &str = "SELECT has_table_privilege($1, $2, 'SELECT')";
    as_extension(|| spi::planned(SQL, args![role, table], Mode::Read, |row| row.or_default::<bool>(1))).first()
        == Some(&true)
}

/// Whether `role` may name what is in a schema.
pub fn may_use(role: pg_sys::Oid, schema: &str) -> bool {
    const SQL: &str = "SELECT has_schema_privilege($1, $2, 'USAGE')";
    as_extension(|| spi::planned(SQL, args![role, schema.to_string()], Mode::Read, |row| row.or_default::<bool>(1)))
        .first()
        == Some(&true)
}

/// Whether `role` may have a model that makes requests work for it: EXECUTE on embed() was granted to it, not just to PUBLIC,
/// or it may read the vectors of a table that the model embeds, and could search there.
pub fn may_call(role: pg_sys::Oid, model: &str) -> bool {
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_proc p CROSS JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a \
           WHERE p.oid = 'autoembed.embed(text, text)'::regprocedure AND a.privilege_type = 'EXECUTE' AND a.grantee <> 0 \
             AND pg_has_role($1, a.grantee, 'USAGE')) \
         OR EXISTS (SELECT FROM autoembed.vectorizer v JOIN pg_attribute e ON e.attrelid = COALESCE(v.chunk_table, v.source) AND NOT e.attisdropped \
           AND CASE WHEN EXISTS (SELECT FROM autoembed.numbered n WHERE n.vectorizer_id = v.id) THEN e.attnum = v.embedding_attnum ELSE e.attname = v.embedding END \
           WHERE v.model = $2 AND has_column_privilege($1, e.attrelid, e.attnum, 'SELECT'))";
    let args = args![role, model.to_string()];
    as_extension(|| spi::planned(SQL, args, Mode::Read, |row| row.or_default::<bool>(1))).first() == Some(&true)
}

/// Whether a table that the model embeds has row security.
pub fn is_under_policies(model: &str) -> bool {
    const SQL: &str = "SELECT EXISTS (SELECT FROM autoembed.vectorizer v JOIN pg_class c ON c.oid = v.source WHERE v.model = $1 AND c.relrowsecurity)";
    as_extension(|| spi::planned(SQL, args![model.to_string()], Mode::Read, |row| row.or_default::<bool>(1))).first()
        == Some(&true)
}

/// Of these tables, those that the caller may read, and of which no policy hides rows from him.
pub fn all_of_whose_rows_are_seen(tables: Vec<pg_sys::Oid>) -> HashSet<pg_sys::Oid> {
    // Asked as the caller, under his search_path.
    const SQL: &str = "SELECT t FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS u (t) WHERE autoembed.sees_all_rows(u.t::pg_catalog.regclass)";
    spi::query(SQL, args![tables], Mode::Read, |row| row.get(1)).into_iter().flatten().collect()
}

/// Where a vectorizer's pieces are, and how texts are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// The chunk table.
    pub table: pg_sys::Oid,
    /// The sizes of pieces.
    pub sizes: Sizes,
}

/// A vectorizer as it is stored, with the names that its columns have now.
#[derive(Debug, Clone)]
pub struct Vectorizer {
    /// Its id.
    pub id: i32,
    /// Its table.
    pub source: pg_sys::Oid,
    /// The target column; `None` where it was dropped or is no vector any more.
    pub embedding: Option<String>,
    /// The input as SQL over the row; `None` where its column was dropped.
    pub input: Option<String>,
    /// The input as it was given.
    pub given_input: String,
    /// The input is an expression, not a column.
    pub is_expression: bool,
    /// search_path of the input expression.
    pub input_path: String,
    /// Its model's name.
    pub model: String,
    /// `replace` or `clear`.
    pub on_change: String,
    /// How long a row settles.
    pub delay: Duration,
    /// `auto` or `none`.
    pub index_method: String,
    /// Dimensions that the target column is limited to; -1: any.
    pub column_dimensions: i32,
    /// It came from a dump, and [`crate::pg::repair`] has not yet numbered its columns.
    pub is_restored: bool,
    /// The generated search function, where it is.
    pub search_function: Option<(String, String)>,
    /// The qualified name of the text search configuration, where hybrid searches are wanted.
    pub text_search: Option<String>,
    /// Texts go in pieces: the target column is one of the chunk table.
    pub chunks: Option<Chunks>,
    /// When it was made, in microseconds: with its id it is told from every other one, also of another database.
    pub made: i64,
}

impl Vectorizer {
    /// The table with its vectors.
    pub fn vectors_in(&self) -> pg_sys::Oid {
        self.chunks.map_or(self.source, |chunks| chunks.table)
    }
}

// Where a dump has brought it, names lead to the columns, until they are numbered again: see `crate::pg::repair`.
macro_rules! of_vectorizers {
    ($which:literal) => {
        concat!(
            "SELECT v.id, v.source::oid, e.attname::text, i.attname::text, v.input, v.input_attnum IS NULL, \
     v.input_path, v.model, v.on_change, (EXTRACT(epoch FROM v.delay) * 1000)::float8, v.index_method, \
     v.search_schema::text, v.search_function::text, COALESCE(e.atttypmod, -1), n.vectorizer_id IS NULL, v.text_search, \
     v.chunk_table::oid, v.chunk_size, v.chunk_overlap, (EXTRACT(epoch FROM v.created_at) * 1000000)::bigint \
     FROM autoembed.vectorizer v LEFT JOIN autoembed.numbered n ON n.vectorizer_id = v.id \
     LEFT JOIN pg_attribute e ON e.attrelid = COALESCE(v.chunk_table, v.source) AND NOT e.attisdropped \
       AND e.attnum = CASE WHEN n.vectorizer_id IS NOT NULL THEN v.embedding_attnum ELSE \
         (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = COALESCE(v.chunk_table, v.source) AND a.attname = v.embedding) END \
       AND e.atttypid = (SELECT t.oid FROM pg_extension x JOIN pg_type t ON t.typnamespace = x.extnamespace AND t.typname = 'vector' WHERE x.extname = 'vector') \
     LEFT JOIN pg_attribute i ON i.attrelid = v.source AND NOT i.attisdropped \
       AND i.attnum = CASE WHEN n.vectorizer_id IS NOT NULL OR v.input_attnum IS NULL THEN v.input_attnum ELSE \
         (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = v.source AND a.attname = v.input) END ",
            $which
        )
    };
}

fn read_vectorizer(row: &Row) -> Vectorizer {
    let is_expression: bool = row.or_default(6);
    let given_input: String = row.or_default(5);
    Vectorizer {
        id: row.or_default(1),
        source: row.get(2).unwrap_or(pg_sys::InvalidOid),
        embedding: row.get(3),
        input: if is_expression {
            Some(expression_sql(&given_input))
        } else {
            row.get::<String>(4).map(|name| quote(&name))
        },
        given_input,
        is_expression,
        input_path: row.or_default(7),
        model: row.or_default(8),
        on_change: row.or_default(9),
        delay: Duration::from_millis(row.or_default::<f64>(10).max(0.0) as u64),
        index_method: row.or_default(11),
        search_function: row.get(12).zip(row.get(13)),
        column_dimensions: row.or_default(14),
        is_restored: row.or_default(15),
        text_search: row.get(16),
        chunks: row.get::<pg_sys::Oid>(17).map(|table| Chunks {
            table,
            sizes: Sizes { size: row.or_default::<i32>(18) as usize, overlap: row.or_default::<i32>(19) as usize },
        }),
        made: row.or_default(20),
    }
}

/// All vectorizers whose tables are there.
pub fn vectorizers() -> Vec<Vectorizer> {
    as_extension(|| {
        const SQL: &str = of_vectorizers!("JOIN pg_class c ON c.oid = v.source ORDER BY v.id");
        spi::planned(SQL, &[], Mode::Write, read_vectorizer)
    })
}

/// The vectorizer `id`, where it is there.
pub fn vectorizer(id: i32) -> Option<Vectorizer> {
    by_id(id, Mode::Read)
}

fn by_id(id: i32, mode: Mode) -> Option<Vectorizer> {
    const SQL: &str = of_vectorizers!("WHERE v.id = $1");
    as_extension(|| spi::planned(SQL, args![id], mode, read_vectorizer)).pop()
}

/// The vectorizer `id` as it is at this moment, whatever the transaction has seen of it before.
pub fn now(id: i32) -> Option<Vectorizer> {
    by_id(id, Mode::Write)
}

/// The vectorizer of `table` whose target column is called `embedding` now.
pub fn find(table: pg_sys::Oid, embedding: &str) -> Option<Vectorizer> {
    as_extension(|| {
        const SQL: &str = of_vectorizers!("WHERE v.source = $1 AND COALESCE(e.attname, v.embedding) = $2");
        spi::planned(SQL, args![table, embedding.to_string()], Mode::Write, read_vectorizer).pop()
    })
}

/// pgvector in this database: its schema and the oid of its type.
#[derive(Debug, Clone)]
pub struct Pgvector {
    /// The schema it was created in.
    pub schema: String,
    /// The type `vector`.
    pub type_oid: pg_sys::Oid,
    /// Its version has iterative index scans (0.8 and later).
    pub iterative_scans: bool,
    /// Its version has the type `halfvec` (0.7 and later).
    pub has_halfvec: bool,
}

/// Where pgvector is.
///
/// # Errors
/// 55000 where it is not installed.
pub fn pgvector() -> Result<Pgvector> {
    const SQL: &str = "SELECT n.nspname::text, t.oid, x.extversion FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace \
         JOIN pg_type t ON t.typnamespace = x.extnamespace AND t.typname = 'vector' WHERE x.extname = 'vector'";
    let mut found = as_extension(|| {
        spi::planned(SQL, &[], Mode::Read, |row| {
            let version: String = row.or_default(3);
            let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
            let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
            Pgvector {
                schema: row.or_default(1),
                type_oid: row.get(2).unwrap_or(pg_sys::InvalidOid),
                iterative_scans: number >= (0, 8),
                has_halfvec: number >= (0, 7),
            }
        })
    });
    found
        .pop()
        .ok_or_else(|| Error::state("pgvector is not installed in this database", "Run CREATE EXTENSION vector."))
}

/// Whether role `role` has the rights of an owner of `table`.
pub fn owns(role: pg_sys::Oid, table: &Table) -> bool {
    as_extension(|| {
        spi::first("SELECT pg_has_role($1, $2, 'USAGE')", args![role, table.owner], Mode::Read, |row| {
            row.or_default::<bool>(1)
        })
        .unwrap_or(false)
    })
}
