//! The element type `bit`: how its decoded values find their way back to the bits they came from.
//!
//! Used by [`ElementType`](crate::ElementType). The payload is crate `maxsim`'s: a unit u for the tokens' scales, a unit v for the mean's
//! codes, the mean, a scale per token, signs; component = mean ± scale. Encoding the decoded rows afresh would find
//! another mean and other signs, and each dump and restore would lose a little. So two things are added here:
//!
//! - u and v are powers of two, with u ≤ v ≤ 16 u, which makes components whole multiples of u and leaves room in an f32;
//! - into that room, bits below u that mean nothing, decoding writes the token's scale code c and the component's
//!   sign: with t = u / 4096 a component is `C · v ± (c · u + (2c + 1) · t)`, an odd multiple of t below 2²⁴ t.
//!
//! Values in which every component reads like that are taken apart again, exactly ([`recover`]); all others are new.
//! The mark makes a scale at most 1/1365 larger than the one that is scored.

use crate::error::Error;
use crate::poll::{Poll, row_blocks};
use crate::room::{room, zeros};
use crate::shape::Shape;

/// Units u and v.
const HEAD_BYTES: usize = 8;
/// u / t.
const UNIT: i64 = 4096;
/// The largest v / u: with it 127 · v + 256 · u stays below 2²⁴ t.
const LARGEST_RATIO: i64 = 16;
/// Marks, 2c + 1 with the sign, are told apart modulo this; v and u are multiples of it.
const MARK_MODULUS: i64 = 1024;
/// The smallest u: its t is the smallest f32.
const SMALLEST_UNIT_EXPONENT: i32 = -137;
/// Magnitudes from here on are refused: mean and scale might overflow when added.
pub(crate) const LIMIT: f32 = (1u128 << 120) as f32;
/// int8's code of zero, and the magnitude of its largest, which the mean is coded with.
const BIAS: u8 = 128;
const LARGEST_CODE: i64 = 127;

/// What a payload says, apart from its signs' order in bits.
#[derive(Debug, PartialEq)]
struct Parts {
    unit: f32,
    mean_unit: f32,
    /// Codes without bias, one a component.
    mean: Vec<i64>,
    /// Codes, one a token.
    scales: Vec<u8>,
    /// ⌈dim / 8⌉ bytes a token.
    signs: Vec<u8>,
}

/// The size of a payload in bytes.
pub(crate) fn payload_bytes(shape: Shape) -> usize {
    HEAD_BYTES + shape.dim() + shape.tokens() * (1 + shape.dim().div_ceil(8))
}

/// Where the units stand, the only numbers of more than a byte.
pub(crate) const UNITS: std::ops::Range<usize> = 0..HEAD_BYTES;

/// Writes the payload of finite values, below [`LIMIT`] unless they are decoded ones. False if they are not.
pub(crate) fn encode(values: &[f32], shape: Shape, out: &mut [u8], poll: Poll<'_>) -> bool {
    let parts = match recover(values, shape, poll) {
        Some(parts) => parts,
        None => {
            let is_too_large = |value: &f32| value.abs() >= LIMIT;
            if row_blocks(values, 1, poll).any(|block| block.iter().any(is_too_large)) {
                return false;
            }
            settle(&fresh(values, shape, poll), shape, poll)
        }
    };
    parts.write(out);
    true
}

/// The marked components of a payload; no check.
pub(crate) fn decode(payload: &[u8], shape: Shape, poll: Poll<'_>) -> Result<Vec<f32>, Error> {
    let parts = Parts::read(payload, shape);
    if parts.is_zero() {
        return zeros(shape.values());
    }
    let mean: Vec<f32> = parts
        .mean
        .iter()
        .map(|&code| code as f32 * parts.mean_unit)
        .collect();
    let mut values = room(shape.values())?;
    let rows = parts.signs.chunks_exact(shape.dim().div_ceil(8));
    for (signs, &code) in rows.zip(&parts.scales) {
        poll();
        let scale = marked_scale(code) as f32 * (parts.unit / UNIT as f32);
        let signed = |(k, mean): (usize, &f32)| {
            if is_plus(signs, k) {
                mean + scale
            } else {
                mean - scale
            }
        };
        values.extend(mean.iter().enumerate().map(signed));
    }
    Ok(values)
}

