//! `POST /embeddings`: what happens to a request from its bytes to its answer, in the order of the true server.
//!
//! Order matters to clients: JSON that cannot be read is refused before a wrong key, a wrong key before a wrong field, a
//! picture that cannot be opened before a full queue, and a full queue before a dead worker makes the request hang.
#![allow(
    clippy::result_large_err,
    reason = "a refusal is a whole HTTP response"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::answer::{Answer, Item, Vectors};
use crate::connection::Call;
use crate::fault::{Endpoint, Fault};
use crate::faulty::{before, deliver, error, overloaded, spoil};
use crate::picture::{self, Opened};
use crate::request::{Modality, Request, validate};
use crate::routes::{App, not_deployed, now};
use crate::worker::{Embedding, Worker};

pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let counted = Counted::new(app);
    answer(&counted.0, &call, &headers, &body, None)
        .await
        .unwrap_or_else(|refused| refused)
}

pub(crate) async fn embeddings_image(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let counted = Counted::new(app);
    let forced = Some(Modality::Image);
    answer(&counted.0, &call, &headers, &body, forced)
        .await
        .unwrap_or_else(|refused| refused)
}

/// Counts an embedding request as in flight until it is answered or abandoned.
struct Counted(Arc<App>);

impl Counted {
    fn new(app: Arc<App>) -> Self {
        app.journal.enter();
        Self(app)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.journal.leave();
    }
}

/// The JSON of a request.
///
/// # Errors
/// The refusal that the true server's framework gives: it reads JSON only under the right content type.
pub(crate) fn parse(headers: &HeaderMap, body: &Bytes) -> Result<Value, Response> {
    let Ok(text) = std::str::from_utf8(body) else {
        let detail = json!({"detail": "There was an error parsing the body"});
        return Err((StatusCode::BAD_REQUEST, Json(detail)).into_response());
    };
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Ok(Value::from(text));
    }
    serde_json::from_str(text).map_err(|problem| {
        let message = problem.to_string();
        if message.contains("surrogate") || message.contains("hex escape") {
            return (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response();
        }
        let lines_before: usize = text.split_inclusive('\n').take(problem.line().saturating_sub(1)).map(str::len).sum();
        let detail = json!({"detail": [{
            "type": "json_invalid", "loc": ["body", lines_before + problem.column()], "msg": "JSON decode error",
            "input": {}, "ctx": {"error": "Expecting value"},
        }]});
        (StatusCode::UNPROCESSABLE_ENTITY, Json(detail)).into_response()
    })
}

fn record(app: &App, call: &Call, value: &Value, bytes: usize) {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    app.journal.amend(call.record, |record| {
        record.body_bytes = bytes;
        record.model = text("model");
        record.modality = Some(text("modality").unwrap_or_else(|| "text".to_owned()));
        record.encoding_format = text("encoding_format");
        record.fields = value
            .as_object()
            .map(|fields| fields.keys().cloned().collect())
            .unwrap_or_default();
        record.inputs = match value.get("input") {
            Some(Value::Array(list)) => list.len(),
            Some(_) => 1,
            None => 0,
        };
    });
}

async fn answer(
    app: &Arc<App>,
    call: &Call,
    headers: &HeaderMap,
    body: &Bytes,
    forced: Option<Modality>,
) -> Result<Response, Response> {
    let value = parse(headers, body)?;
    record(app, call, &value, body.len());
    app.authorised(headers)?;
    let request = validate(&value, forced)
        .map_err(|detail| (StatusCode::UNPROCESSABLE_ENTITY, Json(detail)).into_response())?;
    drop(value);
    let worker = app.worker(&request.model)?;
    let pictures = front(worker, &request)?;
    let fault = app
        .faults
        .lock()
        .unwrap()
        .take(Endpoint::Embeddings, |fault| {
            fits(fault, &request, &pictures)
        });
    if let Some(fault) = &fault {
        if let Some(response) = before(fault, call, &worker.model.name).await {
            return Err(response);
        }
        if *fault == Fault::Wedge {
            worker.die();
        }
    }
    if worker.waiting() > app.options.queue_size {
        return Err(overloaded(&worker.model.name));
    }
    let usage = usage(&request, &pictures);
    let embeddings = work(app, worker, &request, pictures).await?;
    let mut answer = Answer {
        items: embeddings
            .into_iter()
            .enumerate()
            .map(|(index, embedding)| Item {
                index,
                vectors: Vectors::Good(embedding),
            })
            .collect(),
        model: worker.model.name.clone(),
        base64: request.base64,
        usage,
        number: app.answers.fetch_add(1, Ordering::Relaxed),
        created: now().as_secs(),
    };
    if let Some(fault) = &fault {
        spoil(fault, &mut answer);
    }
    Ok(deliver(fault.as_ref(), answer.write(), &call.connection))
}

