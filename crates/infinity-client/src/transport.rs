//! The only place that speaks HTTP: one request, one reply, or why there is none.
//!
//! No proxy from the environment, no redirect, no decompression, HTTP/1.1 only, and every reply is bounded. The server
//! closes an idle connection after 5 s, so ours are given up after 4; one that dies in between is seen by
//! [`Transport::may_reuse`]. TLS is rustls with ring and the system's root certificates, read when the first https URL is
//! called and again on the next call if there were none.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use once_cell::sync::OnceCell;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Url, redirect};

use crate::config::Secret;
use crate::endpoint::origin_of;
use crate::error::{ConnectKind, one_line};
use crate::retry::parse_retry_after;

/// The server's keep-alive is 5 s: an older idle connection is dead.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Nobody who answers at all takes longer to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an error's body is read; its message stands at the beginning.
const MAX_ERROR_BYTES: u64 = 64 << 10;
/// Room made for an answer before its first byte: a length that is only announced is not trusted further.
const MAX_ROOM_AT_ONCE: u64 = 4 << 20;

/// What to send.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) url: Url,
    /// POSTed as JSON; without one it is a GET.
    pub(crate) body: Option<Bytes>,
    pub(crate) api_key: Option<Secret>,
    /// Bytes a successful answer may have.
    pub(crate) max_response_bytes: u64,
}

/// What came back, with any status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<Duration>,
    /// Origin of the Location header.
    pub(crate) location: Option<String>,
    /// Whole when the status is a success; otherwise its beginning.
    pub(crate) body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    Connect { kind: ConnectKind, detail: String },
    Lost(String),
    Malformed(String),
    TooLarge(Option<u64>),
    InvalidApiKey,
    Internal(String),
}

/// The connections of one network thread.
pub(crate) struct Transport {
    plain: OnceCell<Client>,
    tls: OnceCell<Client>,
    /// When each origin last answered: its connection may still be in the pool.
    answered: Mutex<HashMap<String, Instant>>,
}

impl Transport {
    pub(crate) fn new() -> Self {
        Transport {
            plain: OnceCell::new(),
            tls: OnceCell::new(),
            answered: Mutex::default(),
        }
    }

    /// Sends one request and reads its reply. Dropping the future closes the connection.
    pub(crate) async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        let https = call.url.scheme() == "https";
        let client = if https {
            self.tls
                .get_or_try_init(|| system_roots().and_then(build))?
        } else {
            self.plain
                .get_or_try_init(|| build(rustls::RootCertStore::empty()))?
        };
        let mut request = match &call.body {
            Some(body) => client
                .post(call.url.clone())
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone()),
            None => client.get(call.url.clone()),
        };
        if let Some(key) = &call.api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                .map_err(|_| Failure::InvalidApiKey)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request
            .send()
            .await
            .map_err(|error| failure_of(&error, https))?;
        let reply = read(response, call.max_response_bytes, https).await?;
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.retain(|_, at| at.elapsed() < POOL_IDLE_TIMEOUT);
        answered.insert(call.url.origin().ascii_serialization(), Instant::now());
        Ok(reply)
    }

    /// Whether a request to this URL may go over a connection that the server has closed in the meantime.
    pub(crate) fn may_reuse(&self, url: &Url) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered
            .get(&url.origin().ascii_serialization())
            .is_some_and(|at| at.elapsed() < 2 * POOL_IDLE_TIMEOUT)
    }
}

