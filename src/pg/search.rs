//! The search functions: a thin function per vectorizer in the table's schema, run with the reader's rights, and the statement
//! that it executes, built anew when the table changes (names may have).

use crate::pg::catalog::{self, Pgvector, Table, Vectorizer};
use crate::pg::enable::tie_function;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::{as_extension, before_temporary, current_user};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ident::{derived, literal, qualified, quote};
use crate::pg::interface;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    // By the user who may run them and the vectorizer; with the table, whose changes (also of rights) empty it.
    static STATEMENTS: RefCell<HashMap<(pg_sys::Oid, i32), (pg_sys::Oid, String)>> = RefCell::new(HashMap::new());
}

/// Forgets the statements of a table (`None`: of all).
pub fn forget(table: Option<pg_sys::Oid>) {
    // Nothing is left of them in a process that ends by exit().
    let _ = STATEMENTS.try_with(|statements| {
        if let Ok(mut statements) = statements.try_borrow_mut() {
            statements.retain(|_, (of, _)| table.is_some_and(|table| *of != table));
        }
    });
}

const PARAMETERS: [&str; 5] = ["query", "k", "min_similarity", "filter", "mode"];

// A column may be called as a parameter is; a function cannot have both names.
fn output_name(name: &str, taken: &mut Vec<String>) -> String {
    let mut out = name.to_string();
    let is_positional =
        |name: &str| name.strip_prefix('$').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
    while PARAMETERS.contains(&out.as_str()) || taken.contains(&out) || out == "similarity" || is_positional(&out) {
        out = derived("", &out, "_");
    }
    taken.push(out.clone());
    out
}

fn is_taken(schema: &str, name: &str) -> bool {
    const SQL: &str = "SELECT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 AND p.proname = $2)";
    as_extension(|| {
        spi::first(SQL, args![schema.to_string(), name.to_string()], Mode::Write, |row| row.or_default(1))
            .unwrap_or(false)
    })
}

/// Makes the search function of a vectorizer, owned by the table's owner.
///
/// # Errors
/// 42723 where a function of the wanted name is there already.
pub fn create(table: &Table, vectorizer: &Vectorizer, pgvector: &Pgvector, wanted: Option<&str>) -> Result<()> {
    let embedding = vectorizer.embedding.clone().unwrap_or_default();
    let name = match wanted {
        Some(name) => name.to_string(),
        None => {
            let plain = derived("similar_", &table.name, "");
            if is_taken(&table.schema, &plain) {
                derived("similar_", &format!("{}_{embedding}", table.name), "")
            } else {
                plain
            }
        }
    };
    if is_taken(&table.schema, &name) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_FUNCTION,
            format!("function \"{name}\" already exists in schema \"{}\"", table.schema),
            "Give the search function another name: search_function => '...'.",
        ));
    }
    let mut taken = Vec::new();
    let mut columns: Vec<String> =
        table.key.iter().map(|c| format!("{} {}", quote(&output_name(&c.name, &mut taken)), c.type_name)).collect();
    let input = match vectorizer.input.as_deref() {
        Some(sql) if sql == quote(&vectorizer.given_input) => vectorizer.given_input.clone(),
        _ => "input".to_string(),
    };
    columns.push(format!("{} pg_catalog.text", quote(&output_name(&input, &mut taken))));
    columns.push("similarity pg_catalog.float4".to_string());
    let id = vectorizer.id;
    // With these a scan of the index goes on until k rows pass the filter and the policies.
    let scan = if pgvector.iterative_scans {
        // Its settings are for superusers until its library is loaded, which a column that was there has not done.
        as_extension(|| spi::execute(&format!("SELECT '[1]'::{}", qualified(&pgvector.schema, "vector")), &[]));
        "SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.max_scan_tuples = '2147483647' SET hnsw.scan_mem_multiplier = '20'"
    } else {
        ""
    };
    // The names in an expression mean to every reader what they mean here, and what they mean to the worker.
    let path = match vectorizer.is_expression {
        true => format!("SET search_path TO {}", before_temporary(&vectorizer.input_path)),
        false => String::new(),
    };
    let qualified_name = qualified(&table.schema, &name);
    let signature = format!("{qualified_name}(text, int, real, jsonb, text)");
    spi::execute(
        &format!(
            "CREATE FUNCTION {qualified_name}(query pg_catalog.text, k pg_catalog.int4 DEFAULT 10, min_similarity pg_catalog.float4 DEFAULT NULL, \
               filter pg_catalog.jsonb DEFAULT NULL, mode pg_catalog.text DEFAULT 'semantic') \
             RETURNS TABLE ({}) LANGUAGE plpgsql STABLE PARALLEL RESTRICTED {scan} {path} AS $autoembed$\n\
             BEGIN\n    \
                 RETURN QUERY EXECUTE autoembed.search_statement({id}, $2, $4, $5)\n    \
                     USING autoembed.query_vector({id}, $1), $2, $3, $4;\n\
             END\n$autoembed$",
            columns.join(", ")
        ),
        &[],
    );
    spi::execute(
        &format!(
            "COMMENT ON FUNCTION {signature} IS {}",
            literal(&format!(
                "The k rows of {} whose input is nearest in meaning to the query. filter: {{\"column\": value-or-array}}. Made by autoembed.enable().",
                table.name
            ))
        ),
        &[],
    );
    const OID: &str = "SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 AND p.proname = $2";
    let oid = as_extension(|| {
        spi::first(OID, args![table.schema.clone(), name.clone()], Mode::Write, |row| row.get::<pg_sys::Oid>(1))
            .flatten()
    });
    if let Some(oid) = oid {
        tie_function(&signature, oid, table.oid);
    }
    if current_user() != table.owner {
        // A superuser makes it for the owner; another member of the owner's role may lack the rights to hand it over.
        const ROLE: &str =
            "SELECT o.rolname::text FROM pg_roles o, pg_roles u WHERE o.oid = $1 AND u.oid = $2 AND u.rolsuper";
        let pair = args![table.owner, current_user()];
        let owner = as_extension(|| spi::first(ROLE, pair, Mode::Write, |row| row.or_default::<String>(1)));
        if let Some(owner) = owner {
            spi::execute(&format!("ALTER FUNCTION {signature} OWNER TO {}", quote(&owner)), &[]);
        }
    }
    as_extension(|| {
        spi::execute(
            "UPDATE autoembed.vectorizer SET search_schema = $2, search_function = $3 WHERE id = $1",
            args![id, table.schema.clone(), name],
        )
    });
    Ok(())
}

