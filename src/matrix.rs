//! `real[]` in and out: token vectors borrowed from PostgreSQL's array in place.
//!
//! Used by `maxsim`, by the casts of `multivector` and by everything that returns an embedding.
//! pgrx's own borrowed arrays do not survive values as tables hold them, so the checks and the
//! borrow stand here.

use std::borrow::Cow;
use std::rc::Rc;

use infinity_client::MultiVector;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::{IntoDatum, datum::Datum, pg_sys};

use crate::detoast::Detoasted;
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::sql_type::sql_type;
use crate::varlena::{self, LENGTH_WORD_BYTES, MAX_VALUE_BYTES};

/// Values copied or converted between two looks at interrupts.
const BLOCK: usize = 1 << 16;

/// An array argument: `real[]` or `double precision[]`, as its header says.
pub(crate) struct Matrix(Detoasted);

impl Matrix {
    /// # Safety
    /// `datum` is a non-null array datum that stays valid while the matrix lives.
    pub(crate) unsafe fn from_datum(datum: pg_sys::Datum) -> Matrix {
        // SAFETY: the caller vouches for it.
        Matrix(unsafe { Detoasted::new(datum) })
    }

    pub(crate) fn detoasted(&self) -> &Detoasted {
        &self.0
    }

    /// The values of a two-dimensional array, row-major, and the dimension: borrowed where the
    /// array holds `real`, converted from `double precision`.
    ///
    /// # Errors
    /// 22000 where the array is not two-dimensional or is empty, and those of [`Matrix::elements`].
    pub(crate) fn rows(&self, role: &'static str) -> Result<(Cow<'_, [f32]>, usize), SqlError> {
        let &[tokens, dim] = self.lengths() else {
            return Err(SqlError::not_two_dimensional(role, self.lengths().len()));
        };
        Ok((
            self.elements(tokens as usize * dim as usize, role)?,
            dim as usize,
        ))
    }

    /// The values of a one-dimensional array.
    ///
    /// # Errors
    /// 22000 where the array is not one-dimensional, and those of [`Matrix::elements`].
    pub(crate) fn row(&self, role: &'static str) -> Result<Cow<'_, [f32]>, SqlError> {
        match *self.lengths() {
            [length] => self.elements(length as usize, role),
            ref lengths => Err(SqlError::not_one_dimensional(role, lengths.len())),
        }
    }

    /// # Errors
    /// 22004 for NULL elements, 22003 for a double that `real` cannot hold. NaN and infinity are
    /// the caller's to look for.
    fn elements(&self, count: usize, role: &'static str) -> Result<Cow<'_, [f32]>, SqlError> {
        let array = self.array();
        // SAFETY: a whole detoasted array.
        if array.dataoffset != 0 && unsafe { pg_sys::array_contains_nulls(self.as_ptr()) } {
            return Err(SqlError::null_element(role));
        }
        match array.elemtype {
            // SAFETY: without NULLs the array holds elements of its type.
            pg_sys::FLOAT4OID => Ok(Cow::Borrowed(unsafe { self.slice::<f32>(count)? })),
            // SAFETY: as above.
            pg_sys::FLOAT8OID => Ok(Cow::Owned(narrow(
                unsafe { self.slice::<f64>(count)? },
                role,
            )?)),
            other => Err(SqlError::not_a_float_array(role, other)),
        }
    }

    fn as_ptr(&self) -> *mut pg_sys::ArrayType {
        self.0.as_ptr().cast()
    }

    fn array(&self) -> &pg_sys::ArrayType {
        // SAFETY: SQL declares arguments of this type as arrays only; a detoasted array has its
        // whole header.
        unsafe { &*self.as_ptr() }
    }

    fn lengths(&self) -> &[i32] {
        let dimensions = self.array().ndim.max(0) as usize;
        // SAFETY: ARR_DIMS follows the fixed header and has `ndim` entries.
        unsafe { std::slice::from_raw_parts(self.as_ptr().add(1).cast::<i32>(), dimensions) }
    }

    /// # Safety
    /// The array's element type has the layout of `T`, and it has no NULLs.
    unsafe fn slice<T>(&self, count: usize) -> Result<&[T], SqlError> {
        let array = self.array();
        let offset = match array.dataoffset {
            // ARR_OVERHEAD_NONULLS
            0 => (size_of::<pg_sys::ArrayType>() + 8 * array.ndim as usize).next_multiple_of(8),
            with_nulls => with_nulls as usize,
        };
        let (needed, size) = (offset + count * size_of::<T>(), 4 + self.0.bytes().len());
        if needed > size {
            return Err(SqlError::corrupt_array(needed, size));
        }
        // SAFETY: in bounds by the check above; a MAXALIGNed offset into an aligned value.
        Ok(unsafe {
            std::slice::from_raw_parts(self.as_ptr().cast::<u8>().add(offset).cast(), count)
        })
    }
}

fn narrow(values: &[f64], role: &'static str) -> Result<Vec<f32>, SqlError> {
    let mut narrowed = multivector::room(values.len())?;
    for block in values.chunks(BLOCK) {
        poll();
        for &value in block {
            let real = value as f32;
            if real.is_infinite() && value.is_finite() {
                return Err(SqlError::out_of_range(role, value, "real"));
            }
            narrowed.push(real);
        }
    }
    Ok(narrowed)
}

// SAFETY: the SQL declarations give only arrays to arguments of this type, in STRICT functions.
unsafe impl<'fcx> ArgAbi<'fcx> for Matrix {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as said above.
        Matrix(unsafe { arg.unbox_unchecked() })
    }
}

/// What an array's elements can be on their way out.
trait Element: Copy + From<f32> {
    const OID: pg_sys::Oid;
    const ARRAY_OID: pg_sys::Oid;
}

impl Element for f32 {
    const OID: pg_sys::Oid = pg_sys::FLOAT4OID;
    const ARRAY_OID: pg_sys::Oid = pg_sys::FLOAT4ARRAYOID;
}

impl Element for f64 {
    const OID: pg_sys::Oid = pg_sys::FLOAT8OID;
    const ARRAY_OID: pg_sys::Oid = pg_sys::FLOAT8ARRAYOID;
}

/// An array on its way out, of one or two dimensions; built in PostgreSQL's memory when returned.
pub(crate) struct FloatArray<T>(Values<T>);

/// Becomes a `real[]`.
pub(crate) type RealArray = FloatArray<f32>;
/// Becomes a `double precision[]`.
pub(crate) type DoubleArray = FloatArray<f64>;

enum Values<T> {
    Shared(Rc<MultiVector>),
    Built(pg_sys::Datum),
    Row(Vec<T>),
}

impl RealArray {
    /// An embedding as `tokens × dim`.
    pub(crate) fn embedding(embedding: Rc<MultiVector>) -> RealArray {
        FloatArray(Values::Shared(embedding))
    }
}

#[allow(private_bounds)]
impl<T: Element> FloatArray<T> {
    /// Row-major values as rows of `dim`; built at once, for a function that returns nothing else.
    ///
    /// # Errors
    /// 54000 where the array would exceed 1 GB.
    pub(crate) fn rows(values: &[f32], dim: usize) -> Result<FloatArray<T>, SqlError> {
        let built = build::<f32, T>(values, &[values.len() / dim, dim])?;
        Ok(FloatArray(Values::Built(built)))
    }

