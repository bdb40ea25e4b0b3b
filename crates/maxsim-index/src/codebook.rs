//! The centroids: which there are, in two levels, and their bytes.
//!
//! Fine centroids are kept as [`maxsim::encode_int8`] stores them, which costs no recall and makes the table of a query
//! four times cheaper. They are numbered cell by cell, a cell being what is nearest to one coarse centroid.
//!
//! # Bytes
//! All little-endian: "MSCB", version u32, dim u32, cells u32, lists u32, mean residual f64, where each cell starts and
//! the last ends (cells + 1 times u32), the reach of each fine centroid (f32), the coarse centroids and the fine ones as
//! int8 documents.
//!
//! The reach is the mean length of a list's tokens over the length of their mean, which is shorter as they point in
//! different directions. A query token that matches one of them matches it by about the product with the mean times the
//! reach. For the estimate of level 1 that is worth half as many lists again: .97 instead of .95 of the best 10 among the
//! best 100 (scifact3k, 2048 lists). Residuals are smallest to the mean itself.

use std::ops::Range;

use maxsim::Query;

use crate::error::{Error, corrupt};
use crate::train::{COARSE_SAMPLE, cells_for};

const MAGIC: [u8; 4] = *b"MSCB";
const VERSION: u32 = 1;
const HEAD: usize = 28;
/// Centroids have numbers of 16 bits.
const MAX_LISTS: usize = 1 << 16;
/// Where tokens of a list cancel each other out, their mean says nothing, however much it is lengthened.
pub(crate) const MAX_REACH: f32 = 4.0;
/// Bytes of the scale in front of a centroid's codes.
pub(crate) const SCALE: usize = size_of::<f32>();

/// Centroids of one dimension. Immutable: any number of threads may use it.
#[derive(Debug, Clone)]
pub struct Codebook {
    dim: usize,
    lists: usize,
    mean_residual: f64,
    /// Where each cell's centroids start, and the end.
    starts: Vec<u32>,
    reaches: Vec<f32>,
    /// How much the mean lengths of the lists' tokens differ: standard deviation over mean.
    unevenness: f64,
    coarse_rows: Vec<u8>,
    rows: Vec<u8>,
    /// The coarse centroids, packed to be compared with tokens.
    coarse: Query,
    /// |c|² / 2 of the coarse centroids and of the fine ones: the distance is smallest where ⟨x, c⟩ − |c|² / 2 is
    /// largest.
    coarse_halves: Vec<f32>,
    halves: Vec<f32>,
}

impl Codebook {
    /// How many centroids suit a collection of so many tokens: the power of two nearest to 8 √tokens, 256 to 65,536.
    ///
    /// With more, the table of a query and the sweep over all signatures cost more; with fewer, more documents go on to
    /// level 2. Twice as many or half as many cost a search about a fifth (docs/index-design.md).
    #[must_use]
    pub fn lists_for(tokens: u64) -> usize {
        let exponent = (8.0 * (tokens as f64).sqrt()).max(1.0).log2().round();
        1 << (exponent as u32).clamp(8, 16)
    }

    /// How many tokens to train `lists` centroids with, of a collection of `tokens`, in `memory_bytes`.
    #[must_use]
    pub fn sample_size(lists: usize, tokens: u64, dim: usize, memory_bytes: usize) -> usize {
        let enough = (48 * lists).min(1_200_000);
        // The sample, what is kept per token, and a copy of what the coarse k-means looks at. That is gone when the means
        // are there, which are no larger.
        let token = size_of::<f32>() * dim;
        let coarse = (COARSE_SAMPLE * cells_for(lists) * token).min(memory_bytes / 2);
        let fits = (memory_bytes - coarse) / (token + 32);
        let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
        tokens.min(enough).min(fits.max(256))
    }

