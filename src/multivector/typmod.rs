//! The type modifier: `multivector(128)`, `multivector(128, f16)`.
//!
//! Packed into one integer: the dimension in the low 16 bits, the code of the element type above.
//! Without a modifier a column takes every dimension and element type.

use std::ffi::{CStr, CString};

use multivector::{ElementType, MAX_DIM};
use pgrx::{pg_extern, pg_sys};

use crate::detoast::Detoasted;
use crate::error::SqlError;

/// What a column demands of its values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeModifier {
    pub(crate) dim: usize,
    pub(crate) element: ElementType,
}

impl TypeModifier {
    /// `None` where PostgreSQL passes -1: no demands.
    ///
    /// # Errors
    /// XX000 where the integer is none that [`TypeModifier::pack`] makes.
    pub(crate) fn unpack(typmod: i32) -> Result<Option<TypeModifier>, SqlError> {
        if typmod < 0 {
            return Ok(None);
        }
        let dim = (typmod & 0xffff) as usize;
        match u8::try_from(typmod >> 16)
            .ok()
            .and_then(ElementType::from_code)
        {
            Some(element) if (1..=MAX_DIM).contains(&dim) => {
                Ok(Some(TypeModifier { dim, element }))
            }
            _ => Err(SqlError::type_modifier_number(typmod)),
        }
    }

    fn pack(self) -> i32 {
        i32::from(self.element.code()) << 16 | self.dim as i32
    }

    /// # Errors
    /// 22000 where a value has another dimension.
    pub(crate) fn check_dim(self, dim: usize) -> Result<(), SqlError> {
        if dim == self.dim {
            return Ok(());
        }
        Err(multivector::Error::DimensionMismatch {
            expected: self.dim,
            dim,
        }
        .into())
    }

    fn parse(words: &[&CStr]) -> Result<TypeModifier, SqlError> {
        let word = |index: usize| words[index].to_str().unwrap_or_default().trim();
        if !(1..=2).contains(&words.len()) {
            return Err(SqlError::type_modifier_count(words.len()));
        }
        let dim = word(0)
            .parse()
            .ok()
            .filter(|dim| (1..=MAX_DIM).contains(dim))
            .ok_or_else(|| SqlError::type_modifier_dim(word(0), MAX_DIM))?;
        let element = match words.len() {
            1 => ElementType::F32,
            _ => ElementType::from_name(&word(1).to_ascii_lowercase())
                .ok_or_else(|| SqlError::type_modifier_element(word(1)))?,
        };
        Ok(TypeModifier { dim, element })
    }
}

#[pg_extern(sql = false)]
fn multivector_typmod_in(modifiers: CStringArray) -> i32 {
    TypeModifier::parse(&modifiers.words())
        .map(TypeModifier::pack)
        .unwrap_or_else(|error| error.raise())
}

#[pg_extern(sql = false)]
fn multivector_typmod_out(typmod: i32) -> CString {
    let shown = match TypeModifier::unpack(typmod) {
        Ok(None) => String::new(),
        Ok(Some(TypeModifier {
            dim,
            element: ElementType::F32,
        })) => format!("({dim})"),
        Ok(Some(TypeModifier { dim, element })) => format!("({dim},{})", element.name()),
        Err(error) => error.raise(),
    };
    CString::new(shown).expect("no NUL in it")
}

/// The `cstring[]` in which PostgreSQL passes modifiers.
struct CStringArray(Detoasted);

impl CStringArray {
    fn words(&self) -> Vec<&CStr> {
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
