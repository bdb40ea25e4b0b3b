//! An index that grows from nothing: trained by an insert, at 160,000 tokens, whatever comes in between; and what is trained
//! when an index is made again.

use std::sync::atomic::{AtomicBool, Ordering};

use cluster_tests::{Database, database_error, lift_timeout};
use postgres::Client;

use super::{Random, agrees, check, copy, lists, nearest, run, shared};

const TOKENS: usize = 400;
const DIM: usize = 8;
/// Documents of so many tokens that reach the threshold.
const ENOUGH: usize = 160_000 / TOKENS;

/// An empty indexed table `docs`, and `more`, a table with documents for it.
fn empty(database: &Database<'_>) -> Client {
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]) WITH (autovacuum_enabled = off);
         CREATE INDEX docs_index ON docs USING maxsim (embedding);
         CREATE TABLE more (id int, embedding real[])",
    );
    let tokens = TOKENS..TOKENS + 1;
    copy(&mut client, "more", 0..60, tokens, DIM, &mut Random::new(3)).expect("documents");
    client
}

/// Adds documents with these numbers.
fn add(client: &mut Client, from: usize, to: usize) -> Result<(), postgres::Error> {
    client.batch_execute(&format!(
        "INSERT INTO docs SELECT n, embedding FROM generate_series({from}, {to} - 1) AS n
         JOIN more ON more.id = n % 60"
    ))
}

fn agrees_and_is_whole(client: &mut Client) {
    let query = Random::new(4).document(6, DIM);
    agrees(client, &nearest(&query, "true"));
    check(client, "docs_index");
}

#[test]
fn one_transaction_that_copies_enough_trains_the_index_even_if_it_is_rolled_back() {
    let database = shared();
    let mut client = empty(&database);
    let tokens = TOKENS..TOKENS + 1;
    run(&mut client, "BEGIN");
    copy(
        &mut client,
        "docs",
        0..600,
        tokens,
        DIM,
        &mut Random::new(5),
    )
    .expect("documents");
    assert!(lists(&mut client, "docs_index") > 0);
    agrees_and_is_whole(&mut client);
    run(&mut client, "ROLLBACK");
    assert!(lists(&mut client, "docs_index") > 0);
    agrees_and_is_whole(&mut client);
    add(&mut client, 0, 100).expect("inserts go on");
    agrees_and_is_whole(&mut client);
    run(&mut client, "VACUUM docs");
    assert_eq!(check(&mut client, "docs_index"), (100, 100));
    agrees_and_is_whole(&mut client);
}

#[test]
fn a_training_that_is_cancelled_fails_one_insert_and_comes_again_at_twice_as_many() {
    let database = shared();
    let mut client = empty(&database);
    add(&mut client, 0, ENOUGH - 1).expect("documents");
    assert_eq!(lists(&mut client, "docs_index"), 0);
    // One by one, until one takes longer than an insert: that one trains.
    let mut next = ENOUGH - 1;
    let error = loop {
        assert!(next < 2 * ENOUGH, "nobody trains");
        run(&mut client, "SET statement_timeout = '20ms'");
        let result = add(&mut client, next, next + 1);
        lift_timeout(&mut client);
        match result {
            Ok(()) => next += 1,
            // A busy machine cancels an insert, too.
            Err(error) if train_at(&mut client) == 160_000 => println!("{error}"),
            error => break database_error(error),
        }
    };
    assert_eq!(error.code().code(), "57014");
    println!(
        "cancelled at {next} documents; next at {} tokens",
        train_at(&mut client)
    );
    assert!(train_at(&mut client) >= 320_000);
    assert_eq!(lists(&mut client, "docs_index"), 0);
    agrees_and_is_whole(&mut client);
    add(&mut client, next, next + 100).expect("inserts go on");
    assert_eq!(lists(&mut client, "docs_index"), 0);
    run(&mut client, "VACUUM docs");
    add(&mut client, next + 100, 3 * ENOUGH).expect("inserts go on");
    assert!(lists(&mut client, "docs_index") > 0);
    agrees_and_is_whole(&mut client);
}

/// The number of tokens in the advice.
fn train_at(client: &mut Client) -> u64 {
    let row = client
        .query_one(
            "SELECT substring(advice FROM 'at (\\d+) tokens') FROM infinity_embed.index_info('docs_index')",
            &[],
        )
        .expect("an index has advice");
    let number: Option<String> = row.get(0);
    number.map_or(0, |number| number.parse().expect("digits"))
}

