//! What the server can answer wrongly: each answer becomes an error of its own, with the SQLSTATE of its class, which shows
//! neither the key nor more than a kilobyte, and the session goes on.

use std::time::{Duration, Instant};

use cluster_tests::{Stage, database_error};
use mock_infinity::{Fault, Model, NonFinite, Options, Times};
use postgres::Client;
use postgres::error::DbError;

const KEY: &str = "sk-this-must-never-be-shown";
/// No test here may take longer than its timeout of 3 s, the diagnosis of as much, and a margin for a busy machine.
const BOUND: Duration = Duration::from_secs(10);

fn stage(model: Model) -> Stage {
    let stage = Stage::with_options(Options {
        api_key: Some(KEY.to_owned()),
        ..Options::new(model)
    });
    stage.database.set("infinity_embed.timeout", "3s");
    stage.database.set("infinity_embed.max_retries", "1");
    stage
}

/// The error of a statement, which comes in time, is short and does not tell the key.
fn failure(client: &mut Client, statement: &str) -> DbError {
    let start = Instant::now();
    let error = database_error(client.batch_execute(statement));
    assert!(
        start.elapsed() < BOUND,
        "{statement} took {:?}",
        start.elapsed()
    );
    let parts = [
        error.message(),
        error.detail().unwrap_or_default(),
        error.hint().unwrap_or_default(),
    ];
    for part in parts {
        assert!(part.len() <= 1024, "{} bytes: {part}", part.len());
        assert!(!part.contains(KEY), "{part}");
        for leak in ["Error {", "Some(", "reqwest", "hyper", "panicked"] {
            assert!(!part.contains(leak), "a Rust name in: {part}");
        }
    }
    let first = error.message().chars().next().unwrap();
    assert!(!first.is_uppercase(), "{error}");
    error
}

/// One fault on a fresh session, the error that must come of it, and the session's health after it.
fn answers(fault: Fault, times: Times, code: &str, message: &str, detail: &str) {
    let stage = stage(Model::lite("lite"));
    let mut client = stage.client();
    stage.server.inject(fault.clone(), times);
    let error = failure(&mut client, "SELECT infinity_embed_text('a b c')");
    assert_eq!(error.code().code(), code, "{fault:?}: {error:?}");
    let url = stage.server.url();
    assert_eq!(
        error.message(),
        message.replace("URL", &url),
        "{fault:?}: {error:?}"
    );
    let found = error.detail().unwrap_or_default();
    assert!(found.contains(detail), "{fault:?}: {found}");
    goes_on(&stage, &mut client);
}

