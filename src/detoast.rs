//! The one detoast: a varlena argument in the form in which it can be read.
//!
//! Used by `matrix` and `multivector`. Values as tables hold them have short headers, are compressed
//! or lie in TOAST; whatever copy that takes is made once here and freed when dropped.

use std::ptr::NonNull;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;

use crate::sql_type::sql_type;

/// A varlena with a 4-byte header, aligned as its type says.
pub(crate) struct Detoasted {
    start: NonNull<pg_sys::varlena>,
    is_copy: bool,
}

impl Detoasted {
    /// # Safety
    /// `datum` is a non-null datum of a varlena type that stays valid while the result lives.
    pub(crate) unsafe fn new(datum: pg_sys::Datum) -> Detoasted {
        let stored: *mut pg_sys::varlena = datum.cast_mut_ptr();
        // SAFETY: the caller vouches for the datum. The result is aligned: either a palloc'd copy,
        // or a plain value, which tuples store at its type's alignment.
        let start = unsafe { pg_sys::pg_detoast_datum(stored) };
        Detoasted {
            start: NonNull::new(start).expect("detoasting gives no null pointer"),
            is_copy: start != stored,
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut pg_sys::varlena {
        self.start.as_ptr()
    }

    /// The bytes after the length word.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: a whole varlena with a 4-byte header (see `new`).
        unsafe { pgrx::varlena_to_byte_slice(self.start.as_ptr()) }
    }

    /// The datum, for handing the value on as it is. Gives up the copy to its memory context.
    pub(crate) fn into_datum(self) -> pg_sys::Datum {
        let datum = pg_sys::Datum::from(self.start.as_ptr());
        std::mem::forget(self);
        datum
    }
}

impl Drop for Detoasted {
    fn drop(&mut self) {
        if self.is_copy {
            // SAFETY: palloc'd by pg_detoast_datum for us alone; borrows end with `self`.
            unsafe { pg_sys::pfree(self.start.as_ptr().cast()) }
        }
    }
}

/// A datum as it stands, to take an argument apart ourselves.
pub(crate) struct RawDatum(pub(crate) pg_sys::Datum);

impl pgrx::FromDatum for RawDatum {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then_some(RawDatum(datum))
    }
}

// SAFETY: only functions that SQL declares STRICT take this.
unsafe impl<'fcx> ArgAbi<'fcx> for RawDatum {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as said above.
        let datum = unsafe { arg.unbox_arg_using_from_datum::<RawDatum>() };
        datum.expect("a strict function gets no NULL")
    }
}

sql_type!(RawDatum, "internal");

// SAFETY: only functions that SQL declares STRICT, with arguments of varlena types, take this.
unsafe impl<'fcx> ArgAbi<'fcx> for Detoasted {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as said above.
        unsafe {
            let datum = arg.unbox_arg_using_from_datum::<RawDatum>();
            Detoasted::new(datum.expect("a strict function gets no NULL").0)
        }
    }
}
