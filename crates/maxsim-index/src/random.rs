//! SplitMix64: the same centroids from the same seed on every machine.

/// A sequence of numbers that its seed determines.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * end as u128) >> 64) as usize
    }

    /// `count` different numbers below `end`, in the order they came up (Floyd's way: no more draws than numbers).
    pub(crate) fn distinct(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut taken = std::collections::HashSet::with_capacity(count);
        (end - count..end)
            .map(|last| {
                let drawn = self.below(last + 1);
                let number = if taken.contains(&drawn) { last } else { drawn };
                taken.insert(number);
                number
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_numbers_are_distinct_and_in_range() {
        for (count, end) in [(0, 0), (0, 5), (1, 1), (5, 5), (100, 101), (10, 1000)] {
            let mut numbers = Random(7).distinct(count, end);
            assert_eq!(numbers, Random(7).distinct(count, end));
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count);
            assert!(numbers.iter().all(|&number| number < end));
        }
    }
}
