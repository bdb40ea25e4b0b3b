//! The check callers run on every value that enters: is everything finite? Written so that it vectorises.

use std::sync::OnceLock;

use crate::Kernel;
use crate::arch::{Finite, routines};

const EXPONENT: u32 = 0x7F80_0000;
/// Values between two looks at the result: a branch each would cost more than the comparisons.
const STRETCH: usize = 256;

/// Whether no value is NaN or infinite.
///
/// Runs at the speed of memory, or of the cache that the values are in.
///
/// ```
/// assert!(maxsim::all_finite(&[0.0, -1.5, f32::MAX]));
/// assert!(!maxsim::all_finite(&[0.0, f32::NAN]));
/// ```
#[must_use]
pub fn all_finite(values: &[f32]) -> bool {
    static BEST: OnceLock<Finite> = OnceLock::new();
    let best = BEST.get_or_init(|| routines(Kernel::best()).all_finite);
    // SAFETY: the best kernel is one of those available.
    unsafe { best(values) }
}

/// The plain form, inlined into wrappers that enable one instruction set each.
#[inline(always)]
pub(crate) fn plain(values: &[f32]) -> bool {
    // An all-ones exponent marks NaN and infinity; `|` of comparisons instead of `||` lets SIMD lanes run on.
    let bad = |values: &[f32]| {
        values.iter().fold(0, |bad, value| {
            bad | u32::from(value.to_bits() & EXPONENT == EXPONENT)
        })
    };
    let (stretches, rest) = values.as_chunks::<STRETCH>();
    stretches.iter().all(|stretch| bad(stretch) == 0) && bad(rest) == 0
}

/// Defines `all_finite` for one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! wrap {
    ($features:literal) => {
        /// See [`all_finite`](crate::all_finite).
        #[target_feature(enable = $features)]
        fn all_finite(values: &[f32]) -> bool {
            $crate::finite::plain(values)
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use wrap;

#[cfg(test)]
mod tests {
    use super::*;

    fn every_way(values: &[f32], expected: bool, what: &str) {
        assert_eq!(all_finite(values), expected, "{what}");
        for kernel in Kernel::available() {
            // SAFETY: the kernel is available.
            let found = unsafe { (routines(kernel).all_finite)(values) };
            assert_eq!(found, expected, "{what}, {} kernel", kernel.name());
        }
    }

    #[test]
    fn one_bad_value_is_found_at_every_position_of_every_length() {
        for len in (0..70).chain(250..262).chain([511, 512, 513]) {
            let mut values = vec![f32::MIN; len];
            every_way(&values, true, &format!("length {len}"));
            for at in 0..len {
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    values[at] = bad;
                    every_way(&values, false, &format!("{bad} at {at} of {len}"));
                }
                values[at] = f32::MAX;
            }
        }
    }
}
