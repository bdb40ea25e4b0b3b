//! One request with its retries under one deadline, and what a failed one means.
//!
//! A session is one call of the client: its settings, its endpoint, the connections. Not obvious: after a timeout the
//! server is asked how it is, because a dead worker behind a healthy `/health` looks like a slow one and needs a restart.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::Error;
use crate::config::{Config, Encoding, Modality};
use crate::dimension::Dimensions;
use crate::endpoint::Endpoint;
use crate::error::ConnectKind;
use crate::request::{self, PROBE_WORD};
use crate::response::message_of;
use crate::retry::{Class, class_of_status, jitter, wait_before};
use crate::transport::{Call, Failure, Reply, Transport};

/// The longest that finding out why a request timed out may take.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(3);
/// A pooled connection that the server had closed fails as soon as it is written to; later, it is another failure.
const STALE_SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// One call of the client.
pub(crate) struct Session {
    pub(crate) transport: Arc<Transport>,
    pub(crate) dimensions: Arc<Dimensions>,
    pub(crate) endpoint: Endpoint,
    pub(crate) config: Config,
    /// Held while the dimension is being learnt, so that requests in flight learn it once.
    pub(crate) learning: tokio::sync::Mutex<()>,
}

/// What is done about a failure that may have been an accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accidents {
    /// The request is repeated once.
    Repeated,
    /// It was none: these inputs are under suspicion.
    Believed,
}

/// How the server is, by what it says beside a request that it did not answer.
enum Condition {
    /// It is healthy, and embeds one word.
    Works,
    /// It is healthy, but a one-word request hangs or is turned away.
    Wedged,
    /// Neither was seen.
    Unknown,
}

/// An attempt that did not end in an answer.
struct Trouble {
    error: Error,
    class: Class,
    retry_after: Option<Duration>,
}

impl Session {
    /// Sends inputs to be embedded, `within` what is left of the deadline; the reply has status 2xx. A refusal of the inputs
    /// is [`Error::Rejected`] with index 0.
    pub(crate) async fn embeddings(
        &self,
        modality: Modality,
        encoding: Encoding,
        input: &[&str],
        within: Duration,
        accidents: Accidents,
    ) -> Result<Reply, Error> {
        let body = request::body(&self.config.model, modality, encoding, input);
        self.exchange(&self.embeddings_call(body), modality, within, accidents)
            .await
    }

    /// Asks for the list of models.
    pub(crate) async fn models(&self) -> Result<Reply, Error> {
        self.exchange(
            &self.get(self.endpoint.models.clone(), true),
            Modality::Text,
            self.config.timeout,
            Accidents::Repeated,
        )
        .await
    }

    /// Sends a call until it is answered, and finds out why when it is not in time.
    async fn exchange(
        &self,
        call: &Call,
        modality: Modality,
        within: Duration,
        accidents: Accidents,
    ) -> Result<Reply, Error> {
        let result = self.attempts(call, modality, within, accidents).await;
        let Err(Error::TimedOut {
            url,
            after,
            attempts,
            ..
        }) = result
        else {
            return result;
        };
        Err(match self.condition().await {
            Condition::Wedged => Error::Wedged { url, after },
            condition => Error::TimedOut {
                url,
                after,
                attempts,
                works: matches!(condition, Condition::Works),
            },
        })
    }

    /// Attempts under one deadline, with waits between them; never sleeps past the deadline.
    async fn attempts(
        &self,
        call: &Call,
        modality: Modality,
        within: Duration,
        accidents: Accidents,
    ) -> Result<Reply, Error> {
        let begun = Instant::now();
        let (mut attempts, mut stale_seen) = (0u32, false);
        let mut once_spent = accidents == Accidents::Believed;
        loop {
            let attempted = Instant::now();
            let may_be_stale = !stale_seen && self.transport.may_reuse(&call.url);
            let sent = timeout_at(begun + within, self.transport.send(call)).await;
            let lost_at_once = matches!(sent, Ok(Err(Failure::Lost(_))))
                && attempted.elapsed() < STALE_SHOWS_WITHIN;
            if may_be_stale && lost_at_once {
                // The server closed a pooled connection as we wrote: nobody's failure, and no attempt.
                stale_seen = true;
                continue;
            }
            attempts += 1;
            let trouble = match sent {
                Err(_) => return Err(self.timed_out(self.config.timeout, attempts)),
                Ok(Ok(reply)) if (200..300).contains(&reply.status) => return Ok(reply),
                Ok(Ok(reply)) => self.trouble_of_status(reply, modality, attempts),
                Ok(Err(failure)) => self.trouble_of_failure(failure, attempts),
            };
            let allowed = match trouble.class {
                Class::Never => false,
                Class::Once => !std::mem::replace(&mut once_spent, true),
                Class::Always => true,
            };
            if !allowed || attempts > self.config.max_retries {
                return Err(trouble.error);
            }
            let wait = wait_before(attempts - 1, jitter(), trouble.retry_after);
            if begun.elapsed().saturating_add(wait) >= within {
                return Err(trouble.error);
            }
            sleep(wait).await;
        }
    }

    fn timed_out(&self, after: Duration, attempts: u32) -> Error {
        Error::TimedOut {
            url: self.url(),
            after,
            attempts,
            works: false,
        }
    }

