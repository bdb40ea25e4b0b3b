//! Casts between `multivector` and pgvector's `vector[]` and `halfvec[]`.
//!
//! Declared by the second extension `infinity_embed_pgvector`, which requires both. pgvector is known
//! here by the layout of its values alone: a length word, the dimension and two unused bytes, then
//! `real` or half components.

use multivector::ElementType;
use pgrx::{pg_extern, pg_sys};

use super::datum::{Multivector, Stored};
use super::typmod::modifier;
use crate::detoast::Detoasted;
use crate::error::SqlError;

/// Bytes of a pgvector value before its components, the length word not included.
const HEADER_BYTES: usize = 4;

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
        let values = view.values()?;
        let mut datums = Vec::with_capacity(view.tokens());
        for row in values.chunks_exact(view.dim()) {
            datums.push(component.write(row)?);
        }
        // SAFETY: the function's own result type is the array type that its SQL declaration names;
        // every datum is a value of its element type, in the current memory context.
        unsafe {
            let array_type = pg_sys::get_func_rettype((*(*fcinfo).flinfo).fn_oid);
            let array = pg_sys::construct_array(
                datums.as_mut_ptr(),
                datums.len() as i32,
                pg_sys::get_element_type(array_type),
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
            );
            Ok(Vectors(Detoasted::new(pg_sys::Datum::from(array))))
        }
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

    /// One value in PostgreSQL's memory.
    ///
    /// # Errors
    /// 54000 where pgvector's dimension has no room, 22003 where a half has none.
    fn write(self, row: &[f32]) -> Result<pg_sys::Datum, SqlError> {
        const MAX_DIM: usize = 16_000;
        if row.len() > MAX_DIM {
            return Err(multivector::Error::TooManyDims { dim: row.len() }.into());
        }
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
        let size = 4 + HEADER_BYTES + components.len();
        // SAFETY: `size` zeroed bytes, filled as pgvector lays a value out: length word, dimension,
        // two unused zero bytes, components.
        unsafe {
            let start = pg_sys::palloc0(size).cast::<u8>();
            pgrx::set_varsize_4b(start.cast(), size as i32);
            start.add(4).cast::<u16>().write(row.len() as u16);
            let data = start.add(4 + HEADER_BYTES);
            std::ptr::copy_nonoverlapping(components.as_ptr(), data, components.len());
            Ok(pg_sys::Datum::from(start))
        }
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
