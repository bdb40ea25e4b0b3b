//! The driver of the f32 block routines: packs the query for them, walks the document, adds up the maxima.
//!
//! Documents whose rows a routine can read in place are read so. Otherwise (rows of unusual length, documents
//! shorter than a block, compact element types) a block of rows is unpacked into scratch memory that stays in the
//! innermost cache. A last partial block is done by doing the last full block: seeing a token twice changes no maximum.

use std::mem::MaybeUninit;

use crate::arch::{Arch, Block, CHUNK, IN_PLACE, Pass, STEP, Shape};

/// The largest `Arch::rows`.
const MAX_ROWS: usize = 12;
/// Maxima kept on the stack; longer queries take them from the heap.
const STACK_WIDTH: usize = 256;

/// A query as the block routines read it: tiles of `[step][register][lane]`.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    arch: &'static Arch,
    dim: usize,
    tiles: Vec<Tile>,
    /// The sum of all tiles' widths.
    width: usize,
    data: Vec<Line>,
}

/// Keeps packed registers from straddling cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

#[derive(Debug, Clone)]
struct Tile {
    shape: Shape,
    /// How many of its tokens exist; the others are zero.
    tokens: usize,
    /// Where its packed values begin, in lines.
    start: usize,
    scratch: Block,
    in_place: Option<Block>,
}

/// One block's share of the work, done for every tile.
struct Work {
    /// The first component of the query that takes part.
    k: usize,
    steps: usize,
    pass: Pass,
    rows: *const f32,
    in_place: bool,
}

