//! Tables that publications bring to subscribers: what is added here stops a subscription where it is not.

use crate::pg::catalog::{self, Table};
use crate::pg::enable::column;
use crate::pg::error::Error;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ident::{qualified, quote};
use pgrx::PgSqlErrorCode;

/// Adds a column for vectors, and tells whoever calls what becomes of subscriptions; its number.
pub fn add_column(table: &Table, name: &str, vector_schema: &str, dimensions: usize) -> Option<i16> {
    let definition = format!("{} {}({dimensions})", quote(name), qualified(vector_schema, "vector"));
    spi::execute(&format!("ALTER TABLE {} ADD COLUMN {definition}", table.sql()), &[]);
    tell(
        table,
        name,
        &format!("column \"{name}\" of table \"{}\"", table.name),
        &format!(
            "Add it there, and they go on: ALTER TABLE {} ADD COLUMN IF NOT EXISTS {definition}. Or publish the table with a list of columns, without vectors.",
            table.sql()
        ),
    );
    column(table.oid, name).map(|(attnum, ..)| attnum)
}

/// The same of a table that was made, one of whose columns is `column`.
pub fn tell_of(table: &Table, column: &str) {
    let hint = "Make it there with the same columns, and they go on. Or publish tables by name.";
    tell(table, column, &format!("table \"{}\"", table.name), hint);
}

fn tell(table: &Table, column: &str, what: &str, hint: &str) {
    let publications = publications_with(table, column).join(", ");
    if !publications.is_empty() {
        let message = format!("{what} is published now ({publications}): subscribers that do not have it stop");
        Error::new(PgSqlErrorCode::ERRCODE_WARNING, message, hint).notice();
    }
}

/// The publications that bring this column of a table, or of its partitions.
fn publications_with(table: &Table, column: &str) -> Vec<String> {
    const SQL: &str = "SELECT DISTINCT quote_ident(p.pubname) FROM pg_publication_tables p \
         JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
         WHERE c.oid = ANY ($1) AND $2 = ANY (p.attnames) ORDER BY 1";
    let args = args![catalog::with_partitions(table), column.to_string()];
    as_extension(|| spi::query(SQL, args, Mode::Write, |row| row.or_default(1)))
}
