//! What statement a search is: made anew when the table or the model changes (names may have), run by the functions that
//! [`functions`] makes, with the reader's rights.

use crate::pg::catalog::{self, StoredModel, Table, Vectorizer};
use crate::pg::chunks::{self, ChunkTable, as_error};
use crate::pg::distance::Distance;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::{as_extension, current_user, for_owner_in_session};
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::types::{self, Json};
use crate::pg::ffi::version::Version;
use crate::pg::ffi::{catch, locks, parse, snapshot};
use crate::pg::ident::{qualified, quote};
use crate::pg::{hybrid, index, interface, text_index};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::rc::Rc;

mod filter;
pub mod functions;
mod nearest;
pub mod rows;

use filter::Filter;
use nearest::nearest;
pub use nearest::{IF_FEW, IF_MANY, few_visible};

thread_local! {
    // By the user who may run them and the vectorizer; changes of the table, also of rights on it, empty it.
    static KNOWN: RefCell<HashMap<(pg_sys::Oid, i32), Rc<Known>>> = RefCell::new(HashMap::new());
    // Models that searches have used, by their names.
    static MODELS: RefCell<HashMap<String, (Version, StoredModel)>> = RefCell::default();
    // How many were made.
    static MADE: Cell<u64> = const { Cell::new(0) };
    // How often something was forgotten: what was read before that is not kept.
    static FORGOTTEN: Cell<u64> = const { Cell::new(0) };
}

/// Forgets what is known of searches in a table, or in its chunks (`None`: in any).
pub fn forget(table: Option<pg_sys::Oid>) {
    // Nothing is left of it in a process that ends by exit().
    let _ = FORGOTTEN.try_with(|times| times.set(times.get().wrapping_add(1)));
    let _ = KNOWN.try_with(|known| {
        if let Ok(mut known) = known.try_borrow_mut() {
            known.retain(|_, known| {
                table.is_some_and(|table| ![known.table.oid, known.vectorizer.vectors_in()].contains(&table))
            });
        }
    });
}

/// What searches of one vectorizer by one user are made of.
struct Known {
    table: Table,
    vectorizer: Vectorizer,
    distance: Distance,
    /// pgvector's type.
    vector_type: pg_sys::Oid,
    /// The schemas of the table and of pgvector.
    schemas: [String; 2],
    /// How types are called that statements name: it, whose operators are in the same schema, and those of the key that are not the server's.
    types: Vec<(pg_sys::Oid, Option<(pg_sys::Oid, CString)>)>,
    /// Candidates come in the order of the vectors with components of two bytes.
    is_halved: bool,
    /// Policies hide rows from this user.
    hides_rows: bool,
    /// The words of the input have an index.
    has_text_index: bool,
    /// The model as it was when the statement was asked for: for the query's vector, which is asked for next.
    model: RefCell<Option<StoredModel>>,
    /// The statements of searches without a filter, one for each kind.
    plain: [RefCell<Option<String>>; 6],
    /// No other one had it: for the plans that are made of it.
    number: u64,
    /// Scans of an index can go on where its first pass has not found enough.
    goes_on: bool,
}

/// Whose search it is.
#[derive(Clone, Copy)]
pub struct Of {
    /// The vectorizer's id.
    pub id: i32,
    /// When it was made, as the function that searches has it; `None`: whichever has the id. A dump brings functions into databases where
    /// the number is another's.
    pub made: Option<i64>,
}

impl Of {
    /// That it is this one.
    fn check(&self, found: &Vectorizer) -> Result<()> {
        if self.made.is_none_or(|made| made == found.made) {
            return Ok(());
        }
        Err(Error::state(
            format!("vectorizer {} is not the one that this search function was made for", self.id),
            "It came with a dump, and the number is another's here. Call autoembed.enable() for the function's own table, which makes its functions anew, or drop it.",
        ))
    }
}

