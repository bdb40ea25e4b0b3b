//! How long work is divided, so that a caller can end it: blocks of tokens, a call of [`Poll`] before each.
//!
//! Used by everything that is linear in a value's size; a value of 1 GB takes seconds. The extension looks at PostgreSQL's
//! interrupts there; tests count. A block takes a few milliseconds at most, even where each component is printed.

use std::ops::Range;

use crate::error::Error;
use crate::room::room;
use crate::shape::Shape;

/// Called again and again while a value is worked on; it may unwind.
pub type Poll<'a> = &'a mut dyn FnMut();

/// Components of a block, and bytes where bytes are all that counts.
pub(crate) const BLOCK: usize = 1 << 16;

/// The tokens of a value, block by block; polls before each.
pub(crate) fn blocks(shape: Shape, poll: Poll<'_>) -> impl Iterator<Item = Range<usize>> {
    let tokens = (BLOCK / shape.dim()).max(1);
    (0..shape.tokens()).step_by(tokens).map(move |first| {
        poll();
        first..shape.tokens().min(first + tokens)
    })
}

/// The rows of a value's components, block by block; polls before each.
pub(crate) fn row_blocks<'a>(
    values: &'a [f32],
    dim: usize,
    poll: Poll<'a>,
) -> impl Iterator<Item = &'a [f32]> {
    values
        .chunks((BLOCK / dim).max(1) * dim)
        .inspect(move |_| poll())
}

/// A copy of some components.
pub(crate) fn copy(values: &[f32], poll: Poll<'_>) -> Result<Vec<f32>, Error> {
    let mut copied = room(values.len())?;
    for block in row_blocks(values, 1, poll) {
        copied.extend_from_slice(block);
    }
    Ok(copied)
}
