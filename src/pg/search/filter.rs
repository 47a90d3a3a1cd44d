//! Comparing a column with a value that a statement is given: filters, and the key of a row.

use crate::pg::catalog::Table;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::{self, Caught};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::types::{self, Json};
use crate::pg::ident::{literal, quote};
use pgrx::{PgSqlErrorCode, pg_sys};

/// A filter as it was given.
pub struct Filter {
    json: Json,
    /// Its keys, and what `jsonb_typeof` says of their values. The values themselves are the server's matter alone.
    values: Vec<(String, String)>,
}

impl Filter {
    /// Reads a filter; `None`: none is given, which `null` means as well.
    ///
    /// # Errors
    /// 22023 where it is no object.
    pub fn read(given: Option<Json>) -> Result<Option<Filter>> {
        const SQL: &str = "SELECT k.kind, e.key, jsonb_typeof(e.value) FROM (SELECT jsonb_typeof($1) AS kind) k \
             LEFT JOIN LATERAL jsonb_each(CASE k.kind WHEN 'object' THEN $1 END) e ON true";
        let Some(json) = given else { return Ok(None) };
        let read = |row: &spi::Row| (row.or_default::<String>(1), row.get(2).zip(row.get(3)));
        let found = as_extension(|| spi::planned(SQL, &[json.arg()], Mode::Read, read));
        match found.first().map(|(kind, _)| kind.as_str()) {
            Some("null") => Ok(None),
            Some("object") => {
                Ok(Some(Filter { json, values: found.into_iter().filter_map(|(_, value)| value).collect() }))
            }
            _ => Err(Error::argument(
                "the filter is not a JSON object",
                "Write it as {\"column\": value} or {\"column\": [value, value]}.",
            )),
        }
    }
}

/// A column as it stands in a comparison: nothing in it is left for the reader's search_path to say.
struct Column {
    type_name: String,
    /// The operator that compares it; `None`: its type has none.
    equals: Option<String>,
    is_json: bool,
    /// The type of the elements, where it is an array.
    element: Option<String>,
}

fn column(table: pg_sys::Oid, name: &str) -> Option<Column> {
    const SQL: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(t.typname), a.atttypid, a.atttypid = 'jsonb'::regtype, \
           quote_ident(en.nspname) || '.' || quote_ident(e.typname) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
         JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
         LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A' LEFT JOIN pg_namespace en ON en.oid = e.typnamespace \
         WHERE a.attrelid = $1 AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    const OPERATOR: &str = "SELECT 'OPERATOR(' || quote_ident(n.nspname) || '.' || o.oprname || ')' \
         FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = $1";
    as_extension(|| {
        let (type_name, type_oid, is_json, element) =
            spi::planned(SQL, args![table, name.to_string()], Mode::Read, |row| {
                let type_oid = row.get(2).unwrap_or(pg_sys::InvalidOid);
                (row.or_default::<String>(1), type_oid, row.or_default::<bool>(3), row.get::<String>(4))
            })
            .into_iter()
            .next()?;
        let equals = types::equality(type_oid)
            .and_then(|operator| spi::planned(OPERATOR, args![operator], Mode::Read, |row| row.or_default(1)).pop());
        Some(Column { type_name, equals, is_json, element })
    })
}

/// The condition that the row with a key is meant, whose parts are the parameters from `$first` on.
///
/// # Errors
/// 55000 where the table has no primary key any more.
pub fn is_row(table: &Table, first: usize) -> Result<String> {
    let parts = table.key.iter().enumerate().map(|(i, part)| {
        let column = column(table.oid, &part.name)?;
        let place = format!("{}.{}", table.sql(), quote(&part.name));
        Some(format!("{place} {} ${}::{}", column.equals?, first + i, column.type_name))
    });
    match parts.collect::<Option<Vec<_>>>() {
        Some(parts) if !parts.is_empty() => Ok(parts.join(" AND ")),
        _ => Err(Error::state(
            format!("table \"{}\" has no primary key any more", table.name),
            "Add one, and call autoembed.disable() and autoembed.enable() again.",
        )),
    }
}

/// That a value can be one of a column's, as the reader, whose code its type may run in the search too: before the model is asked for
/// the query's vector. `converted`: the value as SQL over the filter, `$1`.
fn try_value(filter: Json, name: &str, type_name: &str, converted: &str) {
    // Nothing can be wrong with a text.
    if type_name == "pg_catalog.text" {
        return;
    }
    let instead = |wrong: &Caught| {
        Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
            format!("the filter's value for column \"{name}\" does not fit: {}", wrong.message),
            format!("Give a value of type {type_name}, or an array of such values."),
        )
    };
    catch::in_other_words(|| spi::query(&format!("SELECT {converted}"), &[filter.arg()], Mode::Read, |_| ()), instead);
}

/// A filter, given as `$4`, as a condition. Names are looked up and quoted, values stay in the parameter.
///
/// # Errors
/// 22023 where a value is an object; 22P02 where a value cannot be one of its column's; 42703 where a key names no
/// column of the table; 0A000 where values of a column's type cannot be compared.
pub fn condition(table: &Table, filter: &Filter) -> Result<String> {
    let mut all = vec!["true".to_string()];
    for (name, kind) in &filter.values {
        let Some(column) = column(table.oid, name) else {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("column \"{name}\" of table \"{}\" does not exist", table.name),
                "The keys of a filter are names of the table's columns.",
            ));
        };
        let place = format!("{}.{}", table.sql(), quote(name));
        let key = literal(name);
        let Column { type_name, equals, is_json, element } = column;
        if kind == "null" {
            all.push(format!("{place} IS NULL"));
            continue;
        }
        if is_json {
            all.push(format!("{place} OPERATOR(pg_catalog.@>) ($4 OPERATOR(pg_catalog.->) {key})"));
            continue;
        }
        let Some(equals) = equals else {
            return Err(Error::unsupported(
                format!("column \"{name}\" of type {type_name} cannot be filtered by: its values cannot be compared"),
                "Filter by another column, or by null.",
            ));
        };
        // What is compared, and how, with an array of values or with one. An array has the value, or one of them.
        let of = element.as_ref().unwrap_or(&type_name);
        let converted = match kind.as_str() {
            "object" => {
                return Err(Error::argument(
                    format!("the filter's value for column \"{name}\" is a JSON object, the column is not jsonb"),
                    "Give a value, or an array of values.",
                ));
            }
            "array" => |filter: &str, key: &str, of: &str| {
                format!(
                    "ARRAY(SELECT autoembed_e.autoembed_v::{of} FROM pg_catalog.jsonb_array_elements_text({filter} OPERATOR(pg_catalog.->) {key}) AS autoembed_e (autoembed_v))"
                )
            },
            _ => |filter: &str, key: &str, of: &str| format!("({filter} OPERATOR(pg_catalog.->>) {key})::{of}"),
        };
        try_value(filter.json, name, of, &converted("$1", &key, of));
        let converted = converted("$4", &key, of);
        all.push(match (kind.as_str(), &element) {
            ("array", Some(_)) => format!("{place} OPERATOR(pg_catalog.&&) {converted}"),
            (_, Some(_)) => format!("{place} OPERATOR(pg_catalog.&&) ARRAY[{converted}]"),
            ("array", None) => format!("{place} {equals} ANY ({converted})"),
            _ => format!("{place} {equals} {converted}"),
        });
    }
    Ok(all.join(" AND "))
}
