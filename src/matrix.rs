//! `real[][]` in and out: a matrix of token vectors, borrowed from PostgreSQL's array in place.
//!
//! Used by `maxsim` and by everything that returns an embedding. pgrx's own borrowed arrays do not
//! survive values as tables hold them (short headers, compressed, external), so the one detoast,
//! the checks and the borrow stand here.

use std::borrow::Cow;
use std::ptr::NonNull;

use infinity_client::MultiVector;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{IntoDatum, datum::Datum, pg_sys};

use crate::error::SqlError;

/// `MaxAllocSize`: no PostgreSQL value is larger.
const MAX_VALUE_BYTES: usize = 0x3fff_ffff;

/// A two-dimensional array argument: `tokens × dim`, row-major.
///
/// Owns the detoasted copy where one had to be made and frees it when dropped.
pub(crate) struct Matrix {
    array: NonNull<pg_sys::ArrayType>,
    is_copy: bool,
}

impl Matrix {
    /// # Safety
    /// `datum` is a non-null array datum that stays valid while the matrix lives.
    unsafe fn from_datum(datum: pg_sys::Datum) -> Matrix {
        let stored: *mut pg_sys::varlena = datum.cast_mut_ptr();
        // SAFETY: the caller vouches for the datum. The result is aligned: either a palloc'd copy,
        // or a plain value, which tuples store at its type's alignment.
        let array = unsafe { pg_sys::pg_detoast_datum(stored) };
        Matrix {
            array: NonNull::new(array.cast()).expect("detoasting gives no null pointer"),
            is_copy: array != stored,
        }
    }

    /// The values as `real`, borrowed where the array holds `real`, converted from
    /// `double precision`; and the dimension.
    ///
    /// # Errors
    /// 22000 where the array is not two-dimensional or is empty, 22004 for NULL elements, 22003 for
    /// a double that `real` cannot hold. NaN and infinity are the caller's to look for.
    pub(crate) fn values(&self, role: &'static str) -> Result<(Cow<'_, [f32]>, usize), SqlError> {
        // SAFETY: `array` points to a whole detoasted ArrayType (see `from_datum`).
        let (dimensions, has_nulls, element_type) = unsafe {
            let array = self.array.as_ptr();
            (
                self.dimensions(),
                (*array).dataoffset != 0,
                (*array).elemtype,
            )
        };
        let &[tokens, dim] = dimensions else {
            return Err(SqlError::not_two_dimensional(role, dimensions.len()));
        };
        if has_nulls && self.contains_null() {
            return Err(SqlError::null_element(role));
        }
        let count = tokens as usize * dim as usize;
        let values = match element_type {
            // SAFETY: without NULLs the array holds `count` aligned elements of its type at the
            // data pointer; `array_check` of every PostgreSQL constructor vouches for the size,
            // which is checked against the varlena's once more.
            pg_sys::FLOAT4OID => Cow::Borrowed(unsafe { self.elements::<f32>(count)? }),
            // SAFETY: as above.
            pg_sys::FLOAT8OID => Cow::Owned(narrow(unsafe { self.elements::<f64>(count)? }, role)?),
            other => return Err(SqlError::not_a_float_array(role, other)),
        };
        Ok((values, dim as usize))
    }

    fn dimensions(&self) -> &[i32] {
        // SAFETY: ARR_DIMS follows the fixed header and has `ndim` entries.
        unsafe {
            let array = self.array.as_ptr();
            let lengths = array.add(1).cast::<i32>();
            std::slice::from_raw_parts(lengths, (*array).ndim.max(0) as usize)
        }
    }

    fn contains_null(&self) -> bool {
        // SAFETY: a whole detoasted array.
        unsafe { pg_sys::array_contains_nulls(self.array.as_ptr()) }
    }

