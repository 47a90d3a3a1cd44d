//! Making a chunk table, with a policy that shows each piece to those who see the row that it is of.

use super::adopt::{self, Misfit};
use super::{COLUMNS, key_operators};
use crate::pg::catalog::{self, Pgvector, StoredModel, Table};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::{as_extension, current_user};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::utility;
use crate::pg::ident::{derived, literal, qualified, quote};
use crate::pg::published;
use crate::pg::queue::Why;
use autoembed_core::InputKind;
use autoembed_core::chunk::{LEAST_SIZE, Sizes};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Pages are filled to half: an edit moves all pieces behind it by some bytes, and a row that is changed within its page needs no new entry in the
/// index over vectors.
const FILLFACTOR: i32 = 50;

/// What enable() was given.
pub struct Request {
    /// The sizes of pieces.
    pub sizes: Sizes,
    /// The chunk table's name; `None`: derived from the source's.
    pub table: Option<String>,
}

impl Request {
    /// `None` where texts are to be embedded whole.
    ///
    /// # Errors
    /// 22023 for sizes that cannot be, and for arguments that say nothing without a size.
    pub fn read(size: Option<i32>, overlap: Option<i32>, table: Option<String>) -> Result<Option<Request>> {
        let Some(size) = size else {
            let given = [("chunk_overlap", overlap.is_some()), ("chunk_table", table.is_some())];
            return match given.into_iter().find(|(_, is_given)| *is_given) {
                Some((name, _)) => Err(Error::argument(
                    format!("{name} is given without chunk_size"),
                    "Give chunk_size => ... as well: the most tokens of a piece, for instance 200.",
                )),
                None => Ok(None),
            };
        };
        let least = LEAST_SIZE as i32;
        if size < least {
            return Err(Error::argument(
                format!("chunk_size cannot be {size}"),
                format!("Give the most tokens of a piece, at least {least}; 100 to 500 are usual."),
            ));
        }
        let overlap = overlap.unwrap_or(0);
        if overlap < 0 || overlap > size / 2 {
            return Err(Error::argument(
                format!("chunk_overlap cannot be {overlap} where chunk_size is {size}"),
                "Give the tokens that a piece repeats of the one before it: 0 to half of chunk_size.",
            ));
        }
        if table.as_ref().is_some_and(String::is_empty) {
            return Err(Error::argument("a name is empty", "Give the chunk table a name."));
        }
        Ok(Some(Request { sizes: Sizes { size: size as usize, overlap: overlap as usize }, table }))
    }

    /// About how many pieces the texts of a source may come to.
    pub fn estimated(&self, source: pg_sys::Oid) -> i64 {
        const SQL: &str = "SELECT pg_table_size($1)";
        let bytes = as_extension(|| spi::first(SQL, args![source], Mode::Write, |row| row.or_default::<i64>(1)));
        catalog::estimated_rows(source).max(bytes.unwrap_or(0) / (3 * self.sizes.size as i64))
    }

    /// The name of the chunk table of a source.
    pub fn name(&self, source: &Table) -> String {
        self.table.clone().unwrap_or_else(|| derived("", &source.name, "_chunks"))
    }
}

/// Whether the primary key of a source is checked later than at once: the server lets nothing refer to such a key.
fn is_deferrable(source: &Table) -> bool {
    const SQL: &str = "SELECT NOT indimmediate FROM pg_index WHERE indrelid = $1 AND indisprimary";
    as_extension(|| spi::first(SQL, args![source.oid], Mode::Write, |row| row.or_default::<bool>(1))) == Some(true)
}

