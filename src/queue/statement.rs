//! One SQL statement with arguments, and its rows, by SPI.
//!
//! Used by the queue alone. Text stays bytes in the database's encoding on both ways: keys and
//! sources of a LATIN1 database are none of pgrx's UTF-8 strings.

use std::ffi::CString;

use pgrx::{FromDatum, IntoDatum, pg_sys};

/// An argument, as its SQL type.
pub(super) enum Value<'a> {
    /// text
    Text(&'a [u8]),
    /// text, or NULL
    MaybeText(Option<&'a [u8]>),
    /// text[]
    Texts(Vec<Option<&'a [u8]>>),
    /// bytea[]
    Bytes(Vec<Option<&'a [u8]>>),
    /// bigint, or NULL
    Integer(Option<i64>),
    /// double precision
    Float(f64),
    /// boolean
    Boolean(bool),
    /// oid
    Oid(pg_sys::Oid),
}

/// Runs the statement in an SPI connection of its own and gives what `read` makes of each row.
///
/// Raises PostgreSQL's errors.
pub(super) fn execute<T>(
    sql: impl Into<Vec<u8>>,
    arguments: &[Value],
    mut read: impl FnMut(&Row) -> T,
) -> Vec<T> {
    let sql = CString::new(sql).expect("SQL has no NUL");
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(Value::sql_type).collect();
    // SAFETY: main thread, inside a transaction. SPI_connect switches to a memory context that
    // SPI_finish frees, with the arguments in it; the arrays given are as long as the count says.
    unsafe {
        assert_eq!(pg_sys::SPI_connect() as u32, pg_sys::SPI_OK_CONNECT);
        let given: Vec<Option<pg_sys::Datum>> =
            arguments.iter().map(|value| value.datum()).collect();
        let nulls: Vec<u8> = given
            .iter()
            .map(|datum| if datum.is_none() { b'n' } else { b' ' })
            .collect();
        let mut datums: Vec<pg_sys::Datum> = given
            .into_iter()
            .map(|datum| datum.unwrap_or(pg_sys::Datum::from(0)))
            .collect();
        let status = pg_sys::SPI_execute_with_args(
            sql.as_ptr(),
            arguments.len() as i32,
            types.as_mut_ptr(),
            datums.as_mut_ptr(),
            nulls.as_ptr().cast(),
            false,
            0,
        );
        assert!(status >= 0, "SPI_execute_with_args gave {status}");
        let mut rows = Vec::new();
        if !pg_sys::SPI_tuptable.is_null() {
            let table = &*pg_sys::SPI_tuptable;
            for index in 0..table.numvals as usize {
                rows.push(read(&Row {
                    tuple: *table.vals.add(index),
                    descriptor: table.tupdesc,
                }));
            }
        }
        pg_sys::SPI_finish();
        rows
    }
}

impl Value<'_> {
    fn sql_type(&self) -> pg_sys::Oid {
        match self {
            Value::Text(_) | Value::MaybeText(_) => pg_sys::TEXTOID,
            Value::Texts(_) => pg_sys::TEXTARRAYOID,
            Value::Bytes(_) => pg_sys::BYTEAARRAYOID,
            Value::Integer(_) => pg_sys::INT8OID,
            Value::Float(_) => pg_sys::FLOAT8OID,
            Value::Boolean(_) => pg_sys::BOOLOID,
            Value::Oid(_) => pg_sys::OIDOID,
        }
    }

    /// # Safety
    /// Main thread; the result lives in the current memory context.
    unsafe fn datum(&self) -> Option<pg_sys::Datum> {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Value::Text(bytes) => Some(varlena(bytes)),
                Value::MaybeText(bytes) => bytes.map(|bytes| varlena(bytes)),
                Value::Texts(items) => Some(array(items, pg_sys::TEXTOID)),
                Value::Bytes(items) => Some(array(items, pg_sys::BYTEAOID)),
                Value::Integer(number) => number.and_then(IntoDatum::into_datum),
                Value::Float(number) => number.into_datum(),
                Value::Boolean(flag) => flag.into_datum(),
                Value::Oid(oid) => oid.into_datum(),
            }
        }
    }
}

/// text and bytea have one layout.
unsafe fn varlena(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: pointer and length describe `bytes`, which are copied.
    let copy =
        unsafe { pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32) };
    pg_sys::Datum::from(copy)
}

unsafe fn array(items: &[Option<&[u8]>], element: pg_sys::Oid) -> pg_sys::Datum {
    let mut nulls: Vec<bool> = items.iter().map(Option::is_none).collect();
    let (mut length, mut lower_bound) = (items.len() as i32, 1);
    // SAFETY: elements and flags are as many as `length` says; both element types are varlenas
    // aligned as int. An array of no element has no dimension.
    unsafe {
        let mut elements: Vec<pg_sys::Datum> = items
            .iter()
            .map(|item| item.map_or(pg_sys::Datum::from(0), |bytes| varlena(bytes)))
            .collect();
        pg_sys::Datum::from(pg_sys::construct_md_array(
            elements.as_mut_ptr(),
            nulls.as_mut_ptr(),
            i32::from(length > 0),
            &mut length,
            &mut lower_bound,
            element,
            -1,
            false,
            b'i' as std::ffi::c_char,
        ))
    }
}

/// A row of the result; columns count from 1.
pub(super) struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = true;
        // SAFETY: a tuple of the result that SPI still holds, with its descriptor.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// A text or bytea column, copied.
    pub(super) fn bytes(&self, column: i32) -> Option<Vec<u8>> {
        // SAFETY: the statement gives text or bytea there.
        self.datum(column)
            .and_then(|datum| unsafe { <&[u8]>::from_datum(datum, false) })
            .map(<[u8]>::to_vec)
    }

    /// A text[] column without NULLs, copied.
    pub(super) fn texts(&self, column: i32) -> Vec<Vec<u8>> {
        // SAFETY: the statement gives text[] there.
        self.datum(column)
            .and_then(|datum| unsafe { pgrx::Array::<&[u8]>::from_datum(datum, false) })
            .map(|array| array.iter().flatten().map(<[u8]>::to_vec).collect())
            .unwrap_or_default()
    }

    /// A bigint column.
    pub(super) fn integer(&self, column: i32) -> Option<i64> {
        // SAFETY: the statement gives bigint there.
        self.datum(column)
            .and_then(|datum| unsafe { i64::from_datum(datum, false) })
    }

    /// A boolean column; NULL is false.
    pub(super) fn boolean(&self, column: i32) -> bool {
        // SAFETY: the statement gives boolean there.
        self.datum(column)
            .and_then(|datum| unsafe { bool::from_datum(datum, false) })
            .unwrap_or_default()
    }

    /// An oid column.
    pub(super) fn oid(&self, column: i32) -> pg_sys::Oid {
        // SAFETY: the statement gives oid there.
        self.datum(column)
            .and_then(|datum| unsafe { pg_sys::Oid::from_datum(datum, false) })
            .unwrap_or(pg_sys::InvalidOid)
    }
}