fn goes_on(stage: &Stage, client: &mut Client) {
    stage.server.clear_faults();
    let row = client
        .query_one(
            "SELECT 1, infinity_embed_text('all is well') IS NOT NULL",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    assert!(row.get::<_, bool>(1));
}

const MALFORMED: &str = "malformed answer from the Infinity server at \"URL\"";
const FAILED: &str = "the Infinity server at \"URL\" failed";

#[test]
fn nan_and_infinity_are_refused_with_the_token_they_are_in() {
    for value in [
        NonFinite::Nan,
        NonFinite::Infinity,
        NonFinite::MinusInfinity,
    ] {
        answers(
            Fault::NonFinite { value },
            Times::Always,
            "22000",
            "the Infinity server answered with a NaN or infinite value",
            "token 5",
        );
    }
}

#[test]
fn statuses_of_the_server_keep_their_class() {
    let overloaded = "the Infinity server at \"URL\" is overloaded";
    let rows = [
        (
            Fault::TooManyRequests { retry_after: None },
            "53000",
            overloaded,
            "429",
        ),
        (
            Fault::Unavailable { retry_after: None },
            "53000",
            overloaded,
            "503",
        ),
        (
            Fault::ServerErrorJson,
            "58000",
            FAILED,
            "the model could not be run (after 2 attempts)",
        ),
        (
            Fault::ServerErrorText,
            "58000",
            FAILED,
            "500: Internal Server Error",
        ),
        (Fault::BadGateway, "58000", FAILED, "502 Bad Gateway"),
        (Fault::Status { status: 504 }, "58000", FAILED, "504"),
        (
            Fault::Status { status: 403 },
            "28000",
            "the Infinity server at \"URL\" refused the API key",
            "403",
        ),
        (
            Fault::Status { status: 405 },
            "22023",
            "the Infinity server at \"URL\" refused the request",
            "405",
        ),
        (
            Fault::Status { status: 422 },
            "22023",
            "the Infinity server refused the input",
            "422",
        ),
        (
            Fault::Redirect {
                location: "http://elsewhere.invalid/path?token=x".into(),
            },
            "08P01",
            "\"URL\" answers with a redirect, which is not followed",
            "\"http://elsewhere.invalid\"",
        ),
    ];
    for (fault, code, message, detail) in rows {
        answers(fault, Times::Always, code, message, detail);
    }
}

#[test]
fn answers_that_break_the_protocol_say_how() {
    let rows = [
        (Fault::NotJson, ""),
        (Fault::MissingItem, "0"),
        (Fault::ExtraItem, "2"),
        (Fault::DuplicateIndex, ""),
        (Fault::OddBytes, ""),
        (Fault::InvalidBase64, "base64"),
    ];
    for (fault, detail) in rows {
        answers(fault, Times::Always, "08P01", MALFORMED, detail);
    }
    // Once, so that the dimension, which is then asked for again, comes out right.
    let detail = "639 values are not whole rows of 128";
    answers(Fault::RaggedLength, Times::Once, "08P01", MALFORMED, detail);
    for fault in [Fault::EmptyEmbedding, Fault::AllZero] {
        let message = "the Infinity server answered with an embedding that has no tokens";
        answers(fault, Times::Always, "08P01", message, "");
    }
}

#[test]
fn another_model_and_another_dimension_are_told_by_name_and_number() {
    answers(
        Fault::WrongModel {
            name: "other".into(),
        },
        Times::Always,
        "42704",
        "the Infinity server does not serve model \"lite\"",
        "\"other\"",
    );
    answers(
        Fault::WrongDim { dim: 96 },
        Times::Always,
        "22000",
        "model \"lite\" has 96 dimensions, but infinity_embed.hidden_dim is 128",
        "",
    );
}

#[test]
fn a_model_that_is_not_served_is_told_from_one_that_cannot() {
    let mut options = Options::new(Model::lite("lite"));
    options
        .models
        .push(Model::colbert("text only").with_dim(128));
    options.models.push(Model::single_vector("sentence", 128));
    let stage = Stage::with_options(options);
    let mut client = stage.client();
    let error = failure(&mut client, "SELECT infinity_embed_text('a', 'absent')");
    assert_eq!(error.code().code(), "42704", "{error:?}");
    assert!(error.hint().unwrap().contains("infinity_embed_models()"));
    let error = failure(&mut client, "SELECT infinity_embed_text('a', 'sentence')");
    assert_eq!(error.code().code(), "42704", "{error:?}");
    assert_eq!(
        error.message(),
        "model \"sentence\" is not a late-interaction model"
    );
    let mut picture = Vec::new();
    image::RgbImage::new(50, 50)
        .write_to(
            &mut std::io::Cursor::new(&mut picture),
            image::ImageFormat::Png,
        )
        .unwrap();
    let call = "SELECT infinity_embed_image($1, 'text only')";
    let error = database_error(client.query_one(call, &[&picture]));
    assert_eq!(error.code().code(), "22023", "{error:?}");
    assert_eq!(error.message(), "model \"text only\" does not embed images");
    goes_on(&stage, &mut client);
}

#[test]
fn an_answer_that_ends_early_or_never_is_given_up() {
    let lost = "lost the connection to the Infinity server at \"URL\"";
    for fault in [
        Fault::TruncateBody,
        Fault::ResetInBody,
        Fault::ResetBeforeHeaders,
        Fault::CloseBeforeHeaders,
    ] {
        answers(fault, Times::Always, "08006", lost, "after 2 attempts");
    }
    answers(
        Fault::StallBody,
        Times::Once,
        "08006",
        "no answer from the Infinity server at \"URL\" within 3 s",
        "",
    );
}

#[test]
fn an_endless_answer_stops_at_the_limit() {
    let stage = stage(Model::lite("lite"));
    let mut client = stage.client();
    client
        .batch_execute("SET infinity_embed.max_response_size = '1MB'")
        .unwrap();
    stage.server.inject(Fault::EndlessBody, Times::Always);
    let error = failure(&mut client, "SELECT infinity_embed_text('a')");
    assert_eq!(error.code().code(), "54000", "{error:?}");
    assert_eq!(
        error.detail().unwrap(),
        "It has more than the allowed 1048576 bytes."
    );
    goes_on(&stage, &mut client);
}

#[test]
fn a_wrong_key_and_a_missing_one_are_told_apart() {
    let stage = stage(Model::lite("lite"));
    let mut client = stage.client();
    let url = stage.server.url();
    for (key, verdict) in [
        ("wrong", "refused the API key"),
        ("", "asks for an API key"),
    ] {
        client
            .batch_execute(&format!("SET infinity_embed.api_key = '{key}'"))
            .unwrap();
        let error = failure(&mut client, "SELECT infinity_embed_text('a')");
        assert_eq!(error.code().code(), "28000", "{error:?}");
        assert_eq!(
            error.message(),
            format!("the Infinity server at \"{url}\" {verdict}")
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("infinity_embed.api_key_file")
        );
    }
    client
        .batch_execute("SET infinity_embed.api_key = E'two\\nlines'")
        .unwrap();
    let error = failure(&mut client, "SELECT infinity_embed_text('a')");
    assert_eq!(error.code().code(), "22023", "{error:?}");
    client
        .batch_execute("RESET infinity_embed.api_key")
        .unwrap();
    goes_on(&stage, &mut client);
}

#[test]
fn a_wrong_path_prefix_is_an_undefined_object() {
    let stage = stage(Model::lite("lite"));
    let mut client = stage.client();
    let url = format!("{}/v2", stage.server.url());
    client
        .batch_execute(&format!("SET infinity_embed.url = '{url}'"))
        .unwrap();
    let error = failure(&mut client, "SELECT infinity_embed_text('a')");
    assert_eq!(error.code().code(), "42704", "{error:?}");
    assert_eq!(error.message(), format!("nothing is served at \"{url}\""));
    client.batch_execute("RESET infinity_embed.url").unwrap();
    goes_on(&stage, &mut client);
}