fn check(request: &Request, source: &Table, embedding: &str, stored: &StoredModel) -> Result<()> {
    if source.kind == 'p' {
        return Err(Error::unsupported(
            format!("table \"{}\" is partitioned, and its texts cannot go in pieces", source.name),
            "Leave chunk_size out, or call enable() for a table that is not partitioned: partitions could not be detached any more.",
        ));
    }
    if is_deferrable(source) {
        return Err(Error::unsupported(
            format!("the primary key of table \"{}\" is deferrable, and chunks cannot refer to it", source.name),
            "Make it one that is checked at once, ALTER TABLE ... DROP CONSTRAINT ..., ADD PRIMARY KEY (...); or leave chunk_size out.",
        ));
    }
    let most = stored.model.limits.input_tokens.saturating_sub(stored.model.prefix_size(InputKind::Document).tokens);
    if request.sizes.size > most {
        return Err(Error::argument(
            format!("chunk_size is {}, model \"{}\" takes {most} tokens", request.sizes.size, stored.model.name),
            "Give a smaller size: longer pieces would be cut.",
        ));
    }
    let mut names: Vec<&str> = COLUMNS.to_vec();
    names.push(embedding);
    let twice = |name: &&str| names.iter().filter(|other| *other == name).count() > 1;
    let of_key = source.key.iter().map(|column| column.name.as_str()).find(|name| names.contains(name));
    if let Some(name) = of_key.or_else(|| names.iter().copied().find(|name| twice(name))) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            format!("the chunk table would have two columns \"{name}\""),
            "Give the vector column another name, embedding => '...', or rename the key column: the table has the columns chunk_no, byte_start, byte_end and chunk.",
        ));
    }
    Ok(())
}

/// The key columns as they stand in CREATE TABLE.
fn key_definitions(source: &Table) -> Vec<String> {
    const SQL: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
         CASE WHEN a.attcollation NOT IN (0, t.typcollation) THEN quote_ident(n.nspname) || '.' || quote_ident(l.collname) END \
         FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, ord) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum JOIN pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace n ON n.oid = l.collnamespace \
         WHERE i.indrelid = $1 AND i.indisprimary AND k.ord <= i.indnkeyatts ORDER BY k.ord";
    as_extension(|| {
        spi::query(SQL, args![source.oid], Mode::Write, |row| {
            let collation = row.get::<String>(3).map_or(String::new(), |name| format!(" COLLATE {name}"));
            format!("{} {}{collation} NOT NULL", quote(&row.or_default::<String>(1)), row.or_default::<String>(2))
        })
    })
}

/// Makes the chunk table of a source, owned by its owner and readable by nobody else; or takes over the one that an earlier vectorizer has
/// left. Why its rows are to be walked: pieces that are there stay only while they are those of the text.
///
/// # Errors
/// 42P07 where there is another relation of that name, 42701 where a name would be there twice, 0A000 for a partitioned source and for a deferrable key, 22023 for pieces
/// that the model would not take.
pub fn begin(
    request: &Request,
    source: &Table,
    embedding: &str,
    stored: &StoredModel,
    pgvector: &Pgvector,
) -> Result<(Table, Why)> {
    check(request, source, embedding, stored)?;
    let name = request.name(source);
    match find(source, &name) {
        Some(there) => {
            let table = adopt::take_over(there, source, embedding, stored, pgvector).map_err(|misfit| {
                let (what, hint) = match misfit {
                    Misfit::Used => (
                        "it is the chunk table of another vectorizer".to_string(),
                        "Give the chunk table another name: chunk_table => '...'.",
                    ),
                    Misfit::Other(what) => (
                        what,
                        "Drop it if it is what an earlier enable() has left, or give the chunk table another name: chunk_table => '...'.",
                    ),
                };
                Error::new(
                    PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
                    format!("relation \"{name}\" already exists in schema \"{}\", and {what}", source.schema),
                    hint,
                )
            })?;
            Ok((table, Why::Changed))
        }
        None => Ok((create(&name, source, embedding, stored, pgvector)?, Why::Missing)),
    }
}

fn find(source: &Table, name: &str) -> Option<pg_sys::Oid> {
    const THERE: &str = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let args = args![source.schema.clone(), name.to_string()];
    as_extension(|| spi::first(THERE, args, Mode::Write, |row| row.get(1))).flatten()
}

