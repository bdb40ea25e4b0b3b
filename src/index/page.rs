//! Pages of an index: what stands on them, read in place and checked before use.
//!
//! Used by every part of the access method. A page is read as plain bytes, bounds checked, so that a
//! damaged one is an error (XX002) and never a crash. Items keep their offset numbers while others go.

use pgrx::pg_sys;

use super::wal::Locked;
use crate::error::SqlError;

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = pg_sys::BLCKSZ as usize;
const HEADER_BYTES: usize = 24;
const SPECIAL_BYTES: usize = 8;
const LINE_POINTER_BYTES: usize = 4;
/// What one page holds besides its header.
pub(super) const CONTENT_BYTES: usize = PAGE_BYTES - HEADER_BYTES - SPECIAL_BYTES;
/// The longest item: alone on its page.
pub(super) const MAX_ITEM_BYTES: usize = (CONTENT_BYTES - LINE_POINTER_BYTES) & !7;
/// What an item's line pointer says while the item is there.
const LP_NORMAL: u32 = 1;

/// What a page is for; the last two bytes of it, by which tools know whose page it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(super) enum Kind {
    Meta = 0xfe01,
    Codebook = 0xfe02,
    Signatures = 0xfe03,
    Codes = 0xfe04,
}

/// The special space of every page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Opaque {
    /// The next page of a codebook, or the next extent of signatures.
    pub(super) next: u32,
    /// Blocks of the extent that begins with this page; 0 elsewhere.
    pub(super) length: u16,
    pub(super) kind: Kind,
}

/// An existing page in its buffer, while that is locked.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    bytes: &'a [u8; PAGE_BYTES],
    block: u32,
}

impl<'a> Page<'a> {
    /// The page in a locked buffer; `None` where nothing was ever written.
    ///
    /// # Errors
    /// XX002 where the page is not one of this access method.
    pub(super) fn read(buffer: &'a Locked) -> Result<Option<Page<'a>>, SqlError> {
        let page = Page {
            bytes: buffer.bytes(),
            block: buffer.block(),
        };
        if page.upper() == 0 {
            return Ok(None);
        }
        let (lower, upper, special) = (page.lower(), page.upper(), page.special());
        let in_order = HEADER_BYTES <= lower && lower <= upper && upper <= special;
        if !in_order || special != PAGE_BYTES - SPECIAL_BYTES || page.kind().is_none() {
            return Err(SqlError::index_page(page.block));
        }
        Ok(Some(page))
    }

    /// The page, which must be of that kind.
    ///
    /// # Errors
    /// XX002 where it is not.
    pub(super) fn expect(buffer: &'a Locked, kind: Kind) -> Result<Page<'a>, SqlError> {
        match Page::read(buffer)? {
            Some(page) if page.opaque().kind == kind => Ok(page),
            _ => Err(SqlError::index_page(buffer.block())),
        }
    }

    pub(super) fn opaque(&self) -> Opaque {
        let special = self.special();
        Opaque {
            next: u32::from_le_bytes(self.array(special)),
            length: self.u16(special + 4),
            kind: self.kind().expect("looked at when the page was read"),
        }
    }

    /// Bytes that one more item could have.
    pub(super) fn room(&self) -> usize {
        (self.upper() - self.lower()).saturating_sub(LINE_POINTER_BYTES) & !7
    }

    /// What stands between header and hole, on pages without items.
    pub(super) fn content(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..self.lower()]
    }

    /// The number of offsets, counted from 1, unused ones among them.
    pub(super) fn offsets(&self) -> u16 {
        ((self.lower() - HEADER_BYTES) / LINE_POINTER_BYTES) as u16
    }

    /// The item at an offset; `None` where there is none (any more).
    ///
    /// # Errors
    /// XX002 where it would lie outside of the page.
    pub(super) fn item(&self, offset: u16) -> Result<Option<&'a [u8]>, SqlError> {
        if offset == 0 || offset > self.offsets() {
            return Ok(None);
        }
        let at = HEADER_BYTES + (usize::from(offset) - 1) * LINE_POINTER_BYTES;
        let pointer = u32::from_le_bytes(self.array(at));
        if pointer >> 15 & 3 != LP_NORMAL {
            return Ok(None);
        }
        let (start, length) = ((pointer & 0x7fff) as usize, (pointer >> 17) as usize);
        if start < self.upper() || start + length > self.special() {
            return Err(SqlError::index_page(self.block));
        }
        Ok(Some(&self.bytes[start..start + length]))
    }