#[test]
fn others_insert_search_and_vacuum_while_one_trains() {
    let database = shared();
    let mut client = empty(&database);
    add(&mut client, 0, ENOUGH - 60).expect("documents");
    let done = AtomicBool::new(false);
    let query = nearest(&Random::new(4).document(6, DIM), "true");
    std::thread::scope(|scope| {
        let inserters: Vec<_> = (1..4)
            .map(|number| {
                let mut client = database.client();
                scope.spawn(move || {
                    for id in 0..150 {
                        add(&mut client, number * 1000 + id, number * 1000 + id + 1)
                            .expect("an insert");
                    }
                })
            })
            .collect();
        for number in 0..2 {
            let (mut client, done, query) = (database.client(), &done, &query);
            scope.spawn(move || {
                run(&mut client, super::INDEX);
                while !done.load(Ordering::Relaxed) {
                    if number == 0 {
                        let rows = client.query(query, &[]).expect("a search");
                        assert!(rows.len() >= ENOUGH - 60);
                    } else {
                        run(&mut client, "VACUUM docs");
                        check(&mut client, "docs_index");
                    }
                }
            });
        }
        let results: Vec<_> = inserters.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        results
            .into_iter()
            .for_each(|result| result.expect("all inserts succeed"));
    });
    assert!(lists(&mut client, "docs_index") > 0);
    agrees_and_is_whole(&mut client);
    let (documents, rows) = check(&mut client, "docs_index");
    assert_eq!((documents, rows), (ENOUGH as i64 - 60 + 450, documents));
}

/// A search reads the codes of every document that came before the training, however short.
#[test]
fn short_documents_are_enough_when_they_are_many() {
    let database = shared();
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]) WITH (autovacuum_enabled = off);
         CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    let mut random = Random::new(9);
    copy(&mut client, "docs", 0..9_900, 1..3, DIM, &mut random).expect("documents");
    assert_eq!(lists(&mut client, "docs_index"), 0);
    copy(&mut client, "docs", 9_900..12_000, 1..3, DIM, &mut random).expect("documents");
    assert!(lists(&mut client, "docs_index") > 0);
    agrees_and_is_whole(&mut client);
    // The same of a build, of which it is known by a sample how many tokens there are.
    run(&mut client, "REINDEX INDEX docs_index");
    assert_eq!(lists(&mut client, "docs_index"), 1024);
    agrees_and_is_whole(&mut client);
    run(&mut client, "DELETE FROM docs WHERE id % 2 = 0");
    run(&mut client, "VACUUM FULL docs");
    assert_eq!(lists(&mut client, "docs_index"), 0);
    agrees_and_is_whole(&mut client);
}

#[test]
fn lists_for_which_memory_does_not_suffice_are_fewer_and_the_index_can_be_made_again() {
    let database = shared();
    let mut client = empty(&database);
    run(
        &mut client,
        "ALTER INDEX docs_index SET (lists = 65536); SET maintenance_work_mem = '1MB'",
    );
    add(&mut client, 0, 2 * ENOUGH).expect("documents");
    let trained = lists(&mut client, "docs_index");
    run(&mut client, "VACUUM FULL docs");
    let rebuilt = lists(&mut client, "docs_index");
    println!("lists of 1 MB: {trained} by an insert, {rebuilt} by a build");
    assert!(trained > 1000 && rebuilt > 1000 && trained.max(rebuilt) < 65_536);
    agrees_and_is_whole(&mut client);
}

#[test]
fn a_build_counts_the_tokens_of_documents_of_one_and_two() {
    let database = shared();
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         INSERT INTO docs SELECT i, CASE WHEN i % 200 = 0 THEN ARRAY[[sin(i), cos(i), 1]]
             ELSE ARRAY[[sin(i), cos(i), 1], [cos(i), sin(i * 2), -1]] END
         FROM generate_series(1, 85000) AS i;
         SET maintenance_work_mem = '16MB';
         CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    // 169,575 tokens: taken for one a document, they would be too few to train with.
    assert!(lists(&mut client, "docs_index") > 256);
}

#[test]
fn drift_tells_other_documents_from_more_of_the_same() {
    let database = shared();
    let mut client = database.client();
    let mut random = Random::new(11);
    run(&mut client, "CREATE TABLE docs (id int, embedding real[])");
    copy(&mut client, "docs", 0..2000, 60..100, DIM, &mut random).expect("documents");
    // Four tokens a list: those of the sample are much nearer to their centroids than the others.
    run(
        &mut client,
        "SET maintenance_work_mem = '1MB';
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 2048)",
    );
    let info = |client: &mut Client| -> (f64, String) {
        let row = client
            .query_one(
                "SELECT drift, advice FROM infinity_embed.index_info('docs_index')",
                &[],
            )
            .expect("an index");
        (row.get(0), row.get(1))
    };
    copy(&mut client, "docs", 2000..2200, 60..100, DIM, &mut random).expect("documents");
    let (drift, advice) = info(&mut client);
    assert!((drift - 1.0).abs() < 0.03, "drift {drift}");
    assert_eq!(advice, "Nothing to do.");
    run(
        &mut client,
        "INSERT INTO docs SELECT n, ARRAY[[3, 0, 0, n, 0, 0, 0, 0]] FROM generate_series(1, 3000) AS n",
    );
    let (drift, advice) = info(&mut client);
    assert!(
        drift > 1.15 && advice.contains("REINDEX"),
        "drift {drift}: {advice}"
    );
}
