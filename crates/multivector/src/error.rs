//! The crate's errors: [`Error`] for what callers ask for, [`Corrupt`] for bytes that are no multivector.
//!
//! Used by every module and, in the extension, by the one table that maps causes to SQLSTATEs. The SQLSTATE each
//! variant is meant for stands beside it.

use std::fmt;

use crate::element::ElementType;
use crate::shape::{MAX_DIM, MAX_TOKENS};

/// Why a multivector could not be made or worked on.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// There is no token (22000).
    Empty,
    /// Token vectors have no component (22000).
    ZeroDim,
    /// More than [`MAX_DIM`] components (54000).
    TooManyDims {
        /// How many there are.
        dim: usize,
    },
    /// More than [`MAX_TOKENS`] tokens (54000).
    TooManyTokens {
        /// How many there are, or one more than the limit when counting stopped there.
        tokens: usize,
    },
    /// The value, or its text, would be larger than PostgreSQL can hold (54000).
    TooLarge {
        /// The size in bytes, or where measuring stopped.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// There is not as much memory (53200).
    OutOfMemory {
        /// How much was asked for.
        bytes: usize,
    },
    /// Token vectors are not all of one dimension (22000).
    Ragged {
        /// Index of the token that differs, from 0.
        token: usize,
        /// Its number of components.
        dim: usize,
        /// That of the tokens before it.
        expected: usize,
    },
    /// A number of values that does not divide into tokens (22000).
    Incomplete {
        /// How many values there are.
        values: usize,
        /// How many make a token.
        dim: usize,
    },
    /// The dimension is not the column's (22000).
    DimensionMismatch {
        /// The dimension demanded.
        expected: usize,
        /// The value's.
        dim: usize,
    },
    /// A component is NaN or infinite (22000).
    NotFinite {
        /// Index of the token, from 0.
        token: usize,
        /// Index of the component, from 0.
        component: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A component does not fit the element type (22003).
    OutOfRange {
        /// Index of the token, from 0.
        token: usize,
        /// The component's value.
        value: f32,
        /// The element type it does not fit.
        element: ElementType,
    },
    /// A component is null (22004).
    NullElement {
        /// Where in the text, in bytes from 0.
        position: usize,
    },
    /// The text is not that of a multivector (22P02).
    Syntax {
        /// Where in the text, in bytes from 0.
        position: usize,
        /// What stands there, cut to a few characters; `None` at the end of the text.
        found: Option<String>,
        /// What should.
        expected: &'static str,
    },
    /// A number of the text does not fit `real` (22003).
    NumberOutOfRange {
        /// Where in the text, in bytes from 0.
        position: usize,
        /// The number, cut to a few characters.
        number: String,
    },
    /// The type modifier is not one (22023).
    TypeModifier {
        /// What is wrong with it.
        problem: String,
    },
    /// The wire form is not that of a multivector (22P03).
    Binary(Corrupt),
    /// Stored bytes are not a multivector (XX001).
    Corrupt(Corrupt),
    /// A range of tokens that is empty or reaches over the end (22023).
    TokenRange {
        /// The first token wanted, from 0.
        from: usize,
        /// The token after the last.
        to: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A pooling factor of 0 (22023).
    PoolFactor,
}

/// What is wrong with bytes that should be a multivector.
#[derive(Debug, Clone, PartialEq)]
pub enum Corrupt {
    /// Shorter than the header.
    Truncated {
        /// How many bytes there are.
        len: usize,
        /// How many the header takes.
        header: usize,
    },
    /// Written by another version of the layout.
    Version {
        /// The version byte.
        version: u8,
    },
    /// No element type has this number.
    ElementType {
        /// The byte.
        code: u8,
    },
    /// Bytes that must be zero are not.
    Reserved,
    /// A shape outside the limits.
    Shape {
        /// The number of tokens.
        tokens: usize,
        /// The number of components.
        dim: usize,
    },
    /// Not as long as the header says.
    Length {
        /// How many bytes there are.
        len: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A component or a scale is NaN, infinite or otherwise none that is ever written.
    Value {
        /// Index of the token, from 0.
        token: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Empty => f.write_str("multivector must have at least 1 token"),
            Error::ZeroDim => f.write_str("token vectors must have at least 1 dimension"),
            Error::TooManyDims { dim } => write!(
                f,
                "token vectors cannot have more than {MAX_DIM} dimensions, not {dim}"
            ),
            Error::TooManyTokens { tokens } => write!(
                f,
                "multivector cannot have more than {MAX_TOKENS} tokens, not {tokens}"
            ),
            Error::OutOfMemory { bytes } => write!(f, "out of memory for {bytes} bytes"),
            Error::TooLarge { bytes, max } => write!(
                f,
                "multivector of {bytes} bytes is larger than the limit of {max} bytes"
            ),
            Error::Ragged {
                token,
                dim,
                expected,
            } => write!(
                f,
                "token {} has {dim} dimensions, those before it have {expected}",
                token + 1
            ),
            Error::Incomplete { values, dim } => {
                write!(f, "{values} values do not make tokens of {dim} dimensions")
            }
            Error::DimensionMismatch { expected, dim } => {
                write!(f, "expected {expected} dimensions, not {dim}")
            }
            Error::NotFinite {
                token,
                component,
                value,
            } => write!(
                f,
                "{} not allowed in multivector: component {} of token {}",
                name_of_not_finite(*value),
                component + 1,
                token + 1
            ),
            Error::OutOfRange {
                token,
                value,
                element,
            } => write!(
                f,
                "{value:e} of token {} is out of range for element type {element}",
                token + 1
            ),
            Error::NullElement { position } => write!(
                f,
                "null not allowed in multivector: at character {}",
                position + 1
            ),
            Error::Syntax {
                position,
                found,
                expected,
            } => {
                write!(f, "expected {expected} at character {}, ", position + 1)?;
                match found {
                    Some(found) => write!(f, "not \"{found}\""),
                    None => f.write_str("where the text ends"),
                }
            }
            Error::NumberOutOfRange { position, number } => write!(
                f,
                "\"{number}\" at character {} is out of range for type real",
                position + 1
            ),
            Error::TypeModifier { problem } => f.write_str(problem),
            Error::Binary(corrupt) => write!(f, "not the binary form of a multivector: {corrupt}"),
            Error::Corrupt(corrupt) => write!(f, "multivector is corrupt: {corrupt}"),
            Error::TokenRange { from, to, tokens } => write!(
                f,
                "tokens {} to {to} are not a range of the multivector's {tokens}",
                from + 1
            ),
            Error::PoolFactor => f.write_str("pool factor must be at least 1, not 0"),
        }
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corrupt::Truncated { len, header } => {
                write!(f, "{len} bytes are less than the {header} of its header")
            }
            Corrupt::Version { version } => write!(f, "version {version}, expected 1"),
            Corrupt::ElementType { code } => write!(f, "no element type has number {code}"),
            Corrupt::Reserved => f.write_str("reserved bytes are not zero"),
            Corrupt::Shape { tokens, dim } => write!(
                f,
                "{tokens} tokens of {dim} dimensions are outside the limits of {MAX_TOKENS} and {MAX_DIM}"
            ),
            Corrupt::Length { len, expected } => write!(f, "{len} bytes, expected {expected}"),
            Corrupt::Value { token } => write!(
                f,
                "a stored number of token {} is none that is ever written",
                token + 1
            ),
        }
    }
}

impl std::error::Error for Error {}
impl std::error::Error for Corrupt {}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Error {
        Error::Corrupt(corrupt)
    }
}

/// As pgvector and PostgreSQL spell them.
fn name_of_not_finite(value: f32) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "infinity"
    } else {
        "-infinity"
    }
}
