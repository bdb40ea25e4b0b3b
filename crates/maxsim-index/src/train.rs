//! Training a codebook: k-means in two levels, so that its cost grows with the square root of the number of centroids.
//!
//! A coarse k-means over part of the sample makes cells; each cell gets its share of the fine centroids, and a k-means
//! of its own. Sums are taken in the order of the tokens by one thread each, so that the number of threads changes
//! nothing.

use maxsim::Query;

use crate::codebook::{Codebook, MAX_REACH, SCALE, half_square};
use crate::crew::{self, Check, Stopped};
use crate::random::Random;

const COARSE_ITERATIONS: usize = 8;
const FINE_ITERATIONS: usize = 6;
/// Tokens per coarse centroid that the coarse k-means looks at.
pub(crate) const COARSE_SAMPLE: usize = 256;
const MIN_CELLS: usize = 64;
/// Tokens that the mean residual is measured on.
const RESIDUAL_SAMPLE: usize = 32_768;
/// Tokens of a task.
const TASK: usize = 4096;
/// Multiplications between two checks: a millisecond on the slowest machine.
const STRIDE: usize = 2_000_000;

impl Codebook {
    /// Trains at most `lists` centroids on `sample`, tokens × `dim` finite values.
    ///
    /// `poll` is called on the calling thread every few milliseconds and may unwind. With one thread everything runs
    /// there; otherwise other threads are spawned, which are joined before this returns or unwinds. The result depends
    /// on the sample, its order and the seed, not on `threads`.
    ///
    /// # Panics
    /// When the sample has no token, `dim` does not divide its length, or `lists` is 0.
    pub fn train(
        sample: &[f32],
        dim: usize,
        lists: usize,
        seed: u64,
        threads: usize,
        poll: &mut dyn FnMut(),
    ) -> Codebook {
        assert!(
            dim > 0 && !sample.is_empty() && sample.len().is_multiple_of(dim),
            "{} values do not make tokens of {dim}",
            sample.len()
        );
        assert!(lists > 0, "no centroid is asked for");
        let tokens = sample.len() / dim;
        let lists = lists.min(1 << 16).min(tokens);
        let cells = cells_for(lists);
        let part = gather(sample, dim, &evenly(tokens, COARSE_SAMPLE * cells));
        let coarse = crew::alone(poll, |check| {
            k_means(&part, dim, cells, COARSE_ITERATIONS, Random(seed), check)
        })
        .centroids;
        drop(part);
        let members = members(sample, dim, &coarse, threads, poll);
        let shares = shares(&members, lists);
        let train_cell = |cell: usize, check: &mut Check| {
            let rows = gather(sample, dim, &members[cell]);
            let random = Random(seed ^ (cell as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            k_means(&rows, dim, shares[cell], FINE_ITERATIONS, random, check)
        };
        let fine = crew::run(threads, members.len(), &train_cell, poll);
        let codebook = assemble(dim, &coarse, fine);
        let residual = mean_residual(&codebook, sample, threads, poll);
        codebook.with_mean_residual(residual)
    }
}

/// How many cells so many centroids are learnt in.
pub(crate) fn cells_for(lists: usize) -> usize {
    let cells = (lists as f64).sqrt().round() as usize;
    cells.max(MIN_CELLS).min(lists)
}

/// At most `count` of so many tokens, evenly spread.
fn evenly(tokens: usize, count: usize) -> Vec<u32> {
    let count = count.min(tokens);
    (0..count)
        .map(|at| (at as u64 * tokens as u64 / count as u64) as u32)
        .collect()
}

fn gather(sample: &[f32], dim: usize, tokens: &[u32]) -> Vec<f32> {
    let mut rows = Vec::with_capacity(tokens.len() * dim);
    for &token in tokens {
        rows.extend_from_slice(&sample[token as usize * dim..][..dim]);
    }
    rows
}

/// The tokens of each cell, in order.
fn members(
    sample: &[f32],
    dim: usize,
    coarse: &[f32],
    threads: usize,
    poll: &mut dyn FnMut(),
) -> Vec<Vec<u32>> {
    let nearest = Nearest::new(coarse, dim);
    let parts: Vec<&[f32]> = sample.chunks(TASK * dim).collect();
    let assign = |part: usize, check: &mut Check| {
        let mut ids = Vec::new();
        nearest.assign(parts[part], &mut ids, check)?;
        Ok(ids)
    };
    let ids = crew::run(threads, parts.len(), &assign, poll);
    let mut members = vec![Vec::new(); coarse.len() / dim];
    for (token, id) in ids.into_iter().flatten().enumerate() {
        members[id as usize].push(token as u32);
    }
    members
}

/// How many fine centroids each cell gets: in proportion to its tokens, at least one if it has any, at most one per
/// token.
fn shares(members: &[Vec<u32>], lists: usize) -> Vec<usize> {
    let tokens: usize = members.iter().map(Vec::len).sum();
    let of = |count: usize| lists as f64 * count as f64 / tokens as f64;
    let mut shares: Vec<usize> = members
        .iter()
        .map(|cell| (of(cell.len()) as usize).clamp(cell.len().min(1), cell.len()))
        .collect();
    // What rounding down left over goes to those it took most from.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| {
        of(members[b].len())
            .fract()
            .total_cmp(&of(members[a].len()).fract())
    });
    let mut left = lists.saturating_sub(shares.iter().sum());
    while left > 0 {
        let before = left;
        for &cell in &order {
            if left > 0 && shares[cell] < members[cell].len() {
                shares[cell] += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    // Or the other way round: cells of a single centroid can have taken too many.
    let mut over = shares.iter().sum::<usize>().saturating_sub(lists);
    while over > 0 {
        let largest = (0..shares.len())
            .max_by_key(|&cell| shares[cell])
            .expect("cells");
        shares[largest] -= 1;
        over -= 1;
    }
    shares
}

/// Lloyd's iterations from `count` random tokens. Centroids that end up with no token are left out.
fn k_means(
    rows: &[f32],
    dim: usize,
    count: usize,
    iterations: usize,
    mut random: Random,
    check: &mut Check,
) -> Result<Means, Stopped> {
    if count == 0 {
        return Ok(Means::default());
    }
    let lengths: Vec<f64> = rows.chunks_exact(dim).map(length).collect();
    let tokens = rows.len() / dim;
    let first = random.distinct(count, tokens);
    let first: Vec<u32> = first.into_iter().map(|token| token as u32).collect();
    let mut means = Means {
        centroids: gather(rows, dim, &first),
        reaches: Vec::new(),
    };
    let mut ids = Vec::with_capacity(tokens);
    for _ in 0..iterations {
        ids.clear();
        Nearest::new(&means.centroids, dim).assign(rows, &mut ids, check)?;
        let mut sums = vec![0.0f64; means.centroids.len()];
        let mut counts = vec![(0u32, 0.0f64); means.centroids.len() / dim];
        for (at, (row, &id)) in rows.chunks_exact(dim).zip(&ids).enumerate() {
            let sum = &mut sums[id as usize * dim..][..dim];
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, &value)| *sum += f64::from(value));
            let (count, total) = &mut counts[id as usize];
            *count += 1;
            *total += lengths[at];
            if at % (STRIDE / dim).max(1) == 0 {
                check()?;
            }
        }
        means = Means::default();
        for (sum, (count, total)) in sums.chunks_exact(dim).zip(counts) {
            if count > 0 {
                let mean = sum.iter().map(|sum| (sum / f64::from(count)) as f32);
                means.centroids.extend(mean);
                let reach = total / sum.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
                // NaN, of nothing but zeros, becomes the largest, of no consequence.
                means.reaches.push(reach.min(f64::from(MAX_REACH)) as f32);
            }
        }
    }
    Ok(means)
}

/// What a k-means ends with.
#[derive(Default)]
struct Means {
    centroids: Vec<f32>,
    /// The mean length of the tokens of each over its own, see [`codebook`](crate::codebook).
    reaches: Vec<f32>,
}

fn length(row: &[f32]) -> f64 {
    let square: f64 = row
        .iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum();
    square.sqrt()
}

/// Centroids packed for finding the nearest of each token.
struct Nearest {
    query: Query,
    halves: Vec<f32>,
}

impl Nearest {
    fn new(centroids: &[f32], dim: usize) -> Nearest {
        Nearest {
            query: Query::new(centroids, dim).expect("whole centroids"),
            halves: centroids.chunks_exact(dim).map(half_square).collect(),
        }
    }

