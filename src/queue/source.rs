//! What the source of `auto_embed()` is made of, as PostgreSQL's own parser has it.
//!
//! Used by [`super::auto_embed`]. Not obvious: an expression is prepared as the one column of a query of its
//! table, which is never run; and what was prepared is looked at, so that a text which is more than one
//! expression is found out.

use std::ffi::{CStr, CString, c_int, c_void};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgList, PgTryBuilder, pg_sys};

use super::statement::{Value, execute};
use crate::error::SqlError;
use crate::role::as_role;

const BEFORE_SOURCE: &str = "SELECT (";

/// A source that can be embedded.
pub(super) struct Definition {
    /// SQL over the table's row.
    pub(super) expression: Vec<u8>,
    /// Names of the columns in it.
    pub(super) columns: Vec<Vec<u8>>,
    pub(super) is_image: bool,
}

/// Looks a column up, or takes an expression apart, as the caller but with our search_path: with it the expression
/// is evaluated later.
///
/// # Errors
/// What PostgreSQL's parser raises; 22023 where it is no expression that the row alone decides, 42804 where it is
/// neither text nor bytea.
pub(super) fn define(relation: pg_sys::Oid, source: &[u8]) -> Result<Definition, SqlError> {
    // SAFETY: reads who the session is at present.
    let caller = unsafe { pg_sys::GetUserId() };
    as_role(caller, || {
        let column = execute(
            "SELECT quote_ident(a.attname), a.atttypid FROM pg_attribute AS a
             WHERE a.attrelid = $1 AND a.attname::text COLLATE \"C\" = $2 AND a.attnum > 0 AND NOT a.attisdropped",
            &[Value::Oid(relation), Value::Text(source)],
            |row| (row.bytes(1).unwrap_or_default(), row.oid(2)),
        )
        .pop();
        let (expression, columns, type_oid) = match column {
            Some((name, type_oid)) => (name, vec![source.to_vec()], type_oid),
            None => {
                let (columns, type_oid) = take_apart(relation, source)?;
                // A comment in it ends with its line.
                (
                    [b"(".as_slice(), source, b"\n)"].concat(),
                    columns,
                    type_oid,
                )
            }
        };
        Ok(Definition {
            expression,
            columns,
            is_image: is_image(type_oid)?,
        })
    })
}

/// The columns in an expression, and its type.
fn take_apart(
    relation: pg_sys::Oid,
    source: &[u8],
) -> Result<(Vec<Vec<u8>>, pg_sys::Oid), SqlError> {
    let table = execute(
        "SELECT $1::regclass::text",
        &[Value::Oid(relation)],
        |row| row.bytes(1),
    )
    .pop()
    .flatten()
    .unwrap_or_default();
    let query = [
        BEFORE_SOURCE.as_bytes(),
        source,
        b"\n) AS source FROM ONLY ",
        &table,
        b" AS t",
    ]
    .concat();
    let query = CString::new(query).expect("text has no NUL");
    // SAFETY: main thread, inside a transaction. The plan belongs to the connection, which SPI_finish closes after
    // everything in it has been looked at.
    let found = unsafe {
        assert_eq!(pg_sys::SPI_connect() as u32, pg_sys::SPI_OK_CONNECT);
        let plan = prepare(&query)?;
        let found = match plan.is_null() {
            true => Err("It is not one expression."),
            false => only_expression(plan, relation)
                .and_then(|expression| columns_of(expression, relation)),
        };
        pg_sys::SPI_finish();
        found
    };
    found.map_err(|reason| SqlError::not_a_source(&String::from_utf8_lossy(&table), reason))
}

/// The query's plan. An error of PostgreSQL's becomes ours, because on its way through pgrx it loses the place.
///
/// # Safety
/// In an SPI connection, which an error leaves to the abort of the transaction.
unsafe fn prepare(query: &CStr) -> Result<pg_sys::SPIPlanPtr, SqlError> {
    let mut place: c_int = 0;
    // SAFETY: the callback and what it writes to live until it is taken off the stack again.
    let prepared = unsafe {
        let mut callback = pg_sys::ErrorContextCallback {
            previous: pg_sys::error_context_stack,
            callback: Some(note_place),
            arg: (&raw mut place).cast(),
        };
        pg_sys::error_context_stack = &raw mut callback;
        let prepared = PgTryBuilder::new(AssertUnwindSafe(|| {
            Ok(pg_sys::SPI_prepare(query.as_ptr(), 0, std::ptr::null_mut()))
        }))
        .catch_others(|error| Err(Box::new(error)))
        .execute();
        pg_sys::error_context_stack = callback.previous;
        prepared
    };
    prepared.map_err(|error| match *error {
        CaughtError::PostgresError(report) if place > BEFORE_SOURCE.len() as c_int => {
            SqlError::at_character(&report, place as usize - BEFORE_SOURCE.len())
        }
        other => other.rethrow(),
    })
}