fn parts(id: i32) -> Result<(Table, Vectorizer)> {
    interface::check()?;
    let vectorizer = catalog::vectorizer(id);
    let table = vectorizer.as_ref().and_then(|v| catalog::table(v.source));
    match (table, vectorizer) {
        (Some(table), Some(vectorizer))
            if catalog::may_read(current_user(), table.oid, vectorizer.embedding.as_deref()) =>
        {
            Ok((table, vectorizer))
        }
        (Some(table), Some(_)) => Err(Error::rights(
            format!("permission denied for table {}", table.name),
            "Searching needs SELECT on the table.",
        )),
        _ => Err(Error::missing(
            format!("vectorizer {id} does not exist"),
            "Its table was disabled; drop this function, or call autoembed.enable() again.",
        )),
    }
}

/// The statement of a search: `$1` the query's vector, `$2` k, `$3` the least similarity, `$4` the filter.
///
/// # Errors
/// A negative k, an unknown mode; a filter that is no object, or names what is no column of the table.
pub fn statement(id: i32, k: Option<i32>, filter: Option<&Value>, mode: &str) -> Result<String> {
    if k.is_some_and(|k| k < 0) {
        return Err(Error::argument("k is negative", "Give the number of rows to return; NULL returns all."));
    }
    match mode {
        "semantic" => {}
        "hybrid" => {
            return Err(Error::unsupported(
                "mode \"hybrid\" is not supported by this version",
                "Use mode => 'semantic'.",
            ));
        }
        other => return Err(Error::argument(format!("mode cannot be \"{other}\""), "Use mode => 'semantic'.")),
    }
    let filter = filter.filter(|f| !f.is_null());
    if filter.is_none()
        && let Some(known) = STATEMENTS.with(|s| s.borrow().get(&(current_user(), id)).map(|(_, sql)| sql.clone()))
    {
        return Ok(known);
    }
    let (table, vectorizer) = parts(id)?;
    let pgvector = catalog::pgvector()?;
    let (Some(embedding), Some(input)) = (&vectorizer.embedding, &vectorizer.input) else {
        return Err(Error::state(
            format!("a column that the vectorizer of table \"{}\" needs was dropped", table.name),
            "Call autoembed.disable() and autoembed.enable() again.",
        ));
    };
    let condition = match filter {
        Some(filter) => format!(" AND {}", condition(&table, filter)?),
        None => String::new(),
    };
    let name = table.sql();
    let vector = format!("{name}.{}", quote(embedding));
    let keys = table.key.iter().enumerate().map(|(i, c)| format!("{name}.{} AS autoembed_k{i}", quote(&c.name)));
    let outer = (0..table.key.len()).map(|i| format!("autoembed_s.autoembed_k{i}")).collect::<Vec<_>>().join(", ");
    let inner = keys.collect::<Vec<_>>().join(", ");
    let distance = format!("{vector} OPERATOR({}.<=>) $1", quote(&pgvector.schema));
    // It runs under the reader's search_path, where others may have made operators that fit.
    let similarity = "(1::pg_catalog.float8 OPERATOR(pg_catalog.-) autoembed_s.autoembed_d)";
    let sql = format!(
        "SELECT {outer}, autoembed_s.autoembed_i, {similarity}::pg_catalog.float4 FROM (\
           SELECT {inner}, ({input})::pg_catalog.text AS autoembed_i, {distance} AS autoembed_d \
           FROM {from} WHERE {vector} IS NOT NULL AND $1 IS NOT NULL{condition} ORDER BY {distance} LIMIT $2) autoembed_s \
         WHERE $3 IS NULL OR {similarity} OPERATOR(pg_catalog.>=) $3::pg_catalog.float8 ORDER BY autoembed_s.autoembed_d",
        from = table.source_sql(),
    );
    if filter.is_none() {
        STATEMENTS.with(|s| s.borrow_mut().insert((current_user(), id), (table.oid, sql.clone())));
    }
    Ok(sql)
}

