//! Another look at rows before they are given up.

use super::{Context, Row, read};

/// What a row has now.
pub enum Look {
    /// It is not there any more.
    Gone,
    /// The hash of its text; empty where it has none.
    Text(Vec<u8>),
    /// It cannot be read.
    Unknown,
}

/// Looks at rows again; `None`: somebody has the table locked.
pub fn look(context: &Context, keys: &[&str]) -> Option<Vec<Look>> {
    if !context.lock() {
        return None;
    }
    let Ok(rows) = read(context, keys, 1) else { return Some(keys.iter().map(|_| Look::Unknown).collect()) };
    let looks = rows.into_iter().map(|row| match row {
        Row::Gone => Look::Gone,
        Row::Found(found) => Look::Text(found.hash.unwrap_or_default()),
        Row::Raised(_) => Look::Unknown,
    });
    Some(looks.collect())
}
