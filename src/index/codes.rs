//! Code pages: the codes of a document, as one item or as a chain of items.
//!
//! A piece says whose it is (the row's place), so that a reader who comes late, when vacuum has freed it
//! and another document has taken the place, knows. Not obvious: pieces are written before the entry that
//! points at them, the last one first; what a crash leaves without an entry has the place of a row that
//! is dead too, and goes with it.

use super::page::{Kind, MAX_ITEM_BYTES, Opaque, Page};
use super::signature::{join, split};
use super::wal::{Index, Locked, NO_BLOCK};
use crate::error::SqlError;
use pgrx::{check_for_interrupts, pg_sys};

/// Bytes before a piece's codes: the row's place, the next piece's.
const PIECE_HEADER: usize = 12;
/// The free space map counts in steps of 32 bytes: it does not know that an empty page takes more than this.
const MAX_ITEM: usize = 254 * 32 - ITEM_OVERHEAD;
const _: () = assert!(MAX_ITEM <= MAX_ITEM_BYTES);
const MAX_PIECE: usize = MAX_ITEM - PIECE_HEADER;
/// What an item may take beyond its bytes: its pointer, and what aligns it.
const ITEM_OVERHEAD: usize = 8;

/// Writes a document's codes, beginning to look for room at `target`, which is kept up to date. Gives
/// where they begin.
///
/// # Errors
/// XX002 for damaged pages.
pub(super) fn write(
    index: &Index,
    target: &mut u32,
    tid: u64,
    codes: &[u8],
) -> Result<u64, SqlError> {
    let whole = codes.len() / MAX_PIECE;
    let (pieces, rest) = codes.split_at(whole * MAX_PIECE);
    let mut next = 0;
    if !rest.is_empty() {
        next = write_piece(index, target, &piece(tid, 0, rest))?;
    }
    for codes in pieces.chunks(MAX_PIECE).rev() {
        check_for_interrupts!();
        // Only an empty page takes it, and the next one wants another.
        let mut anywhere = NO_BLOCK;
        next = write_piece(index, &mut anywhere, &piece(tid, next, codes))?;
    }
    Ok(next)
}

/// `next` is 0 for the last piece: no item has that offset.
fn piece(tid: u64, next: u64, codes: &[u8]) -> Vec<u8> {
    let mut piece = Vec::with_capacity(PIECE_HEADER + codes.len());
    for number in [tid, next] {
        piece.extend(split(number).iter().flat_map(|half| half.to_le_bytes()));
    }
    piece.extend_from_slice(codes);
    piece
}

const EMPTY: Opaque = Opaque {
    next: NO_BLOCK,
    length: 0,
    kind: Kind::Codes,
};

fn place_on(index: &Index, buffer: &Locked, is_new: bool, item: &[u8]) -> u64 {
    let offset = index.change([buffer], |[page]| {
        if is_new {
            page.init(EMPTY);
        }
        page.add(item)
    });
    u64::from(buffer.block()) << 16 | u64::from(offset)
}

/// On the page of the last time, on one that vacuum found room on, or on a new one.
fn write_piece(index: &Index, target: &mut u32, item: &[u8]) -> Result<u64, SqlError> {
    let relation = index.relation;
    let mut block = *target;
    let wanted = item.len() + ITEM_OVERHEAD;
    if block == NO_BLOCK {
        // SAFETY: an open relation.
        block = unsafe { pg_sys::GetPageWithFreeSpace(relation, wanted) };
    }
    while block != NO_BLOCK {
        check_for_interrupts!();
        let mut room = 0;
        // The free space map is not logged: after a crash it may name blocks that are not there.
        if block < index.blocks() {
            let buffer = index.exclusive(block);
            // Nor is a block of zeros to be taken: it may belong to an extent of signatures by now.
            room = match Page::read(&buffer)? {
                Some(page) if page.opaque().kind == Kind::Codes => page.room(),
                _ => 0,
            };
            if item.len() <= room {
                *target = block;
                return Ok(place_on(index, &buffer, false, item));
            }
        }
        // SAFETY: an open relation.
        block = unsafe { pg_sys::RecordAndGetPageWithFreeSpace(relation, block, room, wanted) };
    }
    let place = index.extend(1, |buffer, _| place_on(index, buffer, true, item));
    *target = (place >> 16) as u32;
    Ok(place)
}

/// Reads a document's codes. False where they are not there any more. `blocks` is how many the file is known to
/// have, and kept up to date: asking each time would be a system call each time.
///
/// # Errors
/// XX002 for damaged pages.
pub(super) fn read(
    index: &Index,
    blocks: &mut u32,
    tid: u64,
    place: u64,
    codes: &mut Vec<u8>,
) -> Result<bool, SqlError> {
    codes.clear();
    let mut next = place;
    let mut pieces = 0;
    while next != 0 {
        pieces += 1;
        let block = (next >> 16) as u32;
        if pieces > 1 {
            check_for_interrupts!();
        }
        // A chain longer than the file goes in circles, and no place is beyond its end.
        if block.max(pieces - 1) >= *blocks {
            *blocks = index.blocks();
            if block.max(pieces - 1) >= *blocks {
                return Err(SqlError::index_page(block));
            }
        }
        let buffer = index.share(block);
        let Some(page) = Page::read(&buffer)? else {
            return Ok(false);
        };
        if page.opaque().kind != Kind::Codes {
            return Ok(false);
        }
        let Some(item) = page.item(next as u16)? else {
            return Ok(false);
        };
        let (owner, following, part) = parse(item, block)?;
        if owner != tid {
            return Ok(false);
        }
        codes.extend_from_slice(part);
        next = following;
    }
    Ok(place != 0)
}

/// The row's place, the next piece's, and the codes.
///
/// # Errors
/// XX002 where the item is too short.
pub(super) fn parse(item: &[u8], block: u32) -> Result<(u64, u64, &[u8]), SqlError> {
    let (header, codes) = item
        .split_first_chunk::<PIECE_HEADER>()
        .ok_or_else(|| SqlError::index_page(block))?;
    let half = |at: usize| u16::from_le_bytes([header[2 * at], header[2 * at + 1]]);
    let tid = join([half(0), half(1), half(2)]);
    let next = join([half(3), half(4), half(5)]);
    Ok((tid, next, codes))
}

/// Makes a page that holds nothing (any more) one for codes.
pub(super) fn clear(index: &Index, buffer: &Locked) {
    index.initialise(buffer, EMPTY);
}
