//! AVX-512 VNNI: products of unsigned document codes with signed query codes, four components per lane.
//!
//! The scheme is that of [`avx512`](super::avx512) with four codes where that has one f32. A block's integer sums
//! become similarities at its end, by the scale of each document token; the query's scales follow after the maximum,
//! which they do not change.
//!
//! Signs take the same way, as codes of 1 and −1. Counting bits instead (VPOPCNTDQ) does not pay: with a query of four
//! bit planes, 8 pairs of tokens of 128 components take 24 instructions to combine, count and add, and more to weigh
//! the planes, against 16 here with a query of 8 bits. A query of a single bit plane would be faster, and ranks worse: of
//! the exact best 10 (300 queries, 3000 SciFact abstracts) it finds .764, this .845.

use std::arch::x86_64::*;

use super::avx512::{DENSE, LANES, ROWS, tiles};
use super::prefetch::prefetch;
use super::{Arch, Block, Call, Codes, Routines, STEP, Shape};
use crate::unpack::{Unpack, wrap};
use crate::{finite, int8};

pub(super) static ARCH: Arch = Arch {
    dense: DENSE,
    codes: Some(Codes {
        routines: Routines {
            lanes: LANES,
            rows: ROWS,
            tiles,
            block: pick,
            in_place: &[16, 24, 32, 64, 80, 192, 256],
        },
        bias: int8::BIAS,
        int8: Some(codes),
        signs,
    }),
    all_finite,
};

finite::wrap! {"avx512f"}
wrap! {"avx512f,avx512bw,avx512vl": codes}

/// Signs to the codes of 1 and −1. See [`Unpacker`](crate::unpack::Unpacker).
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn signs(unpack: &Unpack) {
    const LANES: usize = 64;
    let minus = _mm512_set1_epi8((int8::BIAS - 1) as i8);
    let plus = _mm512_set1_epi8((int8::BIAS + 1) as i8);
    for row in 0..unpack.rows {
        // SAFETY: `Unpacker` promises both extents; whole registers first, then no more than are left.
        unsafe {
            let from = unpack.from.add(row * unpack.row_size);
            let to = unpack.to.add(row).cast::<i8>();
            let whole = unpack.len / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                let signs = from.add(at / 8).cast::<u64>().read_unaligned();
                _mm512_storeu_epi8(to.add(at), _mm512_mask_blend_epi8(signs, minus, plus));
            }
            for at in whole..unpack.len {
                let sign = *from.add(at / 8) >> (at % 8) & 1;
                *to.add(at) = (int8::BIAS - 1 + 2 * sign) as i8;
            }
        }
    }
}

fn pick(shape: Shape, stride: usize) -> Block {
    macro_rules! by_stride {
        ($full:literal, $phased:literal) => {
            match stride {
                16 => block::<$full, $phased, 16> as Block,
                24 => block::<$full, $phased, 24>,
                32 => block::<$full, $phased, 32>,
                64 => block::<$full, $phased, 64>,
                80 => block::<$full, $phased, 80>,
                192 => block::<$full, $phased, 192>,
                256 => block::<$full, $phased, 256>,
                other => unreachable!("no routine for rows of {other} units"),
            }
        };
    }
    match (shape.full, shape.phased) {
        (2, 0) => by_stride!(2, 0),
        (1, 1) => by_stride!(1, 1),
        (1, 0) => by_stride!(1, 0),
        (0, 1) => by_stride!(0, 1),
        (0, 2) => by_stride!(0, 2),
        _ => unreachable!("no routine for {shape:?}"),
    }
}