/// What is done before the queue: is the modality served, can the pictures be opened?
fn front(worker: &Worker, request: &Request) -> Result<Vec<Opened>, Response> {
    let modality = request.modality;
    let served = match modality {
        Modality::Text => true,
        Modality::Image => worker.model.images,
        Modality::Audio => false,
    };
    if !served {
        let name = modality.name();
        let needed = format!("{name}_embed");
        return Err(not_deployed(
            worker,
            "embed",
            &format!(" for modality `{name}`"),
            &needed,
        ));
    }
    if modality == Modality::Text {
        return Ok(Vec::new());
    }
    request
        .inputs
        .iter()
        .map(|input| {
            picture::open(input).map_err(|message| error(StatusCode::BAD_REQUEST, &message))
        })
        .collect()
}

/// Whether a fault concerns this request: what lies in a text needs its marker.
fn fits(fault: &Fault, request: &Request, pictures: &[Opened]) -> bool {
    match fault {
        Fault::Poison { marker, .. } | Fault::SlowText { marker, .. } => {
            request.modality == Modality::Text
                && request.inputs.iter().any(|input| input.contains(marker))
        }
        Fault::PoisonImage { width, height, .. } => pictures
            .iter()
            .any(|picture| picture.width == *width && picture.height == *height),
        _ => true,
    }
}

fn usage(request: &Request, pictures: &[Opened]) -> usize {
    match request.modality {
        Modality::Text => request
            .inputs
            .iter()
            .map(|input| input.chars().count())
            .sum(),
        _ => pictures.iter().map(Opened::usage).sum(),
    }
}

/// What is done by the worker. Never returns from a dead one.
async fn work(
    app: &App,
    worker: &Arc<Worker>,
    request: &Request,
    pictures: Vec<Opened>,
) -> Result<Vec<Embedding>, Response> {
    let inputs = request.inputs.len();
    let embedded = if worker.is_dead() {
        None
    } else if request.modality == Modality::Text {
        Some(
            request
                .inputs
                .iter()
                .map(|input| worker.text(input))
                .collect(),
        )
    } else {
        let worker = worker.clone();
        // Decoding takes long; the other connections go on meanwhile.
        let decode = move || {
            let kind = worker.model.kind;
            let embed = |picture: &Opened| Some(worker.image(&picture.decode(kind)?));
            pictures
                .iter()
                .map(embed)
                .collect::<Option<Vec<Embedding>>>()
        };
        tokio::task::spawn_blocking(decode)
            .await
            .unwrap_or_default()
    };
    let Some(mut embeddings): Option<Vec<Embedding>> = embedded else {
        worker.die();
        worker.stick(inputs);
        return std::future::pending().await;
    };
    let longest = embeddings
        .iter()
        .map(Embedding::rows)
        .max()
        .unwrap_or_default();
    let ticket = worker.enter(request.modality, inputs, longest);
    let done_at = ticket.done_at + app.options.latency;
    if done_at > Instant::now() {
        tokio::time::sleep_until(done_at.into()).await;
    } else {
        // Requests that have arrived meanwhile get into the same batch; the timer would cost a millisecond.
        tokio::task::yield_now().await;
    }
    worker.finish(&mut embeddings, &ticket);
    for embedding in &mut embeddings {
        cut(embedding, request.dimensions)?;
    }
    Ok(embeddings)
}

/// `dimensions` shortens a single vector, but takes rows away from many.
fn cut(embedding: &mut Embedding, dimensions: i64) -> Result<(), Response> {
    if dimensions == 0 {
        return Ok(());
    }
    let most = if embedding.flat {
        embedding.dim
    } else {
        embedding.rows()
    };
    let Some(kept) = usize::try_from(dimensions)
        .ok()
        .filter(|kept| *kept <= most)
    else {
        return Err(error(
            StatusCode::BAD_REQUEST,
            &format!(
                "<class 'infinity_emb.primitives.MatryoshkaDimError'> -> matryoshka_dim={dimensions} is not in a valid range. Select between 1 and {most}."
            ),
        ));
    };
    if embedding.flat {
        embedding.dim = kept;
        embedding.values.truncate(kept);
    } else {
        embedding.values.truncate(kept * embedding.dim);
    }
    Ok(())
}
