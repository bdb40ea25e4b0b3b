//! AVX-512 F: 16 query tokens per register, 12 document rows × 2 registers = 24 sums in flight.
//!
//! A component of a document row is broadcast from memory to all lanes, so documents need no packing, and the maximum
//! over document tokens is a vertical one: no step runs across lanes. The exception are `phased` registers, for the
//! up to 8 tokens that would otherwise half fill a register: four lanes share a query token, each taking every
//! fourth component; a transposing addition unites them once per block.

use std::arch::x86_64::*;

use super::avx2_signs::CODES;
use super::prefetch::prefetch;
use super::{Arch, Block, Call, DENSE_IN_PLACE, Dense, Routines, STEP, Shape, dense_by_stride};
use crate::unpack::{Unpack, wrap};
use crate::{few, finite, half};

pub(super) const LANES: usize = 16;
pub(super) const ROWS: usize = 12;

pub(super) static ARCH: Arch = Arch {
    dense: DENSE,
    codes: Some(CODES),
    all_finite,
};

pub(super) const DENSE: Dense = Dense {
    routines: Routines {
        lanes: LANES,
        rows: ROWS,
        tiles,
        block: pick,
        in_place: DENSE_IN_PLACE,
    },
    units,
    f16,
    int8,
    signs,
    few,
};

few::wrap! {"avx512f"}
finite::wrap! {"avx512f"}
wrap! {"avx512f,avx512bw,avx512vl": units int8 signs}

/// Whole registers, but for a rest of up to 8 tokens.
pub(super) fn tiles(tokens: usize) -> Vec<Shape> {
    let shape = |full, phased| Shape { full, phased };
    let mut tiles = vec![shape(2, 0); tokens / (2 * LANES)];
    tiles.extend(match tokens % (2 * LANES) {
        0 => vec![],
        1..=4 => vec![shape(0, 1)],
        5..=8 => vec![shape(0, 2)],
        9..=16 => vec![shape(1, 0)],
        17..=20 => vec![shape(1, 1)],
        21..=24 => vec![shape(1, 0), shape(0, 2)],
        _ => vec![shape(2, 0)],
    });
    tiles
}

fn pick(shape: Shape, stride: usize) -> Block {
    match (shape.full, shape.phased) {
        (2, 0) => dense_by_stride!(stride, block, 2, 0),
        (1, 1) => dense_by_stride!(stride, block, 1, 1),
        (1, 0) => dense_by_stride!(stride, block, 1, 0),
        (0, 1) => dense_by_stride!(stride, block, 0, 1),
        (0, 2) => dense_by_stride!(stride, block, 0, 2),
        _ => unreachable!("no routine for {shape:?}"),
    }
}

