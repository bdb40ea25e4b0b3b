//! Reads the server's answers: embeddings, the list of models, and what an error body says.
//!
//! Nothing here trusts the server: memory stays within a small multiple of the body's size, whose own bound the
//! transport holds, and no input makes it panic. Not obvious: base64 carries no shape, so such an embedding is only
//! a string here and becomes rows in `decode`, once the dimension is known.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::config::Model;
use crate::error::one_line;

/// An answer whose embeddings stand in the order of the inputs, exactly one for each.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// The name the server served the request under.
    pub(crate) model: Cow<'a, str>,
    pub(crate) embeddings: Vec<Embedding<'a>>,
}

/// One embedding as it travelled.
#[derive(Debug, PartialEq)]
pub(crate) enum Embedding<'a> {
    /// Base64 of little-endian float32, shape unknown.
    Base64(Cow<'a, str>),
    /// Nested numbers: `values.len() / dim` rows. A null (NaN or infinite at the server) is NaN here.
    Rows { values: Vec<f32>, dim: usize },
    /// A flat list of so many numbers: the model gives one vector per input.
    Flat { dim: usize },
}

impl Embedding<'_> {
    /// Whether the length of a base64 embedding is one of whole rows; what is not base64 is left to the decoder.
    pub(crate) fn may_be_rows_of(&self, dim: usize) -> bool {
        let Embedding::Base64(text) = self else {
            return true;
        };
        let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
        (text.len() / 4 * 3)
            .saturating_sub(padding)
            .is_multiple_of(4 * dim.max(1))
    }
}

#[derive(Deserialize)]
struct RawAnswer<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    data: Vec<RawItem<'a>>,
}

#[derive(Deserialize)]
struct RawItem<'a> {
    #[serde(borrow)]
    embedding: Embedding<'a>,
    index: usize,
}

/// Reads an answer to a request of `expected` inputs.
///
/// # Errors
/// A short reason when it is not JSON of this shape, or an index is missing, twice there or out of range.
pub(crate) fn parse_answer(body: &[u8], expected: usize) -> Result<Answer<'_>, String> {
    let raw: RawAnswer = serde_json::from_slice(body).map_err(json_reason)?;
    if raw.data.len() != expected {
        return Err(format!(
            "{} embeddings for {expected} inputs",
            raw.data.len()
        ));
    }
    let mut places: Vec<Option<Embedding>> = (0..expected).map(|_| None).collect();
    for item in raw.data {
        match places.get_mut(item.index) {
            None => return Err(format!("index {} for {expected} inputs", item.index)),
            Some(Some(_)) => return Err(format!("index {} twice", item.index)),
            Some(place) => *place = Some(item.embedding),
        }
    }
    // As many items as places and no index twice: every place is taken.
    let embeddings = places.into_iter().flatten().collect();
    Ok(Answer {
        model: raw.model,
        embeddings,
    })
}

/// Reads the list of models.
///
/// # Errors
/// A short reason when it is not JSON of this shape.
pub(crate) fn parse_models(body: &[u8]) -> Result<Vec<Model>, String> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default)]
        backend: String,
        #[serde(default)]
        capabilities: Vec<String>,
        #[serde(default)]
        stats: Stats,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Stats {
        queue_fraction: f64,
        queue_absolute: u64,
        results_pending: u64,
        batch_size: u64,
    }
    let list: List = serde_json::from_slice(body).map_err(json_reason)?;
    let model = |entry: Entry| {
        let mut capabilities = entry.capabilities;
        capabilities.sort();
        Model {
            id: entry.id,
            backend: entry.backend,
            capabilities,
            queue_fraction: entry.stats.queue_fraction,
            queue_absolute: entry.stats.queue_absolute,
            results_pending: entry.stats.results_pending,
            batch_size: entry.stats.batch_size,
        }
    };
    Ok(list.data.into_iter().map(model).collect())
}

