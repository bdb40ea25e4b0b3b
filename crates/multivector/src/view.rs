//! A stored multivector, read in place.
//!
//! Used wherever a value is read: scoring, output, every function. Parsing looks at the header and the length only, so it
//! costs the same for a page as for a word; what that leaves open (NaN where none is ever written) can make a score
//! wrong but reads nothing out of bounds, and everything that decodes values checks them ([`View::check_values`]).

use std::borrow::Cow;

use crate::element::ElementType;
use crate::error::{Corrupt, Error};
use crate::layout::{HEADER_BYTES, read_header};
use crate::poll::{BLOCK, Poll, copy};
use crate::room::room;
use crate::shape::{MAX_BYTES, Shape};

/// A multivector in borrowed bytes whose header, shape and length agree.
///
/// Equality is that of the bytes: values of different element types differ even where their numbers agree. The
/// encoding is canonical, so a hash of [`View::bytes`] (PostgreSQL's `hash_any`) goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View<'a> {
    bytes: &'a [u8],
    element: ElementType,
    shape: Shape,
}

/// The elements, in the form in which `maxsim::Query` scores them.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload<'a> {
    /// Components; borrowed if the bytes are 4-byte aligned, as a datum's are, else a copy.
    F32(Cow<'a, [f32]>),
    /// For `score_f16`.
    F16(&'a [u8]),
    /// For `score_int8`.
    Int8(&'a [u8]),
    /// For `score_bit`.
    Bit(&'a [u8]),
}

impl<'a> View<'a> {
    /// Takes the bytes of a value, those after PostgreSQL's length word. O(1).
    ///
    /// # Errors
    /// Every way in which header and length can be wrong: see [`Corrupt`]. Never panics.
    pub fn parse(bytes: &'a [u8]) -> Result<View<'a>, Corrupt> {
        let (element, shape) = read_header(bytes)?;
        let expected = HEADER_BYTES + element.payload_bytes(shape);
        if bytes.len() != expected {
            return Err(Corrupt::Length {
                len: bytes.len(),
                expected,
            });
        }
        Ok(View {
            bytes,
            element,
            shape,
        })
    }

    /// Refuses NaN, infinities and scales that are never written. Memory speed, no allocation.
    ///
    /// # Errors
    /// [`Corrupt::Value`] with the first token concerned.
    pub fn check_values(&self, poll: Poll<'_>) -> Result<(), Corrupt> {
        self.element.check(self.payload_bytes(), self.shape, poll)
    }

    /// The number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.shape.tokens()
    }

    /// The number of components of each token.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.shape.dim()
    }

    /// Tokens and components.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How the components are stored.
    #[must_use]
    pub fn element_type(&self) -> ElementType {
        self.element
    }

    /// The whole value: what equality compares and a hash should cover.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A copy of the whole value.
    pub(crate) fn to_vec(self, poll: Poll<'_>) -> Result<Vec<u8>, Error> {
        let mut copied = room(self.bytes.len())?;
        for block in self.bytes.chunks(BLOCK) {
            poll();
            copied.extend_from_slice(block);
        }
        Ok(copied)
    }

    /// The bytes after the header.
    #[must_use]
    pub fn payload_bytes(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The elements for scoring; not checked beyond their number.
    #[must_use]
    pub fn payload(&self) -> Payload<'a> {
        let bytes = self.payload_bytes();
        match self.element {
            ElementType::F32 => Payload::F32(match bytemuck::try_cast_slice(bytes) {
                Ok(values) => Cow::Borrowed(values),
                Err(_) => Cow::Owned({
                    let copied = self.element.decode(bytes, self.shape, &mut || ());
                    copied.expect("memory for a document that lies askew")
                }),
            }),
            ElementType::F16 => Payload::F16(bytes),
            ElementType::Int8 => Payload::Int8(bytes),
            ElementType::Bit => Payload::Bit(bytes),
        }
    }

    /// As [`View::values`], in memory of their own.
    ///
    /// # Errors
    /// As [`View::values`].
    pub fn to_values(self, poll: Poll<'_>) -> Result<Vec<f32>, Error> {
        Ok(match self.values(poll)? {
            Cow::Borrowed(values) => copy(values, poll)?,
            Cow::Owned(values) => values,
        })
    }

    /// The components, tokens × dim in row-major order; all finite.
    ///
    /// # Errors
    /// [`Error::Corrupt`] as [`View::check_values`]; [`Error::TooLarge`] when they are 1 GB or more.
    pub fn values(&self, poll: Poll<'_>) -> Result<Cow<'a, [f32]>, Error> {
        let bytes = 4 * self.shape.values();
        if bytes > MAX_BYTES {
            return Err(Error::TooLarge {
                bytes,
                max: MAX_BYTES,
            });
        }
        self.check_values(poll)?;
        Ok(match self.payload() {
            Payload::F32(values) => values,
            _ => Cow::Owned(
                self.element
                    .decode(self.payload_bytes(), self.shape, poll)?,
            ),
        })
    }
}
