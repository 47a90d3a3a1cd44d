//! The only place where an error gets its SQLSTATE, sentence and hint.

use autoembed_core::error::{Action, Failure};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use std::fmt;

/// An error that a user meets: one lower-case sentence, and a hint that says what to do.
#[derive(Debug)]
pub struct Error {
    code: PgSqlErrorCode,
    message: String,
    hint: String,
}

/// The result of what a user can ask for.
pub type Result<T> = std::result::Result<T, Box<Error>>;

impl Error {
    /// `code`: its SQLSTATE; `message`: what is wrong; `hint`: what to do.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Box<Error> {
        Box::new(Error { code, message: message.into(), hint: hint.into() })
    }

    /// An argument has a value that it cannot have (22023).
    pub fn argument(message: impl Into<String>, hint: impl Into<String>) -> Box<Error> {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, hint)
    }

    /// Something named is not there (42704).
    pub fn missing(message: impl Into<String>, hint: impl Into<String>) -> Box<Error> {
        Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message, hint)
    }

    /// The caller has not the rights (42501).
    pub fn rights(message: impl Into<String>, hint: impl Into<String>) -> Box<Error> {
        Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message, hint)
    }

    /// The state of things does not allow it (55000).
    pub fn state(message: impl Into<String>, hint: impl Into<String>) -> Box<Error> {
        Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message, hint)
    }

    /// Not possible, or not yet (0A000).
    pub fn unsupported(message: impl Into<String>, hint: impl Into<String>) -> Box<Error> {
        Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message, hint)
    }

    /// Says it as a WARNING.
    pub fn warn(self) {
        ErrorReport::new(self.code, self.message, "").set_hint(self.hint).report(pgrx::PgLogLevel::WARNING);
    }

    /// Says it as a NOTICE, where nothing is wrong yet.
    pub fn notice(self) {
        ErrorReport::new(self.code, self.message, "").set_hint(self.hint).report(pgrx::PgLogLevel::NOTICE);
    }

    /// Raises it as an ERROR of the server.
    pub fn raise(self) -> ! {
        let report = ErrorReport::new(self.code, self.message, "").set_hint(self.hint);
        report.report(pgrx::PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The value, or the error raised.
pub fn or_raise<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => error.raise(),
    }
}

/// What a model's failure is to somebody who waits for the answer in his session.
pub fn of_failure(model: &str, failure: &Failure) -> Box<Error> {
    let code = match failure.action {
        Action::Halt => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        Action::Reject => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        Action::Retry | Action::SlowDown { .. } | Action::Split => PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
    };
    Error::new(
        code,
        format!("model \"{model}\" did not embed the text ({}): {}", failure.code, failure.message),
        failure.hint.clone(),
    )
}
