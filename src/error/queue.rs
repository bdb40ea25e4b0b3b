//! Errors of the queue's entry points.

use pgrx::pg_sys::panic::ErrorReportWithLevel;
use pgrx::{PgSqlErrorCode as Code, pg_sys};

use std::time::Duration;

use super::SqlError;

impl SqlError {
    pub(crate) fn null_argument(names: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{names} must not be null"),
        )
    }

    pub(crate) fn no_such_table(relation: pg_sys::Oid) -> SqlError {
        SqlError::new(
            Code::ERRCODE_UNDEFINED_TABLE,
            format!("relation with OID {} does not exist", relation.to_u32()),
        )
    }

    pub(crate) fn not_the_owner(table: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("must be owner of table {table}"),
        )
    }

    pub(crate) fn not_a_source(table: &str, reason: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("source must be an expression over columns of {table} that a row alone decides"),
        )
        .detail(reason)
        .hint("Name a column, or write an expression such as concat_ws(E'\\n', title, body); its functions must be STABLE or IMMUTABLE.")
    }

    /// PostgreSQL's error, and the character of the source, counted from 1, that it is about.
    pub(crate) fn at_character(report: &ErrorReportWithLevel, place: usize) -> SqlError {
        let place = format!("This is at character {place} of the source.");
        SqlError {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
            detail: Some(match report.detail() {
                Some(detail) => format!("{detail} {place}"),
                None => place,
            }),
            hint: report.hint().map(str::to_owned),
        }
    }

    pub(crate) fn source_of_type(name: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!("source is of type {name}, not text or bytea"),
        )
    }

    pub(crate) fn not_vectors(bytes: usize, dim: i32) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{bytes} bytes are not vectors of {dim} dimensions"),
        )
    }

    pub(crate) fn in_a_transaction() -> SqlError {
        SqlError::new(
            Code::ERRCODE_INVALID_TRANSACTION_TERMINATION,
            "infinity_embed.process_queue() cannot run inside a transaction block",
        )
        .detail("It commits between batches, so that no transaction is open while the Infinity server works.")
        .hint("Call it by itself, not from a function or between BEGIN and COMMIT.")
    }

    pub(crate) fn table_locked(table: &str, waited: Duration) -> SqlError {
        SqlError::new(
            Code::ERRCODE_LOCK_NOT_AVAILABLE,
            format!("could not lock table {table} within {} ms", waited.as_millis()),
        )
        .detail("Another transaction has it, as ALTER TABLE, CREATE INDEX, TRUNCATE and auto_embed() do to their ends.")
    }

    pub(crate) fn rows_locked(what: &str, table: &str, why: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_LOCK_NOT_AVAILABLE,
            format!("{what} of rows of table {table} needs a lock that others hold"),
        )
        .detail(why)
    }

    pub(crate) fn too_slow(what: &str, table: &str, limit: Duration) -> SqlError {
        SqlError::new(
            Code::ERRCODE_QUERY_CANCELED,
            format!(
                "{what} of table {table} took longer than {} s",
                limit.as_secs_f64()
            ),
        )
        .detail("A worker gives the table's own expressions and triggers no more time than this.")
    }

    pub(crate) fn endless(what: &str, table: &str, limit: Duration) -> SqlError {
        SqlError::too_slow(what, table, limit)
            .detail("It caught its cancel and went on, so that the worker had to end with it.")
            .hint("Let QUERY_CANCELED pass in the table's triggers and functions.")
    }

    pub(crate) fn not_lockable(table: &str, why: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("could not lock table {table} as its owner"),
        )
        .detail(why)
    }

    pub(crate) fn source_changes(table: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            format!(
                "a trigger of table {table} changes the source whenever the embedding is written"
            ),
        )
        .detail("The row would be embedded without end.")
        .hint("Leave what the trigger changes out of the source.")
    }

    pub(crate) fn row_not_written() -> SqlError {
        SqlError::new(
            Code::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
            "the row's own trigger kept the embedding from being written",
        )
    }
}
