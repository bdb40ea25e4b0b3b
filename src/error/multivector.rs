//! Errors of crate `multivector` and of the type's modifiers.

use multivector::Error;
use pgrx::PgSqlErrorCode as Code;

use super::{SqlError, capital};

impl From<Error> for SqlError {
    fn from(error: Error) -> SqlError {
        let message = error.to_string();
        match error {
            Error::Empty
            | Error::ZeroDim
            | Error::Ragged { .. }
            | Error::Incomplete { .. }
            | Error::NotFinite { .. } => SqlError::new(Code::ERRCODE_DATA_EXCEPTION, message),
            Error::DimensionMismatch { .. } => SqlError::new(Code::ERRCODE_DATA_EXCEPTION, message)
                .hint("The column's type fixes the dimension; embed with its model, or alter the column."),
            Error::TooManyDims { .. } | Error::TooManyTokens { .. } | Error::TooLarge { .. } => {
                SqlError::new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
            }
            Error::OutOfRange { .. } => {
                SqlError::new(Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, message)
                    .hint("Normalize the vectors, or store them as f32.")
            }
            Error::OutOfMemory { bytes } => SqlError::out_of_memory(bytes),
            Error::NumberOutOfRange { .. } => {
                SqlError::new(Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, message)
            }
            Error::NullElement { .. } => {
                SqlError::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, message)
            }
            Error::Syntax { .. } => SqlError::new(
                Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type multivector",
            )
            .detail(format!("{}.", capital(&message)))
            .hint("Write one list per token: '[[0.1,0.2],[0.3,0.4]]'."),
            Error::TypeModifier { .. } => {
                SqlError::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
                    .hint("For example: multivector(128), multivector(128, f16).")
            }
            Error::TokenRange { .. } | Error::PoolFactor => {
                SqlError::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
            }
            Error::Binary(_) => {
                SqlError::new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, message)
            }
            Error::Corrupt(_) => SqlError::new(Code::ERRCODE_DATA_CORRUPTED, message),
        }
    }
}

impl SqlError {
    pub(crate) fn type_modifier_number(typmod: i32) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid type modifier {typmod} of type multivector"),
        )
    }

    /// Tokens counted from 1, both ends included.
    pub(crate) fn token_range(first: i32, last: i32, tokens: usize) -> SqlError {
        SqlError::new(
            Code::ERRCODE_ARRAY_ELEMENT_ERROR,
            format!("tokens {first} to {last} are not a range of 1 to {tokens}"),
        )
        .hint("The first token is 1, and both ends are included.")
    }

    pub(crate) fn pool_factor(factor: i32) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("pool factor must be at least 1, not {factor}"),
        )
    }

    pub(crate) fn not_in_an_aggregate(function: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("{function} called in non-aggregate context"),
        )
    }
}
