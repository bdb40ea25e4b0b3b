//! multivector
