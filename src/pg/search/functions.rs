//! What functions a vectorizer has in its table's schema: one searches by a text, one by a row. Thin, run with the reader's rights; the
//! statements that they execute are made anew when the table changes.

use crate::pg::catalog::{Pgvector, Table, Vectorizer};
use crate::pg::chunks;
use crate::pg::enable::tie_function;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::subtransaction;
use crate::pg::ffi::rights::{as_extension, before_temporary, current_user, for_owner_in_session};
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ident::{derived, literal, qualified, quote};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Columns of a function `p` for [`READ`], beside `is_tied` (to the table, as only [`make`] can) and `is_ours` (tied, or of a role that could act as
/// the table's owner).
const NEAR: &str = "p.oid, p.prosrc, p.proowner, p.prosqlbody IS NOT NULL AS is_tree, \
     EXISTS (SELECT FROM pg_depend o WHERE o.classid = 'pg_proc'::regclass AND o.objid = p.oid \
       AND o.refclassid = 'pg_proc'::regclass AND o.refobjid = 'autoembed.search_rows'::regproc) AS calls_us, \
     EXISTS (SELECT FROM pg_depend o WHERE o.classid = 'pg_proc'::regclass AND o.objid = p.oid \
       AND o.refclassid = 'pg_class'::regclass AND o.deptype = 'n') AS names_tables";

/// What the functions `near` say, where it can be known: a tree is written out only where it is ours, since one made for the purpose cannot be, and
/// where it names no tables, which would be locked for it.
const READ: &str = "read AS MATERIALIZED (SELECT r.*, CASE WHEN NOT r.is_tree THEN r.prosrc \
     WHEN r.is_ours AND r.calls_us AND NOT r.names_tables THEN pg_get_function_sqlbody(r.oid) END AS said FROM near r)";

/// Whether a function `p` is tied to the table `c`.
const TIED: &str = "EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid \
     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'a')";

/// Whether a function `p` goes with the extension.
const EXTENDS: &str = "EXISTS (SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid WHERE d.classid = 'pg_proc'::regclass \
     AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x' AND x.extname = 'autoembed')";

/// What [`drop_found`] takes.
const FOUND: &str = "r.oid::regprocedure::text, r.is_ours, CASE WHEN r.is_tied AND NOT pg_has_role($2, r.proowner, 'USAGE') THEN r.proowner END";

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

/// The first of the names that no function of the schema has.
fn free_name(schema: &str, names: &[String]) -> Result<String> {
    if let Some(name) = names.iter().find(|name| !is_taken(schema, name)) {
        return Ok(name.clone());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_DUPLICATE_FUNCTION,
        format!("function \"{}\" already exists in schema \"{schema}\"", names.last().map_or("", String::as_str)),
        "Give the search function another name: search_function => '...'.",
    ))
}

