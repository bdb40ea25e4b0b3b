//! What is queued, and what CALL makes of it.

use std::time::{Duration, Instant};

use cluster_tests::{Backend, database_error, wait_until};
use mock_infinity::{Fault, Times};
use postgres::Client;

use crate::{count, passages, process, server, waiting, wrong};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn existing_and_new_rows_are_embedded_and_follow_their_source() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 1000);
    let mut client = database.client();
    client
        .batch_execute("INSERT INTO passages (id, body) VALUES (2000, 'a later one'), (2001, NULL)")
        .unwrap();
    assert_eq!(waiting(&mut client), 1002);
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
    client
        .batch_execute(
            "UPDATE passages SET body = 'changed ' || id WHERE id <= 10;
             UPDATE passages SET body = NULL WHERE id = 11;
             UPDATE passages SET id = 3000, body = 'moved' WHERE id = 12;
             DELETE FROM passages WHERE id = 13",
        )
        .unwrap();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
    client
        .batch_execute("UPDATE passages SET body = 'x' || id; TRUNCATE passages")
        .unwrap();
    assert_eq!(waiting(&mut client), 0);
}

#[test]
fn an_update_that_leaves_the_source_alone_queues_nothing() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 50);
    let mut client = database.client();
    process(&mut client);
    client.batch_execute("UPDATE passages SET note = 'n', body = body; UPDATE passages SET embedding = embedding").unwrap();
    assert_eq!(waiting(&mut client), 0);
}

#[test]
fn many_changes_of_a_row_are_one_job() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 1);
    let mut client = database.client();
    for change in 0..20 {
        client
            .execute(
                "UPDATE passages SET body = 'change ' || $1::int4::text",
                &[&change],
            )
            .unwrap();
    }
    server.clear_requests();
    process(&mut client);
    let inputs = server
        .requests()
        .into_iter()
        .filter(|request| request.encoding_format.as_deref() == Some("base64"))
        .map(|request| request.inputs)
        .sum::<usize>();
    assert_eq!(inputs, 1);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn no_snapshot_and_no_transaction_is_held_while_the_server_works() {
    let server = server(Duration::from_secs(1));
    let database = passages(&server, 5);
    let mut observer = database.client();
    let mut client = database.client();
    let pid = Backend::of(&mut client).pid();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| process(&mut client));
        wait_until("a request is there", SOON, || !server.requests().is_empty());
        let row = observer
            .query_one(
                "SELECT backend_xmin IS NULL, backend_xid IS NULL,
                        NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = $1 AND l.locktype <> 'virtualxid')
                 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'",
                &[&pid],
            )
            .unwrap();
        assert!(!call.is_finished());
        assert_eq!((row.get(0), row.get(1), row.get(2)), (true, true, true));
        call.join().unwrap();
    });
    assert_eq!(wrong(&mut observer), 0);
}

#[test]
fn the_newer_text_wins_when_a_row_changes_while_it_is_embedded() {
    let server = server(Duration::from_millis(500));
    let database = passages(&server, 5);
    let mut writer = database.client();
    let mut client = database.client();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| process(&mut client));
        wait_until("a request is there", SOON, || !server.requests().is_empty());
        writer.batch_execute("UPDATE passages SET body = 'newer' WHERE id = 1; DELETE FROM passages WHERE id = 2").unwrap();
        assert!(!call.is_finished());
        call.join().unwrap();
    });
    wait_until("nothing waits", SOON, || {
        process(&mut client);
        waiting(&mut client) == 0
    });
    assert_eq!(wrong(&mut client), 0);
}

#[test]
fn a_row_that_a_writer_has_locked_is_left_for_later() {
    let server = server(Duration::from_millis(300));
    let database = passages(&server, 5);
    let mut writer = database.client();
    let mut client = database.client();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| process(&mut client));
        wait_until("a request is there", SOON, || !server.requests().is_empty());
        let mut transaction = writer.transaction().unwrap();
        transaction
            .batch_execute("UPDATE passages SET body = 'newer' WHERE id = 1")
            .unwrap();
        // Not blocked by the open transaction.
        call.join().unwrap();
        transaction.commit().unwrap();
    });
    wait_until("nothing waits", SOON, || {
        process(&mut client);
        waiting(&mut client) == 0
    });
    assert_eq!(wrong(&mut client), 0);
}

