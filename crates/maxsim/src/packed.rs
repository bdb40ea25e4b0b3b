//! The driver of the block routines: packs the query for them, walks the document, adds up the maxima.
//!
//! Documents whose rows a routine can read in place are read so. Otherwise (rows of unusual length, documents
//! shorter than a block, elements the routine does not read) a block of rows is unpacked into scratch memory that
//! stays in the innermost cache. A last partial block is done by doing the last full block: seeing a token twice
//! changes no maximum.
//!
//! Lengths are in units of four bytes, as in [`arch`](crate::arch).

use crate::arch::{Block, CHUNK, Call, Routines, STEP, Shape};
use crate::int8;

/// The largest `Routines::rows`.
const MAX_ROWS: usize = 12;
/// Maxima kept on the stack; longer queries take them from the heap.
const STACK_WIDTH: usize = 256;

/// A query as the block routines read it: tiles of `[step][register][lane]`.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    routines: &'static Routines,
    /// Units of a token.
    units: usize,
    tiles: Vec<Tile>,
    /// The sum of all tiles' widths.
    width: usize,
    lines: Vec<Line>,
    /// Codes only: what each lane's sums begin with, all tiles' widths.
    offsets: Vec<i32>,
    /// Codes only: what each token's maximum is multiplied by.
    scales: Vec<f32>,
}

/// Keeps packed registers from straddling cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u32; LINE]);

const LINE: usize = 16;

#[derive(Debug, Clone)]
struct Tile {
    shape: Shape,
    /// How many of its tokens exist; the others are zero.
    tokens: usize,
    /// Where its packed units begin, in lines.
    start: usize,
    scratch: Block,
    in_place: Option<Block>,
}

/// Rows that need no unpacking, and the factors that go with them.
pub(crate) struct Rows<'a> {
    /// m tokens of `units` units each.
    pub(crate) units: &'a [u8],
    /// Codes only: m factors, f32 little-endian.
    pub(crate) scales: &'a [u8],
}

/// A document that is unpacked block by block.
pub(crate) struct Source<'a, U> {
    /// m, at least 1.
    pub(crate) tokens: usize,
    /// `unpack(row, unit, out)` writes `out.len()` units of a row, from `unit` on.
    pub(crate) unpack: U,
    /// As in [`Rows`].
    pub(crate) scales: &'a [u8],
    /// The stored bytes, for prefetching.
    pub(crate) bytes: &'a [u8],
}

impl Packed {
    /// Packs n × `dim` row-major values for f32 routines.
    pub(crate) fn dense(routines: &'static Routines, values: &[f32], dim: usize) -> Packed {
        Packed::new(routines, values.len() / dim, dim, |token, unit| {
            values[token * dim + unit].to_bits()
        })
    }

    /// Packs n × `dim` row-major values, rounded to signed bytes, for routines that multiply codes.
    pub(crate) fn codes(routines: &'static Routines, values: &[f32], dim: usize) -> Packed {
        let scales: Vec<f32> = values.chunks_exact(dim).map(int8::scale).collect();
        let code = |token: usize, k: usize| int8::code(values[token * dim + k], scales[token]);
        let unit = |token: usize, unit: usize| {
            let component = |k: usize| if k < dim { code(token, k) as u8 } else { 0 };
            u32::from_le_bytes(std::array::from_fn(|byte| component(unit * 4 + byte)))
        };
        let mut packed = Packed::new(routines, scales.len(), dim.div_ceil(4), unit);
        // A stored code is 128 too large, which adds 128 × (the sum of the query's codes) to every product.
        let offset = |token| {
            -i32::from(int8::BIAS) * (0..dim).map(|k| i32::from(code(token, k))).sum::<i32>()
        };
        let mut first = 0;
        for tile in &packed.tiles {
            let start = packed.offsets.len();
            packed
                .offsets
                .resize(start + tile.shape.width(routines.lanes), 0);
            for token in 0..tile.tokens {
                packed.offsets[start + lane(tile.shape, routines.lanes, token)] =
                    offset(first + token);
            }
            first += tile.tokens;
        }
        packed.scales = scales;
        packed
    }

