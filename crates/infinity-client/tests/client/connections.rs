//! Who is talked to, and how: prefix, key, proxies, redirects, connections kept and given up, and why there is none.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use infinity_client::{BlockingWait, Client, Config, ConnectKind, Error, Secret};
use mock_infinity::{Fault, Model, Options, Server, Times};

use crate::{config, float, serve, texts};

fn one(config: &Config) -> Result<(), Error> {
    Client::new()
        .embed_texts(config, texts(&["hello"]), &mut BlockingWait)
        .map(|_| ())
}

fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_path_prefix_is_kept_and_a_missing_one_is_hinted_at() {
    let options = Options {
        url_prefix: "/v1/api".into(),
        ..Options::new(Model::colbert("m"))
    };
    let server = Server::start(options);
    one(&config(&server.url())).unwrap();
    one(&config(&format!("{}/", server.url()))).unwrap();
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.path == "/v1/api/embeddings")
    );
    let error = one(&config(&server.origin())).unwrap_err();
    assert!(
        matches!(error, Error::NotFound { .. }) && error.to_string().contains("prefix"),
        "{error}"
    );
}

#[test]
fn the_key_goes_with_requests_but_not_with_health_and_is_in_no_error() {
    let options = Options {
        api_key: Some("sk-right".into()),
        ..Options::new(Model::colbert("m"))
    };
    let server = Server::start(options);
    let with = |key: Option<&str>| Config {
        api_key: key.map(Secret::new),
        ..config(&server.url())
    };
    one(&with(Some("sk-right"))).unwrap();
    Client::new()
        .models(&with(Some("sk-right")), &mut BlockingWait)
        .unwrap();
    let health = Client::new().health(&with(Some("sk-right")), &mut BlockingWait);
    assert_eq!(health.problem, None);
    for request in server.requests() {
        assert_eq!(
            request.authorized,
            request.path != "/health",
            "{}",
            request.path
        );
    }
    let wrong = one(&with(Some("sk-wrong"))).unwrap_err();
    assert!(
        matches!(
            wrong,
            Error::Unauthorized {
                status: 401,
                key_sent: true,
                ..
            }
        ),
        "{wrong:?}"
    );
    assert!(!format!("{wrong} {wrong:?}").contains("sk-"));
    let missing = one(&with(None)).unwrap_err();
    assert!(
        matches!(
            missing,
            Error::Unauthorized {
                key_sent: false,
                ..
            }
        ),
        "{missing:?}"
    );
    let unusable = one(&with(Some("sk\n-evil"))).unwrap_err();
    assert_eq!(unusable, Error::InvalidApiKey);
    assert!(!unusable.to_string().contains("evil"));
}

#[test]
fn a_redirect_is_not_followed_and_only_its_origin_is_told() {
    let (server, other) = (serve(Model::colbert), serve(Model::colbert));
    let location = format!("{}/embeddings?token=s3cret", other.url());
    server.inject(Fault::Redirect { location }, Times::Always);
    let error = one(&float(&server.url())).unwrap_err();
    let told = Error::Redirected {
        url: server.url(),
        status: 307,
        location: Some(other.url()),
    };
    assert_eq!(error, told);
    assert!(other.requests().is_empty() && server.requests().len() == 1);
}

#[test]
fn proxies_of_the_environment_are_ignored() {
    let server = serve(Model::colbert);
    let Ok(url) = std::env::var("INFINITY_CLIENT_TEST_URL") else {
        let nobody = closed_port();
        let status = rerun("connections::proxies_of_the_environment_are_ignored")
            .env("INFINITY_CLIENT_TEST_URL", server.url())
            .envs(
                ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, &nobody)),
            )
            .status();
        assert!(status.unwrap().success());
        assert_eq!(server.requests().len(), 2);
        return;
    };
    one(&config(&url)).unwrap();
}

/// This test once more in a process of its own, where the environment can be set.
pub(crate) fn rerun(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--quiet"])
        .stdout(std::process::Stdio::null());
    command
}

#[test]
fn connections_are_kept_for_a_while_and_given_up_before_the_server_does() {
    let server = serve(Model::colbert);
    let client = Client::new();
    for _ in 0..5 {
        client
            .embed_texts(&config(&server.url()), texts(&["a"]), &mut BlockingWait)
            .unwrap();
    }
    let connections: std::collections::BTreeSet<u64> = server
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    // A second one may have been opened in a race with the first that became free.
    assert!(connections.len() <= 2, "{connections:?}");
    let idle = Instant::now();
    while server.open_connections() > 0 {
        assert!(idle.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    // Past the server's 5 s in any case: the next call needs a new connection and does not fail.
    while idle.elapsed() < Duration::from_millis(5200) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let config = Config {
        max_retries: 0,
        ..config(&server.url())
    };
    client
        .embed_texts(&config, texts(&["a"]), &mut BlockingWait)
        .unwrap();
}

#[test]
fn why_there_is_no_connection_is_told_apart() {
    let kind = |url: &str| {
        let config = Config {
            max_retries: 0,
            ..config(url)
        };
        match one(&config).unwrap_err() {
            Error::Connect {
                kind,
                attempts: 1,
                url: shown,
                ..
            } => {
                assert_eq!(shown, url);
                kind
            }
            error => panic!("{error:?}"),
        }
    };
    assert_eq!(kind(&closed_port()), ConnectKind::Refused);
    // A label over 63 characters: no resolver has to be asked.
    let nameless = format!("http://{}.invalid:7997", "x".repeat(64));
    assert_eq!(kind(&nameless), ConnectKind::Dns);
    // A multicast address cannot be connected to.
    assert_eq!(kind("http://224.0.0.1:7997"), ConnectKind::Unreachable);
}

#[test]
fn a_refused_connection_is_retried_and_counted() {
    let begun = Instant::now();
    let error = one(&Config {
        max_retries: 2,
        ..config(&closed_port())
    })
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Connect {
                kind: ConnectKind::Refused,
                attempts: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(375) && error.is_transient());
}

#[test]
fn an_unusable_url_is_refused_before_anything_is_done() {
    for url in ["", "nonsense", "ftp://host", "http://user:pw@127.0.0.1:1"] {
        assert!(
            matches!(one(&config(url)), Err(Error::InvalidUrl { .. })),
            "{url}"
        );
    }
}
