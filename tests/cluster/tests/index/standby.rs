//! A physical standby answers from the index as its primary does, and goes on with it when it is promoted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, database_error, wait_until};
use postgres::{Client, NoTls};

use super::{
    BOUND, EXACT, End, INDEX, Random, WHOLE, agrees, check, copy, doubling, is_long, is_same,
    lists, nearest, ranking, run,
};

const DIM: usize = 8;

fn position(client: &mut Client, function: &str) -> u64 {
    let row = client
        .query_one(&format!("SELECT ({function}() - '0/0')::bigint"), &[])
        .expect("a position");
    row.get::<_, i64>(0) as u64
}

#[test]
fn a_standby_gives_the_same_rows_and_a_promoted_one_goes_on() {
    let primary = Cluster::start_new(&[
        ("wal_consistency_checking", "generic"),
        ("autovacuum", "off"),
        ("wal_log_hints", "on"),
    ]);
    let database = primary.database();
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    let standby = primary.standby();
    let mut reader = standby.connect(database.name());
    let mut random = Random::new(1);
    // Untrained, trained by the copy, built anew.
    let steps: [(&str, usize); 4] = [
        ("SELECT", 50),
        ("DELETE FROM docs WHERE id % 3 = 0", 500),
        ("REINDEX INDEX docs_index", 0),
        ("UPDATE docs SET embedding = embedding[1:3]", 100),
    ];
    let mut ids = 0;
    for (statement, more) in steps {
        copy(
            &mut client,
            "docs",
            ids..ids + more,
            300..500,
            DIM,
            &mut random,
        )
        .expect("documents");
        ids += more;
        run(&mut client, statement);
        run(&mut client, "VACUUM docs");
        let end = position(&mut client, "pg_current_wal_lsn");
        wait_until("the standby has replayed it", BOUND, || {
            position(&mut reader, "pg_last_wal_replay_lsn") >= end
        });
        let query = nearest(&random.document(6, DIM), "true");
        for plan in [INDEX, WHOLE, EXACT] {
            assert_eq!(
                ranking(&mut client, plan, &query),
                ranking(&mut reader, plan, &query)
            );
        }
        agrees(&mut reader, &query);
        let of_both = [&mut client, &mut reader].map(|client| lists(client, "docs_index"));
        println!("after {statement}: {of_both:?} lists");
        assert_eq!(of_both[0], of_both[1]);
    }
    standby.promote();
    copy(
        &mut reader,
        "docs",
        ids..ids + 50,
        300..500,
        DIM,
        &mut random,
    )
    .expect("documents");
    run(&mut reader, "VACUUM docs");
    copy(
        &mut reader,
        "docs",
        ids..ids + 50,
        300..500,
        DIM,
        &mut random,
    )
    .expect("documents");
    check(&mut reader, "docs_index");
    agrees(&mut reader, &nearest(&random.document(6, DIM), "true"));
    assert!(!standby.log().contains("inconsistent page found"));
}

/// Whether recovery was in the way.
fn is_conflict(error: &postgres::Error) -> bool {
    matches!(
        error.code().map(postgres::error::SqlState::code),
        Some("40001" | "40P01")
    )
}

/// Another session. Recovery can be in the way of this, too: it looks into the catalogs.
fn another(standby: &Cluster, database: &str) -> Client {
    let mut session = None;
    wait_until("recovery lets a session in", BOUND, || {
        match standby.config(database, "postgres").connect(NoTls) {
            Ok(client) => session = Some(client),
            Err(error) => assert!(is_conflict(&error), "{error:?}"),
        }
        session.is_some()
    });
    session.expect("waited for")
}

/// Compares, in one snapshot, what the index of a standby gives with the exact order. An error where recovery was in the way.
fn compares(client: &mut Client, query: &str) -> Result<(), postgres::Error> {
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    let mut rankings = Vec::new();
    for plan in [WHOLE, EXACT] {
        client.batch_execute(plan)?;
        let rows = client.query(query, &[])?;
        rankings.push(rows.iter().map(|row| (row.get(0), row.get(1))).collect());
    }
    client.batch_execute("COMMIT")?;
    assert!(is_same(&rankings[0], &rankings[1]), "another ranking");
    Ok(())
}

#[test]
fn a_standby_is_right_or_says_that_recovery_was_in_the_way_while_the_primary_writes_and_vacuums() {
    let primary = Cluster::start_new(&[
        ("autovacuum", "off"),
        ("max_standby_streaming_delay", "200ms"),
        ("hot_standby_feedback", "off"),
    ]);
    let database = primary.database();
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)",
    );
    doubling(&mut client);
    copy(&mut client, "docs", 0..300, 1..30, DIM, &mut Random::new(1)).expect("documents");
    run(&mut client, "REINDEX INDEX docs_index");
    let standby = primary.standby();
    let mut reader = standby.connect(database.name());
    // Its locks are not those of the primary, whose vacuum it could not keep away.
    let error = reader.batch_execute("SELECT infinity_embed.check_index('docs_index')");
    let error = database_error(error);
    assert_eq!(error.code().code(), "55000", "{error:?}");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut random, mut rounds) = (Random::new(2), 0);
            while !done.load(Ordering::Relaxed) {
                let (id, tokens) = (random.below(1000), random.of(1..30));
                let document = random.document(tokens, DIM);
                run(
                    &mut client,
                    &format!(
                        "DELETE FROM docs WHERE id % 10 = {id} % 10;
                         INSERT INTO docs SELECT 10 * n + {id} % 10, doubled('{document}', n % 9) FROM generate_series(1, 30) AS n"
                    ),
                );
                run(&mut client, "VACUUM docs");
                rounds += 1;
            }
            rounds
        });
        let end = End(&done);
        let (mut right, mut cancelled) = (0, 0);
        let mut random = Random::new(3);
        let begin = Instant::now();
        let time = Duration::from_secs(if is_long() { 60 } else { 8 });
        while begin.elapsed() < time && !writer.is_finished() {
            let query = nearest(&random.document(4, DIM), "true");
            match compares(&mut reader, &query) {
                Ok(()) => right += 1,
                Err(error) => {
                    assert!(reader.is_closed() || is_conflict(&error), "{error:?}");
                    cancelled += 1;
                    reader = another(&standby, database.name());
                }
            }
        }
        drop(end);
        let rounds = writer.join().expect("the primary goes on");
        println!("{rounds} rounds of writing; {right} comparisons, {cancelled} cancelled");
        assert!(rounds > 3 && right > 3);
    });
    standby.promote();
    run(&mut reader, "ROLLBACK");
    check(&mut reader, "docs_index");
    agrees(
        &mut reader,
        &nearest(&Random::new(4).document(4, DIM), "true"),
    );
}
