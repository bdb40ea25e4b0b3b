//! One byte a component and a scale per token: the element type `int8`.
//!
//! # Layout
//! m scales, f32 little-endian; then m × dim codes, row-major, one byte each. Component = (code − 128) × scale. Codes
//! run from 1 to 255 (−127 to 127); encoding gives the largest component of a token ±127. The bias of 128 is there
//! because the machine's fastest instruction multiplies unsigned by signed bytes; what it adds to a sum depends on the
//! query only.

use crate::error::{Error, is_factor, tokens};

/// Bytes of a scale.
pub(crate) const SCALE: usize = size_of::<f32>();
/// The code of zero.
pub(crate) const BIAS: u8 = 128;
/// The largest magnitude of a code.
pub(crate) const LARGEST: f32 = 127.0;

/// Bytes of a token with its scale.
pub(crate) const fn token_size(dim: usize) -> usize {
    if dim == 0 { 0 } else { dim + SCALE }
}

/// Stores m × `dim` row-major values as codes of one byte, each token with the scale that fits it.
///
/// # Errors
/// [`Error::ZeroDim`], [`Error::Empty`], [`Error::Ragged`]; [`Error::OutOfRange`] for NaN and infinities.
///
/// # Accuracy
/// A component is off by at most half its token's scale: 1/254 of the token's largest component.
pub fn encode_int8(values: &[f32], dim: usize) -> Result<Vec<u8>, Error> {
    let tokens = tokens(values.len(), dim)?;
    if !crate::all_finite(values) {
        return Err(Error::OutOfRange);
    }
    let mut document = Vec::with_capacity(tokens * token_size(dim));
    let scales: Vec<f32> = values.chunks_exact(dim).map(scale).collect();
    document.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
    for (row, &scale) in values.chunks_exact(dim).zip(&scales) {
        document.extend(
            row.iter()
                .map(|&value| BIAS.wrapping_add_signed(code(value, scale))),
        );
    }
    Ok(document)
}

/// Restores what [`encode_int8`] stored.
///
/// # Errors
/// [`Error::ZeroDim`], [`Error::Empty`]; [`Error::Ragged`] when the length is not a multiple of `dim` + 4.
pub fn decode_int8(document: &[u8], dim: usize) -> Result<Vec<f32>, Error> {
    let tokens = tokens(document.len(), token_size(dim))?;
    let (scales, codes) = document.split_at(tokens * SCALE);
    let mut values = vec![0.0; tokens * dim];
    let rows = values.chunks_exact_mut(dim).zip(codes.chunks_exact(dim));
    for ((row, codes), scale) in rows.zip(scales.as_chunks::<SCALE>().0) {
        let scale = f32::from_le_bytes(*scale);
        row.iter_mut()
            .zip(codes)
            .for_each(|(value, &code)| *value = component(code, scale));
    }
    Ok(values)
}

/// Checks bytes that may be damaged: as many as whole tokens take, and scales that encoding could have written.
///
/// Any code is accepted: 0, which encoding does not write, would be −128.
///
/// # Errors
/// As [`decode_int8`]; [`Error::Corrupt`].
pub fn validate_int8(document: &[u8], dim: usize) -> Result<(), Error> {
    let tokens = tokens(document.len(), token_size(dim))?;
    let scales = document[..tokens * SCALE].as_chunks().0;
    if !scales
        .iter()
        .all(|scale| is_factor(f32::from_le_bytes(*scale)))
    {
        return Err(Error::Corrupt {
            problem: "the scale of a token is negative or not finite",
        });
    }
    Ok(())
}

/// The scale that makes the largest component of a token ±127; 0 for the zero token.
pub(crate) fn scale(row: &[f32]) -> f32 {
    row.iter()
        .fold(0.0f32, |largest, value| largest.max(value.abs()))
        / LARGEST
}

