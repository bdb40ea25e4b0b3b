//! Ward's hierarchical clustering in memory for the rows and no distance matrix.
//!
//! Used by token pooling. Ward's distance of two clusters depends on their sizes and means only, so the
//! nearest-neighbour chain needs O(n · dim) memory and O(n² · dim) time, against O(n²) memory for the usual matrix: 4 GB
//! for the longest multivector.
//!
//! # Source
//! Murtagh, *A survey of recent advances in hierarchical clustering algorithms*, The Computer Journal 26, 1983 (the
//! chain); Ward, *Hierarchical grouping to optimize an objective function*, JASA 58, 1963 (the distance).

use crate::poll::Poll;

/// Components of work between two polls: under a millisecond.
const POLL_COMPONENTS: usize = 1 << 20;

/// Two clusters joined, each named by one of its rows.
struct Merge {
    distance: f64,
    rows: (usize, usize),
}

/// Sorts `rows` (n × `dim`, overwritten) into `clusters` clusters, 1 to n.
///
/// Returns each row's cluster, numbered from 0 in the order of their first rows. `poll` is called at least once a
/// millisecond or so; it may unwind.
pub(crate) fn cluster(rows: &mut [f32], dim: usize, clusters: usize, poll: Poll<'_>) -> Vec<usize> {
    let n = rows.len() / dim;
    let mut merges = merge_all(rows, dim, poll);
    // The chain finds merges out of order. A stable sort keeps equal ones in a deterministic order.
    merges.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    merges.truncate(n - clusters);
    label(n, &merges)
}

/// All n - 1 merges of the dendrogram.
fn merge_all(rows: &mut [f32], dim: usize, poll: Poll<'_>) -> Vec<Merge> {
    let n = rows.len() / dim;
    let mut space = Space {
        means: rows,
        dim,
        sizes: vec![1.0; n],
        active: (0..n).collect(),
        until_poll: POLL_COMPONENTS,
        poll,
    };
    let mut merges = Vec::with_capacity(n - 1);
    let mut chain: Vec<usize> = Vec::new();
    while space.active.len() > 1 {
        let tip = match chain.last() {
            Some(&tip) => tip,
            None => {
                chain.push(space.active[0]);
                space.active[0]
            }
        };
        let before = chain.len().checked_sub(2).map(|at| chain[at]);
        let (nearest, distance) = space.nearest(tip, before);
        // Normally the nearest is new, or the one before: a pair of mutual neighbours. Rounding can also lead back
        // to an earlier one at practically the same distance; joining with that one keeps the chain sound.
        match chain.iter().rposition(|&cluster| cluster == nearest) {
            None => chain.push(nearest),
            Some(at) => {
                chain.truncate(at);
                space.join(tip, nearest);
                merges.push(Merge {
                    distance,
                    rows: (tip, nearest),
                });
            }
        }
    }
    merges
}

/// The clusters that exist. A cluster is named by one of its rows, where its mean stands.
struct Space<'a> {
    means: &'a mut [f32],
    dim: usize,
    sizes: Vec<f64>,
    /// In ascending order, so that means are read in the order of memory.
    active: Vec<usize>,
    until_poll: usize,
    poll: Poll<'a>,
}

impl Space<'_> {
    /// The cluster nearest to `tip`; `preferred` if no other is nearer than that, else the first of equals.
    fn nearest(&mut self, tip: usize, preferred: Option<usize>) -> (usize, f64) {
        let mut best = match preferred {
            Some(cluster) => (cluster, self.distance(tip, cluster)),
            None => (tip, f64::INFINITY),
        };
        let per_poll = (POLL_COMPONENTS / self.dim).max(1);
        for start in (0..self.active.len()).step_by(per_poll) {
            let end = self.active.len().min(start + per_poll);
            for &cluster in &self.active[start..end] {
                if cluster != tip {
                    let distance = self.distance(tip, cluster);
                    if distance < best.1 {
                        best = (cluster, distance);
                    }
                }
            }
            self.worked((end - start) * self.dim);
        }
        best
    }

    /// Ward's: what joining adds to the sum of squares within clusters.
    fn distance(&self, a: usize, b: usize) -> f64 {
        let (size_a, size_b) = (self.sizes[a], self.sizes[b]);
        let squares = squared_distance(self.mean(a), self.mean(b));
        f64::from(squares) * (size_a * size_b / (size_a + size_b))
    }

    fn mean(&self, cluster: usize) -> &[f32] {
        &self.means[cluster * self.dim..][..self.dim]
    }

    /// Joins two clusters under the name `kept`.
    fn join(&mut self, gone: usize, kept: usize) {
        let total = self.sizes[gone] + self.sizes[kept];
        let share = (self.sizes[gone] / total) as f32;
        for k in 0..self.dim {
            let (from, to) = (self.means[gone * self.dim + k], kept * self.dim + k);
            self.means[to] += share * (from - self.means[to]);
        }
        self.sizes[kept] = total;
        let at = self
            .active
            .binary_search(&gone)
            .expect("only active clusters are joined");
        self.active.remove(at);
    }

    fn worked(&mut self, components: usize) {
        self.until_poll = self.until_poll.saturating_sub(components);
        if self.until_poll == 0 {
            (self.poll)();
            self.until_poll = POLL_COMPONENTS;
        }
    }
}

/// The squared Euclidean distance; 16 sums at a time, so that it vectorises, and the same for (b, a).
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (a, rest_a) = a.as_chunks::<LANES>();
    let (b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            let difference = a[lane] - b[lane];
            sums[lane] += difference * difference;
        }
    }
    let rest: f32 = rest_a
        .iter()
        .zip(rest_b)
        .map(|(a, b)| (a - b) * (a - b))
        .sum();
    rest + sums.iter().sum::<f32>()
}

/// Each row's cluster after `merges`, in the order of first rows.
fn label(n: usize, merges: &[Merge]) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..n).collect();
    for merge in merges {
        let (a, b) = (
            root(&mut parents, merge.rows.0),
            root(&mut parents, merge.rows.1),
        );
        parents[a.max(b)] = a.min(b);
    }
    let mut labels = vec![0; n];
    let mut clusters = 0;
    for row in 0..n {
        let first = root(&mut parents, row);
        labels[row] = if first == row {
            clusters += 1;
            clusters - 1
        } else {
            labels[first]
        };
    }
    labels
}

/// The first row of a row's cluster, halving the path to it.
fn root(parents: &mut [usize], mut row: usize) -> usize {
    while parents[row] != row {
        parents[row] = parents[parents[row]];
        row = parents[row];
    }
    row
}
