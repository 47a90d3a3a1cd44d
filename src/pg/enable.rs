//! enable(): from a table and an input to a vectorizer with column, triggers, search function and backfill. Runs the DDL as
//! the caller, who owns the table; writes the catalogue as the extension.

use crate::pg::catalog::{self, Pgvector, StoredModel, Table, Vectorizer};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::rights::{as_extension, current_user, with_path};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ffi::{locks, parse, utility};
use crate::pg::ident::{as_column, derived, qualified, quote};
use crate::pg::{interface, search, settings, source, vectorizers, wake};
use pgrx::datum::Interval;
use pgrx::{PgSqlErrorCode, pg_sys};

/// Tables with fewer rows get their index at once, the others after the backfill.
const SMALL_TABLE: i64 = 10_000;
/// Most dimensions that an index over `vector` takes.
pub const MAX_INDEXED_DIMENSIONS: usize = 2000;

/// What enable() was given.
pub struct Request {
    /// The table.
    pub source: pg_sys::Oid,
    /// A column or an expression.
    pub input: String,
    /// The model; `None`: the default.
    pub model: Option<String>,
    /// The target column.
    pub embedding: String,
    /// What happens to the vector when the text changes.
    pub on_change: String,
    /// How long a row settles.
    pub delay: Interval,
    /// Embed the rows that are there.
    pub backfill: bool,
    /// `auto` or `none`.
    pub index: String,
    /// Name of the search function; `None`: derived from the table's.
    pub search_function: Option<String>,
}

/// Makes a vectorizer, or finds that it is there with the same arguments; its id.
///
/// # Errors
/// Everything that a caller can get wrong, each with its SQLSTATE and hint.
pub fn enable(request: Request) -> Result<i32> {
    check_arguments(&request)?;
    let table = owned_table(request.source)?;
    check_table(&table)?;
    let stored = catalog::model(&request.model.clone().unwrap_or_else(settings::default_model))?;
    let pgvector = catalog::pgvector()?;
    locks::lock_table(table.oid, column(table.oid, &request.embedding).is_none());
    let path = resolved_path();
    let input = read_input(&table, &request, &path)?;
    if let Some(existing) = catalog::find(table.oid, &request.embedding) {
        return same_as(&existing, &request, &stored, &input);
    }
    let attnum = embedding_column(&table, &request.embedding, &stored, &pgvector)?;
    let id = store(&request, &stored, &input, attnum, path)?;
    make_triggers(&table, &request, &input, id)?;
    let made = catalog::find(table.oid, &request.embedding)
        .ok_or_else(|| Error::state("the vectorizer is gone", "Call enable() again."))?;
    search::create(&table, &made, &pgvector, request.search_function.as_deref())?;
    let last_key = source::last_key(&table);
    let rows_there = last_key.is_some();
    if let Some(end) = last_key.filter(|_| request.backfill) {
        vectorizers::start_backfill(id, &table, end, false);
    }
    if request.index == "auto" {
        index(&table, &request.embedding, &stored, &pgvector, id, rows_there)?;
    }
    wake::at_commit();
    Ok(id)
}

fn check_arguments(request: &Request) -> Result<()> {
    const ENCODING: &str =
        "SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()";
    if !matches!(request.on_change.as_str(), "replace" | "clear") {
        return Err(Error::argument(
            format!("on_change cannot be \"{}\"", request.on_change),
            "Use 'replace' (the old vector serves until the new one is there) or 'clear' (it is set NULL at once).",
        ));
    }
    if !matches!(request.index.as_str(), "auto" | "none") {
        return Err(Error::argument(
            format!("index cannot be \"{}\"", request.index),
            "Use 'auto' (an HNSW index for cosine distance) or 'none'.",
        ));
    }
    for name in [Some(&request.embedding), request.search_function.as_ref()].into_iter().flatten() {
        if name.is_empty() {
            return Err(Error::argument("a name is empty", "Give the column or function a name."));
        }
    }
    let encoding = as_extension(|| spi::first(ENCODING, &[], Mode::Read, |row| row.or_default::<String>(1)));
    if encoding.as_deref() != Some("UTF8") {
        return Err(Error::unsupported(
            format!("the database's encoding is {}, not UTF8", encoding.unwrap_or_default()),
            "Create the database with ENCODING 'UTF8'.",
        ));
    }
    Ok(())
}

