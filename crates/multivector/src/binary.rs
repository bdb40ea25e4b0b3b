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
use crate::poll::{BLOCK, Poll};
use crate::room::zeros;
use crate::shape::{MAX_BYTES, Shape};
use crate::view::View;

/// Writes the wire form of a value, which is as long as the value: every byte of `out`.
///
/// # Errors
/// [`Error::Corrupt`] when a stored number is none: a value that is sent can be received.
///
/// # Panics
/// When `out` is not as long as the value.
pub fn send(view: View<'_>, out: &mut [u8], poll: Poll<'_>) -> Result<(), Error> {
    view.check_values(poll)?;
    let (header, payload) = out.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(&[VERSION, view.element_type().code(), 0, 0]);
    for (bytes, count) in header[4..]
        .chunks_exact_mut(4)
        .zip([view.dim(), view.tokens()])
    {
        let count = u32::try_from(count).expect("counts of a shape are within their limits");
        bytes.copy_from_slice(&count.to_be_bytes());
    }
    swap_bytes(
        view.element_type(),
        view.shape(),
        view.payload_bytes(),
        payload,
        poll,
    );
    Ok(())
}

/// The value of a wire form, canonical.
///
/// # Errors
/// [`Error::Binary`] for everything that is not the form above, NaN and infinities included; for shapes those of
/// [`Shape::new`] and [`Error::TooLarge`]. Never panics, and allocates nothing before the length has been checked.
pub fn receive(message: &[u8], poll: Poll<'_>) -> Result<Vec<u8>, Error> {
    let Some((header, sent)) = message.split_first_chunk::<HEADER_BYTES>() else {
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
    // What could not be decoded could be neither printed nor dumped.
    let bytes = size_of::<f32>() * shape.values();
    if bytes > MAX_BYTES {
        return Err(Error::TooLarge {
            bytes,
            max: MAX_BYTES,
        });
    }
    if message.len() != expected {
        return Err(Error::Binary(Corrupt::Length {
            len: message.len(),
            expected,
        }));
    }
    let mut payload = zeros(sent.len())?;
    swap_bytes(element, shape, sent, &mut payload, poll);
    element
        .check(&payload, shape, poll)
        .map_err(Error::Binary)?;
    encode(
        &element.decode(&payload, shape, poll)?,
        shape,
        element,
        poll,
    )
}

/// Copies a payload, its numbers turned from little-endian to big-endian, or back.
fn swap_bytes(element: ElementType, shape: Shape, from: &[u8], to: &mut [u8], poll: Poll<'_>) {
    let (number_bytes, numbers) = element.numbers(shape);
    for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
        poll();
        to.copy_from_slice(from);
    }
    for numbers in to[numbers].chunks_mut(number_bytes * BLOCK) {
        poll();
        numbers
            .chunks_exact_mut(number_bytes)
            .for_each(<[u8]>::reverse);
    }
}
