//! Casts between `multivector` and pgvector's `vector[]` and `halfvec[]`.
//!
//! Declared by the second extension `infinity_embed_pgvector`, which requires both. pgvector is known
//! here by the layout of its values alone: a length word, the dimension and two unused bytes, then
//! `real` or half components.

use multivector::{ElementType, MAX_TOKENS};
use pgrx::{pg_extern, pg_sys};

use super::datum::{Multivector, Stored};
use super::typmod::modifier;
use crate::detoast::Detoasted;
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::varlena::{self, LENGTH_WORD_BYTES, MAX_VALUE_BYTES};

/// Bytes of a pgvector value before its components, the length word not included.
const HEADER_BYTES: usize = 4;
/// Of an array of one dimension without NULLs.
const ARRAY_HEADER_BYTES: usize = (size_of::<pg_sys::ArrayType>() + 8).next_multiple_of(8);

/// How a pgvector type stores a component.
#[derive(Clone, Copy)]
enum Component {
    Single,
    Half,
}

#[pg_extern(sql = false)]
fn multivector_from_vectors(vectors: Vectors, typmod: i32, _explicit: bool) -> Stored {
    vectors
        .to_stored(Component::Single, typmod)
        .unwrap_or_else(|error| error.raise())
}

#[pg_extern(sql = false)]
fn multivector_from_halfvecs(vectors: Vectors, typmod: i32, _explicit: bool) -> Stored {
    vectors
        .to_stored(Component::Half, typmod)
        .unwrap_or_else(|error| error.raise())
}

#[pg_extern(sql = false)]
fn multivector_to_vectors(value: Multivector, fcinfo: pg_sys::FunctionCallInfo) -> Vectors {
    Vectors::build(&value, Component::Single, fcinfo).unwrap_or_else(|error| error.raise())
}

#[pg_extern(sql = false)]
fn multivector_to_halfvecs(value: Multivector, fcinfo: pg_sys::FunctionCallInfo) -> Vectors {
    Vectors::build(&value, Component::Half, fcinfo).unwrap_or_else(|error| error.raise())
}

/// A `vector[]` or `halfvec[]`.
struct Vectors(Detoasted);

impl Vectors {
    fn to_stored(&self, component: Component, typmod: i32) -> Result<Stored, SqlError> {
        let modifier = modifier(typmod)?;
        let mut rows = multivector::Builder::new();
        for element in self.elements()? {
            poll();
            rows.push(&component.read(element)?)?;
        }
        let (values, shape) = rows.rows()?;
        if let Some(modifier) = modifier {
            modifier.check(shape)?;
        }
        let element = modifier.map_or(ElementType::F32, |modifier| modifier.element);
        Stored::encode(values, shape, element)
    }

    /// The elements' bytes after their length words.
    fn elements(&self) -> Result<Vec<&[u8]>, SqlError> {
        let array: *mut pg_sys::ArrayType = self.0.as_ptr().cast();
        let (mut datums, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        // SAFETY: SQL declares arrays of pgvector's types only: varlenas of int alignment, stored in
        // arrays without TOAST. They lie in the detoasted array, which lives as long as `self`.
        unsafe {
            if (*array).ndim > 1 {
                return Err(SqlError::not_one_dimensional(
                    "multivector",
                    (*array).ndim as usize,
                ));
            }
            if (*array).ndim == 1 && *array.add(1).cast::<i32>() as usize > MAX_TOKENS {
                let tokens = *array.add(1).cast::<i32>() as usize;
                return Err(multivector::Error::TooManyTokens { tokens }.into());
            }
            pg_sys::deconstruct_array(
                array,
                (*array).elemtype,
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
                &mut datums,
                &mut nulls,
                &mut count,
            );
            (0..count as usize)
                .map(|index| match *nulls.add(index) {
                    true => Err(SqlError::null_element("multivector")),
                    false => Ok(pgrx::varlena_to_byte_slice(
                        (*datums.add(index)).cast_mut_ptr(),
                    )),
                })
                .collect()
        }
    }

    fn build(
        value: &Multivector,
        component: Component,
        fcinfo: pg_sys::FunctionCallInfo,
    ) -> Result<Vectors, SqlError> {
        let view = value.view()?;
        let values = view.values(&mut poll)?;
        let used = LENGTH_WORD_BYTES + HEADER_BYTES + component.size() * view.dim();
        // Elements begin where an int may stand.
        let vector_bytes = used.next_multiple_of(size_of::<i32>());
        let size = ARRAY_HEADER_BYTES + view.tokens() * vector_bytes;
        if size > MAX_VALUE_BYTES {
            let lengths = [view.tokens(), view.dim()];
            return Err(SqlError::value_too_large(&lengths, size, MAX_VALUE_BYTES));
        }
        let (datum, out) = varlena::allocate(size - LENGTH_WORD_BYTES);
        // SAFETY: a header of one dimension fits before the elements. The function's own result type is
        // the array type that its SQL declaration names.
        unsafe {
            let array: *mut pg_sys::ArrayType = datum.cast_mut_ptr();
            let array_type = pg_sys::get_func_rettype((*(*fcinfo).flinfo).fn_oid);
            (*array).ndim = 1;
            (*array).elemtype = pg_sys::get_element_type(array_type);
            let shape = array.add(1).cast::<i32>();
            shape.write(view.tokens() as i32);
            shape.add(1).write(1);
        }
        let vectors = out[ARRAY_HEADER_BYTES - LENGTH_WORD_BYTES..].chunks_exact_mut(vector_bytes);
        for (row, vector) in values.chunks_exact(view.dim()).zip(vectors) {
            poll();
            component.write(row, &mut vector[..used])?;
        }
        // SAFETY: a whole array, made just now.
        Ok(Vectors(unsafe { Detoasted::new(datum) }))
    }
}

impl Component {
    fn size(self) -> usize {
        match self {
            Component::Single => size_of::<f32>(),
            Component::Half => size_of::<u16>(),
        }
    }

