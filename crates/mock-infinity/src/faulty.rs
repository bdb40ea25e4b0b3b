//! Faults carried out: statuses instead of answers, answers whose vectors are spoilt, and bodies that do not arrive as
//! they should. Used by the routes, which decide when.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde_json::json;
use tokio::time::Sleep;

use crate::answer::{Answer, Vectors, bytes, encode};
use crate::connection::{Call, Connection, Ending};
use crate::fault::{Fault, NonFinite, RetryAfter};
use crate::worker::Embedding;

/// Long enough for the bytes before a cut to be on their way.
const BEFORE_CUT: Duration = Duration::from_millis(20);
/// Pieces that a slow body comes in.
const SLOW_PIECES: usize = 20;

/// An error in the envelope of the true server.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": null, "param": null, "code": status.as_u16()}});
    (status, Json(body)).into_response()
}

/// What a fault does instead of, or before, an answer.
pub(crate) async fn before(fault: &Fault, call: &Call, model: &str) -> Option<Response> {
    match fault {
        Fault::Hang { ms } | Fault::SlowText { ms, .. } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            None
        }
        Fault::ResetBeforeHeaders => {
            call.connection.end(Ending::Reset);
            std::future::pending().await
        }
        Fault::CloseBeforeHeaders => {
            call.connection.end(Ending::Close);
            std::future::pending().await
        }
        fault => refusal(fault, model),
    }
}

/// The refusal a fault makes of a whole request, if it is of that sort.
fn refusal(fault: &Fault, model: &str) -> Option<Response> {
    Some(match fault {
        Fault::TooManyRequests { retry_after } => with_retry_after(overloaded(model), *retry_after),
        Fault::ServerErrorJson => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError: the model could not be run",
        ),
        Fault::ServerErrorText => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response()
        }
        Fault::BadGateway => {
            let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
            (StatusCode::BAD_GATEWAY, axum::response::Html(page)).into_response()
        }
        Fault::Unavailable { retry_after } => with_retry_after(
            (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response(),
            *retry_after,
        ),
        Fault::Status { status } => failure(*status, "fault on request"),
        Fault::Poison { marker, status } => {
            failure(*status, &format!("an input contains \"{marker}\""))
        }
        Fault::PoisonImage {
            width,
            height,
            status,
        } => failure(*status, &format!("an image measures {width} x {height}")),
        Fault::Redirect { location } => (
            StatusCode::TEMPORARY_REDIRECT,
            [(header::LOCATION, location.clone())],
        )
            .into_response(),
        _ => return None,
    })
}

/// What a full queue answers.
pub(crate) fn overloaded(model: &str) -> Response {
    error(
        StatusCode::TOO_MANY_REQUESTS,
        &format!("model {model} is currently overloaded"),
    )
}

/// A status in the form in which the true server gives it.
fn failure(status: u16, message: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == 422 {
        let body = json!({"detail": [{"type": "value_error", "loc": ["body"], "msg": message, "input": null}]});
        return (code, Json(body)).into_response();
    }
    error(code, message)
}

