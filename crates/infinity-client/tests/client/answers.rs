//! Facts 1 to 4, 6, 7 and 8 of the protocol: what is sent, how answers become rows, and what is not believed.

use infinity_client::{
    BlockingWait, Client, Config, Encoding, Error, MAX_TEXT_CHARS, MultiVector, Outcome,
};
use mock_infinity::{Fault, Model, NonFinite, Options, Server, Times};

use crate::{config, float, serve, texts};

fn embed(config: &Config, inputs: &[&str]) -> Result<Vec<Outcome>, Error> {
    Client::new().embed_texts(config, texts(inputs), &mut BlockingWait)
}

fn rows(outcome: &Outcome) -> &MultiVector {
    outcome.as_ref().unwrap()
}

fn assert_close(left: &MultiVector, right: &MultiVector) {
    assert_eq!(
        (left.tokens, left.dim, left.values.len()),
        (right.tokens, right.dim, right.values.len())
    );
    let furthest = left
        .values
        .iter()
        .zip(&right.values)
        .map(|(l, r)| (l - r).abs())
        .fold(0.0, f32::max);
    assert!(furthest < 1e-3, "values differ by {furthest}");
}

#[test]
fn requests_name_encoding_format_and_nothing_that_is_null_or_harmful() {
    let server = serve(Model::colqwen2);
    embed(&config(&server.url()), &["hello"]).unwrap();
    let requests = server.requests();
    let formats: Vec<_> = requests
        .iter()
        .map(|request| request.encoding_format.as_deref())
        .collect();
    assert_eq!(formats, [Some("float"), Some("base64")]);
    for request in requests {
        let mut fields = request.fields.clone();
        fields.sort();
        assert_eq!(fields, ["encoding_format", "input", "model"]);
    }
}

#[test]
fn base64_and_float_give_the_same_rows() {
    for model in [Model::colbert, Model::colqwen2, Model::colpali, Model::lite] {
        let server = serve(model);
        let inputs = ["hi", "a much longer text with several words", ""];
        let base64 = embed(&config(&server.url()), &inputs).unwrap();
        let float = embed(&float(&server.url()), &inputs).unwrap();
        for (left, right) in base64.iter().zip(&float) {
            assert_close(rows(left), rows(right));
        }
    }
}

#[test]
fn the_dimension_is_learnt_by_one_float_probe_per_url_and_model() {
    let server = serve(Model::colbert);
    let client = Client::new();
    for _ in 0..3 {
        let outcomes = client
            .embed_texts(
                &config(&server.url()),
                texts(&["one", "two"]),
                &mut BlockingWait,
            )
            .unwrap();
        assert_eq!(rows(&outcomes[0]).dim, 384);
    }
    let floats = server
        .requests()
        .iter()
        .filter(|r| r.encoding_format.as_deref() == Some("float"))
        .count();
    assert_eq!((floats, server.requests().len()), (1, 4));
}

#[test]
fn a_dimension_other_than_the_configured_one_is_an_error_and_no_reshape() {
    let server = serve(Model::colbert);
    for base in [config(&server.url()), float(&server.url())] {
        let config = Config {
            dim: Some(128),
            ..base
        };
        let error = embed(&config, &["hello"]).unwrap_err();
        assert_eq!(
            error,
            Error::DimensionMismatch {
                model: "m".into(),
                configured: 128,
                served: 384
            }
        );
    }
    let inputs: usize = server.requests().iter().map(|request| request.inputs).sum();
    assert_eq!(
        inputs, 2,
        "base64 stopped at the probe, float saw it in its answer"
    );
}

#[test]
fn a_model_exchanged_behind_the_same_name_is_probed_again() {
    let client = Client::new();
    let mut config = config("");
    let port = {
        let server = serve(Model::colbert);
        config.url = server.url();
        client
            .embed_texts(&config, texts(&["one"]), &mut BlockingWait)
            .unwrap();
        server.port()
    };
    // 100 does not divide into rows of 384.
    let options = Options {
        port,
        ..Options::new(Model::colbert("m").with_dim(100))
    };
    let server = Server::start(options);
    let outcomes = client
        .embed_texts(&config, texts(&["two words"]), &mut BlockingWait)
        .unwrap();
    assert_eq!(
        (rows(&outcomes[0]).dim, rows(&outcomes[0]).tokens > 0),
        (100, true)
    );
    drop(server);
}

#[test]
fn lengths_that_fit_no_dimension_are_probed_once_more_and_then_refused() {
    let server = serve(Model::colbert);
    let client = Client::new();
    client
        .embed_texts(&config(&server.url()), texts(&["learn"]), &mut BlockingWait)
        .unwrap();
    server.clear_requests();
    server.inject(Fault::RaggedLength, Times::Once);
    let error = client
        .embed_texts(
            &config(&server.url()),
            texts(&["one two"]),
            &mut BlockingWait,
        )
        .unwrap_err();
    assert!(
        matches!(&error, Error::Malformed { reason, .. } if reason.contains("whole rows of 384")),
        "{error}"
    );
    assert_eq!(server.requests().len(), 2, "the request and one probe");
}

