//! The table beside a source that holds the pieces of its texts, each with its vector: where it is, and how its rows are found.
//!
//! A row's pieces are always those of one version of its text: they are replaced in one transaction, under the lock of the row that they
//! come from, and only where its text is still the one that was cut.

use crate::pg::catalog::{self, Chunks, KeyColumn, Table, Vectorizer};
use crate::pg::error::Error;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ident::{qualified, quote};
use autoembed_core::record;

pub mod adopt;
pub mod clear;
pub mod make;
pub mod search;
pub mod write;

/// A chunk table's columns but for the key's and the vector's: the piece's number, where it begins and ends in the text, in bytes, and
/// its text.
pub const COLUMNS: [&str; 4] = ["chunk_no", "byte_start", "byte_end", "chunk"];

/// A chunk table as it is now.
#[derive(Debug)]
pub struct ChunkTable {
    /// It; its key is the columns that hold the source's key.
    pub table: Table,
}

/// Why there is none, and what to do.
pub type Trouble = (String, String);

/// The same as an error (55000).
pub fn as_error((message, mut hint): Trouble) -> Box<Error> {
    hint.push('.');
    if let Some(first) = hint.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Error::state(message, hint)
}

impl ChunkTable {
    /// The chunk table of a source.
    ///
    /// # Errors
    /// What is wrong where it was dropped, where one of the two has another key by now, or where a column of the pieces is not there.
    pub fn of(chunks: Chunks, source: &Table) -> Result<ChunkTable, Trouble> {
        const MISSING: &str = "SELECT n.name FROM unnest($2) WITH ORDINALITY AS n (name, ord) \
             WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = n.name AND a.attnum > 0 AND NOT a.attisdropped) ORDER BY n.ord";
        let found = ChunkTable::by_key(chunks, source)?;
        let args = args![found.table.oid, COLUMNS.map(str::to_string).to_vec()];
        let missing = as_extension(|| spi::planned(MISSING, args, Mode::Read, |row| row.or_default::<String>(1)));
        if let Some(name) = missing.first() {
            let message = format!("chunk table \"{}\" has no column \"{name}\" any more", found.table.name);
            let hint = "give the column its name again, or call autoembed.disable() with drop_column => true, and autoembed.enable() again";
            return Err((message, hint.to_string()));
        }
        Ok(found)
    }

    /// The same where the columns of the pieces do not matter.
    ///
    /// # Errors
    /// As [`ChunkTable::of`], but for these columns.
    pub fn by_key(chunks: Chunks, source: &Table) -> Result<ChunkTable, Trouble> {
        let Some(mut table) = catalog::table(chunks.table) else {
            let message = format!("the chunk table of table \"{}\" was dropped", source.name);
            let hint = "call autoembed.disable() and autoembed.enable() again: all texts are then embedded anew";
            return Err((message, hint.to_string()));
        };
        let has_number = table.key.pop().is_some_and(|column| column.name == COLUMNS[0]);
        let types = |key: &[KeyColumn]| key.iter().map(|column| column.type_oid).collect::<Vec<_>>();
        if !has_number || types(&table.key) != types(&source.key) {
            let message = format!(
                "the primary key of chunk table \"{}\" does not fit that of table \"{}\"",
                table.name, source.name
            );
            let hint = "call autoembed.disable() with drop_column => true, and autoembed.enable() again";
            return Err((message, hint.to_string()));
        }
        Ok(ChunkTable { table })
    }

    /// That of a vectorizer, where its texts go in pieces.
    ///
    /// # Errors
    /// As [`ChunkTable::of`].
    pub fn find(vectorizer: &Vectorizer, source: &Table) -> Result<Option<ChunkTable>, Trouble> {
        vectorizer.chunks.map(|chunks| ChunkTable::of(chunks, source)).transpose()
    }

    /// As [`ChunkTable::find`], for reading and writing as the source's owner, who must own the pieces as well.
    ///
    /// # Errors
    /// As [`ChunkTable::of`], and where they are another's.
    pub fn owned(vectorizer: &Vectorizer, source: &Table) -> Result<Option<ChunkTable>, Trouble> {
        const ROLE: &str = "SELECT pg_get_userbyid($1)::text";
        let chunks = ChunkTable::find(vectorizer, source)?;
        let Some(other) = chunks.as_ref().map(|chunks| &chunks.table).filter(|table| table.owner != source.owner)
        else {
            return Ok(chunks);
        };
        let owner =
            as_extension(|| spi::first(ROLE, args![source.owner], Mode::Write, |row| row.or_default::<String>(1)));
        let message = format!("chunk table \"{}\" belongs to another role than table \"{}\"", other.name, source.name);
        let owner = quote(&owner.unwrap_or_default());
        Err((message, format!("run ALTER TABLE {} OWNER TO {owner}", other.sql())))
    }

