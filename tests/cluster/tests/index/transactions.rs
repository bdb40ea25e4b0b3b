//! Transactions: serializable ones, rows locked as they are found, and many savepoints rolled back.

use cluster_tests::{Backend, database_error, wait_until};
use postgres::Client;

use super::{
    BOUND, INDEX, Random, WHOLE, agrees, check, copy, docs, nearest, run, shared, uses_index,
};

const DIM: usize = 8;

/// Each of two transactions looks for the nearest row and adds a nearer one, which the other's search does not see.
fn both_look_and_add(first: &mut Client, second: &mut Client, level: &str) -> Option<String> {
    let query = Random::new(3).document(4, DIM);
    let search = format!("{} LIMIT 1", nearest(&query, "true"));
    for client in [&mut *first, &mut *second] {
        run(client, INDEX);
        run(client, &format!("BEGIN ISOLATION LEVEL {level}"));
        assert!(uses_index(client, &search));
        run(client, &search);
    }
    let add = |id: i32| format!("INSERT INTO docs VALUES ({id}, NULL, '{query}')");
    let mut errors = Vec::new();
    for (client, id) in [(first, 10_001), (second, 10_002)] {
        let result = client.batch_execute(&format!("{}; COMMIT", add(id)));
        if result.is_err() {
            errors.push(database_error(result).code().code().to_owned());
            run(client, "ROLLBACK");
        }
    }
    assert!(errors.len() < 2, "{errors:?}");
    errors.pop()
}

#[test]
fn serializable_transactions_do_not_miss_each_others_rows() {
    let database = shared();
    for lists in [0, 16] {
        database.run("DROP TABLE IF EXISTS docs");
        let mut first = docs(&database, 100, 2..10, DIM);
        let mut second = database.client();
        run(
            &mut first,
            &format!(
                "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = {lists})"
            ),
        );
        let error = both_look_and_add(&mut first, &mut second, "SERIALIZABLE");
        assert_eq!(error.as_deref(), Some("40001"));
        run(&mut first, "DELETE FROM docs WHERE id > 10000");
        // The proof that the two do conflict.
        let error = both_look_and_add(&mut first, &mut second, "REPEATABLE READ");
        assert_eq!(error, None);
        check(&mut first, "docs_index");
    }
}

#[test]
fn rows_are_locked_as_they_are_found_and_looked_at_again_when_they_changed() {
    let database = shared();
    let mut client = docs(&database, 100, 2..10, DIM);
    let mut other = database.client();
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    let query = nearest(&Random::new(3).document(4, DIM), "note IS NULL");
    run(&mut client, WHOLE);
    run(&mut other, WHOLE);
    let ids = |client: &mut Client, query: &str| -> Vec<i32> {
        let rows = client.query(query, &[]).expect("a search");
        rows.iter().map(|row| row.get(0)).collect()
    };
    let best = ids(&mut client, &format!("{query} LIMIT 6"));
    run(
        &mut client,
        &format!(
            "BEGIN; UPDATE docs SET note = 'taken' WHERE id = {}",
            best[1]
        ),
    );
    let skipped = ids(
        &mut other,
        &format!("{query} LIMIT 3 FOR UPDATE SKIP LOCKED"),
    );
    assert_eq!(skipped, [best[0], best[2], best[3]]);
    let waiter = Backend::of(&mut other).pid();
    std::thread::scope(|scope| {
        let locked = scope.spawn(|| ids(&mut other, &format!("{query} LIMIT 3 FOR UPDATE")));
        let waiting = format!("SELECT 1 FROM pg_locks WHERE pid = {waiter} AND NOT granted");
        let mut watcher = database.client();
        wait_until("the search waits for the row", BOUND, || {
            !watcher.query(&waiting, &[]).expect("a view").is_empty()
        });
        run(&mut client, "COMMIT");
        // Looked at again, the row does not fulfil the condition any more.
        let locked = locked.join().expect("the search goes on");
        assert_eq!(locked, [best[0], best[2], best[3]]);
    });
}

#[test]
fn ten_thousand_rows_in_savepoints_half_of_them_rolled_back() {
    let database = shared();
    let mut client = docs(&database, 200, 2..10, DIM);
    run(
        &mut client,
        "ALTER TABLE docs SET (autovacuum_enabled = off);
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 32);
         CREATE TABLE more (id int, embedding real[])",
    );
    copy(&mut client, "more", 0..100, 2..10, DIM, &mut Random::new(4)).expect("documents");
    let query = nearest(&Random::new(5).document(4, DIM), "true");
    run(&mut client, "BEGIN");
    for part in 0..100 {
        let ids = 1000 + 100 * part;
        run(
            &mut client,
            &format!(
                "SAVEPOINT outer_one;
                 INSERT INTO docs SELECT id + {ids}, NULL, embedding FROM more WHERE id < 50;
                 SAVEPOINT inner_one;
                 INSERT INTO docs SELECT id + {ids}, NULL, embedding FROM more WHERE id >= 50;
                 DELETE FROM docs WHERE id < 200 AND id % 100 = {part}"
            ),
        );
        run(
            &mut client,
            [
                "ROLLBACK TO outer_one",
                "ROLLBACK TO inner_one",
                "RELEASE outer_one",
                "SELECT",
            ][part % 4],
        );
        if part % 25 == 24 {
            agrees(&mut client, &query);
            check(&mut client, "docs_index");
        }
    }
    run(&mut client, "COMMIT");
    let rows: i64 = client
        .query_one("SELECT count(*) FROM docs", &[])
        .expect("a table")
        .get(0);
    // Of each four parts none, half, all and all; the two of which all stays took their old rows with them.
    assert_eq!(rows, 200 - 2 * 50 + 25 * (50 + 100 + 100));
    agrees(&mut client, &query);
    run(&mut client, "VACUUM docs");
    assert_eq!(check(&mut client, "docs_index"), (rows, rows));
    agrees(&mut client, &query);
}
