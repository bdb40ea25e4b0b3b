//! All similarities of a query with a document, where [`Query::score_f32`] and its kin keep only their maxima.
//!
//! For the index, which looks for nearest centroids and adds what it knows about a token before it takes the maximum.
//! The block routines are those of the scores: told to leave their sums, they do.

use std::ops::Range;

use crate::Query;
use crate::arch::{CHUNK, Call, Codes, STEP};
use crate::error::{Error, tokens};
use crate::packed::{Document, EMPTY, MAX_ROWS, POLL_COMPONENTS, Packed, Scales, Scratch};
use crate::{bit, few, int8};

impl Query {
    /// Writes ⟨`q_i`, `d_j`⟩ to `products[j * n + i]` for every token of an f32 document.
    ///
    /// # Shapes
    /// `document` is m × dim in row-major order, `products` m × n.
    ///
    /// # Errors
    /// [`Error::Empty`] for m = 0, [`Error::Ragged`] when dim does not divide the length.
    ///
    /// # Accuracy
    /// f32 products and sums, within `dim · ε · |q_i| · |d_j|`.
    ///
    /// # Panics
    /// When `products` is not m × n long.
    pub fn products_f32(&self, document: &[f32], products: &mut [f32]) -> Result<(), Error> {
        let tokens = tokens(document.len(), self.dim())?;
        // SAFETY: the bytes of initialised f32 are initialised bytes.
        let rows = unsafe {
            std::slice::from_raw_parts(document.as_ptr().cast::<u8>(), size_of_val(document))
        };
        let document = Document {
            tokens,
            rows,
            component_bits: 32,
            unpack: self.arch().dense.units,
            scales: Scales::None,
            poll: self.poll(),
        };
        self.dense().products(&document, true, products);
        Ok(())
    }

    /// Writes the products with the tokens `range` of a document that [`encode_int8`](crate::encode_int8) stored.
    ///
    /// Layout as in [`Query::products_f32`], accuracy of a product as in [`Query::score_int8`].
    ///
    /// # Errors
    /// [`Error::Empty`] and [`Error::Ragged`] as [`Query::score_int8`]; [`Error::Empty`] for an empty range.
    ///
    /// # Panics
    /// When the range goes beyond the document, or `products` has another length than the range × n.
    pub fn products_int8(
        &self,
        document: &[u8],
        range: Range<usize>,
        products: &mut [f32],
    ) -> Result<(), Error> {
        let dim = self.dim();
        let all = tokens(document.len(), int8::token_size(dim))?;
        let (scales, rows) = document.split_at(all * int8::SCALE);
        let scales = &scales[range.start * int8::SCALE..range.end * int8::SCALE];
        let rows = &rows[range.start * dim..range.end * dim];
        let of = |unpack| Document {
            tokens: range.len(),
            rows,
            component_bits: 8,
            unpack,
            scales: Scales::Floats(scales),
            poll: self.poll(),
        };
        if range.is_empty() {
            return Err(Error::Empty);
        }
        match &self.arch().codes {
            Some(
                codes @ Codes {
                    int8: Some(unpack), ..
                },
            ) => self.codes(codes).products(&of(*unpack), true, products),
            _ if self.tokens() <= few::MOST => self.few_products(rows, scales, products),
            _ => self
                .dense()
                .products(&of(self.arch().dense.int8), false, products),
        }
        Ok(())
    }

    fn few_products(&self, codes: &[u8], scales: &[u8], products: &mut [f32]) {
        let (dim, query) = (self.dim(), self.values());
        let scales = scales.as_chunks().0;
        assert_eq!(
            products.len(),
            scales.len() * self.tokens(),
            "room for every product"
        );
        let step = (POLL_COMPONENTS / dim).max(1);
        let parts = codes.chunks(step * dim).zip(scales.chunks(step));
        for ((codes, scales), products) in parts.zip(products.chunks_mut(step * self.tokens())) {
            let rows = few::Rows {
                query,
                dim,
                codes,
                scales,
            };
            // SAFETY: the machine can run the query's kernel.
            unsafe { (self.arch().dense.few)(&rows, products) };
            (self.poll())();
        }
    }

