//! The connection loop under the routes: numbers connections, closes idle ones after the keep-alive time, resets them on
//! demand, and notices clients that leave before their answer is complete.
//!
//! A connection that has not asked anything yet is not idle: as in the true server, the clock starts with an answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::ServiceExt;

use crate::journal::{Id, Recorded};
use crate::routes::App;

/// One client connection, as the routes see it.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    peer_port: u16,
    /// When the last answer was complete; `None` while a request runs and before the first.
    idle_since: Mutex<Option<Instant>>,
    end: Notify,
    ending: Mutex<Ending>,
}

/// How a fault ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Reset,
    Close,
}

impl Connection {
    /// Ends the connection at once, whatever is being sent.
    pub(crate) fn end(&self, ending: Ending) {
        *self.ending.lock().unwrap() = ending;
        self.end.notify_one();
    }

    /// When an idle connection is to be closed.
    fn deadline(&self, keep_alive: Duration) -> Option<Instant> {
        self.idle_since
            .lock()
            .unwrap()
            .map(|since| since + keep_alive)
    }
}

/// The request a handler works on.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) connection: Arc<Connection>,
    pub(crate) record: Id,
}

/// Accepts for ever.
pub(crate) async fn accept(listener: TcpListener, app: Arc<App>, routes: Router) {
    loop {
        // A failed accept (too many files) concerns one client; the next may do better.
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, peer.port(), app.clone(), routes.clone()));
    }
}

/// Counts the connection out, however its task ends.
struct Counted(Arc<App>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.journal.disconnected();
    }
}

async fn serve(stream: TcpStream, peer_port: u16, app: Arc<App>, routes: Router) {
    // Declared first, so dropped last: by then the socket is closed.
    let _counted = Counted(app.clone());
    let connection = Arc::new(Connection {
        number: app.journal.connected(),
        peer_port,
        idle_since: Mutex::new(None),
        end: Notify::new(),
        ending: Mutex::new(Ending::Close),
    });
    let service = {
        let (app, connection) = (app.clone(), connection.clone());
        service_fn(move |request| answer(request, app.clone(), connection.clone(), routes.clone()))
    };
    let mut http = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    loop {
        let check = connection
            .deadline(app.options.keep_alive)
            .unwrap_or_else(|| Instant::now() + app.options.keep_alive);
        tokio::select! {
            _ = &mut http => break,
            () = connection.end.notified() => {
                let stream = http.into_parts().io.into_inner();
                if *connection.ending.lock().unwrap() == Ending::Reset {
                    // Closing with a linger time of zero sends RST.
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                break;
            }
            () = tokio::time::sleep_until(check.into()) => {
                let deadline = connection.deadline(app.options.keep_alive);
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    break;
                }
            }
        }
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    app: Arc<App>,
    connection: Arc<Connection>,
    routes: Router,
) -> Result<hyper::Response<Tracked>, std::convert::Infallible> {
    *connection.idle_since.lock().unwrap() = None;
    let record = app.journal.begin(Recorded {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        model: None,
        modality: None,
        encoding_format: None,
        fields: Vec::new(),
        inputs: 0,
        body_bytes: 0,
        authorized: request.headers().contains_key("authorization"),
        peer_port: connection.peer_port,
        connection: connection.number,
        started: Instant::now(),
        ended: None,
        status: None,
        client_gone: false,
    });
    let mut watch = Watch {
        app,
        connection: connection.clone(),
        record,
        complete: false,
    };
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Call { connection, record });
    let mut response = routes.oneshot(request).await?;
    let server = HeaderValue::from_static("uvicorn");
    response.headers_mut().insert(header::SERVER, server);
    let status = response.status().as_u16();
    watch
        .app
        .journal
        .amend(record, |record| record.status = Some(status));
    Ok(response.map(|body| {
        watch.complete = http_body::Body::is_end_stream(&body);
        Tracked { body, watch }
    }))
}

/// Ends the record of a request; dropped early when the client has gone.
struct Watch {
    app: Arc<App>,
    connection: Arc<Connection>,
    record: Id,
    complete: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let now = Instant::now();
        *self.connection.idle_since.lock().unwrap() = Some(now);
        let gone = !self.complete;
        self.app.journal.amend(self.record, |record| {
            record.ended = Some(now);
            record.client_gone = gone;
        });
    }
}

/// A body that tells when all of it has been taken.
struct Tracked {
    body: Body,
    watch: Watch,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.watch.complete = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
