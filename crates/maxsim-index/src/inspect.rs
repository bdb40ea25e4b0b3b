//! What codes say, for checking an index: used by nothing that searches.

use crate::codebook::Codebook;
use crate::codes::{Codes, Residual, write_flat, write_residual};
use crate::crew;
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
            let mut signature = ids(&residual);
            let tokens = signature.len();
            signature.sort_unstable();
            signature.dedup();
            Inspected { tokens, signature }
        }
    })
}

/// Whether codes are those of a document, bit by bit.
///
/// The centroids are taken from the codes: which are nearest is a matter of a last digit sometimes, and the arithmetic of
/// another processor may differ in it. What a token differs from a given centroid does not depend on the processor.
///
/// # Errors
/// As [`inspect`].
///
/// # Panics
/// When the document has no token, or dim does not divide its length.
pub fn belongs(
    codes: &[u8],
    document: &[f32],
    dim: usize,
    codebook: Option<&Codebook>,
    poll: &mut dyn FnMut(),
) -> Result<bool, Error> {
    let expected = match (Codes::parse(codes, dim, codebook)?, codebook) {
        (Codes::Residual(residual), Some(codebook)) => {
            let ids = ids(&residual);
            if ids.len() != document.len() / dim {
                return Ok(false);
            }
            crew::alone(poll, |check| {
                write_residual(document, &ids, codebook, check)
            })
            .0
        }
        _ => write_flat(document, dim, poll),
    };
    Ok(codes == expected)
}

/// The centroid of each token.
fn ids(residual: &Residual<'_>) -> Vec<u16> {
    let ids = residual.ids.iter();
    ids.map(|id| u16::from_le_bytes(*id)).collect()
}

#[cfg(test)]
mod tests {
    use super::{belongs, inspect};
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

    #[test]
    fn codes_belong_to_their_document_and_to_no_other() {
        let sample: Vec<f32> = (0..400).map(|at| ((at * 37 % 101) as f32).sin()).collect();
        let codebook = Codebook::train(&sample, 4, 8, 1, 1, &mut || ());
        let (document, other) = (&sample[..40], &sample[40..80]);
        let mut changed = document.to_vec();
        changed[17] = -changed[17];
        for codes in [
            codebook.encode(document, &mut || ()).codes,
            encode_flat(document, 4, &mut || ()).codes,
        ] {
            let belongs = |document| belongs(&codes, document, 4, Some(&codebook), &mut || ());
            assert_eq!(belongs(document), Ok(true));
            assert_eq!(belongs(other), Ok(false));
            assert_eq!(belongs(&document[4..]), Ok(false));
            assert_eq!(belongs(&changed), Ok(false));
        }
        assert!(belongs(&[1, 1], document, 4, None, &mut || ()).is_err());
    }
}
