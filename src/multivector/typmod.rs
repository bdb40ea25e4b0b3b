//! The type modifier `multivector(128, f16)` between SQL and crate `multivector`, which knows what it
//! means. Without one a column takes every dimension and element type.

use std::ffi::{CStr, CString};

use multivector::TypeModifier;
use pgrx::{pg_extern, pg_sys};

use crate::detoast::Detoasted;
use crate::error::SqlError;

/// What PostgreSQL's integer says; `None` where it is negative: no demands.
///
/// # Errors
/// 22023 where the integer is none that was ever given out.
pub(super) fn modifier(typmod: i32) -> Result<Option<TypeModifier>, SqlError> {
    match TypeModifier::from_i32(typmod) {
        None if typmod >= 0 => Err(SqlError::type_modifier_number(typmod)),
        modifier => Ok(modifier),
    }
}

/// The dimension that a modifier fixes; 0 where there is none.
pub(crate) fn declared_dim(typmod: i32) -> u32 {
    let modifier = modifier(typmod).ok().flatten();
    modifier.map_or(0, |modifier| modifier.dim as u32)
}

#[pg_extern(sql = false)]
fn multivector_typmod_in(modifiers: CStringArray) -> i32 {
    TypeModifier::parse(&modifiers.words())
        .unwrap_or_else(|error| SqlError::from(error).raise())
        .to_i32()
}

#[pg_extern(sql = false)]
fn multivector_typmod_out(typmod: i32) -> CString {
    let modifier = modifier(typmod).unwrap_or_else(|error| error.raise());
    let shown = modifier.map_or(String::new(), |modifier| modifier.to_string());
    CString::new(shown).expect("no NUL in it")
}

/// The `cstring[]` in which PostgreSQL passes modifiers.
struct CStringArray(Detoasted);

impl CStringArray {
    fn words(&self) -> Vec<&str> {
        let (mut elements, mut count) = (std::ptr::null_mut(), 0);
        // SAFETY: the argument is a cstring[] without NULLs, as ArrayGetIntegerTypmods expects too;
        // -2, by reference and char alignment are cstring's. The strings lie in the array.
        unsafe {
            pg_sys::deconstruct_array(
                self.0.as_ptr().cast(),
                pg_sys::CSTRINGOID,
                -2,
                false,
                pg_sys::TYPALIGN_CHAR as std::ffi::c_char,
                &mut elements,
                std::ptr::null_mut(),
                &mut count,
            );
            (0..count as usize)
                .map(|index| CStr::from_ptr((*elements.add(index)).cast_mut_ptr()))
                .map(|word| word.to_str().unwrap_or_default())
                .collect()
        }
    }
}

// SAFETY: multivector_typmod_in is STRICT and declared with cstring[].
unsafe impl<'fcx> pgrx::callconv::ArgAbi<'fcx> for CStringArray {
    unsafe fn unbox_arg_unchecked(arg: pgrx::callconv::Arg<'_, 'fcx>) -> Self {
        // SAFETY: as said above.
        CStringArray(unsafe { arg.unbox_unchecked() })
    }
}

crate::sql_type::sql_type!(CStringArray, "cstring[]");
