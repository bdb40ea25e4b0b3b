//! The client of these tests: plain requests with whole answers, and raw sockets for what a well-behaved client hides.
#![allow(dead_code, reason = "every test file takes what it needs")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, Rgb, RgbImage};
use mock_infinity::{Model, Options, Server};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

/// Longer than anything that answers takes, on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request is watched before it is said to hang.
pub(crate) const HANG: Duration = Duration::from_millis(700);

pub(crate) fn serve(model: Model) -> Server {
    Server::start(Options::new(model))
}

pub(crate) fn client(timeout: Duration) -> Client {
    Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

pub(crate) fn post(server: &Server, body: &Value) -> Response {
    client(PATIENCE)
        .post(format!("{}/embeddings", server.url()))
        .json(body)
        .send()
        .unwrap()
}

/// The status and JSON body of a POST to `/embeddings`.
pub(crate) fn ask(server: &Server, body: &Value) -> (u16, Value) {
    let response = post(server, body);
    let status = response.status().as_u16();
    let text = response.text().unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// Embeds in base64 and cuts the floats into rows.
pub(crate) fn embed(
    server: &Server,
    modality: &str,
    inputs: &[&str],
    dim: usize,
) -> Vec<Vec<Vec<f32>>> {
    let (status, body) = ask(
        server,
        &json!({"model": "m", "input": inputs, "modality": modality, "encoding_format": "base64"}),
    );
    assert_eq!(status, 200, "{body}");
    body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| rows(&item["embedding"], dim))
        .collect()
}

/// Rows of a base64 embedding.
pub(crate) fn rows(embedding: &Value, dim: usize) -> Vec<Vec<f32>> {
    let bytes = STANDARD.decode(embedding.as_str().unwrap()).unwrap();
    assert_eq!(
        bytes.len() % (4 * dim),
        0,
        "{} bytes, dim {dim}",
        bytes.len()
    );
    let floats: Vec<f32> = bytes
        .chunks(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
        .collect();
    floats.chunks(dim).map(<[f32]>::to_vec).collect()
}

pub(crate) fn is_zero(row: &[f32]) -> bool {
    row.iter().all(|value| *value == 0.0)
}

pub(crate) fn healthy(server: &Server) -> bool {
    let response = client(PATIENCE)
        .get(format!("{}/health", server.origin()))
        .send();
    response.is_ok_and(|response| response.status() == 200)
}

/// Whether a request gets no answer at all for a while.
pub(crate) fn hangs(server: &Server, body: &Value) -> bool {
    let request = client(HANG)
        .post(format!("{}/embeddings", server.url()))
        .json(body);
    request.send().is_err_and(|problem| problem.is_timeout())
}

pub(crate) fn hi() -> Value {
    json!({"model": "m", "input": ["hi"], "encoding_format": "base64"})
}

pub(crate) fn images(sources: &[String]) -> Value {
    json!({"model": "m", "input": sources, "modality": "image", "encoding_format": "base64"})
}

/// A picture of four different quarters, so that its patches differ.
pub(crate) fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let quarter = (u8::from(x * 2 >= width), u8::from(y * 2 >= height));
        Rgb([200 * quarter.0, 200 * quarter.1, (x * 7 % 251) as u8])
    })
}

pub(crate) fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn data_uri(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

pub(crate) fn png(width: u32, height: u32) -> String {
    data_uri(&encoded(&picture(width, height), ImageFormat::Png))
}

/// Waits for a condition, within a bound.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection on which a request has been written by hand.
pub(crate) fn raw(server: &Server, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    send(&mut stream, body);
    stream
}

pub(crate) fn send(stream: &mut TcpStream, body: &Value) {
    let body = body.to_string();
    write!(
        stream,
        "POST /embeddings HTTP/1.1\r\nhost: mock\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}

/// What came over a raw connection, and how it ended: `Ok` for an orderly close.
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: std::io::Result<()>,
}

impl Received {
    pub(crate) fn content_length(&self) -> Option<usize> {
        let line = self
            .head
            .lines()
            .find(|line| line.starts_with("content-length: "))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// Reads until the connection ends, `timeout` passes without a byte, or `limit` bytes have come.
pub(crate) fn receive(mut stream: TcpStream, timeout: Duration, limit: usize) -> Received {
    stream.set_read_timeout(Some(timeout)).unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    let end = loop {
        match stream.read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(problem) => break Err(problem),
        }
        if all.len() >= limit {
            break Ok(());
        }
    };
    let split = all
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(0, |place| place + 4);
    Received {
        head: String::from_utf8_lossy(&all[..split]).to_lowercase(),
        body: all[split..].to_vec(),
        end,
    }
}
