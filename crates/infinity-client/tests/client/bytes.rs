//! Bytes that no HTTP library would send: each becomes an error in time, and never a panic.

use std::time::{Duration, Instant};

use infinity_client::{BlockingWait, Client, Config, Error, Outcome};
use proptest::prelude::*;

use crate::scripted::{Reaction, Scripted, answer, reply};
use crate::{float, texts};

fn embed(config: &Config) -> Result<Vec<Outcome>, Error> {
    Client::new().embed_texts(config, texts(&["hello"]), &mut BlockingWait)
}

fn once(url: &str) -> Config {
    Config {
        max_retries: 0,
        timeout: Duration::from_secs(2),
        ..float(url)
    }
}

fn error_after(reaction: impl Fn() -> Reaction + Send + Sync + 'static) -> Error {
    let server = Scripted::start(move |_, _| reaction());
    embed(&once(&server.url)).unwrap_err()
}

#[test]
fn a_right_answer_is_read_whatever_surrounds_it() {
    let server = Scripted::start(|_, _| Reaction::Send(answer(&["[[1,2],[0,-0.0],[3,4]]"])));
    let outcomes = embed(&once(&server.url)).unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().values, [1.0, 2.0, 3.0, 4.0]);
    let head = &server.requests.lock().unwrap()[0].head;
    assert!(head.starts_with("POST /embeddings HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/json")
            && head.contains("user-agent: infinity_embed/")
    );
    assert!(!head.to_lowercase().contains("accept-encoding") && !head.contains("authorization"));
}

#[test]
fn a_connection_that_ends_too_early_is_lost() {
    let whole = answer(&["[[1,2]]"]);
    for cut in [0, 5, 40, whole.len() - 1] {
        let bytes = whole[..cut].to_vec();
        let error = error_after(move || Reaction::SendAndClose(bytes.clone()));
        assert!(
            matches!(error, Error::Lost { attempts: 1, .. }),
            "cut at {cut}: {error:?}"
        );
    }
}

#[test]
fn what_is_not_http_is_malformed() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let error = error_after(|| Reaction::SendAndClose(bytes.into()));
        assert!(
            matches!(error, Error::Malformed { .. }),
            "{bytes:?}: {error:?}"
        );
    }
}

#[test]
fn a_page_instead_of_json_is_named_in_one_line() {
    let page = format!("<html>\n<h1>Welcome</h1>\n{}</html>", "x".repeat(5000));
    let error = error_after(move || Reaction::Send(reply(200, "text/html", &page)));
    let Error::Malformed { reason, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        reason.contains("text/html") && reason.contains("<h1>Welcome</h1>"),
        "{reason}"
    );
    assert!(reason.len() < 400 && !reason.contains('\n'), "{reason}");
}

#[test]
fn an_answer_over_the_bound_is_refused_by_its_length_or_on_the_way() {
    let limited = |url: &str| Config {
        max_response_bytes: 1000,
        ..once(url)
    };
    let announced = Scripted::start(|_, _| {
        Reaction::Hang(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n".to_vec())
    });
    let begun = Instant::now();
    let error = embed(&limited(&announced.url)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ResponseTooLarge {
                limit: 1000,
                bytes: Some(99_999_999_999),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
    let endless = Scripted::start(|_, _| {
        Reaction::SendForEver(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec(),
            vec![b'['; 4096],
        )
    });
    let error = embed(&limited(&endless.url)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ResponseTooLarge {
                limit: 1000,
                bytes: None,
                ..
            }
        ),
        "{error:?}"
    );
    let exact = answer(&["[[1,2]]"]);
    let body = exact.len()
        - exact
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
        - 4;
    let server = Scripted::start(move |_, _| Reaction::Send(exact.clone()));
    assert!(
        embed(&Config {
            max_response_bytes: body as u64,
            ..once(&server.url)
        })
        .is_ok()
    );
    assert!(
        embed(&Config {
            max_response_bytes: body as u64 - 1,
            ..once(&server.url)
        })
        .is_err()
    );
}

#[test]
fn an_error_body_without_end_is_cut() {
    let server = Scripted::start(|_, _| {
        let head = b"HTTP/1.1 422 Unprocessable\r\ncontent-type: application/json\r\n\r\n{\"detail\":[{\"msg\":\"too bad\",\"input\":\"";
        Reaction::SendForEver(head.to_vec(), vec![b'x'; 4096])
    });
    let outcomes = embed(&once(&server.url)).unwrap();
    assert_eq!(
        outcomes[0],
        Err(Error::Rejected {
            index: 0,
            status: 422,
            message: "too bad".into()
        })
    );
}

#[test]
fn a_head_without_end_is_given_up() {
    let server = Scripted::start(|_, _| {
        Reaction::SendForEver(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-a: b\r\n".to_vec())
    });
    let begun = Instant::now();
    assert!(matches!(
        embed(&once(&server.url)),
        Err(Error::Malformed { .. } | Error::TimedOut { .. })
    ));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn silence_after_the_head_times_out() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    let server = Scripted::start(move |request, _| match request.head.starts_with("GET") {
        // Neither healthy nor dead: not a wedge.
        true => Reaction::Send(reply(503, "text/plain", "")),
        false => Reaction::Hang(head.into()),
    });
    let config = Config {
        timeout: Duration::from_millis(300),
        ..once(&server.url)
    };
    assert!(matches!(
        embed(&config),
        Err(Error::TimedOut { attempts: 1, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_bytes_as_a_body_or_as_a_whole_answer_never_panic_or_hang(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "[\\[\\]{},:\"a-z0-9.-]{0,200}".prop_map(String::into_bytes),
        ],
        whole in any::<bool>(),
        status in prop::sample::select(vec![200u16, 204, 400, 422, 500]),
    ) {
        let server = Scripted::start(move |_, _| {
            let bytes = if whole { body.clone() } else { reply(status, "application/json", &body) };
            Reaction::SendAndClose(bytes)
        });
        let begun = Instant::now();
        let result = embed(&once(&server.url));
        prop_assert!(begun.elapsed() < Duration::from_secs(8));
        let failed = match &result { Ok(outcomes) => outcomes[0].as_ref().err(), Err(error) => Some(error) };
        if let Some(error) = failed {
            let shown = error.to_string();
            prop_assert!(!matches!(error, Error::Internal { .. }), "{shown}");
            prop_assert!(shown.chars().count() < 500 && !shown.contains('\n'), "{shown}");
        }
    }
}
