//! The driver of the block routines: packs the query for them, walks the document, adds up the maxima.
//!
//! Documents whose rows a routine can read in place are read so. Otherwise (rows of unusual length, documents
//! shorter than a block, elements the routine does not read) a block of rows is unpacked into scratch memory that
//! stays in the innermost cache. A last partial block is done by doing the last full block: seeing a token twice
//! changes no maximum.
//!
//! Lengths are in units of four bytes, as in [`arch`](crate::arch).

use crate::arch::{Block, CHUNK, Call, Codes, Routines, STEP, Shape};
use crate::int8;
use crate::unpack::{Unpack, Unpacker};

/// The largest `Routines::rows`.
pub(crate) const MAX_ROWS: usize = 12;
/// Components of a document scored between two polls: a millisecond's work with 64 query tokens and no SIMD.
pub(crate) const POLL_COMPONENTS: usize = 1 << 18;
/// Maxima kept on the stack; longer queries take them from the heap.
const STACK_WIDTH: usize = 256;

/// A query as the block routines read it: tiles of `[step][register][lane]`.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) routines: &'static Routines,
    dim: usize,
    /// Components of a unit.
    components: usize,
    /// Units of a token.
    pub(crate) units: usize,
    pub(crate) tiles: Vec<Tile>,
    /// The sum of all tiles' widths.
    pub(crate) width: usize,
    lines: Vec<Line>,
    /// Codes only: what each lane's sums begin with, all tiles' widths.
    offsets: Vec<i32>,
    /// Codes only: what each token's maximum is multiplied by.
    pub(crate) scales: Vec<f32>,
}

/// Keeps packed registers from straddling cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u32; LINE]);

const LINE: usize = 16;

#[derive(Debug, Clone)]
pub(crate) struct Tile {
    pub(crate) shape: Shape,
    /// How many of its tokens exist; the others are zero.
    pub(crate) tokens: usize,
    /// Where its packed units begin, in lines.
    start: usize,
    scratch: Block,
    in_place: Option<Block>,
}

/// A document: rows of stored components.
pub(crate) struct Document<'a> {
    /// m, at least 1.
    pub(crate) tokens: usize,
    /// m rows, nothing between them.
    pub(crate) rows: &'a [u8],
    /// Bits of a stored component.
    pub(crate) component_bits: usize,
    /// Writes rows as the routines read them.
    pub(crate) unpack: Unpacker,
    /// A factor per token.
    pub(crate) scales: Scales<'a>,
    /// Called after every [`POLL_COMPONENTS`]; may unwind.
    pub(crate) poll: fn(),
}

/// What the similarities of a document's tokens are multiplied by.
#[derive(Clone, Copy)]
pub(crate) enum Scales<'a> {
    /// Nothing.
    None,
    /// m factors, f32 little-endian.
    Floats(&'a [u8]),
    /// m codes, factors in the unit given.
    Codes(&'a [u8], f32),
}

impl Scales<'_> {
    #[inline]
    pub(crate) fn read(&self, first: usize, scales: &mut [f32]) {
        match self {
            Scales::None => {}
            Scales::Floats(bytes) => {
                let bytes = &bytes.as_chunks().0[first..];
                scales
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(scale, bytes)| *scale = f32::from_le_bytes(*bytes));
            }
            Scales::Codes(codes, unit) => {
                let codes = &codes[first..];
                scales
                    .iter_mut()
                    .zip(codes)
                    .for_each(|(scale, &code)| *scale = f32::from(code) * unit);
            }
        }
    }
}

impl Packed {
    /// Packs n × `dim` row-major values for f32 routines.
    pub(crate) fn dense(routines: &'static Routines, values: &[f32], dim: usize) -> Packed {
        Packed::new(routines, values.len() / dim, dim, 1, |token, unit| {
            values[token * dim + unit].to_bits()
        })
    }

