//! Arguments and results of type `multivector`.
//!
//! A stored value is validated before use, always: [`Multivector::view`] is the only way to its
//! numbers, and corrupt bytes are an error (XX001) and never a crash.

use multivector::{ElementType, Shape, View, encode_into, encoded_size};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::{datum::Datum, pg_sys};

use crate::detoast::Detoasted;
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::sql_type::sql_type;
use crate::varlena;

/// An argument.
pub(crate) struct Multivector(Detoasted);

impl Multivector {
    /// # Safety
    /// `datum` is a non-null multivector that stays valid while the result lives.
    pub(crate) unsafe fn from_datum(datum: pg_sys::Datum) -> Multivector {
        // SAFETY: the caller vouches for it.
        Multivector(unsafe { Detoasted::new(datum) })
    }

    /// The value, its header and length checked.
    ///
    /// # Errors
    /// XX001.
    pub(crate) fn view(&self) -> Result<View<'_>, SqlError> {
        View::parse(self.0.bytes())
            .map_err(|corrupt| SqlError::from(multivector::Error::Corrupt(corrupt)))
    }

    pub(crate) fn detoasted(&self) -> &Detoasted {
        &self.0
    }

    /// The same value as a result.
    pub(crate) fn into_stored(self) -> Stored {
        Stored(self.0.into_datum())
    }
}

// SAFETY: the SQL declarations give only multivectors to arguments of this type, in STRICT functions.
unsafe impl<'fcx> ArgAbi<'fcx> for Multivector {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as said above.
        Multivector(unsafe { arg.unbox_unchecked() })
    }
}

/// A result: a whole varlena in the current memory context.
pub(crate) struct Stored(pg_sys::Datum);

impl Stored {
    /// Encodes row-major values straight into PostgreSQL's memory.
    ///
    /// # Errors
    /// Those of [`encode_into`].
    pub(crate) fn encode(
        values: &[f32],
        shape: Shape,
        element: ElementType,
    ) -> Result<Stored, SqlError> {
        let (datum, out) = varlena::allocate(encoded_size(element, shape)?);
        encode_into(values, shape, element, out, &mut poll)?;
        Ok(Stored(datum))
    }

    /// A copy of encoded bytes.
    pub(crate) fn copy(bytes: &[u8]) -> Stored {
        Stored(varlena::copy(bytes))
    }

    pub(crate) fn into_datum(self) -> pg_sys::Datum {
        self.0
    }
}

// SAFETY: returns a multivector datum in the caller's memory context.
unsafe impl BoxRet for Stored {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: a whole varlena (see the makers above).
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

sql_type!(Multivector, "multivector");
sql_type!(Stored, "multivector");
