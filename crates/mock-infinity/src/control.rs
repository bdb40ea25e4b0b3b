//! `/mock/…`: the server's controls from outside, for tests that cannot link the library. Served with `--control` only.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::{Endpoint, Fault, Times};
use crate::routes::App;

/// The body of `POST /mock/fault`.
#[derive(Deserialize)]
struct Injection {
    fault: Fault,
    #[serde(default = "once")]
    times: Times,
    #[serde(default)]
    endpoint: Endpoint,
}

fn once() -> Times {
    Times::Once
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/mock/fault", post(fault))
        .route("/mock/clear", post(clear))
        .route("/mock/requests", get(requests))
        .route("/mock/stop", post(stop))
}

async fn fault(State(app): State<Arc<App>>, Json(injection): Json<Injection>) -> StatusCode {
    let mut faults = app.faults.lock().unwrap();
    faults.push(injection.endpoint, injection.fault, injection.times);
    StatusCode::NO_CONTENT
}

async fn clear(State(app): State<Arc<App>>) -> StatusCode {
    app.faults.lock().unwrap().clear();
    app.revive();
    app.journal.clear();
    StatusCode::NO_CONTENT
}

async fn stop(State(app): State<Arc<App>>) -> StatusCode {
    app.stop.send_replace(true);
    StatusCode::NO_CONTENT
}

async fn requests(State(app): State<Arc<App>>) -> Json<Value> {
    let now = Instant::now();
    let requests: Vec<Value> = app
        .journal
        .requests()
        .into_iter()
        .filter(|request| !request.path.starts_with("/mock/"))
        .map(|request| {
            json!({
                "method": request.method, "path": request.path, "model": request.model, "modality": request.modality,
                "encoding_format": request.encoding_format, "fields": request.fields, "inputs": request.inputs,
                "body_bytes": request.body_bytes, "authorized": request.authorized, "peer_port": request.peer_port,
                "connection": request.connection, "status": request.status, "client_gone": request.client_gone,
                "started_ms_ago": now.duration_since(request.started).as_secs_f64() * 1e3,
                "took_ms": request.ended.map(|ended| ended.duration_since(request.started).as_secs_f64() * 1e3),
            })
        })
        .collect();
    Json(json!({
        "requests": requests, "max_in_flight": app.journal.max_in_flight(),
        "open_connections": app.journal.open_connections(),
    }))
}
