//! What happens around answers: keep-alive, padding by other requests in flight, wedging, restarts, clients that leave,
//! and what is recorded of it.

mod client;

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use client::{
    PATIENCE, ask, data_uri, embed, encoded, eventually, hangs, healthy, hi, images, is_zero,
    picture, png, raw, receive, send, serve,
};
use image::ImageFormat;
use mock_infinity::{Fault, Kind, Model, Options, Server, Times};
use serde_json::json;

/// Reads one answer off a connection that stays open.
fn read_answer(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while !all.ends_with(b"}") || !all.windows(10).any(|window| window == b"\"created\":") {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "closed in the middle of an answer");
        all.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn an_idle_connection_is_closed_after_five_seconds_and_not_before() {
    let server = serve(Model::colbert("m"));
    let mut stream = raw(&server, &hi());
    read_answer(&mut stream);
    send(&mut stream, &hi());
    read_answer(&mut stream);
    let idle = Instant::now();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "an orderly close");
    let waited = idle.elapsed();
    assert!((4.9..8.0).contains(&waited.as_secs_f64()), "{waited:?}");
    eventually("the connection is counted out", || {
        server.open_connections() == 0
    });
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (requests[0].connection, requests[0].peer_port),
        (requests[1].connection, requests[1].peer_port)
    );
}

#[test]
fn a_short_text_is_padded_to_the_longest_of_the_other_requests_in_flight() {
    let mut options = Options::new(Model::colqwen2("m"));
    options.latency = Duration::from_millis(500);
    let server = Server::start(options);
    assert_eq!(embed(&server, "text", &["hi"], 128)[0].len(), 14);
    let long = "word ".repeat(179);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| embed(&server, "text", &[&long], 128));
        eventually("the other request is in flight", || {
            server.requests().len() == 2
        });
        let rows = &embed(&server, "text", &["hi"], 128)[0];
        assert_eq!(rows.len(), 192);
        assert_eq!(rows.iter().filter(|row| is_zero(row)).count(), 178);
        assert_eq!(other.join().unwrap()[0].len(), 192);
    });
    assert_eq!(server.max_in_flight(), 2);
    assert_eq!(
        embed(&server, "text", &["hi"], 128)[0].len(),
        14,
        "alone again"
    );
}

fn truncated(format: ImageFormat) -> Vec<u8> {
    let mut bytes = encoded(&picture(300, 200), format);
    bytes.truncate(bytes.len() / 2);
    bytes
}

#[test]
fn every_image_that_kills_the_true_worker_kills_this_one() {
    let mut bad_crc = encoded(&picture(300, 200), ImageFormat::Png);
    let data = bad_crc
        .windows(4)
        .position(|window| window == b"IDAT")
        .unwrap();
    bad_crc[data + 50] ^= 0x55;
    let cases = [
        ("cut jpeg", truncated(ImageFormat::Jpeg)),
        ("cut png", truncated(ImageFormat::Png)),
        ("cut gif", truncated(ImageFormat::Gif)),
        ("bad crc", bad_crc),
        (
            "ratio over 200",
            encoded(&picture(900, 3), ImageFormat::Png),
        ),
    ];
    for (name, bytes) in cases {
        let mut server = serve(Model::colqwen2("m"));
        assert!(
            hangs(&server, &images(&[data_uri(&bytes)])),
            "{name}: the request itself"
        );
        assert!(hangs(&server, &hi()), "{name}: one word");
        assert!(healthy(&server), "{name}: health");
        let models = client::client(PATIENCE)
            .get(format!("{}/models", server.url()))
            .send()
            .unwrap();
        assert_eq!(models.status(), 200, "{name}: models");
        server.restart_on_same_port();
        assert_eq!(ask(&server, &hi()).0, 200, "{name}: after a restart");
    }
}

#[test]
fn a_ratio_over_200_is_no_trouble_to_a_colpali_and_200_itself_none_to_a_colqwen2() {
    let page = data_uri(&encoded(&picture(900, 3), ImageFormat::Png));
    assert_eq!(ask(&serve(Model::colpali("m")), &images(&[page])).0, 200);
    let page = data_uri(&encoded(&picture(600, 3), ImageFormat::Png));
    assert_eq!(ask(&serve(Model::colqwen2("m")), &images(&[page])).0, 200);
}

#[test]
fn the_queue_of_a_dead_worker_fills_until_it_answers_429_for_good() {
    let mut options = Options::new(Model::colbert("m"));
    options.queue_size = 0;
    options.batch_size = 1;
    let server = Server::start(options);
    server.inject(Fault::Wedge, Times::Once);
    assert!(hangs(&server, &json!({"input": ["a", "b"]})));
    for _ in 0..3 {
        assert_eq!(ask(&server, &hi()).0, 429);
    }
    server.clear_faults();
    assert_eq!(ask(&server, &hi()).0, 200);
}

#[test]
fn a_stopped_server_refuses_and_comes_back_on_its_port() {
    let mut server = serve(Model::colbert("m"));
    let (url, mut idle) = (server.url(), raw(&server, &hi()));
    read_answer(&mut idle);
    server.stop();
    assert_eq!(server.open_connections(), 0);
    let refused = TcpStream::connect(("127.0.0.1", server.port())).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(
        matches!(idle.read(&mut [0; 16]), Ok(0) | Err(_)),
        "open connections are closed"
    );
    server.restart_on_same_port();
    assert_eq!(server.url(), url);
    assert_eq!(ask(&server, &hi()).0, 200);
}

