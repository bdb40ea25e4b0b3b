//! The shapes of answers and refusals, written down by hand from the true server's, so that they are held where its
//! captures are not at hand.

mod client;

use std::time::Duration;

use client::{ask, client, data_uri, embed, hi, images, is_zero, png, post, serve};
use mock_infinity::{Model, Options, Server};
use serde_json::{Value, json};

fn refused(server: &Server, body: &Value) -> (u16, String) {
    let (status, answer) = ask(server, body);
    (
        status,
        answer["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

/// The kinds of the complaints in a 422.
fn complaints(server: &Server, body: &Value) -> Vec<String> {
    let (status, answer) = ask(server, body);
    assert_eq!(status, 422, "{answer}");
    let details = answer["detail"].as_array().unwrap();
    details
        .iter()
        .map(|detail| detail["type"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_envelope_is_that_of_an_openai_like_list_under_content_length() {
    let server = serve(Model::colbert("served"));
    let response = post(
        &server,
        &json!({"model": "anything", "input": ["This is a test", "hi"], "unknown": 1, "user": null}),
    );
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers().contains_key("content-length"));
    let answer: Value = response.json().unwrap();
    assert_eq!(answer["object"], "list");
    assert_eq!(
        answer["model"], "served",
        "any name is served by the one model, under its own name"
    );
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 16, "total_tokens": 16})
    );
    assert!(answer["id"].as_str().unwrap().starts_with("infinity-"));
    assert!(answer["created"].is_u64());
    let data = answer["data"].as_array().unwrap();
    assert_eq!(
        data.iter()
            .map(|item| item["index"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [0, 1]
    );
    // Float is the default, nested, 384 long, ragged.
    let lengths: Vec<usize> = data
        .iter()
        .map(|item| item["embedding"].as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [6, 3]);
    assert_eq!(data[0]["embedding"][5].as_array().unwrap().len(), 384);
}

#[test]
fn the_two_encodings_carry_the_same_numbers_and_a_field_called_encoding_is_ignored() {
    let server = serve(Model::colbert("m"));
    let base64 = embed(&server, "text", &["late interaction"], 384);
    let (_, float) = ask(
        &server,
        &json!({"input": ["late interaction"], "encoding": "base64"}),
    );
    let float: Vec<Vec<f32>> =
        serde_json::from_value(float["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(base64[0], float);
    let norm = float[1]
        .iter()
        .map(|value| value * value)
        .sum::<f32>()
        .sqrt();
    assert!(
        (5.9..13.1).contains(&norm),
        "a ColBERT is not normalised: {norm}"
    );
}

#[test]
fn colqwen2_pads_on_the_left_with_some_negative_zeros_and_colpali_on_the_right() {
    let texts = ["hi", "a longer query about retrieval"];
    let left = embed(&serve(Model::colqwen2("m")), "text", &texts, 128);
    assert_eq!((left[0].len(), left[1].len()), (18, 18));
    assert!(
        left[0][..4].iter().all(|row| is_zero(row)) && !left[0][4..].iter().any(|row| is_zero(row))
    );
    assert!(left[0][0].iter().any(|value| value.is_sign_negative()));
    let right = embed(&serve(Model::colpali("m")), "text", &texts, 128);
    assert_eq!((right[0].len(), right[1].len()), (21, 21));
    assert!(
        right[0][17..].iter().all(|row| is_zero(row))
            && !right[0][..17].iter().any(|row| is_zero(row))
    );
}

#[test]
fn image_rows_depend_on_the_size_with_colqwen2_and_are_1030_with_colpali() {
    let (small, large) = (png(64, 64), png(300, 200));
    let pages = embed(
        &serve(Model::colqwen2("m")),
        "image",
        &[&small, &large],
        128,
    );
    assert_eq!((pages[0].len(), pages[1].len()), (90, 90));
    assert!(is_zero(&pages[0][72]) && !is_zero(&pages[0][73]));
    let pages = embed(&serve(Model::colpali("m")), "image", &[&small, &large], 128);
    assert_eq!((pages[0].len(), pages[1].len()), (1030, 1030));
}

#[test]
fn usage_of_an_image_counts_its_lines() {
    let server = serve(Model::colqwen2("m"));
    let (_, answer) = ask(&server, &images(&[png(64, 64), png(300, 200)]));
    assert_eq!(answer["usage"]["prompt_tokens"], 349 + 1029);
}

#[test]
fn a_single_vector_model_answers_flat_lists() {
    let server = serve(Model::single_vector("m", 384));
    let (_, answer) = ask(&server, &json!({"input": ["hi", "hello world there"]}));
    for item in answer["data"].as_array().unwrap() {
        let list = item["embedding"].as_array().unwrap();
        assert!(list.len() == 384 && list.iter().all(Value::is_number));
    }
    let (_, answer) = ask(&server, &json!({"input": "hi", "dimensions": 128}));
    assert_eq!(
        answer["data"][0]["embedding"].as_array().unwrap().len(),
        128
    );
}

#[test]
fn dimensions_takes_rows_away_from_a_late_interaction_model() {
    let server = serve(Model::colbert("m"));
    let (_, answer) = ask(
        &server,
        &json!({"input": ["This is a test"], "dimensions": 2}),
    );
    assert_eq!(answer["data"][0]["embedding"].as_array().unwrap().len(), 2);
    let too_many = refused(
        &server,
        &json!({"input": ["This is a test"], "dimensions": 128}),
    );
    assert_eq!(
        too_many,
        (400, "<class 'infinity_emb.primitives.MatryoshkaDimError'> -> matryoshka_dim=128 is not in a valid range. Select between 1 and 6.".to_owned())
    );
    assert_eq!(
        refused(&server, &json!({"input": ["hi"], "dimensions": -1})).0,
        400
    );
}

#[test]
fn bad_requests_are_refused_with_422_in_the_words_of_the_validator() {
    let server = serve(Model::colbert("m"));
    let of = |body: Value| complaints(&server, &body);
    assert_eq!(of(json!({"input": []})), ["too_short", "string_type"]);
    assert_eq!(
        of(json!({"input": ["a", null]})),
        ["string_type", "string_type"]
    );
    assert_eq!(of(json!({"input": null})), ["list_type", "string_type"]);
    assert_eq!(of(json!({"input": [1, 2]})), ["string_type"; 3]);
    assert_eq!(
        of(json!({"input": vec!["a"; 2049]})),
        ["too_long", "string_type"]
    );
    assert_eq!(
        of(json!({"input": ["a".repeat(122_881)]})),
        ["string_too_long", "string_type"]
    );
    assert_eq!(of(json!({})), ["missing"]);
    assert_eq!(of(json!([1])), ["model_attributes_type"]);
    assert_eq!(
        of(json!({"input": "a", "encoding_format": "hex"})),
        ["enum"]
    );
    assert_eq!(of(json!({"input": "a", "encoding_format": null})), ["enum"]);
    assert_eq!(of(json!({"input": "a", "dimensions": null})), ["int_type"]);
    assert_eq!(
        of(json!({"input": "a", "modality": null})),
        ["union_tag_not_found"]
    );
    assert_eq!(
        of(json!({"input": "a", "modality": "video"})),
        ["union_tag_invalid"]
    );
    let bare = json!({"input": ["iVBORw0KGgo="], "modality": "image"});
    assert_eq!(
        of(bare),
        ["value_error", "url_parsing", "string_type", "url_type"]
    );
    let many = json!({"input": vec![png(4, 4); 33], "modality": "image"});
    assert_eq!(of(many), ["too_long", "string_type", "url_type"]);
}

#[test]
fn a_refusal_echoes_its_input_whole() {
    let server = serve(Model::colbert("m"));
    let text = "a".repeat(122_881);
    let (_, answer) = ask(&server, &json!({"input": [text]}));
    assert_eq!(answer["detail"][0]["input"], text);
    assert_eq!(answer["detail"][1]["input"], json!([text]));
    assert_eq!(
        answer["detail"][0]["loc"],
        json!(["body", "text", "input", "list[constrained-str]", 0])
    );
}

#[test]
fn the_longest_legal_inputs_are_taken() {
    let server = serve(Model::colbert("m"));
    // White space around a text is stripped before it is counted.
    let text = format!("  {}\n", "é".repeat(122_880));
    assert_eq!(
        ask(
            &server,
            &json!({"input": [text], "encoding_format": "base64"})
        )
        .0,
        200
    );
    let (status, answer) = ask(
        &server,
        &json!({"input": vec!["a"; 2048], "encoding_format": "base64", "dimensions": 1}),
    );
    assert_eq!(
        (status, answer["data"].as_array().unwrap().len()),
        (200, 2048)
    );
    assert_eq!(embed(&server, "text", &["", "   "], 384).concat().len(), 4);
}

#[test]
fn what_is_not_json_is_refused_by_its_defect() {
    let server = serve(Model::colbert("m"));
    let send = |kind: &str, body: &[u8]| {
        let request = client(client::PATIENCE).post(format!("{}/embeddings", server.url()));
        let response = request
            .header("content-type", kind)
            .body(body.to_vec())
            .send()
            .unwrap();
        (response.status().as_u16(), response.text().unwrap())
    };
    let (status, text) = send("application/json", br#"{"model": "x", "input": ["#);
    assert!(status == 422 && text.contains("json_invalid"), "{text}");
    let (status, text) = send("text/plain", br#"{"input": ["hi"]}"#);
    assert!(
        status == 422 && text.contains("model_attributes_type"),
        "{text}"
    );
    let (status, text) = send("application/json", b"{\"input\": [\"\xff\xfe\"]}");
    assert!(
        status == 400 && text.contains("There was an error parsing the body"),
        "{text}"
    );
    let (status, text) = send("application/json", br#"{"input": ["\ud800"]}"#);
    assert_eq!((status, text.as_str()), (500, "Internal Server Error"));
}

#[test]
fn bad_images_are_a_400_and_leave_the_server_alive() {
    let server = serve(Model::colqwen2("m"));
    let of = |source: &str| refused(&server, &images(&[png(64, 64), source.to_owned()]));
    let prefix = "<class 'infinity_emb.primitives.ImageCorruption'> -> error decoding data URI: ";
    for garbage in [
        data_uri(b"not an image at all"),
        "data:image/png;base64,@@@@".to_owned(),
        data_uri(b""),
    ] {
        let (status, message) = of(&garbage);
        assert!(
            status == 400 && message.starts_with(&format!("{prefix}cannot identify image file")),
            "{message}"
        );
    }
    let (status, message) = of(&png(2, 2));
    assert_eq!(
        (status, message),
        (
            400,
            format!(
                "{prefix}An image in your request is too small for processing (2, 2). Minimum required size is 3x3."
            )
        )
    );
    let (status, message) = of("http://127.0.0.1:9/x.png");
    assert!(
        status == 400 && message.ends_with("Media URL address is blacklisted"),
        "{message}"
    );
    let (status, message) = of("http://no-such-host.invalid/x.png");
    assert!(
        status == 400 && message.contains("Cannot connect to host no-such-host.invalid:80"),
        "{message}"
    );
    assert_eq!(ask(&server, &hi()).0, 200);
}

#[test]
fn what_the_model_cannot_do_is_a_400() {
    let server = serve(Model::colbert("minilm"));
    let (status, message) = refused(&server, &images(&[png(64, 64)]));
    assert_eq!(status, 400);
    assert_eq!(
        message,
        "ModelNotDeployedError: model=`minilm` does not support `embed` for modality `image`. Reason: the loaded moded cannot fullyfill `image_embed`. Options are {'embed'}."
    );
    let rerank = client(client::PATIENCE).post(format!("{}/rerank", server.url()));
    let response = rerank
        .json(&json!({"query": "q", "documents": ["a"]}))
        .send()
        .unwrap();
    assert_eq!(response.status(), 400);
}

#[test]
fn with_two_models_an_unknown_name_is_a_400_that_lists_them() {
    let mut options = Options::new(Model::colbert("one"));
    options.models.push(Model::single_vector("two", 8));
    let server = Server::start(options);
    assert_eq!(
        refused(&server, &json!({"model": "nope", "input": ["hi"]})),
        (400, "Invalid model: Engine for model name `nope` not found. Available model names are ['one', 'two']".to_owned())
    );
    assert_eq!(
        ask(&server, &json!({"model": "two", "input": ["hi"]})).1["model"],
        "two"
    );
}

#[test]
fn the_key_and_the_prefix_guard_everything_but_health_and_metrics() {
    let mut options = Options::new(Model::colbert("m"));
    options.api_key = Some("sk-secret".to_owned());
    options.url_prefix = "/v1".to_owned();
    let server = Server::start(options);
    let http = client(client::PATIENCE);
    let status = |path: &str, key: Option<&str>| {
        let mut request = http.get(format!("{}{path}", server.origin()));
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        request.send().unwrap().status().as_u16()
    };
    assert_eq!(status("/health", None), 200);
    assert_eq!(status("/metrics", None), 200);
    assert_eq!(status("/v1/health", Some("Bearer sk-secret")), 404);
    assert_eq!(status("/models", Some("Bearer sk-secret")), 404);
    assert_eq!(status("/v1/models", Some("Bearer sk-secret")), 200);
    for key in [None, Some("Bearer no"), Some("Basic c2s6")] {
        assert_eq!(status("/v1/models", key), 401);
    }
    let response = post(&server, &hi());
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["www-authenticate"].to_str().unwrap()
        ),
        (401, "Bearer")
    );
    assert_eq!(response.text().unwrap(), r#"{"detail":"Unauthorized"}"#);
}

#[test]
fn wrong_paths_verbs_and_slashes_are_404_405_and_307() {
    let server = serve(Model::colbert("m"));
    let http = client(client::PATIENCE);
    let at = |path: &str| format!("{}{path}", server.origin());
    let response = http.post(at("/v1/embeddings")).json(&hi()).send().unwrap();
    assert_eq!(
        (response.status().as_u16(), response.text().unwrap()),
        (404, r#"{"detail":"Not Found"}"#.to_owned())
    );
    let response = http.get(at("/embeddings")).send().unwrap();
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(
        (response.status().as_u16(), response.text().unwrap()),
        (405, r#"{"detail":"Method Not Allowed"}"#.to_owned())
    );
    let response = http.post(at("/embeddings/")).json(&hi()).send().unwrap();
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], at("/embeddings").as_str());
}

#[test]
fn models_lists_names_queues_and_capabilities() {
    let server = serve(Model::colpali("vidore/colpali-v1.3"));
    let response = client(client::PATIENCE)
        .get(format!("{}/models", server.url()))
        .send()
        .unwrap();
    let answer: Value = response.json().unwrap();
    let model = &answer["data"][0];
    assert_eq!(answer["object"], "list");
    assert_eq!(model["id"], "vidore/colpali-v1.3");
    assert_eq!(model["capabilities"], json!(["embed", "image_embed"]));
    assert_eq!(
        model["stats"],
        json!({"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": 32})
    );
}

#[test]
fn a_full_queue_is_a_429_on_arrival_but_one_great_request_is_taken() {
    let mut options = Options::new(Model::colbert("minilm"));
    options.queue_size = 4;
    options.latency = Duration::from_millis(400);
    let server = Server::start(options);
    let body = json!({"input": vec!["x"; 50], "encoding_format": "base64"});
    std::thread::scope(|scope| {
        let great = scope.spawn(|| ask(&server, &body));
        client::eventually("the great request is in flight", || {
            server.max_in_flight() == 1
        });
        client::eventually("the queue is full", || {
            let (status, answer) = ask(&server, &hi());
            if status == 429 {
                let error = json!({"message": "model minilm is currently overloaded", "type": null, "param": null, "code": 429});
                assert_eq!(answer["error"], error);
            }
            status == 429
        });
        assert_eq!(great.join().unwrap().0, 200);
    });
}
