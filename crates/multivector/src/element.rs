//! The element types: names, sizes, and the way from f32 components to payload bytes and back.
//!
//! Used by [`encode`](crate::encode()) and [`View`](crate::View). The bytes themselves are defined by crate `maxsim`, beside the
//! kernels that read them; what is added here makes them canonical, so that equal values are equal bytes and decoded
//! values encode to the bytes they came from, which dump and restore through text rely on.

use std::fmt;
use std::ops::Range;

use crate::bit;
use crate::error::{Corrupt, Error};
use crate::poll::{BLOCK, Poll, blocks};
use crate::room::room;
use crate::shape::Shape;

/// How components are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// Four bytes a component: exact.
    F32,
    /// IEEE half precision: relative error 2⁻¹¹, magnitudes up to 65,504.
    F16,
    /// One byte a component and a scale per token: error 1/254 of the token's largest component.
    Int8,
    /// One bit a component, the sign of what it differs by from the mean of all tokens, and a byte of scale per token:
    /// for ranking. Magnitudes below 2¹²⁰.
    Bit,
}

const SCALE_BYTES: usize = size_of::<f32>();
/// int8's code of zero, and the magnitude of its largest codes.
const INT8_BIAS: u8 = 128;
const INT8_LARGEST: f32 = 127.0;

impl ElementType {
    /// All of them, in the order of their numbers.
    pub const ALL: [ElementType; 4] = [
        ElementType::F32,
        ElementType::F16,
        ElementType::Int8,
        ElementType::Bit,
    ];