/// The table with this oid, which the caller must own.
///
/// # Errors
/// 42P01 where it is gone, 42501 where it is another's.
pub fn owned_table(oid: pg_sys::Oid) -> Result<Table> {
    interface::check()?;
    let table = catalog::table(oid).ok_or_else(|| {
        Error::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("table with oid {} does not exist", oid.to_u32()),
            "Name a table of this database.",
        )
    })?;
    if !catalog::owns(current_user(), &table) {
        return Err(Error::rights(
            format!("must be owner of table {}", table.name),
            "Call it as the table's owner, or as a role that is a member of the owner's role.",
        ));
    }
    Ok(table)
}

fn check_table(table: &Table) -> Result<()> {
    let wrong = |what: &str, hint: &str| {
        Err(Error::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{}\" {what}", table.name), hint))
    };
    match table.kind {
        'r' | 'p' => {}
        'v' | 'm' => return wrong("is a view", "Name the table under it."),
        'f' => return wrong("is a foreign table", "Call enable() in the database that holds the table."),
        _ => return wrong("is not a table", "Name a table."),
    }
    if table.persistence == 't' {
        return Err(Error::unsupported(
            format!("\"{}\" is a temporary table", table.name),
            "No other session, so no worker, can see it; use autoembed.embed() for its rows.",
        ));
    }
    if table.is_partition {
        return Err(Error::unsupported(
            format!("\"{}\" is a partition", table.name),
            "Call enable() for the partitioned table that it belongs to.",
        ));
    }
    if matches!(table.schema.as_str(), "pg_catalog" | "information_schema" | "pg_toast" | "autoembed") {
        return Err(Error::rights(format!("\"{}\" is a system table", table.name), "Name a table of your own."));
    }
    if table.key.is_empty() {
        return Err(Error::state(
            format!("table \"{}\" has no primary key", table.name),
            format!(
                "Add one, for instance ALTER TABLE {} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY.",
                table.sql()
            ),
        ));
    }
    Ok(())
}

/// What the input is and what it reads.
pub struct Input {
    /// As it is stored: a column's own name, or the expression as it was given.
    pub stored: String,
    /// As SQL over the row.
    pub sql: String,
    /// The column, where it is one.
    pub attnum: Option<i16>,
    /// Names of the columns that it reads.
    pub reads: Vec<String>,
}

fn column(table: pg_sys::Oid, name: &str) -> Option<(i16, pg_sys::Oid, i32, bool)> {
    const SQL: &str = "SELECT attnum, atttypid, atttypmod, attgenerated <> '' FROM pg_attribute \
         WHERE attrelid = $1 AND attname = $2 AND attnum > 0 AND NOT attisdropped";
    as_extension(|| {
        spi::first(SQL, args![table, name.to_string()], Mode::Write, |row| {
            (row.or_default(1), row.get(2).unwrap_or(pg_sys::InvalidOid), row.or_default(3), row.or_default(4))
        })
    })
}

/// The schemas in which names are looked up now. As text it is the same to every role: `"$user"` is what it is to the caller,
/// and what is not there, or not for him, is left out. Temporary objects are his session's, and no part of it.
fn resolved_path() -> String {
    const SQL: &str = "SELECT s::pg_catalog.text, pg_catalog.quote_ident(s::pg_catalog.text) FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) s";
    let all = spi::query(SQL, &[], Mode::Read, |row| (row.or_default::<String>(1), row.or_default::<String>(2)));
    let lasting = all.into_iter().filter(|(name, _)| !name.starts_with("pg_temp_") && name != "$user");
    lasting.map(|(_, quoted)| quoted).collect::<Vec<_>>().join(", ")
}

