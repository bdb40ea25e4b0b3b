//! The server is away, overloaded or refuses us: nothing is lost, and no row is blamed.

use std::time::Duration;

use cluster_tests::database_error;
use mock_infinity::{Fault, Times};

use crate::{count, passages, process, server, waiting, wrong};

#[test]
fn an_outage_spends_no_attempt_and_loses_nothing() {
    let mut server = server(Duration::ZERO);
    let database = passages(&server, 500);
    let mut client = database.client();
    server.stop();
    for _ in 0..3 {
        let error = database_error(client.batch_execute("CALL infinity_embed.process_queue()"));
        assert_eq!(error.code().code(), "08001", "{error}");
    }
    assert_eq!(waiting(&mut client), 500);
    assert_eq!(
        count(
            &mut client,
            "infinity_embed.jobs WHERE attempts > 0 OR dead OR claim IS NOT NULL"
        ),
        0
    );
    let problem: String = client
        .query_one("SELECT problem FROM infinity_embed.targets", &[])
        .unwrap()
        .get(0);
    assert!(problem.contains("could not connect"), "{problem}");
    server.restart_on_same_port();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn an_overloaded_server_spends_no_attempt() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 50);
    let mut client = database.client();
    server.inject(
        Fault::TooManyRequests { retry_after: None },
        Times::Count(1),
    );
    let error = database_error(client.batch_execute("CALL infinity_embed.process_queue()"));
    assert_eq!(error.code().code(), "53000", "{error}");
    assert_eq!(
        count(&mut client, "infinity_embed.jobs WHERE attempts > 0"),
        0
    );
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn a_wrong_model_spends_no_attempt() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    client
        .batch_execute("SELECT infinity_embed.auto_embed('passages', source => 'body', target => 'embedding', model => 'other')")
        .unwrap();
    let error = database_error(client.batch_execute("CALL infinity_embed.process_queue()"));
    assert_eq!(error.code().code(), "42704", "{error}");
    assert_eq!(
        count(&mut client, "infinity_embed.jobs WHERE attempts > 0"),
        0
    );
}
