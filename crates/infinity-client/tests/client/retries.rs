//! Facts 5, 9 and 10, and the table of errors: what is repeated, how often, how late, and what a timeout means.

use std::time::{Duration, Instant};

use infinity_client::{BlockingWait, Client, Config, Error};
use mock_infinity::{Fault, Model, Options, RetryAfter, Server, Times};

use crate::{config, float, serve, texts};

fn one(config: &Config) -> Result<(), Error> {
    let outcomes = Client::new().embed_texts(config, texts(&["hello"]), &mut BlockingWait)?;
    outcomes.into_iter().next().unwrap().map(|_| ())
}

fn requests(server: &Server) -> usize {
    server.requests().len()
}

#[test]
fn passing_troubles_are_retried_until_they_pass() {
    let retried = [
        Fault::TooManyRequests { retry_after: None },
        Fault::BadGateway,
        Fault::Unavailable { retry_after: None },
        Fault::Status { status: 504 },
        Fault::Status { status: 408 },
        Fault::ResetBeforeHeaders,
        Fault::CloseBeforeHeaders,
        Fault::TruncateBody,
        Fault::ResetInBody,
    ];
    for fault in retried {
        let server = serve(Model::colbert);
        server.inject(fault.clone(), Times::Count(2));
        one(&float(&server.url())).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(requests(&server), 3, "{fault:?}");
    }
}

#[test]
fn the_attempts_are_counted_and_bounded() {
    let server = serve(Model::colbert);
    server.inject(Fault::TooManyRequests { retry_after: None }, Times::Always);
    let error = one(&Config {
        max_retries: 2,
        ..float(&server.url())
    })
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Overloaded {
                status: 429,
                attempts: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().ends_with("after 3 attempts"), "{error}");
    assert_eq!(requests(&server), 3);
    server.clear_requests();
    let error = one(&Config {
        max_retries: 0,
        ..float(&server.url())
    })
    .unwrap_err();
    assert!(matches!(error, Error::Overloaded { attempts: 1, .. }));
    assert_eq!(requests(&server), 1);
}

#[test]
fn an_internal_error_is_retried_once_only() {
    for fault in [Fault::ServerErrorJson, Fault::ServerErrorText] {
        let server = serve(Model::colbert);
        server.inject(fault.clone(), Times::Once);
        one(&float(&server.url())).unwrap();
        server.clear_requests();
        server.inject(fault, Times::Always);
        let error = one(&float(&server.url())).unwrap_err();
        assert!(
            matches!(
                error,
                Error::ServerFailed {
                    status: 500,
                    attempts: 2,
                    ..
                }
            ),
            "{error:?}"
        );
        // The third one is the word that tells whose fault it is.
        assert_eq!(requests(&server), 3);
    }
}

#[test]
fn what_would_fail_again_is_not_repeated() {
    for status in [400, 401, 403, 404, 405, 413, 422, 501] {
        let server = serve(Model::colbert);
        server.inject(Fault::Status { status }, Times::Always);
        let error = one(&float(&server.url())).unwrap_err();
        let named = match status {
            400 | 413 | 422 => matches!(error, Error::Rejected { index: 0, .. }),
            401 | 403 => matches!(
                error,
                Error::Unauthorized {
                    key_sent: false,
                    ..
                }
            ),
            404 => matches!(error, Error::NotFound { .. }),
            405 => matches!(error, Error::Refused { .. }),
            _ => matches!(error, Error::ServerFailed { .. }),
        };
        assert!(named, "{status}: {error:?}");
        assert_eq!(requests(&server), 1, "{status}");
    }
}

#[test]
fn retry_after_is_honoured_as_seconds_and_as_a_date() {
    for retry_after in [RetryAfter::Seconds(1), RetryAfter::DateIn(2)] {
        let server = serve(Model::colbert);
        server.inject(
            Fault::Unavailable {
                retry_after: Some(retry_after),
            },
            Times::Once,
        );
        one(&float(&server.url())).unwrap();
        let requests = server.requests();
        let waited = requests[1].started - requests[0].started;
        // A date has whole seconds: two ahead are at least one.
        assert!(
            waited >= Duration::from_millis(990),
            "{retry_after:?}: {waited:?}"
        );
    }
}

