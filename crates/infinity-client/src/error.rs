//! Everything that can go wrong, one variant a cause; the extension maps variants to SQLSTATE, DETAIL and HINT.
//!
//! Variants carry the data that decides (numbers that disagree, status, attempts). Text that came from the server is
//! one line of at most [`MAX_MESSAGE_CHARS`] characters, because a 422 echoes the whole input; URLs never carry
//! credentials, because such URLs are refused; no variant can carry the API key.

use std::time::Duration;

use crate::config::Modality;

mod message;

pub(crate) use message::one_line;

/// Characters of the server's own words that an error carries.
pub const MAX_MESSAGE_CHARS: usize = 300;

/// Why something could not be embedded. `index` is always the 0-based position among the inputs of the call.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by what they are")]
pub enum Error {
    /// The URL is not one that can be called. `url` is shown without credentials.
    InvalidUrl { url: String, reason: &'static str },
    /// The API key has characters that no HTTP header can carry.
    InvalidApiKey,
    /// A text is longer than the server takes. Per input.
    TextTooLong {
        index: usize,
        chars: usize,
        limit: usize,
    },
    /// An image was refused before it was sent. Per input.
    Image { index: usize, problem: ImageProblem },
    /// No connection came about.
    Connect {
        url: String,
        kind: ConnectKind,
        detail: String,
        attempts: u32,
    },
    /// The connection broke before the answer was complete.
    Lost {
        url: String,
        detail: String,
        attempts: u32,
    },
    /// No answer within the deadline. `works` tells that the server embedded one word well right afterwards.
    TimedOut {
        url: String,
        after: Duration,
        attempts: u32,
        works: bool,
    },
    /// No answer within the deadline; `/health` answers, but a one-word request does not: the worker is dead or stuck.
    Wedged { url: String, after: Duration },
    /// 401 or 403. `key_sent` tells a wrong key from a missing one.
    Unauthorized {
        url: String,
        status: u16,
        message: String,
        key_sent: bool,
    },
    /// 404: nothing is served at this path; the URL or its prefix may be wrong.
    NotFound { url: String, message: String },
    /// 3xx: redirects are not followed. `location` is the origin it points to.
    Redirected {
        url: String,
        status: u16,
        location: Option<String>,
    },
    /// The server has several models loaded, and none of this name.
    UnknownModel { model: String, message: String },
    /// The model does not embed this kind of input.
    UnsupportedModality {
        model: String,
        modality: Modality,
        message: String,
    },
    /// The server refuses this input (400, 413, 422). Per input.
    Rejected {
        index: usize,
        status: u16,
        message: String,
    },
    /// The server refuses a request for a reason that is no input's (405, or any 4xx not named elsewhere).
    Refused {
        url: String,
        status: u16,
        message: String,
    },
    /// 429 or 503, also after the retries. `retry_after` is how long the server asked to be left alone.
    Overloaded {
        url: String,
        status: u16,
        message: String,
        retry_after: Option<Duration>,
        attempts: u32,
    },
    /// 408, 500, 502, 504 or another 5xx, also after the retries. Per input where it is 500 and one word is embedded well.
    ServerFailed {
        url: String,
        status: u16,
        message: String,
        attempts: u32,
    },
    /// The answer is not what the protocol says.
    Malformed { url: String, reason: String },
    /// The answer is larger than allowed; `bytes` is its announced size, if it was announced.
    ResponseTooLarge {
        url: String,
        limit: u64,
        bytes: Option<u64>,
    },
    /// The server answered under another name than the one asked for.
    WrongModel { asked: String, served: String },
    /// The model gives one vector per input, not one per token.
    SingleVectorModel { model: String, dim: usize },
    /// The server's vectors have another dimension than the configured one.
    DimensionMismatch {
        model: String,
        configured: usize,
        served: usize,
    },
    /// A value is NaN or infinite. Per input; `token` is the 0-based row.
    NonFinite { index: usize, token: usize },
    /// The embedding has no rows, or only zero rows. Per input.
    EmptyEmbedding { index: usize },
    /// The network thread could not do its work.
    Internal { reason: String },
}

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectKind {
    /// Nobody listens there; the port is also closed while models load.
    Refused,
    /// The name does not resolve.
    Dns,
    /// The TLS handshake failed: an unknown certificate, or no TLS at all on the other side.
    Tls,
    /// No route, or no permission.
    Unreachable,
    /// Nobody answered the attempt to connect.
    TimedOut,
}

/// Why an image was refused before it was sent.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by what they are")]
pub enum ImageProblem {
    /// Not an image in one of the formats decoded here. `looks_like` names what it seems to be.
    NotRecognised {
        bytes: usize,
        looks_like: Option<&'static str>,
    },
    /// A side is shorter than [`MIN_IMAGE_SIDE`](crate::MIN_IMAGE_SIDE).
    TooSmall { width: u32, height: u32 },
    /// The sides' ratio is above [`MAX_IMAGE_RATIO`](crate::MAX_IMAGE_RATIO).
    TooElongated { width: u32, height: u32 },
    /// More pixels than allowed.
    TooManyPixels { width: u32, height: u32, limit: u64 },
    /// The file ends before the image does.
    Truncated { format: &'static str },
    /// The decoder refuses it.
    Corrupt {
        format: &'static str,
        reason: String,
    },
    /// The deadline came before it was decoded and encoded; nothing was sent. About the whole call, not this input alone.
    TooSlow { limit: Duration },
}

impl Error {
    /// The 0-based position of the input this error is about; `None` when it is about the whole call.
    pub fn index(&self) -> Option<usize> {
        match self {
            Error::TextTooLong { index, .. }
            | Error::Image { index, .. }
            | Error::Rejected { index, .. }
            | Error::NonFinite { index, .. }
            | Error::EmptyEmbedding { index } => Some(*index),
            _ => None,
        }
    }

    /// Whether the same call may well succeed later without anybody changing a setting or an input.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connect { kind, .. } => *kind != ConnectKind::Tls,
            Error::Lost { .. }
            | Error::TimedOut { .. }
            | Error::Wedged { .. }
            | Error::Overloaded { .. }
            | Error::ServerFailed { .. } => true,
            _ => false,
        }
    }

    /// The refusal of a request, as that of its only input.
    pub(crate) fn at(mut self, position: usize) -> Error {
        if let Error::Rejected { index, .. } = &mut self {
            *index = position;
        }
        self
    }
}

impl std::error::Error for Error {}