impl Packed {
    /// Packs n × `dim` row-major values.
    pub(crate) fn new(arch: &'static Arch, values: &[f32], dim: usize) -> Packed {
        assert!(arch.rows <= MAX_ROWS && arch.lanes <= LINE);
        let steps = dim.div_ceil(STEP);
        let mut packed = Packed {
            arch,
            dim,
            tiles: Vec::new(),
            width: 0,
            data: Vec::new(),
        };
        let mut rest = values;
        for shape in (arch.tiles)(values.len() / dim) {
            let len = rest.len().min(shape.tokens(arch.lanes) * dim);
            let (rows, after) = rest.split_at(len);
            let start = packed.data.len();
            let lines = (steps * shape.step_len(arch.lanes)).div_ceil(LINE);
            packed.data.resize(start + lines, Line([0.0; LINE]));
            fill(&mut packed.data[start..], shape, arch.lanes, rows, dim);
            packed.tiles.push(Tile {
                shape,
                tokens: len / dim,
                start,
                scratch: (arch.block)(shape, CHUNK),
                in_place: IN_PLACE.contains(&dim).then(|| (arch.block)(shape, dim)),
            });
            packed.width += shape.width(arch.lanes);
            rest = after;
        }
        assert!(rest.is_empty(), "tiles cover all tokens");
        packed
    }

    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Line>() * self.data.capacity() + size_of::<Tile>() * self.tiles.capacity()
    }

    /// Scores m × dim row-major values; m > 0.
    pub(crate) fn score(&self, document: &[f32]) -> f64 {
        let tokens = document.len() / self.dim;
        let in_place = self.tiles[0].in_place.is_some() && tokens >= self.arch.rows;
        if !in_place {
            return self.score_unpacked(tokens, |row, k, out| {
                out.copy_from_slice(&document[row * self.dim + k..][..out.len()]);
            });
        }
        self.with_maxima(|best| {
            for first in self.blocks(tokens) {
                let work = Work {
                    k: 0,
                    steps: self.dim / STEP,
                    pass: Pass {
                        resume: false,
                        suspend: false,
                    },
                    rows: document[first * self.dim..][..self.arch.rows * self.dim].as_ptr(),
                    in_place: true,
                };
                // SAFETY: the slice above holds the rows, `dim` apart; nothing is resumed or suspended.
                unsafe { self.run(&work, std::ptr::null_mut(), best) };
            }
        })
    }

    /// Scores a document of any form. `unpack(row, k, out)` writes components `k..k + out.len()` of a row.
    #[inline(always)]
    pub(crate) fn score_unpacked(
        &self,
        tokens: usize,
        unpack: impl Fn(usize, usize, &mut [f32]),
    ) -> f64 {
        let mut scratch = Scratch::new();
        // Rows longer than a chunk take several passes, the sums of which wait in memory.
        let waiting = if self.dim > CHUNK {
            self.arch.rows * self.width
        } else {
            0
        };
        let mut sums = vec![0.0f32; waiting];
        self.with_maxima(|best| {
            for first in self.blocks(tokens) {
                for k in (0..self.dim).step_by(CHUNK) {
                    let len = CHUNK.min(self.dim - k);
                    for row in 0..self.arch.rows {
                        // A document shorter than a block repeats its last token.
                        unpack((first + row).min(tokens - 1), k, scratch.row(row, len));
                    }
                    let work = Work {
                        k,
                        steps: len.div_ceil(STEP),
                        pass: Pass {
                            resume: k > 0,
                            suspend: k + len < self.dim,
                        },
                        rows: scratch.as_ptr(),
                        in_place: false,
                    };
                    // SAFETY: scratch holds the rows, CHUNK apart, written just now up to the step's end; sums
                    // has rows × width values whenever there is more than one pass.
                    unsafe { self.run(&work, sums.as_mut_ptr(), best) };
                }
            }
        })
    }

    /// The first rows of the blocks that cover a document, the last moved back to end where the document ends.
    fn blocks(&self, tokens: usize) -> impl Iterator<Item = usize> + use<> {
        let last = tokens.saturating_sub(self.arch.rows);
        (0..tokens)
            .step_by(self.arch.rows)
            .map(move |first| first.min(last))
    }

    /// Runs every tile over one block.
    ///
    /// # Safety
    /// `work.rows` is valid for [`Arch::rows`] rows of `steps × STEP` values, dim apart when in place (and then dim
    /// has a routine) and CHUNK apart otherwise; `sums` for rows × width values when the pass uses it.
    #[inline]
    unsafe fn run(&self, work: &Work, sums: *mut f32, best: &mut [f32]) {
        let mut at = 0;
        for tile in &self.tiles {
            let width = tile.shape.width(self.arch.lanes);
            let skipped = work.k / STEP * tile.shape.step_len(self.arch.lanes);
            let block = match tile.in_place {
                Some(block) if work.in_place => block,
                _ => tile.scratch,
            };
            let best = &mut best[at..at + width];
            // SAFETY: the packed values of a tile cover all steps of dim; the rest is the caller's promise.
            unsafe {
                let query = self.data[tile.start..].as_ptr().cast::<f32>().add(skipped);
                let sums = sums.wrapping_add(at * self.arch.rows);
                block(
                    query,
                    work.rows,
                    work.steps,
                    work.pass,
                    sums,
                    best.as_mut_ptr(),
                );
            }
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
        for tile in &self.tiles {
            let (of_tile, rest) = best.split_at(tile.shape.width(self.arch.lanes));
            let (full, phased) = of_tile.split_at(tile.shape.full * self.arch.lanes);
            let phased = phased
                .chunks_exact(STEP)
                .map(|four| four.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let maxima = full.iter().copied().chain(phased);
            sum += maxima.take(tile.tokens).map(f64::from).sum::<f64>();
            best = rest;
        }
        sum
    }
}

/// Writes one tile's rows into zeroed lines.
fn fill(lines: &mut [Line], shape: Shape, lanes: usize, rows: &[f32], dim: usize) {
    let mut put = |at: usize, value: f32| lines[at / LINE].0[at % LINE] = value;
    for (token, row) in rows.chunks_exact(dim).enumerate() {
        for (k, &value) in row.iter().enumerate() {
            let (step, phase) = (k / STEP * shape.step_len(lanes), k % STEP);
            if token < shape.full * lanes {
                put(step + phase * shape.full * lanes + token, value);
            } else {
                let lane = (token - shape.full * lanes) * STEP + phase;
                put(step + STEP * shape.full * lanes + lane, value);
            }
        }
    }
}

/// A block of unpacked rows, CHUNK apart. Uninitialised at first: clearing it would cost as much as a short document.
struct Scratch {
    values: MaybeUninit<Aligned>,
}

#[repr(align(64))]
struct Aligned {
    _values: [f32; MAX_ROWS * CHUNK],
}

impl Scratch {
    fn new() -> Scratch {
        Scratch {
            values: MaybeUninit::uninit(),
        }
    }

    /// The first `len` values of a row, zeroed and padded with zeros to a whole step.
    #[inline(always)]
    fn row(&mut self, row: usize, len: usize) -> &mut [f32] {
        assert!(row < MAX_ROWS && len <= CHUNK);
        let start = self
            .values
            .as_mut_ptr()
            .cast::<f32>()
            .wrapping_add(row * CHUNK);
        // SAFETY: row × CHUNK + len lies within the array, zeroed here before a reference to it is made.
        unsafe {
            start.write_bytes(0, len.next_multiple_of(STEP));
            std::slice::from_raw_parts_mut(start, len)
        }
    }

    fn as_ptr(&self) -> *const f32 {
        self.values.as_ptr().cast()
    }
}
