//! The routines without intrinsics, for machines no other kernel is written for; also what Miri can run.

use super::{
    Arch, Block, Call, DENSE_IN_PLACE, Dense, Routines, STEP, Shape, dense_by_stride, even_tiles,
};
use crate::{few, finite, unpack};

const LANES: usize = 8;
/// Enough independent sums to hide latency, few enough for 16 registers of 4 lanes.
const ROWS: usize = 4;

pub(super) static ARCH: Arch = Arch {
    dense: Dense {
        routines: Routines {
            lanes: LANES,
            rows: ROWS,
            tiles: |tokens| even_tiles(tokens, LANES, 1),
            block: |_: Shape, stride| -> Block { dense_by_stride!(stride, block) },
            in_place: DENSE_IN_PLACE,
        },
        units: unpack::units,
        f16: unpack::f16,
        int8: unpack::int8,
        signs: unpack::signs,
        few: |rows, products| few::plain(rows, products),
    },
    codes: None,
    all_finite: |values| finite::plain(values),
};

type Sums = [[f32; LANES]; ROWS];

/// See [`Block`].
unsafe fn block<const STRIDE: usize>(call: &Call) {
    let steps = call.steps * STEP;
    // SAFETY: `Call` promises this many packed units, as aligned as f32.
    let query = unsafe { std::slice::from_raw_parts(call.query.cast::<[f32; LANES]>(), steps) };
    let mut totals: Sums = [[0.0; LANES]; ROWS];
    if call.resume {
        // SAFETY: `Call` promises ROWS × LANES sums when resuming.
        totals = unsafe { call.sums.cast::<Sums>().read_unaligned() };
    }
    for (k, lanes) in query.iter().enumerate() {
        for row in 0..ROWS {
            // SAFETY: `Call` promises ROWS rows of `steps` units, STRIDE apart, at any alignment.
            let component = unsafe {
                call.rows
                    .cast::<f32>()
                    .add(row * STRIDE + k)
                    .read_unaligned()
            };
            for lane in 0..LANES {
                totals[row][lane] += lanes[lane] * component;
            }
        }
    }
    if call.suspend {
        // SAFETY: `Call` promises room for ROWS × LANES sums when suspending.
        unsafe { call.sums.cast::<Sums>().write_unaligned(totals) };
        return;
    }
    // SAFETY: `Call` promises LANES maxima, which nothing else refers to now.
    let best = unsafe { &mut *call.best.cast::<[f32; LANES]>() };
    for total in &totals {
        for lane in 0..LANES {
            // Not `f32::max`: this form is one instruction, and passes over NaN too.
            best[lane] = if total[lane] > best[lane] {
                total[lane]
            } else {
                best[lane]
            };
        }
    }
}
