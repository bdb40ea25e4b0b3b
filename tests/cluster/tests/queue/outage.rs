//! The server is away, overloaded or refuses us: nothing is lost, and no row is blamed.
//!
//! INFINITY_EMBED_OUTAGE_SECONDS sets how long the server is away from a worker (3). The bar is 60 s.

use std::time::{Duration, Instant};

use cluster_tests::{database_error, wait_until};
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
            "infinity_embed.queue WHERE attempts > 0 OR dead OR claim IS NOT NULL"
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
        count(&mut client, "infinity_embed.queue WHERE attempts > 0"),
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
        count(&mut client, "infinity_embed.queue WHERE attempts > 0"),
        0
    );
}

#[test]
fn the_worker_resumes_within_three_seconds_and_no_row_is_lost_or_blamed() {
    let outage = std::env::var("INFINITY_EMBED_OUTAGE_SECONDS").map_or(3, |text| {
        text.parse()
            .expect("INFINITY_EMBED_OUTAGE_SECONDS is a number")
    });
    let mut server = server(Duration::from_millis(50));
    let database = passages(&server, 2000);
    // What users have: the client's own retries must not make it later.
    database.run(&format!(
        "ALTER DATABASE {} RESET infinity_embed.max_retries",
        database.name()
    ));
    database.set("infinity_embed.worker", "on");
    let mut client = database.client();
    let mut change = |id: u64| {
        client
            .execute(
                "UPDATE passages SET body = body || '.' WHERE id = $1::int8",
                &[&(id as i64)],
            )
            .unwrap();
    };
    change(1);
    let mut observer = database.client();
    let embedded = "passages WHERE embedding IS NOT NULL";
    wait_until("the worker works", Duration::from_secs(20), || {
        count(&mut observer, embedded) > 0
    });
    server.stop();
    let begun = Instant::now();
    let mut next_change = 2;
    wait_until("the outage is over", Duration::from_secs(600), || {
        if begun.elapsed() > Duration::from_millis(200) * next_change {
            change(u64::from(next_change));
            next_change += 1;
            assert_eq!(
                count(
                    &mut observer,
                    "infinity_embed.queue WHERE attempts > 0 OR dead"
                ),
                0
            );
        }
        begun.elapsed() > Duration::from_secs(outage)
    });
    assert!(next_change > 2, "an outage of {outage} s is too short");
    let before = count(&mut observer, embedded);
    assert!(before < 2000, "the worker was done before the outage");
    server.restart_on_same_port();
    let resumed = wait_until("work resumes", Duration::from_secs(3), || {
        count(&mut observer, embedded) > before
    });
    println!("resumed {resumed:?} after an outage of {outage} s");
    wait_until("nothing waits", Duration::from_secs(60), || {
        waiting(&mut observer) == 0
    });
    assert_eq!(wrong(&mut observer), 0);
    assert_eq!(count(&mut observer, "infinity_embed.queue"), 0);
}
