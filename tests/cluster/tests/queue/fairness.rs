//! Whose turn it is: new rows, backfills, and rows over which the server fails.

use std::time::Duration;

use cluster_tests::{Database, database_error};
use mock_infinity::{Fault, RetryAfter, Server, Times};

use crate::{count, passages, process, server, waiting, wrong};

/// Eight rows a batch.
fn passages_in_small_batches(server: &Server, rows: u32) -> Database<'static> {
    let database = passages(server, rows);
    database.set("infinity_embed.embed_batch_size", "1");
    database.set("infinity_embed.max_concurrency", "1");
    database
}

#[test]
fn a_new_row_does_not_wait_for_a_backfill_of_its_table_or_another() {
    let server = server(Duration::ZERO);
    let database = passages_in_small_batches(&server, 1000);
    let mut client = database.client();
    // Not in one string, which would be one transaction.
    for statement in [
        "CREATE TABLE others (id int PRIMARY KEY, body text, embedding real[])",
        "SELECT infinity_embed.auto_embed('others', 'body', 'embedding')",
        "CALL infinity_embed.process_queue(max_jobs => 8)",
        "INSERT INTO passages (id, body) VALUES (5000, 'new')",
        "INSERT INTO others VALUES (1, 'new')",
        // Each has its batch, and one may be the backfill's.
        "CALL infinity_embed.process_queue(max_jobs => 17)",
    ] {
        client.batch_execute(statement).unwrap();
    }
    assert_eq!(
        count(
            &mut client,
            "(SELECT embedding FROM passages WHERE id = 5000 UNION ALL SELECT embedding FROM others) AS n
             WHERE embedding IS NOT NULL"
        ),
        2
    );
    assert!(count(&mut client, "passages WHERE embedding IS NULL") > 900);
}

#[test]
fn a_backfill_does_not_wait_for_an_end_of_new_rows() {
    let server = server(Duration::ZERO);
    let database = passages_in_small_batches(&server, 100);
    let mut client = database.client();
    for round in 1..=12 {
        client
            .batch_execute(&format!(
                "INSERT INTO passages (id, body) SELECT {round} * 1000 + i, 'new' FROM generate_series(1, 16) AS i"
            ))
            .unwrap();
        client
            .batch_execute("CALL infinity_embed.process_queue(max_jobs => 8)")
            .unwrap();
    }
    let backfilled = count(
        &mut client,
        "passages WHERE embedding IS NOT NULL AND id <= 100",
    );
    assert_eq!(backfilled, 3 * 8);
}

#[test]
fn what_was_embedded_before_the_server_turned_away_the_rest_is_kept() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 300);
    let mut client = database.client();
    // The first is the one that asks for the dimension.
    server.inject(Fault::Hang { ms: 0 }, Times::Count(11));
    server.inject(
        Fault::TooManyRequests {
            retry_after: Some(RetryAfter::Seconds(20)),
        },
        Times::Always,
    );
    let error = database_error(client.batch_execute("CALL infinity_embed.process_queue()"));
    assert_eq!(error.code().code(), "53000", "{error}");
    // Of ten answered requests those are lost that were still read when the eleventh failed.
    let kept = count(&mut client, "passages WHERE embedding IS NOT NULL");
    assert!((70..=100).contains(&kept), "{kept}");
    assert_eq!(
        count(
            &mut client,
            "infinity_embed.queue WHERE attempts > 0 OR claim IS NOT NULL"
        ),
        0
    );
    assert_eq!(
        count(
            &mut client,
            "infinity_embed.targets WHERE paused_until > clock_timestamp() + interval '10 s'"
        ),
        1
    );
    server.clear_faults();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}
