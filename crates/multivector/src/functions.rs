//! What SQL calls on values: normalise, slice, mean, rows.
//!
//! Used by the extension's `multivector_*` functions. All linear in the value's size; pooling, which is not, has a
//! [module](mod@crate::pool) of its own.

use std::ops::Range;

use crate::encode::encode;
use crate::error::Error;
use crate::poll::{Poll, blocks};
use crate::shape::Shape;
use crate::view::View;

/// The value with every token divided by its Euclidean norm, encoded as it was.
///
/// A zero token has no direction and stays zero, as with pgvector's `l2_normalize`. int8 and bit round again.
///
/// # Errors
/// As [`View::values`].
pub fn normalize(view: View<'_>, poll: Poll<'_>) -> Result<Vec<u8>, Error> {
    let mut values = view.to_values(poll)?;
    normalize_rows(&mut values, view.shape(), poll);
    encode(&values, view.shape(), view.element_type(), poll)
}

/// Divides each row by its Euclidean norm.
pub(crate) fn normalize_rows(values: &mut [f32], shape: Shape, poll: Poll<'_>) {
    for tokens in blocks(shape, poll) {
        let rows = &mut values[tokens.start * shape.dim()..tokens.end * shape.dim()];
        rows.chunks_exact_mut(shape.dim()).for_each(normalize_row);
    }
}

/// Divides by the Euclidean norm; leaves zeros.
fn normalize_row(row: &mut [f32]) {
    let length = length_of(row);
    if length > 0.0 {
        row.iter_mut()
            .for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

/// The Euclidean norm; in f64, where no square of an f32 overflows or vanishes.
pub(crate) fn length_of(row: &[f32]) -> f64 {
    let squares = row.iter().map(|&value| f64::from(value) * f64::from(value));
    squares.sum::<f64>().sqrt()
}

/// The tokens of a range, from 0, without another rounding: a slice has the very components of the whole.
///
/// # Errors
/// [`Error::TokenRange`] when the range is empty or ends after the last token; as [`View::values`].
pub fn slice(view: View<'_>, tokens: Range<usize>, poll: Poll<'_>) -> Result<Vec<u8>, Error> {
    if tokens.is_empty() || tokens.end > view.tokens() {
        return Err(Error::TokenRange {
            from: tokens.start,
            to: tokens.end,
            tokens: view.tokens(),
        });
    }
    // Decoded values encode to the bits they came from, so this is exact for every element type.
    let values = view.values(poll)?;
    let shape = Shape::new(tokens.len(), view.dim())?;
    let values = &values[tokens.start * view.dim()..tokens.end * view.dim()];
    encode(values, shape, view.element_type(), poll)
}

/// The mean of all tokens, dim components: one vector for coarse search, not normalised.
///
/// # Errors
/// As [`View::values`].
pub fn mean(view: View<'_>, poll: Poll<'_>) -> Result<Vec<f32>, Error> {
    let values = view.values(poll)?;
    let rows = values.chunks_exact(view.dim());
    Ok(mean_of(rows.inspect(|_| poll()), view.dim()))
}

/// The mean of some rows, at least one; added up in f64, where f32 cannot overflow.
pub(crate) fn mean_of<'a>(rows: impl Iterator<Item = &'a [f32]>, dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    let mut count = 0.0;
    for row in rows {
        count += 1.0;
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}