#[test]
fn a_poisoned_row_fails_alone_and_is_dead_with_its_own_error() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 200);
    database.set("infinity_embed.max_attempts", "2");
    let mut client = database.client();
    client
        .batch_execute("UPDATE passages SET body = 'the POISON' WHERE id = 77")
        .unwrap();
    server.inject(
        Fault::Poison {
            marker: "POISON".into(),
            status: 422,
        },
        Times::Always,
    );
    process(&mut client);
    assert_eq!(count(&mut client, "passages WHERE embedding IS NULL"), 1);
    wait_until("the job is dead", SOON, || {
        process(&mut client);
        count(&mut client, "infinity_embed.queue WHERE dead") == 1
    });
    let row = client
        .query_one("SELECT key, attempts, error FROM infinity_embed.queue", &[])
        .unwrap();
    assert_eq!((row.get("key"), row.get("attempts")), ("77", 2));
    let error: String = row.get("error");
    assert!(error.contains("refused the input"), "{error}");

    server.clear_faults();
    process(&mut client);
    assert_eq!(count(&mut client, "infinity_embed.queue WHERE dead"), 1);
    client
        .batch_execute("SELECT infinity_embed.retry_dead('passages')")
        .unwrap();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn one_poisoned_row_of_a_thousand_delays_the_others_by_no_more_than_they_take() {
    const ROUNDS: usize = 3;
    let server = server(Duration::from_millis(5));
    let database = passages(&server, 1000);
    database.set("infinity_embed.max_attempts", "2");
    let mut client = database.client();
    process(&mut client);
    // A cache and a connection are warm now; clean and poisoned runs take turns on a busy machine.
    let (mut clean, mut poisoned) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        clean.push(time_to_embed(&mut client, &format!("clean {round}"), 1000));
        server.inject(
            Fault::Poison {
                marker: "POISON".into(),
                status: [422, 500, 400][round],
            },
            Times::Always,
        );
        client
            .batch_execute(
                "ALTER TABLE passages DISABLE TRIGGER USER;
                 UPDATE passages SET note = CASE id WHEN 500 THEN 'POISON' END;
                 ALTER TABLE passages ENABLE TRIGGER USER",
            )
            .unwrap();
        poisoned.push(time_to_embed(
            &mut client,
            &format!("poisoned {round}"),
            999,
        ));
        wait_until("the poisoned row is dead", SOON, || {
            process(&mut client);
            count(&mut client, "infinity_embed.queue WHERE dead") == 1
        });
        let row = client
            .query_one(
                "SELECT relation::text, key, attempts, error FROM infinity_embed.errors WHERE dead",
                &[],
            )
            .unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), ("passages", "500", 2));
        let error: String = row.get(3);
        assert!(error.contains("POISON"), "{error}");
        server.clear_faults();
    }
    println!("clean {clean:?}, poisoned {poisoned:?}");
    clean.sort();
    poisoned.sort();
    assert!(
        poisoned[ROUNDS / 2] <= 2 * clean[ROUNDS / 2],
        "clean {clean:?}, poisoned {poisoned:?}"
    );
}

/// How long it takes to embed all rows of `passages` anew, until so many are.
fn time_to_embed(client: &mut Client, body: &str, rows: i64) -> Duration {
    client
        .batch_execute(&format!(
            "UPDATE passages SET embedding = NULL, body = concat_ws(' ', '{body}', id, note)"
        ))
        .unwrap();
    let begun = Instant::now();
    process(client);
    let elapsed = begun.elapsed();
    assert_eq!(count(client, "passages WHERE embedding IS NOT NULL"), rows);
    elapsed
}

#[test]
fn a_row_that_cannot_be_written_fails_alone() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 20);
    let mut client = database.client();
    client
        .batch_execute(
            "ALTER TABLE passages ADD CONSTRAINT never CHECK (id <> 7 OR embedding IS NULL)",
        )
        .unwrap();
    process(&mut client);
    assert_eq!(count(&mut client, "passages WHERE embedding IS NULL"), 1);
    let error: String = client
        .query_one(
            "SELECT error FROM infinity_embed.queue WHERE key = '7'",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(error.contains("never"), "{error}");
}

#[test]
fn a_source_that_cannot_be_evaluated_fails_alone() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 20);
    let mut client = database.client();
    client
        .batch_execute(
            "SELECT infinity_embed.auto_embed('passages', source => 'body || 10 / (id - 5)', target => 'embedding')",
        )
        .unwrap();
    process(&mut client);
    assert_eq!(count(&mut client, "passages WHERE embedding IS NULL"), 1);
    let error: String = client
        .query_one(
            "SELECT error FROM infinity_embed.queue WHERE key = '5'",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(error.contains("division by zero"), "{error}");
}

#[test]
fn a_cancelled_callers_jobs_are_taken_over_at_once() {
    let server = server(Duration::from_secs(5));
    let database = passages(&server, 5);
    let mut client = database.client();
    let mut observer = database.client();
    let backend = Backend::of(&mut client);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.batch_execute("CALL infinity_embed.process_queue()"));
        wait_until("a request is there", SOON, || !server.requests().is_empty());
        backend.cancel(&mut observer);
        assert_eq!(database_error(call.join().unwrap()).code().code(), "57014");
    });
    assert_eq!(
        count(
            &mut observer,
            "infinity_embed.queue WHERE claim IS NOT NULL AND attempts = 0"
        ),
        5
    );
    // PostgreSQL sends the error before it gives up the caller's locks, by which its claim is told from a live one.
    wait_until("the claim is taken over", SOON, || {
        process(&mut observer);
        waiting(&mut observer) == 0
    });
    assert_eq!(wrong(&mut observer), 0);
}

#[test]
fn it_cannot_run_inside_a_transaction() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 1);
    let mut client = database.client();
    let error = database_error(
        client
            .transaction()
            .unwrap()
            .batch_execute("CALL infinity_embed.process_queue()"),
    );
    assert_eq!(error.code().code(), "2D000", "{error}");
}

#[test]
fn max_jobs_bounds_one_call() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 100);
    let mut client = database.client();
    client
        .batch_execute("CALL infinity_embed.process_queue(max_jobs => 30)")
        .unwrap();
    assert_eq!(
        count(&mut client, "passages WHERE embedding IS NOT NULL"),
        30
    );
}
