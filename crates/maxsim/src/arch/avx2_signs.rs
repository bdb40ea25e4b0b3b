//! AVX2: products of documents' signs with signed query codes, for machines without VNNI.
//!
//! AVX2 multiplies unsigned by signed bytes too, but adds the products up in 16 bits only, too few for codes of 8 bits.
//! Signs, unpacked as 0 and 2, leave room for 64 additions: every so many units the sums move to 32 bits. Twice the
//! rate of f32 and more.

use std::arch::x86_64::*;

use super::{Block, Call, Codes, Routines, STEP, Shape, even_tiles};
use crate::unpack::Unpack;

const LANES: usize = 8;
const ROWS: usize = 6;
/// Steps until 16 bits could overflow: a unit adds at most 2 × (2 × 127) to each.
const SAFE_STEPS: usize = 16;
const _: () = assert!(SAFE_STEPS * STEP * 2 * 2 * 127 <= i16::MAX as usize);

pub(super) const CODES: Codes = Codes {
    routines: Routines {
        lanes: LANES,
        rows: ROWS,
        tiles: |tokens| even_tiles(tokens, LANES, 2),
        block: |shape: Shape, _| match shape.full {
            1 => block::<1> as Block,
            2 => block::<2>,
            _ => unreachable!("no routine for {shape:?}"),
        },
        in_place: &[],
    },
    bias: 1,
    int8: None,
    signs,
};

/// See [`Block`].
#[target_feature(enable = "avx2")]
unsafe fn block<const FULL: usize>(call: &Call) {
    const STRIDE: usize = super::CHUNK;
    let mut totals = [[_mm256_setzero_si256(); FULL]; ROWS];
    let sums = call.sums.cast::<i32>();
    // SAFETY: `Call` promises the extents of all areas; see its description.
    unsafe {
        for row in 0..ROWS {
            // A row's sums begin with the offsets, which are the same for all rows, or where they were left.
            let start = if call.resume {
                sums.add(row * FULL * LANES).cast_const()
            } else {
                call.offsets
            };
            for register in 0..FULL {
                totals[row][register] = _mm256_loadu_si256(start.add(register * LANES).cast());
            }
        }
        for first in (0..call.steps).step_by(SAFE_STEPS) {
            let mut halves = [[_mm256_setzero_si256(); FULL]; ROWS];
            for k in first * STEP..call.steps.min(first + SAFE_STEPS) * STEP {
                let query = call.query.add(k * FULL * LANES);
                for row in 0..ROWS {
                    let codes = call
                        .rows
                        .cast::<i32>()
                        .add(row * STRIDE + k)
                        .read_unaligned();
                    for register in 0..FULL {
                        let tokens = _mm256_load_si256(query.add(register * LANES).cast());
                        let products = _mm256_maddubs_epi16(_mm256_set1_epi32(codes), tokens);
                        let sum = &mut halves[row][register];
                        *sum = _mm256_add_epi16(*sum, products);
                    }
                }
            }
            for row in 0..ROWS {
                for register in 0..FULL {
                    let pairs = _mm256_madd_epi16(halves[row][register], _mm256_set1_epi16(1));
                    totals[row][register] = _mm256_add_epi32(totals[row][register], pairs);
                }
            }
        }
        if call.suspend {
            for row in 0..ROWS {
                for register in 0..FULL {
                    let place = sums.add((row * FULL + register) * LANES);
                    _mm256_storeu_si256(place.cast(), totals[row][register]);
                }
            }
            return;
        }
        for register in 0..FULL {
            let place = call.best.add(register * LANES);
            let mut maximum = _mm256_loadu_ps(place);
            for row in 0..ROWS {
                let scale = _mm256_set1_ps(call.scales.add(row).read_unaligned());
                let similarities = _mm256_mul_ps(_mm256_cvtepi32_ps(totals[row][register]), scale);
                // The second operand is the one kept when either is NaN.
                maximum = _mm256_max_ps(similarities, maximum);
            }
            _mm256_storeu_ps(place, maximum);
        }
    }
}

/// Signs to codes of 2 and 0, of bias 1. See [`Unpacker`](crate::unpack::Unpacker).
#[target_feature(enable = "avx2")]
unsafe fn signs(unpack: &Unpack) {
    const LANES: usize = 32;
    // Byte i of a register looks at bit i mod 8 of stored byte i / 8.
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let bytes = _mm256_setr_epi64x(
        0,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    for row in 0..unpack.rows {
        // SAFETY: `Unpacker` promises both extents; whole registers first, then no more than are left.
        unsafe {
            let from = unpack.from.add(row * unpack.row_size);
            let to = unpack.to.add(row).cast::<u8>();
            let whole = unpack.len / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                let stored = _mm256_set1_epi32(from.add(at / 8).cast::<i32>().read_unaligned());
                let stored = _mm256_and_si256(_mm256_shuffle_epi8(stored, bytes), bits);
                let plus = _mm256_and_si256(_mm256_cmpeq_epi8(stored, bits), _mm256_set1_epi8(2));
                _mm256_storeu_si256(to.add(at).cast(), plus);
            }
            for at in whole..unpack.len {
                *to.add(at) = 2 * (*from.add(at / 8) >> (at % 8) & 1);
            }
        }
    }
}
