//! The bodies the client sends.
//!
//! Not obvious: an optional field must be left out, because an explicit null is a 422; the field is `encoding_format`,
//! because one called `encoding` is silently ignored; `dimensions` is never sent, because on a late-interaction model it
//! cuts rows.

use bytes::Bytes;
use serde::Serialize;

use crate::config::{Encoding, Modality};

/// The word a probe embeds: short, so that it costs next to nothing.
pub(crate) const PROBE_WORD: &str = "probe";

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    modality: Option<&'static str>,
}

/// The JSON body of one embedding request. Texts go without a modality: it is the server's default, and servers older
/// than the field take the request too.
pub(crate) fn body(model: &str, modality: Modality, encoding: Encoding, input: &[&str]) -> Bytes {
    let encoding_format = match encoding {
        Encoding::Base64 => "base64",
        Encoding::Float => "float",
    };
    let modality = (modality == Modality::Image).then_some(modality.as_str());
    let body = Body {
        model,
        input,
        encoding_format,
        modality,
    };
    serde_json::to_vec(&body)
        .expect("strings always serialise")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_names_encoding_format_and_leaves_out_what_is_not_set() {
        let text = body("m", Modality::Text, Encoding::Base64, &["a \"b\"\n", ""]);
        assert_eq!(
            text,
            r#"{"model":"m","input":["a \"b\"\n",""],"encoding_format":"base64"}"#
        );
        let image = body(
            "m",
            Modality::Image,
            Encoding::Float,
            &["data:image/jpeg;base64,AA=="],
        );
        assert_eq!(
            image,
            r#"{"model":"m","input":["data:image/jpeg;base64,AA=="],"encoding_format":"float","modality":"image"}"#
        );
    }
}