    /// # Errors
    /// XX001 where the bytes are not as long as their dimension says.
    fn read(self, value: &[u8]) -> Result<Vec<f32>, SqlError> {
        let dim = value
            .first_chunk()
            .map_or(0, |bytes| usize::from(u16::from_ne_bytes(*bytes)));
        let needed = HEADER_BYTES + dim * self.size();
        if value.len() != needed {
            return Err(SqlError::corrupt_array(needed, value.len()));
        }
        let components = &value[HEADER_BYTES..];
        Ok(match self {
            Component::Single => components
                .chunks_exact(4)
                .map(|bytes| f32::from_ne_bytes(bytes.try_into().expect("chunks of 4")))
                .collect(),
            Component::Half => maxsim::decode_f16(components, dim)?,
        })
    }

    /// Writes a value as pgvector lays it out: length word, dimension, two unused zero bytes, components.
    ///
    /// # Errors
    /// 22003 where a half has no room.
    fn write(self, row: &[f32], vector: &mut [u8]) -> Result<(), SqlError> {
        let components = match self {
            Component::Single => row.iter().flat_map(|value| value.to_ne_bytes()).collect(),
            Component::Half => {
                if let Some(value) = row.iter().find(|value| value.abs() >= 65_520.0) {
                    return Err(SqlError::out_of_range(
                        "multivector",
                        f64::from(*value),
                        "halfvec",
                    ));
                }
                maxsim::encode_f16(row, row.len())?
            }
        };
        // SAFETY: `vector` holds a length word, at an int's boundary.
        unsafe { pgrx::set_varsize_4b(vector.as_mut_ptr().cast(), vector.len() as i32) };
        vector[LENGTH_WORD_BYTES..][..2].copy_from_slice(&(row.len() as u16).to_ne_bytes());
        vector[LENGTH_WORD_BYTES + HEADER_BYTES..].copy_from_slice(&components);
        Ok(())
    }
}

// SAFETY: the casts are STRICT and declared with arrays of pgvector's types.
unsafe impl<'fcx> pgrx::callconv::ArgAbi<'fcx> for Vectors {
    unsafe fn unbox_arg_unchecked(arg: pgrx::callconv::Arg<'_, 'fcx>) -> Self {
        // SAFETY: as said above.
        Vectors(unsafe { arg.unbox_unchecked() })
    }
}

// SAFETY: returns an array datum in the caller's memory context.
unsafe impl pgrx::callconv::BoxRet for Vectors {
    unsafe fn box_into<'fcx>(
        self,
        fcinfo: &mut pgrx::callconv::FcInfo<'fcx>,
    ) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: a whole array (see `build`).
        unsafe { fcinfo.return_raw_datum(self.0.into_datum()) }
    }
}

crate::sql_type::sql_type!(Vectors, "vector[]");