    /// What a reply with an error status means.
    fn trouble_of_status(&self, reply: Reply, modality: Modality, attempts: u32) -> Trouble {
        let (url, status) = (self.url(), reply.status);
        let model = || self.config.model.clone();
        let message = message_of(&reply.body);
        let error = match status {
            300..400 => Error::Redirected {
                url,
                status,
                location: reply.location,
            },
            400 if message.contains("ModelNotDeployedError") => Error::UnsupportedModality {
                model: model(),
                modality,
                message,
            },
            400 if message.starts_with("Invalid model") => Error::UnknownModel {
                model: model(),
                message,
            },
            400 | 413 | 422 => Error::Rejected {
                index: 0,
                status,
                message,
            },
            401 | 403 => Error::Unauthorized {
                url,
                status,
                message,
                key_sent: self.config.api_key.is_some(),
            },
            404 => Error::NotFound { url, message },
            429 | 503 => Error::Overloaded {
                url,
                status,
                message,
                retry_after: reply.retry_after,
                attempts,
            },
            408 | 500.. => Error::ServerFailed {
                url,
                status,
                message,
                attempts,
            },
            _ => Error::Refused {
                url,
                status,
                message,
            },
        };
        Trouble {
            error,
            class: class_of_status(status),
            retry_after: reply.retry_after,
        }
    }

    /// What a request without a reply means.
    fn trouble_of_failure(&self, failure: Failure, attempts: u32) -> Trouble {
        let url = self.url();
        let (error, class) = match failure {
            Failure::Connect { kind, detail } => {
                let class = if kind == ConnectKind::Tls {
                    Class::Never
                } else {
                    Class::Always
                };
                (
                    Error::Connect {
                        url,
                        kind,
                        detail,
                        attempts,
                    },
                    class,
                )
            }
            Failure::Lost(detail) => (
                Error::Lost {
                    url,
                    detail,
                    attempts,
                },
                Class::Always,
            ),
            Failure::Malformed(reason) => (Error::Malformed { url, reason }, Class::Never),
            Failure::TooLarge(bytes) => {
                let limit = self.config.max_response_bytes;
                (Error::ResponseTooLarge { url, limit, bytes }, Class::Never)
            }
            Failure::InvalidApiKey => (Error::InvalidApiKey, Class::Never),
            Failure::Internal(reason) => (Error::Internal { reason }, Class::Never),
        };
        if matches!(error, Error::Connect { .. } | Error::Lost { .. }) {
            // Whoever answers next may be another server.
            self.dimensions
                .forget(&self.endpoint.base, &self.config.model);
        }
        Trouble {
            error,
            class,
            retry_after: None,
        }
    }

    /// How the server is after a request timed out.
    async fn condition(&self) -> Condition {
        let until = Instant::now() + self.config.timeout.min(DIAGNOSIS_TIMEOUT);
        let health = self.get(self.endpoint.health.clone(), false);
        let healthy = timeout_at(until, self.transport.send(&health)).await;
        if !matches!(healthy, Ok(Ok(Reply { status: 200, .. }))) {
            return Condition::Unknown;
        }
        match timeout_at(until, self.transport.send(&self.probe_call())).await {
            Err(_) | Ok(Ok(Reply { status: 429, .. })) => Condition::Wedged,
            Ok(Ok(Reply {
                status: 200..300, ..
            })) => Condition::Works,
            Ok(_) => Condition::Unknown,
        }
    }

    /// Asks `/health` once. `Ok` holds the status.
    pub(crate) async fn health_status(&self, within: Duration) -> Result<u16, Error> {
        let call = self.get(self.endpoint.health.clone(), false);
        match timeout(within, self.transport.send(&call)).await {
            Err(_) => Err(self.timed_out(within, 1)),
            Ok(Ok(reply)) => Ok(reply.status),
            Ok(Err(failure)) => Err(self.trouble_of_failure(failure, 1).error),
        }
    }

    /// Embeds one word as float, once. A timeout comes back as [`Error::TimedOut`].
    pub(crate) async fn probe_once(&self, within: Duration) -> Result<Reply, Error> {
        match timeout(within, self.transport.send(&self.probe_call())).await {
            Err(_) => Err(self.timed_out(within, 1)),
            Ok(Ok(reply)) if (200..300).contains(&reply.status) => Ok(reply),
            Ok(Ok(reply)) => Err(self.trouble_of_status(reply, Modality::Text, 1).error),
            Ok(Err(failure)) => Err(self.trouble_of_failure(failure, 1).error),
        }
    }

    /// Whether the server embeds one word, and soon.
    pub(crate) async fn embeds_a_word(&self) -> bool {
        let within = self.config.timeout.min(DIAGNOSIS_TIMEOUT);
        self.probe_once(within).await.is_ok()
    }

    fn probe_call(&self) -> Call {
        self.embeddings_call(request::body(
            &self.config.model,
            Modality::Text,
            Encoding::Float,
            &[PROBE_WORD],
        ))
    }

    fn embeddings_call(&self, body: Bytes) -> Call {
        let url = self.endpoint.embeddings.clone();
        Call {
            body: Some(body),
            ..self.get(url, true)
        }
    }

    /// A GET; `/health` is outside authentication, so the key stays away from it.
    fn get(&self, url: reqwest::Url, with_key: bool) -> Call {
        let api_key = self.config.api_key.clone().filter(|_| with_key);
        Call {
            url,
            body: None,
            api_key,
            max_response_bytes: self.config.max_response_bytes,
        }
    }

    /// The URL as errors show it.
    pub(crate) fn url(&self) -> String {
        self.endpoint.base.clone()
    }

    /// An answer that is not what the protocol says.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed {
            url: self.url(),
            reason: reason.into(),
        }
    }
}