#[test]
fn a_model_of_single_vectors_is_told_apart() {
    let server = Server::start(Options::new(Model::single_vector("m", 384)));
    for config in [config(&server.url()), float(&server.url())] {
        let error = embed(&config, &["hello"]).unwrap_err();
        assert_eq!(
            error,
            Error::SingleVectorModel {
                model: "m".into(),
                dim: 384
            }
        );
    }
}

#[test]
fn padding_rows_are_stripped_whatever_company_an_input_had() {
    for model in [Model::colqwen2, Model::colpali] {
        let server = serve(model);
        let long = "many words ".repeat(60);
        for config in [config(&server.url()), float(&server.url())] {
            let alone = embed(&config, &["hi"]).unwrap();
            let padded = embed(&config, &["hi", &long]).unwrap();
            assert_close(rows(&alone[0]), rows(&padded[0]));
            assert!(rows(&padded[1]).tokens > rows(&padded[0]).tokens);
            for outcome in &padded {
                let rows = rows(outcome);
                assert!(
                    rows.values
                        .chunks(rows.dim)
                        .all(|row| row.iter().any(|value| *value != 0.0))
                );
            }
        }
    }
}

#[test]
fn rows_are_normalised_only_on_request() {
    let server = serve(Model::colbert);
    let lengths = |normalize| {
        let outcomes = embed(
            &Config {
                normalize,
                ..config(&server.url())
            },
            &["three short words"],
        )
        .unwrap();
        let rows = rows(&outcomes[0]).clone();
        rows.values
            .chunks(rows.dim)
            .map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt())
            .collect::<Vec<_>>()
    };
    assert!(lengths(false).iter().all(|length| *length > 5.0));
    assert!(
        lengths(true)
            .iter()
            .all(|length| (length - 1.0).abs() < 1e-5)
    );
}

#[test]
fn the_served_model_must_be_the_one_asked_for() {
    let server = serve(Model::colbert);
    for base in [config(&server.url()), float(&server.url())] {
        let error = embed(
            &Config {
                model: "another".into(),
                ..base
            },
            &["hello"],
        )
        .unwrap_err();
        assert_eq!(
            error,
            Error::WrongModel {
                asked: "another".into(),
                served: "m".into()
            }
        );
    }
}

