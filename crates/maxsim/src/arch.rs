//! The table of routines each instruction set supplies, and the choice among the tables at run time.
//!
//! [`dense`](crate::dense) drives these routines; it holds every loop that is not worth intrinsics. A routine is
//! called once per block of document rows, some thousand cycles each, so a function pointer costs nothing.

// Registers are numbered in these files: an index says more than an iterator would.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use crate::Kernel;

/// Document components handled per step of a block routine; packed queries are padded to it.
pub(crate) const STEP: usize = 4;
/// Components per pass when rows are copied into scratch memory: with its rows it fits the innermost cache.
pub(crate) const CHUNK: usize = 256;
/// Row lengths for which block routines read documents in place. A row distance known to the compiler keeps all
/// accumulators in registers; with one known only at run time half the speed is lost to spilling.
pub(crate) const IN_PLACE: [usize; 6] = [64, 96, 128, 256, 320, 768];

/// How a tile of query tokens fills registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Registers with one query token per lane.
    pub(crate) full: usize,
    /// Registers with `lanes / 4` query tokens, each in four lanes that take every fourth component.
    pub(crate) phased: usize,
}

/// Where a pass over some components of a block starts from and what becomes of its sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// Start from the sums in memory instead of zero.
    pub(crate) resume: bool,
    /// Leave the sums in memory instead of keeping their maximum.
    pub(crate) suspend: bool,
}

/// Adds up `steps × STEP` components of [`Arch::rows`] document rows against one tile of query tokens, and raises
/// the tile's maxima.
///
/// Arguments: packed query of the tile, first row, steps, pass, sums (`rows × tile width` values, used as `pass`
/// says), maxima (`tile width` values). The distance between rows is part of the routine.
///
/// # Safety
/// The machine has the instruction set. All pointers are valid for what is described; rows for `steps × STEP` values
/// each. Only rows may be unaligned to the vector width.
pub(crate) type Block = unsafe fn(*const f32, *const f32, usize, Pass, *mut f32, *mut f32);

/// One instruction set's routines.
#[derive(Debug)]
pub(crate) struct Arch {
    /// Values per register.
    pub(crate) lanes: usize,
    /// Document rows per block.
    pub(crate) rows: usize,
    /// The tiles that cover this many query tokens.
    pub(crate) tiles: fn(usize) -> Vec<Shape>,
    /// The block routine for a shape and a distance between rows, which is of `IN_PLACE` or `CHUNK`.
    pub(crate) block: fn(Shape, usize) -> Block,
}

impl Shape {
    /// How many query tokens a tile holds.
    pub(crate) const fn tokens(self, lanes: usize) -> usize {
        self.full * lanes + self.phased * lanes / STEP
    }

    /// How many values a tile's maxima, and a row's sums, take.
    pub(crate) const fn width(self, lanes: usize) -> usize {
        (self.full + self.phased) * lanes
    }

    /// How many packed values a tile takes per step.
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
        Kernel::Avx512 | Kernel::Avx512Vnni => &avx512::ARCH,
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

/// Picks `$block::<…, STRIDE>` for a stride of `IN_PLACE` or `CHUNK`.
macro_rules! by_stride {
    ($stride:expr, $block:ident $(, $parameter:literal)*) => {
        match $stride {
            64 => $block::<$($parameter,)* 64> as $crate::arch::Block,
            96 => $block::<$($parameter,)* 96>,
            128 => $block::<$($parameter,)* 128>,
            256 => $block::<$($parameter,)* 256>,
            320 => $block::<$($parameter,)* 320>,
            768 => $block::<$($parameter,)* 768>,
            other => unreachable!("no routine for rows of {other} values"),
        }
    };
}
use by_stride;

const _: () = assert!(
    CHUNK == 256 && CHUNK.is_multiple_of(STEP),
    "CHUNK is one of the strides above"
);