    /// Scores a document of tokens that are given by a shared part, of which the products are known, and by signs:
    /// `Σ_i max_j (shared[ids[j]][i] ± …)`, where ± … is the product with components of ± `scales[j]` × `unit`.
    ///
    /// # Shapes
    /// `scales` and `ids` (u16 little-endian) are m long; `signs` is m rows of ⌈dim / 8⌉ bytes as in
    /// [`bit`](mod@crate::bit); `shared` is any number of rows × n.
    ///
    /// # Errors
    /// [`Error::Empty`] for m = 0; [`Error::Ragged`] when there are not as many signs as m tokens take.
    ///
    /// # Accuracy
    /// As in [`Query::score_bit`]: the query may be rounded to bytes.
    ///
    /// # Panics
    /// When n is not a multiple of 4 (tokens of zeros change nothing), m ids are not given, or one of them has no row.
    pub fn score_residual(
        &self,
        (scales, unit): (&[u8], f32),
        signs: &[u8],
        shared: &[f32],
        ids: &[[u8; 2]],
    ) -> Result<f64, Error> {
        let tokens = tokens(signs.len(), bit::size(self.dim()))?;
        if tokens != scales.len() {
            return Err(Error::Ragged {
                len: signs.len(),
                dim: bit::size(self.dim()),
            });
        }
        assert!(self.tokens().is_multiple_of(STEP) && ids.len() == tokens);
        let of = |unpack| Document {
            tokens,
            rows: signs,
            component_bits: 1,
            unpack,
            scales: Scales::Codes(scales, unit),
            poll: self.poll(),
        };
        let (packed, document) = match &self.arch().codes {
            Some(codes) => (self.codes(codes), of(codes.signs)),
            None => (self.dense(), of(self.arch().dense.signs)),
        };
        let mut best = vec![[f32::NEG_INFINITY; STEP]; self.tokens() / STEP];
        packed.each_block(&document, false, |first, sums, scales, rows| {
            let row = |row: usize| {
                let id = usize::from(u16::from_le_bytes(ids[first + row]));
                shared[id * self.tokens()..][..self.tokens()].as_chunks().0
            };
            packed.raise_shifted(sums, &scales[..rows], row, &mut best);
        });
        Ok(best.as_flattened().iter().copied().map(f64::from).sum())
    }
}

impl Packed {
    /// Writes m × n products. `stored_as_read`: whether the rows are stored as the routines read them.
    fn products(&self, document: &Document, stored_as_read: bool, products: &mut [f32]) {
        let tokens = self.tokens();
        assert_eq!(
            products.len(),
            document.tokens * tokens,
            "room for every product"
        );
        self.each_block(document, stored_as_read, |first, sums, scales, rows| {
            self.deliver(
                sums,
                scales,
                &mut products[first * tokens..][..rows * tokens],
            );
        });
    }

    /// Lends the sums of one block after another: its first row, the sums, its scales, how many rows count.
    #[inline(always)]
    fn each_block(
        &self,
        document: &Document,
        stored_as_read: bool,
        mut lend: impl FnMut(usize, &[u32], &[f32; MAX_ROWS], usize),
    ) {
        let all = self.routines.rows;
        let in_place = stored_as_read && self.reads_in_place() && document.tokens >= all;
        let rows = all.min(document.tokens);
        let mut scratch = Scratch([[0; CHUNK]; MAX_ROWS]);
        let mut scales = [0.0f32; MAX_ROWS];
        let mut sums = vec![0u32; all * self.width];
        let mut best = vec![0.0f32; self.width]; // what a routine that leaves its sums does not touch
        for first in self.blocks(document, rows) {
            document.scales.read(first, &mut scales[..rows]);
            if in_place {
                let row_size = 4 * self.units;
                let block = &document.rows[first * row_size..][..rows * row_size];
                let call = Call {
                    rows: block.as_ptr(),
                    steps: self.units / STEP,
                    suspend: true,
                    sums: sums.as_mut_ptr(),
                    ahead: block.as_ptr_range().end,
                    ..EMPTY
                };
                // SAFETY: the slice above holds the rows, a row length apart; sums has rows × width values.
                unsafe { self.run(call, 0, true, &mut best) };
            } else {
                let row_size = document.rows.len() / document.tokens;
                for unit in (0..self.units).step_by(CHUNK) {
                    self.unpack(document, first, rows, unit, &mut scratch, &scales);
                    let ahead = (first + rows) * row_size + 4 * unit * rows;
                    let call = Call {
                        rows: scratch.0.as_ptr().cast(),
                        steps: CHUNK.min(self.units - unit).div_ceil(STEP),
                        resume: unit > 0,
                        suspend: true,
                        sums: sums.as_mut_ptr(),
                        ahead: document.rows.as_ptr().wrapping_add(ahead),
                        ..EMPTY
                    };
                    // SAFETY: scratch holds the rows, CHUNK apart, written just now up to the step's end; sums
                    // has rows × width values.
                    unsafe { self.run(call, unit, false, &mut best) };
                }
            }
            lend(first, &sums, &scales, rows);
        }
    }