#[test]
fn an_unknown_model_among_several_is_one_error_and_one_request() {
    let mut options = Options::new(Model::colbert("m"));
    options.models.push(Model::colqwen2("n"));
    let server = Server::start(options);
    let config = Config {
        model: "another".into(),
        ..float(&server.url())
    };
    let error = embed(&config, &["a", "b", "c"]).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownModel { model, .. } if model == "another"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn every_wrong_count_or_index_is_malformed_and_a_shuffled_one_is_put_in_order() {
    let server = serve(Model::lite);
    let config = float(&server.url());
    let right = embed(&config, &["red", "green", "blue"]).unwrap();
    server.inject(Fault::ShuffledIndex, Times::Once);
    for (left, right) in embed(&config, &["red", "green", "blue"])
        .unwrap()
        .iter()
        .zip(&right)
    {
        assert_close(rows(left), rows(right));
    }
    for fault in [
        Fault::MissingItem,
        Fault::ExtraItem,
        Fault::DuplicateIndex,
        Fault::NotJson,
    ] {
        server.inject(fault.clone(), Times::Once);
        let error = embed(&config, &["red", "green", "blue"]).unwrap_err();
        assert!(
            matches!(error, Error::Malformed { .. }),
            "{fault:?}: {error}"
        );
    }
}

#[test]
fn spoilt_vectors_are_malformed_in_both_encodings() {
    let server = serve(Model::colbert);
    let client = Client::new();
    for config in [config(&server.url()), float(&server.url())] {
        client
            .embed_texts(&config, texts(&["learn"]), &mut BlockingWait)
            .unwrap();
        for fault in [Fault::OddBytes, Fault::InvalidBase64] {
            server.inject(fault.clone(), Times::Once);
            let error = client
                .embed_texts(&config, texts(&["red"]), &mut BlockingWait)
                .unwrap_err();
            assert!(
                matches!(error, Error::Malformed { .. }),
                "{fault:?}: {error}"
            );
        }
    }
}

#[test]
fn values_that_are_no_numbers_and_embeddings_without_rows_are_an_error_of_their_input() {
    let server = serve(Model::colbert);
    let client = Client::new();
    for config in [config(&server.url()), float(&server.url())] {
        let spoilt = |fault: Fault| {
            client
                .embed_texts(&config, texts(&["learn"]), &mut BlockingWait)
                .unwrap();
            server.inject(fault, Times::Once);
            client
                .embed_texts(&config, texts(&["a", "b"]), &mut BlockingWait)
                .unwrap()
        };
        for value in [
            NonFinite::Nan,
            NonFinite::Infinity,
            NonFinite::MinusInfinity,
        ] {
            let outcomes = spoilt(Fault::NonFinite { value });
            assert!(
                matches!(outcomes[1], Err(Error::NonFinite { index: 1, .. })),
                "{value:?} {:?}",
                config.encoding
            );
        }
        for fault in [Fault::EmptyEmbedding, Fault::AllZero] {
            assert_eq!(
                spoilt(fault)[1],
                Err(Error::EmptyEmbedding { index: 1 }),
                "{:?}",
                config.encoding
            );
        }
    }
}

#[test]
fn a_text_over_the_limit_is_named_before_it_is_sent_and_the_others_are_embedded() {
    let server = serve(Model::colbert);
    // Code points count, not bytes, and not the white space around them.
    let fits = format!("  {}\n", "é".repeat(MAX_TEXT_CHARS));
    let long = "é".repeat(MAX_TEXT_CHARS + 1);
    let outcomes = embed(&config(&server.url()), &["short", &long, &fits]).unwrap();
    assert!(
        outcomes[0].is_ok() && outcomes[2].is_ok(),
        "{:?}",
        outcomes[2]
    );
    let error = Error::TextTooLong {
        index: 1,
        chars: MAX_TEXT_CHARS + 1,
        limit: MAX_TEXT_CHARS,
    };
    assert_eq!(outcomes[1], Err(error));
    server.clear_requests();
    let outcomes = embed(&config(&server.url()), &[&long]).unwrap();
    assert!(outcomes[0].is_err() && server.requests().is_empty());
}

#[test]
fn empty_and_blank_texts_are_embedded() {
    let server = serve(Model::colqwen2);
    let outcomes = embed(&config(&server.url()), &["", " ", "\n\t"]).unwrap();
    assert!(outcomes.iter().all(|outcome| rows(outcome).tokens > 0));
}

#[test]
fn models_are_listed_with_backend_capabilities_and_queue() {
    let mut options = Options {
        url_prefix: "/v1".into(),
        ..Options::new(Model::colbert("a"))
    };
    options.models.push(Model::colqwen2("b"));
    let server = Server::start(options);
    let models = Client::new()
        .models(&config(&server.url()), &mut BlockingWait)
        .unwrap();
    let names: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(models[1].capabilities, ["embed", "image_embed"]);
    assert!(
        !models[0].backend.is_empty()
            && models[0].batch_size == 32
            && models[0].queue_absolute == 0
    );
}

#[test]
fn health_tells_model_dimension_and_latency() {
    let server = serve(Model::colbert);
    let health = Client::new().health(&config(&server.url()), &mut BlockingWait);
    assert_eq!(
        (health.reachable, health.dim, &health.problem),
        (true, Some(384), &None)
    );
    assert_eq!(
        (health.url, health.model.as_deref()),
        (server.url(), Some("m"))
    );
    assert!(health.latency.is_some());
}

#[test]
fn health_says_what_is_wrong_and_never_fails() {
    let server = serve(Model::colbert);
    let health = |config: &Config| Client::new().health(config, &mut BlockingWait);
    let url = server.url();
    let narrow = health(&Config {
        dim: Some(128),
        ..config(&url)
    });
    assert!(matches!(
        narrow.problem,
        Some(Error::DimensionMismatch { served: 384, .. })
    ));
    assert_eq!((narrow.reachable, narrow.dim), (true, Some(384)));
    let other = health(&Config {
        model: "other".into(),
        ..config(&url)
    });
    assert!(
        matches!(other.problem, Some(Error::WrongModel { .. }))
            && other.model.as_deref() == Some("m")
    );
    let broken = health(&config("nonsense"));
    assert!(matches!(broken.problem, Some(Error::InvalidUrl { .. })) && !broken.reachable);
    let nobody = health(&config("http://127.0.0.1:1"));
    assert!(matches!(nobody.problem, Some(Error::Connect { .. })) && !nobody.reachable);
    let prefix = health(&config(&format!("{url}/wrong")));
    assert!(matches!(prefix.problem, Some(Error::NotFound { .. })) && prefix.reachable);
    server.inject(Fault::Wedge, Times::Once);
    let short = Config {
        timeout: std::time::Duration::from_millis(400),
        ..config(&url)
    };
    let wedged = health(&short);
    assert!(
        matches!(wedged.problem, Some(Error::Wedged { .. })) && wedged.reachable,
        "{:?}",
        wedged.problem
    );
    assert_eq!(Encoding::default(), Encoding::Base64);
}