#[test]
fn a_client_that_leaves_is_noticed_and_its_work_goes_on() {
    let mut options = Options::new(Model::colbert("m"));
    options.latency_per_item = Duration::from_millis(100);
    let server = Server::start(options);
    let stream = raw(
        &server,
        &json!({"input": vec!["x"; 8], "encoding_format": "base64"}),
    );
    eventually("the request is in flight", || {
        server.requests().iter().any(|request| request.inputs == 8)
    });
    let left = Instant::now();
    drop(stream);
    eventually("its absence is noticed", || {
        server.requests()[0].client_gone
    });
    let record = &server.requests()[0];
    assert_eq!(record.status, None);
    assert!(record.ended.is_some());
    // The next word waits for the work that nobody wants any more.
    assert_eq!(ask(&server, &hi()).0, 200);
    assert!(
        left.elapsed() > Duration::from_millis(600),
        "{:?}",
        left.elapsed()
    );
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_body_is_noticed() {
    let server = serve(Model::colbert("m"));
    server.inject(Fault::StallBody, Times::Once);
    let stream = raw(&server, &hi());
    eventually("the head is sent", || {
        server
            .requests()
            .iter()
            .any(|request| request.status == Some(200))
    });
    assert!(!server.requests()[0].client_gone);
    drop(stream);
    eventually("its absence is noticed", || {
        server.requests()[0].client_gone
    });
}

#[test]
fn requests_are_recorded_with_what_was_asked() {
    let mut options = Options::new(Model::lite("m"));
    options.api_key = Some("k".to_owned());
    let server = Server::start(options);
    let http = client::client(PATIENCE);
    let url = format!("{}/embeddings", server.url());
    let body = json!({"model": "named", "input": [png(8, 8), png(9, 9)], "modality": "image", "encoding_format": "base64"});
    assert_eq!(
        http.post(&url)
            .bearer_auth("k")
            .json(&body)
            .send()
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        http.post(&url)
            .json(&json!({"input": "hi"}))
            .send()
            .unwrap()
            .status(),
        401
    );
    let requests = server.requests();
    let first = &requests[0];
    assert_eq!(
        (first.method.as_str(), first.path.as_str()),
        ("POST", "/embeddings")
    );
    assert_eq!(first.model.as_deref(), Some("named"));
    assert_eq!(first.modality.as_deref(), Some("image"));
    assert_eq!(first.encoding_format.as_deref(), Some("base64"));
    assert_eq!(
        (first.inputs, first.body_bytes),
        (2, body.to_string().len())
    );
    assert_eq!(
        (first.status, first.authorized, first.client_gone),
        (Some(200), true, false)
    );
    assert!(first.ended.is_some_and(|ended| ended > first.started));
    let second = &requests[1];
    assert_eq!(
        (
            second.status,
            second.authorized,
            second.encoding_format.as_deref()
        ),
        (Some(401), false, None)
    );
    assert_eq!(second.fields, ["input"]);
    server.clear_requests();
    assert!(server.requests().is_empty());
}

#[test]
fn latency_is_added_side_by_side_and_connections_are_counted() {
    let mut options = Options::new(Model::colbert("m"));
    options.latency = Duration::from_millis(300);
    let server = Server::start(options);
    let begin = Instant::now();
    let streams: Vec<TcpStream> = (0..8).map(|_| raw(&server, &hi())).collect();
    eventually("all of them are in flight", || server.max_in_flight() == 8);
    assert_eq!(server.open_connections(), 8);
    for mut stream in streams {
        read_answer(&mut stream);
    }
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_millis(8 * 300),
        "{took:?}"
    );
    eventually("all of them are closed", || server.open_connections() == 0);
}

#[test]
fn the_command_lines_models_are_read() {
    let model = Model::parse("vidore/colpali-v1.3=colpali").unwrap();
    assert_eq!(
        (model.name.as_str(), model.kind, model.dim),
        ("vidore/colpali-v1.3", Kind::ColPali, 128)
    );
    assert_eq!(Model::parse("m=single:7").unwrap().dim, 7);
    for (text, part) in [
        ("m", "NAME=KIND"),
        ("m=bert", "\"bert\""),
        ("m=lite:0", "dimension"),
        ("m=lite:x", "dimension"),
    ] {
        assert!(Model::parse(text).unwrap_err().contains(part), "{text}");
    }
}

#[test]
fn the_binary_says_where_it_listens_takes_faults_and_stops_when_told() {
    use std::io::BufRead as _;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mock-infinity"))
        .args(["--port", "0", "--model", "m=lite", "--control"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let url = line
        .trim()
        .strip_prefix("listening on ")
        .unwrap()
        .to_owned();
    let http = client::client(PATIENCE);
    let post = |path: &str, body: &serde_json::Value| {
        http.post(format!("{url}{path}"))
            .json(body)
            .send()
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(
        post(
            "/mock/fault",
            &json!({"fault": "bad_gateway", "times": {"count": 2}})
        ),
        204
    );
    assert_eq!(
        [
            post("/embeddings", &hi()),
            post("/embeddings", &hi()),
            post("/embeddings", &hi())
        ],
        [502, 502, 200]
    );
    let seen: serde_json::Value = http
        .get(format!("{url}/mock/requests"))
        .send()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(seen["requests"].as_array().unwrap().len(), 3);
    assert_eq!(post("/mock/clear", &json!({})), 204);
    let seen: serde_json::Value = http
        .get(format!("{url}/mock/requests"))
        .send()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(seen["requests"], json!([]));
    let _ = http.post(format!("{url}/mock/stop")).send();
    assert!(child.wait().unwrap().success());
}

#[test]
fn without_control_there_is_nothing_to_control() {
    let server = serve(Model::colbert("m"));
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /mock/requests HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    assert!(
        receive(stream, PATIENCE, usize::MAX)
            .head
            .starts_with("http/1.1 404")
    );
}
