//! Every row's vector must be the vector of its present text: the one check that finds lost, stale and mixed-up work.

use crate::db::Db;
use crate::wait::eventually;
use std::time::Duration;

/// The numbers of a pgvector text (`[1,2,3]`).
#[must_use]
pub fn parse(text: &str) -> Vec<f32> {
    text.trim_matches(['[', ']'])
        .split(',')
        .map(|number| number.parse().unwrap_or_else(|_| panic!("not a vector: {text}")))
        .collect()
}

/// Whether two vectors are the same but for the last digits that a trip through text or base64 may cost.
#[must_use]
pub fn same(left: &[f32], right: &[f32]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(l, r)| (l - r).abs() < 1e-5)
}

/// What is wrong in `table`, as (rows, complaints): rows whose `vector` is not `hashed_vector` of their present `text`
/// (an SQL expression), or that have a vector though there is no text, or none though there is.
pub fn compare(db: &mut Db, table: &str, text: &str, vector: &str, dims: usize) -> (usize, Vec<String>) {
    let rows = db.rows(&format!("SELECT ({text})::text, {vector}::text FROM {table}"));
    let mut complaints = Vec::new();
    for row in &rows {
        let (input, stored) = (row[0].as_deref().unwrap_or(""), row[1].as_deref());
        let empty = input.trim().is_empty();
        match stored {
            None if empty => {}
            None => complaints.push(format!("no vector: {}", shown(input))),
            Some(_) if empty => complaints.push("a vector without a text".to_owned()),
            Some(stored) if !same(&parse(stored), &autoembed_stub::hashed_vector(input, dims)) => {
                complaints.push(format!("a vector of another text: {}", shown(input)));
            }
            Some(_) => {}
        }
    }
    (rows.len(), complaints)
}

/// Asserts [`compare`] finds nothing, and that there are rows at all. Gives the number of rows.
pub fn assert_all_vectors(db: &mut Db, table: &str, text: &str, vector: &str, dims: usize) -> usize {
    let (rows, complaints) = compare(db, table, text, vector, dims);
    assert!(rows > 0, "{table} has no rows, so this would prove nothing");
    assert!(complaints.is_empty(), "{} of {rows} rows of {table}: {:?}", complaints.len(), first(&complaints));
    rows
}

/// Waits until [`compare`] finds nothing, and there are rows. Gives the number of rows.
pub fn until_all_vectors(db: &mut Db, table: &str, text: &str, vector: &str, dims: usize, timeout: Duration) -> usize {
    eventually(&format!("every row of {table} has the vector of its text"), timeout, || {
        let (rows, complaints) = compare(db, table, text, vector, dims);
        if rows > 0 && complaints.is_empty() {
            return Ok(rows);
        }
        // Views may be what is broken: a wait that fails must still say what it saw.
        let status = db.try_rows("SELECT * FROM autoembed.status").map_or_else(|e| e.to_string(), |s| format!("{s:?}"));
        Err(format!("{} of {rows} rows: {:?}\n  status: {status}", complaints.len(), first(&complaints)))
    })
}

fn first(complaints: &[String]) -> &[String] {
    &complaints[..complaints.len().min(5)]
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_text_is_read() {
        assert_eq!(parse("[1,-2.5,3e-05]"), [1.0, -2.5, 3e-5]);
    }

    #[test]
    fn a_different_number_or_length_is_seen() {
        assert!(same(&[1.0, 2.0], &[1.0, 2.000_001]));
        assert!(!same(&[1.0, 2.0], &[1.0, 2.001]));
        assert!(!same(&[1.0, 2.0], &[1.0]));
    }
}
