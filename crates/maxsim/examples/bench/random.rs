//! Reproducible token vectors, for the bench and for the tests that need some.

/// SplitMix64: a failure is reproduced by its seed alone.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A whole number, both ends included.
    #[allow(dead_code)] // the bench takes shapes as they come
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }
}

/// `tokens` rows of unit length and `dim` components.
pub(crate) fn unit_rows(tokens: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let mut values: Vec<f32> = (0..tokens * dim)
        .map(|_| (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        .collect();
    for row in values.chunks_exact_mut(dim) {
        let norm = row
            .iter()
            .map(|value| value * value)
            .sum::<f32>()
            .sqrt()
            .max(1e-20);
        row.iter_mut().for_each(|value| *value /= norm);
    }
    values
}
