//! Mean and standard deviation of what estimates were off by, as they come in.

/// Welford's running moments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread {
    count: u32,
    mean: f64,
    squares: f64,
}

impl Spread {
    pub(crate) fn add(&mut self, error: f64) {
        self.count += 1;
        let off = error - self.mean;
        self.mean += off / f64::from(self.count);
        self.squares += off * (error - self.mean);
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// 0 of nothing.
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation, widened by what one of so few can be off by. 0 of less than two.
    pub(crate) fn deviation(&self) -> f64 {
        let variance = self.squares / f64::from(self.count.saturating_sub(1).max(1));
        variance.sqrt() * (1.0 + 1.0 / f64::from(self.count.max(1)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_definition() {
        let mut spread = Spread::default();
        assert_eq!((spread.mean(), spread.deviation()), (0.0, 0.0));
        spread.add(3.0);
        assert_eq!((spread.mean(), spread.deviation()), (3.0, 0.0));
        for error in [1.0, 5.0, 7.0] {
            spread.add(error);
        }
        assert_eq!(spread.mean(), 4.0);
        assert!((spread.deviation() - (20f64 / 3.0).sqrt() * 1.5).abs() < 1e-12);
    }
}
