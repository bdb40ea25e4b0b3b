//! The background worker: started by a commit, gone when idle, and out of the way of those who drop or stop things.

use std::time::Duration;

use cluster_tests::{Backend, Cluster, Database, wait_until};
use mock_infinity::Server;
use postgres::Client;

use crate::{passages, server, waiting, wrong};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn passages_with_worker(server: &Server, rows: u32) -> Database<'static> {
    let database = passages(server, rows);
    database.set("infinity_embed.worker", "on");
    database
}

pub(crate) fn workers(database: &Database, observer: &mut Client) -> Vec<Backend> {
    observer
        .query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'infinity_embed worker' AND datname = $1",
            &[&database.name()],
        )
        .expect("everybody may look")
        .iter()
        .map(|row| Backend::new(row.get(0)))
        .collect()
}

/// Changes one row, so that a worker is started, and waits for it.
pub(crate) fn start_worker(database: &Database, observer: &mut Client) -> Backend {
    database.run("UPDATE passages SET body = body || '.' WHERE id = 1");
    wait_until("there is a worker", SOON, || {
        !workers(database, observer).is_empty()
    });
    workers(database, observer)[0]
}

#[test]
fn a_commit_starts_a_worker_that_embeds_and_leaves() {
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 300);
    let mut client = database.client();
    client
        .batch_execute("BEGIN; UPDATE passages SET body = 'first' WHERE id = 1")
        .unwrap();
    assert_eq!(workers(&database, &mut client).len(), 0);
    client.batch_execute("COMMIT").unwrap();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    assert_eq!(wrong(&mut client), 0);
    wait_until("the worker has left", SOON, || {
        workers(&database, &mut client).is_empty()
    });
}

#[test]
fn a_rollback_starts_no_worker() {
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 3);
    let mut client = database.client();
    client
        .batch_execute("BEGIN; UPDATE passages SET body = 'first'; ROLLBACK")
        .unwrap();
    // A registration would precede this one's, whose worker is the first to be seen.
    let worker = start_worker(&database, &mut client);
    assert_eq!(workers(&database, &mut client), [worker]);
}

#[test]
fn a_transaction_that_outlives_a_worker_is_not_forgotten() {
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 3);
    let mut observer = database.client();
    let mut client = database.client();
    let worker = start_worker(&database, &mut observer);
    wait_until("the earlier work is done", SOON, || {
        waiting(&mut observer) == 0
    });
    let mut transaction = client.transaction().unwrap();
    transaction
        .batch_execute(
            "SAVEPOINT s; UPDATE passages SET body = 'undone'; ROLLBACK TO s;
             UPDATE passages SET body = 'late'",
        )
        .unwrap();
    // Longer than an idle worker stays.
    let begun = std::time::Instant::now();
    wait_until("an idle worker would have left", SOON, || {
        begun.elapsed() > Duration::from_secs(4)
    });
    assert_eq!(workers(&database, &mut observer), [worker]);
    transaction.commit().unwrap();
    wait_until("the late change is embedded", SOON, || {
        waiting(&mut observer) == 0 && wrong(&mut observer) == 0
    });
}

#[test]
fn many_commits_start_one_worker() {
    let server = server(Duration::from_millis(20));
    let database = passages_with_worker(&server, 50);
    let mut observer = database.client();
    let worker = start_worker(&database, &mut observer);
    let mut client = database.client();
    for id in 0..50 {
        client
            .execute("UPDATE passages SET body = 'again' WHERE id = $1", &[&id])
            .unwrap();
        assert_eq!(workers(&database, &mut observer), [worker]);
    }
    wait_until("nothing waits", SOON, || waiting(&mut observer) == 0);
    assert_eq!(wrong(&mut observer), 0);
}

#[test]
fn the_worker_holds_no_snapshot_while_the_server_works() {
    let server = server(Duration::from_secs(2));
    let database = passages_with_worker(&server, 5);
    let mut observer = database.client();
    let worker = start_worker(&database, &mut observer);
    wait_until("a request is there", SOON, || !server.requests().is_empty());
    let row = observer
        .query_one(
            "SELECT backend_xmin IS NULL, backend_xid IS NULL, state, application_name FROM pg_stat_activity WHERE pid = $1",
            &[&worker.pid()],
        )
        .unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2), row.get(3)),
        (true, true, "active", "infinity_embed worker")
    );
}

#[test]
fn a_terminated_worker_goes_at_once_and_the_next_takes_over() {
    let server = server(Duration::from_secs(5));
    let database = passages_with_worker(&server, 5);
    let mut observer = database.client();
    let worker = start_worker(&database, &mut observer);
    wait_until("a request is there", SOON, || !server.requests().is_empty());
    worker.terminate(&mut observer);
    wait_until("it has gone", Duration::from_secs(1), || !worker.is_alive());
    start_worker(&database, &mut observer);
    wait_until("nothing waits", Duration::from_secs(60), || {
        waiting(&mut observer) == 0
    });
    assert_eq!(wrong(&mut observer), 0);
}

#[test]
fn dropping_the_extension_or_the_database_ends_the_worker() {
    let server = server(Duration::from_millis(200));
    let database = passages_with_worker(&server, 100);
    let mut observer = Cluster::shared().connect("postgres");
    let worker = start_worker(&database, &mut observer);
    wait_until("a request is there", SOON, || !server.requests().is_empty());
    database.run("DROP EXTENSION infinity_embed CASCADE");
    wait_until("it has gone", SOON, || !worker.is_alive());

    let database = passages_with_worker(&server, 100);
    server.clear_requests();
    let worker = start_worker(&database, &mut observer);
    wait_until("a request is there", SOON, || !server.requests().is_empty());
    observer
        .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", database.name()))
        .unwrap();
    assert!(!worker.is_alive());
    observer
        .batch_execute(&format!("CREATE DATABASE {}", database.name()))
        .unwrap();
}

#[test]
fn the_setting_turns_it_off() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 5);
    let mut client = database.client();
    client
        .batch_execute("UPDATE passages SET body = 'x'")
        .unwrap();
    assert_eq!(workers(&database, &mut client).len(), 0);
    assert_eq!(waiting(&mut client), 10);
}

#[test]
fn without_a_free_slot_the_commit_succeeds_and_the_work_waits() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[("max_worker_processes", "0")]);
    let database = cluster.database();
    database.set("infinity_embed.url", &server.url());
    let mut client = database.client();
    client
        .batch_execute(
            "CREATE TABLE passages (id int PRIMARY KEY, body text, embedding real[]);
             SELECT infinity_embed.auto_embed('passages', 'body', 'embedding')",
        )
        .unwrap();
    client
        .batch_execute("INSERT INTO passages VALUES (1, 'one')")
        .unwrap();
    assert_eq!(waiting(&mut client), 1);
    crate::process(&mut client);
    assert_eq!(wrong(&mut client), 0);
}
