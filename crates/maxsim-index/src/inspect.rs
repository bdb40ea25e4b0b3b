//! What codes say, for checking an index: used by nothing that searches.

use crate::codebook::Codebook;
use crate::codes::Codes;
use crate::error::Error;

/// What a document's codes say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// How many tokens it has.
    pub tokens: usize,
    /// The signature that belongs to them; empty for flat codes.
    pub signature: Vec<u16>,
}

/// Reads codes as a search would.
///
/// # Errors
/// [`Error::Corrupt`] for codes that are damaged or do not belong to the codebook.
pub fn inspect(codes: &[u8], dim: usize, codebook: Option<&Codebook>) -> Result<Inspected, Error> {
    Ok(match Codes::parse(codes, dim, codebook)? {
        Codes::Flat(bits) => Inspected {
            tokens: (bits.len() - 8 - dim) / (1 + dim.div_ceil(8)),
            signature: Vec::new(),
        },
        Codes::Residual(residual) => {
            let ids = residual.ids.iter().map(|id| u16::from_le_bytes(*id));
            let mut signature: Vec<u16> = ids.collect();
            let tokens = signature.len();
            signature.sort_unstable();
            signature.dedup();
            Inspected { tokens, signature }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::inspect;
    use crate::{Codebook, encode_flat};

    #[test]
    fn codes_say_how_many_tokens_and_which_centroids_there_are() {
        let sample: Vec<f32> = (0..400).map(|at| ((at * 37 % 101) as f32).sin()).collect();
        let codebook = Codebook::train(&sample, 4, 8, 1, 1, &mut || ());
        let encoded = codebook.encode(&sample[..40], &mut || ());
        let inspected = inspect(&encoded.codes, 4, Some(&codebook)).unwrap();
        assert_eq!(inspected.tokens, 10);
        assert_eq!(inspected.signature, encoded.signature);

        let flat = encode_flat(&sample[..12], 4, &mut || ());
        let inspected = inspect(&flat.codes, 4, None).unwrap();
        assert_eq!((inspected.tokens, inspected.signature.len()), (3, 0));
        assert!(inspect(&flat.codes[1..], 4, None).is_err());
    }
}