/// Reads a reply chunk by chunk, never more than allowed.
async fn read(
    mut response: reqwest::Response,
    max_bytes: u64,
    https: bool,
) -> Result<Reply, Failure> {
    let status = response.status();
    let announced = response.content_length();
    if status.is_success() && announced.is_some_and(|bytes| bytes > max_bytes) {
        return Err(Failure::TooLarge(announced));
    }
    let headers = response.headers();
    let mut reply = Reply {
        status: status.as_u16(),
        content_type: text_of(headers, CONTENT_TYPE)
            .map(one_line)
            .unwrap_or_default(),
        retry_after: text_of(headers, RETRY_AFTER)
            .and_then(|value| parse_retry_after(value, SystemTime::now())),
        location: text_of(headers, LOCATION).map(origin_of),
        body: Vec::with_capacity(
            announced.unwrap_or(0).min(MAX_ROOM_AT_ONCE).min(max_bytes) as usize
        ),
    };
    loop {
        match response.chunk().await {
            Ok(Some(chunk))
                if (reply.body.len() + chunk.len()) as u64 > max_bytes && status.is_success() =>
            {
                return Err(Failure::TooLarge(None));
            }
            Ok(Some(chunk)) => reply.body.extend_from_slice(&chunk),
            Ok(None) => return Ok(reply),
            // The status already says what went wrong.
            Err(_) if !status.is_success() => return Ok(reply),
            Err(error) => return Err(failure_of(&error, https)),
        }
        if !status.is_success() && reply.body.len() as u64 >= MAX_ERROR_BYTES {
            return Ok(reply);
        }
    }
}

fn text_of(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn build(roots: rustls::RootCertStore) -> Result<Client, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Internal(format!("no TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(Resolver))
        .user_agent(concat!("infinity_embed/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .build()
        .map_err(|error| Failure::Internal(format!("no HTTP client: {error}")))
}

/// The system's root certificates; SSL_CERT_FILE and SSL_CERT_DIR are honoured.
fn system_roots() -> Result<rustls::RootCertStore, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let detail =
            String::from("the system has no usable root certificates (package ca-certificates)");
        return Err(Failure::Connect {
            kind: ConnectKind::Tls,
            detail,
        });
    }
    Ok(roots)
}

/// Looks names up as the system does, and marks a failure as one of its own kind.
struct Resolver;

/// A name that does not resolve.
#[derive(Debug)]
struct Unresolved(io::Error);

impl std::fmt::Display for Unresolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Unresolved {}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let host = (name.as_str().to_owned(), 0);
            let found = tokio::net::lookup_host(host).await.map_err(Unresolved)?;
            Ok(Box::new(found) as reqwest::dns::Addrs)
        })
    }
}

/// Takes an error of the HTTP client apart along its chain of causes.
fn failure_of(error: &reqwest::Error, https: bool) -> Failure {
    let causes = || {
        std::iter::successors(Some(error as &(dyn StdError + 'static)), |&cause| {
            cause.source()
        })
    };
    let io = causes()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .last()
        .map(innermost);
    let tls = io
        .and_then(io::Error::get_ref)
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let detail = match tls {
        Some(tls) => one_line(&tls.to_string()),
        None => one_line(&causes().last().map(ToString::to_string).unwrap_or_default()),
    };
    if error.is_connect() {
        let unresolved = causes().any(|cause| cause.is::<Unresolved>());
        let kind = match io.map(io::Error::kind) {
            _ if unresolved => ConnectKind::Dns,
            _ if tls.is_some() => ConnectKind::Tls,
            _ if error.is_timeout() => ConnectKind::TimedOut,
            Some(io::ErrorKind::ConnectionRefused) => ConnectKind::Refused,
            Some(io::ErrorKind::TimedOut) => ConnectKind::TimedOut,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) if https => {
                ConnectKind::Tls
            }
            _ => ConnectKind::Unreachable,
        };
        return Failure::Connect { kind, detail };
    }
    let foreign = causes()
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_parse);
    let invalid = io.is_some_and(|io| {
        matches!(
            io.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
        )
    });
    if foreign || (invalid && tls.is_none()) {
        return Failure::Malformed(format!("not HTTP: {detail}"));
    }
    Failure::Lost(detail)
}

/// An I/O error may wrap another one, which the chain of causes jumps over.
fn innermost(error: &io::Error) -> &io::Error {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<io::Error>())
    {
        Some(inner) => innermost(inner),
        None => error,
    }
}