    fn lower(&self) -> usize {
        self.u16(12).into()
    }

    fn upper(&self) -> usize {
        self.u16(14).into()
    }

    fn special(&self) -> usize {
        self.u16(16).into()
    }

    fn kind(&self) -> Option<Kind> {
        let kinds = [Kind::Meta, Kind::Codebook, Kind::Signatures, Kind::Codes];
        let stored = self.u16(PAGE_BYTES - 2);
        kinds.into_iter().find(|kind| *kind as u16 == stored)
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.bytes[at..].first_chunk().expect("inside of the page")
    }
}

/// A page that is being written: the buffer's own while an index is built, else the image that goes into the log.
pub(super) struct PageMut(pg_sys::Page);

impl PageMut {
    /// # Safety
    /// `page` is a whole page that nobody else reads or writes while this lives.
    pub(super) unsafe fn new(page: pg_sys::Page) -> PageMut {
        PageMut(page)
    }

    /// Makes it an empty page.
    pub(super) fn init(&mut self, opaque: Opaque) {
        // SAFETY: a whole page of ours; the special space lies at its end.
        unsafe { pg_sys::PageInit(self.0, PAGE_BYTES, SPECIAL_BYTES) };
        self.set_opaque(opaque);
    }

    pub(super) fn set_opaque(&mut self, opaque: Opaque) {
        let special = PAGE_BYTES - SPECIAL_BYTES;
        let bytes = self.bytes();
        bytes[special..special + 4].copy_from_slice(&opaque.next.to_le_bytes());
        bytes[special + 4..special + 6].copy_from_slice(&opaque.length.to_le_bytes());
        bytes[special + 6..].copy_from_slice(&(opaque.kind as u16).to_le_bytes());
    }

    /// Replaces what stands between header and hole.
    pub(super) fn set_content(&mut self, content: &[u8]) {
        let end = HEADER_BYTES + content.len();
        assert!(content.len() <= CONTENT_BYTES, "more than a page holds");
        let bytes = self.bytes();
        bytes[HEADER_BYTES..end].copy_from_slice(content);
        bytes[12..14].copy_from_slice(&(end as u16).to_le_bytes());
    }

    /// Adds an item at the first free offset.
    ///
    /// # Panics
    /// Where it does not fit: the caller looked at [`Page::room`] under the same lock.
    pub(super) fn add(&mut self, item: &[u8]) -> u16 {
        // SAFETY: a whole page, checked when it was read; the item is copied.
        let offset = unsafe {
            pg_sys::PageAddItemExtended(self.0, item.as_ptr() as *mut _, item.len(), 0, 0)
        };
        assert_ne!(offset, 0, "there is no room for {} bytes", item.len());
        offset
    }

    /// Removes items and closes the gaps: the others get new offsets.
    pub(super) fn remove_all(&mut self, offsets: &mut [u16]) {
        // SAFETY: ascending offsets of items of this page.
        unsafe { pg_sys::PageIndexMultiDelete(self.0, offsets.as_mut_ptr(), offsets.len() as i32) };
    }

    /// Removes an item; the others keep their offsets.
    pub(super) fn remove(&mut self, offset: u16) {
        // SAFETY: the offset of an item of this page.
        unsafe { pg_sys::PageIndexTupleDeleteNoCompact(self.0, offset) };
        // PostgreSQL does not note by itself that there is a free offset.
        self.bytes()[10] |= pg_sys::PD_HAS_FREE_LINES as u8;
    }

    fn bytes(&mut self) -> &mut [u8; PAGE_BYTES] {
        // SAFETY: a whole page that is ours alone (see `new`).
        unsafe { &mut *self.0.cast() }
    }
}