    /// Packs n × `dim` row-major values, rounded to signed bytes, for routines that multiply codes.
    pub(crate) fn codes(codes: &'static Codes, values: &[f32], dim: usize) -> Packed {
        let scales: Vec<f32> = values.chunks_exact(dim).map(int8::scale).collect();
        // Rows of whole units, the rest of the last zero.
        let row_len = dim.next_multiple_of(4);
        let mut rounded = vec![0i8; scales.len() * row_len];
        for ((to, from), &scale) in rounded
            .chunks_exact_mut(row_len)
            .zip(values.chunks_exact(dim))
            .zip(&scales)
        {
            to.iter_mut()
                .zip(from)
                .for_each(|(to, &value)| *to = int8::code(value, scale));
        }
        let unit = |token: usize, unit: usize| {
            let at = token * row_len + 4 * unit;
            u32::from_le_bytes(std::array::from_fn(|byte| rounded[at + byte] as u8))
        };
        let mut packed = Packed::new(&codes.routines, scales.len(), dim, 4, unit);
        // The bias of a document's codes adds bias × (the sum of the query's codes) to every product.
        let offset = |token: usize| {
            let row = &rounded[token * row_len..][..row_len];
            -i32::from(codes.bias) * row.iter().map(|&code| i32::from(code)).sum::<i32>()
        };
        let (lanes, mut first) = (codes.routines.lanes, 0);
        for tile in &packed.tiles {
            let start = packed.offsets.len();
            packed.offsets.resize(start + tile.shape.width(lanes), 0);
            for token in 0..tile.tokens {
                packed.offsets[start + lane(tile.shape, lanes, token)] = offset(first + token);
            }
            first += tile.tokens;
        }
        packed.scales = scales;
        packed
    }