fn parts(of: Of) -> Result<(Table, Vectorizer)> {
    interface::check()?;
    let id = of.id;
    // As of now, like the names in the statement: a snapshot that is older than a change of model does not show which one it is.
    let (vectorizer, table, trouble) = snapshot::of_now(|| {
        let vectorizer = catalog::vectorizer(id);
        let table = vectorizer.as_ref().and_then(|v| catalog::table(v.source));
        let both = vectorizer.as_ref().zip(table.as_ref());
        let trouble =
            both.and_then(|(v, table)| ChunkTable::find(v, table).err().map(as_error).or_else(|| other_key(v, table)));
        (vectorizer, table, trouble)
    });
    vectorizer.as_ref().map_or(Ok(()), |found| of.check(found))?;
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    match (table, vectorizer) {
        (Some(table), Some(vectorizer))
            if catalog::may_read(current_user(), vectorizer.vectors_in(), vectorizer.embedding.as_deref()) =>
        {
            // The server does not ask for it: the functions call by number what is in there.
            if !catalog::may_use(current_user(), "autoembed") {
                return Err(Error::rights(
                    "permission denied for schema autoembed".to_string(),
                    "Searching needs it: GRANT USAGE ON SCHEMA autoembed TO the role.",
                ));
            }
            let schema = catalog::pgvector()?.schema;
            if !catalog::may_use(current_user(), &schema) {
                return Err(Error::rights(
                    format!("permission denied for schema {schema}"),
                    format!(
                        "pgvector is there, and searches compare with its operators: GRANT USAGE ON SCHEMA {} to the role.",
                        quote(&schema)
                    ),
                ));
            }
            Ok((table, vectorizer))
        }
        (Some(table), Some(vectorizer)) => Err(Error::rights(
            format!("permission denied for table {}", catalog::table(vectorizer.vectors_in()).unwrap_or(table).name),
            "Searching needs SELECT on the table, and on its chunk table where it has one.",
        )),
        _ => Err(Error::missing(
            format!("vectorizer {id} does not exist"),
            "Its table was disabled; drop this function, or call autoembed.enable() again.",
        )),
    }
}

/// That the table has another key than when its functions were made.
fn other_key(vectorizer: &Vectorizer, table: &Table) -> Option<Box<Error>> {
    const HINT: &str = "all autoembed.disable() and autoembed.enable() again; the vectors stay.";
    if table.key.is_empty() {
        let message = format!("table \"{}\" has no primary key any more", table.name);
        return Some(Error::state(message, format!("Add one. Where it has other columns than before, c{HINT}")));
    }
    let message = format!("the search functions of table \"{}\" were made for another primary key", table.name);
    (!functions::fit(table, vectorizer)).then(|| Error::state(message, format!("C{HINT}")))
}

/// Raises an error where an input expression names what is not there any more: a search gives the input with each row. Names in it are
/// not followed when they are changed, as those of columns are.
fn check_input(table: &Table, vectorizer: &Vectorizer) {
    let input = vectorizer.input.as_ref().filter(|_| vectorizer.is_expression && vectorizer.chunks.is_none());
    let Some(input) = input else { return };
    let statement = format!("SELECT ({input})::pg_catalog.text FROM {}", table.source_sql());
    let analyse = || {
        for_owner_in_session(table.owner, &vectorizer.input_path, || parse::analyse(&statement, table.oid));
    };
    catch::names_in_other_words(analyse, |caught| {
        Error::state(
            format!("the input of table \"{}\" cannot be read: {}", table.name, caught.message),
            "Mend it, or call autoembed.disable() and autoembed.enable() with another input; the vectors stay.",
        )
    });
}

fn remembered(id: i32) -> Option<Rc<Known>> {
    KNOWN.with(|known| known.borrow().get(&(current_user(), id)).cloned())
}

