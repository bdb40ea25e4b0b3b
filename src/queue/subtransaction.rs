//! Trying SQL that may fail for one row's sake, without losing the transaction.
//!
//! Used where a user's expression, constraint or trigger runs. A cancel or a termination goes on.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use super::time_limit::TimeLimit;
use crate::error::SqlError;

/// What SQL failed with.
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) cause: Cause,
}

/// Whose doing a failure was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// What the SQL was about.
    Row,
    /// Others': a deadlock, a conflict, a lock that could not be had.
    Conflict,
    /// It had no more time.
    Time,
}

/// Runs `work` in a subtransaction, which an error rolls back, be it raised or given, as does the end of the time that is given.
///
/// # Errors
/// What `work` gave, and what PostgreSQL raised, but for cancel and termination, which are raised again.
pub(super) fn attempt<T>(
    within: Option<Duration>,
    work: impl FnOnce() -> Result<T, SqlError>,
) -> Result<T, Failure> {
    // SAFETY: inside a transaction; the context and the owner outlive the subtransaction.
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(before.0);
        before
    };
    let limit = within.map(TimeLimit::begin);
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work();
        // SAFETY: ends the subtransaction that was begun above.
        unsafe {
            match &result {
                Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
                Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
            }
        }
        Ok(result)
    }))
    .catch_others(|error| {
        // SAFETY: as above; the error was taken out of PostgreSQL's stack by pgrx.
        unsafe {
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        Err(Box::new(error))
    })
    .execute();
    // SAFETY: both live on, as PL/pgSQL's own exception blocks rely on.
    unsafe {
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    let is_over = limit.is_some_and(TimeLimit::end);
    match result {
        Ok(result) => result.map_err(|error| Failure {
            message: error.sentence(),
            cause: Cause::Row,
        }),
        Err(error) => Err(failure(*error, is_over)),
    }
}

fn failure(error: CaughtError, is_over: bool) -> Failure {
    let CaughtError::PostgresError(report) = &error else {
        error.rethrow()
    };
    let cause = match report.sql_error_code() {
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED if is_over => Cause::Time,
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED
        | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
        | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
        | PgSqlErrorCode::ERRCODE_DATABASE_DROPPED => error.rethrow(),
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE
        | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        | PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => Cause::Conflict,
        _ => Cause::Row,
    };
    let message = match report.detail() {
        Some(detail) if !shows_the_row(report.sql_error_code()) => {
            format!("{}: {detail}", report.message())
        }
        _ => report.message().to_owned(),
    };
    Failure { message, cause }
}

/// Whether the DETAIL of such an error is the row or its key, as of all violated constraints: errors are read by roles that
/// may not read the table.
fn shows_the_row(code: PgSqlErrorCode) -> bool {
    const CLASS: i32 = (1 << 12) - 1;
    code as i32 & CLASS == PgSqlErrorCode::ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION as i32
}