/// See [`Block`].
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn block<const FULL: usize, const PHASED: usize, const STRIDE: usize>(call: &Call) {
    let mut full = [[_mm512_setzero_si512(); FULL]; ROWS];
    let mut phased = [[_mm512_setzero_si512(); PHASED]; ROWS];
    let width = (FULL + PHASED) * LANES;
    let sums = call.sums.cast::<i32>();
    // SAFETY: `Call` promises the extents of all areas; see its description.
    unsafe {
        for row in 0..ROWS {
            // A row's sums begin with the offsets, which are the same for all rows, or where they were left.
            let start = if call.resume {
                sums.add(row * width).cast_const()
            } else {
                call.offsets
            };
            for register in 0..FULL {
                full[row][register] = _mm512_loadu_si512(start.add(register * LANES).cast());
            }
            for register in 0..PHASED {
                phased[row][register] =
                    _mm512_loadu_si512(start.add((FULL + register) * LANES).cast());
            }
        }
        let (mut query, mut rows, mut ahead) = (call.query, call.rows.cast::<i32>(), call.ahead);
        for _ in 0..call.steps {
            ahead = prefetch(ahead);
            for k in 0..STEP * FULL.min(1) {
                let mut tokens = [_mm512_setzero_si512(); FULL];
                for register in 0..FULL {
                    tokens[register] =
                        _mm512_load_si512(query.add((k * FULL + register) * LANES).cast());
                }
                for row in 0..ROWS {
                    let codes = _mm512_set1_epi32(rows.add(row * STRIDE + k).read_unaligned());
                    for register in 0..FULL {
                        let sum = &mut full[row][register];
                        *sum = _mm512_dpbusd_epi32(*sum, codes, tokens[register]);
                    }
                }
            }
            if PHASED > 0 {
                let mut tokens = [_mm512_setzero_si512(); PHASED];
                for register in 0..PHASED {
                    tokens[register] =
                        _mm512_load_si512(query.add((STEP * FULL + register) * LANES).cast());
                }
                for row in 0..ROWS {
                    let codes =
                        _mm512_broadcast_i32x4(_mm_loadu_si128(rows.add(row * STRIDE).cast()));
                    for register in 0..PHASED {
                        let sum = &mut phased[row][register];
                        *sum = _mm512_dpbusd_epi32(*sum, codes, tokens[register]);
                    }
                }
            }
            query = query.add((STEP * FULL + PHASED) * LANES);
            rows = rows.add(STEP);
        }
        if call.suspend {
            for row in 0..ROWS {
                for register in 0..FULL {
                    _mm512_storeu_si512(
                        sums.add(row * width + register * LANES).cast(),
                        full[row][register],
                    );
                }
                for register in 0..PHASED {
                    let place = sums.add(row * width + (FULL + register) * LANES);
                    _mm512_storeu_si512(place.cast(), phased[row][register]);
                }
            }
            return;
        }
        raise(call, &full, &phased);
    }
}

/// Makes similarities of the finished sums of a block, and raises the tile's maxima by them.
///
/// # Safety
/// The maxima and the scales of `call` are valid for what it describes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn raise<const FULL: usize, const PHASED: usize>(
    call: &Call,
    full: &[[__m512i; FULL]; ROWS],
    phased: &[[__m512i; PHASED]; ROWS],
) {
    // SAFETY: within what the caller promises.
    unsafe {
        for register in 0..FULL {
            let place = call.best.add(register * LANES);
            let mut maximum = _mm512_loadu_ps(place);
            for row in 0..ROWS {
                let scale = _mm512_set1_ps(call.scales.add(row).read_unaligned());
                let similarities = _mm512_mul_ps(_mm512_cvtepi32_ps(full[row][register]), scale);
                // The second operand is the one kept when either is NaN.
                maximum = _mm512_max_ps(similarities, maximum);
            }
            _mm512_storeu_ps(place, maximum);
        }
        for register in 0..PHASED {
            let place = call.best.add((FULL + register) * LANES);
            let mut maximum = _mm512_loadu_ps(place);
            for four in (0..ROWS).step_by(4) {
                let row = |row: usize| phased[four + row][register];
                let scales = _mm512_broadcast_f32x4(_mm_loadu_ps(call.scales.add(four)));
                let sums = unite(row(0), row(1), row(2), row(3));
                maximum = _mm512_max_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales), maximum);
            }
            _mm512_storeu_ps(place, maximum);
        }
    }
}

/// Adds up the four lanes of each query token: lane `4 t + r` of the result is token t's sum in row r.
#[inline]
#[target_feature(enable = "avx512f")]
fn unite(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}
