//! estimate_cost(): what embedding a whole table would take, by a look at its texts. No model is called.

use crate::pg::catalog::{self, StoredModel, Table, Vectorizer};
use crate::pg::enable::{owned_table, read_input, resolved_path};
use crate::pg::error::{Error, Result};
use crate::pg::ffi::catch::{Caught, subtransaction};
use crate::pg::ffi::rights::{as_extension, as_owner};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::{settings, source as table_source};
use crate::worker::pieces::MOST_CHARS;
use autoembed_core::InputKind;
use autoembed_core::batch::{estimate_tokens, truncate};
use autoembed_core::chunk::{Sizes, pieces};
use autoembed_core::model::TooLong;
use pgrx::{AnyNumeric, pg_sys};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What embedding all rows takes.
pub struct Cost {
    /// Rows that have a text.
    pub rows: i64,
    /// Their tokens, with what the model wants before each text.
    pub tokens: i64,
    /// US dollars; `None`: the price is not known.
    pub price: Option<AnyNumeric>,
}

/// A table that is no larger is read as a whole.
const SMALL: i64 = 16 << 20;
/// Bytes of a table that one sample of it is meant to have,
const SAMPLE: i64 = 8 << 20;
/// and its rows.
const MOST_ROWS: i64 = 4000;
/// Rows with which the estimate is good enough.
const ENOUGH: i64 = 12_000;
/// When no further sample is begun.
const PATIENCE: Duration = Duration::from_millis(300);

/// What embedding all rows of a table by a model would take. `model` and `input`: those of the vectorizer of column `embedding` unless given.
///
/// # Errors
/// As `owned_table`; 42704 where there is neither an input nor a vectorizer; what is wrong with the input; what reading the table raises.
pub fn cost(source: pg_sys::Oid, model: Option<String>, embedding: &str, input: Option<String>) -> Result<Cost> {
    let table = owned_table(source)?;
    let vectorizer = catalog::find(source, embedding);
    let model = model.or_else(|| vectorizer.as_ref().map(|v| v.model.clone())).unwrap_or_else(settings::default_model);
    let stored = catalog::model(&model)?;
    let sizes = vectorizer.as_ref().and_then(|v| v.chunks).map(|chunks| chunks.sizes);
    let (input, path) = input_of(&table, vectorizer, embedding, input)?;
    let mut sums = Sums::new(&stored, sizes);
    let most = if sizes.is_some() { MOST_CHARS as i32 } else { table_source::max_chars(&stored.model) };
    let statement = Statement { table: &table, input: &input, path: &path, most };
    let (size, rows) = size(&table);
    let (rows, tokens) = if size <= SMALL {
        statement.read("", &mut sums)?;
        (sums.with_text as f64, sums.tokens as f64)
    } else {
        sampled(&statement, &mut sums, size, rows)?
    };
    Ok(Cost { rows: rows.round() as i64, tokens: tokens.round() as i64, price: price(&stored, tokens) })
}

fn input_of(
    table: &Table,
    vectorizer: Option<Vectorizer>,
    embedding: &str,
    input: Option<String>,
) -> Result<(String, String)> {
    if let Some(given) = input {
        let path = resolved_path();
        let target = Some(embedding).filter(|_| vectorizer.is_none_or(|v| v.chunks.is_none()));
        return Ok((read_input(table, &given, target, &path)?.sql, path));
    }
    let vectorizer = vectorizer.ok_or_else(|| {
        Error::missing(
            format!("table \"{}\" has no vectorizer for column \"{embedding}\"", table.name),
            "Say which text is to be embedded: input => 'body', or any SQL expression over the row.",
        )
    })?;
    let path = vectorizer.input_path;
    let input = vectorizer.input.ok_or_else(|| {
        Error::state(format!("the input column of table \"{}\" was dropped", table.name), "Give an input => '...'.")
    })?;
    Ok((input, path))
}

/// Bytes of a table and its partitions, with the texts that are stored apart, and the planner's estimate of their rows.
fn size(table: &Table) -> (i64, Option<i64>) {
    const SQL: &str = "SELECT COALESCE(sum(pg_table_size(oid)), 0)::bigint, CASE WHEN bool_and(reltuples >= 0) THEN \
         sum(CASE WHEN relpages > 0 THEN reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::int) ELSE 0 END)::bigint END \
         FROM pg_class WHERE oid = ANY ($1) AND relkind = 'r'";
    let tables = catalog::with_partitions(table);
    as_extension(|| spi::first(SQL, args![tables], Mode::Write, |row| (row.or_default(1), row.get(2))))
        .unwrap_or((0, None))
}

