//! Who owns what the queue works on.

use pgrx::pg_sys;

use super::statement::{Value, execute};
use crate::error::SqlError;
use crate::role::as_role;

/// The role that owns the extension, and so the queue.
pub(super) fn extension_owner() -> pg_sys::Oid {
    execute(
        "SELECT extowner FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'infinity_embed'",
        &[],
        |row| row.oid(1),
    )
    .pop()
    .unwrap_or(pg_sys::InvalidOid)
}

/// Runs a query of the queue as the role that owns it; nothing comes of it where the extension was dropped
/// meanwhile.
pub(super) fn as_extension_owner<T>(query: impl FnOnce() -> Vec<T>) -> Vec<T> {
    match extension_owner() {
        pg_sys::InvalidOid => Vec::new(),
        owner => as_role(owner, query),
    }
}

/// Whether the caller owns the table or is a member of the role that does.
///
/// # Errors
/// 42501 with the table's name where not, 42P01 where there is none.
pub(super) fn check_owner(relation: pg_sys::Oid) -> Result<(), SqlError> {
    let found = execute(
        "SELECT c.relname::pg_catalog.text, pg_catalog.pg_has_role(c.relowner, 'USAGE')
         FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[Value::Oid(relation)],
        |row| (row.bytes(1).unwrap_or_default(), row.boolean(2)),
    );
    match found.first() {
        None => Err(SqlError::no_such_table(relation)),
        Some((name, false)) => Err(SqlError::not_the_owner(&String::from_utf8_lossy(name))),
        Some((_, true)) => Ok(()),
    }
}