/// What an error body says, on one short line. The body may be cut off anywhere: a 422 echoes the whole input.
pub(crate) fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Told {
        Error { error: Message },
        Detail { detail: String },
        Details { detail: Vec<Detail> },
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    #[derive(Deserialize)]
    struct Detail {
        msg: String,
    }
    let message = match serde_json::from_slice(body) {
        Ok(Told::Error { error }) => error.message,
        Ok(Told::Detail { detail }) => detail,
        Ok(Told::Details { detail }) => detail
            .into_iter()
            .next()
            .map(|first| first.msg)
            .unwrap_or_default(),
        Err(_) => {
            message_in_fragment(body).unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
        }
    };
    let line = one_line(&message);
    if line.is_empty() {
        String::from("no explanation given")
    } else {
        line
    }
}

/// The first `msg` of a JSON body that is cut off. Inside an echoed string its quotes would be escaped.
fn message_in_fragment(body: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"msg\":";
    let at = body.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    serde_json::Deserializer::from_slice(&body[at..])
        .into_iter::<String>()
        .next()?
        .ok()
}

/// A JSON error without the piece of content that serde quotes in full.
fn json_reason(error: serde_json::Error) -> String {
    one_line(&error.to_string())
}

impl<'de: 'a, 'a> Deserialize<'de> for Embedding<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;
        impl<'de> Visitor<'de> for Shape {
            type Value = Embedding<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64, a list of numbers or a list of rows")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Embedding::Base64(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Embedding::Base64(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                rows_or_numbers(list)
            }
        }
        deserializer.deserialize_any(Shape)
    }
}

/// Reads the elements of a list that is either all numbers or all rows of one length.
fn rows_or_numbers<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Embedding<'de>, A::Error> {
    let mut values = Vec::new();
    let Some(first) = list.next_element_seed(Element {
        values: &mut values,
    })?
    else {
        return Ok(Embedding::Rows { values, dim: 0 });
    };
    let mut count = 1usize;
    while let Some(next) = list.next_element_seed(Element {
        values: &mut values,
    })? {
        match (first, next) {
            (Some(dim), Some(row)) if dim != row => {
                return Err(de::Error::custom(format_args!(
                    "ragged rows of {dim} and {row} values"
                )));
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(de::Error::custom("rows and numbers in one list"));
            }
            _ => count += 1,
        }
    }
    Ok(match first {
        Some(dim) => Embedding::Rows { values, dim },
        None => Embedding::Flat { dim: count },
    })
}

