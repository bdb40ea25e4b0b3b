//! What can be made to go wrong, and for how many requests. Injected by tests through `Server::inject` and from outside
//! through `POST /mock/fault`, in the same names.
//!
//! One request takes at most one fault: the oldest that is left and fits it.

use serde::{Deserialize, Serialize};

/// One way of going wrong. In JSON: `"wedge"`, or `{"slow_body": {"ms": 300}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The worker dies: this and every later embedding request hangs while `/health` and `/models` answer 200, until
    /// a restart or `clear_faults`.
    Wedge,
    /// The answer comes so much later.
    Hang {
        /// Milliseconds.
        ms: u64,
    },
    /// 429 as an overloaded Infinity gives it, or with a Retry-After as a proxy would add it.
    TooManyRequests {
        /// The header, if any.
        retry_after: Option<RetryAfter>,
    },
    /// 500 with a JSON error.
    ServerErrorJson,
    /// 500 with the text `Internal Server Error`.
    ServerErrorText,
    /// 502 with a proxy's HTML page.
    BadGateway,
    /// 503 with a Retry-After.
    Unavailable {
        /// The header, if any.
        retry_after: Option<RetryAfter>,
    },
    /// Any status with a JSON error.
    Status {
        /// The status.
        status: u16,
    },
    /// 307 to somewhere else.
    Redirect {
        /// The `Location`.
        location: String,
    },
    /// A right answer whose body trickles.
    SlowBody {
        /// Milliseconds from the first to the last byte.
        ms: u64,
    },
    /// Headers and half of the body, then silence.
    StallBody,
    /// Half of the body under the whole Content-Length, then an orderly close.
    TruncateBody,
    /// The connection is reset before any byte of the answer.
    ResetBeforeHeaders,
    /// The connection is reset in the middle of the body.
    ResetInBody,
    /// The connection is closed in order before any byte of the answer, as when a keep-alive ran out.
    CloseBeforeHeaders,
    /// A body without end and without Content-Length.
    EndlessBody,
    /// 200 with a body that is not JSON.
    NotJson,
    /// One embedding fewer than inputs.
    MissingItem,
    /// One embedding more than inputs.
    ExtraItem,
    /// The last two embeddings carry one index; a single one is sent twice.
    DuplicateIndex,
    /// The embeddings come in another order, each under its right index.
    ShuffledIndex,
    /// Embeddings lack their last value, so that their length is not a multiple of the dimension.
    RaggedLength,
    /// base64 of a number of bytes that four does not divide; in float a string among the numbers.
    OddBytes,
    /// A string that is not base64; in float instead of the numbers.
    InvalidBase64,
    /// Embeddings without any value.
    EmptyEmbedding,
    /// Embeddings of zeros only.
    AllZero,
    /// One value of each embedding is not a number that counts; float shows it as null.
    NonFinite {
        /// Which one.
        value: NonFinite,
    },
    /// The answer names another model.
    WrongModel {
        /// The name.
        name: String,
    },
    /// Rows of another length, as after a change of the model behind the same name.
    WrongDim {
        /// The length.
        dim: usize,
    },
    /// Any text that contains the marker makes its whole request fail.
    Poison {
        /// What to look for in texts.
        marker: String,
        /// 400, 422, 500, … in the form of this status.
        status: u16,
    },
    /// Any text that contains the marker makes the answer to its whole request come so much later.
    SlowText {
        /// What to look for in texts.
        marker: String,
        /// Milliseconds.
        ms: u64,
    },
    /// Any image of this size makes its whole request fail.
    PoisonImage {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// 400, 422, 500, …
        status: u16,
    },
}

/// A value that cannot be ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// Not a number.
    Nan,
    /// Infinity.
    Infinity,
    /// Minus infinity.
    MinusInfinity,
}

/// A `Retry-After` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Seconds to wait.
    Seconds(u64),
    /// The date that lies so many seconds ahead.
    DateIn(u64),
}

/// For how many requests a fault lasts. In JSON: `"once"`, `{"count": 3}`, `"always"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// One.
    Once,
    /// That many.
    Count(usize),
    /// All, until the faults are cleared.
    Always,
}

/// Which requests a fault is for. Faults in the vectors touch embeddings only, whatever is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/embeddings` and `/embeddings_image`.
    #[default]
    Embeddings,
    /// `/models`.
    Models,
    /// `/health`.
    Health,
}

/// The faults still to come.
#[derive(Debug, Default)]
pub(crate) struct Queue(Vec<Pending>);

#[derive(Debug)]
struct Pending {
    endpoint: Endpoint,
    fault: Fault,
    left: Option<usize>,
}

impl Queue {
    pub(crate) fn push(&mut self, endpoint: Endpoint, fault: Fault, times: Times) {
        let left = match times {
            Times::Once => Some(1),
            Times::Count(count) => Some(count),
            Times::Always => None,
        };
        self.0.push(Pending {
            endpoint,
            fault,
            left,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the oldest fault that `fits` a request to this endpoint.
    pub(crate) fn take(
        &mut self,
        endpoint: Endpoint,
        fits: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        let place = self.0.iter().position(|entry| {
            entry.endpoint == endpoint && entry.left != Some(0) && fits(&entry.fault)
        })?;
        let entry = &mut self.0[place];
        let fault = entry.fault.clone();
        if let Some(left) = &mut entry.left {
            *left -= 1;
            if *left == 0 {
                self.0.remove(place);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_taken_in_order_and_as_often_as_asked() {
        let mut queue = Queue::default();
        queue.push(Endpoint::Embeddings, Fault::NotJson, Times::Count(2));
        queue.push(Endpoint::Embeddings, Fault::AllZero, Times::Always);
        let mut take = || queue.take(Endpoint::Embeddings, |_| true);
        assert_eq!(take(), Some(Fault::NotJson));
        assert_eq!(take(), Some(Fault::NotJson));
        assert_eq!(take(), Some(Fault::AllZero));
        assert_eq!(take(), Some(Fault::AllZero));
        assert_eq!(queue.take(Endpoint::Models, |_| true), None);
    }

    #[test]
    fn a_fault_that_does_not_fit_waits() {
        let mut queue = Queue::default();
        queue.push(Endpoint::Embeddings, Fault::Wedge, Times::Once);
        assert_eq!(queue.take(Endpoint::Embeddings, |_| false), None);
        assert_eq!(
            queue.take(Endpoint::Embeddings, |_| true),
            Some(Fault::Wedge)
        );
    }

    #[test]
    fn the_names_in_json_are_snake_case() {
        let json = serde_json::to_string(&Fault::SlowBody { ms: 5 }).unwrap();
        assert_eq!(json, r#"{"slow_body":{"ms":5}}"#);
        let parsed: Fault =
            serde_json::from_str(r#"{"unavailable":{"retry_after":{"date_in":3}}}"#).unwrap();
        assert_eq!(
            parsed,
            Fault::Unavailable {
                retry_after: Some(RetryAfter::DateIn(3))
            }
        );
        assert_eq!(
            serde_json::from_str::<Times>("\"once\"").unwrap(),
            Times::Once
        );
    }
}