/// See [`Block`].
#[target_feature(enable = "avx512f")]
unsafe fn block<const FULL: usize, const PHASED: usize, const STRIDE: usize>(call: &Call) {
    let mut full = [[_mm512_setzero_ps(); FULL]; ROWS];
    let mut phased = [[_mm512_setzero_ps(); PHASED]; ROWS];
    let width = (FULL + PHASED) * LANES;
    let sums = call.sums.cast::<f32>();
    // SAFETY: `Call` promises the extents of all areas; see its description.
    unsafe {
        if call.resume {
            for row in 0..ROWS {
                for register in 0..FULL {
                    full[row][register] = _mm512_loadu_ps(sums.add(row * width + register * LANES));
                }
                for register in 0..PHASED {
                    phased[row][register] =
                        _mm512_loadu_ps(sums.add(row * width + (FULL + register) * LANES));
                }
            }
        }
        let (mut query, mut rows, mut ahead) = (
            call.query.cast::<f32>(),
            call.rows.cast::<f32>(),
            call.ahead,
        );
        for _ in 0..call.steps {
            ahead = prefetch(ahead);
            for k in 0..STEP * FULL.min(1) {
                let mut tokens = [_mm512_setzero_ps(); FULL];
                for register in 0..FULL {
                    tokens[register] = _mm512_load_ps(query.add((k * FULL + register) * LANES));
                }
                for row in 0..ROWS {
                    let component = _mm512_set1_ps(rows.add(row * STRIDE + k).read_unaligned());
                    for register in 0..FULL {
                        let sum = &mut full[row][register];
                        *sum = _mm512_fmadd_ps(component, tokens[register], *sum);
                    }
                }
            }
            if PHASED > 0 {
                let mut tokens = [_mm512_setzero_ps(); PHASED];
                for register in 0..PHASED {
                    tokens[register] = _mm512_load_ps(query.add((STEP * FULL + register) * LANES));
                }
                for row in 0..ROWS {
                    let components = _mm512_broadcast_f32x4(_mm_loadu_ps(rows.add(row * STRIDE)));
                    for register in 0..PHASED {
                        let sum = &mut phased[row][register];
                        *sum = _mm512_fmadd_ps(components, tokens[register], *sum);
                    }
                }
            }
            query = query.add((STEP * FULL + PHASED) * LANES);
            rows = rows.add(STEP);
        }
        if call.suspend {
            for row in 0..ROWS {
                for register in 0..FULL {
                    _mm512_storeu_ps(
                        sums.add(row * width + register * LANES),
                        full[row][register],
                    );
                }
                for register in 0..PHASED {
                    _mm512_storeu_ps(
                        sums.add(row * width + (FULL + register) * LANES),
                        phased[row][register],
                    );
                }
            }
            return;
        }
        raise(call.best, &full, &phased);
    }
}

/// Raises a tile's maxima by the finished sums of a block.
///
/// # Safety
/// `best` is valid for all lanes of the tile.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn raise<const FULL: usize, const PHASED: usize>(
    best: *mut f32,
    full: &[[__m512; FULL]; ROWS],
    phased: &[[__m512; PHASED]; ROWS],
) {
    // SAFETY: within the lanes the caller promises.
    unsafe {
        for register in 0..FULL {
            let place = best.add(register * LANES);
            let mut maximum = _mm512_loadu_ps(place);
            for row in full {
                // The second operand is the one kept when either is NaN.
                maximum = _mm512_max_ps(row[register], maximum);
            }
            _mm512_storeu_ps(place, maximum);
        }
        for register in 0..PHASED {
            let place = best.add((FULL + register) * LANES);
            let mut maximum = _mm512_loadu_ps(place);
            for rows in phased.chunks_exact(4) {
                let similarities = unite(
                    rows[0][register],
                    rows[1][register],
                    rows[2][register],
                    rows[3][register],
                );
                maximum = _mm512_max_ps(similarities, maximum);
            }
            _mm512_storeu_ps(place, maximum);
        }
    }
}

/// Adds up the four lanes of each query token: lane `4 t + r` of the result is token t's sum in row r.
#[inline]
#[target_feature(enable = "avx512f")]
fn unite(a: __m512, b: __m512, c: __m512, d: __m512) -> __m512 {
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    _mm512_add_ps(
        _mm512_shuffle_ps::<0x44>(ab, cd),
        _mm512_shuffle_ps::<0xEE>(ab, cd),
    )
}

/// Half precision to f32. See [`Unpacker`](crate::unpack::Unpacker).
#[target_feature(enable = "avx512f")]
unsafe fn f16(unpack: &Unpack) {
    for row in 0..unpack.rows {
        // SAFETY: `Unpacker` promises both extents; whole registers first, then no more than are left.
        unsafe {
            let from = unpack.from.add(row * unpack.row_size).cast::<u16>();
            let to = unpack.to.add(row).cast::<f32>();
            let whole = unpack.len / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                let halves = _mm256_loadu_si256(from.add(at).cast());
                _mm512_storeu_ps(to.add(at), _mm512_cvtph_ps(halves));
            }
            for at in whole..unpack.len {
                *to.add(at) = half::widen(from.add(at).read_unaligned());
            }
        }
    }
}
