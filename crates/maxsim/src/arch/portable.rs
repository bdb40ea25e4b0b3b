//! The routines without intrinsics, for machines no other kernel is written for; also what Miri can run.

use super::{Arch, Block, Pass, STEP, Shape, even_tiles};

const LANES: usize = 8;
/// Enough independent sums to hide latency, few enough for 16 registers of 4 lanes.
const ROWS: usize = 4;

pub(super) static ARCH: Arch = Arch {
    lanes: LANES,
    rows: ROWS,
    tiles: |tokens| even_tiles(tokens, LANES, 1),
    block: |_: Shape, stride| -> Block { super::by_stride!(stride, block) },
};

type Sums = [[f32; LANES]; ROWS];

/// See [`Block`].
unsafe fn block<const STRIDE: usize>(
    query: *const f32,
    rows: *const f32,
    steps: usize,
    pass: Pass,
    sums: *mut f32,
    best: *mut f32,
) {
    // SAFETY: `Block` promises `steps × STEP × LANES` packed values and, `STRIDE` apart, ROWS rows of `steps × STEP`.
    let (query, rows) = unsafe {
        (
            std::slice::from_raw_parts(query.cast::<[f32; LANES]>(), steps * STEP),
            std::array::from_fn::<&[f32], ROWS, _>(|row| {
                std::slice::from_raw_parts(rows.add(row * STRIDE), steps * STEP)
            }),
        )
    };
    let mut totals: Sums = [[0.0; LANES]; ROWS];
    if pass.resume {
        // SAFETY: `Block` promises ROWS × LANES sums when resuming.
        totals = unsafe { sums.cast::<Sums>().read_unaligned() };
    }
    for (k, lanes) in query.iter().enumerate() {
        for (total, row) in totals.iter_mut().zip(&rows) {
            for (total, lane) in total.iter_mut().zip(lanes) {
                *total += lane * row[k];
            }
        }
    }
    if pass.suspend {
        // SAFETY: `Block` promises room for ROWS × LANES sums when suspending.
        unsafe { sums.cast::<Sums>().write_unaligned(totals) };
        return;
    }
    // SAFETY: `Block` promises LANES maxima, which nothing else refers to now.
    let best = unsafe { &mut *best.cast::<[f32; LANES]>() };
    for total in &totals {
        for (best, &total) in best.iter_mut().zip(total) {
            // Not `f32::max`: this form is one instruction, and passes over NaN too.
            *best = if total > *best { total } else { *best };
        }
    }
}
