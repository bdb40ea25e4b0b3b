//! Everything that can go wrong, one variant a cause; the extension maps variants to SQLSTATE, DETAIL and HINT.
//!
//! Variants carry the data that decides (numbers that disagree, status, attempts). Text that came from the server is
//! one line of at most [`MAX_MESSAGE_CHARS`] characters, because a 422 echoes the whole input; URLs never carry
//! credentials, because such URLs are refused; no variant can carry the API key.

use std::fmt;
use std::time::Duration;

use crate::config::{MAX_IMAGE_RATIO, MIN_IMAGE_SIDE, Modality};

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
    /// No answer within the deadline, and the server gives no sign of being wedged.
    TimedOut {
        url: String,
        after: Duration,
        attempts: u32,
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
    /// 429 or 503, also after the retries.
    Overloaded {
        url: String,
        status: u16,
        message: String,
        attempts: u32,
    },
    /// 408, 500, 502, 504 or another 5xx, also after the retries.
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
    /// A side is shorter than [`MIN_IMAGE_SIDE`].
    TooSmall { width: u32, height: u32 },
    /// The sides' ratio is above [`MAX_IMAGE_RATIO`].
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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidUrl { url, reason } => {
                write!(f, "invalid Infinity URL \"{url}\": {reason}")
            }
            Error::InvalidApiKey => {
                f.write_str("the API key has characters that cannot be sent in a header")
            }
            Error::TextTooLong {
                index,
                chars,
                limit,
            } => {
                write!(
                    f,
                    "text {} has {chars} characters, the Infinity server takes {limit}",
                    index + 1
                )
            }
            Error::Image { index, problem } => write!(f, "image {}: {problem}", index + 1),
            Error::UnknownModel { model, message } => {
                write!(f, "the Infinity server has no model \"{model}\": {message}")
            }
            Error::UnsupportedModality {
                model,
                modality,
                message,
            } => {
                write!(
                    f,
                    "model \"{model}\" does not embed {modality} input: {message}"
                )
            }
            Error::Rejected {
                index,
                status,
                message,
            } => {
                write!(
                    f,
                    "the Infinity server refused input {} with status {status}: {message}",
                    index + 1
                )
            }
            Error::WrongModel { asked, served } => {
                write!(
                    f,
                    "asked for model \"{asked}\", but the Infinity server answered with \"{served}\""
                )
            }
            Error::SingleVectorModel { model, dim } => {
                write!(
                    f,
                    "model \"{model}\" gives a single vector of {dim} dimensions per input, not one per token"
                )
            }
            Error::DimensionMismatch {
                model,
                configured,
                served,
            } => {
                write!(
                    f,
                    "model \"{model}\" gives vectors of {served} dimensions, but {configured} are configured"
                )
            }
            Error::NonFinite { index, token } => {
                write!(
                    f,
                    "the embedding of input {} has a NaN or infinite value in row {}",
                    index + 1,
                    token + 1
                )
            }
            Error::EmptyEmbedding { index } => {
                write!(f, "the embedding of input {} has no rows", index + 1)
            }
            Error::Internal { reason } => write!(f, "the network thread failed: {reason}"),
            _ => self.fmt_exchange(f),
        }
    }
}

impl Error {
    /// The sentences about one exchange with the server, which all name its URL.
    fn fmt_exchange(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect {
                url,
                kind,
                detail,
                attempts,
            } => write!(
                f,
                "could not connect to the Infinity server at \"{url}\": {kind} ({detail}){}",
                Attempts(*attempts)
            ),
            Error::Lost {
                url,
                detail,
                attempts,
            } => write!(
                f,
                "lost the connection to the Infinity server at \"{url}\": {detail}{}",
                Attempts(*attempts)
            ),
            Error::TimedOut {
                url,
                after,
                attempts,
            } => write!(
                f,
                "no answer from the Infinity server at \"{url}\" within {}{}",
                Seconds(*after),
                Attempts(*attempts)
            ),
            Error::Wedged { url, after } => write!(
                f,
                "the Infinity server at \"{url}\" answers /health but does not embed (nothing within {}, \
                 and then no answer to a one-word request): restart Infinity",
                Seconds(*after)
            ),
            Error::Unauthorized {
                url,
                status,
                message,
                key_sent,
            } => write!(
                f,
                "the Infinity server at \"{url}\" refused {} with status {status}: {message}",
                if *key_sent {
                    "the API key"
                } else {
                    "a request without an API key"
                }
            ),
            Error::NotFound { url, message } => write!(
                f,
                "nothing is served at \"{url}\" (status 404: {message}): the URL or its path prefix may be wrong"
            ),
            Error::Redirected {
                url,
                status,
                location,
            } => write!(
                f,
                "\"{url}\" answered with a redirect (status {status}) to {}, which is not followed",
                location.as_deref().unwrap_or("nowhere")
            ),
            Error::Refused {
                url,
                status,
                message,
            } => {
                write!(
                    f,
                    "the Infinity server at \"{url}\" refused the request with status {status}: {message}"
                )
            }
            Error::Overloaded {
                url,
                status,
                message,
                attempts,
            } => write!(
                f,
                "the Infinity server at \"{url}\" is overloaded (status {status}: {message}){}",
                Attempts(*attempts)
            ),
            Error::ServerFailed {
                url,
                status,
                message,
                attempts,
            } => write!(
                f,
                "the Infinity server at \"{url}\" failed with status {status}: {message}{}",
                Attempts(*attempts)
            ),
            Error::Malformed { url, reason } => {
                write!(
                    f,
                    "malformed answer from the Infinity server at \"{url}\": {reason}"
                )
            }
            Error::ResponseTooLarge {
                url,
                limit,
                bytes: Some(bytes),
            } => {
                write!(
                    f,
                    "the answer of the Infinity server at \"{url}\" has {bytes} bytes, {limit} are allowed"
                )
            }
            Error::ResponseTooLarge {
                url,
                limit,
                bytes: None,
            } => {
                write!(
                    f,
                    "the answer of the Infinity server at \"{url}\" has more than the allowed {limit} bytes"
                )
            }
            _ => unreachable!("every other variant is written by Display itself"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for ConnectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectKind::Refused => "connection refused",
            ConnectKind::Dns => "the host name does not resolve",
            ConnectKind::Tls => "the TLS handshake failed",
            ConnectKind::Unreachable => "the host cannot be reached",
            ConnectKind::TimedOut => "connecting timed out",
        })
    }
}

