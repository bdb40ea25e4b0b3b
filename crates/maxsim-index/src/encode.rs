//! Documents to what the index stores of them.

use crate::codebook::Codebook;
use crate::codes::{write_flat, write_residual};
use crate::crew::{self, Check, Stopped};

/// Tokens that are assigned together: enough that centroids are read once for many of them.
const GROUP: usize = 8192;
/// Tokens whose centroids are sorted between two checks.
const AT_ONCE: usize = 1 << 18;

/// What the index stores of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The centroids its tokens are nearest to, ascending, each once. Empty without a codebook.
    pub signature: Vec<u16>,
    /// Self-describing codes of its tokens.
    pub codes: Vec<u8>,
    /// The sum over its tokens of the squared distance to their centroids. 0 without a codebook.
    pub residual: f64,
    /// How many tokens it has.
    pub tokens: u32,
}

/// Encodes a document without a codebook.
///
/// # Panics
/// When the document has no token, `dim` does not divide its length, or a value is not finite.
pub fn encode_flat(document: &[f32], dim: usize, poll: &mut dyn FnMut()) -> Encoded {
    Encoded {
        signature: Vec::new(),
        codes: write_flat(document, dim, poll),
        residual: 0.0,
        tokens: (document.len() / dim) as u32,
    }
}

impl Codebook {
    /// Encodes one document, tokens × dim finite values.
    ///
    /// # Panics
    /// When the document has no token, or dim does not divide its length.
    pub fn encode(&self, document: &[f32], poll: &mut dyn FnMut()) -> Encoded {
        let encoded = crew::alone(poll, |check| self.encode_group(&[document], check));
        encoded.into_iter().next().expect("one for one")
    }

    /// Encodes as [`Codebook::encode`] does, many documents faster. Of centroids equally near but for the last digit, another one
    /// may be the nearest.
    ///
    /// With one thread everything runs on the calling one; otherwise that one only polls.
    pub fn encode_many(
        &self,
        documents: &[Vec<f32>],
        threads: usize,
        poll: &mut dyn FnMut(),
    ) -> Vec<Encoded> {
        let mut groups = Vec::new();
        let (mut first, mut tokens) = (0, 0);
        for (at, document) in documents.iter().enumerate() {
            tokens += document.len() / self.dim();
            if tokens >= GROUP || at + 1 == documents.len() {
                groups.push(first..at + 1);
                (first, tokens) = (at + 1, 0);
            }
        }
        let work = |group: usize, check: &mut Check| {
            let group: Vec<&[f32]> = documents[groups[group].clone()]
                .iter()
                .map(Vec::as_slice)
                .collect();
            self.encode_group(&group, check)
        };
        crew::run(threads, groups.len(), &work, poll)
            .into_iter()
            .flatten()
            .collect()
    }

    fn encode_group(&self, group: &[&[f32]], check: &mut Check) -> Result<Vec<Encoded>, Stopped> {
        for document in group {
            assert!(
                !document.is_empty() && document.len().is_multiple_of(self.dim()),
                "{} values do not make tokens of {}",
                document.len(),
                self.dim()
            );
        }
        let ids = match group {
            [document] => self.nearest(document, check)?,
            _ => self.nearest(&group.concat(), check)?,
        };
        let mut ids = ids.as_slice();
        let mut encoded = Vec::with_capacity(group.len());
        for document in group {
            let of_document;
            (of_document, ids) = ids.split_at(document.len() / self.dim());
            encoded.push(self.encode_assigned(document, of_document, check)?);
        }
        Ok(encoded)
    }

    fn encode_assigned(
        &self,
        document: &[f32],
        ids: &[u16],
        check: &mut Check,
    ) -> Result<Encoded, Stopped> {
        let (codes, residual) = write_residual(document, ids, self, check)?;
        let mut signature = Vec::new();
        for part in ids.chunks(AT_ONCE) {
            signature.extend_from_slice(part);
            signature.sort_unstable();
            signature.dedup();
            check()?;
        }
        Ok(Encoded {
            signature,
            codes,
            residual,
            tokens: ids.len() as u32,
        })
    }
}
