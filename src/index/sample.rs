//! A sample of tokens, for training: fair over all documents, bounded in memory.
//!
//! Used by build, which meets every row, and by training on insert, which picks rows from the index.

use pgrx::{check_for_interrupts, pg_sys};

use super::document::DocumentType;
use super::insert::weight;
use crate::error::SqlError;

/// As many as the largest sample has tokens: they may have one each.
const MAX_DOCUMENTS: usize = 1_200_000;
/// What one takes beside its own bytes.
const OVERHEAD: usize = 48;
/// What picked values may take however little memory there is. Long ones are TOAST pointers, but for what an expression gives.
const FEWEST_BYTES: usize = 2 << 20;
/// So many documents are picked however long they are.
const FEWEST: usize = 16;
/// Of a document at least so many tokens, for the trouble of reading it; more where there are few documents. Tokens of one document
/// are much alike: as many of many documents say more.
const FEWEST_OF_A_DOCUMENT: usize = 32;
/// Of the first, when it is not known yet how many are wanted.
const MOST_OF_THE_FIRST: usize = 256;

/// A small generator (xorshift64*): which rows are picked must not depend on anything but their order.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(number) * u128::from(end)) >> 64) as u64
    }
}

/// Some of many, each with the same chance (Vitter's algorithm R).
pub(super) struct Reservoir<T> {
    /// With their bytes.
    picked: Vec<(T, usize)>,
    bytes: usize,
    pub(super) seen: u64,
    capacity: usize,
    most_bytes: usize,
    random: Random,
}

impl<T> Reservoir<T> {
    /// With room for as many documents as `memory` bytes allow.
    pub(super) fn new(memory: usize) -> Reservoir<T> {
        Reservoir {
            picked: Vec::new(),
            bytes: 0,
            seen: 0,
            capacity: MAX_DOCUMENTS,
            most_bytes: memory.max(FEWEST_BYTES),
            random: Random::new(),
        }
    }

    /// Offers one of so many bytes; `make` is called if it is picked. Gives back what had to go for it.
    pub(super) fn offer(&mut self, bytes: usize, make: impl FnOnce() -> T) -> Vec<T> {
        let mut gone = Vec::new();
        let bytes = bytes + OVERHEAD;
        self.seen += 1;
        if self.picked.len() < self.capacity {
            self.picked.push((make(), bytes));
        } else {
            let at = self.random.below(self.seen) as usize;
            if at >= self.capacity {
                return gone;
            }
            let (old, old_bytes) = std::mem::replace(&mut self.picked[at], (make(), bytes));
            self.bytes -= old_bytes;
            gone.push(old);
        }
        self.bytes += bytes;
        // Long ones: fewer from now on, chosen among those that are there as fairly as they were.
        while self.bytes > self.most_bytes && self.picked.len() > FEWEST {
            let at = 1 + self.random.below(self.picked.len() as u64 - 1) as usize;
            let (old, old_bytes) = self.picked.swap_remove(at);
            self.bytes -= old_bytes;
            self.capacity = self.picked.len();
            gone.push(old);
        }
        gone
    }

    /// What was picked, in an order that says nothing of where it came: who takes only the first of them still
    /// takes a fair sample. The first stays where it is, since it says of which dimension an index is.
    pub(super) fn shuffled(mut self) -> Vec<T> {
        for end in (2..self.picked.len()).rev() {
            let at = 1 + self.random.below(end as u64) as usize;
            self.picked.swap(at, end);
        }
        self.picked.into_iter().map(|(value, _)| value).collect()
    }
}

/// Tokens of documents, up to a number.
pub(super) struct Tokens {
    pub(super) values: Vec<f32>,
    pub(super) dim: usize,
    /// Documents and their tokens, those not taken among them.
    pub(super) documents: u64,
    pub(super) tokens: u64,
    /// What they count towards training.
    pub(super) weights: u64,
    most_of_a_document: usize,
    random: Random,
}

impl Tokens {
    pub(super) fn new(dim: usize) -> Tokens {
        Tokens {
            values: Vec::new(),
            dim,
            documents: 0,
            tokens: 0,
            weights: 0,
            most_of_a_document: MOST_OF_THE_FIRST,
            random: Random::new(),
        }
    }

    /// That so many are wanted in all, and so many documents are still to come.
    pub(super) fn want(&mut self, tokens: usize, documents: usize) {
        let missing = tokens.saturating_sub(self.len());
        self.most_of_a_document = FEWEST_OF_A_DOCUMENT.max(missing.div_ceil(documents.max(1)));
    }

    /// # Errors
    /// Those of reading a document, and 22000 where it has another dimension than those before.
    ///
    /// # Safety
    /// A non-null datum of this type.
    pub(super) unsafe fn add(
        &mut self,
        type_: DocumentType,
        datum: pg_sys::Datum,
    ) -> Result<(), SqlError> {
        check_for_interrupts!();
        // SAFETY: the caller vouches for it.
        let (values, dim) = unsafe { type_.values(datum)? };
        if self.dim == 0 {
            self.dim = dim;
        }
        if dim != self.dim {
            return Err(SqlError::index_dimension(dim, self.dim as u32));
        }
        let tokens = values.len() / dim;
        self.documents += 1;
        self.tokens += tokens as u64;
        self.weights += weight(tokens as u64);
        let mut wanted = self.most_of_a_document.min(tokens);
        for (at, token) in values.chunks_exact(dim).enumerate() {
            // Selection sampling: each token with the same chance, in order.
            if self.random.below((tokens - at) as u64) < wanted as u64 {
                self.values.extend_from_slice(token);
                wanted -= 1;
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }
}
