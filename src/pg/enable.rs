//! enable(): from a table and an input to a vectorizer with column, triggers, search function and backfill. Runs the DDL as
//! the caller, who owns the table; writes the catalogue as the extension.

use crate::pg::catalog::{self, Pgvector, StoredModel, Table, Vectorizer};
use crate::pg::chunks;
use crate::pg::distance::Distance;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::rights::{as_extension, current_user, for_owner_in_session};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::{locks, parse, utility};
use crate::pg::ident::{as_column, quote};
use crate::pg::queue::Why;
use crate::pg::text_index::{self, Configuration};
use crate::pg::{change, index, interface, published, search, settings, source, vectorizers, wake};
use pgrx::datum::Interval;
use pgrx::{PgSqlErrorCode, pg_sys};

mod store;

use store::store;

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
    /// The text search configuration; `None`: no hybrid searches.
    pub text_search: Option<Configuration>,
    /// How texts are cut into pieces; `None`: they are embedded whole.
    pub chunks: Option<chunks::make::Request>,
}

/// Makes a vectorizer, or finds that it is there with the same arguments; its id.
///
/// # Errors
/// Everything that a caller can get wrong, each with its SQLSTATE and hint.
pub fn enable(request: Request) -> Result<i32> {
    check_arguments(&request)?;
    let table = owned_table(request.source)?;
    check_table(&table)?;
    if request.chunks.is_some() && request.text_search.is_some() {
        return Err(Error::unsupported(
            "text_search is not supported where texts go in chunks",
            "Leave out text_search, or chunk_size.",
        ));
    }
    let stored = catalog::model(&request.model.clone().unwrap_or_else(settings::default_model))?;
    let pgvector = catalog::pgvector()?;
    let adds_column = request.chunks.is_none() && column(table.oid, &request.embedding).is_none();
    locks::lock_table(table.oid, adds_column || !vectorizers::strange_triggers(&table, None).is_empty());
    let path = resolved_path();
    // With pieces the target column is in another table.
    let target = Some(request.embedding.as_str()).filter(|_| request.chunks.is_none());
    let input = read_input(&table, &request.input, target, &path)?;
    if let Some(existing) = catalog::find(table.oid, &request.embedding) {
        return same_as(&existing, &request, &stored, &input, &table);
    }
    text_index::check(&table, request.text_search.as_ref(), &input, &path)?;
    // Where the vectors will be.
    let (vectors, why) = match &request.chunks {
        Some(chunks) => chunks::make::begin(chunks, &table, &request.embedding, &stored, &pgvector)?,
        None => (table.clone(), Why::Missing),
    };
    let attnum = embedding_column(&vectors, &request.embedding, &stored, &pgvector)?;
    let id = store(&request, &stored, &input, &vectors, attnum, path)?;
    make_triggers(&table, &request.on_change, millis(request.delay)?, &input, id, request.chunks.is_some())?;
    let made = catalog::find(table.oid, &request.embedding)
        .ok_or_else(|| Error::state("the vectorizer is gone", "Call enable() again."))?;
    search::functions::create(&table, &made, &pgvector, request.search_function.as_deref())?;
    let last_key = source::last_key(&table);
    let rows_there = last_key.is_some();
    if let Some(end) = last_key.filter(|_| request.backfill) {
        vectorizers::start_backfill(id, &table, end, why);
    }
    if request.index == "auto" {
        let vectors_there = rows_there && (request.backfill || request.chunks.is_none());
        let is_large = || {
            let has_many = |chunks: &chunks::make::Request| chunks.estimated(table.oid) >= index::SMALL_TABLE;
            request.chunks.as_ref().is_some_and(has_many) || !index::is_small(&table)
        };
        let distance = Distance::new(&stored.model, made.column_dimensions, &pgvector);
        index::begin(&vectors, &made, &distance, vectors_there && is_large());
    }
    text_index::make(&table, &made, rows_there);
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
            "Use 'auto' (an HNSW index for the model's metric) or 'none'.",
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
            "Call it as the table's owner, or as a role that has the owner's rights.",
        ));
    }
    Ok(table)
}

