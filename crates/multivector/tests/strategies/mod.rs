//! What property tests draw from: shapes, components, element types; and text and wire form as memory of their own.
//! Included by the test files beside it.

#![allow(dead_code)] // Each test file uses its own share.

use multivector::{ElementType, Error, Shape, View, binary, text};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The same cases in every run, and no files of failures: the seed is here.
pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(20_240_917),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Components as embeddings have them, and every oddity: zeros of both signs, subnormals, the extremes.
pub(crate) fn component() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -1.0f32..1.0,
        1 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |value| value.is_finite()),
        1 => prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(-1.0), Just(f32::MAX), Just(f32::MIN_POSITIVE), Just(f32::from_bits(1))],
        1 => -65_504.0f32..65_504.0,
    ]
}

/// Components that f16 holds.
pub(crate) fn small_component() -> impl Strategy<Value = f32> {
    component().prop_map(|value| {
        if value.abs() < 65_520.0 {
            value
        } else {
            value.to_bits() as f32 / 1e6 % 1e4
        }
    })
}

pub(crate) fn element() -> impl Strategy<Value = ElementType> {
    proptest::sample::select(ElementType::ALL.to_vec())
}

/// A shape and its components.
pub(crate) fn rows_of(
    component: impl Strategy<Value = f32> + Clone,
) -> impl Strategy<Value = (Shape, Vec<f32>)> {
    (
        1usize..8,
        prop_oneof![1usize..20, Just(64), Just(127), Just(128)],
    )
        .prop_flat_map(move |(tokens, dim)| {
            let shape = Shape::new(tokens, dim).expect("small shape");
            (
                Just(shape),
                proptest::collection::vec(component.clone(), tokens * dim),
            )
        })
}

/// Rows that every element type holds.
pub(crate) fn rows() -> impl Strategy<Value = (Shape, Vec<f32>)> {
    let component = small_component().boxed();
    rows_of(component)
}

pub(crate) fn print(view: View<'_>) -> Result<String, Error> {
    let mut printed = String::new();
    text::print(view, &mut printed, &mut || ())?;
    Ok(printed)
}

pub(crate) fn read(text: &str) -> Result<Vec<u8>, Error> {
    text::parse(text.as_bytes(), &mut || ())?.finish(&mut || ())
}

pub(crate) fn send(view: View<'_>) -> Result<Vec<u8>, Error> {
    let mut out = vec![0xA5; view.bytes().len()];
    binary::send(view, &mut out, &mut || ())?;
    Ok(out)
}
