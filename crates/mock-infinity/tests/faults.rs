//! Every fault, as a client without any manners of its own sees it: the answer after it is right again.

mod client;

use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use client::{
    HANG, PATIENCE, ask, client, hangs, healthy, hi, images, png, post, raw, receive, rows, serve,
};
use mock_infinity::{Endpoint, Fault, Model, NonFinite, RetryAfter, Server, Times};
use serde_json::{Value, json};

const DIM: usize = 128;

fn three() -> Value {
    json!({"model": "m", "input": ["one", "two", "three"], "encoding_format": "base64"})
}

/// The answer under a fault; the next one must be in order.
fn under(fault: Fault, body: &Value) -> (u16, Value) {
    let server = serve(Model::lite("m"));
    server.inject(fault, Times::Once);
    let seen = ask(&server, body);
    let (status, answer) = ask(&server, body);
    assert_eq!(status, 200, "{answer}");
    seen
}

fn data(fault: Fault, body: &Value) -> Vec<Value> {
    let (status, answer) = under(fault, body);
    assert_eq!(status, 200);
    answer["data"].as_array().unwrap().clone()
}

fn indices(data: &[Value]) -> Vec<u64> {
    data.iter()
        .map(|item| item["index"].as_u64().unwrap())
        .collect()
}

#[test]
fn refusals_have_their_status_and_form() {
    let overloaded = json!({"error": {"message": "model m is currently overloaded", "type": null, "param": null, "code": 429}});
    assert_eq!(
        under(Fault::TooManyRequests { retry_after: None }, &hi()),
        (429, overloaded)
    );
    let (status, answer) = under(Fault::ServerErrorJson, &hi());
    assert_eq!((status, &answer["error"]["code"]), (500, &json!(500)));
    assert_eq!(
        under(Fault::ServerErrorText, &hi()),
        (500, json!("Internal Server Error"))
    );
    let (status, answer) = under(Fault::BadGateway, &hi());
    assert!(status == 502 && answer.as_str().unwrap().starts_with("<html>"));
    assert_eq!(
        under(Fault::Unavailable { retry_after: None }, &hi()).0,
        503
    );
    assert_eq!(under(Fault::Status { status: 408 }, &hi()).0, 408);
    assert!(under(Fault::Status { status: 422 }, &hi()).1["detail"].is_array());
}

#[test]
fn retry_after_comes_in_seconds_or_as_a_date() {
    let server = serve(Model::lite("m"));
    let header = |fault: Fault| {
        server.inject(fault, Times::Once);
        post(&server, &hi())
            .headers()
            .get("retry-after")
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let seconds = Some(RetryAfter::Seconds(2));
    assert_eq!(
        header(Fault::Unavailable {
            retry_after: seconds
        })
        .as_deref(),
        Some("2")
    );
    assert_eq!(
        header(Fault::TooManyRequests {
            retry_after: seconds
        })
        .as_deref(),
        Some("2")
    );
    assert_eq!(header(Fault::TooManyRequests { retry_after: None }), None);
    let date = header(Fault::Unavailable {
        retry_after: Some(RetryAfter::DateIn(30)),
    })
    .unwrap();
    let ahead = httpdate::parse_http_date(&date)
        .unwrap()
        .duration_since(SystemTime::now())
        .unwrap();
    assert!((25..31).contains(&ahead.as_secs()), "{date}");
}

#[test]
fn a_burst_ends_after_its_count_and_a_permanent_fault_when_cleared() {
    let server = serve(Model::lite("m"));
    let statuses = |count: usize| {
        (0..count)
            .map(|_| ask(&server, &hi()).0)
            .collect::<Vec<_>>()
    };
    server.inject(
        Fault::TooManyRequests { retry_after: None },
        Times::Count(2),
    );
    server.inject(Fault::ServerErrorText, Times::Once);
    assert_eq!(statuses(4), [429, 429, 500, 200]);
    server.inject(Fault::TooManyRequests { retry_after: None }, Times::Always);
    assert_eq!(statuses(4), [429; 4]);
    server.clear_faults();
    assert_eq!(statuses(1), [200]);
}

#[test]
fn a_redirect_names_its_target() {
    let server = serve(Model::lite("m"));
    let location = "http://127.0.0.1:9/elsewhere".to_owned();
    server.inject(
        Fault::Redirect {
            location: location.clone(),
        },
        Times::Once,
    );
    let response = post(&server, &hi());
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["location"].to_str().unwrap()
        ),
        (307, location.as_str())
    );
}