    fn new(
        routines: &'static Routines,
        tokens: usize,
        units: usize,
        unit: impl Fn(usize, usize) -> u32,
    ) -> Packed {
        assert!(routines.rows <= MAX_ROWS && routines.lanes <= LINE);
        let (lanes, steps) = (routines.lanes, units.div_ceil(STEP));
        let mut packed = Packed {
            routines,
            units,
            tiles: Vec::new(),
            width: 0,
            lines: Vec::new(),
            offsets: Vec::new(),
            scales: Vec::new(),
        };
        let mut first = 0;
        for shape in (routines.tiles)(tokens) {
            let start = packed.lines.len();
            packed.lines.resize(
                start + (steps * shape.step_len(lanes)).div_ceil(LINE),
                Line([0; LINE]),
            );
            let lines = &mut packed.lines[start..];
            let used = shape.tokens(lanes).min(tokens - first);
            for (token, k) in (0..used).flat_map(|token| (0..units).map(move |k| (token, k))) {
                let at = place(shape, lanes, token, k);
                lines[at / LINE].0[at % LINE] = unit(first + token, k);
            }
            packed.tiles.push(Tile {
                shape,
                tokens: used,
                start,
                scratch: (routines.block)(shape, CHUNK),
                in_place: routines
                    .in_place
                    .contains(&units)
                    .then(|| (routines.block)(shape, units)),
            });
            packed.width += shape.width(lanes);
            first += used;
        }
        assert_eq!(first, tokens, "tiles cover all tokens");
        packed
    }

    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Line>() * self.lines.capacity()
            + size_of::<Tile>() * self.tiles.capacity()
            + size_of::<i32>() * self.offsets.capacity()
            + size_of::<f32>() * self.scales.capacity()
    }

    /// Scores a document in place, if the routines can: its rows are of a length they know, and fill a block.
    pub(crate) fn score_in_place(&self, rows: &Rows) -> Option<f64> {
        let row_size = 4 * self.units;
        let tokens = rows.units.len() / row_size;
        if self.tiles[0].in_place.is_none() || tokens < self.routines.rows {
            return None;
        }
        Some(self.with_maxima(|best| {
            for first in self.blocks(tokens) {
                let block = &rows.units[first * row_size..][..self.routines.rows * row_size];
                let call = Call {
                    rows: block.as_ptr(),
                    steps: self.units / STEP,
                    scales: self.scales_from(rows.scales, first),
                    ahead: block.as_ptr_range().end,
                    ..EMPTY
                };
                // SAFETY: the slice above holds the rows, a row length apart; nothing is resumed or suspended.
                unsafe { self.run(call, 0, true, best) };
            }
        }))
    }

    /// Scores a document by unpacking its blocks one after another.
    #[inline(always)]
    pub(crate) fn score_unpacked<U: Fn(usize, usize, &mut [u32])>(
        &self,
        source: &Source<U>,
    ) -> f64 {
        let mut scratch = Scratch([[0; CHUNK]; MAX_ROWS]);
        // Rows longer than a chunk take several passes, the sums of which wait in memory.
        let waiting = if self.units > CHUNK {
            self.routines.rows * self.width
        } else {
            0
        };
        let mut sums = vec![0u32; waiting];
        // A short document repeats its last token, and so its factor.
        let mut scales = [0.0f32; MAX_ROWS];
        self.with_maxima(|best| {
            for first in self.blocks(source.tokens) {
                let row = |row: usize| (first + row).min(source.tokens - 1);
                if !self.scales.is_empty() {
                    for (at, scale) in scales.iter_mut().enumerate().take(self.routines.rows) {
                        *scale = f32::from_le_bytes(source.scales.as_chunks().0[row(at)]);
                    }
                }
                for unit in (0..self.units).step_by(CHUNK) {
                    let len = CHUNK.min(self.units - unit);
                    for (at, units) in scratch.0.iter_mut().enumerate().take(self.routines.rows) {
                        (source.unpack)(row(at), unit, &mut units[..len]);
                        // What an earlier pass left there could be NaN, which zero times is not zero.
                        units[len..len.next_multiple_of(STEP)].fill(0);
                    }
                    let call = Call {
                        rows: scratch.0.as_ptr().cast(),
                        steps: len.div_ceil(STEP),
                        resume: unit > 0,
                        suspend: unit + len < self.units,
                        sums: sums.as_mut_ptr(),
                        scales: scales.as_ptr(),
                        ahead: self.ahead(source, first, unit),
                        ..EMPTY
                    };
                    // SAFETY: scratch holds the rows, CHUNK apart, written just now up to the step's end; sums
                    // has rows × width values whenever there is more than one pass.
                    unsafe { self.run(call, unit, false, best) };
                }
            }
        })
    }

    /// Where the part of the next block begins that the pass from `unit` on should prefetch.
    fn ahead<U>(&self, source: &Source<U>, first: usize, unit: usize) -> *const u8 {
        let token = source.bytes.len() / source.tokens;
        let next = (first + self.routines.rows) * token + self.routines.rows * unit * 4;
        source
            .bytes
            .as_ptr()
            .wrapping_add(next.min(source.bytes.len()))
    }

    /// The factors of a block in place.
    fn scales_from(&self, scales: &[u8], first: usize) -> *const f32 {
        if self.scales.is_empty() {
            return std::ptr::null();
        }
        scales[first * int8::SCALE..][..self.routines.rows * int8::SCALE]
            .as_ptr()
            .cast()
    }

    /// The first rows of the blocks that cover a document, the last moved back to end where the document ends.
    fn blocks(&self, tokens: usize) -> impl Iterator<Item = usize> + use<> {
        let last = tokens.saturating_sub(self.routines.rows);
        (0..tokens)
            .step_by(self.routines.rows)
            .map(move |first| first.min(last))
    }

    /// Runs every tile over one block, the query from `unit` on.
    ///
    /// # Safety
    /// `call.rows` is valid for `Routines::rows` rows of `steps × STEP` units, a row length apart when in place (and
    /// then the routines know that length) and CHUNK apart otherwise; `call.sums` for rows × width units when a flag
    /// asks for it; `call.scales` for `rows` factors when the query is of codes.
    #[inline]
    unsafe fn run(&self, call: Call, unit: usize, in_place: bool, best: &mut [f32]) {
        let mut at = 0;
        for tile in &self.tiles {
            let width = tile.shape.width(self.routines.lanes);
            let skipped = unit / STEP * tile.shape.step_len(self.routines.lanes);
            let block = match tile.in_place {
                Some(block) if in_place => block,
                _ => tile.scratch,
            };
            let call = Call {
                query: self.lines[tile.start..]
                    .as_ptr()
                    .cast::<u32>()
                    .wrapping_add(skipped),
                sums: call.sums.wrapping_add(at * self.routines.rows),
                best: best[at..at + width].as_mut_ptr(),
                offsets: self.offsets.as_ptr().wrapping_add(at),
                ..call
            };
            // SAFETY: the packed units of a tile cover all steps, the slices hold width values; the rest is the
            // caller's promise.
            unsafe { block(&call) };
            at += width;
        }
    }

    /// Lends maxima of −∞ to `raise` and adds up what it made of them.
    #[inline(always)]
    fn with_maxima(&self, raise: impl FnOnce(&mut [f32])) -> f64 {
        if self.width <= STACK_WIDTH {
            let mut best = [f32::NEG_INFINITY; STACK_WIDTH];
            raise(&mut best[..self.width]);
            self.add_up(&best)
        } else {
            let mut best = vec![f32::NEG_INFINITY; self.width];
            raise(&mut best);
            self.add_up(&best)
        }
    }

    fn add_up(&self, mut best: &[f32]) -> f64 {
        let mut sum = 0.0;
        let mut scales = self.scales.iter();
        for tile in &self.tiles {
            let (of_tile, rest) = best.split_at(tile.shape.width(self.routines.lanes));
            let (full, phased) = of_tile.split_at(tile.shape.full * self.routines.lanes);
            let phased = phased
                .chunks_exact(STEP)
                .map(|four| four.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            for maximum in full.iter().copied().chain(phased).take(tile.tokens) {
                sum += f64::from(maximum) * scales.next().map_or(1.0, |&scale| f64::from(scale));
            }
            best = rest;
        }
        sum
    }
}

/// The lane of a tile's sums that begins a token's: the only one, or the first of four.
fn lane(shape: Shape, lanes: usize, token: usize) -> usize {
    let full = shape.full * lanes;
    if token < full {
        token
    } else {
        full + (token - full) * STEP
    }
}

/// Where a tile's packed units hold unit `k` of a token.
fn place(shape: Shape, lanes: usize, token: usize, k: usize) -> usize {
    let (step, phase, full) = (
        k / STEP * shape.step_len(lanes),
        k % STEP,
        shape.full * lanes,
    );
    if token < full {
        step + phase * full + token
    } else {
        step + STEP * full + (token - full) * STEP + phase
    }
}

/// A block of unpacked rows.
#[repr(align(64))]
struct Scratch([[u32; CHUNK]; MAX_ROWS]);

const EMPTY: Call = Call {
    query: std::ptr::null(),
    rows: std::ptr::null(),
    steps: 0,
    resume: false,
    suspend: false,
    sums: std::ptr::null_mut(),
    best: std::ptr::null_mut(),
    offsets: std::ptr::null(),
    scales: std::ptr::null(),
    ahead: std::ptr::null(),
};