/// That a table can have vectors of its rows.
///
/// # Errors
/// 42809, 0A000, 42501 or 55000: what it is instead.
pub fn check_table(table: &Table) -> Result<()> {
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

/// A column of a table: its number, type, type modifier, and whether it is generated.
pub fn column(table: pg_sys::Oid, name: &str) -> Option<(i16, pg_sys::Oid, i32, bool)> {
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
pub fn resolved_path() -> String {
    const SQL: &str = "SELECT s::pg_catalog.text, pg_catalog.quote_ident(s::pg_catalog.text) FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) s";
    let all = spi::query(SQL, &[], Mode::Read, |row| (row.or_default::<String>(1), row.or_default::<String>(2)));
    let lasting = all.into_iter().filter(|(name, _)| !name.starts_with("pg_temp_") && name != "$user");
    lasting.map(|(_, quoted)| quoted).collect::<Vec<_>>().join(", ")
}

/// Reads the input `given` for the target column `embedding`, where that is one of the table.
///
/// # Errors
/// What is wrong with it, with its SQLSTATE and hint.
pub fn read_input(table: &Table, given: &str, embedding: Option<&str>, path: &str) -> Result<Input> {
    let as_name = as_column(given).map(|name| (column(table.oid, &name), name));
    if let Some((Some((attnum, ..)), name)) = as_name {
        if Some(name.as_str()) == embedding {
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
    if given.trim().is_empty() {
        return Err(Error::argument(
            "the input is empty",
            "Name the column with the text, or give an SQL expression over the row.",
        ));
    }
    let statement = format!("SELECT ({})::pg_catalog.text FROM {}", catalog::expression_sql(given), table.source_sql());
    let hint =
        "The input is the name of a column or one SQL expression over the row, for instance title || E'\\n' || body.";
    // What the owner has put behind the literals and operators of it runs while it is read, too.
    let analysed = subtransaction(|| for_owner_in_session(table.owner, path, || parse::analyse(&statement, table.oid)))
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
    let reads = columns_read(table, &expression, embedding)?;
    Ok(Input { stored: given.to_string(), sql: catalog::expression_sql(given), attnum: None, reads })
}

fn columns_read(table: &Table, expression: &parse::Expression, embedding: Option<&str>) -> Result<Vec<String>> {
    const ALL: &str = "SELECT a.attnum, a.attname::text FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
         AND NOT EXISTS (SELECT FROM autoembed.vectorizer v WHERE v.source = a.attrelid AND v.chunk_table IS NULL \
           AND CASE WHEN EXISTS (SELECT FROM autoembed.numbered n WHERE n.vectorizer_id = v.id) THEN v.embedding_attnum = a.attnum ELSE v.embedding = a.attname END) ORDER BY 1";
    let all: Vec<(i16, String)> =
        as_extension(|| spi::query(ALL, args![table.oid], Mode::Write, |row| (row.or_default(1), row.or_default(2))));
    let whole_row = expression.columns.contains(&0);
    let reads: Vec<String> = all
        .into_iter()
        .filter(|(attnum, name)| (whole_row && Some(name.as_str()) != embedding) || expression.columns.contains(attnum))
        .map(|(_, name)| name)
        .collect();
    if !whole_row && reads.iter().any(|name| Some(name.as_str()) == embedding) {
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

fn same_as(
    existing: &Vectorizer,
    request: &Request,
    stored: &StoredModel,
    input: &Input,
    table: &Table,
) -> Result<i32> {
    let delay = millis(request.delay)?;
    let same_pieces = match (&existing.chunks, &request.chunks) {
        (Some(there), Some(wanted)) => {
            let name = catalog::table(there.table).map(|table| table.name);
            // It keeps its name when the source gets another.
            there.sizes == wanted.sizes
                && name.is_some_and(|name| wanted.table.as_ref().is_none_or(|given| *given == name))
        }
        (there, wanted) => there.is_none() && wanted.is_none(),
    };
    let function = existing.search_function.as_ref().map(|(_, name)| name.as_str());
    let same = !change::is_second(existing.id)
        && existing.input.as_deref() == Some(input.sql.as_str())
        && existing.model == stored.model.name
        && existing.on_change == request.on_change
        && i64::try_from(existing.delay.as_millis()) == Ok(delay)
        && existing.index_method == request.index
        && text_index::is_of(table, existing, request.text_search.as_ref())
        && same_pieces
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
    published::add_column(table, name, &pgvector.schema, stored.model.dimensions).ok_or_else(|| {
        Error::state(format!("column \"{name}\" could not be added"), "Add it by hand and call enable() again.")
    })
}

/// Names of the triggers of vectorizer `id`: after insert, after update, before update.
pub fn trigger_names(id: i32) -> [String; 3] {
    // Triggers of one kind fire in the order of their names: the one that clears comes after those that edit the text.
    [format!("autoembed_{id}_insert"), format!("autoembed_{id}_update"), format!("~autoembed_{id}_clear")]
}

fn millis(delay: Interval) -> Result<i64> {
    const SQL: &str = "SELECT (EXTRACT(epoch FROM $1) * 1000)::bigint";
    let delay = as_extension(|| spi::first(SQL, args![delay], Mode::Read, |row| row.or_default::<i64>(1))).unwrap_or(0);
    if delay < 0 {
        return Err(Error::argument(
            "delay is negative",
            "Give the time that a row is left to settle, for instance '5 s'.",
        ));
    }
    Ok(delay)
}

/// Makes the triggers of vectorizer `id`; `delay` in milliseconds.
///
/// # Errors
/// 0A000 where vectors are to be cleared when a generated column changes.
pub fn make_triggers(
    table: &Table,
    on_change: &str,
    delay: i64,
    input: &Input,
    id: i32,
    in_pieces: bool,
) -> Result<()> {
    vectorizers::drop_named(table, vectorizers::strange_triggers(table, Some(id)));
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
    if on_change == "clear" && !in_pieces {
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
    if on_change == "clear" {
        // Pieces go when the row has been changed; a vector goes with the change.
        let when = if in_pieces { "AFTER" } else { "BEFORE" };
        spi::execute(
            &format!(
                "CREATE TRIGGER {} {when} UPDATE ON {name} FOR EACH ROW WHEN ({text_changed}) EXECUTE FUNCTION autoembed.clear_vector('{id}')",
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

/// Makes a function go with its table, and with the extension.
pub fn tie_function(signature: &str, function: pg_sys::Oid, table: pg_sys::Oid) {
    spi::execute(&format!("ALTER FUNCTION {signature} DEPENDS ON EXTENSION autoembed"), &[]);
    utility::drop_function_with_table(function, table);
}
