//! The codebook on its pages, and the copies of it that a backend keeps.
//!
//! Used by inserts and searches. Its pages are written once; a new codebook has a new random number, by
//! which a backend knows whether its copy is the one that it needs.

use std::cell::RefCell;
use std::sync::Arc;

use maxsim_index::Codebook;
use pgrx::{check_for_interrupts, pg_sys};

use super::meta::Meta;
use super::page::{CONTENT_BYTES, Kind, Opaque, Page};
use super::wal::{Index, NO_BLOCK};
use crate::error::SqlError;

/// Codebooks that a backend keeps, the last used first: at most some 35 MB at 65,536 lists of 128.
const KEPT: usize = 4;

thread_local! {
    static CACHE: RefCell<Vec<(u64, Arc<Codebook>)>> = const { RefCell::new(Vec::new()) };
}

/// Where a codebook was written.
pub(super) struct Written {
    pub(super) first: u32,
    pub(super) bytes: u64,
    pub(super) id: u64,
}

/// Writes it to new pages, the last one first.
pub(super) fn write(index: &Index, codebook: &Codebook) -> Written {
    let bytes = codebook.to_bytes();
    let mut next = NO_BLOCK;
    for content in bytes.chunks(CONTENT_BYTES).rev() {
        check_for_interrupts!();
        let opaque = Opaque {
            next,
            length: 0,
            kind: Kind::Codebook,
        };
        next = index.extend(1, |buffer, _| {
            index.change([buffer], |[page]| {
                page.init(opaque);
                page.set_content(content);
            });
            buffer.block()
        });
    }
    Written {
        first: next,
        bytes: bytes.len() as u64,
        id: random(),
    }
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: fills exactly these bytes; where there is no randomness, zeros still are a number.
    unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    u64::from_le_bytes(bytes)
}

/// The codebook of a trained index; `None` before training.
///
/// # Errors
/// XX002 where it is damaged.
pub(super) fn get(index: &Index, meta: &Meta) -> Result<Option<Arc<Codebook>>, SqlError> {
    if !meta.is_trained() {
        return Ok(None);
    }
    let kept = CACHE.with_borrow_mut(|cache| {
        let at = cache.iter().position(|(id, _)| *id == meta.codebook_id)?;
        cache[..=at].rotate_right(1);
        Some(cache[0].1.clone())
    });
    if let Some(kept) = kept {
        return Ok(Some(kept));
    }
    let codebook = Arc::new(read(index, meta)?);
    CACHE.with_borrow_mut(|cache| {
        cache.insert(0, (meta.codebook_id, codebook.clone()));
        cache.truncate(KEPT);
    });
    Ok(Some(codebook))
}

fn read(index: &Index, meta: &Meta) -> Result<Codebook, SqlError> {
    let damaged = || SqlError::index_page(meta.codebook);
    let file = u64::from(index.blocks()) * CONTENT_BYTES as u64;
    let length = Some(meta.codebook_bytes).filter(|bytes| *bytes <= file);
    let length = length.ok_or_else(damaged)? as usize;
    let mut bytes = Vec::with_capacity(length);
    for block in blocks(index, meta) {
        check_for_interrupts!();
        let buffer = index.share(block?);
        bytes.extend_from_slice(Page::expect(&buffer, Kind::Codebook)?.content());
    }
    let codebook = Codebook::from_bytes(&bytes).map_err(|_| damaged())?;
    if codebook.dim() != meta.dim as usize || codebook.lists() != meta.lists as usize {
        return Err(damaged());
    }
    Ok(codebook)
}

/// The blocks of an index's codebook.
pub(super) fn blocks<'a>(
    index: &'a Index,
    meta: &Meta,
) -> impl Iterator<Item = Result<u32, SqlError>> + 'a {
    let mut next = meta.codebook;
    let mut left = meta.codebook_bytes.div_ceil(CONTENT_BYTES as u64);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let block = next;
        // More than the file has would be read in circles.
        let is_damaged = left > u64::from(index.blocks()) || block >= index.blocks();
        left -= 1;
        if is_damaged {
            left = 0;
            return Some(Err(SqlError::index_page(block)));
        }
        let page_next = Page::expect(&index.share(block), Kind::Codebook).map(|p| p.opaque().next);
        Some(page_next.map(|following| {
            next = following;
            block
        }))
    })
}
