//! One session with short ways to ask.

use crate::wait::eventually;
use postgres::{Client, SimpleQueryMessage};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A session. Every value comes back as the text psql would show, so that a test reads like a psql session.
pub struct Db(Client);

/// An error as the server sent it.
#[derive(Debug, Clone)]
pub struct SqlError {
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// Detail, or "".
    pub detail: String,
    /// Hint, or "".
    pub hint: String,
}

/// A row: one text a column, `None` for NULL.
pub type Row = Vec<Option<String>>;

impl From<Client> for Db {
    fn from(client: Client) -> Db {
        Db(client)
    }
}

impl Deref for Db {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.0
    }
}

impl DerefMut for Db {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.0
    }
}

impl Db {
    /// Runs statements (several are one transaction, as in any simple query). Panics on an error.
    pub fn run(&mut self, sql: &str) {
        if let Err(e) = self.0.batch_execute(sql) {
            panic!("{}\n  in: {sql}", explain(&e));
        }
    }

    /// The rows of a query. Errors: the server's.
    pub fn try_rows(&mut self, sql: &str) -> Result<Vec<Row>, postgres::Error> {
        let messages = self.0.simple_query(sql)?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
                _ => None,
            })
            .collect())
    }

    /// The rows of a query. Panics on an error.
    pub fn rows(&mut self, sql: &str) -> Vec<Row> {
        self.try_rows(sql).unwrap_or_else(|e| panic!("{}\n  in: {sql}", explain(&e)))
    }

    /// The first column of all rows, NULL as "NULL".
    pub fn column(&mut self, sql: &str) -> Vec<String> {
        self.rows(sql).into_iter().map(|mut row| row.swap_remove(0).unwrap_or_else(|| "NULL".to_owned())).collect()
    }

    /// The server's major version.
    pub fn major(&mut self) -> i64 {
        self.int("SELECT current_setting('server_version_num')::int / 10000")
    }

    /// The first value of the first row: `None` where there is no row or it is NULL.
    pub fn maybe(&mut self, sql: &str) -> Option<String> {
        self.rows(sql).into_iter().next().and_then(|row| row.into_iter().next().flatten())
    }

    /// The first value of the first row. Panics where there is none, or it is NULL.
    pub fn text(&mut self, sql: &str) -> String {
        self.maybe(sql).unwrap_or_else(|| panic!("no value from: {sql}"))
    }

    /// The first value as an integer.
    pub fn int(&mut self, sql: &str) -> i64 {
        let text = self.text(sql);
        text.parse().unwrap_or_else(|_| panic!("not an integer: {text}\n  from: {sql}"))
    }

    /// The first value as a boolean.
    pub fn yes(&mut self, sql: &str) -> bool {
        self.text(sql) == "t"
    }

    /// The error that `sql` must end with. Panics when there is none.
    pub fn error(&mut self, sql: &str) -> SqlError {
        match self.0.simple_query(sql) {
            Ok(_) => panic!("no error from: {sql}"),
            Err(e) => SqlError::of(&e).unwrap_or_else(|| panic!("not an answer of the server: {e}\n  in: {sql}")),
        }
    }

    /// Waits until the query's first value is `wanted` ("NULL" for NULL or no row).
    pub fn until(&mut self, sql: &str, wanted: &str, timeout: Duration) {
        eventually(&format!("{wanted} from {sql}"), timeout, || {
            let seen = self.maybe(sql).unwrap_or_else(|| "NULL".to_owned());
            if seen == wanted { Ok(()) } else { Err(seen) }
        });
    }

    /// Waits until the condition holds; on a timeout the row that `look` gives is shown.
    pub fn until_true(&mut self, condition: &str, look: &str, timeout: Duration) {
        eventually(condition, timeout, || {
            if self.yes(&format!("SELECT coalesce(({condition}), false)")) {
                return Ok(());
            }
            Err(if look.is_empty() { "false".to_owned() } else { format!("{:?}", self.rows(look)) })
        });
    }
}

impl SqlError {
    /// The server's part of a client's error, if it has one.
    #[must_use]
    pub fn of(error: &postgres::Error) -> Option<SqlError> {
        let db = error.as_db_error()?;
        Some(SqlError {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().unwrap_or_default().to_owned(),
            hint: db.hint().unwrap_or_default().to_owned(),
        })
    }

    /// Asserts what every error people can meet must be: this SQLSTATE, one lower-case sentence that holds
    /// `part`, and a hint.
    pub fn assert(&self, code: &str, part: &str) {
        assert_eq!(self.code, code, "wrong SQLSTATE: {self:?}");
        assert!(self.message.contains(part), "the message lacks {part:?}: {self:?}");
        let first = self.message.chars().next().unwrap_or('A');
        // A message may begin with a quoted or a reserved name, but not with a capital.
        assert!(!first.is_uppercase(), "the message begins with a capital: {self:?}");
        assert!(!self.message.ends_with('.'), "the message ends with a full stop: {self:?}");
        assert!(!self.message.contains('\n'), "the message has several lines: {self:?}");
        assert!(self.hint.len() > 10, "no hint: {self:?}");
    }
}

/// Everything a server's error says, for people.
#[must_use]
pub fn explain(error: &postgres::Error) -> String {
    SqlError::of(error).map_or_else(
        || error.to_string(),
        |e| format!("ERROR {}: {}\n  detail: {}\n  hint: {}", e.code, e.message, e.detail, e.hint),
    )
}

/// `text` as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}
