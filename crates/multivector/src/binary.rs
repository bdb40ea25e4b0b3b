//! The wire form, for SQL's binary send and receive, COPY BINARY included. Network byte order, as PostgreSQL has it.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | element type, numbered as in the [stored form](crate::layout) |
//! | 2 | 2 | reserved, zero |
//! | 4 | 4 | dim, big-endian |
//! | 8 | 4 | tokens, big-endian |
//! | 12 | | the stored payload with its numbers (f32, f16, scales) big-endian |
//!
//! What clients send need not be canonical (-0.0, scales of their own choice): it is received as the numbers it stands
//! for, which then are encoded, so that what is stored is always what text input would have stored.

use crate::element::ElementType;
use crate::encode::encode;
use crate::error::{Corrupt, Error};
use crate::layout::{HEADER_BYTES, VERSION, encoded_size};
use crate::shape::Shape;
use crate::view::View;

/// The wire form of a value.
///
/// # Errors
/// [`Error::Corrupt`] when a stored number is none: a value that is sent can be received.
pub fn send(view: View<'_>) -> Result<Vec<u8>, Error> {
    view.check_values()?;
    let mut out = Vec::with_capacity(view.bytes().len());
    out.extend([VERSION, view.element_type().code(), 0, 0]);
    for count in [view.dim(), view.tokens()] {
        let count = u32::try_from(count).expect("counts of a shape are within their limits");
        out.extend(count.to_be_bytes());
    }
    out.extend(view.payload_bytes());
    swap_bytes(view.element_type(), view.shape(), &mut out[HEADER_BYTES..]);
    Ok(out)
}

/// The value of a wire form, canonical.
///
/// # Errors
/// [`Error::Binary`] for everything that is not the form above, NaN and infinities included; for shapes those of
/// [`Shape::new`] and [`Error::TooLarge`]. Never panics, and allocates nothing before the length has been checked.
pub fn receive(message: &[u8]) -> Result<Vec<u8>, Error> {
    let Some((header, payload)) = message.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Error::Binary(Corrupt::Truncated {
            len: message.len(),
            header: HEADER_BYTES,
        }));
    };
    let [version, code, r0, r1, d0, d1, d2, d3, t0, t1, t2, t3] = *header;
    if version != VERSION {
        return Err(Error::Binary(Corrupt::Version { version }));
    }
    let element = ElementType::from_code(code);
    let element = element.ok_or(Error::Binary(Corrupt::ElementType { code }))?;
    if [r0, r1] != [0; 2] {
        return Err(Error::Binary(Corrupt::Reserved));
    }
    let count = |bytes| u32::from_be_bytes(bytes) as usize;
    let shape = Shape::new(count([t0, t1, t2, t3]), count([d0, d1, d2, d3]))?;
    let expected = encoded_size(element, shape)?;
    if message.len() != expected {
        return Err(Error::Binary(Corrupt::Length {
            len: message.len(),
            expected,
        }));
    }
    let mut payload = payload.to_vec();
    swap_bytes(element, shape, &mut payload);
    element.check(&payload, shape).map_err(Error::Binary)?;
    encode(&element.decode(&payload, shape), shape, element)
}

/// Turns the numbers of a payload from little-endian to big-endian, or back.
fn swap_bytes(element: ElementType, shape: Shape, payload: &mut [u8]) {
    let (number_bytes, numbers) = element.numbers(shape);
    for number in payload[numbers].chunks_exact_mut(number_bytes) {
        number.reverse();
    }
}