    /// The condition that a piece is of a row of the source, both under their own names.
    fn is_of(&self, source: &Table) -> String {
        self.equals(&[], |i| format!("{}.{}", source.sql(), quote(&source.key[i].name)))
    }

    /// The condition that a piece's key columns are what `other` gives for each. Without `operators` it is for statements that run as the
    /// table's owner.
    fn equals(&self, operators: &[String], other: impl Fn(usize) -> String) -> String {
        let name = self.table.sql();
        let equal = |i: usize, column: &KeyColumn| match operators.get(i) {
            Some(operator) => operator.clone(),
            None if column.is_builtin => "OPERATOR(pg_catalog.=)".to_string(),
            None => "=".to_string(),
        };
        let columns = self.table.key.iter().enumerate();
        let all =
            columns.map(|(i, column)| format!("{name}.{} {} {}", quote(&column.name), equal(i, column), other(i)));
        all.collect::<Vec<_>>().join(" AND ")
    }

    /// SQL over a row of the source: whether it has pieces.
    pub fn any(&self, source: &Table) -> String {
        format!("EXISTS (SELECT FROM ONLY {} WHERE {})", self.table.sql(), self.is_of(source))
    }

    /// SQL over a row of the source: what stands for all its pieces, as the beginning of a vector does for one; NULL where it has none.
    pub fn head(&self, source: &Table, embedding: &str, vector_schema: &str) -> String {
        let name = self.table.sql();
        let [number, start, end, text] = COLUMNS.map(|column| format!("{name}.{}", quote(column)));
        let vector = format!(
            "pg_catalog.substring({}({name}.{}), 5, {})",
            qualified(vector_schema, "vector_send"),
            quote(embedding),
            record::COMPONENTS * 4
        );
        let parts = [
            format!("pg_catalog.int4send({number})"),
            format!("pg_catalog.int4send({start})"),
            format!("pg_catalog.int4send({end})"),
            hash(&text),
            vector,
        ];
        format!(
            "(SELECT pg_catalog.sha256(pg_catalog.string_agg({}, ''::pg_catalog.bytea ORDER BY {number})) FROM ONLY {name} WHERE {})",
            parts.join(" OPERATOR(pg_catalog.||) "),
            self.is_of(source)
        )
    }
}

/// sha256 of a text in UTF-8, as SQL.
fn hash(text: &str) -> String {
    format!("pg_catalog.sha256(pg_catalog.convert_to({text}, 'UTF8'))")
}

/// The operators by which a table's primary key tells its columns apart, qualified: they mean the same under every search_path.
fn key_operators(table: &Table) -> Vec<String> {
    const SQL: &str = "SELECT n.nspname::text, o.oprname::text FROM pg_index i \
         CROSS JOIN LATERAL unnest(i.indclass) WITH ORDINALITY AS k (opclass, ord) JOIN pg_opclass c ON c.oid = k.opclass \
         JOIN pg_amop a ON a.amopfamily = c.opcfamily AND a.amopstrategy = 3 AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype \
         JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace \
         WHERE i.indrelid = $1 AND i.indisprimary ORDER BY k.ord";
    as_extension(|| {
        spi::query(SQL, args![table.oid], Mode::Read, |row| {
            format!("OPERATOR({}.{})", quote(&row.or_default::<String>(1)), row.or_default::<String>(2))
        })
    })
}

/// A set of rows from arrays, the first of them argument number `first` of the statement, one for each of `casts`: `name`, with columns
/// `name_1` and so on.
fn rows_from(name: &str, first: usize, casts: &[&str]) -> String {
    let arrays = casts.iter().enumerate().map(|(i, cast)| format!("pg_catalog.unnest(${}::{cast})", first + i));
    let names = (1..=casts.len()).map(|i| format!("{name}_{i}")).collect::<Vec<_>>().join(", ");
    format!("ROWS FROM ({}) AS {name} ({names})", arrays.collect::<Vec<_>>().join(", "))
}