    /// Raises maxima by the sums of one block, each row's shifted by what `shift` says. Everything comes in fours, so
    /// that the compiler needs no loops of unknown length.
    #[inline(always)]
    fn raise_shifted<'a>(
        &self,
        sums: &[u32],
        scales: &[f32],
        shift: impl Fn(usize) -> &'a [[f32; STEP]],
        best: &mut [[f32; STEP]],
    ) {
        let lanes = self.routines.lanes;
        let (mut at, mut first) = (0, 0);
        for tile in &self.tiles {
            let (width, full) = (tile.shape.width(lanes), tile.shape.full * lanes);
            let tokens = first / STEP..(first + tile.tokens) / STEP;
            let (best, own) = (&mut best[tokens.clone()], self.scales.as_chunks::<STEP>().0);
            let own = own.get(tokens.clone());
            let sums = &sums[at * self.routines.rows..][..width * self.routines.rows];
            for ((row, sums), &scale) in sums.chunks_exact(width).enumerate().zip(scales) {
                let shift = &shift(row)[tokens.clone()];
                let (sums, phased) = sums.split_at(full);
                let (sums, phased) = (sums.as_chunks::<STEP>().0, phased.as_chunks().0);
                let whole = sums.len().min(best.len());
                let (best, best_phased) = best.split_at_mut(whole);
                let (shift, shift_phased) = shift.split_at(whole);
                match own {
                    Some(own) => {
                        let similar = |sum: u32, own: f32| sum.cast_signed() as f32 * (scale * own);
                        let (own, own_phased) = own.split_at(whole);
                        for (((best, sums), shift), own) in
                            best.iter_mut().zip(sums).zip(shift).zip(own)
                        {
                            raise(
                                best,
                                shift,
                                std::array::from_fn(|k| similar(sums[k], own[k])),
                            );
                        }
                        let phased = phased
                            .iter()
                            .map(|fours| united(fours, |sum: &u32| sum.cast_signed()));
                        for (((best, sums), shift), own) in best_phased
                            .iter_mut()
                            .zip(phased)
                            .zip(shift_phased)
                            .zip(own_phased)
                        {
                            raise(
                                best,
                                shift,
                                std::array::from_fn(|k| sums[k] as f32 * (scale * own[k])),
                            );
                        }
                    }
                    None => {
                        for ((best, sums), shift) in best.iter_mut().zip(sums).zip(shift) {
                            raise(best, shift, sums.map(f32::from_bits));
                        }
                        let phased = phased
                            .iter()
                            .map(|fours| united(fours, |sum: &u32| f32::from_bits(*sum)));
                        for ((best, sums), shift) in
                            best_phased.iter_mut().zip(phased).zip(shift_phased)
                        {
                            raise(best, shift, sums);
                        }
                    }
                }
            }
            at += width;
            first += tile.tokens;
        }
    }

    /// Makes products of the sums of one block.
    fn deliver(&self, sums: &[u32], scales: &[f32; MAX_ROWS], products: &mut [f32]) {
        let (lanes, tokens) = (self.routines.lanes, self.tokens());
        let (mut at, mut first) = (0, 0);
        for tile in &self.tiles {
            let (width, full) = (tile.shape.width(lanes), tile.shape.full * lanes);
            let sums = &sums[at * self.routines.rows..][..width * self.routines.rows];
            for ((row, sums), scale) in products
                .chunks_exact_mut(tokens)
                .zip(sums.chunks_exact(width))
                .zip(scales)
            {
                let row = &mut row[first..first + tile.tokens];
                let (sums, phased) = sums.split_at(full);
                let (whole, rest) = row.split_at_mut(full.min(tile.tokens));
                let phased = phased.as_chunks::<STEP>().0;
                if self.scales.is_empty() {
                    for (to, &sum) in whole.iter_mut().zip(sums) {
                        *to = f32::from_bits(sum);
                    }
                    for (to, four) in rest.iter_mut().zip(phased) {
                        *to = four.iter().map(|&sum| f32::from_bits(sum)).sum();
                    }
                    continue;
                }
                let own = &self.scales[first..first + tile.tokens];
                let (own, own_rest) = own.split_at(whole.len());
                // In fours as far as that goes: most rows are too short for a loop of unknown length to pay.
                let (fours, odd) = whole.as_chunks_mut::<STEP>();
                let (own, own_odd) = own.as_chunks::<STEP>();
                let (sums, sums_odd) = sums.split_at(fours.len() * STEP);
                for ((to, sums), own) in fours.iter_mut().zip(sums.as_chunks::<STEP>().0).zip(own) {
                    for k in 0..STEP {
                        to[k] = sums[k].cast_signed() as f32 * (scale * own[k]);
                    }
                }
                for ((to, &sum), own) in odd.iter_mut().zip(sums_odd).zip(own_odd) {
                    *to = sum.cast_signed() as f32 * (scale * own);
                }
                for ((to, four), own) in rest.iter_mut().zip(phased).zip(own_rest) {
                    let sum: i32 = four.iter().map(|sum| sum.cast_signed()).sum();
                    *to = sum as f32 * (scale * own);
                }
            }
            at += width;
            first += tile.tokens;
        }
    }
}

#[inline(always)]
fn raise(best: &mut [f32; STEP], shift: &[f32; STEP], sums: [f32; STEP]) {
    for k in 0..STEP {
        let similarity = shift[k] + sums[k];
        // Not `f32::max`: this form is one instruction, and passes over NaN too.
        best[k] = if similarity > best[k] {
            similarity
        } else {
            best[k]
        };
    }
}

/// The sums of four tokens that have four lanes each.
#[inline(always)]
fn united<T: std::iter::Sum>(lanes: &[u32; STEP * STEP], read: impl Fn(&u32) -> T) -> [T; STEP] {
    std::array::from_fn(|k| lanes[STEP * k..STEP * (k + 1)].iter().map(&read).sum())
}
