//! Crashes in the middle of writes. PostgreSQL compares each page of the index that recovery makes with the one it was
//! (`wal_consistency_checking`), and does not start when they differ. The index writes generic WAL only; of heaps, the check
//! stops a recovery that is right: one that finds the empty pages of a table that VACUUM had cut and others then extended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Database, wait_until};
use postgres::Client;

use super::{BOUND, Random, agrees, check, copy, doubling, is_long, nearest, run};

const DIM: usize = 16;
const SETTINGS: [(&str, &str); 4] = [
    ("wal_consistency_checking", "generic"),
    ("shared_buffers", "16MB"),
    ("autovacuum", "off"),
    ("checkpoint_timeout", "30s"),
];

/// Changes rows at random until the server goes away.
fn write(mut client: Client, seed: u64, stopped: &AtomicBool) -> usize {
    let mut random = Random::new(seed);
    let mut statements = 0;
    while !stopped.load(Ordering::Relaxed) {
        let id = random.below(4_000);
        let tokens = random.of(1..60);
        // Some fill several pages.
        let times = if random.below(16) == 0 { 7 } else { 0 };
        let document = format!("doubled('{}', {times})", random.document(tokens, DIM));
        let statement = match random.below(10) {
            0..5 => format!("INSERT INTO docs VALUES ({id}, {document})"),
            5 | 6 => format!("UPDATE docs SET embedding = {document} WHERE id = {id}"),
            7 => format!("DELETE FROM docs WHERE id % 40 = {id} % 40"),
            8 => format!(
                "INSERT INTO docs SELECT id + 4000, embedding || {document} FROM docs WHERE id % 40 = {id} % 40 AND id < 4000"
            ),
            _ => "VACUUM docs".to_owned(),
        };
        if let Err(error) = client.batch_execute(&statement) {
            let code = error.code().map(|code| code.code().to_owned());
            // Closed without a word, or told that the server goes; deadlocks are not ours.
            let is_end = error.is_closed() || code.is_none() || code.as_deref() == Some("57P02");
            assert!(
                is_end || code.as_deref() == Some("57P01"),
                "{statement:.100}: {error:?}"
            );
            break;
        }
        statements += 1;
    }
    statements
}

fn whole(client: &mut Client, seed: u64) -> f64 {
    check(client, "docs_index");
    let mut random = Random::new(seed);
    let share = |_| agrees(client, &nearest(&random.document(6, DIM), "true"));
    (0..5).map(share).sum::<f64>() / 5.0
}

fn made(database: &Database<'_>, lists: usize) {
    let mut client = database.client();
    doubling(&mut client);
    run(
        &mut client,
        &format!(
            "CREATE TABLE docs (id int, embedding real[]);
             CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = {lists})"
        ),
    );
    copy(&mut client, "docs", 0..500, 1..60, DIM, &mut Random::new(1)).expect("documents");
    run(&mut client, "REINDEX INDEX docs_index");
}

#[test]
fn immediate_stops_in_the_middle_of_writes_leave_a_right_index() {
    let cluster = Cluster::start_new(&SETTINGS);
    let database = cluster.database();
    made(&database, 32);
    let stops = if is_long() { 30 } else { 5 };
    let mut recall = Vec::new();
    for stop in 0..stops {
        let stopped = AtomicBool::new(false);
        let statements: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|number| {
                    let (client, stopped) = (database.client(), &stopped);
                    scope.spawn(move || write(client, 10 * stop + number + 1, stopped))
                })
                .collect();
            let begin = Instant::now();
            let pause = Duration::from_millis(150 + 97 * stop % 500);
            wait_until("some writing is done", BOUND, || begin.elapsed() > pause);
            cluster.stop_at_once();
            stopped.store(true, Ordering::Relaxed);
            writers
                .into_iter()
                .map(|thread| thread.join().expect("a writer ends with the server"))
                .sum()
        });
        cluster.start();
        let mut client = database.client();
        recall.push(whole(&mut client, stop + 1));
        let (documents, rows) = check(&mut client, "docs_index");
        println!("stop {stop}: {statements} statements, then {documents} documents of {rows} rows");
        // What the crash left goes, and room is found again.
        run(&mut client, "VACUUM docs");
        let (documents, rows) = check(&mut client, "docs_index");
        assert_eq!(documents, rows);
    }
    let mean = recall.iter().sum::<f64>() / recall.len() as f64;
    println!("recall with little effort: {mean:.3}");
    assert!(mean > 0.9);
    let log = cluster.log();
    assert!(!log.contains("inconsistent page found"));
}

#[test]
fn an_unlogged_index_is_empty_after_a_crash_and_usable() {
    let cluster = Cluster::start_new(&SETTINGS);
    let database = cluster.database();
    made(&database, 0);
    database.run("ALTER TABLE docs SET UNLOGGED; CHECKPOINT");
    database.run("INSERT INTO docs SELECT id + 1000, embedding FROM docs");
    cluster.stop_at_once();
    cluster.start();
    let mut client = database.client();
    assert_eq!(check(&mut client, "docs_index"), (0, 0));
    copy(
        &mut client,
        "docs",
        0..100,
        1..60,
        DIM + 1,
        &mut Random::new(2),
    )
    .expect("documents");
    assert_eq!(check(&mut client, "docs_index"), (100, 100));
    let query = nearest(&Random::new(3).document(6, DIM + 1), "true");
    agrees(&mut client, &query);
}

#[test]
fn an_index_made_with_its_table_at_wal_level_minimal_keeps_later_inserts() {
    let cluster = Cluster::start_new(&[
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("wal_skip_threshold", "0"),
    ]);
    let database = cluster.database();
    let mut client = database.client();
    run(
        &mut client,
        "BEGIN;
         CREATE TABLE docs (id int, embedding real[]);
         CREATE INDEX docs_index ON docs USING maxsim (embedding);
         INSERT INTO docs SELECT n, array_fill(n::real, ARRAY[20, 16]) FROM generate_series(1, 300) AS n;
         COMMIT",
    );
    cluster.stop_at_once();
    cluster.start();
    let mut client = database.client();
    assert_eq!(check(&mut client, "docs_index"), (300, 300));
    whole(&mut client, 1);
}
