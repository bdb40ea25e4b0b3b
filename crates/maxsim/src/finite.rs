//! The check callers run on every value that enters: is everything finite? Written so that it vectorises.

const EXPONENT: u32 = 0x7F80_0000;

/// Whether no value is NaN or infinite.
///
/// Runs at memory speed: the only branch is one per 256 values.
///
/// ```
/// assert!(maxsim::all_finite(&[0.0, -1.5, f32::MAX]));
/// assert!(!maxsim::all_finite(&[0.0, f32::NAN]));
/// ```
#[must_use]
pub fn all_finite(values: &[f32]) -> bool {
    // An all-ones exponent marks NaN and infinity; `|` of comparisons instead of `||` lets SIMD lanes run on.
    values.chunks(256).all(|chunk| {
        let mut bad = 0u32;
        for value in chunk {
            bad |= u32::from(value.to_bits() & EXPONENT == EXPONENT);
        }
        bad == 0
    })
}

#[cfg(test)]
mod tests {
    use super::all_finite;

    #[test]
    fn one_bad_value_is_found_at_every_position_of_every_length() {
        for len in (0..70).chain(250..262).chain([511, 512, 513]) {
            let mut values = vec![f32::MIN; len];
            assert!(all_finite(&values), "length {len}");
            for at in 0..len {
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    values[at] = bad;
                    assert!(!all_finite(&values), "{bad} at {at} of {len}");
                }
                values[at] = f32::MAX;
            }
        }
    }
}
