//! Requests that are never answered: because of a row, or because of the server.

use std::time::Duration;

use cluster_tests::{Database, database_error, wait_until};
use mock_infinity::{Endpoint, Fault, Server, Times};
use postgres::Client;

use crate::worker::{SOON, start_worker};
use crate::{count, passages, process, server, waiting, wrong};

/// Rows of which number 77 is never answered, and requests that are given up soon.
fn passages_with_a_slow_one(server: &Server) -> Database<'static> {
    let database = passages(server, 100);
    database.set("infinity_embed.timeout", "500ms");
    database.set("infinity_embed.max_attempts", "2");
    database.run("UPDATE passages SET body = 'SLOW' WHERE id = 77");
    server.inject(
        Fault::SlowText {
            marker: "SLOW".into(),
            ms: 60_000,
        },
        Times::Always,
    );
    database
}

fn blamed(client: &mut Client) -> i64 {
    count(client, "infinity_embed.queue WHERE attempts > 0")
}

/// Only number 77 is dead, with its own error, and all others are embedded.
fn is_settled(client: &mut Client) {
    assert_eq!(count(client, "passages WHERE embedding IS NULL"), 1);
    let row = client
        .query_one(
            "SELECT key, attempts, dead, error FROM infinity_embed.queue",
            &[],
        )
        .unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("77", 2, true));
    let error: String = row.get(3);
    assert!(
        error.contains("no answer from the Infinity server") && error.contains("the server works"),
        "{error}"
    );
    assert_eq!(
        count(client, "infinity_embed.targets WHERE problem IS NOT NULL"),
        0
    );
}

#[test]
fn a_row_that_is_never_answered_is_dead_in_the_end() {
    let server = server(Duration::ZERO);
    let database = passages_with_a_slow_one(&server);
    let mut client = database.client();
    wait_until("it is dead", SOON, || {
        // The first one ends with the error, as it cannot know yet whose fault that is.
        let _ = client.batch_execute("CALL infinity_embed.process_queue()");
        count(&mut client, "infinity_embed.queue WHERE dead") == 1
    });
    is_settled(&mut client);
    server.clear_faults();
    database.run("SELECT infinity_embed.retry_dead('passages')");
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn the_worker_tries_a_suspect_alone() {
    let server = server(Duration::ZERO);
    let database = passages_with_a_slow_one(&server);
    database.set("infinity_embed.worker", "on");
    let mut observer = database.client();
    start_worker(&database, &mut observer);
    wait_until("the row is suspected", SOON, || {
        count(&mut observer, "infinity_embed.queue WHERE is_suspect") > 0
    });
    wait_until("it is dead", SOON, || {
        count(&mut observer, "infinity_embed.queue WHERE dead") == 1
    });
    is_settled(&mut observer);
    // Once with others, and twice alone.
    let mut unanswered = server.requests();
    unanswered.retain(|request| request.path.ends_with("/embeddings") && request.status.is_none());
    let inputs = unanswered
        .iter()
        .map(|request| request.inputs)
        .collect::<Vec<_>>();
    assert!(matches!(inputs[..], [(2..), 1, 1]), "{inputs:?}");
}

#[test]
fn a_server_that_falls_silent_blames_no_row() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 100);
    database.set("infinity_embed.timeout", "500ms");
    let mut client = database.client();
    for silence in ["the worker hangs", "nothing answers"] {
        match silence {
            "the worker hangs" => server.inject(Fault::Wedge, Times::Once),
            _ => {
                server.inject(Fault::Hang { ms: 60_000 }, Times::Always);
                server.inject_at(Endpoint::Health, Fault::Hang { ms: 60_000 }, Times::Always);
            }
        }
        for _ in 0..4 {
            let error = database_error(client.batch_execute("CALL infinity_embed.process_queue()"));
            assert_eq!(error.code().code(), "08006", "{silence}: {error}");
            assert_eq!(blamed(&mut client), 0, "{silence}");
        }
        server.clear_faults();
        process(&mut client);
        assert_eq!(
            (waiting(&mut client), wrong(&mut client)),
            (0, 0),
            "{silence}"
        );
        database.run("UPDATE passages SET body = body || '.'");
    }
}

#[test]
fn a_single_row_of_a_silent_server_is_not_blamed() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 1);
    database.set("infinity_embed.timeout", "500ms");
    let mut client = database.client();
    server.inject(Fault::Wedge, Times::Once);
    for _ in 0..4 {
        database_error(client.batch_execute("CALL infinity_embed.process_queue()"));
        assert_eq!(blamed(&mut client), 0);
    }
    server.clear_faults();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}