/// A model as of now, like everything that a statement is made of. It is read again where its row is another version.
fn model_now(name: &str) -> Result<StoredModel> {
    interface::check()?;
    let read = || MODELS.with_borrow(|models| models.get(name).cloned());
    snapshot::of_now(|| match read() {
        Some((version, stored)) if version.is_there() => Ok(stored),
        _ => {
            let version = catalog::version_of_model(name);
            let stored = catalog::model(name)?;
            let entry = version.map(|version| (version, stored.clone()));
            entry.map(|entry| MODELS.with_borrow_mut(|models| models.insert(name.to_string(), entry)));
            Ok(stored)
        }
    })
}

/// What is known of a vectorizer that the caller may search in.
fn known(of: Of) -> Result<Rc<Known>> {
    const POLICIES: &str = "SELECT pg_catalog.row_security_active($1)";
    let id = of.id;
    if let Some(found) = remembered(id) {
        of.check(&found.vectorizer)?;
        // The model is no part of the table, and neither are the names of its columns' types.
        let stored = model_now(&found.vectorizer.model)?;
        if found.distance.is_by(&stored.model) && found.types.iter().all(|(of, name)| types::name_of(*of) == *name) {
            *found.model.borrow_mut() = Some(stored);
            return Ok(found);
        }
    }
    let forgotten = FORGOTTEN.get();
    let (table, vectorizer) = parts(of)?;
    check_input(&table, &vectorizer);
    let pgvector = catalog::pgvector()?;
    let stored = model_now(&vectorizer.model)?;
    let distance = Distance::new(&stored.model, vectorizer.column_dimensions, &pgvector);
    let vectors = snapshot::of_now(|| catalog::table(vectorizer.vectors_in()));
    let column = vectorizer.embedding.as_deref().zip(vectors.as_ref());
    let is_halved = column.is_some_and(|(column, vectors)| index::is_halved(vectors, column, &distance));
    let has_text_index = snapshot::of_now(|| text_index::is_there(&table, &vectorizer, Mode::Read));
    // Its settings are there when its library is.
    let load = format!("SELECT '[1]'::{}", qualified(&pgvector.schema, "vector"));
    as_extension(|| spi::query(&load, &[], Mode::Read, |_| ()));
    // As the caller: it is his policies that count.
    let hides_rows = spi::first(POLICIES, args![table.oid], Mode::Read, |row| row.or_default::<bool>(1));
    let of_key = table.key.iter().filter(|column| !column.is_builtin).map(|column| column.type_oid);
    let types = of_key.chain([pgvector.type_oid]).map(|of| (of, types::name_of(of))).collect();
    let schemas = [table.schema.clone(), pgvector.schema.clone()];
    let known = Rc::new(Known {
        schemas,
        table,
        vectorizer,
        distance,
        vector_type: pgvector.type_oid,
        types,
        is_halved,
        hides_rows: hides_rows.unwrap_or(true),
        has_text_index,
        model: RefCell::new(Some(stored)),
        plain: Default::default(),
        number: MADE.replace(MADE.get().wrapping_add(1)),
        goes_on: pgvector.iterative_scans,
    });
    // Where the table was changed meanwhile, some of it is of before and some of after: the lock that a search takes has it looked at again.
    if FORGOTTEN.get() == forgotten {
        keep((current_user(), id), &known);
    }
    Ok(known)
}

/// Of more than so many a session does not know what it has searched: it begins anew.
const MOST_KNOWN: usize = 500;

fn keep(of: (pg_sys::Oid, i32), known: &Rc<Known>) {
    let is_full = KNOWN.with_borrow(|all| all.len() >= MOST_KNOWN && !all.contains_key(&of));
    if is_full {
        KNOWN.take();
    }
    KNOWN.with_borrow_mut(|all| all.insert(of, Rc::clone(known)));
}

