//! The first page: what kind of index this is and where its parts begin.
//!
//! Used by everything. Not obvious: inserting a row does not write it. It changes when the index is
//! made, trained, or grows by an extent, and when vacuum finds room in an old one.

use bytemuck::{Pod, Zeroable};

use maxsim_index::Codebook;

use super::codebook::Written;
use super::page::{Kind, Opaque, Page};
use super::wal::{Index, Locked, NO_BLOCK};
use crate::error::SqlError;

/// The block of this page.
pub(super) const META_BLOCK: u32 = 0;
const MAGIC: u64 = u64::from_le_bytes(*b"maxsim\0\0");
const VERSION: u32 = 1;

/// The content of the page, little-endian.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(super) struct Meta {
    magic: u64,
    version: u32,
    /// Components of a token; 0 until the first document tells.
    pub(super) dim: u32,
    /// Centroids of the codebook; 0 before training.
    pub(super) lists: u32,
    /// The first page of the codebook.
    pub(super) codebook: u32,
    /// Its length in bytes.
    pub(super) codebook_bytes: u64,
    /// Random: by it, backends know the codebook that they have.
    pub(super) codebook_id: u64,
    /// Mean |token − centroid|² of what the build encoded; of the sample where an insert trained.
    pub(super) mean_residual: f64,
    /// Where sweeping starts.
    pub(super) first_extent: u32,
    /// Where a backend begins to look for room.
    pub(super) insert_extent: u32,
    /// Tokens in the index from which training is tried, short documents counted as [`weight`](super::insert::weight) does.
    pub(super) train_at: u64,
}

impl Meta {
    /// That of an empty index.
    pub(super) fn empty(dim: u32, train_at: u64) -> Meta {
        Meta {
            magic: MAGIC,
            version: VERSION,
            dim,
            lists: 0,
            codebook: NO_BLOCK,
            codebook_bytes: 0,
            codebook_id: 0,
            mean_residual: 0.0,
            first_extent: NO_BLOCK,
            insert_extent: NO_BLOCK,
            train_at,
        }
    }

    /// # Errors
    /// XX002 where the page is something else, 0A000 where a newer library wrote it.
    pub(super) fn read(index: &Index) -> Result<Meta, SqlError> {
        Meta::of(&index.share(META_BLOCK))
    }

    fn of(buffer: &Locked) -> Result<Meta, SqlError> {
        let content = Page::expect(buffer, Kind::Meta)?.content();
        let meta: Meta = bytemuck::try_pod_read_unaligned(content)
            .map_err(|_| SqlError::index_page(META_BLOCK))?;
        if meta.magic != MAGIC {
            return Err(SqlError::index_page(META_BLOCK));
        }
        if meta.version != VERSION {
            return Err(SqlError::index_version(meta.version, VERSION));
        }
        Ok(meta)
    }

    /// Makes the page, the first of the file.
    pub(super) fn create(&self, index: &Index) {
        let opaque = Opaque {
            next: NO_BLOCK,
            length: 0,
            kind: Kind::Meta,
        };
        index.extend(1, |buffer, _| {
            index.change([buffer], |[page]| {
                page.init(opaque);
                page.set_content(bytemuck::bytes_of(self));
            });
        });
    }

    /// Changes it, seen as it is at that moment. Gives what it is then.
    ///
    /// # Errors
    /// As [`Meta::read`].
    pub(super) fn update(index: &Index, change: impl FnOnce(&mut Meta)) -> Result<Meta, SqlError> {
        let buffer = index.exclusive(META_BLOCK);
        let mut meta = Meta::of(&buffer)?;
        let before = meta;
        change(&mut meta);
        if meta != before {
            index.change([&buffer], |[page]| {
                page.set_content(bytemuck::bytes_of(&meta));
            });
        }
        Ok(meta)
    }

    /// From now on this one is used.
    pub(super) fn set_codebook(&mut self, codebook: &Codebook, written: &Written) {
        self.lists = codebook.lists() as u32;
        self.codebook = written.first;
        self.codebook_bytes = written.bytes;
        self.codebook_id = written.id;
        self.mean_residual = codebook.mean_residual();
    }

    pub(super) fn is_trained(&self) -> bool {
        self.lists > 0
    }
}
