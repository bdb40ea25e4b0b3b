//! The packed query: made once a statement by the caller, then asked to score one document after another.

use std::sync::OnceLock;

use crate::Kernel;
use crate::arch::{Arch, Codes, routines};
use crate::error::{Error, tokens};
use crate::packed::{Document, Packed, Scales};
use crate::{bit, half, int8};

/// A query packed for scoring.
///
/// Packing costs about as much as scoring one document, so keep it while the query lasts. It is plain data: any
/// number of threads may score with it at the same time.
#[derive(Debug, Clone)]
pub struct Query {
    /// Row-major, as given: for [`Query::matches`], and for forms packed when first needed.
    values: Vec<f32>,
    dim: usize,
    tokens: usize,
    kernel: Kernel,
    arch: &'static Arch,
    poll: fn(),
    /// The sum of all tokens, which meets the mean of bit documents.
    sum: Vec<f32>,
    dense: OnceLock<Packed>,
    codes: OnceLock<Packed>,
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
    /// Prepares `values`, n × `dim` in row-major order, for the fastest kernel of this machine.
    ///
    /// Values are expected to be finite, and not checked: see the [crate's introduction](crate) on NaN.
    ///
    /// # Errors
    /// [`Error::ZeroDim`]; [`Error::Empty`]; [`Error::Ragged`] when `dim` does not divide the length.
    pub fn new(values: &[f32], dim: usize) -> Result<Query, Error> {
        Query::with_kernel(Kernel::best(), values, dim)
    }

    /// Prepares as [`Query::new`] does, for a kernel of the caller's choice: for tests and benches.
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
        let mut sum = vec![0.0; dim];
        for row in values.chunks_exact(dim) {
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum += value);
        }
        Ok(Query {
            values: values.to_vec(),
            dim,
            tokens,
            kernel,
            arch: routines(kernel),
            poll: || (),
            sum,
            dense: OnceLock::new(),
            codes: OnceLock::new(),
        })
    }

    /// Has `poll` called while a long document is scored, after every 2¹⁸ components or so; it may unwind.
    #[must_use]
    pub fn polling(self, poll: fn()) -> Query {
        Query { poll, ..self }
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

    /// The memory it holds, for callers that account for it. Grows when an element type is scored for the first time.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let packed = [&self.dense, &self.codes]
            .into_iter()
            .filter_map(OnceLock::get);
        size_of::<Query>()
            + size_of::<f32>() * (self.values.capacity() + self.sum.capacity())
            + packed.map(Packed::size_bytes).sum::<usize>()
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
        let tokens = tokens(document.len(), self.dim)?;
        // SAFETY: the bytes of initialised f32 are initialised bytes.
        let rows = unsafe {
            std::slice::from_raw_parts(document.as_ptr().cast::<u8>(), size_of_val(document))
        };
        let (unpack, scales) = (self.arch.dense.units, Scales::None);
        Ok(self.dense().score_in_place(&Document {
            tokens,
            rows,
            component_bits: 32,
            unpack,
            scales,
            poll: self.poll,
        }))
    }

    /// Scores one document that [`encode_f16`](crate::encode_f16) stored. No alignment is asked for.
    ///
    /// # Errors
    /// [`Error::Empty`] for m = 0, [`Error::Ragged`] when the length is not a multiple of 2 × dim.
    ///
    /// # Accuracy
    /// That of [`Query::score_f32`] over the stored values, which are within 2⁻¹¹ of the original ones: in all within
    /// `n · (2⁻¹¹ + dim · ε) · max|q_i| · max|d_j|` of their score, for components of 2⁻¹⁴ and more.
    pub fn score_f16(&self, document: &[u8]) -> Result<f64, Error> {
        let tokens = tokens(document.len(), self.dim * half::SIZE)?;
        let (unpack, scales) = (self.arch.dense.f16, Scales::None);
        Ok(self.dense().score(&Document {
            tokens,
            rows: document,
            component_bits: 16,
            unpack,
            scales,
            poll: self.poll,
        }))
    }

    /// Scores one document that [`encode_int8`](crate::encode_int8) stored. No alignment is asked for.
    ///
    /// Where the machine multiplies bytes faster than f32 the query is rounded to bytes too, once.
    ///
    /// # Errors
    /// [`Error::Empty`] for m = 0, [`Error::Ragged`] when the length is not a multiple of dim + 4.
    ///
    /// # Accuracy
    /// With s and t the scales of a query and a document token (their largest components over 127), a similarity is
    /// within `t/2 · Σ|q| + s/2 · Σ|d| + dim · s · t / 4` of the exact one. On real ColBERT vectors scores are within
    /// 0.3 %.
    pub fn score_int8(&self, document: &[u8]) -> Result<f64, Error> {
        let tokens = tokens(document.len(), int8::token_size(self.dim))?;
        let (scales, rows) = document.split_at(tokens * int8::SCALE);
        let of = |unpack| Document {
            tokens,
            rows,
            component_bits: 8,
            unpack,
            scales: Scales::Floats(scales),
            poll: self.poll,
        };
        Ok(match &self.arch.codes {
            Some(
                codes @ Codes {
                    int8: Some(unpack), ..
                },
            ) => self.codes(codes).score_in_place(&of(*unpack)),
            _ => self.dense().score(&of(self.arch.dense.int8)),
        })
    }

    /// Scores one document that [`encode_bit`](crate::encode_bit) stored. No alignment is asked for.
    ///
    /// The document's mean takes no part in the search for the maximum: it adds one product, of the mean with the sum
    /// of the query's tokens. As in [`Query::score_int8`] the query may be rounded to bytes.
    ///
    /// # Errors
    /// [`Error::Empty`] for m = 0, [`Error::Ragged`] when the length is not that of a whole number of tokens.
    ///
    /// # Accuracy
    /// With s the scale of a query token and t that of a document token, a similarity is within `dim · s · t / 2` of
    /// the exact one with the decoded token. The decoded token itself is a rough approximation.
    pub fn score_bit(&self, document: &[u8]) -> Result<f64, Error> {
        let view = bit::View::new(document, self.dim)?;
        let scales = Scales::Codes(view.scales, view.unit);
        let of = |unpack| Document {
            tokens: view.tokens,
            rows: view.signs,
            component_bits: 1,
            unpack,
            scales,
            poll: self.poll,
        };
        let rest = match &self.arch.codes {
            Some(codes) => self.codes(codes).score(&of(codes.signs)),
            None => self.dense().score(&of(self.arch.dense.signs)),
        };
        Ok(view.mean_product(&self.sum) + rest)
    }

    /// The best document token of each query token, in the order of the query's tokens.
    ///
    /// For explaining a score, not for ranking: it is the plain loop, tens of times slower than scoring. The
    /// similarities add up to the score within its documented accuracy. Compact documents are decoded first.
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

    pub(crate) fn arch(&self) -> &'static Arch {
        self.arch
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn poll(&self) -> fn() {
        self.poll
    }

    pub(crate) fn dense(&self) -> &Packed {
        let routines = &self.arch.dense.routines;
        self.dense
            .get_or_init(|| Packed::dense(routines, &self.values, self.dim))
    }

    pub(crate) fn codes(&self, codes: &'static Codes) -> &Packed {
        self.codes
            .get_or_init(|| Packed::codes(codes, &self.values, self.dim))
    }
}