/// Keeps where in the query an error is, which SPI knows before we are asked.
unsafe extern "C-unwind" fn note_place(place: *mut c_void) {
    // SAFETY: what `prepare` gave; called while an error is being reported.
    unsafe { *place.cast::<c_int>() = pg_sys::getinternalerrposition() };
}

/// The one expression that the query gives; an error says what else there is.
///
/// # Safety
/// A plan of the open SPI connection.
unsafe fn only_expression(
    plan: pg_sys::SPIPlanPtr,
    relation: pg_sys::Oid,
) -> Result<*mut pg_sys::Node, &'static str> {
    const OTHER: &str = "It is not one expression.";
    // SAFETY: a plan's sources are CachedPlanSource, whose queries are Query, as analysis left them.
    unsafe {
        let sources =
            PgList::<pg_sys::CachedPlanSource>::from_pg(pg_sys::SPI_plan_get_plan_sources(plan));
        let (Some(source), 1) = (sources.get_ptr(0), sources.len()) else {
            return Err(OTHER);
        };
        let queries = PgList::<pg_sys::Query>::from_pg((*source).query_list);
        let (Some(query), 1) = (queries.get_ptr(0), queries.len()) else {
            return Err(OTHER);
        };
        let query = &*query;
        let tables = PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable);
        let outputs = PgList::<pg_sys::TargetEntry>::from_pg(query.targetList);
        let (Some(table), 1, Some(output), 1) = (
            tables.get_ptr(0),
            tables.len(),
            outputs.get_ptr(0),
            outputs.len(),
        ) else {
            return Err(OTHER);
        };
        if query.commandType != pg_sys::CmdType::CMD_SELECT || (*table).relid != relation {
            return Err(OTHER);
        }
        let expression = (*output).expr.cast::<pg_sys::Node>();
        if query.hasAggs {
            Err("It contains an aggregate.")
        } else if query.hasWindowFuncs {
            Err("It contains a window function.")
        } else if query.hasTargetSRFs {
            Err("It contains a set-returning function.")
        } else if pg_sys::contain_subplans(expression) {
            Err("It contains a subquery.")
        } else {
            Ok(expression)
        }
    }
}

/// # Safety
/// An expression of the open SPI connection, over the table that is its query's first.
unsafe fn columns_of(
    expression: *mut pg_sys::Node,
    relation: pg_sys::Oid,
) -> Result<(Vec<Vec<u8>>, pg_sys::Oid), &'static str> {
    let mut numbers = std::ptr::null_mut();
    let mut columns = Vec::new();
    // SAFETY: as the caller says; the set counts from the first system column on, and a name that is found is
    // NUL-terminated.
    unsafe {
        if pg_sys::contain_volatile_functions(expression) {
            return Err("It calls a volatile function.");
        }
        pg_sys::pull_varattnos(expression, 1, &mut numbers);
        let mut member = pg_sys::bms_next_member(numbers, -1);
        while member >= 0 {
            let number = member + pg_sys::FirstLowInvalidHeapAttributeNumber;
            match number {
                0 => return Err("It contains the whole row."),
                ..0 => return Err("It contains a system column."),
                1.. => {
                    let name = pg_sys::get_attname(relation, number as pg_sys::AttrNumber, false);
                    columns.push(CStr::from_ptr(name).to_bytes().to_vec());
                }
            }
            member = pg_sys::bms_next_member(numbers, member);
        }
        if columns.is_empty() {
            return Err("It contains no column.");
        }
        Ok((columns, pg_sys::exprType(expression)))
    }
}

/// Whether bytes are embedded rather than text.
fn is_image(type_oid: pg_sys::Oid) -> Result<bool, SqlError> {
    const STRINGS: u8 = b'S';
    // SAFETY: main thread; catalog lookups, the last of which gives a NUL-terminated name.
    unsafe {
        let base = pg_sys::getBaseType(type_oid);
        if base == pg_sys::BYTEAOID {
            Ok(true)
        } else if pg_sys::TypeCategory(base) as u8 == STRINGS {
            Ok(false)
        } else {
            let name = CStr::from_ptr(pg_sys::format_type_be(type_oid));
            Err(SqlError::source_of_type(&name.to_string_lossy()))
        }
    }
}
