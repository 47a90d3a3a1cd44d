//! Searching by a text: the query's vector, and the rows that are nearest to it.

use super::{Filter, Known, Of, by_text, check_k, model_now, nearest, parts};
use crate::pg::catalog;
use crate::pg::embed;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::answer::Answer;
use crate::pg::ffi::kept::{self, Kept};
use crate::pg::ffi::rights::{
    before_temporary, current_user, is_under_policies, look_into, may_read_whole, with_settings,
};
use crate::pg::ffi::spi::{Arg, Row};
use crate::pg::ffi::types::{self, Json};
use crate::pg::ffi::{locks, settings};
use crate::pg::ident::quote;
use autoembed_core::InputKind;
use lru::LruCache;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

/// What is searched for.
pub struct Request {
    /// The text; `None`: nothing is found.
    pub query: Option<String>,
    /// How many rows; `None`: all.
    pub k: Option<i32>,
    /// The least similarity.
    pub least: Option<f32>,
    /// What rows must pass.
    pub filter: Option<Json>,
    /// `semantic` or `hybrid`.
    pub mode: String,
}

/// What a plan of [`nearest::first`] is for: what is known of the vectorizer, how many rows, and the ways that it may take.
type For = (u64, i32, [bool; 6]);

thread_local! {
    static PLANS: RefCell<LruCache<For, Rc<Kept>>> = RefCell::new(LruCache::new(MOST_PLANS));
}

/// So many are kept, for all roles and vectorizers together: a session of a pool may come by hundreds of both.
const MOST_PLANS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
/// How long a plan is kept. The server knows of a new index and of new statistics, but not of rows that have come since.
const LASTS: Duration = Duration::from_secs(5);
/// How many rows one pass of pgvector's index gives, where nobody has set it (`hnsw.ef_search`).
const ONE_PASS: i32 = 40;

/// Searches, and puts what is found into `answer`.
///
/// # Errors
/// As [`super::statement`], of which is told before the model is called; as [`embed::vector_of`].
pub fn search(of: Of, request: &Request, answer: &mut Answer) -> Result<()> {
    check_k(request.k)?;
    let (mut known, mut sql) = statement(of, request, answer)?;
    let vector = match &request.query {
        Some(text) => {
            let (vector, now) = vector(of, text, Rc::clone(&known))?;
            if !Rc::ptr_eq(&known, &now) {
                // Changed since. From here on it cannot be any more.
                (known, sql) = statement(of, request, answer)?;
            }
            Some(vector)
        }
        None => None,
    };
    let of_vector = || types::vector(known.vector_type, vector.as_deref());
    if known.is_found_at_once(request, answer, of_vector)? {
        return Ok(());
    }
    let args = [
        of_vector(),
        Arg::new::<i32>(request.k),
        Arg::new::<f32>(request.least),
        Json::optional(request.filter),
        Arg::new::<String>(request.query.clone()),
    ];
    with_settings(&known.settings().pairs(), || answer.fill(&sql, &args));
    Ok(())
}

fn statement(of: Of, request: &Request, answer: &Answer) -> Result<(Rc<Known>, String)> {
    let (known, sql) = by_text(of, request.k, request.filter, &request.mode)?;
    if known.vectorizer.chunks.is_some() {
        return Err(Error::unsupported("chunks are searched by the function of their table", "Call that."));
    }
    let key = &known.table.key;
    let types: Vec<_> = key.iter().map(|part| part.type_oid).chain([pg_sys::TEXTOID, pg_sys::FLOAT4OID]).collect();
    if !answer.is_of(&types) {
        let parts = key.iter().map(|part| format!("{} {}, ", quote(&part.name), part.type_name));
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("a search of table \"{}\" does not give the columns that are asked for", known.table.name),
            format!(
                "Call its search function, or ask for AS found ({}input text, similarity real).",
                parts.collect::<String>()
            ),
        ));
    }
    Ok((known, sql))
}

/// The vector of a text by the model of a vectorizer. The table is locked then, as by a query that reads it: until the end of the
/// transaction the column has vectors of this model, and what is known of it, which is also returned, stays so. Nothing is locked while the
/// model is called, which may take long.
fn vector(of: Of, text: &str, mut known: Rc<Known>) -> Result<(Vec<f32>, Rc<Known>)> {
    loop {
        let column = known.vectorizer.embedding.as_deref();
        let (user, table) = (current_user(), known.vectorizer.vectors_in());
        if !may_read_whole(user, table) && !catalog::may_read(user, table, column) {
            // What is remembered holds until the table changes, but roles are given and taken elsewhere.
            parts(of)?;
        }
        let stored = known.model.take().map_or_else(|| model_now(&known.vectorizer.model), Ok)?;
        let found = embed::vector_of(text, stored, InputKind::Query, known.hides_rows)?;
        locks::lock_for_reading(known.table.oid);
        let now = super::known(of)?;
        if (now.table.oid, &now.vectorizer.model) == (known.table.oid, &known.vectorizer.model) {
            return Ok((found, now));
        }
        // It was changed while the old one was at work. Now it cannot be any more.
        known = now;
    }
}

