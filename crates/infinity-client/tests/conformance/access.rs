//! API key, path prefix, connections, and a worker that died: what needs a server with start options of its own, which only
//! the lite one has.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use infinity_client::{BlockingWait, Client, Config, ConnectKind, Error, Secret};

use crate::images::{as_file, picture};
use crate::server::{LITE_MODEL, SecondServer};
use crate::{CLIENT, Kind, served, served_if, texts};

fn failure(config: &Config) -> Error {
    CLIENT
        .embed_texts(config, vec![String::from("x")], &mut BlockingWait)
        .unwrap_err()
}

#[test]
fn key_and_path_prefix_are_sent_and_what_is_wrong_with_them_is_told() {
    let Some(_served) = served_if(|kind| kind == Kind::Lite) else {
        return;
    };
    let options = ["--api-key", "a-key-of-43", "--url-prefix", "/v1/deep"];
    let server = SecondServer::start("conformance-key", &options);
    assert!(server.url.ends_with("/v1/deep"));
    let config = |url: &str, key: Option<&str>| Config {
        api_key: key.map(Secret::new),
        max_retries: 0,
        ..Config::new(url, LITE_MODEL)
    };

    let right = config(&server.url, Some("a-key-of-43"));
    assert_eq!(texts(&right, &["x"])[0].dim, 128);
    assert_eq!(
        CLIENT.models(&right, &mut BlockingWait).unwrap()[0].id,
        LITE_MODEL
    );
    assert_eq!(CLIENT.health(&right, &mut BlockingWait).problem, None);
    let slash = config(&format!("{}/", server.url), Some("a-key-of-43"));
    assert_eq!(texts(&slash, &["x"]), texts(&right, &["x"]));

    for (key, sent) in [(Some("another"), true), (None, false)] {
        let wrong = config(&server.url, key);
        for error in [
            failure(&wrong),
            CLIENT.models(&wrong, &mut BlockingWait).unwrap_err(),
            CLIENT.health(&wrong, &mut BlockingWait).problem.unwrap(),
        ] {
            let Error::Unauthorized {
                status, key_sent, ..
            } = error
            else {
                panic!("{error:?}")
            };
            assert_eq!((status, key_sent), (401, sent));
        }
    }

    let elsewhere = config(&server.origin(), Some("a-key-of-43"));
    assert!(matches!(failure(&elsewhere), Error::NotFound { .. }));
    let health = CLIENT.health(&elsewhere, &mut BlockingWait);
    assert!(health.reachable);
    assert!(matches!(health.problem, Some(Error::NotFound { .. })));
}

#[test]
fn a_worker_that_one_bad_image_killed_is_reported_as_wedged() {
    let Some(_served) = served_if(|kind| kind == Kind::Lite) else {
        return;
    };
    let server = SecondServer::start("conformance-wedged", &[]);
    let config = Config {
        max_retries: 0,
        timeout: Duration::from_secs(3),
        ..Config::new(&server.url, LITE_MODEL)
    };
    let client = Client::new();
    let embed = || client.embed_texts(&config, vec![String::from("x")], &mut BlockingWait);
    embed().unwrap();
    let jpeg = as_file(&picture(200, 200), image::ImageFormat::Jpeg);
    let cut = STANDARD.encode(&jpeg[..jpeg.len() / 2]);
    let body = format!(
        r#"{{"model":"{LITE_MODEL}","modality":"image","input":["data:image/jpeg;base64,{cut}"]}}"#
    );
    let answer = server.post_past_the_client("/embeddings", &body);
    assert_eq!(answer, "", "the worker should have died");

    let wedged = |error: &Error| matches!(error, Error::Wedged { .. });
    let error = embed().unwrap_err();
    assert!(wedged(&error), "{error:?}");
    let health = client.health(&config, &mut BlockingWait);
    assert!(health.reachable);
    assert!(health.problem.as_ref().is_some_and(wedged), "{health:?}");

    // Stopped and started anew, it works again without anything being done here.
    let url = server.url.clone();
    drop(server);
    let error = embed().unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Connect {
                kind: ConnectKind::Refused,
                ..
            }
        ),
        "{error:?}"
    );
    let port = url.rsplit(':').next().unwrap();
    let _again = SecondServer::start("conformance-wedged", &["--port", port]);
    embed().unwrap();
}

#[test]
fn a_connection_that_idled_longer_than_the_server_keeps_it_is_not_used_again() {
    let Some(served) = served() else { return };
    served.text("before");
    // Not a wait for something to happen: the time itself is what is tested, 5 s at the server.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(5_200) {
        std::thread::sleep(Duration::from_millis(100));
    }
    served.text("after");
}
