//! The table of routines each instruction set supplies, and the choice among the tables at run time.
//!
//! [`packed`](crate::packed) drives these routines; it holds every loop that is not worth intrinsics. A routine is
//! called once per block of document rows, some hundred cycles at least, so a function pointer costs nothing.
//!
//! Routines count in units of four bytes: one f32, or four codes of one byte each.

// Registers are numbered in these files: an index says more than an iterator would.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_signs;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod prefetch;
#[cfg(target_arch = "x86_64")]
mod vnni;

use crate::Kernel;
use crate::few::Few;
use crate::unpack::Unpacker;

/// Units of a row handled per step of a block routine; packed queries are padded to it.
pub(crate) const STEP: usize = 4;
/// Units per pass when rows are copied into scratch memory: with its rows it fits the innermost cache.
pub(crate) const CHUNK: usize = 256;

/// How a tile of query tokens fills registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Registers with one query token per lane.
    pub(crate) full: usize,
    /// Registers with `lanes / 4` query tokens, each in four lanes that take every fourth unit.
    pub(crate) phased: usize,
}

/// What a block routine works on: some document rows, one tile of query tokens.
///
/// `width` below is the tile's number of lanes, `rows` the routine's number of rows.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // codes and prefetching so far are there only
pub(crate) struct Call {
    /// The tile's packed units, `steps × Shape::step_len`, aligned to 64 bytes.
    pub(crate) query: *const u32,
    /// The first row; the distance between rows is part of the routine. Not aligned to anything.
    pub(crate) rows: *const u8,
    /// `steps × STEP` units of each row take part.
    pub(crate) steps: usize,
    /// Start from `sums` instead of from zero (f32) or `offsets` (codes).
    pub(crate) resume: bool,
    /// Leave the sums in `sums` instead of raising `best`.
    pub(crate) suspend: bool,
    /// `rows × width` sums, used only as the two flags say.
    pub(crate) sums: *mut u32,
    /// `width` maxima.
    pub(crate) best: *mut f32,
    /// Codes only: what the sums of a row begin with, `width` values.
    pub(crate) offsets: *const i32,
    /// Codes only: one factor per row. Not aligned to anything.
    pub(crate) scales: *const f32,
    /// What will be read next, for prefetching; never dereferenced.
    pub(crate) ahead: *const u8,
}

/// Adds up the products of document rows with a tile of query tokens, and raises the tile's maxima.
///
/// # Safety
/// The machine has the instruction set, and the [`Call`]'s pointers are valid for what it describes.
pub(crate) type Block = unsafe fn(&Call);

/// How one instruction set sums up products of one form of units.
#[derive(Debug)]
pub(crate) struct Routines {
    /// Values per register.
    pub(crate) lanes: usize,
    /// Document rows per block.
    pub(crate) rows: usize,
    /// The tiles that cover this many query tokens.
    pub(crate) tiles: fn(usize) -> Vec<Shape>,
    /// The block routine for a shape and a distance between rows in units: `CHUNK`, or one of `in_place`.
    pub(crate) block: fn(Shape, usize) -> Block,
    /// Row lengths, in units, for which documents are read in place. A row distance known to the compiler keeps all
    /// sums in registers; with one known only at run time half the speed is lost to spilling.
    pub(crate) in_place: &'static [usize],
}

/// One instruction set's routines.
#[derive(Debug)]
pub(crate) struct Arch {
    /// f32 products, and how documents become f32.
    pub(crate) dense: Dense,
    /// Products of codes, where the machine has better instructions for them than for f32.
    pub(crate) codes: Option<Codes>,
    /// See [`all_finite`](crate::all_finite).
    pub(crate) all_finite: Finite,
}

/// # Safety
/// The machine has the instruction set.
pub(crate) type Finite = unsafe fn(&[f32]) -> bool;

/// f32 products, and how documents become f32.
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) routines: Routines,
    pub(crate) units: Unpacker,
    pub(crate) f16: Unpacker,
    pub(crate) int8: Unpacker,
    pub(crate) signs: Unpacker,
    /// Products with int8 tokens where the query has few.
    pub(crate) few: Few,
}

/// Products of codes, and how documents become codes.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(crate) routines: Routines,
    /// How much larger a code is than what it stands for.
    pub(crate) bias: u8,
    /// int8 as stored; none if the routines cannot multiply codes of 8 bits.
    pub(crate) int8: Option<Unpacker>,
    /// Signs become the codes of 1 and −1.
    pub(crate) signs: Unpacker,
}

impl Shape {
    /// How many query tokens a tile holds.
    pub(crate) const fn tokens(self, lanes: usize) -> usize {
        self.full * lanes + self.phased * lanes / STEP
    }

    /// How many lanes a tile has.
    pub(crate) const fn width(self, lanes: usize) -> usize {
        (self.full + self.phased) * lanes
    }

    /// How many packed units a tile takes per step.
    pub(crate) const fn step_len(self, lanes: usize) -> usize {
        (self.full * STEP + self.phased) * lanes
    }
}

/// The routines of a kernel. Only ask for kernels that are available.
pub(crate) fn routines(kernel: Kernel) -> &'static Arch {
    match kernel {
        Kernel::Portable => &portable::ARCH,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => &avx2::ARCH,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => &avx512::ARCH,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512Vnni => &vnni::ARCH,
        #[cfg(target_arch = "aarch64")]
        Kernel::Neon => &neon::ARCH,
        #[allow(unreachable_patterns)]
        _ => unreachable!(
            "the {} kernel is never available on this architecture",
            kernel.name()
        ),
    }
}

/// Covers `tokens` with tiles of `wide` registers and one narrower tile for the rest.
fn even_tiles(tokens: usize, lanes: usize, wide: usize) -> Vec<Shape> {
    let registers = tokens.div_ceil(lanes);
    let shape = |full| Shape { full, phased: 0 };
    let mut tiles = vec![shape(wide); registers / wide];
    tiles.extend((!registers.is_multiple_of(wide)).then(|| shape(registers % wide)));
    tiles
}

/// The dimensions f32 documents are read in place for: ColBERT's and its kin's.
const DENSE_IN_PLACE: &[usize] = &[64, 96, 128, 256, 320, 768];

/// Picks `$block::<…, STRIDE>` for a stride of `DENSE_IN_PLACE` or `CHUNK`.
macro_rules! dense_by_stride {
    ($stride:expr, $block:ident $(, $parameter:literal)*) => {
        match $stride {
            64 => $block::<$($parameter,)* 64> as $crate::arch::Block,
            96 => $block::<$($parameter,)* 96>,
            128 => $block::<$($parameter,)* 128>,
            256 => $block::<$($parameter,)* 256>,
            320 => $block::<$($parameter,)* 320>,
            768 => $block::<$($parameter,)* 768>,
            other => unreachable!("no routine for rows of {other} units"),
        }
    };
}
use dense_by_stride;

const _: () = assert!(
    CHUNK == 256 && CHUNK.is_multiple_of(STEP),
    "CHUNK is one of the strides above"
);