/// The statement of a search by a text: `$1` the query's vector, `$2` k, `$3` the least similarity, `$4` the filter, `$5` the query.
///
/// # Errors
/// A negative k, an unknown mode, a hybrid search without text search; a filter that is no object, or names what is no column of the table;
/// 55000 where the vectorizer is not the one that is meant.
pub fn statement(of: Of, k: Option<i32>, filter: Option<Json>, mode: &str) -> Result<String> {
    check_k(k)?;
    by_text(of, k, filter, mode).map(|(_, sql)| sql)
}

/// As [`statement`], with what is known of the vectorizer.
fn by_text(of: Of, k: Option<i32>, filter: Option<Json>, mode: &str) -> Result<(Rc<Known>, String)> {
    let search = match mode {
        "semantic" => Search::Text,
        "hybrid" => Search::TextAndWords,
        other => return Err(Error::argument(format!("mode cannot be \"{other}\""), "Use 'semantic' or 'hybrid'.")),
    };
    let known = known(of)?;
    if matches!(search, Search::TextAndWords) && !catalog::may_read_all(current_user(), known.table.oid) {
        return Err(Error::rights(
            format!("permission denied for table {}", known.table.name),
            "Hybrid searches need GRANT SELECT on the table, not on columns of it; semantic ones do with columns.",
        ));
    }
    let sql = match (search, known.vectorizer.chunks.is_some()) {
        (search, false) => known.statement(search, k, filter),
        (Search::Text, true) => known.statement_of_pieces(k, filter),
        (_, true) => Err(Error::unsupported(
            "mode \"hybrid\" is not supported where texts go in chunks",
            "Use mode => 'semantic'.",
        )),
    }?;
    Ok((known, sql))
}

/// The statement of a search by a row: `$2` k, `$3` the least similarity, `$4` the filter, and from `$5` on the row's key. A row that is
/// not there, that the reader may not see, or that has no vector, has no neighbours: in no way is one of these told from another. The
/// table is locked then as by a query that reads it, so that the column stays the one that the statement is for.
///
/// # Errors
/// As [`statement`].
pub fn row_statement(of: Of, k: Option<i32>, filter: Option<Json>) -> Result<String> {
    check_k(k)?;
    locks::lock_for_reading(column_of(of)?.0);
    if known(of)?.vectorizer.chunks.is_some() {
        return Err(Error::unsupported(
            "rows like a row cannot be searched where texts go in chunks",
            "Search by a text: the row's own, or a chunk of it.",
        ));
    }
    known(of)?.statement(Search::Row, k, filter)
}

fn check_k(k: Option<i32>) -> Result<()> {
    if k.is_some_and(|k| k < 0) {
        return Err(Error::argument("k is negative", "Give the number of rows to return; NULL returns all."));
    }
    Ok(())
}

/// What neighbours are searched of.
#[derive(Clone, Copy)]
enum Search {
    /// A text, whose vector is given.
    Text,
    /// A row, whose key is given.
    Row,
    /// A text, whose vector is given, and its words.
    TextAndWords,
}

/// Where in [`Known::plain`] the statements of searches of pieces are, one for each kind.
const OF_PIECES: usize = 3;

impl Known {
    fn statement(&self, by: Search, k: Option<i32>, filter: Option<Json>) -> Result<String> {
        let filter = Filter::read(filter)?;
        // A hybrid one is the same for every k.
        let is_plain = filter.is_none() && (k.is_some() || matches!(by, Search::TextAndWords));
        let plain = Some(&self.plain[by as usize]).filter(|_| is_plain);
        if let Some(plain) = plain.and_then(|plain| plain.borrow().clone()) {
            return Ok(plain);
        }
        let mut condition = match &filter {
            Some(filter) => format!(" AND {}", filter::condition(&self.table, filter)?),
            None => String::new(),
        };
        let query = match by {
            Search::Text | Search::TextAndWords => "$1".to_string(),
            Search::Row => {
                let is_row = filter::is_row(&self.table, 5)?;
                condition.push_str(&format!(" AND NOT ({is_row})"));
                // The server evaluates it once, and an index takes it as it takes a parameter.
                format!("(SELECT {} FROM {} WHERE {is_row})", self.vector()?, self.table.source_sql())
            }
        };
        let sql = match by {
            Search::Text | Search::Row => nearest(self, &query, &condition, k.is_none())?,
            Search::TextAndWords => hybrid::statement(&hybrid::Parts {
                table: &self.table,
                vectorizer: &self.vectorizer,
                columns: (&self.vector()?, self.input()?),
                condition: &condition,
                distance: &self.distance,
                is_halved: self.is_halved,
                hides_rows: self.hides_rows,
                has_text_index: self.has_text_index,
            })?,
        };
        if let Some(plain) = plain {
            *plain.borrow_mut() = Some(sql.clone());
        }
        Ok(sql)
    }