/// The code nearest to `value` at `scale`, between −127 and 127; 0 at scale 0.
pub(crate) fn code(value: f32, scale: f32) -> i8 {
    // Adding and taking away rounds to even as `round_ties_even` does, which x86-64 has no instruction for at its base
    // and calls a function instead.
    const ROUND: f32 = (3u32 << 22) as f32;
    let code = (value / scale).clamp(-LARGEST, LARGEST) + ROUND - ROUND;
    code as i8 // NaN, from 0 / 0, becomes 0
}

/// What a code means at a scale.
#[inline(always)]
pub(crate) fn component(code: u8, scale: f32) -> f32 {
    f32::from(i16::from(code) - i16::from(BIAS)) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_scales_then_biased_codes() {
        let document = encode_int8(&[1.0, -0.5, 0.0, 0.0, 254.0, 2.0], 2).unwrap();
        let scales = [1.0f32 / 127.0, 0.0, 2.0].map(f32::to_le_bytes).concat();
        assert_eq!(
            document,
            [scales, vec![255, 64, 128, 128, 255, 129]].concat()
        );
        assert_eq!(
            decode_int8(&document, 2).unwrap()[2..],
            [0.0, 0.0, 254.0, 2.0]
        );
    }

    #[test]
    fn components_are_off_by_half_a_scale_at_most() {
        let values: Vec<f32> = (0..4096)
            .map(|i| ((i * 37) as f32).sin() * 10f32.powi(i / 128 - 16))
            .collect();
        for dim in [1, 2, 3, 64, 128] {
            let values = &values[..values.len() / dim * dim];
            let decoded = decode_int8(&encode_int8(values, dim).unwrap(), dim).unwrap();
            for (row, found) in values.chunks_exact(dim).zip(decoded.chunks_exact(dim)) {
                let bound = scale(row) * 0.5001;
                for (value, found) in row.iter().zip(found) {
                    assert!((value - found).abs() <= bound, "{value} became {found}");
                }
            }
        }
    }

    #[test]
    fn codes_are_rounded_to_even() {
        for quarters in -600..=600 {
            let value = quarters as f32 / 4.0;
            let expected = value.round_ties_even().clamp(-127.0, 127.0) as i8;
            assert_eq!(code(value, 1.0), expected, "{value}");
        }
        assert_eq!(
            [1.0, -1.0, 0.0].map(|value| code(value, 0.0)),
            [127, -127, 0]
        );
    }

    #[test]
    fn damaged_scales_are_found() {
        let document = encode_int8(&[1.0, 2.0, 0.0, 0.0, 3.0, 4.0], 2).unwrap();
        assert_eq!(validate_int8(&document, 2), Ok(()));
        for token in 0..3 {
            for bad in [-1.0, -0.0, f32::NAN, f32::INFINITY] {
                let mut document = document.clone();
                document[token * SCALE..][..SCALE].copy_from_slice(&bad.to_le_bytes());
                assert!(
                    matches!(validate_int8(&document, 2), Err(Error::Corrupt { .. })),
                    "{bad} in {token}"
                );
            }
        }
        assert_eq!(
            validate_int8(&document[1..], 2),
            Err(Error::Ragged { len: 17, dim: 6 })
        );
    }

    #[test]
    fn values_that_have_no_code_are_refused() {
        assert_eq!(encode_int8(&[1.0, f32::NAN], 2), Err(Error::OutOfRange));
        assert_eq!(
            encode_int8(&[f32::INFINITY, 1.0], 2),
            Err(Error::OutOfRange)
        );
        assert_eq!(
            decode_int8(&[0; 7], 2),
            Err(Error::Ragged { len: 7, dim: 6 })
        );
        let tiny = encode_int8(&[f32::from_bits(1); 2], 2).unwrap();
        assert_eq!(
            decode_int8(&tiny, 2).unwrap(),
            [0.0; 2],
            "a scale that underflows gives zero"
        );
    }
}