/// Takes samples until there are enough rows, or enough time was spent: rows with a text, and their tokens.
fn sampled(statement: &Statement<'_>, sums: &mut Sums<'_>, size: i64, rows: Option<i64>) -> Result<(f64, f64)> {
    let begun = Instant::now();
    // Where nothing is known, rows are taken to be of a middling size.
    let known = rows.filter(|rows| *rows > 0);
    let all = known.unwrap_or(size / 500).max(1) as f64;
    let wanted = (SAMPLE as f64 / (size as f64 / all)).clamp(20.0, MOST_ROWS as f64);
    let percent = (100.0 * wanted / all).clamp(1e-4, 100.0);
    let mut samples = 0;
    while samples == 0 || sums.rows < ENOUGH && begun.elapsed() < PATIENCE {
        samples += 1;
        statement.read(&format!(" TABLESAMPLE SYSTEM ({percent})"), sums)?;
        // Too small a part to have met a page, or all rows are read by now.
        if samples >= 20 || f64::from(samples) * percent >= 100.0 {
            break;
        }
    }
    let part = f64::from(samples) * percent / 100.0;
    let seen = (sums.rows as f64).max(1.0);
    let there = known.map_or(seen / part, |rows| rows as f64);
    Ok((there * sums.with_text as f64 / seen, there * sums.tokens as f64 / seen))
}

/// What reads texts.
struct Statement<'a> {
    table: &'a Table,
    input: &'a str,
    path: &'a str,
    /// Characters that are read of a text.
    most: i32,
}

impl Statement<'_> {
    /// Reads the table, or a part of it, as its owner.
    fn read(&self, sample: &str, sums: &mut Sums<'_>) -> Result<()> {
        let sql = format!(
            "SELECT pg_catalog.left(({})::pg_catalog.text, $1) FROM {}{sample}",
            self.input,
            self.table.source_sql()
        );
        let read = subtransaction(|| {
            as_owner(self.table.owner, self.path, || {
                spi::query(&sql, args![self.most], Mode::Write, |row| sums.add(row.get::<String>(1).as_deref()))
            });
        });
        read.map_err(raised)
    }
}

fn raised(caught: Caught) -> Box<Error> {
    let hint = caught.hint.unwrap_or_else(|| {
        "The table is read as its owner with row_security = off; mend what the message tells of, and call it again."
            .into()
    });
    Error::new(caught.code, format!("the table could not be read: {}", caught.message), hint)
}

/// What was read so far.
struct Sums<'a> {
    stored: &'a StoredModel,
    /// How texts are cut into pieces.
    sizes: Option<Sizes>,
    prefix: usize,
    rows: i64,
    with_text: i64,
    tokens: i64,
}

impl Sums<'_> {
    fn new(stored: &StoredModel, sizes: Option<Sizes>) -> Sums<'_> {
        let prefix = stored.model.prefix_size(InputKind::Document).tokens;
        Sums { stored, sizes, prefix, rows: 0, with_text: 0, tokens: 0 }
    }

    fn add(&mut self, text: Option<&str>) {
        self.rows += 1;
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return };
        self.with_text += 1;
        if let Some(sizes) = self.sizes {
            let tokens = |piece: Range<usize>| estimate_tokens(text.get(piece).unwrap_or_default()) + self.prefix;
            self.tokens += pieces(text, sizes).into_iter().map(tokens).sum::<usize>() as i64;
            return;
        }
        let most = self.stored.model.limits.input_tokens;
        let room = most.saturating_sub(self.prefix).max(1);
        let text = match self.stored.model.too_long() {
            TooLong::Truncate => truncate(text, room),
            TooLong::Fail => text,
        };
        self.tokens += (estimate_tokens(text) + self.prefix) as i64;
    }
}

fn price(stored: &StoredModel, tokens: f64) -> Option<AnyNumeric> {
    const SQL: &str = "SELECT round(($1 * $2 / 1000000)::numeric, 6)";
    let known = stored.model.price_per_million_tokens();
    let per_million = if stored.model.provider.is_remote() { known? } else { known.unwrap_or(0.0) };
    as_extension(|| spi::first(SQL, args![tokens, per_million], Mode::Read, |row| row.get::<AnyNumeric>(1))).flatten()
}