    /// The number of components of a token.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many centroids there are: at most as many as were asked for.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.lists
    }

    /// The mean squared distance of a token of the sample to its centroid. That of documents encoded later says
    /// whether the codebook still suits them, though a sample is nearer than other tokens of its kind.
    #[must_use]
    pub fn mean_residual(&self) -> f64 {
        self.mean_residual
    }

    /// The bytes that [`Codebook::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [
            VERSION,
            self.dim as u32,
            self.cells() as u32,
            self.lists as u32,
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.mean_residual.to_le_bytes());
        bytes.extend(self.starts.iter().flat_map(|start| start.to_le_bytes()));
        bytes.extend(self.reaches.iter().flat_map(|reach| reach.to_le_bytes()));
        bytes.extend(&self.coarse_rows);
        bytes.extend(&self.rows);
        bytes
    }

    /// Restores a codebook.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that [`Codebook::to_bytes`] does not write, [`Error::Version`] for another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Codebook, Error> {
        let (head, rest) = bytes
            .split_at_checked(HEAD)
            .ok_or(corrupt("codebook is cut short"))?;
        if head[..4] != MAGIC {
            return Err(corrupt("codebook does not begin as one"));
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
        if word(4) != VERSION {
            return Err(Error::Version { found: word(4) });
        }
        let [dim, cells, lists] = [8, 12, 16].map(|at| word(at) as usize);
        let mean_residual = f64::from_le_bytes(std::array::from_fn(|byte| head[20 + byte]));
        if dim == 0 || cells == 0 || lists < cells || lists > MAX_LISTS {
            return Err(corrupt("codebook has an impossible number of centroids"));
        }
        if !(mean_residual >= 0.0 && mean_residual.is_finite()) {
            return Err(corrupt("codebook has an impossible residual"));
        }
        // None of it overflows: at most 2^17 tokens of 2^32 components.
        let (starts_size, coarse_size) = (4 * (cells + 1), cells * (dim + SCALE));
        if rest.len() != starts_size + 4 * lists + coarse_size + lists * (dim + SCALE) {
            return Err(corrupt(
                "codebook has another length than its centroids take",
            ));
        }
        let (starts, rest) = rest.split_at(starts_size);
        let starts: Vec<u32> = starts
            .as_chunks()
            .0
            .iter()
            .map(|start| u32::from_le_bytes(*start))
            .collect();
        let ascending = starts.windows(2).all(|pair| pair[0] < pair[1]);
        if starts[0] != 0 || starts[cells] as usize != lists || !ascending {
            return Err(corrupt("cells of the codebook do not follow one another"));
        }
        let (reaches, rest) = rest.split_at(4 * lists);
        let reaches: Vec<f32> = reaches
            .as_chunks()
            .0
            .iter()
            .map(|reach| f32::from_le_bytes(*reach))
            .collect();
        if !reaches
            .iter()
            .all(|reach| (0.0..=MAX_REACH).contains(reach))
        {
            return Err(corrupt("a reach of the codebook is out of range"));
        }
        let (coarse_rows, rows) = rest.split_at(coarse_size);
        for rows in [coarse_rows, rows] {
            maxsim::validate_int8(rows, dim)
                .map_err(|_| corrupt("a scale of the codebook is negative or not finite"))?;
        }
        Ok(Codebook::new(
            dim,
            starts,
            reaches,
            coarse_rows.to_vec(),
            rows.to_vec(),
            mean_residual,
        ))
    }

    /// Puts together parts that fit one another.
    pub(crate) fn new(
        dim: usize,
        starts: Vec<u32>,
        reaches: Vec<f32>,
        coarse_rows: Vec<u8>,
        rows: Vec<u8>,
        mean_residual: f64,
    ) -> Codebook {
        let decode = |rows: &[u8]| maxsim::decode_int8(rows, dim).expect("whole centroids");
        let coarse = decode(&coarse_rows);
        let halves = |values: &[f32]| values.chunks_exact(dim).map(half_square).collect();
        let fine: Vec<f32> = halves(&decode(&rows));
        Codebook {
            dim,
            unevenness: unevenness(&fine, &reaches),
            lists: rows.len() / (dim + SCALE),
            mean_residual,
            starts,
            reaches,
            coarse_halves: halves(&coarse),
            coarse: Query::new(&coarse, dim).expect("whole centroids"),
            halves: fine,
            coarse_rows,
            rows,
        }
    }

    pub(crate) fn with_mean_residual(self, mean_residual: f64) -> Codebook {
        Codebook {
            mean_residual,
            ..self
        }
    }

    pub(crate) fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    /// The numbers of a cell's centroids.
    pub(crate) fn cell(&self, cell: usize) -> Range<usize> {
        self.starts[cell] as usize..self.starts[cell + 1] as usize
    }

    /// All centroids, as an int8 document.
    pub(crate) fn rows(&self) -> &[u8] {
        &self.rows
    }

    pub(crate) fn reaches(&self) -> &[f32] {
        &self.reaches
    }

    /// How much tokens differ in length; 0 where all have the same.
    pub(crate) fn unevenness(&self) -> f64 {
        self.unevenness
    }

    pub(crate) fn halves(&self) -> &[f32] {
        &self.halves
    }

    pub(crate) fn coarse(&self) -> (&Query, &[f32]) {
        (&self.coarse, &self.coarse_halves)
    }

    /// Makes a token what it differs from a centroid.
    pub(crate) fn subtract_centroid(&self, id: u16, token: &mut [f32]) {
        let (scales, codes) = self.rows.split_at(self.lists * SCALE);
        let id = usize::from(id);
        let scale = f32::from_le_bytes(std::array::from_fn(|byte| scales[id * SCALE + byte]));
        let codes = &codes[id * self.dim..][..self.dim];
        for (value, &code) in token.iter_mut().zip(codes) {
            let rest = *value - f32::from(i16::from(code) - 128) * scale;
            *value = rest.clamp(-f32::MAX, f32::MAX);
        }
    }
}

/// |c|² / 2, finite.
pub(crate) fn half_square(row: &[f32]) -> f32 {
    let square: f32 = row.iter().map(|value| value * value).sum();
    (square / 2.0).min(f32::MAX)
}

/// Standard deviation over mean of the lists' token lengths, each |c| times its reach; 0 where they say nothing.
fn unevenness(halves: &[f32], reaches: &[f32]) -> f64 {
    let (mut lengths, mut squares) = (0.0, 0.0);
    for (half, reach) in halves.iter().zip(reaches) {
        let length = (2.0 * f64::from(*half)).sqrt() * f64::from(*reach);
        lengths += length;
        squares += length * length;
    }
    let count = halves.len() as f64;
    let mean = lengths / count;
    let variance = (squares / count / (mean * mean) - 1.0).max(0.0);
    if variance.is_finite() {
        variance.sqrt()
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tokens_of_one_length_are_even_and_others_are_not() {
        // Means of unit tokens that point apart are shorter, which their reach makes up for.
        assert!(unevenness(&[0.5, 0.125, 0.02], &[1.0, 2.0, 5.0]) < 1e-3);
        let uneven = unevenness(&[0.5, 4.5], &[1.0, 1.0]);
        assert!((uneven - 0.5).abs() < 1e-6, "lengths 1 and 3: {uneven}");
        assert_eq!(unevenness(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
        assert!(unevenness(&[f32::MAX, 1.0], &[4.0, 1.0]).is_finite());
    }
}
