//! Signature pages: one entry for each document, in extents that a search sweeps from end to end.
//!
//! Not obvious: an entry never moves to another page, so a sweep that locks one page at a time sees
//! every document once. An extent is linked, and its last block made, in one record of the log; its
//! other blocks are made when they are first written, and are zeros until then.

use bytemuck::{Pod, Zeroable};
use pgrx::{check_for_interrupts, pg_sys};

use super::meta::Meta;
use super::page::{Kind, MAX_ITEM_BYTES, Opaque, Page};
use super::wal::{Index, Locked, NO_BLOCK};
use crate::error::SqlError;

/// Blocks of the first extent; each next one has twice as many, up to the largest.
const FIRST_EXTENT: u32 = 4;
const LARGEST_EXTENT: u32 = 64;

/// What stands before a document's centroid ids.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(super) struct Entry {
    /// Where the row is: see [`super::tid`].
    pub(super) tid: [u16; 3],
    /// Where its codes begin: block (low half first) and offset; the offset is 0 where there are none.
    place: [u16; 3],
    pub(super) tokens: u16,
    pub(super) flags: u16,
    /// Mean |token − centroid|².
    pub(super) residual: f32,
}

/// The codes are those of an untrained index.
pub(super) const FLAT: u16 = 1;
/// Came after the codebook was trained.
pub(super) const LATER: u16 = 2;

/// Bytes before the ids.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();
/// The ids of a longer signature are left out: its document then starts at its codes.
pub(super) const MAX_IDS: usize = (MAX_ITEM_BYTES - ENTRY_BYTES) / 2;

impl Entry {
    pub(super) fn new(tid: u64, place: u64, tokens: usize, flags: u16, residual: f32) -> Entry {
        Entry {
            tid: split(tid),
            place: split(place),
            tokens: tokens_noted(tokens),
            flags,
            residual,
        }
    }

    /// The entry and its ids.
    ///
    /// # Errors
    /// XX002 where the item is too short.
    pub(super) fn parse(item: &[u8], block: u32) -> Result<(Entry, &[u8]), SqlError> {
        let (head, ids) = item
            .split_at_checked(ENTRY_BYTES)
            .ok_or_else(|| SqlError::index_page(block))?;
        if ids.len() % 2 != 0 {
            return Err(SqlError::index_page(block));
        }
        Ok((bytemuck::pod_read_unaligned(head), ids))
    }

    pub(super) fn tid(&self) -> u64 {
        join(self.tid)
    }

    pub(super) fn place(&self) -> u64 {
        join(self.place)
    }
}

/// The number of tokens as an entry has it.
pub(super) fn tokens_noted(tokens: usize) -> u16 {
    u16::try_from(tokens).unwrap_or(u16::MAX)
}

/// A block and an offset as one number: block in the upper 32 of 48 bits.
pub(super) fn join([low, high, offset]: [u16; 3]) -> u64 {
    u64::from(high) << 32 | u64::from(low) << 16 | u64::from(offset)
}

pub(super) fn split(number: u64) -> [u16; 3] {
    [(number >> 16) as u16, (number >> 32) as u16, number as u16]
}

/// Makes the first extent of an empty index.
pub(super) fn create(index: &Index) -> u32 {
    index.extend(FIRST_EXTENT, |first, last| {
        let last = last.expect("more than one block");
        index.change([first, last], |[first_page, last_page]| {
            first_page.init(opaque(NO_BLOCK, FIRST_EXTENT));
            last_page.init(opaque(NO_BLOCK, 0));
        });
        first.block()
    })
}

fn opaque(next: u32, length: u32) -> Opaque {
    Opaque {
        next,
        length: length as u16,
        kind: Kind::Signatures,
    }
}

/// The extents, one after the other: first block, number of blocks.
pub(super) struct Extents<'a> {
    index: &'a Index,
    next: u32,
    seen: u32,
}

