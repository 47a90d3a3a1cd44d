//! Row keys as text.
//!
//! The key of a table with one key column is that column's text. Several columns are written as PostgreSQL writes a
//! row (`record_out`): `(1,"a b","")`, so that either side can read what the other has written.

use std::fmt;

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// Not a row as PostgreSQL writes it.
    Malformed,
    /// A row of another number of columns.
    Columns {
        /// How many there are.
        found: usize,
        /// How many the key has.
        expected: usize,
    },
    /// A column is NULL, which no key column can be.
    Null,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the key is not a row in PostgreSQL's notation"),
            Self::Columns { found, expected } => {
                write!(f, "the key has {found} columns, expected {expected}")
            }
            Self::Null => f.write_str("the key has a NULL column"),
        }
    }
}

impl std::error::Error for KeyError {}

impl KeyError {
    /// What to do.
    #[must_use]
    pub fn hint(self) -> &'static str {
        "Give the primary key as text; a key of several columns as a row, such as (1,\"two words\")."
    }
}

/// The key of a row whose key columns have these texts, in the key's order. No columns give an empty text.
#[must_use]
pub fn encode(columns: &[&str]) -> String {
    if let [only] = columns {
        return (*only).to_owned();
    }
    let mut key = String::with_capacity(2 + columns.iter().map(|column| column.len() + 3).sum::<usize>());
    for (i, column) in columns.iter().enumerate() {
        key.push(if i == 0 { '(' } else { ',' });
        if !needs_quotes(column) {
            key.push_str(column);
            continue;
        }
        key.push('"');
        for c in column.chars() {
            if matches!(c, '"' | '\\') {
                key.push(c);
            }
            key.push(c);
        }
        key.push('"');
    }
    if !columns.is_empty() {
        key.push(')');
    }
    key
}

// The characters that record_out quotes for; its isspace() covers these six.
fn needs_quotes(column: &str) -> bool {
    column.is_empty()
        || column
            .bytes()
            .any(|b| matches!(b, b'"' | b'\\' | b'(' | b')' | b',' | b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r'))
}

/// The texts of a key's columns.
///
/// Reads what [`encode`] and PostgreSQL write, and like PostgreSQL's `record_in` also what people write: blanks around
/// the parentheses, quotes within a column, backslashes before any character.
///
/// # Errors
/// [`KeyError`] if the text is no row, or has another number of columns than `columns`, or a NULL among them.
pub fn decode(key: &str, columns: usize) -> Result<Vec<String>, KeyError> {
    if columns == 1 {
        return Ok(vec![key.to_owned()]);
    }
    let inner = key.trim_matches(|c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r'));
    let mut rest = inner.strip_prefix('(').ok_or(KeyError::Malformed)?.chars();
    let mut found = Vec::new();
    loop {
        let (column, end) = read_column(&mut rest)?;
        found.push(column);
        if end == ')' {
            break;
        }
    }
    if !rest.as_str().is_empty() {
        return Err(KeyError::Malformed);
    }
    if found.len() != columns {
        return Err(KeyError::Columns { found: found.len(), expected: columns });
    }
    found.into_iter().collect::<Option<Vec<String>>>().ok_or(KeyError::Null)
}

/// One column (`None`: NULL, nothing at all between the commas) and the character that ended it.
fn read_column(rest: &mut std::str::Chars<'_>) -> Result<(Option<String>, char), KeyError> {
    let mut column = String::new();
    let mut null = true;
    let mut quoted = false;
    loop {
        let c = rest.next().ok_or(KeyError::Malformed)?;
        match c {
            ',' | ')' if !quoted => return Ok(((!null).then_some(column), c)),
            '\\' => column.push(rest.next().ok_or(KeyError::Malformed)?),
            '"' if !quoted => quoted = true,
            '"' if rest.as_str().starts_with('"') => {
                rest.next();
                column.push('"');
            }
            '"' => quoted = false,
            c => column.push(c),
        }
        null = false;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_as_postgres_does() {
        for (columns, key) in [
            (&["1", "2"][..], "(1,2)"),
            (&["", "a b"], r#"("","a b")"#),
            (&[r#"a"b"#, r"c\d"], r#"("a""b","c\\d")"#),
            (&["a,b", "(c)"], r#"("a,b","(c)")"#),
            (&["a\nb", "ä\u{a0}ö"], "(\"a\nb\",ä\u{a0}ö)"),
            (&["NULL", "'x'"], "(NULL,'x')"),
            (&["2024-01-01 00:00:00+00", "{1,2}"], r#"("2024-01-01 00:00:00+00","{1,2}")"#),
            (&["(1,2)"], "(1,2)"),
            (&[""], ""),
        ] {
            assert_eq!(encode(columns), key);
            assert_eq!(decode(key, columns.len()).unwrap(), columns);
        }
    }

    #[test]
    fn reads_what_record_in_reads() {
        for (key, columns) in [
            (" (1,2) ", ["1", "2"]),
            (r#"(a"b c"d,e)"#, ["ab cd", "e"]),
            (r"(a\,b,\))", ["a,b", ")"]),
            (r#"("a\"b",c)"#, ["a\"b", "c"]),
            ("( a ,b)", [" a ", "b"]),
        ] {
            assert_eq!(decode(key, 2).unwrap(), columns, "{key}");
        }
    }

    #[test]
    fn refuses_what_is_no_key() {
        for key in ["", "1,2", "(1,2", "(1,2)x", "(\"1,2)", "(1,2\\", "()", "(1)", "(1,2,3)", "(,2)", "(1,)"] {
            assert!(decode(key, 2).is_err(), "{key}");
        }
        assert_eq!(decode("(1,)", 2), Err(KeyError::Null));
        assert_eq!(decode("(1,2,3)", 2), Err(KeyError::Columns { found: 3, expected: 2 }));
    }

    proptest! {
        #[test]
        fn comes_back(columns in proptest::collection::vec(r#"[a-c"\\(), \n\t\x0bä😀']{0,6}|\PC{0,8}"#, 1..5)) {
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            prop_assert_eq!(decode(&encode(&columns), columns.len()).unwrap(), columns);
        }

        #[test]
        fn no_two_keys_are_one(a in proptest::collection::vec(r#"[a",\\()]{0,4}"#, 2), b in proptest::collection::vec(r#"[a",\\()]{0,4}"#, 2)) {
            let key = |columns: &[String]| encode(&columns.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }

        #[test]
        fn never_panics(key in r#"[(),"\\ a]{0,20}"#, columns in 0usize..4) {
            let _ = decode(&key, columns);
        }
    }
}
