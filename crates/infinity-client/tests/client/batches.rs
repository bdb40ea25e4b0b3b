//! Facts 8 and 12: how inputs are dealt out, how many requests are in flight, and how a bad input is found without
//! losing a good one.

use std::time::Duration;

use infinity_client::{BlockingWait, Client, Config, Error, Inputs, Outcome};
use mock_infinity::{Fault, Model, Options, RetryAfter, Server, Times};
use proptest::prelude::*;

use crate::{config, float, serve, texts};

#[test]
fn many_texts_go_in_batches_side_by_side_and_come_back_in_order() {
    let options = Options {
        latency: Duration::from_millis(15),
        ..Options::new(Model::lite("m"))
    };
    let server = Server::start(options);
    let inputs: Vec<String> = (0..205).map(|number| format!("word{number}")).collect();
    let one_by_one = Config {
        batch_size: 300,
        ..float(&server.url())
    };
    let expected = Client::new()
        .embed_texts(&one_by_one, inputs.clone(), &mut BlockingWait)
        .unwrap();
    server.clear_requests();
    let config = Config {
        batch_size: 10,
        max_concurrency: 4,
        ..float(&server.url())
    };
    let outcomes = Client::new()
        .embed_texts(&config, inputs, &mut BlockingWait)
        .unwrap();
    for (left, right) in outcomes.iter().zip(&expected) {
        let (left, right) = (left.as_ref().unwrap(), right.as_ref().unwrap());
        assert_eq!(left.tokens, right.tokens);
        assert!(
            left.values
                .iter()
                .zip(&right.values)
                .all(|(l, r)| (l - r).abs() < 1e-4)
        );
    }
    let mut sizes: Vec<usize> = server
        .requests()
        .iter()
        .map(|request| request.inputs)
        .collect();
    sizes.sort();
    assert_eq!(sizes, [vec![5], vec![10; 20]].concat());
    assert_eq!(server.max_in_flight(), 4);
}

#[test]
fn no_request_exceeds_what_the_server_takes() {
    let server = serve(Model::lite);
    let config = Config {
        batch_size: 100_000,
        ..float(&server.url())
    };
    let inputs = vec![String::from("a"); 2050];
    let outcomes = Client::new()
        .embed_texts(&config, inputs, &mut BlockingWait)
        .unwrap();
    assert!(outcomes.len() == 2050 && outcomes.iter().all(Result::is_ok));
    let mut sizes: Vec<usize> = server
        .requests()
        .iter()
        .map(|request| request.inputs)
        .collect();
    sizes.sort();
    assert_eq!(sizes, [2, 2048]);
}

#[test]
fn a_batch_of_large_texts_is_cut_by_bytes() {
    let server = serve(Model::colbert);
    let config = Config {
        batch_size: 100,
        timeout: Duration::from_secs(60),
        ..float(&server.url())
    };
    // 50 texts of 480 KB: more than one request of 16 MiB holds.
    let inputs = vec!["\u{1f600}".repeat(120_000); 50];
    let outcomes = Client::new()
        .embed_texts(&config, inputs, &mut BlockingWait)
        .unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.body_bytes < infinity_client::MAX_REQUEST_BYTES + 1024)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn bisection_names_exactly_the_bad_inputs_and_keeps_the_others(
        bad in prop::collection::btree_set(0usize..30, 0..6),
        batch_size in 1usize..31,
        status in prop::sample::select(vec![400u16, 413, 422]),
    ) {
        let server = serve(Model::lite);
        server.inject(Fault::Poison { marker: "poison".into(), status }, Times::Always);
        let text = |index| if bad.contains(&index) { format!("poison {index}") } else { format!("fine {index}") };
        let config = Config { batch_size, ..config(&server.url()) };
        let outcomes = Client::new().embed_texts(&config, (0..30).map(text).collect(), &mut BlockingWait).unwrap();
        for (place, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Err(Error::Rejected { index, status: found, message }) => {
                    prop_assert!(bad.contains(&place) && *index == place && *found == status, "{place} {message}");
                }
                outcome => prop_assert!(outcome.is_ok() && !bad.contains(&place), "{place}: {outcome:?}"),
            }
        }
        // One probe, the batches, and for each bad input at most two requests a halving.
        let halvings = batch_size.next_power_of_two().ilog2() as usize;
        prop_assert!(server.requests().len() <= 1 + 30usize.div_ceil(batch_size) + bad.len() * 2 * halvings);
    }
}

#[test]
fn an_input_over_which_the_server_fails_is_named_while_the_others_are_embedded() {
    let server = serve(Model::lite);
    let marker = "poison".into();
    server.inject(
        Fault::Poison {
            marker,
            status: 500,
        },
        Times::Always,
    );
    let texts = (0..30).map(|index| match index {
        7 | 21 => format!("poison {index}"),
        _ => format!("fine {index}"),
    });
    let outcomes = Client::new()
        .embed_texts(&config(&server.url()), texts.collect(), &mut BlockingWait)
        .unwrap();
    let bad: Vec<usize> = (0..30).filter(|&place| outcomes[place].is_err()).collect();
    assert_eq!(bad, [7, 21]);
    assert!(matches!(
        outcomes[7],
        Err(Error::ServerFailed { status: 500, .. })
    ));
}

#[test]
fn what_was_embedded_before_a_failure_is_given_too() {
    let server = serve(Model::lite);
    server.inject(Fault::Hang { ms: 0 }, Times::Count(3));
    server.inject(
        Fault::TooManyRequests {
            retry_after: Some(RetryAfter::Seconds(7)),
        },
        Times::Always,
    );
    let config = Config {
        batch_size: 10,
        max_concurrency: 1,
        max_retries: 0,
        ..float(&server.url())
    };
    let texts = (0..50).map(|index| format!("fine {index}")).collect();
    let attempt = Client::new().embed(&config, Inputs::Texts(texts), &mut BlockingWait);
    let embedded = |outcome: &Option<Outcome>| matches!(outcome, Some(Ok(_)));
    assert!(attempt.outcomes[..30].iter().all(embedded));
    assert!(attempt.outcomes[30..].iter().all(Option::is_none));
    let Some(Error::Overloaded { retry_after, .. }) = attempt.failure else {
        panic!("{:?}", attempt.failure);
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[test]
fn a_failure_that_is_no_inputs_fault_ends_the_call_and_drops_the_requests_in_flight() {
    let server = serve(Model::lite);
    server.inject(Fault::Hang { ms: 60_000 }, Times::Count(3));
    server.inject(Fault::Status { status: 403 }, Times::Once);
    let config = Config {
        batch_size: 1,
        max_concurrency: 4,
        ..float(&server.url())
    };
    let begun = std::time::Instant::now();
    let error = Client::new()
        .embed_texts(
            &config,
            texts(&["a", "b", "c", "d", "e"]),
            &mut BlockingWait,
        )
        .unwrap_err();
    assert!(
        matches!(error, Error::Unauthorized { status: 403, .. }),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
    crate::eventually("the others are dropped", || {
        server
            .requests()
            .iter()
            .filter(|request| request.client_gone)
            .count()
            == 3
    });
}

#[test]
fn a_model_that_does_not_embed_images_is_one_error_and_no_bisection() {
    let server = serve(Model::colbert);
    let image = crate::images::png(20, 20);
    let error = Client::new()
        .embed_images(&float(&server.url()), vec![image; 8], &mut BlockingWait)
        .unwrap_err();
    assert!(
        matches!(&error, Error::UnsupportedModality { modality, .. } if modality.as_str() == "image"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}