/// Whether the numbers of a payload are such that all components are finite, and no bit is set that means nothing.
pub(crate) fn is_sound(payload: &[u8], shape: Shape) -> bool {
    let [unit, mean_unit] = units(payload);
    let largest_scale = marked_scale(u8::MAX) as f32 * (unit / UNIT as f32);
    unit >= 0.0
        && mean_unit >= 0.0
        && (LARGEST_CODE as f32 * mean_unit + largest_scale).is_finite()
        && !payload[HEAD_BYTES..][..shape.dim()].contains(&0)
        && !has_unused_signs(
            &payload[HEAD_BYTES + shape.dim() + shape.tokens()..],
            shape.dim(),
        )
}

/// Whether a token's last byte has a bit set beyond its components.
fn has_unused_signs(signs: &[u8], dim: usize) -> bool {
    let row_bytes = dim.div_ceil(8);
    let used = u8::MAX >> (8 * row_bytes - dim);
    let mut last_bytes = signs.iter().skip(row_bytes - 1).step_by(row_bytes);
    last_bytes.any(|byte| byte & !used != 0)
}

/// A scale with its mark, in t.
fn marked_scale(code: u8) -> i64 {
    let code = i64::from(code);
    code * UNIT + 2 * code + 1
}

fn is_plus(signs: &[u8], k: usize) -> bool {
    signs[k / 8] >> (k % 8) & 1 == 1
}

/// u and v.
fn units(payload: &[u8]) -> [f32; 2] {
    let float = |at: usize| f32::from_le_bytes(std::array::from_fn(|byte| payload[at + byte]));
    [float(0), float(4)]
}

/// As crate `maxsim` encodes, whose business it is to choose mean, scales and signs.
fn fresh(values: &[f32], shape: Shape, poll: Poll<'_>) -> Vec<u8> {
    maxsim::encode_bit(values, shape.dim(), poll).expect("finite values of this shape")
}

/// Moves units to powers of two, and the codes with them; signs stay.
fn settle(payload: &[u8], shape: Shape, poll: Poll<'_>) -> Parts {
    let mut parts = Parts::read(payload, shape);
    let mean_of = |code: i64| code as f64 * f64::from(parts.mean_unit);
    let scale_of = |code: u8| f64::from(code) * f64::from(parts.unit);
    let mean: Vec<f64> = parts.mean.iter().map(|&code| mean_of(code)).collect();
    let scales: Vec<f64> = parts.scales.iter().map(|&code| scale_of(code)).collect();
    let largest = |values: &[f64]| {
        values
            .iter()
            .fold(0.0f64, |most, value| most.max(value.abs()))
    };

    let mean_exponent = exponent_above(largest(&mean) / LARGEST_CODE as f64);
    let ratio_exponent = LARGEST_RATIO.ilog2() as i32;
    let unit_exponent = exponent_above(largest(&scales) / f64::from(u8::MAX))
        .max(mean_exponent - ratio_exponent)
        .max(SMALLEST_UNIT_EXPONENT);
    let unit = 2f64.powi(unit_exponent);
    let mean_unit = 2f64.powi(mean_exponent.max(unit_exponent));
    parts.unit = unit as f32;
    parts.mean_unit = mean_unit as f32;
    parts.mean = mean
        .iter()
        .map(|value| (value / mean_unit).round_ties_even() as i64)
        .collect();
    parts.scales = scales
        .iter()
        .map(|value| (value / unit).round_ties_even() as u8)
        .collect();
    if parts.is_zero() {
        let zeros = vec![0.0; shape.values()];
        return Parts::read(&fresh(&zeros, shape, poll), shape);
    }
    parts
}