impl fmt::Display for ImageProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageProblem::NotRecognised {
                bytes,
                looks_like: None,
            } => {
                write!(f, "{bytes} bytes that are not a recognised image")
            }
            ImageProblem::NotRecognised {
                bytes,
                looks_like: Some(kind),
            } => {
                write!(
                    f,
                    "{bytes} bytes that are not a recognised image: they look like {kind}"
                )
            }
            ImageProblem::TooSmall { width, height } => {
                write!(
                    f,
                    "{width} x {height} pixels, the least is {MIN_IMAGE_SIDE} x {MIN_IMAGE_SIDE}"
                )
            }
            ImageProblem::TooElongated { width, height } => {
                write!(
                    f,
                    "{width} x {height} pixels, the ratio of the sides is above {MAX_IMAGE_RATIO}"
                )
            }
            ImageProblem::TooManyPixels {
                width,
                height,
                limit,
            } => write!(
                f,
                "{width} x {height} are {} pixels, {limit} are allowed",
                u64::from(*width) * u64::from(*height)
            ),
            ImageProblem::Truncated { format } => write!(f, "the {format} file is truncated"),
            ImageProblem::Corrupt { format, reason } => {
                write!(f, "the {format} file is corrupt: {reason}")
            }
        }
    }
}

/// Text of somebody else made fit for an error: one line, no control characters, at most [`MAX_MESSAGE_CHARS`].
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let mut left = MAX_MESSAGE_CHARS;
    for word in words {
        if !line.is_empty() {
            line.push(' ');
            left -= 1;
        }
        for character in word.chars() {
            if left <= 1 {
                line.push('…');
                return line;
            }
            line.push(character);
            left -= 1;
        }
        if left <= 1 {
            line.push('…');
            return line;
        }
    }
    line
}

/// `, after 3 attempts`, and nothing when there was only one.
struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 {
            write!(f, ", after {} attempts", self.0)
        } else {
            Ok(())
        }
    }
}

/// A duration as people write it: `60 s`, `1.5 s`, `200 ms`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{} s", self.0.as_millis() as f64 / 1000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_short_line() {
        assert_eq!(
            one_line("<html>\r\n  <b>502</b>\u{0}\n</html>"),
            "<html> <b>502</b> </html>"
        );
        assert_eq!(one_line(""), "");
        for text in ["x".repeat(1000), "x ".repeat(1000), "é\n".repeat(1000)] {
            let line = one_line(&text);
            assert!(
                line.chars().count() <= MAX_MESSAGE_CHARS && line.ends_with('…'),
                "{line}"
            );
        }
        let exact = "y".repeat(MAX_MESSAGE_CHARS - 2);
        assert_eq!(one_line(&exact), exact);
    }

    #[test]
    fn messages_carry_the_numbers_that_disagree() {
        let error = Error::DimensionMismatch {
            model: "m".into(),
            configured: 128,
            served: 384,
        };
        assert_eq!(
            error.to_string(),
            "model \"m\" gives vectors of 384 dimensions, but 128 are configured"
        );
        let error = Error::Lost {
            url: "http://h".into(),
            detail: "reset".into(),
            attempts: 4,
        };
        assert_eq!(
            error.to_string(),
            "lost the connection to the Infinity server at \"http://h\": reset, after 4 attempts"
        );
        let error = Error::TimedOut {
            url: "http://h".into(),
            after: Duration::from_millis(1500),
            attempts: 1,
        };
        assert_eq!(
            error.to_string(),
            "no answer from the Infinity server at \"http://h\" within 1.5 s"
        );
    }
}
