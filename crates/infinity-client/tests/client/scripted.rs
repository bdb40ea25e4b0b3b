//! A server of raw bytes: each request is read whole and answered with whatever the script says, well-formed or not.
//!
//! For what the faithful mock cannot do: bytes that no HTTP library would send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether it is the client's float probe for the dimension.
    pub(crate) fn is_probe(&self) -> bool {
        !self.body.is_empty() && self.json()["input"] == serde_json::json!(["probe"])
    }
}

/// What the server does after a request.
pub(crate) enum Reaction {
    /// Sends the bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends the bytes and closes.
    SendAndClose(Vec<u8>),
    /// Sends the bytes again and again until the client goes away.
    SendForEver(Vec<u8>, Vec<u8>),
    /// Sends the bytes, then nothing until the client goes away.
    Hang(Vec<u8>),
}

pub(crate) struct Scripted {
    pub(crate) url: String,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Starts a server whose script gets every request and its number. It lives as long as the test's process.
    pub(crate) fn start(
        script: impl Fn(&Request, usize) -> Reaction + Send + Sync + 'static,
    ) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, script) = (requests.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, script) = (seen.clone(), script.clone());
                std::thread::spawn(move || {
                    let decide = |request: Request| {
                        let mut seen = seen.lock().unwrap();
                        seen.push(request.clone());
                        let number = seen.len() - 1;
                        drop(seen);
                        script(&request, number)
                    };
                    serve(stream, decide);
                });
            }
        });
        Scripted { url, requests }
    }
}

/// Answers requests until one side closes.
fn serve(stream: TcpStream, decide: impl Fn(Request) -> Reaction) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let request = read_request(&mut reader)?;
        match decide(request) {
            Reaction::Send(bytes) => writer.write_all(&bytes).ok()?,
            Reaction::SendAndClose(bytes) => return writer.write_all(&bytes).ok(),
            Reaction::SendForEver(first, again) => {
                writer.write_all(&first).ok()?;
                loop {
                    writer.write_all(&again).ok()?;
                }
            }
            Reaction::Hang(bytes) => {
                writer.write_all(&bytes).ok()?;
                reader.read_to_end(&mut Vec::new()).ok()?;
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body })
}

/// A reply with a right Content-Length.
pub(crate) fn reply(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The answer of model `m` with these embeddings, each a piece of JSON.
pub(crate) fn answer(embeddings: &[&str]) -> Vec<u8> {
    let items: Vec<String> = embeddings
        .iter()
        .enumerate()
        .map(|(index, embedding)| {
            format!(r#"{{"object":"embedding","embedding":{embedding},"index":{index}}}"#)
        })
        .collect();
    reply(
        200,
        "application/json",
        format!(
            r#"{{"object":"list","data":[{}],"model":"m"}}"#,
            items.join(",")
        ),
    )
}