/// The least e with 2^e ≥ `value`; very small for 0.
fn exponent_above(value: f64) -> i32 {
    let below = (value.to_bits() >> 52) as i32 - 1023;
    below + i32::from(value > 2f64.powi(below))
}

/// Takes decoded values apart; `None` for values that no document decodes to.
fn recover(values: &[f32], shape: Shape, poll: Poll<'_>) -> Option<Parts> {
    let dim = shape.dim();
    let quantum = lowest_bit(values[0])?;
    let mut mean: Vec<i64> = Vec::with_capacity(dim);
    let mut scales = Vec::with_capacity(shape.tokens());
    let mut signs = Vec::with_capacity(shape.tokens() * dim.div_ceil(8));
    for row in values.chunks_exact(dim) {
        poll();
        let (code, _) = read_mark(multiple(row[0], quantum)?);
        scales.push(code);
        signs.resize(signs.len() + dim.div_ceil(8), 0);
        let of_row = signs.len() - dim.div_ceil(8);
        for (k, &value) in row.iter().enumerate() {
            let multiple = multiple(value, quantum)?;
            let (found, plus) = read_mark(multiple);
            let rest = multiple
                - if plus {
                    marked_scale(code)
                } else {
                    -marked_scale(code)
                };
            if mean.len() == k {
                mean.push(rest);
            }
            if found != code || mean[k] != rest {
                return None;
            }
            signs[of_row + k / 8] |= u8::from(plus) << (k % 8);
        }
    }
    let largest = mean.iter().map(|value| value.abs()).max()?;
    let mut mean_unit = UNIT;
    while mean_unit < UNIT * LARGEST_RATIO && largest > LARGEST_CODE * mean_unit {
        mean_unit *= 2;
    }
    if largest > LARGEST_CODE * mean_unit || mean.iter().any(|value| value % mean_unit != 0) {
        return None;
    }
    let parts = Parts {
        unit: UNIT as f32 * quantum,
        mean_unit: mean_unit as f32 * quantum,
        mean: mean.iter().map(|value| value / mean_unit).collect(),
        scales,
        signs,
    };
    // Values that are nothing but marks would be scored as zeros; real documents have larger ones.
    let scored = |value: &f32| value.abs() >= parts.unit / 2.0;
    row_blocks(values, 1, poll)
        .any(|block| block.iter().any(scored))
        .then_some(parts)
}

/// The value of the lowest bit that is set in an f32 of more than zero bits; `None` if it is too large for a quantum.
fn lowest_bit(value: f32) -> Option<f32> {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 23 & 0xFF) as i32, bits & 0x7F_FFFF);
    let (exponent, significand) = match exponent {
        0 => (-149, fraction),
        _ => (exponent - 150, fraction | 0x80_0000),
    };
    let exponent = exponent + i32::try_from(significand.trailing_zeros()).ok()?;
    (significand != 0 && exponent < 105).then(|| 2f64.powi(exponent) as f32)
}

/// value / quantum if that is an odd whole number below 2²⁴.
fn multiple(value: f32, quantum: f32) -> Option<i64> {
    let quotient = f64::from(value) / f64::from(quantum);
    let whole = quotient as i64;
    (whole as f64 == quotient && whole % 2 != 0 && whole.abs() < 1 << 24).then_some(whole)
}

/// The scale code and the sign that an odd multiple of t carries.
fn read_mark(multiple: i64) -> (u8, bool) {
    let residue = multiple.rem_euclid(MARK_MODULUS);
    let plus = residue < MARK_MODULUS / 2;
    let mark = if plus {
        residue
    } else {
        MARK_MODULUS - residue
    };
    ((mark / 2) as u8, plus)
}

