//! Sends the requests that were recorded from the true server to this one, and compares status and JSON shape: keys,
//! types, lengths, the form of messages, the layout of zero rows.
//!
//! The recordings lie outside the repository, under `INFINITY_EMBED_SHARED` or `../shared`; without them this test says
//! so and `shapes` holds what was written down from them.

mod client;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{HANG, PATIENCE};
use mock_infinity::{Fault, Model, Options, Server, Times};
use serde_json::Value;

/// Captures that say nothing about how a server behaves, with the reason.
const LEFT_OUT: [(&str, &str); 4] = [
    ("dbg_", "values of a debugging model; faults make them here"),
    ("openapi", "the schema document is not served"),
    ("err_image_no_aiohttp", "a defect of one installation"),
    (
        "err_overloaded_429",
        "recorded without its request; compared with the fault below",
    ),
];

/// The tiny ColPali and ColQwen2 split words otherwise, and the tiny ColPali has fewer patches: rows are not counted.
const OTHER_ROWS: [&str; 7] = [
    "colpali_image_batch2",
    "colpali_ratio900x3",
    "colpali_text_batch2",
    "colpali_text_image_token",
    "poison_text_imagepad",
    "text_on_colqwen2_batch3",
    "text_on_colqwen2_batch3_float",
];

struct Capture {
    name: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// `None`: it hung.
    status: Option<u16>,
    kind: Option<String>,
    location: Option<String>,
    answer: Vec<u8>,
}

fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("INFINITY_EMBED_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        PathBuf::from,
    );
    let captures = shared.join("infinity/captures");
    captures.is_dir().then_some(captures)
}

fn captures(folder: &PathBuf) -> Vec<Capture> {
    let mut captures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".meta.json"))
        else {
            continue;
        };
        if LEFT_OUT.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            continue;
        }
        let meta: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let read = |kind: &str| {
            std::fs::read(folder.join(format!("{name}.{kind}.json"))).unwrap_or_default()
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let headers = meta["request"]["headers"].as_object().unwrap();
        let answered = &meta["response"]["headers"];
        captures.push(Capture {
            name: name.to_owned(),
            method: text(&meta["request"]["method"]).unwrap(),
            path: text(&meta["request"]["path"]).unwrap(),
            headers: headers
                .iter()
                .map(|(key, value)| (key.clone(), text(value).unwrap()))
                .collect(),
            body: read("req"),
            status: meta["response"]["status"]
                .as_u64()
                .map(|status| status as u16),
            kind: text(&answered["content-type"]),
            location: text(&answered["location"]),
            answer: read("resp"),
        });
    }
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    captures
}

/// The server that a capture was taken from.
fn server_of(capture: &Capture) -> &'static str {
    let guarded = capture.name.starts_with("err_auth") || capture.name.starts_with("prefix_");
    if guarded
        || capture
            .headers
            .iter()
            .any(|(key, _)| key == "Authorization")
    {
        return "guarded";
    }
    let body: Value = serde_json::from_slice(&capture.body).unwrap_or_default();
    match body["model"].as_str() {
        Some("minilm-colbert-lite") => "lite",
        Some("vidore/colpali-v1.3") => "colpali",
        Some("michaelfeil/colqwen2-v0.1") => "colqwen2",
        _ if capture.name == "lite_models" => "lite",
        _ if capture.name == "image_models" || capture.name.starts_with("poison_") => "colqwen2",
        _ => "minilm",
    }
}

fn start(kind: &str) -> Server {
    let mut options = Options::new(match kind {
        "lite" => Model::lite("minilm-colbert-lite"),
        "colpali" => Model::colpali("vidore/colpali-v1.3"),
        "colqwen2" => Model::colqwen2("michaelfeil/colqwen2-v0.1"),
        _ => Model::colbert("minilm-colbert"),
    });
    if kind == "guarded" {
        options
            .models
            .push(Model::single_vector("minilm-plain", 384));
        options.api_key = Some("sk-secret".to_owned());
        options.url_prefix = "/v1".to_owned();
    }
    Server::start(options)
}