/// One element: `None` is a number, `Some(n)` a row of `n` values. What it holds is appended to `values`.
struct Element<'v> {
    values: &'v mut Vec<f32>,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, null or a row of them")
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        // A double beyond the range becomes infinite and is reported as such.
        self.values.push(value as f32);
        Ok(None)
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        self.visit_f64(value as f64)
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        self.visit_f64(value as f64)
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        self.visit_f64(f64::NAN)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<Self::Value, A::Error> {
        let before = self.values.len();
        while let Some(value) = row.next_element::<Option<f64>>()? {
            self.values.push(value.unwrap_or(f64::NAN) as f32);
        }
        Ok(Some(self.values.len() - before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(items: &str) -> String {
        format!(r#"{{"object":"list","data":[{items}],"model":"m","usage":{{"prompt_tokens":1}}}}"#)
    }

    fn reason(items: &str, expected: usize) -> String {
        parse_answer(answer(items).as_bytes(), expected).unwrap_err()
    }

    #[test]
    fn answers_out_of_order_are_put_in_order() {
        let body = answer(r#"{"embedding":"bb","index":1},{"embedding":"aa","index":0}"#);
        let answer = parse_answer(body.as_bytes(), 2).unwrap();
        assert_eq!(
            answer.embeddings,
            [
                Embedding::Base64("aa".into()),
                Embedding::Base64("bb".into())
            ]
        );
        assert_eq!(answer.model, "m");
    }

    #[test]
    fn a_wrong_count_or_index_is_named() {
        let one = r#"{"embedding":"aa","index":0}"#;
        assert_eq!(reason(one, 2), "1 embeddings for 2 inputs");
        assert_eq!(reason(&format!("{one},{one}"), 2), "index 0 twice");
        assert_eq!(
            reason(r#"{"embedding":"aa","index":1}"#, 1),
            "index 1 for 1 inputs"
        );
        assert!(reason(r#"{"embedding":"aa","index":-1}"#, 1).contains("-1"));
        assert!(reason(r#"{"embedding":"aa"}"#, 1).contains("missing field `index`"));
    }

    #[test]
    fn nested_numbers_carry_their_shape_and_flat_ones_are_told_apart() {
        fn read(text: &str) -> Result<Embedding<'_>, String> {
            serde_json::from_str(text).map_err(json_reason)
        }
        assert_eq!(
            read("[[1,-2.5],[3e0,0]]").unwrap(),
            Embedding::Rows {
                values: vec![1.0, -2.5, 3.0, 0.0],
                dim: 2
            }
        );
        assert_eq!(read("[1,null,3]").unwrap(), Embedding::Flat { dim: 3 });
        assert_eq!(
            read("[]").unwrap(),
            Embedding::Rows {
                values: vec![],
                dim: 0
            }
        );
        assert_eq!(
            read("[[]]").unwrap(),
            Embedding::Rows {
                values: vec![],
                dim: 0
            }
        );
        let Embedding::Rows { values, dim: 2 } = read("[[null,1e300]]").unwrap() else {
            panic!()
        };
        assert!(values[0].is_nan() && values[1].is_infinite());
        assert!(
            read("[[1,2],[3]]")
                .unwrap_err()
                .contains("ragged rows of 2 and 1 values")
        );
        assert!(read("[[1],2]").unwrap_err().contains("rows and numbers"));
        assert!(read("[[[1]]]").is_err());
        assert!(read("[[\"1\"]]").is_err());
        assert!(read("7").is_err());
    }

    #[test]
    fn every_error_envelope_gives_its_message() {
        let cases = [
            (
                r#"{"error":{"message":"overloaded","type":null,"code":429}}"#,
                "overloaded",
            ),
            (r#"{"detail":"Unauthorized"}"#, "Unauthorized"),
            (
                r#"{"detail":[{"type":"too_long","msg":"too many","input":["x"]}]}"#,
                "too many",
            ),
            (
                r#"{"detail":[{"type":"too_long","msg":"too \"many\"","input":["xxx"#,
                "too \"many\"",
            ),
            ("Internal Server Error", "Internal Server Error"),
            (
                "<html>\n<h1>502</h1>\n</html>",
                "<html> <h1>502</h1> </html>",
            ),
            (r#"{"detail":[]}"#, "no explanation given"),
            ("", "no explanation given"),
        ];
        for (body, message) in cases {
            assert_eq!(message_of(body.as_bytes()), message);
        }
        let echo = format!(
            r#"{{"detail":[{{"msg":"bad","input":"{}"}}]}}"#,
            "secret ".repeat(40_000)
        );
        assert_eq!(message_of(echo.as_bytes()), "bad");
        assert_eq!(message_of(&echo.as_bytes()[..5000]), "bad");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..400), expected in 0usize..4) {
            let _ = parse_answer(&body, expected);
            let _ = parse_models(&body);
            prop_assert!(message_of(&body).chars().count() <= crate::error::MAX_MESSAGE_CHARS);
        }

        #[test]
        fn text_that_resembles_an_answer_never_panics(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"data\"", "\"model\"", "\"m\"", "\"index\"", "\"embedding\"",
                "0", "1", "-1", "1e400", "null", "[[0.5,1],[2,3]]", "\"AAAA\"", "\"msg\":", "\"detail\"", "\u{e9}", "\\",
            ]), 0..40),
            expected in 0usize..4,
        ) {
            let body = pieces.concat();
            if let Ok(answer) = parse_answer(body.as_bytes(), expected) {
                prop_assert_eq!(answer.embeddings.len(), expected);
            }
            let _ = message_of(body.as_bytes());
        }

        #[test]
        fn nested_numbers_survive_the_journey(rows in 1usize..6, dim in 1usize..6, seed in any::<u32>()) {
            let value = |at: usize| f32::from_bits(seed.wrapping_mul(2_654_435_761).wrapping_add(at as u32) & 0xbf7f_ffff);
            let values: Vec<f32> = (0..rows * dim).map(value).collect();
            let nested: Vec<&[f32]> = values.chunks(dim).collect();
            let text = serde_json::to_string(&nested).unwrap();
            prop_assert_eq!(serde_json::from_str::<Embedding>(&text).unwrap(), Embedding::Rows { values, dim });
        }
    }
}
