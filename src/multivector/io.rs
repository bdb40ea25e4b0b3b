//! Text and binary input and output of `multivector`.

use std::ffi::{CStr, CString};

use multivector::{ElementType, View, binary, text};
use pgrx::{fcinfo, pg_extern, pg_sys};

use super::datum::{Multivector, Stored};
use super::typmod::modifier;
use crate::error::SqlError;

#[pg_extern(sql = false)]
fn multivector_in(input: &CStr, _type_oid: pg_sys::Oid, typmod: i32) -> Stored {
    read(input, typmod).unwrap_or_else(|error| error.raise())
}

fn read(input: &CStr, typmod: i32) -> Result<Stored, SqlError> {
    let modifier = modifier(typmod)?;
    let rows = text::parse(&input.to_string_lossy())?;
    let (values, shape) = rows.rows()?;
    if let Some(modifier) = modifier {
        modifier.check(shape)?;
    }
    Stored::encode(
        values,
        shape,
        modifier.map_or(ElementType::F32, |modifier| modifier.element),
    )
}

#[pg_extern(sql = false)]
fn multivector_out(value: Multivector) -> CString {
    let printed = value.view().and_then(|view| Ok(text::print(view)?));
    CString::new(printed.unwrap_or_else(|error| error.raise())).expect("digits have no NUL")
}

#[pg_extern(sql = false)]
fn multivector_send(value: Multivector) -> Vec<u8> {
    let sent = value.view().and_then(|view| Ok(binary::send(view)?));
    sent.unwrap_or_else(|error| error.raise())
}

#[pg_extern(sql = false)]
fn multivector_recv(fcinfo: pg_sys::FunctionCallInfo) -> Stored {
    // SAFETY: SQL declares (internal, oid, integer): the first is PostgreSQL's message buffer.
    let (message, typmod) = unsafe {
        let buffer = fcinfo::pg_getarg_datum(fcinfo, 0).expect("receive functions get a buffer");
        let buffer: *mut pg_sys::StringInfoData = buffer.cast_mut_ptr();
        let rest = (*buffer).len - (*buffer).cursor;
        let start = pg_sys::pq_getmsgbytes(buffer, rest).cast::<u8>();
        let typmod = fcinfo::pg_getarg::<i32>(fcinfo, 2).unwrap_or(-1);
        (std::slice::from_raw_parts(start, rest as usize), typmod)
    };
    receive(message, typmod).unwrap_or_else(|error| error.raise())
}

fn receive(message: &[u8], typmod: i32) -> Result<Stored, SqlError> {
    let modifier = modifier(typmod)?;
    let bytes = binary::receive(message)?;
    let view = View::parse(&bytes).map_err(multivector::Error::Corrupt)?;
    match modifier {
        None => Ok(Stored::copy(&bytes)),
        Some(modifier) => super::cast::fit(view, modifier),
    }
}
