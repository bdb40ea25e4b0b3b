//! Whole varlenas in PostgreSQL's memory, up to 1 GB: made, copied and compared with a look at interrupts every megabyte.
//!
//! Used by `matrix` and `multivector` for everything they return. Touching a gigabyte for the first time alone takes
//! longer than a cancel may wait.

pub(crate) use multivector::MAX_BYTES as MAX_VALUE_BYTES;
pub(crate) use multivector::layout::LENGTH_WORD_BYTES;
use pgrx::pg_sys;

use crate::error::SqlError;
use crate::interrupt::poll;

const BLOCK_BYTES: usize = 1 << 20;

/// A varlena in the current memory context with this many zeros after its length word, and these zeros.
pub(crate) fn allocate(bytes: usize) -> (pg_sys::Datum, &'static mut [u8]) {
    let size = LENGTH_WORD_BYTES + bytes;
    // SAFETY: palloc gives `size` bytes or raises, and every one of them is written before the slice is made. The slice
    // is used up before the datum is handed on: callers fill it where they make it.
    unsafe {
        let start = pg_sys::palloc(size).cast::<u8>();
        for at in (0..size).step_by(BLOCK_BYTES) {
            poll();
            start.add(at).write_bytes(0, BLOCK_BYTES.min(size - at));
        }
        pgrx::set_varsize_4b(start.cast(), size as i32);
        let out = std::slice::from_raw_parts_mut(start.add(LENGTH_WORD_BYTES), bytes);
        (pg_sys::Datum::from(start), out)
    }
}

/// A varlena in the current memory context with a copy of these bytes.
pub(crate) fn copy(bytes: &[u8]) -> pg_sys::Datum {
    let (datum, out) = allocate(bytes.len());
    for (out, bytes) in out.chunks_mut(BLOCK_BYTES).zip(bytes.chunks(BLOCK_BYTES)) {
        poll();
        out.copy_from_slice(bytes);
    }
    datum
}

/// A copy of these bytes in Rust's memory.
///
/// # Errors
/// 53200.
pub(crate) fn to_vec(bytes: &[u8]) -> Result<Vec<u8>, SqlError> {
    let mut copied = multivector::room(bytes.len())?;
    for block in bytes.chunks(BLOCK_BYTES) {
        poll();
        copied.extend_from_slice(block);
    }
    Ok(copied)
}

pub(crate) fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && {
        let mut blocks = left.chunks(BLOCK_BYTES).zip(right.chunks(BLOCK_BYTES));
        blocks.all(|(left, right)| {
            poll();
            left == right
        })
    }
}

// PostgreSQL's own hash of bytes, which pgrx does not bind.
unsafe extern "C-unwind" {
    fn hash_bytes_extended(bytes: *const u8, length: i32, seed: u64) -> u64;
}

/// PostgreSQL's hash; of more than a megabyte, each megabyte's is the seed of the next.
pub(crate) fn hash(bytes: &[u8], seed: u64) -> u64 {
    bytes.chunks(BLOCK_BYTES).fold(seed, |seed, block| {
        poll();
        // SAFETY: pointer and length of one slice.
        unsafe { hash_bytes_extended(block.as_ptr(), block.len() as i32, seed) }
    })
}
