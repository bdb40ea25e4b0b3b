//! Text and binary input and output of `multivector`.

use std::ffi::CStr;
use std::fmt;

use multivector::{ElementType, View, binary, text};
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::{datum::Datum, fcinfo, pg_extern, pg_sys};

use super::cast::fit;
use super::datum::{Multivector, Stored};
use super::typmod::modifier;
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::sql_type::sql_type;
use crate::varlena;

#[pg_extern(sql = false)]
fn multivector_in(input: &CStr, _type_oid: pg_sys::Oid, typmod: i32) -> Stored {
    read(input, typmod).unwrap_or_else(|error| error.raise())
}

fn read(input: &CStr, typmod: i32) -> Result<Stored, SqlError> {
    let modifier = modifier(typmod)?;
    let text = text::parse(input.to_bytes(), &mut poll)?;
    let (values, shape) = text.rows.rows()?;
    let Some(modifier) = modifier else {
        return Stored::encode(values, shape, text.element);
    };
    modifier.check(shape)?;
    if text.element == ElementType::F32 || text.element == modifier.element {
        return Stored::encode(values, shape, modifier.element);
    }
    // As if it had been read first and then assigned to the column: rounded twice.
    let bytes = text.finish(&mut poll)?;
    fit(
        View::parse(&bytes).map_err(multivector::Error::Corrupt)?,
        modifier,
    )
}

#[pg_extern(sql = false)]
fn multivector_out(value: Multivector) -> Printed {
    let mut printed = Printed::new();
    let outcome = value
        .view()
        .and_then(|view| Ok(text::print(view, &mut printed, &mut poll)?));
    outcome.unwrap_or_else(|error| error.raise());
    printed
}

#[pg_extern(sql = false)]
fn multivector_send(value: Multivector) -> Sent {
    let sent = value.view().and_then(|view| {
        let (datum, out) = varlena::allocate(view.bytes().len());
        binary::send(view, out, &mut poll)?;
        Ok(Sent(datum))
    });
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
    let bytes = binary::receive(message, &mut poll)?;
    let view = View::parse(&bytes).map_err(multivector::Error::Corrupt)?;
    match modifier {
        None => Ok(Stored::copy(&bytes)),
        Some(modifier) => fit(view, modifier),
    }
}

/// A C string that grows in PostgreSQL's memory, where it is not copied when it is returned.
struct Printed(pg_sys::StringInfo);

impl Printed {
    fn new() -> Printed {
        // SAFETY: allocates in the current memory context.
        Printed(unsafe { pg_sys::makeStringInfo() })
    }
}

impl fmt::Write for Printed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: a StringInfo of ours; pointer and length of one string, which `print` keeps below 1 GB in all.
        unsafe {
            pg_sys::appendBinaryStringInfo(self.0, text.as_ptr().cast(), text.len() as i32);
        }
        Ok(())
    }
}

// SAFETY: returns a string that ends with a zero, in the caller's memory context.
unsafe impl BoxRet for Printed {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: PostgreSQL keeps a zero after what was appended.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from((*self.0).data)) }
    }
}

/// A `bytea`.
struct Sent(pg_sys::Datum);

// SAFETY: returns a bytea in the caller's memory context.
unsafe impl BoxRet for Sent {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: a whole varlena (see `multivector_send`).
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

sql_type!(Printed, "cstring");
sql_type!(Sent, "bytea");
