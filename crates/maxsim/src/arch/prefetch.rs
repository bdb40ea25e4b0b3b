//! Asking for document bytes before they are needed, on x86-64.

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// Bytes asked for at a time: three cache lines, what a step of the AVX-512 routines reads.
const STRIDE: usize = 192;
/// How much further ahead the second request goes.
const FAR: usize = 8192;

/// Asks for the [`STRIDE`] bytes at `ahead`, which are about a block away, and for one line far beyond.
///
/// The hardware's own prefetching follows twelve interleaved rows badly and stops at every page. The near requests
/// bring lines into the innermost cache; the far ones make the machine walk the page table in time and fetch into the
/// outer cache, where more requests fit at a time. Measured with 180 x 128 f32 documents not in the cache, against 32
/// query tokens: 14.5 µs without, 10.1 with the near ones, 7.8 with both. Other distances from 4 to 48 KB do as well,
/// more or fewer far requests do worse.
#[inline(always)]
pub(super) fn prefetch(ahead: *const u8) -> *const u8 {
    // SAFETY: a prefetch is a hint: it faults for no address, and every x86-64 has it.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64).cast());
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(128).cast());
        _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(FAR).cast());
    }
    ahead.wrapping_add(STRIDE)
}