fn read_input(table: &Table, request: &Request, path: &str) -> Result<Input> {
    let as_name = as_column(&request.input).map(|name| (column(table.oid, &name), name));
    if let Some((Some((attnum, ..)), name)) = as_name {
        if name == request.embedding {
            return Err(Error::argument("the input is the target column itself", "Name the column with the text."));
        }
        return Ok(Input { sql: quote(&name), attnum: Some(attnum), reads: vec![name.clone()], stored: name });
    }
    if let Some((None, name)) = as_name {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!("column \"{name}\" of table \"{}\" does not exist", table.name),
            "The input is the name of a column or an SQL expression over the row; names are folded to lower case unless quoted.",
        ));
    }
    if request.input.trim().is_empty() {
        return Err(Error::argument(
            "the input is empty",
            "Name the column with the text, or give an SQL expression over the row.",
        ));
    }
    let statement =
        format!("SELECT ({})::pg_catalog.text FROM {}", catalog::expression_sql(&request.input), table.source_sql());
    let hint =
        "The input is the name of a column or one SQL expression over the row, for instance title || E'\\n' || body.";
    let analysed = subtransaction(|| with_path(path, || parse::analyse(&statement, table.oid)))
        .map_err(|caught| Error::new(caught.code, caught.message, caught.hint.unwrap_or_else(|| hint.to_string())))?;
    let expression = analysed.ok_or_else(|| {
        Error::argument("the input is not one SQL expression over the row", "For instance title || E'\\n' || body.")
    })?;
    if !expression.one_value {
        return Err(Error::argument(
            "the input is not one value a row",
            "Put aggregates, window functions and functions that return sets into a subquery.",
        ));
    }
    if expression.is_volatile {
        return Err(Error::argument(
            "the input calls a volatile function",
            "It would give another text each time it is read; use functions that are IMMUTABLE or STABLE.",
        ));
    }
    let reads = columns_read(table, &expression, &request.embedding)?;
    Ok(Input { stored: request.input.clone(), sql: catalog::expression_sql(&request.input), attnum: None, reads })
}

fn columns_read(table: &Table, expression: &parse::Expression, embedding: &str) -> Result<Vec<String>> {
    const ALL: &str = "SELECT a.attnum, a.attname::text FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
         AND NOT EXISTS (SELECT FROM autoembed.vectorizer v WHERE v.source = a.attrelid AND v.embedding_attnum = a.attnum) ORDER BY 1";
    let all: Vec<(i16, String)> =
        as_extension(|| spi::query(ALL, args![table.oid], Mode::Write, |row| (row.or_default(1), row.or_default(2))));
    let whole_row = expression.columns.contains(&0);
    let reads: Vec<String> = all
        .into_iter()
        .filter(|(attnum, name)| (whole_row && name != embedding) || expression.columns.contains(attnum))
        .map(|(_, name)| name)
        .collect();
    if !whole_row && reads.iter().any(|name| name == embedding) {
        return Err(Error::argument("the input reads the target column", "A vector cannot be made from itself."));
    }
    if reads.is_empty() {
        return Err(Error::argument(
            "the input reads no column of the table",
            "Give the name of a column or an SQL expression over the row.",
        ));
    }
    Ok(reads)
}

fn same_as(existing: &Vectorizer, request: &Request, stored: &StoredModel, input: &Input) -> Result<i32> {
    const DELAY: &str = "SELECT (EXTRACT(epoch FROM $1) * 1000)::float8";
    let delay_ms =
        as_extension(|| spi::first(DELAY, &[Arg::new(request.delay)], Mode::Read, |row| row.or_default::<f64>(1)))
            .unwrap_or(0.0);
    let function = existing.search_function.as_ref().map(|(_, name)| name.as_str());
    let same = existing.input.as_deref() == Some(input.sql.as_str())
        && existing.model == stored.model.name
        && existing.on_change == request.on_change
        && existing.delay.as_millis() as f64 == delay_ms
        && existing.index_method == request.index
        && request.search_function.as_deref().is_none_or(|name| Some(name) == function);
    if same {
        return Ok(existing.id);
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        format!("column \"{}\" is already kept by a vectorizer with other arguments", request.embedding),
        "Call autoembed.disable() first (the vectors stay), or use another target column: embedding => '...'.",
    ))
}

fn embedding_column(table: &Table, name: &str, stored: &StoredModel, pgvector: &Pgvector) -> Result<i16> {
    let dimensions = stored.model.dimensions as i32;
    if let Some((attnum, type_oid, typmod, is_generated)) = column(table.oid, name) {
        if type_oid != pgvector.type_oid || is_generated {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{name}\" of table \"{}\" is not a plain column of type vector", table.name),
                "Use another target column: embedding => '...'; it is created if it is missing.",
            ));
        }
        if typmod > 0 && typmod != dimensions {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{name}\" has {typmod} dimensions, model \"{}\" has {dimensions}", stored.model.name),
                "Use a model with the column's dimensions, or another target column: embedding => '...'.",
            ));
        }
        return Ok(attnum);
    }
    let type_sql = qualified(&pgvector.schema, "vector");
    spi::execute(&format!("ALTER TABLE {} ADD COLUMN {} {type_sql}({dimensions})", table.sql(), quote(name)), &[]);
    column(table.oid, name).map(|(attnum, ..)| attnum).ok_or_else(|| {
        Error::state(format!("column \"{name}\" could not be added"), "Add it by hand and call enable() again.")
    })
}

