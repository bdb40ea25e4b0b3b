//! Products of few query tokens with int8 tokens, in plain Rust.
//!
//! The block routines keep a query token per lane, so one or two tokens leave most lanes empty, and unpacking rows for
//! them costs more than it saves. Here the lanes are components. For looking one document's tokens up among centroids, and
//! short queries' tables of them.

use crate::int8;

/// Query tokens up to which this is used: half of an AVX2 register.
pub(crate) const MOST: usize = 4;
/// Two registers of AVX2: additions of one do not wait for the other's.
const LANES: usize = 16;

/// Some rows of an int8 document, and the query tokens they are multiplied with.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    /// n × dim values.
    pub(crate) query: &'a [f32],
    pub(crate) dim: usize,
    /// m × dim codes, and m scales, f32 little-endian.
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [[u8; int8::SCALE]],
}

/// Writes m × n products, of at most [`MOST`] query tokens.
///
/// # Safety
/// The machine has the instruction set.
pub(crate) type Few = unsafe fn(&Rows, &mut [f32]);

/// The plain form, inlined into wrappers that enable one instruction set each.
#[inline(always)]
pub(crate) fn plain(rows: &Rows, products: &mut [f32]) {
    match rows.query.len() / rows.dim {
        1 => of::<1>(rows, products),
        2 => of::<2>(rows, products),
        3 => of::<3>(rows, products),
        4 => of::<4>(rows, products),
        tokens => unreachable!("{tokens} are not few"),
    }
}

#[inline(always)]
fn of<const N: usize>(rows: &Rows, products: &mut [f32]) {
    let token = |at: usize| rows.query[at * rows.dim..][..rows.dim].as_chunks::<LANES>();
    let tokens: [_; N] = std::array::from_fn(token);
    let codes = rows.codes.chunks_exact(rows.dim);
    for ((codes, scale), products) in codes.zip(rows.scales).zip(products.as_chunks_mut::<N>().0) {
        let (whole, rest) = codes.as_chunks::<LANES>();
        let scale = f32::from_le_bytes(*scale);
        // Scaled before they are added up: sums of codes could be too large where products are not.
        let component = |code: u8| int8::component(code, scale);
        let mut sums = [[0.0f32; LANES]; N];
        for (at, codes) in whole.iter().enumerate() {
            let components: [f32; LANES] = std::array::from_fn(|lane| component(codes[lane]));
            for (sums, (values, _)) in sums.iter_mut().zip(&tokens) {
                let values = &values[at];
                for lane in 0..LANES {
                    sums[lane] += components[lane] * values[lane];
                }
            }
        }
        for ((product, mut sums), (_, values)) in products.iter_mut().zip(sums).zip(&tokens) {
            for (sum, (&code, value)) in sums.iter_mut().zip(rest.iter().zip(*values)) {
                *sum += component(code) * value;
            }
            *product = total(sums);
        }
    }
}

/// In halves, which registers can be added in; one after the other takes as long as the products.
#[inline(always)]
fn total(sums: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|lane| sums[lane] + sums[lane + 8]);
    let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Defines `few` for one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! wrap {
    ($features:literal) => {
        /// See [`Few`](crate::few::Few).
        #[target_feature(enable = $features)]
        fn few(rows: &$crate::few::Rows, products: &mut [f32]) {
            $crate::few::plain(rows, products);
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use wrap;