    fn assign(&self, rows: &[f32], ids: &mut Vec<u32>, check: &mut Check) -> Result<(), Stopped> {
        let (dim, centroids) = (self.query.dim(), self.halves.len());
        let step = (STRIDE / (dim * centroids)).max(1);
        let mut products = Vec::new();
        for rows in rows.chunks(step * dim) {
            products.resize(rows.len() / dim * centroids, 0.0);
            self.query
                .products_f32(rows, &mut products)
                .expect("whole tokens");
            ids.extend(
                products
                    .chunks_exact_mut(centroids)
                    .map(|products| nearest(products, &self.halves)),
            );
            check()?;
        }
        Ok(())
    }
}

/// Where product − half is largest; the first of equals, and of what cannot be compared.
fn nearest(products: &mut [f32], halves: &[f32]) -> u32 {
    const LANES: usize = 16;
    products
        .iter_mut()
        .zip(halves)
        .for_each(|(product, half)| *product -= half);
    // Lanes, because the compiler may not change the order of comparisons by itself.
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = products.as_chunks::<LANES>();
    for values in whole {
        for lane in 0..LANES {
            lanes[lane] = if values[lane] > lanes[lane] {
                values[lane]
            } else {
                lanes[lane]
            };
        }
    }
    let largest = lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    products
        .iter()
        .position(|&value| value == largest)
        .unwrap_or(0) as u32
}

/// Numbers the centroids cell by cell and rounds them to bytes. Cells without any are left out.
fn assemble(dim: usize, coarse: &[f32], fine: Vec<Means>) -> Codebook {
    let encode = |values: &[f32]| maxsim::encode_int8(values, dim).expect("means of finite values");
    let mut starts = vec![0u32];
    let (mut kept, mut reaches) = (Vec::new(), Vec::new());
    // Cell by cell: the sample is still there, and means can be as large.
    let (mut rows, mut codes) = (Vec::new(), Vec::new());
    for (coarse, fine) in coarse.chunks_exact(dim).zip(fine) {
        if !fine.reaches.is_empty() {
            kept.extend_from_slice(coarse);
            let encoded = encode(&fine.centroids);
            let (of_scales, of_codes) = encoded.split_at(fine.reaches.len() * SCALE);
            rows.extend_from_slice(of_scales);
            codes.extend_from_slice(of_codes);
            reaches.extend_from_slice(&fine.reaches);
            starts.push(reaches.len() as u32);
        }
    }
    rows.append(&mut codes);
    Codebook::new(dim, starts, reaches, encode(&kept), rows, 0.0)
}

fn mean_residual(
    codebook: &Codebook,
    sample: &[f32],
    threads: usize,
    poll: &mut dyn FnMut(),
) -> f64 {
    let dim = codebook.dim();
    let chosen = evenly(sample.len() / dim, RESIDUAL_SAMPLE);
    let parts: Vec<&[u32]> = chosen.chunks(TASK).collect();
    let measure = |at: usize, check: &mut Check| {
        let part = gather(sample, dim, parts[at]);
        let ids = codebook.nearest(&part, check)?;
        let mut squares = 0.0;
        let mut row = vec![0.0; dim];
        for (token, id) in part.chunks_exact(dim).zip(ids) {
            row.copy_from_slice(token);
            codebook.subtract_centroid(id, &mut row);
            squares += row
                .iter()
                .map(|&value| f64::from(value) * f64::from(value))
                .sum::<f64>();
        }
        Ok(squares)
    };
    let squares: f64 = crew::run(threads, parts.len(), &measure, poll).iter().sum();
    squares / chosen.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_never_exceed_a_cells_tokens() {
        let mut random = Random(5);
        for _ in 0..200 {
            let cells: Vec<Vec<u32>> = (0..1 + random.below(20))
                .map(|_| vec![0; random.below(40) * random.below(2)])
                .collect();
            let tokens: usize = cells.iter().map(Vec::len).sum();
            let inhabited = cells.iter().filter(|cell| !cell.is_empty()).count();
            if tokens == 0 {
                continue;
            }
            let lists = inhabited + random.below(tokens - inhabited + 1);
            let shares = shares(&cells, lists);
            assert_eq!(shares.iter().sum::<usize>(), lists);
            for (share, cell) in shares.iter().zip(&cells) {
                assert!(*share <= cell.len() && (*share > 0 || cell.is_empty()));
            }
        }
    }

    #[test]
    fn the_nearest_is_found_at_every_place() {
        for len in 1..50 {
            for at in 0..len {
                let mut products = vec![1.0; len];
                let mut halves = vec![0.5; len];
                (products[at], halves[at]) = (2.0, 1.25);
                assert_eq!(nearest(&mut products, &halves), at as u32);
            }
        }
    }
}