fn create(name: &str, source: &Table, embedding: &str, stored: &StoredModel, pgvector: &Pgvector) -> Result<Table> {
    let sql = qualified(&source.schema, name);
    let key = source.key.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
    let [number, start, end, text] = COLUMNS.map(quote);
    spi::execute(
        &format!(
            "CREATE {unlogged} TABLE {sql} ({key_definitions}, {number} pg_catalog.int4 NOT NULL, {start} pg_catalog.int4 NOT NULL, \
               {end} pg_catalog.int4 NOT NULL, {text} pg_catalog.text NOT NULL, {vector} {vector_type}({dimensions}) NOT NULL, \
               PRIMARY KEY ({key}, {number}), FOREIGN KEY ({key}) REFERENCES {source} ({key}) ON UPDATE CASCADE ON DELETE CASCADE) \
             WITH (fillfactor = {FILLFACTOR})",
            unlogged = if source.persistence == 'u' { "UNLOGGED" } else { "" },
            key_definitions = key_definitions(source).join(", "),
            vector = quote(embedding),
            vector_type = qualified(&pgvector.schema, "vector"),
            dimensions = stored.model.dimensions,
            source = source.sql(),
        ),
        &[],
    );
    let gone = || Error::state(format!("table \"{name}\" could not be made"), "Call enable() again.");
    let table = Table { oid: find(source, name).ok_or_else(gone)?, name: name.to_string(), ..source.clone() };
    published::tell_of(&table, embedding);
    comment(&table, source, embedding, stored);
    close(&table);
    protect(&table, source);
    utility::drop_table_with_table(table.oid, source.oid);
    if current_user() != source.owner {
        const ROLE: &str = "SELECT rolname::text FROM pg_roles WHERE oid = $1";
        let owner =
            as_extension(|| spi::first(ROLE, args![source.owner], Mode::Write, |row| row.or_default::<String>(1)));
        if let Some(owner) = owner {
            spi::execute(&format!("ALTER TABLE {sql} OWNER TO {}", quote(&owner)), &[]);
        }
    }
    Ok(table)
}

/// What is said of a vector column: by it a later enable() knows whose vectors they are.
pub(super) fn vectors_of(stored: &StoredModel) -> String {
    format!("its vector, by model \"{}\"", stored.model.name)
}

fn comment(table: &Table, source: &Table, embedding: &str, stored: &StoredModel) {
    let name = table.sql();
    let whole = format!("Pieces of the texts of {}, each with its vector; kept by autoembed", source.name);
    spi::execute(&format!("COMMENT ON TABLE {name} IS {}", literal(&whole)), &[]);
    let [number, start, end, text] = COLUMNS;
    for (column, what) in [
        (number, "place of the piece among those of its row, from 0"),
        (start, "where it begins in the text, in bytes of UTF-8 from 0"),
        (end, "the byte after its last"),
        (text, "its text"),
        (embedding, vectors_of(stored).as_str()),
    ] {
        spi::execute(&format!("COMMENT ON COLUMN {name}.{} IS {}", quote(column), literal(what)), &[]);
    }
}

/// Takes away what default privileges have given: whoever may read the pieces is for the owner to say.
fn close(table: &Table) {
    const OTHERS: &str = "SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END FROM pg_class c \
         CROSS JOIN LATERAL aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE c.oid = $1 AND a.grantee <> c.relowner";
    let name = table.sql();
    let others = as_extension(|| spi::query(OTHERS, args![table.oid], Mode::Write, |row| row.or_default::<String>(1)));
    for role in others {
        spi::execute(&format!("REVOKE ALL ON TABLE {name} FROM {role}"), &[]);
    }
}

/// Takes the policy off, where it is there and the caller may. Without one, nobody but the owner sees a row; with it, no column that it
/// compares could get another type.
pub fn unguard(table: &Table) {
    const THERE: &str = "SELECT EXISTS (SELECT FROM pg_policy WHERE polrelid = $1 AND polname = 'autoembed')";
    let is_there =
        || as_extension(|| spi::first(THERE, args![table.oid], Mode::Write, |row| row.or_default::<bool>(1)));
    if catalog::owns(current_user(), table) && is_there() == Some(true) {
        spi::execute(&format!("DROP POLICY autoembed ON {}", table.sql()), &[]);
    }
}

/// Has each piece shown to those alone who see its row, whatever policies the source has or will have.
pub(super) fn protect(table: &Table, source: &Table) {
    let name = table.sql();
    let operators = key_operators(source);
    let equal = source.key.iter().zip(operators).map(|(column, operator)| {
        let column = quote(&column.name);
        format!("{}.{column} {operator} {name}.{column}", source.sql())
    });
    let equal = equal.collect::<Vec<_>>().join(" AND ");
    spi::execute(&format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"), &[]);
    spi::execute(
        &format!(
            "CREATE POLICY autoembed ON {name} FOR SELECT USING (EXISTS (SELECT FROM ONLY {} WHERE {equal}))",
            source.sql()
        ),
        &[],
    );
    let what = "Whoever sees the row sees its pieces: the row's own policies decide";
    spi::execute(&format!("COMMENT ON POLICY autoembed ON {name} IS {}", literal(what)), &[]);
}
