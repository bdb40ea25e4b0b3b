//! MaxSim, the late-interaction score of ColBERT and ColPali: `Σ_i max_j ⟨q_i, d_j⟩`.
//!
//! Used by the extension's `maxsim()` and `@#`. A query is packed once ([`Query::new`]) and then scores many
//! documents; the documents are read in place, at any alignment, and never copied as a whole.
//!
//! ```
//! let query = maxsim::Query::new(&[1.0, 0.0, 0.0, 1.0], 2)?; // two tokens of two components
//! let document = [0.6, 0.8, 1.0, 0.0, 0.0, -1.0]; // three tokens
//! assert!((query.score_f32(&document)? - 1.8).abs() < 1e-6); // 1.0 from token 1, 0.8 from token 0
//! # Ok::<(), maxsim::Error>(())
//! ```
//!
//! # Element types
//! Documents are f32 values, or bytes that one of the encoders wrote:
//!
//! | element | bytes a document of m tokens takes | error of a score | agreement of the best 10 with exact |
//! |---|---|---|---|
//! | f32 | 4 m dim | 4e-7 | 1.00 |
//! | f16 ([`encode_f16`]) | 2 m dim | 1e-4 | .9997 |
//! | int8 ([`encode_int8`]) | m (dim + 4) | 0.3 % | .998 |
//! | bit ([`encode_bit`]) | 8 + dim + m (1 + ⌈dim / 8⌉) | rough | .84 |
//!
//! Relative error of a document's score, largest seen on real ColBERT vectors; agreement over 300 queries on 3000
//! abstracts (SciFact). The bounds that hold always stand with [`Query`]'s functions, the exact layouts in
//! [`half`], [`int8`] and [`bit`](mod@bit).
//!
//! # Not-a-number and infinities
//! Callers are expected to keep them out ([`all_finite`] is cheap). When they come anyway nothing crashes: a
//! similarity that is NaN never is the maximum, a query token that has no other similarity contributes −∞, and
//! infinities obey IEEE 754 arithmetic. Products of finite values that overflow f32 are infinities too.
//!
//! # Source
//! Khattab and Zaharia, *ColBERT*, SIGIR 2020, equation 3.

mod arch;
pub mod bit;
mod error;
mod few;
mod finite;
pub mod half;
pub mod int8;
mod kernel;
pub mod naive;
mod packed;
mod products;
mod query;
mod unpack;

pub use bit::{decode_bit, encode_bit, validate_bit};
pub use error::Error;
pub use finite::all_finite;
pub use half::{decode_f16, encode_f16, validate_f16};
pub use int8::{decode_int8, encode_int8, validate_int8};
pub use kernel::{Kernel, kernel_name};
pub use query::{Match, Query};