/// Sends the capture's request and compares; gives what differs.
fn compare(server: &Server, capture: &Capture) -> Vec<String> {
    let patience = if capture.status.is_none() {
        HANG
    } else {
        PATIENCE
    };
    let http = client::client(patience);
    let url = format!("{}{}", server.origin(), capture.path);
    let mut request = http
        .request(capture.method.parse().unwrap(), url)
        .body(capture.body.clone());
    for (key, value) in &capture.headers {
        request = request.header(key, value);
    }
    let response = match (request.send(), capture.status) {
        (Err(problem), None) if problem.is_timeout() => return Vec::new(),
        (Err(problem), _) => return vec![problem.to_string()],
        (Ok(response), None) => {
            return vec![format!(
                "answered {} where the true one hangs",
                response.status()
            )];
        }
        (Ok(response), Some(_)) => response,
    };
    let mut differences = Vec::new();
    if Some(response.status().as_u16()) != capture.status {
        differences.push(format!(
            "status {}, not {:?}",
            response.status(),
            capture.status
        ));
    }
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    if header("content-type") != capture.kind {
        differences.push(format!(
            "content-type {:?}, not {:?}",
            header("content-type"),
            capture.kind
        ));
    }
    let location = capture
        .location
        .as_ref()
        .map(|to| to.replace("http://127.0.0.1:7997", &server.origin()));
    if header("location") != location {
        differences.push(format!(
            "location {:?}, not {location:?}",
            header("location")
        ));
    }
    compare_bodies(capture, &response.bytes().unwrap(), &mut differences);
    differences
}

fn compare_bodies(capture: &Capture, body: &[u8], differences: &mut Vec<String>) {
    let theirs = serde_json::from_slice::<Value>(&capture.answer);
    match (theirs, serde_json::from_slice::<Value>(body)) {
        (Ok(theirs), Ok(ours)) => {
            let rows = !OTHER_ROWS.contains(&capture.name.as_str());
            Comparison { rows, differences }.value("", &theirs, &ours);
        }
        (Err(_), Err(_)) if capture.name.starts_with("metrics") || capture.answer == body => {}
        _ => differences.push(format!("body {:?}", String::from_utf8_lossy(body))),
    }
}

/// A walk over two JSON values.
struct Comparison<'a> {
    rows: bool,
    differences: &'a mut Vec<String>,
}

impl Comparison<'_> {
    fn differs(&mut self, path: &str, theirs: &Value, ours: &Value) {
        let cut = |value: &Value| value.to_string().chars().take(200).collect::<String>();
        self.differences
            .push(format!("{path}: {}, not {}", cut(ours), cut(theirs)));
    }

    fn value(&mut self, path: &str, theirs: &Value, ours: &Value) {
        let name = path.rsplit('/').next().unwrap_or_default();
        match (theirs, ours) {
            _ if name == "embedding" => self.embedding(path, theirs, ours),
            (Value::Object(a), Value::Object(b)) => {
                let (a_keys, b_keys): (BTreeSet<_>, BTreeSet<_>) =
                    (a.keys().collect(), b.keys().collect());
                if a_keys != b_keys {
                    self.differs(path, theirs, ours);
                }
                for (key, value) in a {
                    self.value(
                        &format!("{path}/{key}"),
                        value,
                        b.get(key).unwrap_or(&Value::Null),
                    );
                }
            }
            (Value::Array(_), Value::Array(_)) if name == "capabilities" => {
                let set = |value: &Value| -> BTreeSet<String> {
                    serde_json::from_value(value.clone()).unwrap()
                };
                if set(theirs) != set(ours) {
                    self.differs(path, theirs, ours);
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    self.differs(path, theirs, ours);
                }
                a.iter().zip(b).for_each(|(a, b)| self.value(path, a, b));
            }
            (Value::String(_), Value::String(b)) if name == "id" && b.starts_with("infinity-") => {
                if theirs.as_str().map(str::len) != Some(b.len()) {
                    self.differs(path, theirs, ours);
                }
            }
            (Value::String(_), Value::String(_)) if name == "backend" => {}
            // The address of a Python object.
            (Value::String(a), Value::String(b)) if a.contains(" at 0x") => {
                if a.split(" at 0x").next() != b.split(" at 0x").next() {
                    self.differs(path, theirs, ours);
                }
            }
            (Value::Number(a), Value::Number(b))
                if ["created", "unix", "batch_size"].contains(&name) =>
            {
                if a.is_u64() != b.is_u64() {
                    self.differs(path, theirs, ours);
                }
            }
            _ if theirs == ours => {}
            _ => self.differs(path, theirs, ours),
        }
    }

    /// Same encoding, same nesting, same dimension, the same rows of zeros.
    fn embedding(&mut self, path: &str, theirs: &Value, ours: &Value) {
        let (Some(a), Some(b)) = (layout(theirs), layout(ours)) else {
            return self.differs(path, theirs, ours);
        };
        let same = if self.rows {
            a == b
        } else {
            // The sides of the padding: zeros before, zeros after.
            let sides =
                |layout: &Layout| (layout.zeros.first().copied(), layout.zeros.last().copied());
            a.form == b.form && a.dims == b.dims && sides(&a) == sides(&b)
        };
        if !same {
            self.differences.push(format!("{path}: {b:?}, not {a:?}"));
        }
    }
}

