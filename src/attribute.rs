//! The description of a column, which stands elsewhere since PostgreSQL 18.
//!
//! Used by `trigger` and `index`.

use pgrx::pg_sys;

/// The column with that number, counted from 1.
///
/// # Safety
/// A live descriptor that has the column; the result must not outlive it.
pub(crate) unsafe fn attribute<'row>(
    descriptor: pg_sys::TupleDesc,
    number: i32,
) -> &'row pg_sys::FormData_pg_attribute {
    // SAFETY: the caller vouches for both.
    unsafe {
        #[cfg(feature = "pg18")]
        return &*pg_sys::TupleDescAttr(descriptor, number - 1);
        #[cfg(not(feature = "pg18"))]
        return &(*descriptor).attrs.as_slice((*descriptor).natts as usize)[number as usize - 1];
    }
}