#[test]
fn a_wedged_server_hangs_for_ever_while_health_is_good() {
    let server = serve(Model::lite("m"));
    server.inject(Fault::Wedge, Times::Once);
    assert!(hangs(&server, &hi()) && hangs(&server, &hi()));
    assert!(healthy(&server));
    server.clear_faults();
    assert_eq!(ask(&server, &hi()).0, 200);
}

#[test]
fn a_hang_delays_one_answer() {
    let server = serve(Model::lite("m"));
    server.inject(Fault::Hang { ms: 400 }, Times::Once);
    let begin = Instant::now();
    assert_eq!(ask(&server, &hi()).0, 200);
    assert!(begin.elapsed() >= Duration::from_millis(400));
}

#[test]
fn a_slow_body_arrives_whole_and_late() {
    let server = serve(Model::lite("m"));
    let whole = ask(&server, &hi()).1;
    server.inject(Fault::SlowBody { ms: 400 }, Times::Once);
    let begin = Instant::now();
    let response = post(&server, &hi());
    let head = begin.elapsed();
    let slow: Value = response.json().unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(400));
    assert!(
        head < Duration::from_millis(400),
        "the headers come at once: {head:?}"
    );
    assert_eq!(slow["data"], whole["data"]);
}

/// Raw bytes under a fault, and the connection's end.
fn raw_under(server: &Server, fault: Fault, patience: Duration, limit: usize) -> client::Received {
    server.inject(fault, Times::Once);
    let received = receive(raw(server, &hi()), patience, limit);
    assert_eq!(ask(server, &hi()).0, 200, "the next request is answered");
    received
}