fn store(request: &Request, stored: &StoredModel, input: &Input, attnum: i16, path: String) -> Result<i32> {
    // The lock on the model is what a foreign key would take: drop_model() waits for it.
    const SQL: &str = "INSERT INTO autoembed.vectorizer (source, source_oid, embedding, embedding_attnum, input, input_attnum, input_path, \
         model, on_change, delay, index_method) SELECT $1, $1, $2, $3, $4, $5, $6, m.name, $8, $9, $10 \
         FROM autoembed.models m WHERE m.name = $7 FOR KEY SHARE RETURNING id";
    as_extension(|| {
        spi::first(
            SQL,
            &[
                Arg::new(request.source),
                Arg::new(request.embedding.clone()),
                Arg::new(attnum),
                Arg::new(input.stored.clone()),
                Arg::new::<i16>(input.attnum),
                Arg::new(path),
                Arg::new(stored.model.name.clone()),
                Arg::new(request.on_change.clone()),
                Arg::new(request.delay),
                Arg::new(request.index.clone()),
            ],
            Mode::Write,
            |row| row.or_default(1),
        )
    })
    .ok_or_else(|| {
        Error::missing(
            format!("model \"{}\" was dropped just now", stored.model.name),
            "Call enable() with another model.",
        )
    })
}

/// Names of the triggers of vectorizer `id`: after insert, after update, before update.
pub fn trigger_names(id: i32) -> [String; 3] {
    // Triggers of one kind fire in the order of their names: the one that clears comes after those that edit the text.
    [format!("autoembed_{id}_insert"), format!("autoembed_{id}_update"), format!("~autoembed_{id}_clear")]
}

fn make_triggers(table: &Table, request: &Request, input: &Input, id: i32) -> Result<()> {
    const DELAY: &str = "SELECT (EXTRACT(epoch FROM $1) * 1000)::bigint";
    let delay =
        as_extension(|| spi::first(DELAY, &[Arg::new(request.delay)], Mode::Read, |row| row.or_default::<i64>(1)))
            .unwrap_or(0);
    if delay < 0 {
        return Err(Error::argument(
            "delay is negative",
            "Give the time that a row is left to settle, for instance '5 s'.",
        ));
    }
    let [insert, update, clear] = trigger_names(id);
    let name = table.sql();
    // A transition table makes one call a statement; only row triggers are there for partitions.
    let per =
        if table.kind == 'p' { "FOR EACH ROW" } else { "REFERENCING NEW TABLE AS autoembed_new FOR EACH STATEMENT" };
    let call = format!("EXECUTE FUNCTION autoembed.queue_change('{id}', '{delay}')");
    spi::execute(&format!("CREATE TRIGGER {} AFTER INSERT ON {name} {per} {call}", quote(&insert)), &[]);
    let mut watched: Vec<&str> = input.reads.iter().map(String::as_str).collect();
    let text_changed = changed(&watched);
    for column in &table.key {
        if !watched.contains(&column.name.as_str()) {
            watched.push(&column.name);
        }
    }
    let row_changed = changed(&watched);
    if request.on_change == "clear" {
        const GENERATED: &str = "SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = $1 AND a.attgenerated <> '' AND a.attname = ANY ($2) LIMIT 1";
        let found = as_extension(|| {
            spi::first(GENERATED, args![table.oid, input.reads.clone()], Mode::Write, |row| row.or_default::<String>(1))
        });
        if let Some(column) = found {
            return Err(Error::unsupported(
                format!("on_change => 'clear' cannot watch the generated column \"{column}\""),
                "Give as input what the column is generated from, or use on_change => 'replace'.",
            ));
        }
    }
    spi::execute(
        &format!("CREATE TRIGGER {} AFTER UPDATE ON {name} FOR EACH ROW WHEN ({row_changed}) {call}", quote(&update)),
        &[],
    );
    let mut made = vec![insert, update];
    if request.on_change == "clear" {
        spi::execute(
            &format!(
                "CREATE TRIGGER {} BEFORE UPDATE ON {name} FOR EACH ROW WHEN ({text_changed}) EXECUTE FUNCTION autoembed.clear_vector('{id}')",
                quote(&clear)
            ),
            &[],
        );
        made.push(clear);
    }
    for trigger in made {
        spi::execute(&format!("ALTER TRIGGER {} ON {name} DEPENDS ON EXTENSION autoembed", quote(&trigger)), &[]);
    }
    Ok(())
}

