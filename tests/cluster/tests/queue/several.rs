//! `infinity_embed.max_workers`: several workers of one database share its queue.

use std::collections::HashSet;
use std::time::Duration;

use cluster_tests::{Backend, Database, wait_until};
use mock_infinity::Server;
use postgres::Client;

use crate::worker::{SOON, workers};
use crate::{passages, server, waiting, wrong};

const ROWS: u32 = 1_500;

/// Many small batches that take a while, and three workers at most.
fn busy_passages(server: &Server, rows: u32) -> Database<'static> {
    let database = passages(server, rows);
    database.set("infinity_embed.worker", "on");
    database.set("infinity_embed.max_workers", "3");
    database.set("infinity_embed.embed_batch_size", "5");
    database.set("infinity_embed.max_concurrency", "1");
    database
}

/// Who has claimed a batch.
fn claimants(client: &mut Client) -> HashSet<i32> {
    client
        .query(
            "SELECT DISTINCT claimed_by FROM infinity_embed.queue WHERE claimed_by IS NOT NULL",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn deadlocks(client: &mut Client) -> i64 {
    client
        .query_one(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
            &[],
        )
        .unwrap()
        .get(0)
}

#[test]
fn workers_share_a_queue_and_embed_no_row_twice() {
    let server = server(Duration::from_millis(20));
    let database = busy_passages(&server, ROWS);
    let mut client = database.client();
    client
        .batch_execute("UPDATE passages SET body = body || '.' WHERE id = 1")
        .unwrap();
    let (mut together, mut most) = (HashSet::new(), 0);
    wait_until("nothing waits", Duration::from_secs(60), || {
        let now = claimants(&mut client);
        if now.len() > together.len() {
            together = now;
        }
        most = most.max(workers(&database, &mut client).len());
        waiting(&mut client) == 0
    });
    assert_eq!((together.len(), most), (3, 3));
    assert_eq!((wrong(&mut client), deadlocks(&mut client)), (0, 0));
    // wrong() asks for every row once more. What a process asks to learn the model's dimension, which it forgets
    // when a connection is lost, is not counted: it is in the other encoding.
    let mut requests = server.requests();
    requests.retain(|request| request.encoding_format.as_deref() == Some("base64"));
    let inputs: usize = requests.iter().map(|request| request.inputs).sum();
    assert_eq!(inputs, 2 * ROWS as usize);
    wait_until("all have left", SOON, || {
        workers(&database, &mut client).is_empty()
    });
}

#[test]
fn little_work_is_left_to_one_worker() {
    let server = server(Duration::from_millis(20));
    let database = busy_passages(&server, 30);
    let mut client = database.client();
    client
        .batch_execute("UPDATE passages SET body = body || '.' WHERE id = 1")
        .unwrap();
    let mut seen = HashSet::new();
    wait_until("it has come and gone", SOON, || {
        let now = workers(&database, &mut client);
        seen.extend(now.iter().map(|worker| worker.pid()));
        waiting(&mut client) == 0 && now.is_empty()
    });
    assert_eq!((seen.len(), wrong(&mut client)), (1, 0));
}

#[test]
fn a_helper_becomes_the_first_when_that_is_terminated() {
    let server = server(Duration::from_millis(50));
    let database = busy_passages(&server, ROWS / 2);
    let mut client = database.client();
    client
        .batch_execute("UPDATE passages SET body = body || '.' WHERE id = 1")
        .unwrap();
    wait_until("there is one", SOON, || {
        !workers(&database, &mut client).is_empty()
    });
    let first = workers(&database, &mut client)[0];
    wait_until("others work too", SOON, || claimants(&mut client).len() > 1);
    first.terminate(&mut client);
    // Nobody writes any more: what the first had claimed is for the others, and a later job too.
    client
        .batch_execute(
            "SET infinity_embed.worker = off; UPDATE passages SET body = 'late' WHERE id = 2;
             SELECT infinity_embed.make_jobs(1);
             UPDATE infinity_embed.queue SET not_before = clock_timestamp() + interval '5 s' WHERE key = '2'",
        )
        .unwrap();
    wait_until("nothing waits", Duration::from_secs(60), || {
        waiting(&mut client) == 0
    });
    assert_eq!(wrong(&mut client), 0);
    assert!(!first.is_alive());
}

#[test]
fn a_lower_limit_sends_helpers_home() {
    let server = server(Duration::from_millis(50));
    let database = busy_passages(&server, ROWS);
    let mut client = database.client();
    client
        .batch_execute("UPDATE passages SET body = body || '.' WHERE id = 1")
        .unwrap();
    let count = |client: &mut Client| -> usize { workers(&database, client).len() };
    wait_until("there are three", SOON, || count(&mut client) == 3);
    database.set("infinity_embed.max_workers", "1");
    wait_until("there is one", Duration::from_secs(5), || {
        count(&mut client) == 1
    });
    assert!(waiting(&mut client) > 0);
    let last: Vec<Backend> = workers(&database, &mut client);
    last[0].terminate(&mut client);
}
