//! What every centroid means to a query: the products of its tokens with all centroids, once exactly and once as bytes.
//!
//! The bytes are for the sweep over all signatures, where the best centroid per query token is a maximum of bytes, 16 at
//! a time on any x86-64. A byte counts steps above the token's mean product, below which no document's best lies, in a
//! step common to all tokens, so that the sum of bytes is the score.

use std::ops::Range;

use maxsim::Query;

use crate::Codebook;
use crate::error::{Error, corrupt};

/// Products between two polls.
const STRIDE: usize = 1 << 16;
/// Bytes of a cache line, and the query tokens of the widest chunk.
const LINE: usize = 64;

#[derive(Debug)]
pub(crate) struct Table {
    /// lists × query tokens.
    products: Vec<f32>,
    chunks: Vec<Chunk>,
    step: f64,
    /// The sum of what byte 0 stands for.
    floor: f64,
}

/// Some query tokens' bytes: lists × width in `range`, which begins with a cache line.
#[derive(Debug)]
struct Chunk {
    width: usize,
    range: Range<usize>,
    bytes: Vec<u8>,
}

impl Table {
    pub(crate) fn new(query: &Query, codebook: &Codebook, poll: &mut dyn FnMut()) -> Table {
        let (columns, lists) = (query.tokens(), codebook.lists());
        assert!(columns.is_multiple_of(4), "{columns} query tokens");
        let mut products = vec![0.0; lists * columns];
        let mut sums = vec![[0.0f32; 4]; columns / 4];
        let mut largest = vec![[f32::NEG_INFINITY; 4]; columns / 4];
        let rows = (STRIDE / columns).max(1);
        for (part, products) in products.chunks_mut(rows * columns).enumerate() {
            let range = part * rows..part * rows + products.len() / columns;
            query
                .products_int8(codebook.rows(), range, products)
                .expect("whole centroids");
            let reaches = &codebook.reaches()[part * rows..];
            for (row, reach) in products.chunks_exact(columns).zip(reaches) {
                let row = row.as_chunks().0;
                for ((sum, largest), products) in sums.iter_mut().zip(&mut largest).zip(row) {
                    note(sum, largest, products, *reach);
                }
            }
            poll();
        }
        let (sums, largest) = (sums.as_flattened(), largest.as_flattened());
        let floors: Vec<f32> = sums.iter().map(|sum| sum / lists as f32).collect();
        let ranges = largest
            .iter()
            .zip(&floors)
            .map(|(largest, floor)| largest - floor);
        let range = ranges.fold(0.0, f32::max);
        let step = if range > 0.0 {
            range / f32::from(u8::MAX)
        } else {
            1.0
        };
        let mut chunks = Vec::new();
        let mut first = 0;
        while first < columns {
            let width = match columns - first {
                ..=16 => 16,
                17..=32 => 32,
                _ => LINE,
            };
            let used = first..columns.min(first + width);
            chunks.push(Chunk::new(
                width,
                &products,
                codebook.reaches(),
                used,
                &floors,
                step,
                poll,
            ));
            first += width;
        }
        Table {
            products,
            chunks,
            step: f64::from(step),
            floor: floors.iter().copied().map(f64::from).sum(),
        }
    }

    /// The products of the query's tokens with every centroid, a row each.
    pub(crate) fn products(&self) -> &[f32] {
        &self.products
    }

    /// The estimate of level 1: for every query token the best of the centroids in `signature`.
    pub(crate) fn score(&self, signature: &[u8]) -> Result<f64, Error> {
        let (ids, rest) = signature.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(corrupt("a signature ends within a number"));
        }
        let mut steps = 0;
        for chunk in &self.chunks {
            let bytes = &chunk.bytes[chunk.range.clone()];
            steps += match chunk.width {
                16 => sum_of_maxima::<16>(bytes, ids)?,
                32 => sum_of_maxima::<32>(bytes, ids)?,
                _ => sum_of_maxima::<LINE>(bytes, ids)?,
            };
        }
        Ok(self.floor + self.step * f64::from(steps))
    }
}

impl Chunk {
    fn new(
        width: usize,
        products: &[f32],
        reaches: &[f32],
        used: Range<usize>,
        floors: &[f32],
        step: f32,
        poll: &mut dyn FnMut(),
    ) -> Chunk {
        let lists = reaches.len();
        let columns = products.len() / lists;
        let mut bytes = vec![0; lists * width + LINE];
        let start = bytes.as_ptr().align_offset(LINE).min(LINE);
        let floors = floors[used.clone()].as_chunks().0;
        let range = start..start + lists * width;
        let rows = bytes[range.clone()].chunks_exact_mut(width);
        let rows = rows.zip(products.chunks_exact(columns).zip(reaches));
        for (at, (row, (products, reach))) in rows.enumerate() {
            let products = products[used.clone()].as_chunks().0;
            for ((to, products), floors) in
                row.as_chunks_mut().0.iter_mut().zip(products).zip(floors)
            {
                *to = bytes_above(products, floors, reach / step, 1.0 / step);
            }
            if at % (STRIDE / LINE) == 0 {
                poll();
            }
        }
        Chunk {
            width,
            range,
            bytes,
        }
    }
}

// In fours, so that the compiler needs no loops of unknown length.

#[inline(always)]
fn note(sum: &mut [f32; 4], largest: &mut [f32; 4], products: &[f32; 4], reach: f32) {
    for k in 0..4 {
        let product = products[k] * reach;
        sum[k] += product;
        largest[k] = if product > largest[k] {
            product
        } else {
            largest[k]
        };
    }
}

/// How many steps products lie above their floors, 0 to 255.
#[inline(always)]
fn bytes_above(products: &[f32; 4], floors: &[f32; 4], scale: f32, floor_scale: f32) -> [u8; 4] {
    // Adding it leaves the rounded number in the lowest bits.
    const ROUND: f32 = (1u32 << 23) as f32;
    std::array::from_fn(|k| {
        let steps = products[k] * scale - floors[k] * floor_scale;
        let steps = if steps > 0.0 { steps } else { 0.0 };
        let steps = if steps < 255.0 { steps } else { 255.0 };
        (steps + ROUND).to_bits() as u8
    })
}

#[inline(always)]
fn sum_of_maxima<const WIDTH: usize>(table: &[u8], ids: &[[u8; 2]]) -> Result<u32, Error> {
    let rows = table.as_chunks::<WIDTH>().0;
    let mut best = [0u8; WIDTH];
    for id in ids {
        let row = rows
            .get(usize::from(u16::from_le_bytes(*id)))
            .ok_or(corrupt("a signature names a centroid that does not exist"))?;
        for lane in 0..WIDTH {
            best[lane] = best[lane].max(row[lane]);
        }
    }
    Ok(best.iter().map(|&byte| u32::from(byte)).sum())
}
