//! How many tokens of how many components: the limits, checked once when a [`Shape`] is made.
//!
//! Used by everything that makes or reads a value. A `Shape` that exists is within the limits, so nothing that is
//! computed from one overflows.

use crate::error::Error;

/// The most components a token vector may have; pgvector's limit for `vector` too.
pub const MAX_DIM: usize = 16_000;
/// The most tokens a multivector may have.
pub const MAX_TOKENS: usize = 32_768;
/// The most bytes a PostgreSQL value may have, its 4-byte length word included: 1 GB - 1.
pub const MAX_BYTES: usize = 0x3FFF_FFFF;

/// The number of tokens and of components each of them has; both within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    tokens: usize,
    dim: usize,
}

impl Shape {
    /// A shape of `tokens` × `dim`.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::ZeroDim`], [`Error::TooManyTokens`], [`Error::TooManyDims`].
    pub fn new(tokens: usize, dim: usize) -> Result<Shape, Error> {
        if dim == 0 {
            Err(Error::ZeroDim)
        } else if dim > MAX_DIM {
            Err(Error::TooManyDims { dim })
        } else if tokens == 0 {
            Err(Error::Empty)
        } else if tokens > MAX_TOKENS {
            Err(Error::TooManyTokens { tokens })
        } else {
            Ok(Shape { tokens, dim })
        }
    }

    /// The shape of `values` values in rows of `dim`.
    ///
    /// # Errors
    /// As [`Shape::new`], and [`Error::Incomplete`] when `dim` does not divide `values`.
    pub fn of(values: usize, dim: usize) -> Result<Shape, Error> {
        if dim != 0 && !values.is_multiple_of(dim) {
            return Err(Error::Incomplete { values, dim });
        }
        Shape::new(values.checked_div(dim).unwrap_or(0), dim)
    }

    /// The number of tokens, 1 to [`MAX_TOKENS`].
    #[must_use]
    pub fn tokens(self) -> usize {
        self.tokens
    }

    /// The number of components of each token, 1 to [`MAX_DIM`].
    #[must_use]
    pub fn dim(self) -> usize {
        self.dim
    }

    /// The number of components of all tokens.
    #[must_use]
    pub fn values(self) -> usize {
        self.tokens * self.dim
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DIM, MAX_TOKENS, Shape};
    use crate::error::Error;

    #[test]
    fn limits_are_inclusive_and_errors_carry_the_number() {
        assert_eq!(Shape::new(1, 1).map(Shape::values), Ok(1));
        assert!(Shape::new(MAX_TOKENS, MAX_DIM).is_ok());
        assert_eq!(Shape::new(0, 1), Err(Error::Empty));
        assert_eq!(Shape::new(1, 0), Err(Error::ZeroDim));
        assert_eq!(
            Shape::new(MAX_TOKENS + 1, 1),
            Err(Error::TooManyTokens { tokens: 32_769 })
        );
        assert_eq!(
            Shape::new(1, MAX_DIM + 1),
            Err(Error::TooManyDims { dim: 16_001 })
        );
    }

    #[test]
    fn values_must_divide_into_tokens() {
        assert_eq!(Shape::of(6, 3), Shape::new(2, 3));
        assert_eq!(Shape::of(0, 3), Err(Error::Empty));
        assert_eq!(Shape::of(3, 0), Err(Error::ZeroDim));
        assert_eq!(
            Shape::of(7, 3),
            Err(Error::Incomplete { values: 7, dim: 3 })
        );
    }
}
