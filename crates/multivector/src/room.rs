//! Memory for as much as a value may take: a failure to get it is an error here, where Rust would end the process.

use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_vec;

use crate::error::Error;

/// An empty vector with room for `len` elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn room<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut made = Vec::new();
    made.try_reserve_exact(len)
        .map_err(|_| Error::OutOfMemory {
            bytes: len.saturating_mul(size_of::<T>()),
        })?;
    Ok(made)
}

/// As many zeros; pages that the system has yet to make, so that none of it takes time here.
///
/// # Errors
/// As [`room`].
pub(crate) fn zeros<T: Zeroable>(len: usize) -> Result<Vec<T>, Error> {
    try_zeroed_vec(len).map_err(|()| Error::OutOfMemory {
        bytes: len.saturating_mul(size_of::<T>()),
    })
}

#[cfg(test)]
mod tests {
    use super::{room, zeros};
    use crate::Error;

    #[test]
    fn what_no_machine_has_is_an_error() {
        let error = room::<u64>(usize::MAX / 16).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }));
        assert_eq!(zeros::<u8>(3).unwrap(), [0; 3]);
    }
}