/// The vectorizer's model, for the query's vector.
///
/// # Errors
/// 42704 where there is no such vectorizer, 42501 where the caller may not read its table.
pub fn model_of(id: i32) -> Result<String> {
    parts(id).map(|(_, vectorizer)| vectorizer.model)
}

struct Column {
    type_name: String,
    is_builtin: bool,
    is_json: bool,
}

fn column(table: pg_sys::Oid, name: &str) -> Option<Column> {
    const SQL: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(t.typname), n.nspname = 'pg_catalog', a.atttypid = 'jsonb'::regtype \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
         WHERE a.attrelid = $1 AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    as_extension(|| {
        spi::first(SQL, &[Arg::new(table), Arg::new(name.to_string())], Mode::Read, |row| Column {
            type_name: row.or_default(1),
            is_builtin: row.or_default(2),
            is_json: row.or_default(3),
        })
    })
}

/// A filter as a condition. Names are looked up and quoted, values stay in the parameter.
fn condition(table: &Table, filter: &Value) -> Result<String> {
    let Value::Object(filter) = filter else {
        return Err(Error::argument(
            "the filter is not a JSON object",
            "Write it as {\"column\": value} or {\"column\": [value, value]}.",
        ));
    };
    let mut all = vec!["true".to_string()];
    for (name, value) in filter {
        let Some(column) = column(table.oid, name) else {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("column \"{name}\" of table \"{}\" does not exist", table.name),
                "The keys of a filter are names of the table's columns.",
            ));
        };
        let place = format!("{}.{}", table.sql(), quote(name));
        let key = literal(name);
        let equals = if column.is_builtin { "OPERATOR(pg_catalog.=)" } else { "=" };
        all.push(match value {
            Value::Null => format!("{place} IS NULL"),
            _ if column.is_json => format!("{place} OPERATOR(pg_catalog.@>) ($4 OPERATOR(pg_catalog.->) {key})"),
            Value::Array(_) => format!(
                "{place} {equals} ANY (ARRAY(SELECT autoembed_e.autoembed_v::{} FROM pg_catalog.jsonb_array_elements_text($4 OPERATOR(pg_catalog.->) {key}) AS autoembed_e (autoembed_v)))",
                column.type_name
            ),
            Value::Object(_) => {
                return Err(Error::argument(
                    format!("the filter's value for column \"{name}\" is a JSON object, the column is not jsonb"),
                    "Give a value, or an array of values.",
                ));
            }
            _ => format!("{place} {equals} ($4 OPERATOR(pg_catalog.->>) {key})::{}", column.type_name),
        });
    }
    Ok(all.join(" AND "))
}