#[derive(Debug, PartialEq)]
struct Layout {
    form: &'static str,
    dims: BTreeSet<usize>,
    /// For every row, whether it is all zeros. base64 has no shape: rows of 128, of which 384 is a multiple.
    zeros: Vec<bool>,
}

fn layout(embedding: &Value) -> Option<Layout> {
    let of = |form, rows: Vec<Vec<f32>>| Layout {
        form,
        dims: rows.iter().map(Vec::len).collect(),
        zeros: rows.iter().map(|row| client::is_zero(row)).collect(),
    };
    if let Some(text) = embedding.as_str() {
        let bytes = STANDARD.decode(text).ok()?;
        let floats: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
            .collect();
        return Some(of(
            "base64",
            floats.chunks(128).map(<[f32]>::to_vec).collect(),
        ));
    }
    if let Ok(rows) = serde_json::from_value::<Vec<Vec<f32>>>(embedding.clone()) {
        return Some(of("nested", rows));
    }
    serde_json::from_value::<Vec<f32>>(embedding.clone())
        .ok()
        .map(|row| of("flat", vec![row]))
}

#[test]
fn answers_have_the_status_and_the_shape_of_the_true_servers() {
    let Some(folder) = folder() else {
        println!("skipped: no captures of the true server here");
        return;
    };
    let captures = captures(&folder);
    assert!(captures.len() > 90, "only {} captures", captures.len());
    let mut servers: Vec<(String, Server)> = Vec::new();
    let mut wrong = Vec::new();
    for capture in &captures {
        // A poisoned request has a server to itself; what was asked after it goes to the same one, for which the
        // captures are in the wrong order: "after" sorts before its cause.
        let own = capture
            .name
            .strip_prefix("poison_")
            .filter(|rest| !rest.starts_with("after_"));
        if capture.name.starts_with("poison_after_") {
            continue;
        }
        if let Some(cause) = own {
            let server = start(server_of(capture));
            wrong.extend(
                compare(&server, capture)
                    .into_iter()
                    .map(|what| format!("{}: {what}", capture.name)),
            );
            let after = format!("poison_after_{cause}_");
            for capture in captures
                .iter()
                .filter(|capture| capture.name.starts_with(&after))
            {
                wrong.extend(
                    compare(&server, capture)
                        .into_iter()
                        .map(|what| format!("{}: {what}", capture.name)),
                );
            }
            continue;
        }
        let kind = server_of(capture);
        if !servers.iter().any(|(known, _)| known == kind) {
            servers.push((kind.to_owned(), start(kind)));
        }
        let server = &servers.iter().find(|(known, _)| known == kind).unwrap().1;
        wrong.extend(
            compare(server, capture)
                .into_iter()
                .map(|what| format!("{}: {what}", capture.name)),
        );
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!("{} captures compared", captures.len());
}

#[test]
fn an_overloaded_server_answers_as_the_true_one_does() {
    let Some(folder) = folder() else {
        println!("skipped: no captures of the true server here");
        return;
    };
    let theirs: Value = serde_json::from_slice(
        &std::fs::read(folder.join("err_overloaded_429.resp.json")).unwrap(),
    )
    .unwrap();
    let mut options = Options::new(Model::colbert("minilm-colbert"));
    options.latency = Duration::from_millis(1);
    let server = Server::start(options);
    server.inject(Fault::TooManyRequests { retry_after: None }, Times::Once);
    assert_eq!(client::ask(&server, &client::hi()), (429, theirs));
}
