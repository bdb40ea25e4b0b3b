//! The SQL type `multivector`: token vectors of one dimension, stored compactly and scored in place.
//!
//! The value itself (layout, text, functions) is crate `multivector`'s; here are PostgreSQL's calling
//! conventions around it, a file per kind of function.

mod aggregate;
mod cast;
mod datum;
mod functions;
mod io;
mod pgvector;
mod typmod;

pub(crate) use cast::of_embedding;
pub(crate) use datum::Multivector;
pub(crate) use typmod::declared_dim;
