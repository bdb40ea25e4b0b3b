//! The crate's one error: stored bytes that this crate did not write.

use std::fmt;

/// Why stored bytes could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Bytes that no version of this crate writes.
    Corrupt {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// A codebook of a version that this one does not know.
    Version {
        /// The version found.
        found: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Corrupt { problem } => f.write_str(problem),
            Error::Version { found } => write!(f, "codebook has version {found}"),
        }
    }
}

impl std::error::Error for Error {}

/// Corrupt, because of `problem`.
pub(crate) const fn corrupt(problem: &'static str) -> Error {
    Error::Corrupt { problem }
}
