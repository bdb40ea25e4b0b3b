//! Casts: a column's modifier applied, and `real[]` and `double precision[]` both ways.

use infinity_client::MultiVector;
use multivector::{ElementType, Shape, TypeModifier, View};
use pgrx::pg_extern;

use super::datum::{Multivector, Stored};
use super::typmod::modifier;
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::matrix::{DoubleArray, Matrix, RealArray};

/// A value made fit for a column: same dimension, the column's element type.
///
/// # Errors
/// 22000 where the dimension is another, 22003 where a number does not fit the element type.
pub(super) fn fit(view: View<'_>, modifier: TypeModifier) -> Result<Stored, SqlError> {
    modifier.check(view.shape())?;
    if view.element_type() == modifier.element {
        return Ok(Stored::copy(view.bytes()));
    }
    Stored::encode(&view.values(&mut poll)?, view.shape(), modifier.element)
}

/// The length coercion that PostgreSQL applies on assignment, as it does for numeric.
#[pg_extern(sql = false)]
fn multivector_apply_typmod(value: Multivector, typmod: i32, _explicit: bool) -> Stored {
    let fits = modifier(typmod).and_then(|modifier| {
        let view = value.view()?;
        Ok(match modifier {
            Some(modifier)
                if view.dim() != modifier.dim || view.element_type() != modifier.element =>
            {
                Some(fit(view, modifier)?)
            }
            _ => None,
        })
    });
    match fits.unwrap_or_else(|error| error.raise()) {
        Some(fitted) => fitted,
        None => value.into_stored(),
    }
}

/// From `real[]` or `double precision[]`.
#[pg_extern(sql = false)]
fn multivector_from_array(array: Matrix, typmod: i32, _explicit: bool) -> Stored {
    from_array(&array, typmod).unwrap_or_else(|error| error.raise())
}

fn from_array(array: &Matrix, typmod: i32) -> Result<Stored, SqlError> {
    let (values, dim) = array.rows("multivector")?;
    from_rows(&values, dim, typmod)
}

/// What the client fetched, for a column of this modifier.
///
/// # Errors
/// 22000 where the column wants another dimension, 22003 where a number does not fit, 54000.
pub(crate) fn of_embedding(embedding: &MultiVector, typmod: i32) -> Result<Stored, SqlError> {
    from_rows(&embedding.values, embedding.dim, typmod)
}

fn from_rows(values: &[f32], dim: usize, typmod: i32) -> Result<Stored, SqlError> {
    let modifier = modifier(typmod)?;
    let shape = Shape::of(values.len(), dim)?;
    if let Some(modifier) = modifier {
        modifier.check(shape)?;
    }
    let element = modifier.map_or(ElementType::F32, |modifier| modifier.element);
    Stored::encode(values, shape, element)
}

#[pg_extern(sql = false)]
fn multivector_to_real_array(value: Multivector) -> RealArray {
    let array = value
        .view()
        .and_then(|view| RealArray::rows(&view.values(&mut poll)?, view.dim()));
    array.unwrap_or_else(|error| error.raise())
}

#[pg_extern(sql = false)]
fn multivector_to_double_array(value: Multivector) -> DoubleArray {
    let array = value
        .view()
        .and_then(|view| DoubleArray::rows(&view.values(&mut poll)?, view.dim()));
    array.unwrap_or_else(|error| error.raise())
}
