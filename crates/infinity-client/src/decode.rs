//! From an embedding as it travelled to rows that may be scored: finite, none of them all zero, normalised on request.
//!
//! Not obvious: an all-zero row is padding, always. ColQwen2 and ColPali pad every item to the longest one of the batch
//! the server formed, other clients' requests included, so the same text comes back with 14 rows or with 192.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::MultiVector;

/// Why an embedding is of no use.
#[derive(Debug, PartialEq)]
pub(crate) enum Flaw {
    /// It is not base64, or not of whole float32 values.
    NotBase64(String),
    /// Its values do not fill whole rows: the dimension is another one.
    NotRows { values: usize, dim: usize },
    /// This row has a NaN or infinite value.
    NonFinite { token: usize },
    /// No row is left.
    Empty,
}

/// Values of a base64 embedding whose rows have `dim` values.
///
/// # Errors
/// [`Flaw::NotBase64`], [`Flaw::NotRows`].
pub(crate) fn values_of_base64(text: &str, dim: usize) -> Result<Vec<f32>, Flaw> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| Flaw::NotBase64(format!("invalid base64: {error}")))?;
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Flaw::NotBase64(format!(
            "{} bytes are not whole float32 values",
            bytes.len()
        )));
    }
    if dim == 0 || !chunks.len().is_multiple_of(dim) {
        return Err(Flaw::NotRows {
            values: chunks.len(),
            dim,
        });
    }
    Ok(chunks
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect())
}

/// Checks the values, strips the zero rows and, on request, scales every row to length 1.
///
/// # Shapes
/// `values` is a whole number of rows of `dim`; `dim` 0 only with no values at all.
/// # Errors
/// [`Flaw::NonFinite`], [`Flaw::Empty`].
pub(crate) fn finish(
    mut values: Vec<f32>,
    dim: usize,
    normalize: bool,
) -> Result<MultiVector, Flaw> {
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(Flaw::NonFinite { token: at / dim });
    }
    let mut kept = 0;
    for start in (0..values.len()).step_by(dim.max(1)) {
        // -0.0 equals 0.0 here, as it must.
        if values[start..start + dim].iter().any(|value| *value != 0.0) {
            values.copy_within(start..start + dim, kept);
            kept += dim;
        }
    }
    if kept == 0 {
        return Err(Flaw::Empty);
    }
    values.truncate(kept);
    if normalize {
        values.chunks_exact_mut(dim).for_each(scale_to_one);
    }
    values.shrink_to_fit();
    Ok(MultiVector {
        tokens: kept / dim,
        values,
        dim,
    })
}

/// In f64, where the squares of the smallest and the largest f32 neither vanish nor overflow.
fn scale_to_one(row: &mut [f32]) {
    let length = row
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt();
    row.iter_mut()
        .for_each(|value| *value = (f64::from(*value) / length) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(values: &[f32]) -> String {
        STANDARD.encode(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>(),
        )
    }

    #[test]
    fn base64_is_little_endian_rows_and_its_length_is_checked() {
        assert_eq!(values_of_base64("AACAPwAAAMA=", 2).unwrap(), [1.0, -2.0]);
        assert_eq!(values_of_base64("", 2).unwrap(), Vec::<f32>::new());
        assert_eq!(
            values_of_base64(&encode(&[1.0; 5]), 2),
            Err(Flaw::NotRows { values: 5, dim: 2 })
        );
        assert_eq!(
            values_of_base64(&encode(&[1.0; 5]), 0),
            Err(Flaw::NotRows { values: 5, dim: 0 })
        );
        for text in [
            "AACAPwAAAMA",
            "AAC*PwAAAMA=",
            "AACAPw==AAAA",
            "AAAA",
            "AACAPwAAAMA=\n",
        ] {
            assert!(
                matches!(values_of_base64(text, 1), Err(Flaw::NotBase64(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn zero_rows_are_stripped_on_both_sides_negative_zeros_too() {
        let padded = vec![0.0, -0.0, 1.0, 0.0, -0.0, -0.0, 0.0, 2.0, 0.0, 0.0];
        let rows = finish(padded, 2, false).unwrap();
        assert_eq!(
            rows,
            MultiVector {
                values: vec![1.0, 0.0, 0.0, 2.0],
                tokens: 2,
                dim: 2
            }
        );
    }

    #[test]
    fn an_embedding_without_rows_is_a_flaw() {
        for (values, dim) in [
            (vec![], 0),
            (vec![], 3),
            (vec![0.0, -0.0, 0.0], 3),
            (vec![0.0; 6], 3),
        ] {
            assert_eq!(finish(values, dim, true), Err(Flaw::Empty));
        }
    }

    #[test]
    fn the_row_that_is_not_finite_is_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let values = vec![1.0, 2.0, 3.0, bad, 5.0, 6.0];
            assert_eq!(finish(values, 2, false), Err(Flaw::NonFinite { token: 1 }));
        }
    }

    #[test]
    fn rows_of_extreme_size_are_normalised_too() {
        let rows = finish(vec![f32::MAX, f32::MAX, 1e-45, 0.0, 3.0, -4.0], 2, true).unwrap();
        assert_eq!(rows.values[2..], [1.0, 0.0, 0.6, -0.8]);
        assert!((rows.values[0] - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn decoding_keeps_exactly_the_rows_that_are_not_zero(
            dim in 1usize..9,
            rows in prop::collection::vec(prop::option::of(prop::collection::vec(-5.0f32..5.0, 9)), 0..20),
        ) {
            let row = |row: &Option<Vec<f32>>| row.as_ref().map_or(vec![-0.0; dim], |row| row[..dim].to_vec());
            let sent: Vec<Vec<f32>> = rows.iter().map(row).collect();
            let expected: Vec<Vec<f32>> = sent.iter().filter(|row| row.iter().any(|v| *v != 0.0)).cloned().collect();
            let values = values_of_base64(&encode(&sent.concat()), dim).unwrap();
            match finish(values, dim, false) {
                Ok(got) => {
                    prop_assert_eq!(got.tokens, expected.len());
                    prop_assert_eq!(got.values, expected.concat());
                }
                Err(flaw) => prop_assert!(flaw == Flaw::Empty && expected.is_empty()),
            }
        }

        #[test]
        fn normalised_rows_have_length_one(values in prop::collection::vec(-1e3f32..1e3, 4..40)) {
            let dim = 4;
            let whole = values.len() / dim * dim;
            if let Ok(rows) = finish(values[..whole].to_vec(), dim, true) {
                for row in rows.values.chunks(dim) {
                    let length: f32 = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                    prop_assert!((length - 1.0).abs() < 1e-5, "{length}");
                }
            }
        }

        #[test]
        fn any_text_is_decoded_without_panicking(text in ".{0,80}", dim in 0usize..5) {
            if let Ok(values) = values_of_base64(&text, dim) {
                let _ = finish(values, dim, true);
            }
        }
    }
}