    /// The name in SQL, as in `multivector(128, f16)`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::Int8 => "int8",
            ElementType::Bit => "bit",
        }
    }

    /// The element type of a name, whatever its case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<ElementType> {
        ElementType::ALL
            .into_iter()
            .find(|element| element.name().eq_ignore_ascii_case(name))
    }

    /// The number in headers, stored and sent, and in type modifiers: 1 to 4, frozen.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            ElementType::F32 => 1,
            ElementType::F16 => 2,
            ElementType::Int8 => 3,
            ElementType::Bit => 4,
        }
    }

    /// The element type of a number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<ElementType> {
        ElementType::ALL
            .into_iter()
            .find(|element| element.code() == code)
    }

    /// The largest magnitude it takes (f16 also rounds down what is a little above).
    #[must_use]
    pub fn largest(self) -> f32 {
        match self {
            ElementType::F32 | ElementType::Int8 => f32::MAX,
            ElementType::F16 => 65_504.0,
            ElementType::Bit => bit::LIMIT.next_down(),
        }
    }

    /// The size of the payload in bytes.
    #[must_use]
    pub fn payload_bytes(self, shape: Shape) -> usize {
        match self {
            ElementType::F32 => 4 * shape.values(),
            ElementType::F16 => 2 * shape.values(),
            ElementType::Int8 => SCALE_BYTES * shape.tokens() + shape.values(),
            ElementType::Bit => bit::payload_bytes(shape),
        }
    }

    /// The bytes of a number that has a byte order, and where in a payload such numbers stand.
    pub(crate) fn numbers(self, shape: Shape) -> (usize, Range<usize>) {
        match self {
            ElementType::F32 => (4, 0..self.payload_bytes(shape)),
            ElementType::F16 => (2, 0..self.payload_bytes(shape)),
            ElementType::Int8 => (SCALE_BYTES, 0..SCALE_BYTES * shape.tokens()),
            ElementType::Bit => (SCALE_BYTES, bit::UNITS),
        }
    }

    /// Writes the payload of finite `values`, canonical.
    pub(crate) fn encode(
        self,
        values: &[f32],
        shape: Shape,
        out: &mut [u8],
        poll: Poll<'_>,
    ) -> Result<(), Error> {
        if self == ElementType::Bit {
            return match bit::encode(values, shape, out, poll) {
                true => Ok(()),
                false => Err(self.out_of_range(values, 0, shape.dim())),
            };
        }
        for tokens in blocks(shape, poll) {
            let rows = &values[tokens.start * shape.dim()..tokens.end * shape.dim()];
            self.encode_block(rows, tokens, shape, out)?;
        }
        Ok(())
    }

    /// Writes some tokens, of an element type whose tokens do not depend on each other.
    fn encode_block(
        self,
        rows: &[f32],
        tokens: Range<usize>,
        shape: Shape,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let dim = shape.dim();
        let refused = |_| self.out_of_range(rows, tokens.start, dim);
        let [scales, components] = self.parts(&tokens, shape);
        match self {
            ElementType::F32 => {
                let out = out[components].as_chunks_mut::<4>().0;
                for (bytes, value) in out.iter_mut().zip(rows) {
                    // Adding zero turns -0.0 into 0.0, and nothing else into anything else.
                    *bytes = (value + 0.0).to_le_bytes();
                }
            }
            ElementType::F16 => {
                let out = &mut out[components];
                out.copy_from_slice(&maxsim::encode_f16(rows, dim).map_err(refused)?);
                for bytes in out.as_chunks_mut::<2>().0 {
                    if u16::from_le_bytes(*bytes) == 0x8000 {
                        *bytes = [0, 0];
                    }
                }
            }
            ElementType::Int8 => {
                let mut block = maxsim::encode_int8(rows, dim).map_err(refused)?;
                settle_int8(&mut block, dim);
                let (from_scales, from_codes) = block.split_at(scales.len());
                out[scales].copy_from_slice(from_scales);
                out[components].copy_from_slice(from_codes);
            }
            ElementType::Bit => unreachable!("its tokens share their mean"),
        }
        Ok(())
    }

    /// The components of a payload. No check: what `payload` holds becomes some number, NaN and infinity included.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn decode(
        self,
        payload: &[u8],
        shape: Shape,
        poll: Poll<'_>,
    ) -> Result<Vec<f32>, Error> {
        let fits = "shape and size agree";
        if self == ElementType::Bit {
            return bit::decode(payload, shape, poll);
        }
        let mut values = room(shape.values())?;
        for tokens in blocks(shape, poll) {
            let [scales, components] = self.parts(&tokens, shape);
            let components = &payload[components];
            match self {
                ElementType::F32 => {
                    let chunks = components.as_chunks::<4>().0;
                    values.extend(chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)));
                }
                ElementType::F16 => {
                    values.extend(maxsim::decode_f16(components, shape.dim()).expect(fits));
                }
                // Some tokens with their scales before them are a smaller document.
                _ => {
                    let block = [&payload[scales], components].concat();
                    values.extend(maxsim::decode_int8(&block, shape.dim()).expect(fits));
                }
            }
        }
        Ok(values)
    }

    /// Where in a payload the scales and the components of some tokens stand; not of bit.
    fn parts(self, tokens: &Range<usize>, shape: Shape) -> [Range<usize>; 2] {
        let (scale, component) = match self {
            ElementType::Int8 => (SCALE_BYTES, 1),
            ElementType::F16 => (0, 2),
            _ => (0, 4),
        };
        let (begin, row) = (scale * shape.tokens(), component * shape.dim());
        [
            scale * tokens.start..scale * tokens.end,
            begin + row * tokens.start..begin + row * tokens.end,
        ]
    }

    /// Refuses numbers that are never written; sizes have been checked.
    pub(crate) fn check(self, payload: &[u8], shape: Shape, poll: Poll<'_>) -> Result<(), Corrupt> {
        let scales = SCALE_BYTES * shape.tokens();
        match self {
            ElementType::F32 => Unit::F32.check(payload, shape.dim(), poll),
            ElementType::F16 => Unit::F16.check(payload, shape.dim(), poll),
            ElementType::Int8 => {
                Unit::Code.check(&payload[scales..], shape.dim(), poll)?;
                Unit::Scale.check(&payload[..scales], 1, poll)
            }
            ElementType::Bit if bit::is_sound(payload, shape) => Ok(()),
            ElementType::Bit => Err(Corrupt::Value { token: 0 }),
        }
    }

    /// The error for the first component that does not fit, in rows of `dim` from token `first` on.
    fn out_of_range(self, values: &[f32], first: usize, dim: usize) -> Error {
        let fits = |value: &f32| match self {
            // What is less than half a step above the largest is rounded to it.
            ElementType::F16 => value.abs() < 65_520.0,
            _ => value.abs() <= self.largest(),
        };
        let at = values.iter().position(|value| !fits(value)).unwrap_or(0);
        Error::OutOfRange {
            token: first + at / dim,
            value: values[at],
            element: self,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kinds of numbers that payloads hold.
#[derive(Clone, Copy)]
enum Unit {
    F32,
    F16,
    Scale,
    /// Of int8.
    Code,
}

impl Unit {
    /// Refuses numbers that are never written, of which each token has `per_token`.
    fn check(self, bytes: &[u8], per_token: usize, poll: Poll<'_>) -> Result<(), Corrupt> {
        let size = match self {
            Unit::F32 | Unit::Scale => 4,
            Unit::F16 => 2,
            Unit::Code => 1,
        };
        for (block, bytes) in bytes.chunks(size * BLOCK).enumerate() {
            poll();
            if let Some(at) = self.first_bad(bytes) {
                let token = (block * BLOCK + at) / per_token;
                return Err(Corrupt::Value { token });
            }
        }
        Ok(())
    }

    /// The index of the first number that is never written.
    fn first_bad(self, bytes: &[u8]) -> Option<usize> {
        let f32s = bytes.as_chunks::<4>().0;
        match self {
            Unit::F32 => position(f32s, |&bytes| !f32::from_le_bytes(bytes).is_finite()),
            Unit::F16 => position(bytes.as_chunks::<2>().0, |&bytes| {
                u16::from_le_bytes(bytes) & 0x7C00 == 0x7C00
            }),
            Unit::Code => position(bytes, |&code| code == 0),
            // The largest code times the scale must be finite too.
            Unit::Scale => position(f32s, |&bytes| {
                let scale = f32::from_le_bytes(bytes);
                !(scale >= 0.0 && (scale * INT8_LARGEST).is_finite())
            }),
        }
    }
}

/// Like `Iterator::position`, 256 numbers at a time without a branch, so that the usual pass vectorises.
#[inline(always)]
fn position<T>(numbers: &[T], bad: impl Fn(&T) -> bool) -> Option<usize> {
    for (chunk, numbers) in numbers.chunks(256).enumerate() {
        if numbers.iter().fold(false, |any, number| any | bad(number)) {
            return numbers.iter().position(&bad).map(|at| chunk * 256 + at);
        }
    }
    None
}

/// Moves each scale to one that decoding and encoding again returns to.
///
/// The largest component decodes to 127 · scale, rounded, and its 127th is the scale of the next encoding. For one
/// scale in 128 rounding makes that the neighbour of the first, which is a fixed point (127 · scale then lies off
/// the middle between two floats). The codes are those of the first encoding: a last bit of the scale does not move them.
/// Subnormal scales have too few bits for codes to return, so tokens that small (below 10⁻³⁶) become zero.
fn settle_int8(document: &mut [u8], dim: usize) {
    let tokens = document.len() / (SCALE_BYTES + dim);
    let (scales, codes) = document.split_at_mut(SCALE_BYTES * tokens);
    let scales = scales.as_chunks_mut::<SCALE_BYTES>().0;
    for (scale, codes) in scales.iter_mut().zip(codes.chunks_exact_mut(dim)) {
        let encoded = f32::from_le_bytes(*scale);
        let settled = if encoded < f32::MIN_POSITIVE {
            codes.fill(INT8_BIAS);
            0.0
        } else if (encoded * INT8_LARGEST).is_infinite() {
            encoded.next_down()
        } else {
            encoded * INT8_LARGEST / INT8_LARGEST
        };
        *scale = settled.to_le_bytes();
    }
}