/// The condition that one of the columns has changed, compared byte by byte: equal is not the same for case-insensitive
/// collations or numeric scale, and some types have no equality. As a function call: the operator of it does not come back
/// from a dump, which leaves out the casts that it needs.
fn changed(columns: &[&str]) -> String {
    let side = |row: &str| columns.iter().map(|c| format!("{row}.{}", quote(c))).collect::<Vec<_>>().join(", ");
    format!("pg_catalog.record_image_ne(ROW({}), ROW({}))", side("OLD"), side("NEW"))
}

fn index(
    table: &Table,
    column: &str,
    stored: &StoredModel,
    pgvector: &Pgvector,
    id: i32,
    rows_there: bool,
) -> Result<()> {
    if stored.model.dimensions > MAX_INDEXED_DIMENSIONS {
        pgrx::ereport!(
            NOTICE,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("no index is built: an HNSW index takes at most {MAX_INDEXED_DIMENSIONS} dimensions"),
            "searches read the whole table".to_string()
        );
        return Ok(());
    }
    if index_on(table.oid, column).is_some_and(|(_, is_valid)| is_valid) {
        return Ok(());
    }
    if rows_there && table.kind == 'p' {
        // One statement over all partitions would block writers for its whole length.
        pgrx::notice!(
            "no index is built over partitions that have rows; create an hnsw index on each of them concurrently"
        );
        return Ok(());
    }
    if rows_there && catalog::estimated_rows(table.oid) >= SMALL_TABLE {
        as_extension(|| spi::execute("UPDATE autoembed.vectorizer SET index_wanted = true WHERE id = $1", args![id]));
        return Ok(());
    }
    spi::execute(&index_statement(table, column, pgvector, ""), &[]);
    Ok(())
}

/// The HNSW index over a target column, where there is one: its name, and whether it is valid.
pub fn index_on(table: pg_sys::Oid, column: &str) -> Option<(String, bool)> {
    const SQL: &str = "SELECT c.relname::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] JOIN pg_opclass o ON o.oid = i.indclass[0] \
         WHERE i.indrelid = $1 AND a.attname = $2 AND m.amname = 'hnsw' AND o.opcname = 'vector_cosine_ops' AND i.indpred IS NULL \
         ORDER BY i.indisvalid DESC LIMIT 1";
    as_extension(|| {
        spi::first(SQL, args![table, column.to_string()], Mode::Write, |row| (row.or_default(1), row.or_default(2)))
    })
}

// A name in the table's schema that no relation has.
fn free_index_name(table: &Table, column: &str) -> String {
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";
    let mut name = derived("", &format!("{}_{column}", table.name), "_idx");
    for number in 1..1000 {
        let pair = args![table.schema.clone(), name.clone()];
        if as_extension(|| spi::first(SQL, pair, Mode::Write, |row| row.or_default::<bool>(1))) != Some(true) {
            break;
        }
        name = derived("", &format!("{}_{column}", table.name), &format!("_idx{number}"));
    }
    name
}

/// The statement that builds the index; `how` may be `CONCURRENTLY`.
pub fn index_statement(table: &Table, column: &str, pgvector: &Pgvector, how: &str) -> String {
    format!(
        "CREATE INDEX {how} {} ON {} USING hnsw ({} {})",
        quote(&free_index_name(table, column)),
        table.sql(),
        quote(column),
        qualified(&pgvector.schema, "vector_cosine_ops")
    )
}

/// Makes a function go with its table, and with the extension.
pub fn tie_function(signature: &str, function: pg_sys::Oid, table: pg_sys::Oid) {
    spi::execute(&format!("ALTER FUNCTION {signature} DEPENDS ON EXTENSION autoembed"), &[]);
    utility::drop_function_with_table(function, table);
}
