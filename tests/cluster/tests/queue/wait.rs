//! infinity_embed.wait(): it returns when all is done, and says so where that cannot be.

use std::time::{Duration, Instant};

use cluster_tests::{database_error, wait_until};
use postgres::Client;

use crate::views::listener;
use crate::worker::SOON;
use crate::{database, passages, process, server};

fn wait(client: &mut Client, timeout: &str) -> Result<bool, postgres::Error> {
    client
        .query_one(
            &format!("SELECT infinity_embed.wait('passages', '{timeout}')"),
            &[],
        )
        .map(|row| row.get(0))
}

#[test]
fn it_returns_when_nothing_is_pending_or_the_time_is_up() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 100);
    let wait = |timeout: &str| {
        let role = database.role(&format!("waiter{}", timeout.len()));
        wait(&mut database.client_as(&role), timeout).unwrap()
    };
    assert!(!wait("0.2 s"));
    database.set("infinity_embed.worker", "on");
    database.run("UPDATE passages SET body = 'new' WHERE id = 1");
    assert!(wait("20 s"));
}

#[test]
fn it_refuses_to_wait_for_what_only_its_own_transaction_sees() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 1);
    let mut client = database.client();
    process(&mut client);
    for worker in ["on", "off"] {
        let mut transaction = client.transaction().unwrap();
        transaction
            .batch_execute(&format!(
                "SET LOCAL infinity_embed.worker = {worker}; UPDATE passages SET body = body || '!'"
            ))
            .unwrap();
        let begun = Instant::now();
        let error = database_error(transaction.query("SELECT infinity_embed.wait()", &[]));
        assert_eq!(error.code().code(), "25001", "{error}");
        assert!(error.hint().unwrap().contains("Commit"), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    // What it has taken back it may wait for, as what it has changed when nobody's rows are pending.
    let mut transaction = client.transaction().unwrap();
    transaction
        .batch_execute("SAVEPOINT s; UPDATE passages SET body = 'x'; ROLLBACK TO s")
        .unwrap();
    transaction
        .query("SELECT infinity_embed.wait()", &[])
        .unwrap();
    drop(transaction);
    database.run("UPDATE passages SET body = 'pending'");
    let mut transaction = client
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .start()
        .unwrap();
    let error = database_error(transaction.query("SELECT infinity_embed.wait()", &[]));
    assert_eq!(error.code().code(), "25001", "{error}");
    assert!(error.message().contains("repeatable read"), "{error}");
}

#[test]
fn it_fails_where_a_definition_keeps_the_last_rows_from_being_embedded() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]);
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding'); INSERT INTO docs VALUES (1, 'one');
         ALTER TABLE passages RENAME embedding TO vectors",
    );
    let mut client = database.client_as(&database.role("writer"));
    let error = database_error(wait(&mut client, "1 min"));
    assert_eq!(error.code().code(), "55000", "{error}");
    assert_eq!(
        error.message(),
        "column \"embedding\" of public.passages does not exist"
    );
    assert!(error.hint().unwrap().contains("auto_embed"), "{error:?}");
    // Other tables' rows are waited for first.
    std::thread::scope(|scope| {
        let waiter =
            scope.spawn(|| database_error(client.query("SELECT infinity_embed.wait()", &[])));
        wait_until("it waits", SOON, || {
            let sleeping =
                "pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%.wait()'";
            crate::count(&mut database.client(), sleeping) > 0
        });
        process(&mut database.client());
        assert_eq!(waiter.join().unwrap().code().code(), "55000");
    });
}

#[test]
fn it_tells_once_that_no_worker_runs_and_sees_what_a_call_has_done() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 50);
    let (mut client, notices) = listener(&database, "postgres");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&mut client, "1 min").unwrap());
        let told = Instant::now();
        wait_until("it is told", SOON, || !notices.lock().unwrap().is_empty());
        wait_until("it could have been told again", SOON, || {
            told.elapsed() > Duration::from_secs(5)
        });
        process(&mut database.client());
        assert!(waiter.join().unwrap());
    });
    let notices = notices.lock().unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("no worker runs"), "{notices:?}");
    assert!(notices[0].contains("process_queue()"), "{notices:?}");
}

#[test]
fn it_tells_that_the_server_is_away_to_who_may_know_and_waits_for_its_return() {
    let mut server = server(Duration::ZERO);
    let database = database(&server);
    let (owner, other) = (database.role("owner"), database.role("other"));
    database.set("infinity_embed.worker", "on");
    database.run(&format!(
        "CREATE TABLE passages (id int PRIMARY KEY, body text, embedding real[]); ALTER TABLE passages OWNER TO {owner};
         SELECT infinity_embed.auto_embed('passages', 'body', 'embedding')"
    ));
    server.stop();
    database.run("INSERT INTO passages VALUES (1, 'one')");
    let (mut client, notices) = listener(&database, &owner);
    let (mut stranger, heard) = listener(&database, &other);
    std::thread::scope(|scope| {
        let waiters = [&mut client, &mut stranger]
            .map(|client| scope.spawn(|| wait(client, "1 min").unwrap()));
        wait_until("the owner is told", SOON, || {
            !notices.lock().unwrap().is_empty()
        });
        server.restart_on_same_port();
        for waiter in waiters {
            assert!(waiter.join().unwrap());
        }
    });
    let notices = notices.lock().unwrap();
    assert!(notices[0].contains("could not connect"), "{notices:?}");
    assert_eq!(*heard.lock().unwrap(), [""; 0]);
}

#[test]
fn it_waits_for_the_parent_of_a_partition() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE parent (id int PRIMARY KEY, body text, embedding real[]) PARTITION BY RANGE (id);
         CREATE TABLE passages PARTITION OF parent DEFAULT;
         INSERT INTO parent VALUES (1, 'one');
         SELECT infinity_embed.auto_embed('parent', 'body', 'embedding')",
    );
    let mut client = database.client();
    assert!(!wait(&mut client, "0.2 s").unwrap());
    process(&mut client);
    assert!(wait(&mut client, "20 s").unwrap());
}