#[test]
fn a_stalled_body_stops_half_way_with_the_connection_open() {
    let server = serve(Model::lite("m"));
    let received = raw_under(&server, Fault::StallBody, HANG, usize::MAX);
    let length = received.content_length().unwrap();
    assert_eq!(received.body.len(), length / 2);
    let end = received.end.unwrap_err().kind();
    assert!(
        matches!(
            end,
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
        "{end:?}"
    );
}

#[test]
fn a_truncated_body_ends_in_order_under_the_whole_content_length() {
    let server = serve(Model::lite("m"));
    let received = raw_under(&server, Fault::TruncateBody, PATIENCE, usize::MAX);
    assert_eq!(received.body.len(), received.content_length().unwrap() / 2);
    assert!(received.end.is_ok(), "an orderly close");
}

#[test]
fn resets_come_before_the_head_or_in_the_body() {
    let server = serve(Model::lite("m"));
    let before = raw_under(&server, Fault::ResetBeforeHeaders, PATIENCE, usize::MAX);
    assert_eq!(before.head, "");
    assert_eq!(
        before.end.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    let within = raw_under(&server, Fault::ResetInBody, PATIENCE, usize::MAX);
    assert!(within.head.starts_with("http/1.1 200"));
    assert_eq!(within.body.len(), within.content_length().unwrap() / 2);
    assert_eq!(
        within.end.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[test]
fn a_close_before_the_head_is_an_end_without_a_byte() {
    let server = serve(Model::lite("m"));
    let received = raw_under(&server, Fault::CloseBeforeHeaders, PATIENCE, usize::MAX);
    assert!(received.head.is_empty() && received.body.is_empty() && received.end.is_ok());
}

#[test]
fn an_endless_body_has_no_length_and_goes_on() {
    let server = serve(Model::lite("m"));
    let received = raw_under(&server, Fault::EndlessBody, PATIENCE, 4 << 20);
    assert_eq!(received.content_length(), None);
    assert!(received.head.contains("transfer-encoding: chunked"));
    assert!(received.body.len() >= (4 << 20) - 1000 && received.end.is_ok());
}

#[test]
fn the_items_are_too_few_too_many_doubled_or_in_another_order() {
    assert_eq!(indices(&data(Fault::MissingItem, &three())), [0, 1]);
    assert_eq!(indices(&data(Fault::ExtraItem, &three())), [0, 1, 2, 3]);
    assert_eq!(indices(&data(Fault::DuplicateIndex, &three())), [0, 1, 1]);
    assert_eq!(indices(&data(Fault::DuplicateIndex, &hi())), [0, 0]);
    let server = serve(Model::lite("m"));
    let right = ask(&server, &three()).1["data"].as_array().unwrap().clone();
    let shuffled = data(Fault::ShuffledIndex, &three());
    assert_eq!(indices(&shuffled), [1, 2, 0]);
    for item in shuffled {
        let index = item["index"].as_u64().unwrap() as usize;
        assert_eq!(item["embedding"], right[index]["embedding"]);
    }
}

fn floats(body: &Value) -> Value {
    let mut body = body.clone();
    body["encoding_format"] = json!("float");
    body
}

fn decoded(item: &Value) -> Vec<u8> {
    let base64 = &base64::engine::general_purpose::STANDARD;
    base64.decode(item["embedding"].as_str().unwrap()).unwrap()
}

#[test]
fn lengths_are_wrong_by_a_value_or_by_a_byte() {
    let whole = 3 * DIM * 4;
    assert_eq!(
        decoded(&data(Fault::RaggedLength, &hi())[0]).len(),
        whole - 4
    );
    assert_eq!(decoded(&data(Fault::OddBytes, &hi())[0]).len(), whole - 1);
    let ragged = &data(Fault::RaggedLength, &floats(&hi()))[0]["embedding"];
    assert_eq!(ragged[2].as_array().unwrap().len(), DIM - 1);
    assert!(data(Fault::OddBytes, &floats(&hi()))[0]["embedding"][0].is_string());
    assert_eq!(
        decoded(&data(Fault::WrongDim { dim: 96 }, &hi())[0]).len(),
        3 * 96 * 4
    );
}

#[test]
fn embeddings_are_no_base64_empty_or_zero() {
    let base64 = &base64::engine::general_purpose::STANDARD;
    let broken = &data(Fault::InvalidBase64, &hi())[0]["embedding"];
    assert!(base64.decode(broken.as_str().unwrap()).is_err());
    assert!(data(Fault::InvalidBase64, &floats(&hi()))[0]["embedding"].is_string());
    assert_eq!(data(Fault::EmptyEmbedding, &hi())[0]["embedding"], "");
    assert_eq!(
        data(Fault::EmptyEmbedding, &floats(&hi()))[0]["embedding"],
        json!([])
    );
    let zero = rows(&data(Fault::AllZero, &hi())[0]["embedding"], DIM);
    assert!(zero.len() == 3 && zero.concat().iter().all(|value| *value == 0.0));
}

#[test]
fn a_value_is_not_finite_in_base64_and_null_in_float() {
    let last = |value: NonFinite| {
        let rows = rows(
            &data(Fault::NonFinite { value }, &hi())[0]["embedding"],
            DIM,
        );
        rows[2][DIM - 1]
    };
    assert!(last(NonFinite::Nan).is_nan());
    assert_eq!(last(NonFinite::Infinity), f32::INFINITY);
    assert_eq!(last(NonFinite::MinusInfinity), f32::NEG_INFINITY);
    let value = NonFinite::Nan;
    assert_eq!(
        data(Fault::NonFinite { value }, &floats(&hi()))[0]["embedding"][2][DIM - 1],
        Value::Null
    );
}

#[test]
fn another_model_answers_or_no_json_does() {
    let (_, answer) = under(
        Fault::WrongModel {
            name: "other".to_owned(),
        },
        &hi(),
    );
    assert_eq!(answer["model"], "other");
    assert_eq!(
        under(Fault::NotJson, &hi()),
        (200, json!("embeddings: none today"))
    );
}

#[test]
fn one_poisoned_text_fails_its_whole_request_and_no_other() {
    let server = serve(Model::lite("m"));
    for status in [400, 422, 500] {
        server.inject(
            Fault::Poison {
                marker: "POISON".to_owned(),
                status,
            },
            Times::Always,
        );
        assert_eq!(ask(&server, &three()).0, 200);
        let (seen, answer) = ask(&server, &json!({"input": ["fine", "a POISON cup", "fine"]}));
        assert_eq!(seen, status);
        assert_eq!(answer["detail"].is_array(), status == 422);
        assert_eq!(ask(&server, &three()).0, 200);
        server.clear_faults();
    }
}

#[test]
fn one_poisoned_image_fails_its_whole_request_and_no_other() {
    let server = serve(Model::lite("m"));
    server.inject(
        Fault::PoisonImage {
            width: 31,
            height: 17,
            status: 400,
        },
        Times::Always,
    );
    assert_eq!(ask(&server, &images(&[png(30, 30), png(31, 17)])).0, 400);
    assert_eq!(ask(&server, &images(&[png(30, 30), png(17, 31)])).0, 200);
}

#[test]
fn health_and_models_have_faults_of_their_own() {
    let server = serve(Model::lite("m"));
    let get = |path: &str| {
        client(HANG)
            .get(format!("{}{path}", server.origin()))
            .send()
    };
    server.inject_at(Endpoint::Models, Fault::ServerErrorText, Times::Once);
    server.inject_at(Endpoint::Health, Fault::Wedge, Times::Once);
    assert_eq!(ask(&server, &hi()).0, 200);
    assert_eq!(get("/models").unwrap().status(), 500);
    assert_eq!(get("/models").unwrap().status(), 200);
    assert!(get("/health").is_err_and(|problem| problem.is_timeout()));
    assert!(healthy(&server));
}
