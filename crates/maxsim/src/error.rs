//! The crate's one error: shapes that do not fit, values an element type cannot hold.

use std::fmt;

/// Why a query could not be packed or a document not be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no token: MaxSim over nothing is undefined.
    Empty,
    /// The dimension given is 0.
    ZeroDim,
    /// `len` values do not divide into tokens of `dim` components.
    Ragged {
        /// How many values (bytes, for the compact element types) were given.
        len: usize,
        /// How many make one token.
        dim: usize,
    },
    /// A value cannot be held by the element type: too large for f16, or not finite.
    OutOfRange,
    /// Stored bytes that no encoding writes.
    Corrupt {
        /// What is wrong with them.
        problem: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Empty => f.write_str("multivector must have at least 1 token"),
            Error::ZeroDim => f.write_str("token vectors must have at least 1 dimension"),
            Error::Ragged { len, dim } => write!(f, "length {len} is not a multiple of {dim}"),
            Error::Corrupt { problem } => write!(f, "stored document is corrupt: {problem}"),
            Error::OutOfRange => f.write_str("value is out of range for the element type"),
        }
    }
}

impl std::error::Error for Error {}

/// The number of tokens in `len` units when `per_token` units make one.
pub(crate) fn tokens(len: usize, per_token: usize) -> Result<usize, Error> {
    if per_token == 0 {
        Err(Error::ZeroDim)
    } else if len == 0 {
        Err(Error::Empty)
    } else if !len.is_multiple_of(per_token) {
        Err(Error::Ragged {
            len,
            dim: per_token,
        })
    } else {
        Ok(len / per_token)
    }
}

/// Whether a stored factor is one that encoding writes: neither negative, nor infinite, nor NaN.
pub(crate) fn is_factor(value: f32) -> bool {
    value.is_finite() && value.is_sign_positive()
}
