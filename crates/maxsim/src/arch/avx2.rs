//! AVX2 and FMA: 8 query tokens per register, 6 document rows × 2 registers = 12 sums in flight.
//!
//! The scheme is that of [`avx512`](super::avx512) without phased registers: half a register is 4 tokens only.

use std::arch::x86_64::*;

use super::avx2_signs::CODES;
use super::prefetch::prefetch;
use super::{
    Arch, Block, Call, DENSE_IN_PLACE, Dense, Routines, STEP, Shape, dense_by_stride, even_tiles,
};
use crate::unpack::{Unpack, wrap};
use crate::{few, finite, half};

const LANES: usize = 8;
const ROWS: usize = 6;

pub(super) static ARCH: Arch = Arch {
    dense: Dense {
        routines: Routines {
            lanes: LANES,
            rows: ROWS,
            tiles: |tokens| even_tiles(tokens, LANES, 2),
            block: pick,
            in_place: DENSE_IN_PLACE,
        },
        units,
        f16,
        int8,
        signs,
        few,
    },
    codes: Some(CODES),
    all_finite,
};

few::wrap! {"avx2"}
finite::wrap! {"avx2"}
wrap! {"avx2": units int8 signs}

fn pick(shape: Shape, stride: usize) -> Block {
    match shape.full {
        // Six sums would leave the multipliers waiting, so a lone register keeps two sets, added up at the end.
        1 => dense_by_stride!(stride, block, 1, 2),
        2 => dense_by_stride!(stride, block, 2, 1),
        _ => unreachable!("no routine for {shape:?}"),
    }
}

/// See [`Block`]. `SETS` sums are kept per row and register, taking turns over the components.
#[target_feature(enable = "avx2,fma")]
unsafe fn block<const FULL: usize, const SETS: usize, const STRIDE: usize>(call: &Call) {
    let sums = call.sums.cast::<f32>();
    let mut totals = [[[_mm256_setzero_ps(); FULL]; ROWS]; SETS];
    // SAFETY: `Call` promises the extents of all areas; see its description.
    unsafe {
        if call.resume {
            for row in 0..ROWS {
                for register in 0..FULL {
                    totals[0][row][register] =
                        _mm256_loadu_ps(sums.add((row * FULL + register) * LANES));
                }
            }
        }
        let (mut query, mut rows, mut ahead) = (
            call.query.cast::<f32>(),
            call.rows.cast::<f32>(),
            call.ahead,
        );
        for step in 0..call.steps {
            if step % 2 == 0 {
                // Six rows: half of what it asks for.
                ahead = prefetch(ahead);
            }
            for k in 0..STEP {
                let mut tokens = [_mm256_setzero_ps(); FULL];
                for register in 0..FULL {
                    tokens[register] = _mm256_load_ps(query.add((k * FULL + register) * LANES));
                }
                for row in 0..ROWS {
                    let component = _mm256_set1_ps(rows.add(row * STRIDE + k).read_unaligned());
                    for register in 0..FULL {
                        let sum = &mut totals[k % SETS][row][register];
                        *sum = _mm256_fmadd_ps(component, tokens[register], *sum);
                    }
                }
            }
            query = query.add(STEP * FULL * LANES);
            rows = rows.add(STEP);
        }
        for set in 1..SETS {
            for row in 0..ROWS {
                for register in 0..FULL {
                    totals[0][row][register] =
                        _mm256_add_ps(totals[0][row][register], totals[set][row][register]);
                }
            }
        }
        if call.suspend {
            for row in 0..ROWS {
                for register in 0..FULL {
                    _mm256_storeu_ps(
                        sums.add((row * FULL + register) * LANES),
                        totals[0][row][register],
                    );
                }
            }
            return;
        }
        for register in 0..FULL {
            let place = call.best.add(register * LANES);
            let mut maximum = _mm256_loadu_ps(place);
            for row in &totals[0] {
                // The second operand is the one kept when either is NaN.
                maximum = _mm256_max_ps(row[register], maximum);
            }
            _mm256_storeu_ps(place, maximum);
        }
    }
}

/// Half precision to f32. See [`Unpacker`](crate::unpack::Unpacker).
#[target_feature(enable = "avx,f16c")]
unsafe fn f16(unpack: &Unpack) {
    for row in 0..unpack.rows {
        // SAFETY: `Unpacker` promises both extents; whole registers first, then no more than are left.
        unsafe {
            let from = unpack.from.add(row * unpack.row_size).cast::<u16>();
            let to = unpack.to.add(row).cast::<f32>();
            let whole = unpack.len / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                let halves = _mm_loadu_si128(from.add(at).cast());
                _mm256_storeu_ps(to.add(at), _mm256_cvtph_ps(halves));
            }
            for at in whole..unpack.len {
                *to.add(at) = half::widen(from.add(at).read_unaligned());
            }
        }
    }
}
