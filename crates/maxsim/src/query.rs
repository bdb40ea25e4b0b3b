//! The packed query: made once a statement by the caller, then asked to score one document after another.

use std::sync::OnceLock;

use crate::Kernel;
use crate::arch::{Arch, routines};
use crate::error::{Error, tokens};
use crate::packed::{Packed, Rows, Source};
use crate::{half, int8};

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
        let (dense, codes) = (OnceLock::new(), OnceLock::new());
        Ok(Query {
            values: values.to_vec(),
            dim,
            tokens,
            kernel,
            arch: routines(kernel),
            dense,
            codes,
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

    /// The memory it holds, for callers that account for it. Grows when an element type is scored for the first time.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let packed = [&self.dense, &self.codes]
            .into_iter()
            .filter_map(OnceLock::get);
        size_of::<Query>()
            + size_of::<f32>() * self.values.capacity()
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
        let bytes = unsafe {
            std::slice::from_raw_parts(document.as_ptr().cast::<u8>(), size_of_val(document))
        };
        let dense = self.dense();
        if let Some(score) = dense.score_in_place(&Rows {
            units: bytes,
            scales: &[],
        }) {
            return Ok(score);
        }
        let unpack = |row: usize, k: usize, out: &mut [u32]| {
            let values = &document[row * self.dim + k..][..out.len()];
            out.iter_mut()
                .zip(values)
                .for_each(|(out, value)| *out = value.to_bits());
        };
        Ok(dense.score_unpacked(&Source {
            tokens,
            unpack,
            scales: &[],
            bytes,
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
        let token_size = self.dim * half::SIZE;
        let tokens = tokens(document.len(), token_size)?;
        let unpack = |row: usize, k: usize, out: &mut [u32]| {
            let halves = &document[row * token_size + k * half::SIZE..][..out.len() * half::SIZE];
            // SAFETY: the kernel is available; the slices hold as many halves as f32.
            unsafe { (self.arch.widen_f16)(halves.as_ptr(), out.as_mut_ptr().cast(), out.len()) };
        };
        Ok(self.dense().score_unpacked(&Source {
            tokens,
            unpack,
            scales: &[],
            bytes: document,
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
        let dim = self.dim;
        let tokens = tokens(document.len(), int8::token_size(dim))?;
        let (scales, codes) = document.split_at(tokens * int8::SCALE);
        let Some(routines) = &self.arch.codes else {
            let unpack = |row: usize, k: usize, out: &mut [u32]| {
                let scale = scales.as_chunks().0[row];
                let codes = &codes[row * dim + k..][..out.len()];
                // SAFETY: the slices hold as many codes as f32.
                unsafe {
                    int8::widen(
                        codes.as_ptr(),
                        f32::from_le_bytes(scale),
                        out.as_mut_ptr().cast(),
                        out.len(),
                    )
                };
            };
            return Ok(self.dense().score_unpacked(&Source {
                tokens,
                unpack,
                scales: &[],
                bytes: codes,
            }));
        };
        let packed = self
            .codes
            .get_or_init(|| Packed::codes(routines, &self.values, dim));
        // Rows of whole units only: else the last unit would hold the next row's codes.
        if dim.is_multiple_of(4)
            && let Some(score) = packed.score_in_place(&Rows {
                units: codes,
                scales,
            })
        {
            return Ok(score);
        }
        let unpack = |row: usize, unit: usize, out: &mut [u32]| {
            let codes = &codes[row * dim..][unit * 4..dim.min((unit + out.len()) * 4)];
            let (whole, rest) = codes.as_chunks::<4>();
            out.iter_mut()
                .zip(whole)
                .for_each(|(out, &codes)| *out = u32::from_ne_bytes(codes));
            if !rest.is_empty() {
                let mut last = [0; 4];
                last[..rest.len()].copy_from_slice(rest);
                out[whole.len()] = u32::from_ne_bytes(last);
            }
        };
        Ok(packed.score_unpacked(&Source {
            tokens,
            unpack,
            scales,
            bytes: codes,
        }))
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

    fn dense(&self) -> &Packed {
        self.dense
            .get_or_init(|| Packed::dense(&self.arch.dense, &self.values, self.dim))
    }
}
