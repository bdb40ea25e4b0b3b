//! The sentences of the errors: lower case, one line, with the numbers that disagree.
//!
//! Positions are 0-based in the variants and 1-based here, as people count.

use std::fmt;
use std::time::Duration;

use super::{ConnectKind, Error, ImageProblem, MAX_MESSAGE_CHARS};
use crate::config::{MAX_IMAGE_RATIO, MIN_IMAGE_SIDE};

impl fmt::Display for Error {
    /// One group of sentences after the other; each passes on what it has no sentence for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_input(f)
    }
}

impl Error {
    /// About one input or its embedding.
    fn fmt_input(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            _ => self.fmt_model(f),
        }
    }

    /// About the model.
    fn fmt_model(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            _ => self.fmt_connection(f),
        }
    }

    /// About the way to the server and the wait for it.
    fn fmt_connection(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidUrl { url, reason } => {
                write!(f, "invalid Infinity URL \"{url}\": {reason}")
            }
            Error::InvalidApiKey => {
                f.write_str("the API key has characters that cannot be sent in a header")
            }
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
                works: _,
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
            Error::Internal { reason } => write!(f, "the network thread failed: {reason}"),
            _ => self.fmt_refusal(f),
        }
    }

    /// About a request the server does not take.
    fn fmt_refusal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            _ => self.fmt_answer(f),
        }
    }

    /// About an answer that is of no use.
    fn fmt_answer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Overloaded {
                url,
                status,
                message,
                attempts,
                ..
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
            _ => unreachable!("every other variant has its sentence above"),
        }
    }
}

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
            ImageProblem::TooSlow { limit } => {
                write!(
                    f,
                    "it was not decoded and encoded within {}",
                    Seconds(*limit)
                )
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
            works: false,
        };
        assert_eq!(
            error.to_string(),
            "no answer from the Infinity server at \"http://h\" within 1.5 s"
        );
        let limit = Duration::from_secs(60);
        let problem = ImageProblem::TooSlow { limit };
        assert_eq!(
            Error::Image { index: 2, problem }.to_string(),
            "image 3: it was not decoded and encoded within 60 s"
        );
    }
}