impl<'a> Extents<'a> {
    pub(super) fn new(index: &'a Index, first: u32) -> Extents<'a> {
        Extents {
            index,
            next: first,
            seen: 0,
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<(u32, u32), SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == NO_BLOCK {
            return None;
        }
        let first = std::mem::replace(&mut self.next, NO_BLOCK);
        // A damaged link must not lead in circles: every extent has a block at least.
        self.seen += 1;
        if self.seen > self.index.blocks() {
            return Some(Err(SqlError::index_page(first)));
        }
        Some(head(self.index, first).map(|(next, length)| {
            self.next = next;
            (first, length)
        }))
    }
}

/// The extent after this one, and the number of this one's blocks.
fn head(index: &Index, first: u32) -> Result<(u32, u32), SqlError> {
    let blocks = index.blocks();
    if first >= blocks {
        return Err(SqlError::index_page(first));
    }
    let buffer = index.share(first);
    let opaque = Page::expect(&buffer, Kind::Signatures)?.opaque();
    let length = u32::from(opaque.length);
    // Its last block was made with the first one.
    if length == 0 || length > blocks - first {
        return Err(SqlError::index_page(first));
    }
    Ok((opaque.next, length))
}

/// Calls `visit` with every entry, its block, and its ids, page by page.
///
/// # Errors
/// XX002 for damaged pages, and what `visit` returns.
pub(super) fn sweep(
    index: &Index,
    meta: &Meta,
    mut visit: impl FnMut(u32, Entry, &[u8]) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for extent in Extents::new(index, meta.first_extent) {
        let (first, length) = extent?;
        for block in first..first + length {
            check_for_interrupts!();
            visit_page(index, block, |entry, ids| visit(block, entry, ids))?;
        }
    }
    Ok(())
}

/// Calls `visit` with every entry of a page and its ids; the page is locked meanwhile.
///
/// # Errors
/// As [`sweep`].
pub(super) fn visit_page(
    index: &Index,
    block: u32,
    mut visit: impl FnMut(Entry, &[u8]) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let buffer = index.share(block);
    let Some(page) = Page::read(&buffer)? else {
        return Ok(());
    };
    if page.opaque().kind != Kind::Signatures {
        return Err(SqlError::index_page(block));
    }
    for offset in 1..=page.offsets() {
        if let Some(item) = page.item(offset)? {
            let (entry, ids) = Entry::parse(item, block)?;
            visit(entry, ids)?;
        }
    }
    Ok(())
}

/// Where a backend last found room.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    extent: u32,
    block: u32,
}

impl Tail {
    pub(super) fn new(extent: u32) -> Tail {
        Tail {
            extent,
            block: extent,
        }
    }
}

/// Adds an entry where there is room, from `tail` on, which is kept up to date. Gives the number of entries
/// of the page.
///
/// # Errors
/// XX002 for damaged pages.
pub(super) fn add(
    index: &Index,
    tail: &mut Tail,
    entry: &Entry,
    ids: &[u16],
) -> Result<u16, SqlError> {
    let mut item = bytemuck::bytes_of(entry).to_vec();
    item.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    let mut has_been_here = false;
    loop {
        let (next, length) = head(index, tail.extent)?;
        let end = tail.extent + length;
        while tail.block < end {
            if let Some(count) = add_to(index, tail.block, &item)? {
                return Ok(count);
            }
            check_for_interrupts!();
            tail.block += 1;
        }
        *tail = Tail::new(if next != NO_BLOCK {
            next
        } else if std::mem::replace(&mut has_been_here, true) {
            append(index, tail.extent)?
        } else {
            // Vacuum may have made room where we looked before.
            Meta::read(index)?.insert_extent
        });
    }
}

/// Adds the item to a page, unless it is full.
fn add_to(index: &Index, block: u32, item: &[u8]) -> Result<Option<u16>, SqlError> {
    let buffer = index.exclusive(block);
    let page = Page::read(&buffer)?;
    if let Some(page) = &page {
        if page.opaque().kind != Kind::Signatures {
            return Err(SqlError::index_page(block));
        }
        if page.room() < item.len() {
            return Ok(None);
        }
    }
    let is_new = page.is_none();
    Ok(Some(index.change([&buffer], |[page]| {
        if is_new {
            page.init(opaque(NO_BLOCK, 0));
        }
        page.add(item)
    })))
}

/// Links a new extent to the last one, unless somebody else was faster.
fn append(index: &Index, last: u32) -> Result<u32, SqlError> {
    let buffer = index.exclusive(last);
    let old = Page::expect(&buffer, Kind::Signatures)?.opaque();
    if old.next != NO_BLOCK {
        return Ok(old.next);
    }
    let length = (2 * u32::from(old.length)).min(LARGEST_EXTENT);
    let first = index.extend(length, |first: &Locked, end| {
        let end = end.expect("more than one block");
        let next = first.block();
        index.change([&buffer, first, end], |[old_page, first_page, end_page]| {
            old_page.set_opaque(Opaque { next, ..old });
            first_page.init(opaque(NO_BLOCK, length));
            end_page.init(opaque(NO_BLOCK, 0));
        });
        next
    });
    drop(buffer);
    Meta::update(index, |meta| meta.insert_extent = first)?;
    Ok(first)
}

/// Where a row is, as the number that entries and codes carry.
pub(super) fn tid_number(tid: &pg_sys::ItemPointerData) -> u64 {
    let block = tid.ip_blkid;
    join([block.bi_lo, block.bi_hi, tid.ip_posid])
}

/// The inverse of [`tid_number`].
pub(super) fn tid_pointer(number: u64) -> pg_sys::ItemPointerData {
    let [bi_lo, bi_hi, ip_posid] = split(number);
    let ip_blkid = pg_sys::BlockIdData { bi_hi, bi_lo };
    pg_sys::ItemPointerData { ip_blkid, ip_posid }
}
