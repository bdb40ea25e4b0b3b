//! The type modifier: what stands in the parentheses of `multivector(128, int8)`.
//!
//! Used by the extension's typmod_in, typmod_out and by the cast that makes a value what its column wants.

use std::fmt;

use crate::element::ElementType;
use crate::error::Error;
use crate::shape::{MAX_DIM, Shape};

/// What a column declares. PostgreSQL keeps it as an int32 of at least 0: element type · 2¹⁶ + dim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeModifier {
    /// The dimension that values must have, 1 to [`MAX_DIM`].
    pub dim: usize,
    /// The element type that values are converted to.
    pub element: ElementType,
}

impl TypeModifier {
    /// Reads the words between the parentheses: a dimension and, f32 if left out, an element type.
    ///
    /// # Errors
    /// [`Error::TypeModifier`] when they are none.
    pub fn parse(words: &[&str]) -> Result<TypeModifier, Error> {
        let wrong = |problem: String| Err(Error::TypeModifier { problem });
        let (dim, element) = match words {
            [dim] => (dim, "f32"),
            [dim, element] => (dim, *element),
            _ => return wrong("multivector takes a dimension and an element type".into()),
        };
        let Ok(dim) = dim.trim().parse::<i64>() else {
            return wrong(format!(
                "dimension of multivector must be a number, not \"{dim}\""
            ));
        };
        let Some(dim) = usize::try_from(dim)
            .ok()
            .filter(|dim| (1..=MAX_DIM).contains(dim))
        else {
            return wrong(format!(
                "dimension of multivector must be between 1 and {MAX_DIM}, not {dim}"
            ));
        };
        let Some(element) = ElementType::from_name(element.trim()) else {
            return wrong(format!(
                "element type of multivector must be f32, f16, int8 or bit, not \"{element}\""
            ));
        };
        Ok(TypeModifier { dim, element })
    }

    /// The number that PostgreSQL keeps.
    #[must_use]
    pub fn to_i32(self) -> i32 {
        i32::from(self.element.code()) << 16 | self.dim as i32
    }

    /// The modifier of such a number; `None` for -1, which is no modifier, and for numbers never given out.
    #[must_use]
    pub fn from_i32(number: i32) -> Option<TypeModifier> {
        let element = ElementType::from_code(u8::try_from(number >> 16).ok()?)?;
        let dim = usize::try_from(number & 0xFFFF).ok()?;
        (1..=MAX_DIM)
            .contains(&dim)
            .then_some(TypeModifier { dim, element })
    }

    /// Whether a value of this shape may be stored.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] with both dimensions.
    pub fn check(self, shape: Shape) -> Result<(), Error> {
        if shape.dim() != self.dim {
            return Err(Error::DimensionMismatch {
                expected: self.dim,
                dim: shape.dim(),
            });
        }
        Ok(())
    }
}

/// With parentheses, and without the element type that is meant when none is given.
impl fmt::Display for TypeModifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            ElementType::F32 => write!(f, "({})", self.dim),
            element => write!(f, "({},{element})", self.dim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TypeModifier;
    use crate::element::ElementType;
    use crate::error::Error;
    use crate::shape::{MAX_DIM, Shape};

    #[test]
    fn every_spelling_of_the_documentation_is_read_and_printed() {
        for (words, printed, number) in [
            (&["128"][..], "(128)", 0x1_0080),
            (&["128", "f32"], "(128)", 0x1_0080),
            (&["128", "f16"], "(128,f16)", 0x2_0080),
            (&["128", "INT8"], "(128,int8)", 0x3_0080),
            (&[" 128", " bit "], "(128,bit)", 0x4_0080),
        ] {
            let modifier = TypeModifier::parse(words).unwrap();
            assert_eq!(modifier.to_string(), printed);
            assert_eq!(modifier.to_i32(), number);
        }
    }

    #[test]
    fn numbers_lead_back_and_others_are_none() {
        for element in ElementType::ALL {
            for dim in [1, 128, MAX_DIM] {
                let modifier = TypeModifier { dim, element };
                assert_eq!(TypeModifier::from_i32(modifier.to_i32()), Some(modifier));
            }
        }
        for number in [-1, 0, 128, 0x1_0000, 0x1_FFFF, 0x5_0080, i32::MAX, i32::MIN] {
            assert_eq!(TypeModifier::from_i32(number), None, "{number}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for (words, message) in [
            (&[][..], "multivector takes a dimension and an element type"),
            (
                &["1", "f16", "x"],
                "multivector takes a dimension and an element type",
            ),
            (
                &["f16"],
                "dimension of multivector must be a number, not \"f16\"",
            ),
            (
                &["0"],
                "dimension of multivector must be between 1 and 16000, not 0",
            ),
            (
                &["-1"],
                "dimension of multivector must be between 1 and 16000, not -1",
            ),
            (
                &["16001"],
                "dimension of multivector must be between 1 and 16000, not 16001",
            ),
            (
                &["8", "f8"],
                "element type of multivector must be f32, f16, int8 or bit, not \"f8\"",
            ),
        ] {
            assert_eq!(TypeModifier::parse(words).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_value_of_another_dimension_is_refused() {
        let modifier = TypeModifier::parse(&["3"]).unwrap();
        assert_eq!(modifier.check(Shape::new(9, 3).unwrap()), Ok(()));
        let error = Error::DimensionMismatch {
            expected: 3,
            dim: 4,
        };
        assert_eq!(modifier.check(Shape::new(9, 4).unwrap()), Err(error));
    }
}
