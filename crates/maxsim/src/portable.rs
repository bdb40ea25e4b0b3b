//! The path without intrinsics, used where no other kernel is written for the machine; also what Miri can run.
//!
//! Lanes are queries: the query is packed as `[tile][k][LANES]`, so that one component of a document token meets
//! the same component of `LANES` query tokens in one multiply-add, and the maximum needs no horizontal step.

/// Query tokens side by side.
pub(crate) const LANES: usize = 8;
/// Document tokens per pass over a tile: enough independent sums to hide latency, few enough for 16 registers.
const BLOCK: usize = 4;

/// Packs n × `dim` row-major values as `[tile][k][LANES]`, the last tile filled up with zeros.
pub(crate) fn pack(values: &[f32], dim: usize) -> Vec<f32> {
    let tiles = (values.len() / dim).div_ceil(LANES);
    let mut packed = vec![0.0; tiles * dim * LANES];
    for (token, row) in values.chunks_exact(dim).enumerate() {
        let tile = &mut packed[token / LANES * dim * LANES..][..dim * LANES];
        for (k, &value) in row.iter().enumerate() {
            tile[k * LANES + token % LANES] = value;
        }
    }
    packed
}

/// The sum over `tokens` query tokens of their best similarity to any token of `document`.
pub(crate) fn score(packed: &[f32], tokens: usize, document: &[f32], dim: usize) -> f64 {
    let tiles = packed.chunks_exact(dim * LANES);
    let mut sum = 0.0;
    for (tile, first) in tiles.zip((0..tokens).step_by(LANES)) {
        let best = best_of_tile(tile, document, dim);
        let used = LANES.min(tokens - first);
        sum += best[..used]
            .iter()
            .map(|&value| f64::from(value))
            .sum::<f64>();
    }
    sum
}

fn best_of_tile(tile: &[f32], document: &[f32], dim: usize) -> [f32; LANES] {
    let mut best = [f32::NEG_INFINITY; LANES];
    let blocks = document.chunks_exact(BLOCK * dim);
    let rest = blocks.remainder();
    for block in blocks {
        keep_larger::<BLOCK>(&mut best, tile, block, dim);
    }
    for row in rest.chunks_exact(dim) {
        keep_larger::<1>(&mut best, tile, row, dim);
    }
    best
}

#[inline(always)]
fn keep_larger<const ROWS: usize>(best: &mut [f32; LANES], tile: &[f32], rows: &[f32], dim: usize) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &rows[row * dim..][..dim]);
    let mut sums = [[0.0f32; LANES]; ROWS];
    for (k, queries) in tile.chunks_exact(LANES).enumerate().take(dim) {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            for lane in 0..LANES {
                sum[lane] += queries[lane] * row[k];
            }
        }
    }
    for sum in &sums {
        for lane in 0..LANES {
            // Not `f32::max`: this form is one instruction, and drops a NaN similarity too.
            best[lane] = if sum[lane] > best[lane] {
                sum[lane]
            } else {
                best[lane]
            };
        }
    }
}