    /// One vector.
    pub(crate) fn row(values: Vec<T>) -> FloatArray<T> {
        FloatArray(Values::Row(values))
    }

    /// Builds the array in the current memory context.
    ///
    /// # Errors
    /// 54000 where it would exceed 1 GB.
    pub(crate) fn build(&self) -> Result<pg_sys::Datum, SqlError> {
        match &self.0 {
            Values::Shared(vectors) => {
                build::<f32, T>(&vectors.values, &[vectors.tokens, vectors.dim])
            }
            Values::Built(datum) => Ok(*datum),
            Values::Row(values) => build::<T, T>(values, &[values.len()]),
        }
    }
}

fn build<S: Copy, T: Element + From<S>>(
    values: &[S],
    lengths: &[usize],
) -> Result<pg_sys::Datum, SqlError> {
    assert_eq!(
        values.len(),
        lengths.iter().product::<usize>(),
        "makers check their shapes"
    );
    let header = size_of::<pg_sys::ArrayType>();
    let overhead = (header + 8 * lengths.len()).next_multiple_of(8);
    let size = overhead + size_of::<T>() * values.len();
    // PostgreSQL's MaxArraySize: its own functions refuse longer ones, so nobody could print or dump one.
    const MAX_ELEMENTS: usize = MAX_VALUE_BYTES / size_of::<pg_sys::Datum>();
    if values.len() > MAX_ELEMENTS {
        return Err(SqlError::too_many_elements(values.len(), MAX_ELEMENTS));
    }
    if size > MAX_VALUE_BYTES {
        return Err(SqlError::value_too_large(lengths, size, MAX_VALUE_BYTES));
    }
    let (datum, _) = varlena::allocate(size - LENGTH_WORD_BYTES);
    // SAFETY: `size` bytes are allocated zeroed; the header, a length and a lower bound for each
    // dimension and the values fill exactly these. Zeros are floats.
    unsafe {
        let array: *mut pg_sys::ArrayType = datum.cast_mut_ptr();
        (*array).ndim = lengths.len() as i32;
        (*array).elemtype = T::OID;
        let shape = array.add(1).cast::<i32>();
        for (axis, &length) in lengths.iter().enumerate() {
            shape.add(axis).write(length as i32);
            shape.add(lengths.len() + axis).write(1);
        }
        let data = array.cast::<u8>().add(overhead).cast::<T>();
        let out = std::slice::from_raw_parts_mut(data, values.len());
        for (out, values) in out.chunks_mut(BLOCK).zip(values.chunks(BLOCK)) {
            poll();
            for (out, &value) in out.iter_mut().zip(values) {
                *out = T::from(value);
            }
        }
        Ok(datum)
    }
}

impl<T: Element> IntoDatum for FloatArray<T> {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.build().unwrap_or_else(|error| error.raise()))
    }

    fn type_oid() -> pg_sys::Oid {
        T::ARRAY_OID
    }
}

// SAFETY: returns an array datum of its type in the caller's memory context.
unsafe impl<T: Element> BoxRet for FloatArray<T> {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let array = self.build().unwrap_or_else(|error| error.raise());
        // SAFETY: a freshly built, valid array.
        unsafe { fcinfo.return_raw_datum(array) }
    }
}

sql_type!(Matrix, "real[]");
sql_type!(RealArray, "real[]");
sql_type!(DoubleArray, "double precision[]");
