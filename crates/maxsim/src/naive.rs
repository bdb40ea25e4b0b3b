//! The reference: plain loops in f64 over the definition. Tests compare every kernel with it; nothing else uses it.

/// The inner product of two token vectors of one length.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "token vectors of different dimensions");
    a.iter()
        .zip(b)
        .map(|(&x, &y)| f64::from(x) * f64::from(y))
        .sum()
}

/// `Σ_i max_j ⟨q_i, d_j⟩` over row-major `query` (n × `dim`) and `document` (m × `dim`).
///
/// A NaN similarity is never the maximum; without any other the maximum is −∞, as in the kernels.
#[must_use]
pub fn score(query: &[f32], document: &[f32], dim: usize) -> f64 {
    let best = |q: &[f32]| {
        document
            .chunks_exact(dim)
            .map(|d| dot(q, d))
            .fold(f64::NEG_INFINITY, f64::max)
    };
    query.chunks_exact(dim).map(best).sum()
}
