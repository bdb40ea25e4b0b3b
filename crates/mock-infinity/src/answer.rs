//! The answer to an embedding request: the envelope and the two encodings of the vectors. Made by the routes, spoilt by
//! `faulty`, written out by hand because a page image is 1030 x 128 numbers.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::worker::Embedding;

/// One element of `data`.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) index: usize,
    pub(crate) vectors: Vectors,
}

/// What stands under `embedding`.
#[derive(Clone, Debug)]
pub(crate) enum Vectors {
    Good(Embedding),
    /// JSON to be written as it is.
    Spoilt(String),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) items: Vec<Item>,
    pub(crate) model: String,
    pub(crate) base64: bool,
    pub(crate) usage: usize,
    pub(crate) number: u64,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

impl Answer {
    pub(crate) fn write(&self) -> String {
        let mut out = String::with_capacity(
            256 + self.items.iter().map(|item| self.size(item)).sum::<usize>(),
        );
        out.push_str(r#"{"object":"list","data":["#);
        for (place, item) in self.items.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            out.push_str(r#"{"object":"embedding","embedding":"#);
            match &item.vectors {
                Vectors::Spoilt(json) => out.push_str(json),
                Vectors::Good(embedding) => out.push_str(&encode(embedding, self.base64)),
            }
            let _ = write!(out, r#","index":{}}}"#, item.index);
        }
        let model = serde_json::Value::from(self.model.as_str());
        let (usage, number, created) = (self.usage, self.number, self.created);
        let _ = write!(
            out,
            r#"],"model":{model},"usage":{{"prompt_tokens":{usage},"total_tokens":{usage}}},"id":"infinity-00000000-0000-4000-8000-{number:012x}","created":{created}}}"#
        );
        out
    }

    fn size(&self, item: &Item) -> usize {
        match &item.vectors {
            Vectors::Spoilt(json) => json.len() + 64,
            Vectors::Good(embedding) => {
                embedding.values.len() * if self.base64 { 6 } else { 22 } + 64
            }
        }
    }
}

/// The JSON of one embedding: base64 without any shape, or numbers.
pub(crate) fn encode(embedding: &Embedding, base64: bool) -> String {
    if base64 {
        return format!("\"{}\"", STANDARD.encode(bytes(&embedding.values)));
    }
    let mut out = String::with_capacity(embedding.values.len() * 22 + 2);
    if embedding.flat {
        numbers(&embedding.values, &mut out);
        return out;
    }
    out.push('[');
    for (place, row) in embedding.values.chunks(embedding.dim).enumerate() {
        if place > 0 {
            out.push(',');
        }
        numbers(row, &mut out);
    }
    out.push(']');
    out
}

/// Little-endian float32.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Appends a list of numbers, widened to double precision first as Python does; what is not finite becomes null.
fn numbers(values: &[f32], out: &mut String) {
    let wide: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    out.push_str(&serde_json::to_string(&wide).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_encodings_carry_the_same_numbers() {
        let embedding = Embedding {
            values: vec![1.0, -0.0, 1e-9, 0.1],
            dim: 2,
            flat: false,
        };
        assert_eq!(encode(&embedding, true), "\"AACAPwAAAIBfcIkwzczMPQ==\"");
        let parsed: Vec<Vec<f32>> = serde_json::from_str(&encode(&embedding, false)).unwrap();
        assert_eq!(parsed.concat(), embedding.values);
        assert!(parsed[0][1].is_sign_negative());
    }

    #[test]
    fn what_is_not_finite_becomes_null_in_float() {
        let embedding = Embedding {
            values: vec![f32::NAN, f32::INFINITY, 2.0],
            dim: 3,
            flat: true,
        };
        assert_eq!(encode(&embedding, false), "[null,null,2.0]");
    }
}
