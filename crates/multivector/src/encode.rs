//! From f32 components to a stored value, and from one element type to another.
//!
//! Used by input, casts, the embedding functions and every function that makes a new value. [`encode_into`] writes to
//! memory of the caller's, of [`encoded_size`] bytes, so that the extension can hand over what it has palloc'd.

use crate::element::ElementType;
use crate::error::Error;
use crate::layout::{HEADER_BYTES, encoded_size, write_header};
use crate::poll::{Poll, row_blocks};
use crate::room::zeros;
use crate::shape::Shape;
use crate::view::View;

/// Encodes `values`, tokens × dim in row-major order, as a new value (without PostgreSQL's length word).
///
/// The encoding is canonical: -0.0 becomes 0.0, and encoding the values of a [`View`] gives its bytes again.
///
/// # Errors
/// [`Error::NotFinite`] with the first NaN or infinity; [`Error::OutOfRange`] beyond ±65,504 (rounded) for f16;
/// [`Error::TooLarge`]; [`Error::Incomplete`] when `values` is not of that shape.
pub fn encode(
    values: &[f32],
    shape: Shape,
    element: ElementType,
    poll: Poll<'_>,
) -> Result<Vec<u8>, Error> {
    let mut out = zeros(encoded_size(element, shape)?)?;
    encode_into(values, shape, element, &mut out, poll)?;
    Ok(out)
}

/// Encodes as [`encode`] does, writing every byte of `out`.
///
/// # Errors
/// As [`encode`]; `out` then holds nothing of use.
///
/// # Panics
/// When `out` is not of [`encoded_size`] bytes.
pub fn encode_into(
    values: &[f32],
    shape: Shape,
    element: ElementType,
    out: &mut [u8],
    poll: Poll<'_>,
) -> Result<(), Error> {
    assert_eq!(Ok(out.len()), encoded_size(element, shape), "size of out");
    if values.len() != shape.values() {
        return Err(Error::Incomplete {
            values: values.len(),
            dim: shape.dim(),
        });
    }
    check_finite(values, shape.dim(), poll)?;
    let (header, payload) = out.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&write_header(element, shape));
    element.encode(values, shape, payload, poll)
}

/// The same value with another element type. To f32 is exact; to a type with less room rounds.
///
/// # Errors
/// As [`View::values`] and [`encode`].
pub fn convert(view: View<'_>, element: ElementType, poll: Poll<'_>) -> Result<Vec<u8>, Error> {
    if view.element_type() == element {
        view.check_values(poll)?;
        return view.to_vec(poll);
    }
    encode(&view.values(poll)?, view.shape(), element, poll)
}

/// Refuses NaN and infinities, in rows of `dim`.
///
/// # Errors
/// [`Error::NotFinite`] with the first.
pub(crate) fn check_finite(values: &[f32], dim: usize, poll: Poll<'_>) -> Result<(), Error> {
    let mut first = 0;
    for block in row_blocks(values, dim, poll) {
        if !maxsim::all_finite(block) {
            let at = block.iter().position(|value| !value.is_finite());
            let at = at.expect("all_finite saw one");
            return Err(Error::NotFinite {
                token: (first + at) / dim,
                component: at % dim,
                value: block[at],
            });
        }
        first += block.len();
    }
    Ok(())
}
