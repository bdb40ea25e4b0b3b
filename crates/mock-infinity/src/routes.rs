//! The routes, what they share, and the small endpoints; `embeddings` has a file of its own. Built once per start by
//! `server`.
//!
//! `/health` and `/metrics` stand outside the prefix and ask for no key.
#![allow(
    clippy::result_large_err,
    reason = "a refusal is a whole HTTP response"
)]

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::connection::Call;
use crate::embeddings::{embeddings, embeddings_image, parse};
use crate::fault::{Endpoint, Fault, Queue};
use crate::faulty::{before, deliver, error};
use crate::journal::Journal;
use crate::options::Options;
use crate::worker::Worker;

/// Everything the handlers share; outlives a stop and a restart.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) faults: Mutex<Queue>,
    pub(crate) journal: Journal,
    /// Set to stop; a watch, because a stop that nobody waited for must not stop the next run.
    pub(crate) stop: watch::Sender<bool>,
    workers: Vec<Arc<Worker>>,
    pub(crate) answers: AtomicU64,
    started: u64,
}

type Shared = State<Arc<App>>;

impl App {
    pub(crate) fn new(options: Options) -> Self {
        let workers = options
            .models
            .iter()
            .map(|model| {
                Arc::new(Worker::new(
                    model.clone(),
                    options.batch_size.max(1),
                    options.latency_per_item,
                ))
            })
            .collect();
        Self {
            options,
            faults: Mutex::default(),
            journal: Journal::default(),
            stop: watch::Sender::new(false),
            workers,
            answers: AtomicU64::new(0),
            started: now().as_secs(),
        }
    }

    /// Gives every dead worker a successor.
    pub(crate) fn revive(&self) {
        self.workers.iter().for_each(|worker| worker.revive());
    }

    pub(crate) fn authorised(&self, headers: &HeaderMap) -> Result<(), Response> {
        let Some(key) = &self.options.api_key else {
            return Ok(());
        };
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        if given.and_then(|value| value.strip_prefix("Bearer ")) == Some(key) {
            return Ok(());
        }
        let body = Json(json!({"detail": "Unauthorized"}));
        Err((
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            body,
        )
            .into_response())
    }

    /// With one model every name means it.
    pub(crate) fn worker(&self, name: &str) -> Result<&Arc<Worker>, Response> {
        if let [only] = self.workers.as_slice() {
            return Ok(only);
        }
        self.workers.iter().find(|worker| worker.model.name == name).ok_or_else(|| {
            let names: Vec<String> = self.workers.iter().map(|worker| format!("'{}'", worker.model.name)).collect();
            let names = names.join(", ");
            error(
                StatusCode::BAD_REQUEST,
                &format!("Invalid model: Engine for model name `{name}` not found. Available model names are [{names}]"),
            )
        })
    }
}

pub(crate) fn now() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// All routes.
pub(crate) fn build(app: Arc<App>) -> Router {
    let prefix = &app.options.url_prefix;
    let at = |path: &str| format!("{prefix}{path}");
    let mut routes = Router::new()
        .route(&at("/embeddings"), post(embeddings))
        .route(&at("/embeddings_image"), post(embeddings_image))
        .route(&at("/models"), get(models))
        .route(
            &at("/rerank"),
            post(|app, headers, body| unsupported(app, headers, body, "rerank")),
        )
        .route(
            &at("/classify"),
            post(|app, headers, body| unsupported(app, headers, body, "classify")),
        )
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route(
            "/",
            get(|| async {
                (
                    StatusCode::TEMPORARY_REDIRECT,
                    [(header::LOCATION, "/docs")],
                )
            }),
        )
        .fallback(missing)
        .method_not_allowed_fallback(|| async {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                Json(json!({"detail": "Method Not Allowed"})),
            )
        });
    if app.options.control {
        routes = routes.merge(crate::control::routes());
    }
    routes.layer(DefaultBodyLimit::disable()).with_state(app)
}

/// A path with a slash too many is sent on, anything else is not there.
async fn missing(State(app): Shared, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let prefix = &app.options.url_prefix;
    if let Some(path) = uri.path().strip_suffix('/') {
        let known = path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
            [
                "/embeddings",
                "/embeddings_image",
                "/models",
                "/rerank",
                "/classify",
            ]
            .contains(&rest)
        }) || ["/health", "/metrics"].contains(&path);
        if known && method != Method::OPTIONS {
            let host = headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default();
            return (
                StatusCode::TEMPORARY_REDIRECT,
                [(header::LOCATION, format!("http://{host}{path}"))],
            )
                .into_response();
        }
    }
    (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"}))).into_response()
}

async fn health(State(app): Shared, Extension(call): Extension<Call>) -> Response {
    let body = json!({"unix": now().as_secs_f64()}).to_string();
    plain(&app, &call, Endpoint::Health, body).await
}

async fn metrics() -> Response {
    let body = "# HELP http_requests_total Total number of requests.\n# TYPE http_requests_total counter\n";
    let kind = "text/plain; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

async fn models(
    State(app): Shared,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = app.authorised(&headers) {
        return refused;
    }
    let data: Vec<Value> = app
        .workers
        .iter()
        .map(|worker| {
            let waiting = worker.waiting();
            json!({
                "id": worker.model.name,
                "stats": {
                    "queue_fraction": waiting as f64 / app.options.queue_size.max(1) as f64,
                    "queue_absolute": waiting, "results_pending": waiting, "batch_size": app.options.batch_size,
                },
                "object": "model", "owned_by": "infinity", "created": app.started, "backend": "torch",
                "capabilities": worker.model.capabilities(),
            })
        })
        .collect();
    let body = json!({"data": data, "object": "list"}).to_string();
    plain(&app, &call, Endpoint::Models, body).await
}

/// An answer that no worker is needed for, with the faults meant for it.
async fn plain(app: &App, call: &Call, endpoint: Endpoint, body: String) -> Response {
    let fault = app.faults.lock().unwrap().take(endpoint, |_| true);
    if let Some(fault) = &fault {
        if let Some(response) = before(fault, call, "").await {
            return response;
        }
        if *fault == Fault::Wedge {
            return std::future::pending().await;
        }
    }
    deliver(fault.as_ref(), body, &call.connection)
}

async fn unsupported(
    State(app): Shared,
    headers: HeaderMap,
    body: Bytes,
    task: &'static str,
) -> Response {
    let answer = || -> Result<Response, Response> {
        let body = parse(&headers, &body)?;
        app.authorised(&headers)?;
        let name = body
            .get("model")
            .and_then(Value::as_str)
            .unwrap_or("default/not-specified");
        Ok(not_deployed(app.worker(name)?, task, "", task))
    };
    answer().unwrap_or_else(|refused| refused)
}

pub(crate) fn not_deployed(worker: &Worker, task: &str, modality: &str, needed: &str) -> Response {
    let options: Vec<String> = worker
        .model
        .capabilities()
        .iter()
        .map(|name| format!("'{name}'"))
        .collect();
    error(
        StatusCode::BAD_REQUEST,
        &format!(
            "ModelNotDeployedError: model=`{}` does not support `{task}`{modality}. Reason: the loaded moded cannot fullyfill `{needed}`. Options are {{{}}}.",
            worker.model.name,
            options.join(", ")
        ),
    )
}