impl Parts {
    fn read(payload: &[u8], shape: Shape) -> Parts {
        let [unit, mean_unit] = units(payload);
        let (mean, rows) = payload[HEAD_BYTES..].split_at(shape.dim());
        let (scales, signs) = rows.split_at(shape.tokens());
        Parts {
            unit,
            mean_unit,
            mean: mean
                .iter()
                .map(|&code| i64::from(code) - i64::from(BIAS))
                .collect(),
            scales: scales.to_vec(),
            signs: signs.to_vec(),
        }
    }

    fn write(&self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(
            [self.unit, self.mean_unit]
                .map(f32::to_le_bytes)
                .as_flattened(),
        );
        let (mean, rows) = rest.split_at_mut(self.mean.len());
        for (byte, &code) in mean.iter_mut().zip(&self.mean) {
            *byte = (code + i64::from(BIAS)) as u8;
        }
        let (scales, signs) = rows.split_at_mut(self.scales.len());
        scales.copy_from_slice(&self.scales);
        signs.copy_from_slice(&self.signs);
    }

    /// Whether every component is zero, marks apart.
    fn is_zero(&self) -> bool {
        self.mean.iter().all(|&code| code == 0) && self.scales.iter().all(|&code| code == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, exponent_above, lowest_bit, payload_bytes, read_mark, recover};
    use crate::shape::Shape;

    fn encoded(values: &[f32], shape: Shape) -> Vec<u8> {
        let mut payload = vec![0; payload_bytes(shape)];
        assert!(encode(values, shape, &mut payload, &mut || ()));
        payload
    }

    #[test]
    fn components_are_mean_and_scale_with_its_mark() {
        // Mean (2, 0), residuals (1, 1) and (-1, -1); u = 2⁻⁷, as v = 2⁻⁵ and 255 u ≥ 1.
        let shape = Shape::new(2, 2).unwrap();
        let payload = encoded(&[3.0, 1.0, 1.0, -1.0], shape);
        let unit = 1.0 / 128.0f32;
        assert_eq!(
            payload[..8],
            [unit, 4.0 * unit].map(f32::to_le_bytes).concat()
        );
        assert_eq!(payload[8..], [128 + 64, 128, 128, 128, 0b11, 0b00]);
        let scale = 1.0 + 257.0 * unit / 4096.0;
        assert_eq!(
            decode(&payload, shape, &mut || ()).unwrap(),
            [2.0 + scale, scale, 2.0 - scale, -scale]
        );
    }

    #[test]
    fn values_that_are_only_marks_are_encoded_afresh() {
        for values in [[1.0, 1.0], [-3.0, 3.0], [0.5, -0.5]] {
            let shape = Shape::new(1, 2).unwrap();
            assert_eq!(recover(&values, shape, &mut || ()), None);
            let decoded = decode(&encoded(&values, shape), shape, &mut || ()).unwrap();
            for (value, found) in values.iter().zip(&decoded) {
                assert!((value / found - 1.0).abs() < 0.01, "{value} became {found}");
            }
        }
    }

    #[test]
    fn marks_are_read_back() {
        for code in 0..=255u8 {
            let mark = super::marked_scale(code);
            assert_eq!(read_mark(mark), (code, true));
            assert_eq!(read_mark(-mark), (code, false));
            assert_eq!(read_mark(mark - 127 * 65_536), (code, true));
        }
    }

    #[test]
    fn powers_of_two_are_found() {
        assert_eq!(exponent_above(1.0), 0);
        assert_eq!(exponent_above(1.5), 1);
        assert_eq!(exponent_above(0.25), -2);
        assert!(exponent_above(0.0) < -1000);
        assert_eq!(lowest_bit(12.0), Some(4.0));
        assert_eq!(lowest_bit(-0.375), Some(0.125));
        assert_eq!(lowest_bit(f32::from_bits(6)), Some(f32::from_bits(2)));
        assert_eq!(lowest_bit(0.0), None);
        assert_eq!(lowest_bit(2f32.powi(105)), None);
    }
}
