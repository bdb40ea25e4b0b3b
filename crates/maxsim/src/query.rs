//! The packed query: made once a statement by the caller, then asked to score one document after another.

use crate::Kernel;
use crate::arch::routines;
use crate::dense::Packed;
use crate::error::{Error, tokens};

/// A query packed for scoring.
///
/// Packing costs about as much as scoring one short document, so keep it while the query lasts. It is plain data:
/// any number of threads may score with it at the same time.
#[derive(Debug, Clone)]
pub struct Query {
    /// Row-major, as given: for [`Query::matches`], and what other forms are packed from.
    values: Vec<f32>,
    dim: usize,
    tokens: usize,
    kernel: Kernel,
    packed: Packed,
}

/// The document token that matches a query token best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Index of the document token, from 0; the first of equals.
    pub document_token: usize,
    /// Its inner product with the query token.
    pub similarity: f32,
}

impl Query {
    /// Packs `values`, n × `dim` in row-major order, for the fastest kernel of this machine.
    ///
    /// Values are expected to be finite, and not checked: see the [crate's introduction](crate) on NaN.
    ///
    /// # Errors
    /// [`Error::ZeroDim`]; [`Error::Empty`]; [`Error::Ragged`] when `dim` does not divide the length.
    pub fn new(values: &[f32], dim: usize) -> Result<Query, Error> {
        Query::with_kernel(Kernel::best(), values, dim)
    }

    /// Packs as [`Query::new`] does, for a kernel of the caller's choice: for tests and benches.
    ///
    /// # Errors
    /// As [`Query::new`].
    ///
    /// # Panics
    /// When this machine cannot run `kernel`.
    pub fn with_kernel(kernel: Kernel, values: &[f32], dim: usize) -> Result<Query, Error> {
        assert!(
            kernel.is_available(),
            "this machine cannot run the {} kernel",
            kernel.name()
        );
        let tokens = tokens(values.len(), dim)?;
        let packed = Packed::new(routines(kernel), values, dim);
        Ok(Query {
            values: values.to_vec(),
            dim,
            tokens,
            kernel,
            packed,
        })
    }

    /// The number of query tokens, n.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The number of components of a token.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The kernel it is packed for.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The memory it holds, for callers that account for it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Query>() + size_of::<f32>() * self.values.capacity() + self.packed.size_bytes()
    }

    /// Scores one document: `Σ_i max_j ⟨q_i, d_j⟩`.
    ///
    /// # Shapes
    /// `document` is m × dim in row-major order; dim is the query's.
    ///
    /// # Errors
    /// [`Error::Empty`] for m = 0, [`Error::Ragged`] when dim does not divide the length.
    ///
    /// # Accuracy
    /// f32 products and sums, the n maxima added up in f64: within `n · dim · ε · max|q_i| · max|d_j|` of
    /// [`naive::score`](crate::naive::score), where ε = 2⁻²³ and |·| is the Euclidean norm.
    pub fn score_f32(&self, document: &[f32]) -> Result<f64, Error> {
        tokens(document.len(), self.dim)?;
        Ok(self.packed.score(document))
    }

    /// The best document token of each query token, in the order of the query's tokens.
    ///
    /// For explaining a score, not for ranking: it is the plain loop, tens of times slower than scoring. The
    /// similarities add up to the score within its documented accuracy.
    ///
    /// # Errors
    /// As [`Query::score_f32`].
    pub fn matches(&self, document: &[f32]) -> Result<Vec<Match>, Error> {
        tokens(document.len(), self.dim)?;
        let best = |query: &[f32]| {
            let mut best = Match {
                document_token: 0,
                similarity: f32::NEG_INFINITY,
            };
            for (document_token, row) in document.chunks_exact(self.dim).enumerate() {
                let similarity = crate::naive::dot(query, row) as f32;
                if similarity > best.similarity {
                    best = Match {
                        document_token,
                        similarity,
                    };
                }
            }
            best
        };
        Ok(self.values.chunks_exact(self.dim).map(best).collect())
    }
}
