//! The algorithm of the `maxsim` index: which documents of a collection have the largest MaxSim with a query.
//!
//! Used by the extension's access method, which keeps the bytes on pages. Knows neither PostgreSQL nor files: documents
//! come in through [`Search::add`] and [`Source`].
//!
//! # How
//! A [`Codebook`] of some thousand centroids is trained on a sample of the collection's tokens. A document is stored
//! as its *signature*, the set of centroids its tokens are nearest to, and as its *codes*, one bit per component of
//! what each token differs from its centroid ([`Encoded`]). A [`Search`] looks at documents on three levels:
//!
//! 1. every signature: per query token the best of the document's centroids, by table;
//! 2. the codes of the promising: per query token the best of the document's approximate tokens;
//! 3. the exact score, by [`Source::score`], of the most promising.
//!
//! What an estimate is off by is learnt within each query from the documents that went on to the next level. A document
//! waits at its estimate plus the mean error plus `effort` standard deviations; whoever waits at the top goes on, and an
//! exact score at the top is returned. So there is no cap on the number of results, and no parameter but the effort.
//! A condition that the source knows of ([`Source::keeps`]) is asked before anything dear is done for a document.
//! Before there are enough tokens to train with, [`encode_flat`] makes codes that need no codebook, and the search has
//! the last two levels only.
//!
//! ```
//! use maxsim_index::{Document, Search, Source, encode_flat};
//!
//! struct Two([Vec<f32>; 2]);
//! impl Source for Two {
//!     fn codes(&mut self, document: &Document, codes: &mut Vec<u8>) -> bool {
//!         *codes = encode_flat(&self.0[document.place as usize], 2, &mut || ()).codes;
//!         true
//!     }
//!     fn score(&mut self, document: &Document) -> Option<f64> {
//!         Some(maxsim::naive::score(&[1.0, 0.0], &self.0[document.place as usize], 2))
//!     }
//!     fn poll(&mut self) {}
//! }
//! let mut search = Search::new(&[1.0, 0.0], 2, 3.0, None, &mut || ());
//! search.add(Document { tid: 10, place: 0 }, &[])?;
//! search.add(Document { tid: 11, place: 1 }, &[])?;
//! let best = search.next(&mut Two([vec![0.0, 1.0], vec![0.6, 0.8]]))?.unwrap();
//! assert_eq!(best.document.tid, 11);
//! # Ok::<(), maxsim_index::Error>(())
//! ```

mod assign;
mod codebook;
mod codes;
mod crew;
mod encode;
mod error;
mod inspect;
mod random;
mod search;
mod spread;
mod table;
mod train;

pub use codebook::Codebook;
pub use encode::{Encoded, encode_flat};
pub use error::Error;
pub use inspect::{Inspected, belongs, inspect};
pub use search::{Counts, Document, Hit, Search, Source};
