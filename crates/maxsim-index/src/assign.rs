//! The nearest centroid of tokens: first the nearest coarse centroids, then the best of their cells.
//!
//! Tokens that look into the same cell are packed as a query, whose products with the cell's centroids are taken in one
//! go: so the centroids are read once for all of them, and never copied.

use maxsim::Query;

use crate::codebook::{Codebook, half_square};
use crate::crew::{Check, Stopped};

/// How many cells a token looks into, at most: the nearest, and those that are hardly farther.
pub(crate) const PROBES: usize = 4;
/// Squared distance of the farthest cell over that of the nearest. Without it a document is encoded in twice the time, and a
/// search refines 1 % less (docs/index-design.md).
const FARTHER: f32 = 1.1;
/// Multiplications between two checks: a millisecond on the slowest machine.
const STRIDE: usize = 2_000_000;
/// Tokens that are compared with a cell at once.
const BATCH: usize = 512;
/// Tokens whose cells are sorted at once, which is not interrupted.
const AT_ONCE: usize = 1 << 16;

impl Codebook {
    /// The nearest centroid of each token, by Euclidean distance.
    pub(crate) fn nearest(&self, tokens: &[f32], check: &mut Check) -> Result<Vec<u16>, Stopped> {
        let mut ids = Vec::with_capacity(tokens.len() / self.dim());
        for tokens in tokens.chunks(AT_ONCE * self.dim()) {
            self.append_nearest(tokens, &mut ids, check)?;
        }
        Ok(ids)
    }

    fn append_nearest(
        &self,
        tokens: &[f32],
        ids: &mut Vec<u16>,
        check: &mut Check,
    ) -> Result<(), Stopped> {
        let dim = self.dim();
        let by_cell = self.probes(tokens, check)?;
        let mut best = vec![(f32::NEG_INFINITY, 0u16); tokens.len() / dim];
        let (mut gathered, mut products) = (Vec::new(), Vec::new());
        for (cell, wanted) in by_cell
            .chunk_by(|a, b| a.0 == b.0)
            .map(|same| (same[0].0, same))
        {
            let centroids = self.cell(cell as usize);
            for wanted in wanted.chunks(BATCH) {
                gathered.clear();
                for &(_, token) in wanted {
                    gathered.extend_from_slice(&tokens[token as usize * dim..][..dim]);
                }
                let query = Query::new(&gathered, dim).expect("whole tokens");
                let step = (STRIDE / gathered.len()).max(1);
                for first in centroids.clone().step_by(step) {
                    let range = first..centroids.end.min(first + step);
                    products.resize(range.len() * wanted.len(), 0.0);
                    query
                        .products_int8(self.rows(), range.clone(), &mut products)
                        .expect("whole centroids");
                    for (centroid, products) in range.zip(products.chunks_exact(wanted.len())) {
                        let half = self.halves()[centroid];
                        for (&(_, token), product) in wanted.iter().zip(products) {
                            let best = &mut best[token as usize];
                            let nearness = product - half;
                            if nearness > best.0 {
                                *best = (nearness, centroid as u16);
                            }
                        }
                    }
                    check()?;
                }
            }
        }
        ids.extend(best.into_iter().map(|(_, centroid)| centroid));
        Ok(())
    }

    /// Which (cell, token) are to be compared, ordered by cell.
    fn probes(&self, tokens: &[f32], check: &mut Check) -> Result<Vec<(u32, u32)>, Stopped> {
        let (query, halves) = self.coarse();
        let cells = self.cells();
        let probes = PROBES.min(cells);
        let step = (STRIDE / (cells * self.dim())).max(1);
        let mut products = Vec::new();
        let mut pairs = Vec::with_capacity(tokens.len() / self.dim() * probes);
        for (part, tokens) in tokens.chunks(step * self.dim()).enumerate() {
            products.resize(tokens.len() / self.dim() * cells, 0.0);
            query
                .products_f32(tokens, &mut products)
                .expect("whole tokens");
            let rows = tokens.chunks_exact(self.dim());
            for (token, (row, products)) in rows.zip(products.chunks_exact_mut(cells)).enumerate() {
                products
                    .iter_mut()
                    .zip(halves)
                    .for_each(|(product, half)| *product -= half);
                let token = (part * step + token) as u32;
                // |x − c|² = |x|² − 2 (⟨x, c⟩ − |c|² / 2).
                let square = 2.0 * half_square(row);
                let distance = |nearness: f32| square - 2.0 * nearness;
                let mut cells = largest(products, probes);
                let (best, first) = cells.next().expect("one cell at least");
                let farthest = FARTHER * distance(best);
                pairs.push((first, token));
                let others = cells.filter(|(nearness, _)| distance(*nearness) <= farthest);
                pairs.extend(others.map(|(_, cell)| (cell, token)));
            }
            check()?;
        }
        // Stable, so that tokens stay in order within a cell.
        pairs.sort_by_key(|pair| pair.0);
        Ok(pairs)
    }
}

/// The `count` largest values and where they are, at most [`PROBES`]; the first of equals first.
fn largest(values: &[f32], count: usize) -> impl Iterator<Item = (f32, u32)> + use<> {
    let mut best = [(f32::NEG_INFINITY, 0u32); PROBES];
    // Values that are not comparable leave the first places.
    for (at, place) in best.iter_mut().enumerate().take(count) {
        place.1 = at as u32;
    }
    let mut filled = 0;
    for (at, &value) in values.iter().enumerate() {
        if filled == count && value <= best[count - 1].0 {
            continue;
        }
        let place = best[..filled]
            .iter()
            .take_while(|entry| entry.0 >= value)
            .count();
        if place >= count {
            continue;
        }
        filled = (filled + 1).min(count);
        best.copy_within(place..filled - 1, place + 1);
        best[place] = (value, at as u32);
    }
    best.into_iter().take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_values_are_found_in_order() {
        let values = [1.0, 5.0, 3.0, 5.0, 4.0, 0.0];
        let places =
            |values, count| -> Vec<u32> { largest(values, count).map(|entry| entry.1).collect() };
        assert_eq!(largest(&values, 1).collect::<Vec<_>>(), [(5.0, 1)]);
        assert_eq!(places(&values, 4), [1, 3, 4, 2]);
        assert_eq!(places(&[2.0, 3.0], 2), [1, 0]);
        assert_eq!(places(&[f32::NEG_INFINITY; 3], 3), [0, 1, 2]);
    }
}
