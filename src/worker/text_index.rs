//! The text index of a table that was full, built as the other one: after the backfill, without blocking writers.

use crate::pg::catalog;
use crate::pg::ffi::catch::Caught;
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::index::Step;
use crate::pg::text_index::{self, give_up, note};
use crate::worker;
use crate::worker::gather::Context;
use crate::worker::index::take_steps;

/// Builds the text index of a vectorizer where it is wanted.
pub fn build(id: i32) -> Result<(), Caught> {
    if !take_steps(id, "text index", || next_step(id))? {
        return Ok(());
    }
    worker::transaction(|| give_up(id))
}

fn next_step(id: i32) -> Option<Step> {
    const WANTED: &str = "SELECT text_index_wanted FROM autoembed.vectorizer WHERE id = $1";
    as_extension(|| spi::first(WANTED, args![id], Mode::Write, |row| row.or_default::<bool>(1))).filter(|is| *is)?;
    let vectorizer = catalog::vectorizer(id)?;
    text_index::next_step(&catalog::table(vectorizer.source)?, &vectorizer)
}

/// After a build that has failed: says so, and waits for it no more.
pub fn fail(id: i32, caught: &Caught) {
    let vectorizer = catalog::now(id);
    let table = vectorizer.as_ref().and_then(|vectorizer| catalog::table(vectorizer.source));
    if let Some((vectorizer, table)) = vectorizer.zip(table) {
        let hint = text_index::hint(&table, &vectorizer);
        note(id, Some(format!("the text index could not be built: {}; {hint}", caught.message)));
    }
    give_up(id);
}

/// Notes that a table is without the text index that it should have, or that it is not.
pub fn check(context: &Context) {
    let Context { vectorizer, table, .. } = context;
    if vectorizer.text_search.is_none() {
        return;
    }
    if !text_index::is_missing(table, vectorizer) {
        note(vectorizer.id, None);
    } else if !text_index::is_noted(vectorizer.id) {
        let hint = text_index::hint(table, vectorizer);
        note(vectorizer.id, Some(format!("table \"{}\" has no valid text index; {hint}", table.name)));
    }
}
