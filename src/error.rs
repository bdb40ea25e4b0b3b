//! Errors in PostgreSQL's voice: SQLSTATE, message, DETAIL and HINT.
//!
//! The one place where a pure error becomes SQL's. Code elsewhere returns a [`SqlError`] and only
//! the entry points raise it, so that Rust values are dropped on the way.

mod client;
mod index;
mod multivector;
mod queue;
mod values;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name};

use crate::encoding::to_database;

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct SqlError {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl SqlError {
    fn new(code: PgSqlErrorCode, message: impl Into<String>) -> SqlError {
        SqlError {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> SqlError {
        self.detail = Some(detail.into());
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    /// Adds which element of an array argument it was, counted from 1 as SQL does.
    pub(crate) fn at_element(mut self, position: usize) -> SqlError {
        let place = format!("This is element {position} of the array.");
        self.detail = Some(match self.detail {
            Some(detail) if detail.ends_with('.') => format!("{detail} {place}"),
            Some(detail) => format!("{detail}. {place}"),
            None => place,
        });
        self
    }

    /// Message and detail in one line, for a column that a person reads.
    pub(crate) fn summary(&self) -> String {
        let parts = [Some(self.message.as_str()), self.detail.as_deref()];
        to_database(&parts.into_iter().flatten().collect::<Vec<_>>().join(": "))
    }

    /// Message, detail and hint in one line, for a column that a person reads.
    pub(crate) fn sentence(self) -> String {
        let explanation = [self.detail, self.hint]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        to_database(&[self.message, explanation.join(" ")].join(": "))
    }

    /// Raises it. Values of the callers are dropped while the stack unwinds.
    pub(crate) fn raise(self) -> ! {
        self.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    /// Tells it and goes on.
    pub(crate) fn notice(self) {
        self.report(PgLogLevel::NOTICE);
    }

    fn report(self, level: PgLogLevel) {
        let message = to_database(&self.message);
        let mut report = ErrorReport::new(self.code, message, function_name!());
        if let Some(detail) = self.detail {
            report = report.set_detail(to_database(&detail));
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(to_database(&hint));
        }
        report.report(level);
    }
}

/// A DETAIL is a sentence.
fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
