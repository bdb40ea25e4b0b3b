//! Vacuum: entries of dead rows go first, then their codes; room is noted for new ones.
//!
//! Not obvious: every code page is looked at, not only those that removed entries point at, so that
//! codes which a crash left without an entry go too. No row of the table is read here: other vacuums
//! ignore a vacuum's snapshot, so what a row refers to may be gone.

use std::collections::HashSet;

use pgrx::{check_for_interrupts, pg_guard, pg_sys};

use super::codebook;
use super::codes;
use super::meta::Meta;
use super::page::{Kind, PAGE_BYTES, Page};
use super::signature::{Entry, Extents, tid_pointer};
use super::training_lock::TrainingLock;
use super::wal::{Index, Locked, Log};
use crate::error::SqlError;

/// Share of an extent's bytes from which new entries go there again.
const ROOMY: usize = 4;

/// Tells whether a row is dead.
struct Dead {
    callback: pg_sys::IndexBulkDeleteCallback,
    state: *mut std::ffi::c_void,
}

impl Dead {
    fn is_dead(&self, tid: u64) -> bool {
        let mut tid = tid_pointer(tid);
        let callback = self.callback.expect("PostgreSQL gives one");
        // SAFETY: PostgreSQL's callback with its own state; its errors become unwinding here.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| callback(&mut tid, self.state)) }
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn bulk_delete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    state: *mut std::ffi::c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    let dead = Dead { callback, state };
    // SAFETY: called by PostgreSQL with an open index.
    unsafe {
        let stats = allocated(stats);
        let index = Index::new((*info).index, Log::AtOnce);
        let vacuum = Vacuum::new(index, (*info).strategy);
        vacuum
            .and_then(|vacuum| vacuum.run(&dead, &mut *stats))
            .unwrap_or_else(|error| error.raise());
        stats
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn cleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: called by PostgreSQL with an open index.
    unsafe {
        if (*info).analyze_only {
            return stats;
        }
        let had_work = !stats.is_null();
        let stats = allocated(stats);
        let index = Index::new((*info).index, Log::AtOnce);
        (*stats).num_pages = index.blocks();
        if !had_work {
            (*stats).num_index_tuples = (*info).num_heap_tuples;
            (*stats).estimated_count = true;
        }
        stats
    }
}

/// # Safety
/// Null or a result of PostgreSQL's.
unsafe fn allocated(
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    if !stats.is_null() {
        return stats;
    }
    // SAFETY: zeros are a valid result.
    unsafe { pg_sys::palloc0(size_of::<pg_sys::IndexBulkDeleteResult>()).cast() }
}

struct Vacuum {
    index: Index,
    strategy: pg_sys::BufferAccessStrategy,
    /// Blocks that were there when we began; whatever is added later has no dead rows.
    blocks: u32,
    meta: Meta,
}

impl Vacuum {
    fn new(index: Index, strategy: pg_sys::BufferAccessStrategy) -> Result<Vacuum, SqlError> {
        // The number of blocks before the extents: all extents below it are linked then.
        let blocks = index.blocks_settled();
        let meta = Meta::read(&index)?;
        Ok(Vacuum {
            index,
            strategy,
            blocks,
            meta,
        })
    }

    fn run(&self, dead: &Dead, stats: &mut pg_sys::IndexBulkDeleteResult) -> Result<(), SqlError> {
        stats.estimated_count = false;
        stats.num_index_tuples = 0.0;
        let mut signatures = HashSet::new();
        let mut roomy = None;
        for extent in Extents::new(&self.index, self.meta.first_extent) {
            let (first, length) = extent?;
            let mut room = 0;
            for block in first..first + length {
                signatures.insert(block);
                room += self.sweep_page(block, dead, stats)?;
            }
            if room * ROOMY >= length as usize * PAGE_BYTES && roomy.is_none() {
                roomy = Some(first);
            }
        }
        self.free_codes(dead, &signatures)?;
        if let Some(first) = roomy {
            Meta::update(&self.index, |meta| meta.insert_extent = first)?;
        }
        Ok(())
    }

    /// Removes the entries of dead rows. Gives the room that the page then has.
    fn sweep_page(
        &self,
        block: u32,
        dead: &Dead,
        stats: &mut pg_sys::IndexBulkDeleteResult,
    ) -> Result<usize, SqlError> {
        self.pause();
        let buffer = self.index.exclusive_with(block, self.strategy);
        let Some(page) = Page::read(&buffer)? else {
            return Ok(PAGE_BYTES);
        };
        if page.opaque().kind != Kind::Signatures {
            return Err(SqlError::index_page(block));
        }
        let mut gone = Vec::new();
        for offset in 1..=page.offsets() {
            if let Some(item) = page.item(offset)? {
                let (entry, _) = Entry::parse(item, block)?;
                if dead.is_dead(entry.tid()) {
                    gone.push(offset);
                } else {
                    stats.num_index_tuples += 1.0;
                }
            }
        }
        if !gone.is_empty() {
            stats.tuples_removed += gone.len() as f64;
            self.index
                .change([&buffer], |[page]| page.remove_all(&mut gone));
        }
        Ok(Page::expect(&buffer, Kind::Signatures)?.room())
    }

    /// Removes the codes of dead rows, and notes the room there is.
    fn free_codes(&self, dead: &Dead, signatures: &HashSet<u32>) -> Result<(), SqlError> {
        let books = self.codebooks_in_use()?;
        for block in 1..self.blocks {
            if signatures.contains(&block) || books.as_ref().is_some_and(|b| b.contains(&block)) {
                continue;
            }
            self.pause();
            let buffer = self.index.exclusive_with(block, self.strategy);
            if let Some(room) = self.free_page(&buffer, dead, books.is_some())? {
                drop(buffer);
                // SAFETY: an open relation.
                unsafe { pg_sys::RecordPageWithFreeSpace(self.index.relation, block, room) };
            }
        }
        // SAFETY: as above.
        unsafe { pg_sys::FreeSpaceMapVacuum(self.index.relation) };
        Ok(())
    }

    /// The room that a page for codes then has; `None` for other pages.
    fn free_page(
        &self,
        buffer: &Locked,
        dead: &Dead,
        may_free_codebooks: bool,
    ) -> Result<Option<usize>, SqlError> {
        let Some(page) = Page::read(buffer)? else {
            codes::clear(&self.index, buffer); // a crash came between the file's growth and its use
            return Ok(Some(Page::expect(buffer, Kind::Codes)?.room()));
        };
        match page.opaque().kind {
            Kind::Codes => {}
            Kind::Codebook if may_free_codebooks => {
                codes::clear(&self.index, buffer); // of a training that did not end
                return Ok(Some(Page::expect(buffer, Kind::Codes)?.room()));
            }
            _ => return Ok(None),
        }
        let (mut gone, mut stay) = (Vec::new(), 0);
        for offset in 1..=page.offsets() {
            if let Some(item) = page.item(offset)? {
                let (tid, ..) = codes::parse(item, buffer.block())?;
                if dead.is_dead(tid) {
                    gone.push(offset);
                } else {
                    stay += 1;
                }
            }
        }
        if stay == 0 && page.offsets() > 0 {
            codes::clear(&self.index, buffer); // so that it takes a piece as long as a page
        } else if !gone.is_empty() {
            self.index.change([buffer], |[page]| {
                gone.iter().for_each(|&offset| page.remove(offset));
            });
        }
        Ok(Some(Page::expect(buffer, Kind::Codes)?.room()))
    }

    /// The blocks of the codebook; `None` while a training may be writing another one.
    fn codebooks_in_use(&self) -> Result<Option<HashSet<u32>>, SqlError> {
        // SAFETY: an open index.
        let Some(lock) = (unsafe { TrainingLock::try_take(self.index.relation) }) else {
            return Ok(None);
        };
        let meta = Meta::read(&self.index)?;
        let blocks = codebook::blocks(&self.index, &meta).collect::<Result<_, _>>();
        // A training that begins now writes to blocks that we do not look at.
        lock.release();
        Ok(Some(blocks?))
    }

    fn pause(&self) {
        check_for_interrupts!();
        // SAFETY: called without locks on buffers.
        unsafe {
            #[cfg(not(feature = "pg18"))]
            pg_sys::vacuum_delay_point();
            #[cfg(feature = "pg18")]
            pg_sys::vacuum_delay_point(false);
        }
    }
}
