//! What a call is made with: the settings snapshot, the limits of the protocol, and the values a call gives back.
//!
//! Used by every module here and by the extension's settings. The server's own maxima are constants, not settings:
//! asking for more than the server takes would only turn a working call into a 422.

use std::fmt;
use std::time::Duration;

use crate::Error;

/// Characters (Unicode code points, after the surrounding white space) that the server takes in one text.
pub const MAX_TEXT_CHARS: usize = 122_880;
/// Texts the server takes in one request.
pub const MAX_TEXTS_PER_REQUEST: usize = 2048;
/// Images the server takes in one request.
pub const MAX_IMAGES_PER_REQUEST: usize = 32;
/// Bytes of input after which a request is closed and the rest goes into another one. A single larger input goes alone.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;
/// The shorter side an image must have, in pixels: ColQwen2's processor refuses less.
pub const MIN_IMAGE_SIDE: u32 = 3;
/// The greatest ratio of the longer side to the shorter one: more kills the server's worker for good.
pub const MAX_IMAGE_RATIO: u32 = 200;

/// A snapshot of the settings, one per call.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's base URL, http or https; may carry a path prefix; must carry neither credentials nor a query.
    pub url: String,
    /// The name the server serves the model under.
    pub model: String,
    /// Sent as `Authorization: Bearer …` when present.
    pub api_key: Option<Secret>,
    /// How vectors travel.
    pub encoding: Encoding,
    /// The dimension the caller expects; `None` takes the server's.
    pub dim: Option<usize>,
    /// One deadline over one request, the preparation of its images and all its retries.
    pub timeout: Duration,
    /// Retries after the first attempt; 0 never retries.
    pub max_retries: u32,
    /// Inputs per request; held below the server's own maxima.
    pub batch_size: usize,
    /// Requests in flight at once.
    pub max_concurrency: usize,
    /// Scale every row to length 1, after the zero rows are stripped.
    pub normalize: bool,
    /// Width times height that an image may have.
    pub max_image_pixels: u64,
    /// Bytes that one answer may have.
    pub max_response_bytes: u64,
}

impl Config {
    /// The defaults of the settings: base64, any dimension, 60 s, 3 retries, batches of 10, 4 requests in flight,
    /// rows as they come, images up to 40 megapixels, answers up to 256 MiB.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        Config {
            url: url.into(),
            model: model.into(),
            api_key: None,
            encoding: Encoding::Base64,
            dim: None,
            timeout: Duration::from_secs(60),
            max_retries: 3,
            batch_size: 10,
            max_concurrency: 4,
            normalize: false,
            max_image_pixels: 40_000_000,
            max_response_bytes: 256 << 20,
        }
    }
}

/// How vectors travel: base64 is 3.8 times smaller and 7 times cheaper for the server than float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Little-endian float32 rows, one after the other, without their shape.
    #[default]
    Base64,
    /// Nested JSON numbers, which carry their shape.
    Float,
}

/// A value that must never be printed: its `Debug` is `***`, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself, for the header it goes into.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// One input's embedding: `tokens × dim` values, row-major, every one finite, no row all zero, `tokens ≥ 1`.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiVector {
    /// The rows, one after the other.
    pub values: Vec<f32>,
    /// How many rows.
    pub tokens: usize,
    /// How many values a row has.
    pub dim: usize,
}

/// What became of one input: its embedding, or why it has none while others have.
pub type Outcome = Result<MultiVector, Error>;

/// What is to be embedded in one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Strings.
    Texts(Vec<String>),
    /// Whole files as JPEG, PNG, GIF, WebP, BMP or TIFF.
    Images(Vec<Vec<u8>>),
}

/// What became of a call as far as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// One for each input, in their order; `None` where the call ended before.
    pub outcomes: Vec<Option<Outcome>>,
    /// Why the call ended before every input had an outcome.
    pub failure: Option<Error>,
    /// Positions of the inputs that the request carried whose failure that was.
    pub failed_together: Vec<usize>,
}

/// What an input is; the server calls it the modality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modality {
    /// A string.
    Text,
    /// A page image or a photograph.
    Image,
}

impl Modality {
    /// The server's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Modality::Text => "text",
            Modality::Image => "image",
        }
    }

    /// How many inputs of it the server takes in one request.
    pub(crate) fn max_per_request(self) -> usize {
        match self {
            Modality::Text => MAX_TEXTS_PER_REQUEST,
            Modality::Image => MAX_IMAGES_PER_REQUEST,
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A model the server has loaded, as `/models` lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The name it is served under.
    pub id: String,
    /// The engine behind it (torch, optimum, debug…).
    pub backend: String,
    /// What it can do: `embed`, `image_embed`, `rerank`…, sorted.
    pub capabilities: Vec<String>,
    /// How full its queue is, 0 to 1.
    pub queue_fraction: f64,
    /// Inputs waiting in its queue.
    pub queue_absolute: u64,
    /// Inputs whose results somebody still waits for.
    pub results_pending: u64,
    /// Inputs the server puts into one forward pass.
    pub batch_size: u64,
}

/// How the server is, as far as a caller can tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// The URL asked, as it may be shown.
    pub url: String,
    /// Whether anything at all answered.
    pub reachable: bool,
    /// The name the server answered under.
    pub model: Option<String>,
    /// The dimension of its vectors.
    pub dim: Option<usize>,
    /// How long a one-word request took.
    pub latency: Option<Duration>,
    /// What is wrong, if anything is.
    pub problem: Option<Error>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        let mut config = Config::new("http://localhost:7997", "colbert");
        config.api_key = Some(Secret::new("sk-very-secret"));
        let shown = format!("{config:?}");
        assert!(
            shown.contains("***") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