/// Makes the search functions of a vectorizer, owned by the table's owner.
///
/// # Errors
/// 42723 where a function of the wanted name is there already.
pub fn create(table: &Table, vectorizer: &Vectorizer, pgvector: &Pgvector, wanted: Option<&str>) -> Result<()> {
    let embedding = vectorizer.embedding.clone().unwrap_or_default();
    let of_column = format!("{}_{embedding}", table.name);
    let names = match wanted {
        Some(name) => vec![name.to_string()],
        None => vec![derived("similar_", &table.name, ""), derived("similar_", &of_column, "")],
    };
    let by_row = |name: &str| [derived("", name, "_to"), derived("", &format!("{name}_{embedding}"), "_to")];
    drop_strange(table, &names, &names.iter().flat_map(|name| by_row(name)).collect::<Vec<_>>());
    let name = free_name(&table.schema, &names)?;
    if vectorizer.chunks.is_some() {
        of_pieces(table, vectorizer, pgvector, &name);
        note(vectorizer.id, &table.schema, &name, None);
        return Ok(());
    }
    let of_row = free_name(&table.schema, &by_row(&name))?;
    let mut taken = Vec::new();
    let keys: Vec<String> =
        table.key.iter().map(|c| format!("{} {}", quote(&output_name(&c.name, &mut taken)), c.type_name)).collect();
    let input = match vectorizer.input.as_deref() {
        Some(sql) if sql == quote(&vectorizer.given_input) => vectorizer.given_input.clone(),
        _ => "input".to_string(),
    };
    let input = format!("{} pg_catalog.text", quote(&output_name(&input, &mut taken)));
    let (id, made, settings) = (vectorizer.id, vectorizer.made, settings(vectorizer, pgvector));
    let columns = keys.join(", ");
    // Where it is called in FROM the server puts the statement in its place. It is kept as a tree: the types of the key may be renamed.
    let parts = table.key.iter().enumerate().map(|(i, c)| format!("autoembed_k{i} {}, ", c.type_name));
    let body = format!(
        "SELECT * FROM autoembed.search_rows({id}, $1, $2, $3, $4, $5, {made}) \
         AS autoembed_s ({}autoembed_i pg_catalog.text, autoembed_d pg_catalog.float4)",
        parts.collect::<String>()
    );
    make(
        table,
        &name,
        "pg_catalog.text, pg_catalog.int4, pg_catalog.float4, pg_catalog.jsonb, pg_catalog.text",
        &format!(
            "(query pg_catalog.text, k pg_catalog.int4 DEFAULT 10, min_similarity pg_catalog.float4 DEFAULT NULL, \
               filter pg_catalog.jsonb DEFAULT NULL, mode pg_catalog.text DEFAULT 'semantic') \
             RETURNS TABLE ({columns}, {input}, similarity pg_catalog.float4) LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10 \
             BEGIN ATOMIC {body}; END"
        ),
        &format!(
            "The k rows of {} whose input is nearest in meaning to the query. filter: {{\"column\": value-or-array}}. Made by autoembed.enable().",
            table.name
        ),
    );
    // The columns of the key are given and returned under one name.
    let parts = keys.len();
    let given = keys.iter().map(|key| format!("INOUT {key}")).collect::<Vec<_>>().join(", ");
    let types = table.key.iter().map(|c| c.type_name.as_str()).collect::<Vec<_>>().join(", ");
    let values = (1..=parts).map(|i| format!("${i}")).collect::<Vec<_>>().join(", ");
    let (k, least, filter) = (parts + 1, parts + 2, parts + 3);
    make(
        table,
        &of_row,
        &format!("{types}, pg_catalog.int4, pg_catalog.float4, pg_catalog.jsonb"),
        &format!(
            "({given}, k pg_catalog.int4 DEFAULT 10, min_similarity pg_catalog.float4 DEFAULT NULL, filter pg_catalog.jsonb DEFAULT NULL, \
               OUT {input}, OUT similarity pg_catalog.float4) \
             RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED {settings} AS $autoembed$\n\
             BEGIN\n    \
                 RETURN QUERY EXECUTE autoembed.row_search_statement({id}, ${k}, ${filter}, {made})\n    \
                     USING NULL, ${k}, ${least}, ${filter}, {values};\n\
             END\n$autoembed$"
        ),
        &format!(
            "The k rows of {} that are nearest in meaning to the row with this key, without it. filter: {{\"column\": value-or-array}}. Made by autoembed.enable().",
            table.name
        ),
    );
    note(id, &table.schema, &name, Some(of_row));
    Ok(())
}

/// Whether the functions of a vectorizer give the key that its table has now, under the names that it has, or had before it was renamed.
pub fn fit(table: &Table, vectorizer: &Vectorizer) -> bool {
    let sql = format!(
        "WITH near AS MATERIALIZED (SELECT {NEAR}, p.proallargtypes, p.proargmodes, p.proargnames, true AS is_ours \
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_class c ON c.oid = $1 \
           WHERE p.proname = $3 AND n.nspname = $2 AND oidvectortypes(p.proargtypes) = 'text, integer, real, jsonb, text' \
             AND ({TIED} OR pg_has_role(p.proowner, c.relowner, 'USAGE'))), {READ} \
         SELECT o.type, COALESCE(o.name, ''), \
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = o.name AND a.attnum > 0 AND NOT a.attisdropped) \
         FROM read r \
         CROSS JOIN LATERAL ROWS FROM (unnest(r.proallargtypes), unnest(r.proargmodes), unnest(r.proargnames)) WITH ORDINALITY AS o (type, mode, name, ord) \
         WHERE r.said ~ ('autoembed[.](query_vector|search_rows)[(]' || $4::text || ',') AND o.mode = 't' ORDER BY o.ord"
    );
    let Some((schema, name)) = vectorizer.search_function.clone() else { return true };
    let columns: Vec<(pg_sys::Oid, String, bool)> = as_extension(|| {
        spi::query(&sql, args![table.oid, schema, name, vectorizer.id], Mode::Read, |row| {
            (row.get(1).unwrap_or(pg_sys::InvalidOid), row.or_default(2), row.or_default(3))
        })
    });
    // Text and similarity, or what is told of a piece, come after the key.
    let Some(parts) = columns.len().checked_sub(if vectorizer.chunks.is_some() { 5 } else { 2 }) else {
        // Made by the user, or called otherwise by now.
        return true;
    };
    let mut taken = Vec::new();
    parts == table.key.len()
        && table.key.iter().zip(&columns).all(|(key, (type_oid, name, is_column))| {
            key.type_oid == *type_oid && (output_name(&key.name, &mut taken) == *name || !is_column)
        })
}

