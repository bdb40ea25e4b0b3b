//! The bytes of a document's codes: what level 2 of a search reads.
//!
//! # Layout
//! | bytes | content |
//! |---|---|
//! | 1 | the kind: 0 is flat, made without a codebook; 1 is residual |
//! | 4 | m, the number of tokens, u32 little-endian |
//!
//! Flat codes go on with what [`maxsim::encode_bit`] writes, residual ones with
//!
//! | bytes | content |
//! |---|---|
//! | 4 | the unit u of the scales, f32 little-endian |
//! | 2 m | the centroid of each token, u16 little-endian |
//! | m | a scale per token: scale = code × u |
//! | m × ⌈dim / 8⌉ | signs of token minus centroid, as in [`maxsim::bit`] |
//!
//! The scale is |r|² / |r|₁ of the residual r: it makes the product of r with its own approximation exact.

use crate::Codebook;
use crate::crew::{Check, Stopped};
use crate::error::{Error, corrupt};

const FLAT: u8 = 0;
const RESIDUAL: u8 = 1;
const HEAD: usize = 1 + size_of::<u32>();
/// Components between two checks: a millisecond or two.
const STRIDE: usize = 1 << 18;

/// Codes taken apart and checked.
#[derive(Debug)]
pub(crate) enum Codes<'a> {
    Flat(&'a [u8]),
    Residual(Residual<'a>),
}

#[derive(Debug)]
pub(crate) struct Residual<'a> {
    pub(crate) unit: f32,
    /// A centroid per token, each in the codebook.
    pub(crate) ids: &'a [[u8; 2]],
    pub(crate) scales: &'a [u8],
    pub(crate) signs: &'a [u8],
}

impl<'a> Codes<'a> {
    pub(crate) fn parse(
        bytes: &'a [u8],
        dim: usize,
        codebook: Option<&Codebook>,
    ) -> Result<Codes<'a>, Error> {
        let (head, rest) = bytes
            .split_at_checked(HEAD)
            .ok_or(corrupt("codes are cut short"))?;
        let tokens = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let codes = match head[0] {
            FLAT => {
                maxsim::validate_bit(rest, dim).map_err(|_| corrupt("flat codes are damaged"))?;
                Codes::Flat(rest)
            }
            RESIDUAL => {
                let codebook = codebook.ok_or(corrupt("residual codes without a codebook"))?;
                Codes::Residual(Residual::parse(rest, dim, codebook.lists())?)
            }
            _ => return Err(corrupt("codes are of an unknown kind")),
        };
        let whole = match &codes {
            Codes::Flat(rest) => rest.len() == 8 + dim + tokens * (1 + dim.div_ceil(8)),
            Codes::Residual(residual) => residual.ids.len() == tokens,
        };
        if !whole {
            return Err(corrupt("codes are of another number of tokens"));
        }
        Ok(codes)
    }
}

impl<'a> Residual<'a> {
    fn parse(bytes: &'a [u8], dim: usize, lists: usize) -> Result<Residual<'a>, Error> {
        let (unit, rest) = bytes
            .split_first_chunk()
            .ok_or(corrupt("residual codes are cut short"))?;
        let token_size = 3 + dim.div_ceil(8);
        if rest.is_empty() || !rest.len().is_multiple_of(token_size) {
            return Err(corrupt("residual codes are not of whole tokens"));
        }
        let tokens = rest.len() / token_size;
        let unit = f32::from_le_bytes(*unit);
        if !unit.is_finite() || unit.is_sign_negative() {
            return Err(corrupt(
                "the unit of residual codes is negative or not finite",
            ));
        }
        let (ids, rest) = rest.split_at(2 * tokens);
        let ids = ids.as_chunks().0;
        let largest = ids.iter().map(|id| u16::from_le_bytes(*id)).max();
        if largest.is_some_and(|id| usize::from(id) >= lists) {
            return Err(corrupt(
                "residual codes name a centroid that does not exist",
            ));
        }
        let (scales, signs) = rest.split_at(tokens);
        Ok(Residual {
            unit,
            ids,
            scales,
            signs,
        })
    }
}

/// The codes of a document without a codebook.
pub(crate) fn write_flat(document: &[f32], dim: usize, poll: &mut dyn FnMut()) -> Vec<u8> {
    let mut codes = head(FLAT, document.len() / dim);
    codes.extend(maxsim::encode_bit(document, dim, poll).expect("finite values of whole tokens"));
    codes
}

/// The codes of a document whose tokens belong to the centroids `ids`, and the sum of the squared distances to them.
pub(crate) fn write_residual(
    document: &[f32],
    ids: &[u16],
    codebook: &Codebook,
    check: &mut Check,
) -> Result<(Vec<u8>, f64), Stopped> {
    let dim = codebook.dim();
    let (mut scales, mut squares) = (Vec::with_capacity(ids.len()), 0.0);
    let mut signs = Vec::with_capacity(ids.len() * dim.div_ceil(8));
    let mut residual = vec![0.0; dim];
    for (at, (token, &id)) in document.chunks_exact(dim).zip(ids).enumerate() {
        residual.copy_from_slice(token);
        codebook.subtract_centroid(id, &mut residual);
        let (square, scale) = square_and_scale(&residual);
        squares += square;
        scales.push(scale);
        for values in residual.chunks(8) {
            let bits = values.iter().map(|value| u8::from(*value >= 0.0));
            signs.push(bits.rev().fold(0, |byte, sign| byte << 1 | sign));
        }
        if at % (STRIDE / dim).max(1) == 0 {
            check()?;
        }
    }
    let unit = scales.iter().copied().fold(0.0, f32::max) / f32::from(u8::MAX);
    let mut codes = head(RESIDUAL, ids.len());
    codes.reserve_exact(size_of::<f32>() + ids.len() * 3 + signs.len());
    codes.extend(unit.to_le_bytes());
    codes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    // NaN, from 0 / 0, is 0.
    codes.extend(
        scales
            .iter()
            .map(|scale| (scale / unit).round_ties_even() as u8),
    );
    codes.extend(signs);
    Ok((codes, squares))
}

fn head(kind: u8, tokens: usize) -> Vec<u8> {
    let mut codes = vec![kind];
    codes.extend((tokens as u32).to_le_bytes());
    codes
}

fn square_and_scale(residual: &[f32]) -> (f64, f32) {
    let (mut square, mut absolute) = (0.0f64, 0.0f64);
    for &value in residual {
        square += f64::from(value) * f64::from(value);
        absolute += f64::from(value).abs();
    }
    if absolute == 0.0 {
        return (0.0, 0.0);
    }
    (square, (square / absolute) as f32)
}
