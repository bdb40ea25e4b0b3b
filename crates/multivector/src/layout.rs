//! Where everything stands in a stored multivector. Version 1, little-endian, frozen.
//!
//! Used by [`View`](crate::View) and [`encode`](crate::encode()). Offsets count from the start of the *datum's data*, that
//! is after PostgreSQL's 4-byte length word, and the header is 12 bytes so that together they are 16: a datum on
//! an 8-byte boundary has its payload on one.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | element type: 1 f32, 2 f16, 3 int8, 4 bit |
//! | 2 | 2 | dim, components of a token |
//! | 4 | 4 | tokens |
//! | 8 | 4 | reserved, zero |
//! | 12 | [`payload_bytes`](ElementType::payload_bytes) | the elements, exactly as crate `maxsim` scores them |
//!
//! The payload per element type, without gaps:
//!
//! | type | bytes | what |
//! |---|---|---|
//! | f32 | 4 · tokens · dim | components, row-major |
//! | f16 | 2 · tokens · dim | components, row-major, IEEE half precision |
//! | int8 | 4 · tokens + tokens · dim | a scale (f32) for each token; then codes, row-major, component = (code - 128) · scale |
//! | bit | 8 + dim + tokens + tokens · ⌈dim / 8⌉ | units u and v (f32, powers of two); the mean, component = (code - 128) · v; a scale for each token, code · u; signs, each token from a new byte, lowest bit first; component = mean ± scale |
//!
//! Nothing follows: the length of a value is a function of its header, and equal values are equal bytes.

use crate::element::ElementType;
use crate::error::{Corrupt, Error};
use crate::shape::{MAX_BYTES, Shape};

/// PostgreSQL's length word before the bytes of this layout.
pub const LENGTH_WORD_BYTES: usize = 4;
/// The header's size.
pub const HEADER_BYTES: usize = 12;
/// The version byte of this layout.
pub const VERSION: u8 = 1;

#[cfg(target_endian = "big")]
compile_error!("stored multivectors are little-endian and read in place");

/// The exact size in bytes of an encoded value, PostgreSQL's length word not included.
///
/// # Errors
/// [`Error::TooLarge`] when it exceeds 1 GB - 1 with the length word.
pub fn encoded_size(element: ElementType, shape: Shape) -> Result<usize, Error> {
    let bytes = HEADER_BYTES + element.payload_bytes(shape);
    let max = MAX_BYTES - LENGTH_WORD_BYTES;
    if bytes > max {
        return Err(Error::TooLarge { bytes, max });
    }
    Ok(bytes)
}

/// The header of a value.
pub(crate) fn write_header(element: ElementType, shape: Shape) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = VERSION;
    header[1] = element.code();
    let dim = u16::try_from(shape.dim()).expect("a shape's dim is within MAX_DIM");
    header[2..4].copy_from_slice(&dim.to_le_bytes());
    let tokens = u32::try_from(shape.tokens()).expect("a shape's tokens are within MAX_TOKENS");
    header[4..8].copy_from_slice(&tokens.to_le_bytes());
    header
}

/// What [`write_header`] wrote, of any bytes.
pub(crate) fn read_header(bytes: &[u8]) -> Result<(ElementType, Shape), Corrupt> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Corrupt::Truncated {
            len: bytes.len(),
            header: HEADER_BYTES,
        });
    };
    let [version, code, d0, d1, t0, t1, t2, t3, reserved @ ..] = *header;
    if version != VERSION {
        return Err(Corrupt::Version { version });
    }
    let element = ElementType::from_code(code).ok_or(Corrupt::ElementType { code })?;
    if reserved != [0; 4] {
        return Err(Corrupt::Reserved);
    }
    let dim = usize::from(u16::from_le_bytes([d0, d1]));
    let tokens = u32::from_le_bytes([t0, t1, t2, t3]) as usize;
    let shape = Shape::new(tokens, dim).map_err(|_| Corrupt::Shape { tokens, dim })?;
    Ok((element, shape))
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, LENGTH_WORD_BYTES, encoded_size, read_header, write_header};
    use crate::element::ElementType;
    use crate::error::{Corrupt, Error};
    use crate::shape::Shape;

    #[test]
    fn the_payload_begins_on_an_8_byte_boundary_of_the_datum() {
        assert_eq!((LENGTH_WORD_BYTES + HEADER_BYTES) % 8, 0);
    }

    #[test]
    fn headers_are_frozen() {
        let shape = Shape::new(0x0102, 0x0304).unwrap();
        let header = write_header(ElementType::Int8, shape);
        assert_eq!(header, [1, 3, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read_header(&header), Ok((ElementType::Int8, shape)));
    }

    #[test]
    fn every_wrong_header_is_told_apart() {
        let good = write_header(ElementType::F32, Shape::new(1, 1).unwrap());
        let with = |at: usize, byte: u8| {
            let mut header = good;
            header[at] = byte;
            read_header(&header).unwrap_err()
        };
        let short = Corrupt::Truncated {
            len: 11,
            header: 12,
        };
        assert_eq!(read_header(&good[..11]), Err(short));
        assert_eq!(with(0, 0), Corrupt::Version { version: 0 });
        assert_eq!(with(0, 2), Corrupt::Version { version: 2 });
        assert_eq!(with(1, 0), Corrupt::ElementType { code: 0 });
        assert_eq!(with(1, 5), Corrupt::ElementType { code: 5 });
        assert_eq!(with(2, 0), Corrupt::Shape { tokens: 1, dim: 0 });
        assert_eq!(
            with(3, 255),
            Corrupt::Shape {
                tokens: 1,
                dim: 65_281
            }
        );
        assert_eq!(with(4, 0), Corrupt::Shape { tokens: 0, dim: 1 });
        assert_eq!(
            with(7, 1),
            Corrupt::Shape {
                tokens: (1 << 24) + 1,
                dim: 1
            }
        );
        for at in 8..12 {
            assert_eq!(with(at, 1), Corrupt::Reserved);
        }
    }

    #[test]
    fn sizes_of_a_text_passage_are_the_documented_ones() {
        let shape = Shape::new(181, 128).unwrap();
        let size = |element| encoded_size(element, shape).unwrap();
        assert_eq!(size(ElementType::F32), 12 + 181 * 512);
        assert_eq!(size(ElementType::F16), 12 + 181 * 256);
        assert_eq!(size(ElementType::Int8), 12 + 181 * 4 + 181 * 128);
        assert_eq!(size(ElementType::Bit), 12 + 8 + 128 + 181 + 181 * 16);
    }

    #[test]
    fn a_value_of_a_gigabyte_is_refused_with_its_size() {
        let shape = Shape::new(32_768, 8_192).unwrap();
        let max = 0x3FFF_FFFF - 4;
        assert_eq!(
            encoded_size(ElementType::F32, shape),
            Err(Error::TooLarge {
                bytes: (1 << 30) + 12,
                max
            })
        );
        assert!(encoded_size(ElementType::F16, shape).is_ok());
        let below = Shape::new(32_767, 8_192).unwrap();
        assert!(encoded_size(ElementType::F32, below).is_ok());
        let most = Shape::new(32_768, 16_000).unwrap();
        assert!(encoded_size(ElementType::Int8, most).is_ok());
    }
}