#[test]
fn a_wait_that_would_pass_the_deadline_is_not_begun() {
    let server = serve(Model::colbert);
    let retry_after = Some(RetryAfter::Seconds(3600));
    server.inject(Fault::TooManyRequests { retry_after }, Times::Always);
    let begun = Instant::now();
    let error = one(&float(&server.url())).unwrap_err();
    assert!(
        matches!(error, Error::Overloaded { attempts: 1, .. }),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn waits_grow_between_attempts() {
    let server = serve(Model::colbert);
    server.inject(Fault::BadGateway, Times::Count(3));
    one(&float(&server.url())).unwrap();
    let starts: Vec<Instant> = server
        .requests()
        .iter()
        .map(|request| request.started)
        .collect();
    let waits: Vec<Duration> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, least) in waits.iter().zip([125, 250, 500]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
}

#[test]
fn a_timeout_is_one_deadline_and_is_not_repeated() {
    for fault in [Fault::Hang { ms: 60_000 }, Fault::StallBody] {
        let server = serve(Model::colbert);
        server.inject(fault.clone(), Times::Once);
        let config = Config {
            timeout: Duration::from_millis(500),
            ..float(&server.url())
        };
        let begun = Instant::now();
        let error = one(&config).unwrap_err();
        let took = begun.elapsed();
        assert!(
            matches!(error, Error::TimedOut { attempts: 1, .. }),
            "{fault:?}: {error:?}"
        );
        assert!(
            took >= Duration::from_millis(500) && took < Duration::from_secs(5),
            "{took:?}"
        );
        let posts = server
            .requests()
            .iter()
            .filter(|request| request.inputs == 1)
            .count();
        assert_eq!(posts, 2, "the request and the one-word question afterwards");
    }
}

#[test]
fn the_deadline_covers_all_attempts() {
    let server = serve(Model::colbert);
    server.inject(Fault::BadGateway, Times::Always);
    let config = Config {
        timeout: Duration::from_millis(900),
        max_retries: 1000,
        ..float(&server.url())
    };
    let begun = Instant::now();
    let error = one(&config).unwrap_err();
    assert!(
        matches!(error, Error::ServerFailed { status: 502, .. }),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_dead_worker_behind_a_healthy_health_is_reported_as_wedged() {
    let server = serve(Model::colbert);
    server.inject(Fault::Wedge, Times::Once);
    let config = Config {
        timeout: Duration::from_millis(500),
        ..config(&server.url())
    };
    let begun = Instant::now();
    let error = one(&config).unwrap_err();
    assert!(matches!(error, Error::Wedged { .. }), "{error:?}");
    assert!(error.to_string().contains("restart Infinity"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    server.clear_faults();
    one(&config).unwrap();
}

#[test]
fn a_slow_answer_in_time_is_an_answer() {
    let server = serve(Model::colbert);
    server.inject(Fault::SlowBody { ms: 400 }, Times::Once);
    one(&Config {
        max_retries: 0,
        ..float(&server.url())
    })
    .unwrap();
    assert_eq!(requests(&server), 1);
}

#[test]
fn a_stale_pooled_connection_is_replaced_silently() {
    let server = serve(Model::colbert);
    let client = Client::new();
    let config = Config {
        max_retries: 0,
        ..float(&server.url())
    };
    let embed = || {
        client
            .embed_texts(&config, texts(&["a"]), &mut BlockingWait)
            .map(|_| ())
    };
    embed().unwrap();
    // What the end of the server's keep-alive looks like when it meets a request on the wire.
    for fault in [Fault::CloseBeforeHeaders, Fault::ResetBeforeHeaders] {
        server.inject(fault, Times::Once);
        embed().unwrap();
    }
    server.inject(Fault::CloseBeforeHeaders, Times::Count(2));
    let error = embed().unwrap_err();
    assert!(
        matches!(error, Error::Lost { attempts: 1, .. }),
        "{error:?}"
    );
}

#[test]
fn a_server_that_comes_up_late_is_waited_for() {
    let mut server = serve(Model::colbert);
    let config = float(&server.url());
    server.stop();
    let call = std::thread::spawn(move || one(&config));
    let begun = Instant::now();
    // The first attempt has been refused for certain once the call still runs after some time on a closed port.
    while begun.elapsed() < Duration::from_millis(50) {
        std::thread::yield_now();
    }
    server.restart_on_same_port();
    call.join().unwrap().unwrap();
}

#[test]
fn a_server_killed_in_the_middle_of_a_batch_is_lost() {
    let mut server = serve(Model::colbert);
    server.inject(Fault::Hang { ms: 60_000 }, Times::Always);
    let config = Config {
        max_retries: 1,
        ..float(&server.url())
    };
    let call = std::thread::spawn(move || one(&config));
    crate::eventually("the request arrives", || server.requests().len() == 1);
    server.stop();
    let error = call.join().unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Connect { attempts: 2, .. } | Error::Lost { attempts: 2, .. }
        ),
        "{error:?}"
    );
}

#[test]
fn a_dead_worker_whose_queue_is_full_is_wedged_too() {
    let options = Options {
        queue_size: 0,
        ..Options::new(Model::colbert("m"))
    };
    let server = Server::start(options);
    server.inject(Fault::Wedge, Times::Once);
    let config = Config {
        timeout: Duration::from_millis(500),
        batch_size: 40,
        ..float(&server.url())
    };
    // More than the batch that the worker died with, so that some wait for ever.
    let inputs = vec![String::from("a"); 40];
    let error = Client::new()
        .embed_texts(&config, inputs, &mut BlockingWait)
        .unwrap_err();
    assert!(matches!(error, Error::Wedged { .. }), "{error:?}");
    assert_eq!(server.requests().last().unwrap().status, Some(429));
}
