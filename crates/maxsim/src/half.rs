//! IEEE half precision: the element type `f16`. Storing rounds to nearest, ties to even.
//!
//! # Layout
//! m × dim components, row-major, two bytes each, little-endian; nothing else.

use crate::error::{Error, tokens};

/// Bytes of a component.
pub(crate) const SIZE: usize = 2;
/// The first magnitude that rounds to infinity: the largest half and half a step more.
const OVERFLOW: f32 = 65520.0;

/// Stores m × `dim` row-major values in half precision.
///
/// # Errors
/// [`Error::ZeroDim`], [`Error::Empty`], [`Error::Ragged`]; [`Error::OutOfRange`] for a finite value that half
/// precision cannot hold. NaN and infinities are stored as such.
///
/// # Accuracy
/// Relative error at most 2⁻¹¹ from 2⁻¹⁴ on, absolute error at most 2⁻²⁵ below.
pub fn encode_f16(values: &[f32], dim: usize) -> Result<Vec<u8>, Error> {
    tokens(values.len(), dim)?;
    if values
        .iter()
        .any(|value| value.is_finite() && value.abs() >= OVERFLOW)
    {
        return Err(Error::OutOfRange);
    }
    Ok(values
        .iter()
        .flat_map(|&value| narrow(value).to_le_bytes())
        .collect())
}

/// Restores the values [`encode_f16`] stored, exactly.
///
/// # Errors
/// [`Error::ZeroDim`], [`Error::Empty`]; [`Error::Ragged`] when the length is not a multiple of 2 × `dim`.
pub fn decode_f16(document: &[u8], dim: usize) -> Result<Vec<f32>, Error> {
    tokens(document.len(), dim * SIZE)?;
    let half = |bytes: &[u8; SIZE]| widen(u16::from_le_bytes(*bytes));
    Ok(document.as_chunks::<SIZE>().0.iter().map(half).collect())
}

/// Checks bytes that may be damaged: as many as whole tokens take, and no NaN or infinity among them.
///
/// # Errors
/// As [`decode_f16`]; [`Error::Corrupt`].
pub fn validate_f16(document: &[u8], dim: usize) -> Result<(), Error> {
    tokens(document.len(), dim * SIZE)?;
    // `|` of comparisons instead of `||`, so that it vectorises; a branch per stretch.
    let special = |bytes: &[u8]| {
        let halves = bytes.as_chunks::<SIZE>().0.iter();
        halves.fold(false, |found, half| {
            found | (u16::from_le_bytes(*half) & 0x7C00 == 0x7C00)
        })
    };
    if document.chunks(SIZE * 512).any(special) {
        return Err(Error::Corrupt {
            problem: "an f16 component is not finite",
        });
    }
    Ok(())
}

/// One half as f32, without a branch.
#[inline(always)]
pub(crate) fn widen(half: u16) -> f32 {
    // The exponent moves from bias 15 to bias 127 by a multiplication, which also makes subnormals normal.
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(half & 0x7FFF) << 13) * REBIAS;
    // Infinity and NaN come out with 16 + 112 as exponent: fill it up to all ones.
    let special = if half & 0x7C00 == 0x7C00 {
        0x7F80_0000
    } else {
        0
    };
    f32::from_bits(magnitude.to_bits() | special | u32::from(half & 0x8000) << 16)
}

/// The half nearest to a value, ties to even; NaN stays NaN, what is too large becomes infinite.
fn narrow(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7E00;
    }
    if magnitude >= OVERFLOW {
        return sign | 0x7C00;
    }
    if magnitude < 2.0f32.powi(-14) {
        // Subnormal: adding 0.5 leaves the steps of 2⁻²⁴ in the low bits, rounded by the addition itself.
        return sign | ((magnitude + 0.5).to_bits() - 0.5f32.to_bits()) as u16;
    }
    // Normal: rebias, then round the 13 bits that go by adding just under half, or half when the last bit kept is odd.
    let bits = magnitude.to_bits() - (112 << 23);
    sign | ((bits + 0xFFF + (bits >> 13 & 1)) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a half means, by the definition of IEEE 754.
    fn defined(half: u16) -> f64 {
        let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
        let (exponent, fraction) = (
            i32::from(half >> 10 & 0x1F),
            f64::from(half & 0x3FF) / 1024.0,
        );
        match exponent {
            0 => sign * fraction * 2f64.powi(-14),
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            _ => sign * (1.0 + fraction) * 2f64.powi(exponent - 15),
        }
    }

    #[test]
    fn every_half_widens_to_what_it_means_and_back() {
        for half in 0..=u16::MAX {
            let (value, expected) = (widen(half), defined(half));
            if expected.is_nan() {
                assert!(value.is_nan() && widen(narrow(value)).is_nan(), "{half:#x}");
            } else {
                assert_eq!(f64::from(value), expected, "{half:#x}");
                assert_eq!(narrow(value), half, "{half:#x}");
            }
        }
    }

    #[test]
    fn values_between_halves_go_to_the_nearer_and_ties_to_even() {
        for half in 0..0x7BFF_u16 {
            let (low, high) = (widen(half), widen(half + 1));
            let middle = (low + high) / 2.0;
            let even = half + (half & 1);
            for sign in [1.0, -1.0] {
                let bit = if sign < 0.0 { 0x8000 } else { 0 };
                assert_eq!(narrow(sign * middle), even | bit, "tie above {low}");
                assert_eq!(
                    narrow(sign * middle.next_down()),
                    half | bit,
                    "below the tie above {low}"
                );
                assert_eq!(
                    narrow(sign * middle.next_up()),
                    (half + 1) | bit,
                    "beyond the tie above {low}"
                );
            }
        }
        assert_eq!(narrow(OVERFLOW.next_down()), 0x7BFF);
        assert_eq!(narrow(OVERFLOW), 0x7C00);
        assert_eq!(narrow(f32::MIN_POSITIVE), 0);
    }

    #[test]
    fn a_special_half_is_found_at_every_place() {
        for len in [1, 7, 511, 512, 513] {
            let mut document = vec![0xFF; 2 * len];
            document.as_chunks_mut::<2>().0.fill([0xFF, 0xFB]);
            assert_eq!(validate_f16(&document, 1), Ok(()));
            for at in 0..len {
                for special in [[0, 0x7C], [0, 0xFC], [1, 0x7E]] {
                    document[2 * at..][..2].copy_from_slice(&special);
                    let problem = "an f16 component is not finite";
                    assert_eq!(validate_f16(&document, 1), Err(Error::Corrupt { problem }));
                }
                document[2 * at..][..2].copy_from_slice(&[0, 0]);
            }
        }
        assert_eq!(
            validate_f16(&[0; 6], 2),
            Err(Error::Ragged { len: 6, dim: 4 })
        );
    }

    #[test]
    fn values_beyond_half_precision_are_refused() {
        assert_eq!(encode_f16(&[1.0, 65520.0], 2), Err(Error::OutOfRange));
        assert_eq!(encode_f16(&[1.0, -1e30], 2), Err(Error::OutOfRange));
        assert_eq!(
            encode_f16(&[65504.0, -65519.0], 2).unwrap(),
            [0xFF, 0x7B, 0xFF, 0xFB]
        );
        assert_eq!(
            encode_f16(&[1.0; 3], 2),
            Err(Error::Ragged { len: 3, dim: 2 })
        );
        assert_eq!(
            decode_f16(&[0; 6], 2),
            Err(Error::Ragged { len: 6, dim: 4 })
        );
    }
}