    /// # Safety
    /// The array's element type has the layout of `T`, and it has no NULLs.
    unsafe fn elements<T>(&self, count: usize) -> Result<&[T], SqlError> {
        // SAFETY: the header is whole (see `from_datum`).
        let (size, offset) = unsafe {
            let array = self.array.as_ptr();
            let offset = match (*array).dataoffset {
                // ARR_OVERHEAD_NONULLS
                0 => (size_of::<pg_sys::ArrayType>() + 8 * (*array).ndim as usize)
                    .next_multiple_of(8),
                with_nulls => with_nulls as usize,
            };
            (pgrx::varsize_4b(array.cast()), offset)
        };
        if offset + count * size_of::<T>() > size {
            return Err(SqlError::corrupt_array(
                count * size_of::<T>() + offset,
                size,
            ));
        }
        // SAFETY: in bounds by the check above, MAXALIGNed offset into an aligned value.
        Ok(unsafe {
            std::slice::from_raw_parts(self.array.as_ptr().cast::<u8>().add(offset).cast(), count)
        })
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        if self.is_copy {
            // SAFETY: palloc'd by pg_detoast_datum for us alone; `values` borrows `self`.
            unsafe { pg_sys::pfree(self.array.as_ptr().cast()) }
        }
    }
}

fn narrow(values: &[f64], role: &'static str) -> Result<Vec<f32>, SqlError> {
    values
        .iter()
        .map(|&value| {
            let narrowed = value as f32;
            if narrowed.is_infinite() && value.is_finite() {
                Err(SqlError::out_of_range(role, value))
            } else {
                Ok(narrowed)
            }
        })
        .collect()
}

/// An embedding on its way out: becomes a two-dimensional `real[]`.
pub(crate) struct RealArray(pub(crate) std::rc::Rc<MultiVector>);

impl RealArray {
    /// Builds the array in the current memory context.
    fn build(&self) -> Result<NonNull<pg_sys::ArrayType>, SqlError> {
        const OVERHEAD: usize = (size_of::<pg_sys::ArrayType>() + 2 * 8).next_multiple_of(8);
        let MultiVector {
            values,
            tokens,
            dim,
        } = &*self.0;
        assert_eq!(values.len(), tokens * dim, "the client checks its shapes");
        let size = OVERHEAD + size_of_val(values.as_slice());
        if size > MAX_VALUE_BYTES {
            return Err(SqlError::value_too_large(
                *tokens,
                *dim,
                size,
                MAX_VALUE_BYTES,
            ));
        }
        // SAFETY: `size` bytes are allocated zeroed; the header, two lengths, two lower bounds and
        // the values fill exactly these.
        unsafe {
            let array = pg_sys::palloc0(size).cast::<pg_sys::ArrayType>();
            pgrx::set_varsize_4b(array.cast(), size as i32);
            (*array).ndim = 2;
            (*array).elemtype = pg_sys::FLOAT4OID;
            let shape = array.add(1).cast::<i32>();
            for (slot, number) in [*tokens as i32, *dim as i32, 1, 1].into_iter().enumerate() {
                shape.add(slot).write(number);
            }
            let data = array.cast::<u8>().add(OVERHEAD).cast::<f32>();
            std::ptr::copy_nonoverlapping(values.as_ptr(), data, values.len());
            Ok(NonNull::new_unchecked(array))
        }
    }
}

impl IntoDatum for RealArray {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let array = self.build().unwrap_or_else(|error| error.raise());
        Some(pg_sys::Datum::from(array.as_ptr()))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::FLOAT4ARRAYOID
    }
}

// SAFETY: returns a real[] datum in the caller's memory context.
unsafe impl BoxRet for RealArray {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let array = self.build().unwrap_or_else(|error| error.raise());
        // SAFETY: a freshly built, valid array.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(array.as_ptr())) }
    }
}

// SAFETY: the SQL declarations in sql/20-maxsim.sql give only arrays to arguments of this type.
unsafe impl<'fcx> ArgAbi<'fcx> for Matrix {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: non-null because the functions are STRICT; an array by the declarations.
        unsafe {
            let datum = arg.unbox_arg_using_from_datum::<RawDatum>();
            Matrix::from_datum(datum.expect("a strict function gets no NULL").0)
        }
    }
}

/// A datum as it stands, to take an argument apart ourselves.
struct RawDatum(pg_sys::Datum);

impl pgrx::FromDatum for RawDatum {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then_some(RawDatum(datum))
    }
}

macro_rules! real_array_in_sql {
    ($type:ty) => {
        // SAFETY: describes the SQL type that values of this Rust type have.
        unsafe impl SqlTranslatable for $type {
            const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!($type);
            const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
            const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
                Ok(SqlMappingRef::literal("real[]"));
            const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
                Ok(ReturnsRef::One(SqlMappingRef::literal("real[]")));
        }
    };
}
real_array_in_sql!(Matrix);
real_array_in_sql!(RealArray);
