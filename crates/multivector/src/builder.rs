//! A multivector that grows row by row.
//!
//! Used by the text parser and by the SQL aggregate that makes a multivector of rows.

use crate::element::ElementType;
use crate::encode::{check_finite, encode};
use crate::error::Error;
use crate::layout::HEADER_BYTES;
use crate::poll::Poll;
use crate::shape::{MAX_BYTES, MAX_DIM, MAX_TOKENS, Shape};

/// The most components that are taken: as f32 they are a value within the limit.
const MAX_VALUES: usize = (MAX_BYTES - HEADER_BYTES) / size_of::<f32>();

/// Rows taken so far, all finite and of one dimension; never more than a multivector can hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Builder {
    values: Vec<f32>,
    /// 0 until the first row is complete.
    dim: usize,
    tokens: usize,
}

impl Builder {
    /// No rows.
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Adds a token vector.
    ///
    /// # Errors
    /// [`Error::ZeroDim`], [`Error::TooManyDims`], [`Error::TooManyTokens`], [`Error::Ragged`], [`Error::NotFinite`],
    /// [`Error::TooLarge`]; the rows taken before stay.
    pub fn push(&mut self, row: &[f32]) -> Result<(), Error> {
        let len = self.values.len();
        let pushed = row
            .iter()
            .try_for_each(|&value| self.push_component(value))
            .and_then(|()| self.end_row());
        if pushed.is_err() {
            self.values.truncate(len);
        }
        pushed
    }

    /// Adds a component to the row that is being made.
    pub(crate) fn push_component(&mut self, value: f32) -> Result<(), Error> {
        let made = self.values.len() - self.tokens * self.dim;
        if made == MAX_DIM {
            return Err(Error::TooManyDims { dim: made + 1 });
        }
        if self.values.len() == MAX_VALUES {
            return Err(Error::TooLarge {
                bytes: HEADER_BYTES + size_of::<f32>() * (MAX_VALUES + 1),
                max: MAX_BYTES,
            });
        }
        let grown = self.values.try_reserve(1);
        grown.map_err(|_| Error::OutOfMemory {
            bytes: 2 * size_of_val(self.values.as_slice()),
        })?;
        self.values.push(value);
        Ok(())
    }

    /// Closes the row that is being made.
    pub(crate) fn end_row(&mut self) -> Result<(), Error> {
        let row = &self.values[self.tokens * self.dim..];
        let dim = row.len();
        if dim == 0 {
            return Err(Error::ZeroDim);
        }
        if self.tokens > 0 && dim != self.dim {
            return Err(Error::Ragged {
                token: self.tokens,
                dim,
                expected: self.dim,
            });
        }
        if self.tokens == MAX_TOKENS {
            return Err(Error::TooManyTokens {
                tokens: self.tokens + 1,
            });
        }
        check_finite(row, dim, &mut || ()).map_err(|error| match error {
            Error::NotFinite {
                component, value, ..
            } => Error::NotFinite {
                token: self.tokens,
                component,
                value,
            },
            other => other,
        })?;
        self.dim = dim;
        self.tokens += 1;
        Ok(())
    }

    /// The number of rows taken.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The memory held, for callers that account for it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Builder>() + size_of::<f32>() * self.values.capacity()
    }

    /// The rows as they are: components in row-major order, and their shape.
    ///
    /// # Errors
    /// [`Error::Empty`] without rows.
    pub fn rows(&self) -> Result<(&[f32], Shape), Error> {
        if self.tokens == 0 {
            return Err(Error::Empty);
        }
        Ok((&self.values, Shape::new(self.tokens, self.dim)?))
    }

    /// Encodes the rows. The builder stays as it was: an aggregate's final function may run more than once.
    ///
    /// # Errors
    /// [`Error::Empty`] without rows; as [`encode`].
    pub fn finish(&self, element: ElementType, poll: Poll<'_>) -> Result<Vec<u8>, Error> {
        let (values, shape) = self.rows()?;
        encode(values, shape, element, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::Builder;
    use crate::element::ElementType;
    use crate::encode::encode;
    use crate::error::Error;
    use crate::shape::{MAX_DIM, MAX_TOKENS, Shape};

    #[test]
    fn rows_become_the_value_that_encode_makes() {
        let mut builder = Builder::new();
        assert_eq!(
            builder.finish(ElementType::F32, &mut || ()),
            Err(Error::Empty)
        );
        builder.push(&[1.0, 2.0]).unwrap();
        builder.push(&[3.0, 4.0]).unwrap();
        let shape = Shape::new(2, 2).unwrap();
        for element in ElementType::ALL {
            let expected = encode(&[1.0, 2.0, 3.0, 4.0], shape, element, &mut || ());
            assert_eq!(builder.finish(element, &mut || ()), expected);
        }
    }

    #[test]
    fn a_refused_row_leaves_the_others() {
        let mut builder = Builder::new();
        assert_eq!(builder.push(&[]), Err(Error::ZeroDim));
        builder.push(&[1.0, 2.0]).unwrap();
        let before = builder.clone();
        let ragged = Error::Ragged {
            token: 1,
            dim: 1,
            expected: 2,
        };
        assert_eq!(builder.push(&[5.0]), Err(ragged));
        let not_finite = Error::NotFinite {
            token: 1,
            component: 1,
            value: f32::NEG_INFINITY,
        };
        assert_eq!(builder.push(&[5.0, f32::NEG_INFINITY]), Err(not_finite));
        assert_eq!(
            builder.push(&[0.0; MAX_DIM + 1]),
            Err(Error::TooManyDims { dim: MAX_DIM + 1 })
        );
        assert_eq!(builder, before);
        assert_eq!(builder.tokens(), 1);
    }

    #[test]
    fn rows_end_at_the_limit_of_tokens() {
        let mut builder = Builder::new();
        for _ in 0..MAX_TOKENS {
            builder.push(&[0.5]).unwrap();
        }
        let refused = Error::TooManyTokens { tokens: 32_769 };
        assert_eq!(builder.push(&[0.5]), Err(refused));
        assert!(builder.finish(ElementType::F16, &mut || ()).is_ok());
    }
}