    fn statement_of_pieces(&self, k: Option<i32>, filter: Option<Json>) -> Result<String> {
        let filter = Filter::read(filter)?;
        let kind = chunks::search::Kind::of(k);
        let plain = Some(&self.plain[OF_PIECES + kind as usize]).filter(|_| filter.is_none());
        if let Some(plain) = plain.and_then(|plain| plain.borrow().clone()) {
            return Ok(plain);
        }
        let filter = filter.map(|filter| filter::condition(&self.table, &filter)).transpose()?;
        let (distance, is_halved) = (&self.distance, self.is_halved);
        let search = chunks::search::Search {
            source: &self.table,
            vectorizer: &self.vectorizer,
            distance,
            is_halved,
            hides_rows: self.hides_rows,
        };
        let sql = search.statement(kind, filter)?;
        if let Some(plain) = plain {
            *plain.borrow_mut() = Some(sql.clone());
        }
        Ok(sql)
    }

    fn dropped(&self) -> Box<Error> {
        Error::state(
            format!("a column that the vectorizer of table \"{}\" needs was dropped", self.table.name),
            "Call autoembed.disable() and autoembed.enable() again.",
        )
    }

    fn input(&self) -> Result<&str> {
        self.vectorizer.input.as_deref().ok_or_else(|| self.dropped())
    }

    fn vector(&self) -> Result<String> {
        let embedding = self.vectorizer.embedding.as_ref().ok_or_else(|| self.dropped())?;
        Ok(format!("{}.{}", self.table.sql(), quote(embedding)))
    }
}

/// The table of a vectorizer, and the name of the model that its column has. After [`locks::lock_for_reading`] both stay what they are.
///
/// # Errors
/// 42704 where there is no such vectorizer, 55000 where it is another, 42501 where the caller may not read its table.
pub fn column_of(of: Of) -> Result<(pg_sys::Oid, String)> {
    if let Some(known) = readable(of.id) {
        of.check(&known.vectorizer)?;
        return Ok((known.table.oid, known.vectorizer.model.clone()));
    }
    parts(of).map(|(table, vectorizer)| (table.oid, vectorizer.model))
}

/// The vectorizer's table and its model, for the query's vector.
///
/// # Errors
/// As [`column_of`].
pub fn model_of(id: i32) -> Result<(pg_sys::Oid, StoredModel)> {
    if let Some(known) = readable(id) {
        let stored = known.model.take().map_or_else(|| model_now(&known.vectorizer.model), Ok)?;
        return Ok((known.table.oid, stored));
    }
    let (table, vectorizer) = parts(Of { id, made: None })?;
    Ok((table.oid, model_now(&vectorizer.model)?))
}

/// Whether policies hide rows of the vectorizer's table from the caller, as far as is known: yes, where a search has not looked.
pub fn hides_rows(id: i32) -> bool {
    remembered(id).is_none_or(|known| known.hides_rows)
}

fn readable(id: i32) -> Option<Rc<Known>> {
    // What is remembered holds until the table changes, but roles are given and taken elsewhere.
    remembered(id).filter(|known| {
        catalog::may_read(current_user(), known.vectorizer.vectors_in(), known.vectorizer.embedding.as_deref())
    })
}
