//! Token pooling: a document's tokens, clustered by direction, each cluster replaced by its mean.
//!
//! Used by SQL's `multivector_pool`. A factor of 2 halves a ColBERT passage at little loss of ranking quality; ColPali
//! pages, mostly white, stand 3.
//!
//! # Source
//! Clavié, Chaffin and Adams, *Reducing the footprint of multi-vector retrieval with minimal performance impact via
//! token pooling*, 2024: Ward's linkage on cosine distance, tokens / factor clusters, means.

use crate::encode::encode;
use crate::error::Error;
use crate::functions::{mean_of, normalize_row};
use crate::shape::Shape;
use crate::view::View;
use crate::ward;

/// The value with `tokens / factor` tokens (rounded down, at least 1), encoded as it was; a factor of 1 changes nothing.
///
/// Tokens are normalised to be clustered; the means are those of the tokens as they are and not normalised. Clusters
/// stand in the order of their first tokens. Takes O(tokens² · dim) time (25 ms for a page of 1,030 tokens, half a minute
/// for the longest value), so `poll` is called at least every few milliseconds; it may unwind.
///
/// # Errors
/// [`Error::PoolFactor`] for 0; as [`View::values`].
pub fn pool(view: View<'_>, factor: usize, poll: &mut dyn FnMut()) -> Result<Vec<u8>, Error> {
    if factor == 0 {
        return Err(Error::PoolFactor);
    }
    let values = view.values()?;
    if factor == 1 {
        return Ok(view.bytes().to_vec());
    }
    let (pooled, shape) = pool_rows(&values, view.shape(), factor, poll)?;
    encode(&pooled, shape, view.element_type())
}

/// [`pool`] on rows of f32.
fn pool_rows(
    values: &[f32],
    shape: Shape,
    factor: usize,
    poll: &mut dyn FnMut(),
) -> Result<(Vec<f32>, Shape), Error> {
    let dim = shape.dim();
    let pooled = Shape::new((shape.tokens() / factor).max(1), dim)?;
    let mut directions = values.to_vec();
    directions.chunks_exact_mut(dim).for_each(normalize_row);
    let labels = ward::cluster(&mut directions, dim, pooled.tokens(), poll);
    // Rows by cluster; the sort is stable, so sums are in the order of tokens.
    let mut order: Vec<usize> = (0..shape.tokens()).collect();
    order.sort_by_key(|&row| labels[row]);
    let means = order
        .chunk_by(|&a, &b| labels[a] == labels[b])
        .flat_map(|rows| mean_of(rows.iter().map(|&row| &values[row * dim..][..dim]), dim));
    Ok((means.collect(), pooled))
}