/// The search of texts in pieces: by a text.
fn of_pieces(table: &Table, vectorizer: &Vectorizer, pgvector: &Pgvector, name: &str) {
    let mut taken = Vec::new();
    let made = chunks::search::function(table, vectorizer, |name| output_name(name, &mut taken));
    let settings = settings(vectorizer, pgvector).replace("relaxed_order", made.order);
    make(
        table,
        name,
        "pg_catalog.text, pg_catalog.int4, pg_catalog.float4, pg_catalog.jsonb, pg_catalog.text",
        &format!(
            "(query pg_catalog.text, k pg_catalog.int4 DEFAULT 10, min_similarity pg_catalog.float4 DEFAULT NULL, \
               filter pg_catalog.jsonb DEFAULT NULL, mode pg_catalog.text DEFAULT 'semantic') \
             RETURNS TABLE ({}) LANGUAGE plpgsql STABLE PARALLEL RESTRICTED {settings} {} AS $autoembed$\n{}\n$autoembed$",
            made.columns, made.settings, made.body
        ),
        &format!(
            "The k rows of {} with the chunks that are nearest in meaning to the query. filter: {{\"column\": value-or-array}}. Made by autoembed.enable().",
            table.name
        ),
    );
}

fn note(id: i32, schema: &str, name: &str, of_row: Option<String>) {
    const SQL: &str =
        "UPDATE autoembed.vectorizer SET search_schema = $2, search_function = $3, row_search = $4 WHERE id = $1";
    let args = [Arg::new(id), Arg::new(schema.to_string()), Arg::new(name.to_string()), Arg::new::<String>(of_row)];
    as_extension(|| spi::execute(SQL, &args));
}

/// The settings that searches run with.
fn settings(vectorizer: &Vectorizer, pgvector: &Pgvector) -> String {
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
    // The part that reads the whole table looks dear, also where it is not begun, and would be compiled for longer than the rest runs.
    format!("{scan} SET jit = off {path}")
}

/// Makes one function, of the table's owner, that goes with the table and with the extension.
fn make(table: &Table, name: &str, types: &str, definition: &str, comment: &str) {
    let qualified_name = qualified(&table.schema, name);
    let signature = format!("{qualified_name}({types})");
    spi::execute(&format!("CREATE FUNCTION {qualified_name}{definition}"), &[]);
    spi::execute(&format!("COMMENT ON FUNCTION {signature} IS {}", literal(comment)), &[]);
    // Others that may create in the schema may have made one of this name, and other types, just now.
    const OID: &str = "SELECT pg_catalog.to_regprocedure($1)::pg_catalog.oid";
    let oid = spi::first(OID, args![signature.clone()], Mode::Write, |row| row.get::<pg_sys::Oid>(1)).flatten();
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
}

