//! NEON: 4 query tokens per register, 4 document rows × 4 registers = 16 sums in flight.
//!
//! Four components of a document row are loaded at once and multiplied by lane, so nothing is broadcast.

use std::arch::aarch64::*;

use super::{
    Arch, Block, Call, DENSE_IN_PLACE, Dense, Routines, STEP, Shape, dense_by_stride, even_tiles,
};
use crate::{few, finite, unpack};

const LANES: usize = 4;
const ROWS: usize = 4;

pub(super) static ARCH: Arch = Arch {
    dense: Dense {
        routines: Routines {
            lanes: LANES,
            rows: ROWS,
            tiles: |tokens| even_tiles(tokens, LANES, 4),
            block: pick,
            in_place: DENSE_IN_PLACE,
        },
        // NEON is in the target's base: the plain functions are vectorised for it as they are.
        units: unpack::units,
        f16: unpack::f16,
        int8: unpack::int8,
        signs: unpack::signs,
        few: |rows, products| few::plain(rows, products),
    },
    codes: None,
    all_finite: |values| finite::plain(values),
};

fn pick(shape: Shape, stride: usize) -> Block {
    match shape.full {
        1 => dense_by_stride!(stride, block, 1),
        2 => dense_by_stride!(stride, block, 2),
        3 => dense_by_stride!(stride, block, 3),
        4 => dense_by_stride!(stride, block, 4),
        _ => unreachable!("no routine for {shape:?}"),
    }
}

/// See [`Block`].
#[target_feature(enable = "neon")]
unsafe fn block<const FULL: usize, const STRIDE: usize>(call: &Call) {
    let sums = call.sums.cast::<f32>();
    let mut totals = [[vdupq_n_f32(0.0); FULL]; ROWS];
    // SAFETY: `Call` promises the extents of all areas; see its description.
    unsafe {
        if call.resume {
            for row in 0..ROWS {
                for register in 0..FULL {
                    totals[row][register] = vld1q_f32(sums.add((row * FULL + register) * LANES));
                }
            }
        }
        let (mut query, mut rows) = (call.query.cast::<f32>(), call.rows.cast::<f32>());
        for _ in 0..call.steps {
            let mut components = [vdupq_n_f32(0.0); ROWS];
            for row in 0..ROWS {
                components[row] = vld1q_f32(rows.add(row * STRIDE));
            }
            accumulate::<FULL, 0>(query, &components, &mut totals);
            accumulate::<FULL, 1>(query.add(FULL * LANES), &components, &mut totals);
            accumulate::<FULL, 2>(query.add(2 * FULL * LANES), &components, &mut totals);
            accumulate::<FULL, 3>(query.add(3 * FULL * LANES), &components, &mut totals);
            query = query.add(STEP * FULL * LANES);
            rows = rows.add(STEP);
        }
        if call.suspend {
            for row in 0..ROWS {
                for register in 0..FULL {
                    vst1q_f32(
                        sums.add((row * FULL + register) * LANES),
                        totals[row][register],
                    );
                }
            }
            return;
        }
        for register in 0..FULL {
            let place = call.best.add(register * LANES);
            let mut maximum = vld1q_f32(place);
            for row in &totals {
                // The form that passes over NaN.
                maximum = vmaxnmq_f32(row[register], maximum);
            }
            vst1q_f32(place, maximum);
        }
    }
}

/// Adds component `K` of a step.
///
/// # Safety
/// `query` is valid for `FULL × LANES` values.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn accumulate<const FULL: usize, const K: i32>(
    query: *const f32,
    components: &[float32x4_t; ROWS],
    totals: &mut [[float32x4_t; FULL]; ROWS],
) {
    for register in 0..FULL {
        // SAFETY: within the FULL × LANES values the caller promises.
        let tokens = unsafe { vld1q_f32(query.add(register * LANES)) };
        for row in 0..ROWS {
            totals[row][register] =
                vfmaq_laneq_f32::<K>(totals[row][register], tokens, components[row]);
        }
    }
}
