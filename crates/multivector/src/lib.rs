//! The value of the SQL type `multivector`: n token vectors of one dimension, as ColBERT and ColPali make them.
//!
//! Used by the extension, which adds nothing but PostgreSQL's calling conventions, and by nothing else. A value is a
//! run of bytes of a frozen [`layout`]; [`View::parse`] reads it in place, [`encode()`] makes one, and everything else is
//! made of these two.
//!
//! ```
//! use multivector::{ElementType, View, text};
//!
//! let mut poll = || (); // a caller that is to stop would unwind here
//! let stored = text::parse(b"f16:[[1,2],[3,4.5]]", &mut poll)?.finish(&mut poll)?;
//! let view = View::parse(&stored)?;
//! assert_eq!((view.tokens(), view.dim(), view.element_type()), (2, 2, ElementType::F16));
//! assert_eq!(multivector::mean(view, &mut poll)?, [2.0, 3.25]);
//! let mut printed = String::new();
//! text::print(view, &mut printed, &mut poll)?;
//! assert_eq!(printed, "f16:[[1,2],[3,4.5]]");
//! # Ok::<(), multivector::Error>(())
//! ```
//!
//! # Limits and oddities, all errors with the numbers concerned
//! At most 16,000 dimensions, 32,768 tokens, and 1 GB - 1 in all. At least one token and one dimension; dimension 1 is
//! fine. Neither NaN nor infinities. -0.0 becomes 0.0, so that equal values are equal bytes.
//!
//! # Dump and restore
//! The numbers of a value, printed or decoded, encode to the value's bytes again, for every element type; text names the
//! element type, so that it reads back as the same value wherever it is read.

mod bit;
mod builder;
mod element;
mod encode;
mod error;
mod functions;
mod number;
mod poll;
mod pool;
mod room;
mod shape;
mod typmod;
mod view;
mod ward;

pub mod binary;
pub mod layout;
pub mod text;

pub use builder::Builder;
pub use element::ElementType;
pub use encode::{convert, encode, encode_into};
pub use error::{Corrupt, Error};
pub use functions::{mean, normalize, slice};
pub use layout::encoded_size;
pub use poll::Poll;
pub use pool::pool;
pub use room::room;
pub use shape::{MAX_BYTES, MAX_DIM, MAX_TOKENS, Shape};
pub use typmod::TypeModifier;
pub use view::{Payload, View};
