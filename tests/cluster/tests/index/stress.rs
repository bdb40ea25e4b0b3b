//! Everybody at once: 8 sessions insert, 4 search, 2 vacuum, 1 terminates others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Database};
use postgres::Client;

use super::{INDEX, Random, agrees, check, docs, doubling, is_long, nearest, run};

const DIM: usize = 16;

/// What is counted, and whether it is over.
#[derive(Default)]
struct Course {
    done: AtomicBool,
    inserted: AtomicUsize,
    searched: AtomicUsize,
    vacuumed: AtomicUsize,
    terminated: AtomicUsize,
}

impl Course {
    /// Repeats `work` until it is over, in a new session when somebody ended the old one.
    fn repeat(
        &self,
        database: &Database<'_>,
        count: &AtomicUsize,
        mut work: impl FnMut(&mut Client) -> Result<(), postgres::Error>,
    ) {
        let mut client = database.client();
        while !self.done.load(Ordering::Relaxed) {
            match work(&mut client) {
                Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    let code = error.code().map(|code| code.code().to_owned());
                    assert!(
                        client.is_closed() || code.as_deref() == Some("57P01"),
                        "{error:?}"
                    );
                    client = database.client();
                }
            }
        }
    }
}

fn insert(client: &mut Client, random: &mut Random) -> Result<(), postgres::Error> {
    let (id, tokens) = (random.below(100_000_000), random.of(1..60));
    // Some fill several pages.
    let times = if random.below(16) == 0 { 7 } else { 0 };
    let document = format!("doubled('{}', {times})", random.document(tokens, DIM));
    client.batch_execute(&match random.below(8) {
        0 => format!("UPDATE docs SET embedding = {document} WHERE id % 50 = {id} % 50 AND id % 7 = {id} % 7"),
        1 => format!("DELETE FROM docs WHERE id > 999 AND id % 100 = {id} % 100"),
        2 => format!("BEGIN; INSERT INTO docs VALUES ({id}, NULL, {document}) ON CONFLICT DO NOTHING; ROLLBACK"),
        _ => format!("INSERT INTO docs VALUES ({id}, NULL, {document}) ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding"),
    })
}

#[test]
fn eight_insert_four_search_two_vacuum_and_one_terminates_sessions() {
    let cluster = Cluster::start_new(&[("autovacuum", "off"), ("deadlock_timeout", "100ms")]);
    let database = cluster.database();
    let mut client = docs(&database, 1000, 1..60, DIM);
    doubling(&mut client);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 256)",
    );
    let recall = |client: &mut Client| -> f64 {
        let mut random = Random::new(77);
        let share = |_| agrees(client, &nearest(&random.document(8, DIM), "true"));
        (0..30).map(share).sum::<f64>() / 30.0
    };
    let before = recall(&mut client);
    let course = Course::default();
    let time = Duration::from_secs(if is_long() { 300 } else { 20 });
    std::thread::scope(|scope| {
        let (course, database) = (&course, &database);
        let mut threads = Vec::new();
        for seed in 1..9 {
            let mut random = Random::new(seed);
            threads.push(scope.spawn(move || {
                course.repeat(database, &course.inserted, |client| {
                    match insert(client, &mut random) {
                        // Two updates of the same rows in different orders.
                        Err(error) if error.code().is_some_and(|code| code.code() == "40P01") => {
                            Ok(())
                        }
                        result => result,
                    }
                });
            }));
        }
        for seed in 11..15 {
            let mut random = Random::new(seed);
            threads.push(scope.spawn(move || {
                course.repeat(database, &course.searched, |client| {
                    let query = nearest(&random.document(6, DIM), "true");
                    let rows = client
                        .batch_execute(INDEX)
                        .and_then(|()| client.query(&format!("{query} LIMIT 50"), &[]))?;
                    assert_eq!(rows.len(), 50);
                    Ok(())
                });
            }));
        }
        for _ in 0..2 {
            threads.push(scope.spawn(move || {
                course.repeat(database, &course.vacuumed, |client| {
                    client.batch_execute("VACUUM docs")
                });
            }));
        }
        let begin = Instant::now();
        let mut killer = database.client();
        while begin.elapsed() < time && !threads.iter().any(|thread| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(100)); // the pace of the killing, not a wait
            let ended = killer
                .execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1",
                    &[],
                )
                .expect("a superuser may");
            course
                .terminated
                .fetch_add(ended as usize, Ordering::Relaxed);
        }
        course.done.store(true, Ordering::Relaxed);
    });
    println!(
        "{:?} changes, {:?} searches, {:?} vacuums, {:?} sessions ended",
        course.inserted, course.searched, course.vacuumed, course.terminated
    );
    let mut client = database.client();
    check(&mut client, "docs_index");
    run(&mut client, "VACUUM docs");
    let (documents, rows) = check(&mut client, "docs_index");
    assert_eq!(documents, rows);
    let after = recall(&mut client);
    println!("recall {before:.3} before, {after:.3} after");
    assert!(after > 0.9 && after >= before - 0.05);
    for counter in [&course.inserted, &course.searched, &course.vacuumed] {
        assert!(counter.load(Ordering::Relaxed) > 20);
    }
}
