//! Functions of a `multivector`: its parts, equality and hash, slices, means and pooling.

use multivector::{mean, normalize, pool, slice};
use pgrx::iter::SetOfIterator;
use pgrx::pg_extern;

use super::datum::{Multivector, Stored};
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::matrix::RealArray;
use crate::varlena::{equal, hash};

#[pg_extern(sql = false)]
fn multivector_dims(value: Multivector) -> i32 {
    value.view().unwrap_or_else(|error| error.raise()).dim() as i32
}

#[pg_extern(sql = false)]
fn multivector_tokens(value: Multivector) -> i32 {
    value.view().unwrap_or_else(|error| error.raise()).tokens() as i32
}

#[pg_extern(sql = false)]
fn multivector_element_type(value: Multivector) -> &'static str {
    value
        .view()
        .unwrap_or_else(|error| error.raise())
        .element_type()
        .name()
}

/// Equal bytes, which is equal numbers of one element type: the encoding is canonical.
#[pg_extern(sql = false)]
fn multivector_eq(left: Multivector, right: Multivector) -> bool {
    equal(left.detoasted().bytes(), right.detoasted().bytes())
}

#[pg_extern(sql = false)]
fn multivector_ne(left: Multivector, right: Multivector) -> bool {
    !equal(left.detoasted().bytes(), right.detoasted().bytes())
}

/// The low half of the extended hash with seed 0, as PostgreSQL wants it.
#[pg_extern(sql = false)]
fn multivector_hash(value: Multivector) -> i32 {
    hash(value.detoasted().bytes(), 0) as i32
}

#[pg_extern(sql = false)]
fn multivector_hash_extended(value: Multivector, seed: i64) -> i64 {
    hash(value.detoasted().bytes(), seed as u64) as i64
}

#[pg_extern(sql = false)]
fn multivector_normalize(value: Multivector) -> Stored {
    let normalized = value
        .view()
        .and_then(|view| Ok(normalize(view, &mut poll)?));
    Stored::copy(&normalized.unwrap_or_else(|error| error.raise()))
}

/// Tokens `first` to `last`, counted from 1, both included: as `array[first:last]`.
#[pg_extern(sql = false)]
fn multivector_slice(value: Multivector, first: i32, last: i32) -> Stored {
    let sliced = value.view().and_then(|view| {
        let range = usize::try_from(first)
            .ok()
            .filter(|&first| first >= 1)
            .zip(usize::try_from(last).ok());
        let (first, last) = range
            .filter(|&(first, last)| first <= last && last <= view.tokens())
            .ok_or_else(|| SqlError::token_range(first, last, view.tokens()))?;
        Ok(slice(view, first - 1..last, &mut poll)?)
    });
    Stored::copy(&sliced.unwrap_or_else(|error| error.raise()))
}

#[pg_extern(sql = false)]
fn multivector_mean(value: Multivector) -> RealArray {
    let mean = value.view().and_then(|view| Ok(mean(view, &mut poll)?));
    RealArray::row(mean.unwrap_or_else(|error| error.raise()))
}

#[pg_extern(sql = false)]
fn multivector_pool(value: Multivector, factor: i32) -> Stored {
    let wanted = usize::try_from(factor).ok().filter(|&factor| factor > 0);
    let factor = wanted.unwrap_or_else(|| SqlError::pool_factor(factor).raise());
    let pooled = value
        .view()
        .and_then(|view| Ok(pool(view, factor, &mut poll)?));
    Stored::copy(&pooled.unwrap_or_else(|error| error.raise()))
}

/// One `real[]` per token, in order.
#[pg_extern(sql = false)]
fn multivector_unnest(value: Multivector) -> SetOfIterator<'static, RealArray> {
    let rows = value
        .view()
        .and_then(|view| Ok((view.to_values(&mut poll)?, view.dim())));
    let (values, dim) = rows.unwrap_or_else(|error| error.raise());
    let tokens = values.len() / dim;
    SetOfIterator::new(
        (0..tokens).map(move |token| RealArray::row(values[token * dim..][..dim].to_vec())),
    )
}
