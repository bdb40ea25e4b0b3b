//! AVX2 and FMA: 8 query tokens per register, 6 document rows × 2 registers = 12 sums in flight.
//!
//! The scheme is that of [`avx512`](super::avx512) without phased registers: half a register is 4 tokens only.

use std::arch::x86_64::*;

use super::{Arch, Block, Pass, STEP, Shape, by_stride, even_tiles};

const LANES: usize = 8;
const ROWS: usize = 6;

pub(super) static ARCH: Arch = Arch {
    lanes: LANES,
    rows: ROWS,
    tiles: |tokens| even_tiles(tokens, LANES, 2),
    block: pick,
};

fn pick(shape: Shape, stride: usize) -> Block {
    match shape.full {
        // Six sums would leave the multipliers waiting, so a lone register keeps two sets, added up at the end.
        1 => by_stride!(stride, block, 1, 2),
        2 => by_stride!(stride, block, 2, 1),
        _ => unreachable!("no routine for {shape:?}"),
    }
}

/// See [`Block`]. `SETS` sums are kept per row and register, taking turns over the components.
#[target_feature(enable = "avx2,fma")]
unsafe fn block<const FULL: usize, const SETS: usize, const STRIDE: usize>(
    query: *const f32,
    rows: *const f32,
    steps: usize,
    pass: Pass,
    sums: *mut f32,
    best: *mut f32,
) {
    let mut totals = [[[_mm256_setzero_ps(); FULL]; ROWS]; SETS];
    // SAFETY: `Block` promises the extents of all four areas; see its description.
    unsafe {
        if pass.resume {
            for row in 0..ROWS {
                for register in 0..FULL {
                    totals[0][row][register] =
                        _mm256_loadu_ps(sums.add((row * FULL + register) * LANES));
                }
            }
        }
        let (mut query, mut rows) = (query, rows);
        for _ in 0..steps {
            for k in 0..STEP {
                let mut tokens = [_mm256_setzero_ps(); FULL];
                for register in 0..FULL {
                    tokens[register] = _mm256_load_ps(query.add((k * FULL + register) * LANES));
                }
                for row in 0..ROWS {
                    let component = _mm256_set1_ps(*rows.add(row * STRIDE + k));
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
        if pass.suspend {
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
            let place = best.add(register * LANES);
            let mut maximum = _mm256_loadu_ps(place);
            for row in &totals[0] {
                // The second operand is the one kept when either is NaN.
                maximum = _mm256_max_ps(row[register], maximum);
            }
            _mm256_storeu_ps(place, maximum);
        }
    }
}
