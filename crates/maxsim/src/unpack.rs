//! Unpacking rows of a document into scratch memory, in plain Rust.
//!
//! Each function here is inlined into wrappers that enable one instruction set each ([`wrap`]), for which the compiler
//! vectorises it anew. Where an instruction does better than the compiler can know, an architecture has its own.

use crate::arch::CHUNK;
use crate::{bit, half, int8};

/// Some rows to unpack: where they are stored and where they go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpack {
    /// The stored components of the first row; not aligned to anything.
    pub(crate) from: *const u8,
    /// Bytes between rows.
    pub(crate) row_size: usize,
    /// Scratch rows, CHUNK units each.
    pub(crate) to: *mut [u32; CHUNK],
    /// How many rows.
    pub(crate) rows: usize,
    /// How many components of each.
    pub(crate) len: usize,
    /// A factor per row, for the forms that need it.
    pub(crate) scales: *const f32,
}

/// Writes rows as the block routines read them, f32 or codes.
///
/// # Safety
/// The machine has the instruction set. `from` is readable for `len` stored components in each row, `scales` for
/// `rows` values; `to` is writable for `rows` rows, and a row holds `len` unpacked components.
pub(crate) type Unpacker = unsafe fn(&Unpack);

/// Defines wrappers of this module's functions, under their names, for one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! wrap {
    ($features:literal: $($name:ident)*) => {$(
        /// The function of that name in [`unpack`](crate::unpack).
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(unpack: &$crate::unpack::Unpack) {
            // SAFETY: passed on to the caller.
            unsafe { $crate::unpack::$name(unpack) }
        }
    )*};
}
#[cfg(target_arch = "x86_64")]
pub(crate) use wrap;

impl Unpack {
    /// # Safety
    /// As [`Unpacker`], and `row` is less than `rows`.
    #[inline(always)]
    unsafe fn stored(&self, row: usize, bytes: usize) -> &[u8] {
        // SAFETY: `Unpacker` promises these bytes.
        unsafe { std::slice::from_raw_parts(self.from.add(row * self.row_size), bytes) }
    }

    /// # Safety
    /// As [`Unpacker`], and `row` is less than `rows`.
    #[inline(always)]
    unsafe fn floats<'a>(self, row: usize) -> &'a mut [f32] {
        // SAFETY: `Unpacker` promises `len` units in scratch, which are f32 here; nothing else refers to them.
        unsafe { std::slice::from_raw_parts_mut(self.to.add(row).cast::<f32>(), self.len) }
    }
}

/// Units of four bytes as they are: f32. As [`Unpacker`].
#[inline(always)]
pub(crate) unsafe fn units(unpack: &Unpack) {
    for row in 0..unpack.rows {
        // SAFETY: `Unpacker` promises both extents, which do not overlap.
        unsafe {
            let from = unpack.from.add(row * unpack.row_size);
            unpack
                .to
                .add(row)
                .cast::<u8>()
                .copy_from_nonoverlapping(from, 4 * unpack.len);
        }
    }
}

/// Codes as they are, one byte a component. As [`Unpacker`].
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // routines for codes so far are there only
#[inline(always)]
pub(crate) unsafe fn codes(unpack: &Unpack) {
    for row in 0..unpack.rows {
        // SAFETY: `Unpacker` promises both extents, which do not overlap.
        unsafe {
            let from = unpack.from.add(row * unpack.row_size);
            unpack
                .to
                .add(row)
                .cast::<u8>()
                .copy_from_nonoverlapping(from, unpack.len);
        }
    }
}

/// Half precision to f32. As [`Unpacker`].
#[inline(always)]
pub(crate) unsafe fn f16(unpack: &Unpack) {
    for row in 0..unpack.rows {
        // SAFETY: rows below `rows`.
        let (stored, floats) = unsafe {
            (
                unpack.stored(row, half::SIZE * unpack.len),
                unpack.floats(row),
            )
        };
        for (value, bytes) in floats.iter_mut().zip(stored.as_chunks().0) {
            *value = half::widen(u16::from_le_bytes(*bytes));
        }
    }
}

/// int8 codes to f32. As [`Unpacker`].
#[inline(always)]
pub(crate) unsafe fn int8(unpack: &Unpack) {
    for row in 0..unpack.rows {
        // SAFETY: rows below `rows`.
        let (stored, floats, scale) = unsafe {
            (
                unpack.stored(row, unpack.len),
                unpack.floats(row),
                *unpack.scales.add(row),
            )
        };
        floats
            .iter_mut()
            .zip(stored)
            .for_each(|(value, &code)| *value = int8::component(code, scale));
    }
}

/// Signs to f32: the scale, or its negative. As [`Unpacker`].
#[inline(always)]
pub(crate) unsafe fn signs(unpack: &Unpack) {
    for row in 0..unpack.rows {
        // SAFETY: rows below `rows`.
        let (stored, floats, scale) = unsafe {
            (
                unpack.stored(row, bit::size(unpack.len)),
                unpack.floats(row),
                *unpack.scales.add(row),
            )
        };
        let (whole, rest) = floats.as_chunks_mut::<8>();
        for (values, &signs) in whole.iter_mut().zip(stored) {
            for (at, value) in values.iter_mut().enumerate() {
                *value = bit::signed(signs, at, scale);
            }
        }
        for (at, value) in rest.iter_mut().enumerate() {
            *value = bit::signed(stored[whole.len()], at, scale);
        }
    }
}