    fn new(
        routines: &'static Routines,
        tokens: usize,
        dim: usize,
        components: usize,
        unit: impl Fn(usize, usize) -> u32,
    ) -> Packed {
        assert!(routines.rows <= MAX_ROWS && routines.lanes <= LINE);
        let units = dim.div_ceil(components);
        let (lanes, steps) = (routines.lanes, units.div_ceil(STEP));
        // With a rest in the last unit, rows in place would bring in the next row's components.
        let in_place = routines.in_place.contains(&units) && units * components == dim;
        let mut packed = Packed {
            routines,
            dim,
            components,
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
                in_place: in_place.then(|| (routines.block)(shape, units)),
            });
            packed.width += shape.width(lanes);
            first += used;
        }
        assert_eq!(first, tokens, "tiles cover all tokens");
        packed
    }

    /// The number of query tokens.
    pub(crate) fn tokens(&self) -> usize {
        self.tiles.iter().map(|tile| tile.tokens).sum()
    }

    /// Whether documents stored as the routines read them need no unpacking.
    pub(crate) fn reads_in_place(&self) -> bool {
        self.tiles[0].in_place.is_some()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Line>() * self.lines.capacity()
            + size_of::<Tile>() * self.tiles.capacity()
            + size_of::<i32>() * self.offsets.capacity()
            + size_of::<f32>() * self.scales.capacity()
    }

    /// Scores a document whose rows are stored as the routines read them, in place where that can be.
    pub(crate) fn score_in_place(&self, document: &Document) -> f64 {
        let rows = self.routines.rows;
        if !self.reads_in_place() || document.tokens < rows {
            return self.score(document);
        }
        let row_size = 4 * self.units;
        let mut scales = [0.0f32; MAX_ROWS];
        self.with_maxima(|best| {
            for first in self.blocks(document, rows) {
                let block = &document.rows[first * row_size..][..rows * row_size];
                document.scales.read(first, &mut scales[..rows]);
                let call = Call {
                    rows: block.as_ptr(),
                    steps: self.units / STEP,
                    scales: scales.as_ptr(),
                    ahead: block.as_ptr_range().end,
                    ..EMPTY
                };
                // SAFETY: the slice above holds the rows, a row length apart; nothing is resumed or suspended.
                unsafe { self.run(call, 0, true, best) };
            }
        })
    }

    /// Scores a document by unpacking its blocks one after another.
    pub(crate) fn score(&self, document: &Document) -> f64 {
        let rows = self.routines.rows.min(document.tokens);
        let row_size = document.rows.len() / document.tokens;
        let mut scratch = Scratch([[0; CHUNK]; MAX_ROWS]);
        let mut scales = [0.0f32; MAX_ROWS];
        // Rows longer than a chunk take several passes, the sums of which wait in memory.
        let waiting = if self.units > CHUNK {
            self.routines.rows * self.width
        } else {
            0
        };
        let mut sums = vec![0u32; waiting];
        self.with_maxima(|best| {
            for first in self.blocks(document, rows) {
                document.scales.read(first, &mut scales[..rows]);
                for row in rows..self.routines.rows {
                    scales[row] = scales[rows - 1];
                }
                for unit in (0..self.units).step_by(CHUNK) {
                    let len = CHUNK.min(self.units - unit);
                    self.unpack(document, first, rows, unit, &mut scratch, &scales);
                    let ahead = (first + rows) * row_size + 4 * unit * rows;
                    let call = Call {
                        rows: scratch.0.as_ptr().cast(),
                        steps: len.div_ceil(STEP),
                        resume: unit > 0,
                        suspend: unit + len < self.units,
                        sums: sums.as_mut_ptr(),
                        scales: scales.as_ptr(),
                        ahead: document.rows.as_ptr().wrapping_add(ahead),
                        ..EMPTY
                    };
                    // SAFETY: scratch holds the rows, CHUNK apart, written just now up to the step's end; sums
                    // has rows × width values whenever there is more than one pass.
                    unsafe { self.run(call, unit, false, best) };
                }
            }
        })
    }

    /// The first rows of the blocks that cover a document, the last moved back to end where the document ends.
    pub(crate) fn blocks(&self, document: &Document, rows: usize) -> impl Iterator<Item = usize> {
        let (tokens, poll) = (document.tokens, document.poll);
        let blocks_per_poll = (POLL_COMPONENTS / (rows * self.dim)).max(1);
        let mut until_poll = blocks_per_poll;
        (0..tokens).step_by(rows).map(move |first| {
            if until_poll == 0 {
                poll();
                until_poll = blocks_per_poll;
            }
            until_poll -= 1;
            first.min(tokens - rows)
        })
    }

    /// Fills scratch with a chunk of `rows` rows from `first` on, and the last of them again up to a whole block.
    pub(crate) fn unpack(
        &self,
        document: &Document,
        first: usize,
        rows: usize,
        unit: usize,
        scratch: &mut Scratch,
        scales: &[f32; MAX_ROWS],
    ) {
        let row_size = document.rows.len() / document.tokens;
        let bytes = &document.rows[first * row_size..][..rows * row_size];
        let component = unit * self.components;
        let len = (CHUNK * self.components).min(self.dim - component);
        let unpack = Unpack {
            from: bytes[component * document.component_bits / 8..].as_ptr(),
            row_size,
            to: scratch.0.as_mut_ptr(),
            rows,
            len,
            scales: scales.as_ptr(),
        };
        // SAFETY: the slice holds `rows` rows, of which components up to dim are read; scratch has room for as many
        // rows of CHUNK units; there are MAX_ROWS scales; the routines are those of an available kernel.
        unsafe { (document.unpack)(&unpack) };
        // What an earlier pass left behind could be NaN, which zero times is not zero.
        let units = len.div_ceil(self.components);
        if !units.is_multiple_of(STEP) {
            for row in &mut scratch.0[..rows] {
                row[units..units.next_multiple_of(STEP)].fill(0);
            }
        }
        for row in rows..self.routines.rows {
            scratch.0[row] = scratch.0[rows - 1];
        }
    }

    /// Runs every tile over one block, the query from `unit` on.
    ///
    /// # Safety
    /// `call.rows` is valid for `Routines::rows` rows of `steps × STEP` units, a row length apart when in place (and
    /// then the routines know that length) and CHUNK apart otherwise; `call.sums` for rows × width units when a flag
    /// asks for it; `call.scales` for `rows` factors when the query is of codes.
    #[inline]
    pub(crate) unsafe fn run(&self, call: Call, unit: usize, in_place: bool, best: &mut [f32]) {
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
pub(crate) struct Scratch(pub(crate) [[u32; CHUNK]; MAX_ROWS]);

pub(crate) const EMPTY: Call = Call {
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