/// Drops the search functions of a vectorizer that ends. They are known by their tie to its table, which only [`make`] can make. A dump brings
/// no ties: what came from one is known by all that it does bring, of a role that could act as the table's owner anyway, since whoever may create in
/// the schema could bring the same. Where the table was given away without those that are tied to it, they are dropped as their own owner: whoever
/// owns the table could drop them with it. One that the caller may not drop, or that others need, is left, and that is told.
pub fn drop(id: i32) {
    let sql = format!(
        "WITH near AS MATERIALIZED (SELECT {NEAR}, t.is_tied, t.is_tied OR pg_has_role(p.proowner, c.relowner, 'USAGE') AS is_ours, \
             n.nspname = v.search_schema AND p.proname = v.search_function AS is_named \
           FROM autoembed.vectorizer v JOIN pg_class c ON c.oid = v.source CROSS JOIN pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
           CROSS JOIN LATERAL (SELECT {TIED} AS is_tied) t \
           WHERE v.id = $1 AND (t.is_tied OR n.nspname = v.search_schema \
             AND (p.proname = v.search_function AND oidvectortypes(p.proargtypes) = 'text, integer, real, jsonb, text' \
               OR p.proname = v.row_search AND oidvectortypes(p.proargtypes) LIKE '_%, integer, real, jsonb') \
             AND {EXTENDS})), {READ} \
         SELECT {FOUND} FROM read r WHERE r.said ~ ('autoembed[.](query_vector|search_rows|row_search_statement)[(]' || $1 || ',') \
           OR r.said IS NULL AND r.calls_us AND r.is_named"
    );
    drop_found(&sql, args![id, current_user()]);
}

/// Drops search functions of a table that are for no vectorizer of this database, where they have one of the names that are wanted: a dump has
/// brought them without theirs, or [`drop`] has left them. They are known as there; a number alone may be another's here.
fn drop_strange(table: &Table, by_text: &[String], by_row: &[String]) {
    let sql = format!(
        "WITH near AS MATERIALIZED (SELECT {NEAR}, t.is_tied, t.is_tied OR pg_has_role(p.proowner, c.relowner, 'USAGE') AS is_ours \
           FROM pg_class c JOIN pg_proc p ON p.pronamespace = c.relnamespace CROSS JOIN LATERAL (SELECT {TIED} AS is_tied) t \
           WHERE c.oid = $1 \
             AND (p.proname = ANY ($3) AND oidvectortypes(p.proargtypes) = 'text, integer, real, jsonb, text' \
               OR p.proname = ANY ($4) AND oidvectortypes(p.proargtypes) LIKE '_%, integer, real, jsonb') \
             AND (t.is_tied OR {EXTENDS})), {READ} \
         SELECT {FOUND} FROM read r WHERE r.said ~ 'autoembed[.]((row_)?search_statement|search_rows)[(][0-9]+,' \
           AND NOT EXISTS (SELECT FROM autoembed.vectorizer v \
             WHERE r.said ~ concat('search_(statement|rows)[(]', v.id, ',.*, ''?', (EXTRACT(epoch FROM v.created_at) * 1000000)::bigint, '(''::bigint)?[)]'))"
    );
    drop_found(&sql, args![table.oid, current_user(), by_text.to_vec(), by_row.to_vec()]);
}

/// Drops the functions that a statement gives: each with whether it is ours, and the role as whom it is dropped, if not the caller.
fn drop_found(sql: &str, args: &[Arg]) {
    let read = |row: &spi::Row| (row.or_default::<String>(1), row.or_default::<bool>(2), row.get::<pg_sys::Oid>(3));
    let found = as_extension(|| spi::query(sql, args, Mode::Write, read));
    for (signature, is_ours, another) in found {
        let statement = format!("DROP FUNCTION {signature}");
        let run = || spi::execute(&statement, &[]);
        let drop = || match another {
            Some(owner) => for_owner_in_session(owner, "pg_catalog", run),
            None => run(),
        };
        let why = match is_ours.then(|| subtransaction(drop)) {
            Some(Ok(_)) => continue,
            None => "it is of a role that is no member of the table's owner".to_string(),
            Some(Err(caught)) if matches!(caught.sqlstate().as_str(), "42501" | "2BP01") => caught.message,
            Some(Err(caught)) => {
                Error::new(caught.code, caught.message, caught.hint.unwrap_or_else(|| "Call it again.".to_string()))
                    .raise()
            }
        };
        pgrx::ereport!(
            NOTICE,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("function {signature} is left: {why}"),
            format!("It is of no use any more; its owner or a superuser can drop it: {statement}.")
        );
    }
}
