//! Putting a document into an index: its codes first, then the entry that makes it part of the index.
//!
//! Used by build and insert.

use maxsim_index::Encoded;
use pgrx::pg_sys;

use super::codes;
use super::meta::Meta;
use super::signature::{self, Entry, FLAT, LATER, MAX_IDS, Tail};
use super::wal::{Index, NO_BLOCK};
use crate::error::SqlError;

/// An index and where there was room the last time.
pub(super) struct Store {
    index: Index,
    targets: Targets,
}

/// Kept in the relation's cache entry, and gone with it.
#[derive(Clone, Copy)]
struct Targets {
    tail: Tail,
    codes: u32,
}

impl Store {
    pub(super) fn new(index: Index, meta: &Meta) -> Store {
        let tail = Tail::new(meta.insert_extent);
        let codes = NO_BLOCK;
        Store {
            index,
            targets: Targets { tail, codes },
        }
    }

    /// With what this backend knows about the index.
    pub(super) fn remembered(index: Index, meta: &Meta) -> Store {
        // SAFETY: an open relation; its cache is null or what `remember` put there.
        let kept = unsafe { (*index.relation).rd_amcache.cast::<Targets>().as_ref() };
        match kept {
            Some(&targets) => Store { index, targets },
            None => Store::new(index, meta),
        }
    }

    pub(super) fn remember(self) {
        let relation = self.index.relation;
        // SAFETY: an open relation; its cache is null or of this size, and freed by PostgreSQL.
        unsafe {
            if (*relation).rd_amcache.is_null() {
                (*relation).rd_amcache =
                    pg_sys::MemoryContextAlloc((*relation).rd_indexcxt, size_of::<Targets>());
            }
            (*relation).rd_amcache.cast::<Targets>().write(self.targets);
        }
    }

    /// Gives the number of entries that the document's signature page then has.
    ///
    /// # Errors
    /// XX002 for damaged pages.
    pub(super) fn put(
        &mut self,
        tid: u64,
        document: &Encoded,
        is_later: bool,
    ) -> Result<u16, SqlError> {
        let place = codes::write(&self.index, &mut self.targets.codes, tid, &document.codes)?;
        let ids = Some(document.signature.as_slice()).filter(|ids| ids.len() <= MAX_IDS);
        let is_flat = document.signature.is_empty();
        let flags = if is_flat { FLAT } else { 0 } | if is_later { LATER } else { 0 };
        let tokens = document.tokens as usize;
        let residual = (document.residual / tokens.max(1) as f64) as f32;
        let entry = Entry::new(tid, place, tokens, flags, residual);
        self.add(&entry, ids.unwrap_or_default())
    }

    /// A row that no snapshot to come will see: in the index, because an old one may, but without codes.
    /// Its document may be half removed, so it is not read.
    ///
    /// # Errors
    /// XX002 for damaged pages.
    pub(super) fn put_dead(&mut self, tid: u64) -> Result<u16, SqlError> {
        self.add(&Entry::new(tid, 0, 0, 0, 0.0), &[])
    }

    fn add(&mut self, entry: &Entry, ids: &[u16]) -> Result<u16, SqlError> {
        signature::add(&self.index, &mut self.targets.tail, entry, ids)
    }
}