fn with_retry_after(mut response: Response, retry_after: Option<RetryAfter>) -> Response {
    let value = match retry_after {
        None => return response,
        Some(RetryAfter::Seconds(seconds)) => seconds.to_string(),
        Some(RetryAfter::DateIn(seconds)) => {
            httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
        }
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// Spoils an answer, if the fault is of that sort.
pub(crate) fn spoil(fault: &Fault, answer: &mut Answer) {
    let base64 = answer.base64;
    match fault {
        Fault::MissingItem => drop(answer.items.pop()),
        Fault::ExtraItem => {
            let mut extra = answer.items[0].clone();
            extra.index = answer.items.len();
            answer.items.push(extra);
        }
        Fault::DuplicateIndex => match answer.items.len() {
            1 => answer.items.push(answer.items[0].clone()),
            count => answer.items[count - 1].index = count - 2,
        },
        Fault::ShuffledIndex => answer.items.rotate_left(1),
        Fault::WrongModel { name } => answer.model.clone_from(name),
        _ => {
            for item in &mut answer.items {
                if let Vectors::Good(embedding) = &mut item.vectors
                    && let Some(json) = spoil_vectors(fault, embedding, base64)
                {
                    item.vectors = Vectors::Spoilt(json);
                }
            }
        }
    }
}

/// Spoils one embedding in place, or gives the JSON that shall stand in its stead.
fn spoil_vectors(fault: &Fault, embedding: &mut Embedding, base64: bool) -> Option<String> {
    match fault {
        Fault::RaggedLength => {
            embedding.values.pop();
            None
        }
        Fault::OddBytes if base64 => {
            let mut raw = bytes(&embedding.values);
            raw.pop();
            Some(format!("\"{}\"", STANDARD.encode(raw)))
        }
        Fault::OddBytes => Some(encode(embedding, false).replacen('[', "[\"1.0\",", 1)),
        Fault::InvalidBase64 if base64 => Some(encode(embedding, true).replacen("\"", "\"!*", 1)),
        Fault::InvalidBase64 => Some("\"!*not numbers\"".to_owned()),
        Fault::EmptyEmbedding => Some(if base64 { "\"\"" } else { "[]" }.to_owned()),
        Fault::AllZero => {
            embedding.values.fill(0.0);
            None
        }
        Fault::NonFinite { value } => {
            // The last row, because the first may be padding that a client strips unread.
            if let Some(last) = embedding.values.last_mut() {
                *last = match value {
                    NonFinite::Nan => f32::NAN,
                    NonFinite::Infinity => f32::INFINITY,
                    NonFinite::MinusInfinity => f32::NEG_INFINITY,
                };
            }
            None
        }
        Fault::WrongDim { dim } => {
            let rows = embedding.rows();
            embedding.values = (0..rows * dim)
                .map(|place| 0.1 + (place % 7) as f32)
                .collect();
            embedding.dim = *dim;
            None
        }
        _ => None,
    }
}

/// Sends a JSON body as the fault wants it; whole and at once if it is of another sort.
pub(crate) fn deliver(
    fault: Option<&Fault>,
    body: String,
    connection: &Arc<Connection>,
) -> Response {
    let body = Bytes::from(body);
    let length = body.len() as u64;
    let half = body.slice(..body.len() / 2);
    let script = match fault {
        Some(Fault::SlowBody { ms }) => {
            let pause = Duration::from_millis(*ms) / SLOW_PIECES as u32;
            let piece = body.len().div_ceil(SLOW_PIECES).max(1);
            let pieces = (0..body.len()).step_by(piece);
            let slices = pieces.map(|from| body.slice(from..body.len().min(from + piece)));
            Script::new(
                slices.flat_map(|slice| [Step::Wait(pause), Step::Send(slice)]),
                Some(length),
            )
        }
        Some(Fault::StallBody) => Script::new([Step::Send(half), Step::Stall], Some(length)),
        Some(Fault::TruncateBody) => Script::new(
            [
                Step::Send(half),
                Step::Wait(BEFORE_CUT),
                Step::End(connection.clone(), Ending::Close),
            ],
            Some(length),
        ),
        Some(Fault::ResetInBody) => Script::new(
            [
                Step::Send(half),
                Step::Wait(BEFORE_CUT),
                Step::End(connection.clone(), Ending::Reset),
            ],
            Some(length),
        ),
        Some(Fault::EndlessBody) => {
            let more = Bytes::from(vec![b'A'; 64 * 1024]);
            let head = Bytes::from_static(
                br#"{"object":"list","data":[{"object":"embedding","embedding":""#,
            );
            Script::new([Step::Send(head), Step::Repeat(more)], None)
        }
        Some(Fault::NotJson) => return json_response(Body::from("embeddings: none today")),
        _ => return json_response(Body::from(body)),
    };
    json_response(Body::new(script))
}

fn json_response(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A body told step by step.
struct Script {
    steps: VecDeque<Step>,
    length: Option<u64>,
    sleep: Option<Pin<Box<Sleep>>>,
}

enum Step {
    Send(Bytes),
    Wait(Duration),
    /// The same piece for ever.
    Repeat(Bytes),
    /// Nothing for ever.
    Stall,
    End(Arc<Connection>, Ending),
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>, length: Option<u64>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            length,
            sleep: None,
        }
    }
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            let piece = match self.steps.front() {
                None => return Poll::Ready(None),
                Some(Step::Wait(time)) => {
                    self.sleep = Some(Box::pin(tokio::time::sleep(*time)));
                    self.steps.pop_front();
                    continue;
                }
                Some(Step::Stall) => return Poll::Pending,
                Some(Step::End(connection, ending)) => {
                    connection.end(*ending);
                    return Poll::Pending;
                }
                Some(Step::Repeat(piece)) => {
                    let piece = piece.clone();
                    // Yielding between pieces keeps an endless body from starving the other connections.
                    self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(1))));
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Step::Send(piece)) => piece.clone(),
            };
            self.steps.pop_front();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.sleep.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
