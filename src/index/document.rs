//! The documents of an index: what type its column has, and their tokens as numbers.
//!
//! Used by build, insert, training and search.

use pgrx::pg_sys;

use crate::attribute::attribute;
use crate::error::SqlError;
use crate::matrix::Matrix;
use crate::maxsim::Vectors;
use crate::multivector::Multivector;

/// The column's type, as the operator class takes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentType {
    Array,
    Multivector,
}

impl DocumentType {
    /// # Safety
    /// The index is open.
    pub(super) unsafe fn of(index: pg_sys::Relation) -> DocumentType {
        // SAFETY: an index has an operator class for its one column.
        DocumentType::named(unsafe { *(*index).rd_opcintype })
    }

    /// By its type, of which an operator class of ours takes but these.
    pub(super) fn named(type_oid: pg_sys::Oid) -> DocumentType {
        match type_oid {
            pg_sys::FLOAT4ARRAYOID | pg_sys::FLOAT8ARRAYOID => DocumentType::Array,
            _ => DocumentType::Multivector,
        }
    }

    /// # Safety
    /// A non-null datum of this type that stays valid while the result lives.
    pub(super) unsafe fn vectors(self, datum: pg_sys::Datum) -> Vectors {
        // SAFETY: the caller vouches for it.
        unsafe {
            match self {
                DocumentType::Array => Vectors::Array(Matrix::from_datum(datum)),
                DocumentType::Multivector => Vectors::Multivector(Multivector::from_datum(datum)),
            }
        }
    }

    /// How many tokens it has.
    ///
    /// # Errors
    /// Those of reading a document.
    ///
    /// # Safety
    /// As [`DocumentType::vectors`].
    pub(super) unsafe fn tokens(self, datum: pg_sys::Datum) -> Result<usize, SqlError> {
        // SAFETY: the caller vouches for it.
        match unsafe { self.vectors(datum) } {
            Vectors::Array(array) => {
                let (values, dim) = array.rows("document")?;
                Ok(values.len() / dim)
            }
            Vectors::Multivector(value) => Ok(value.view()?.tokens()),
        }
    }

    /// Row-major values and the dimension.
    ///
    /// # Errors
    /// Those of reading a document: 22000, 22004, XX001.
    ///
    /// # Safety
    /// As [`DocumentType::vectors`].
    pub(super) unsafe fn values(self, datum: pg_sys::Datum) -> Result<(Vec<f32>, usize), SqlError> {
        // SAFETY: the caller vouches for it.
        let vectors = unsafe { self.vectors(datum) };
        let (values, dim) = vectors.values("document")?;
        Ok((values.into_owned(), dim))
    }
}

/// The dimension that the column's type fixes; 0 where it fixes none.
///
/// # Safety
/// The index is open.
pub(super) unsafe fn declared_dim(index: pg_sys::Relation) -> u32 {
    // SAFETY: the index has one column.
    unsafe {
        match DocumentType::of(index) {
            DocumentType::Array => 0,
            DocumentType::Multivector => {
                crate::multivector::declared_dim(attribute((*index).rd_att, 1).atttypmod)
            }
        }
    }
}