/// Settings that searches run with.
struct Settings {
    goes_on: bool,
    path: Option<String>,
}

impl Settings {
    fn pairs(&self) -> Vec<(&str, &str)> {
        // The part that reads the whole table looks dear, also where it is not begun, and would be compiled for longer than the rest runs.
        let mut pairs = vec![("jit", "off")];
        if self.goes_on {
            // With these a scan of the index goes on until k rows pass the filter and the policies.
            pairs.extend([
                ("hnsw.iterative_scan", "relaxed_order"),
                ("hnsw.max_scan_tuples", "2147483647"),
                ("hnsw.scan_mem_multiplier", "20"),
            ]);
        }
        pairs.extend(self.path.as_deref().map(|path| ("search_path", path)));
        pairs
    }
}

impl Known {
    fn settings(&self) -> Settings {
        Settings { goes_on: self.goes_on, path: self.path() }
    }

    /// The search_path that the names in an expression are meant in: to every reader what they mean to the worker.
    fn path(&self) -> Option<String> {
        self.vectorizer.is_expression.then(|| before_temporary(&self.vectorizer.input_path))
    }

    /// Most searches need no more than one pass of the index, whose plan is the same for all queries. Whether that was enough; else nothing
    /// is left in `answer`.
    fn is_found_at_once(&self, request: &Request, answer: &mut Answer, vector: impl FnOnce() -> Arg) -> Result<bool> {
        let (Some(k), Some(_), "semantic") = (request.k, &request.query, request.mode.as_str()) else {
            return Ok(false);
        };
        let one_pass = settings::number(c"hnsw.ef_search").unwrap_or(ONE_PASS);
        let candidates = nearest::candidates(self, k);
        // Where policies count, how rows are found must tell nothing of those that are hidden.
        if candidates > one_pass
            || self.hides_rows
            || is_under_policies(self.table.oid)
            || Filter::read(request.filter)?.is_some()
        {
            return Ok(false);
        }
        // The server asks for these rights when it reads a statement, not when it runs a plan.
        self.schemas.iter().for_each(|schema| look_into(schema));
        let plan = self.plan(k)?;
        let similarity = self.table.key.len() + 2;
        let mut left = k;
        let mut add = |row: &Row| {
            left = left.saturating_sub(1);
            if left < 0 {
                // A candidate that is farther than the k nearest.
                return;
            }
            // Compared as it is shown. What is no number is not shown.
            let shown = row.get::<f32>(similarity).unwrap_or(f32::NAN);
            if !shown.is_nan() && request.least.is_none_or(|least| shown >= least) {
                answer.put(row);
            }
        };
        let args = [vector()];
        // One of several indexes may end early, and what it has not given would not be missed: the others give enough.
        let settings = Settings { goes_on: self.goes_on && self.table.kind == 'p', path: self.path() };
        // A plan that is made anew while it is kept is not to be compiled either.
        let found = with_settings(&settings.pairs(), || plan.run(&args, &mut add));
        // Where there are fewer candidates, it may be the index that ended.
        if i32::try_from(found).is_ok_and(|found| found >= candidates) {
            return Ok(true);
        }
        answer.clear();
        Ok(false)
    }

    /// The plan for k rows.
    fn plan(&self, k: i32) -> Result<Rc<Kept>> {
        let of = (self.number, k, kept::ways());
        let found = PLANS.with_borrow_mut(|plans| plans.get(&of).cloned());
        if let Some(plan) = found.filter(|plan| plan.made().elapsed() < LASTS) {
            return Ok(plan);
        }
        let mut types: [pg_sys::Oid; 1] = [self.vector_type];
        let path = self.path();
        let pairs: Vec<(&str, &str)> = path.as_deref().map(|path| ("search_path", path)).into_iter().collect();
        let sql = nearest::first(self, k)?;
        let plan = Rc::new(with_settings(&pairs, || Kept::new(&sql, &mut types)));
        // The old one for the same, or the one that has not been asked for the longest, is let go of.
        PLANS.with_borrow_mut(|plans| plans.push(of, Rc::clone(&plan)));
        Ok(plan)
    }
}
