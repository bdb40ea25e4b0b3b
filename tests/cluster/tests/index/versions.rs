//! Versions of rows: old snapshots, vacuum, places that are taken again, updates of every kind, subtransactions.

use cluster_tests::database_error;
use postgres::Client;

use super::{EXACT, INDEX, Random, WHOLE, agrees, check, docs, nearest, ranking, run, shared};

/// The rest of a cursor's rows.
fn rest(client: &mut Client) -> Vec<i32> {
    let rows = client
        .query("FETCH ALL FROM c", &[])
        .expect("the cursor is open");
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_search_under_way_does_not_see_rows_that_took_the_places_of_dead_ones() {
    let database = shared();
    for (round, effort) in [INDEX, WHOLE, INDEX, WHOLE].into_iter().enumerate() {
        database.run("DROP TABLE IF EXISTS docs");
        let mut reader = docs(&database, 300, 5..30, 16);
        let mut writer = database.client();
        // Trained and not.
        let lists = if round < 2 { 32 } else { 0 };
        run(
            &mut writer,
            &format!(
                "ALTER TABLE docs SET (autovacuum_enabled = off);
                 CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = {lists})"
            ),
        );
        run(&mut writer, "DELETE FROM docs WHERE id % 2 = 0");
        // Rows that never were, too.
        run(
            &mut writer,
            "BEGIN; INSERT INTO docs SELECT id + 5000, NULL, embedding FROM docs; ROLLBACK",
        );
        let query = nearest(&Random::new(8).document(6, 16), "true");
        let exact = ranking(&mut reader, EXACT, &query);
        run(&mut reader, effort);
        run(
            &mut reader,
            &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR {query}"),
        );
        let mut found: Vec<i32> = reader
            .query("FETCH 3 FROM c", &[])
            .expect("the search begins")
            .iter()
            .map(|row| row.get(0))
            .collect();
        // The dead rows go, and others, all of them nearer, take their places and their codes' places.
        run(&mut writer, "VACUUM (INDEX_CLEANUP on) docs");
        run(
            &mut writer,
            "INSERT INTO docs SELECT id + 10000, NULL,
                array_fill(1::real, ARRAY[10, 16]) || array_fill(-1::real, ARRAY[10, 16])
             FROM generate_series(1, 300) AS id;
             UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 10001) WHERE id BETWEEN 100 AND 200",
        );
        run(&mut writer, "VACUUM docs");
        found.extend(rest(&mut reader));
        found.sort_unstable();
        let mut expected: Vec<i32> = exact.iter().map(|row| row.0).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "round {round}");
        // A search that begins now sees what the old snapshot sees as well.
        run(&mut reader, "CLOSE c");
        assert_eq!(ranking(&mut reader, WHOLE, &query), exact);
        run(&mut reader, "COMMIT");
        agrees(&mut reader, &query);
        check(&mut reader, "docs_index");
    }
}

#[test]
fn an_index_made_after_a_snapshot_shows_it_the_rows_that_were_deleted_since() {
    let database = shared();
    let mut reader = docs(&database, 200, 5..30, 16);
    let mut writer = database.client();
    let query = nearest(&Random::new(9).document(6, 16), "true");
    run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    let exact = ranking(&mut reader, EXACT, &query);
    run(
        &mut writer,
        "DELETE FROM docs WHERE id < 100;
         UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 199) WHERE id > 150;
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)",
    );
    assert_eq!(ranking(&mut reader, WHOLE, &query), exact);
    check(&mut reader, "docs_index");
    let mut quick = ranking(&mut reader, INDEX, &query);
    quick.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(quick, exact);
    run(&mut reader, "COMMIT");
    run(&mut reader, "VACUUM docs");
    agrees(&mut reader, &query);
    check(&mut reader, "docs_index");
}

#[test]
fn a_check_under_a_snapshot_older_than_the_index_compares_what_the_index_has() {
    let database = shared();
    let (mut reader, mut writer) = (database.client(), database.client());
    run(
        &mut writer,
        "CREATE TABLE docs (id int, embedding real[]) WITH (fillfactor = 50);
         INSERT INTO docs SELECT n, ARRAY[[n, 1]] FROM generate_series(1, 5) AS n",
    );
    run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    run(&mut reader, "SELECT FROM docs");
    // On the same page: the index has the new embedding under the old one's row.
    run(
        &mut writer,
        "UPDATE docs SET embedding = ARRAY[[-1, 1]] WHERE id = 3;
         CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    let row = writer
        .query_one(
            "SELECT indcheckxmin FROM pg_index WHERE indexrelid = 'docs_index'::regclass",
            &[],
        )
        .expect("the index");
    assert!(row.get::<_, bool>(0), "not the case that is tried");
    check(&mut reader, "docs_index");
}

#[test]
fn any_sequence_of_changes_leaves_the_index_in_agreement() {
    let database = shared();
    for (seed, lists) in [(11, 0), (12, 32)] {
        database.run("DROP TABLE IF EXISTS docs");
        let mut client = docs(&database, 120, 1..20, 8);
        run(
            &mut client,
            &format!(
                "ALTER TABLE docs SET (fillfactor = 70, autovacuum_enabled = off);
                 CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = {lists})"
            ),
        );
        let mut random = Random::new(seed);
        let mut depth = 0;
        for step in 0..400 {
            let (id, tokens) = (random.below(300), random.of(1..20));
            let document = random.document(tokens, 8);
            let statement = match random.below(12) {
                0 | 1 => format!(
                    "INSERT INTO docs VALUES ({id}, 'new', '{document}') ON CONFLICT DO NOTHING"
                ),
                2 | 3 => format!(
                    "INSERT INTO docs VALUES ({id}, 'new', '{document}') ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding"
                ),
                4 => format!("UPDATE docs SET note = 'changed {step}' WHERE id % 10 = {id} % 10"),
                5 => format!("UPDATE docs SET embedding = '{document}' WHERE id % 10 = {id} % 10"),
                6 => format!("UPDATE docs SET embedding = NULL WHERE id = {id}"),
                7 => format!(
                    "UPDATE docs SET embedding = embedding, note = 'same' WHERE id % 10 = {id} % 10"
                ),
                8 => format!("DELETE FROM docs WHERE id % 20 = {id} % 20"),
                9 if depth == 0 => "VACUUM docs".to_owned(),
                9 | 10 if depth < 3 => {
                    depth += 1;
                    (if depth == 1 { "BEGIN" } else { "SAVEPOINT s" }).to_owned()
                }
                _ if depth > 1 => {
                    depth -= 1;
                    (if random.below(2) == 0 {
                        "ROLLBACK TO s; RELEASE s"
                    } else {
                        "RELEASE s"
                    })
                    .to_owned()
                }
                _ if depth == 1 => {
                    depth = 0;
                    (if random.below(2) == 0 {
                        "ROLLBACK"
                    } else {
                        "COMMIT"
                    })
                    .to_owned()
                }
                _ => continue,
            };
            run(&mut client, &statement);
            if step % 40 == 39 {
                agrees(&mut client, &nearest(&random.document(4, 8), "true"));
                check(&mut client, "docs_index");
            }
        }
        if depth > 0 {
            run(&mut client, "COMMIT");
        }
        run(&mut client, "VACUUM docs");
        let (documents, rows) = check(&mut client, "docs_index");
        assert_eq!(documents, rows, "vacuum leaves nothing of dead rows");
    }
}

#[test]
fn vacuum_makes_room_that_is_used_again() {
    let database = shared();
    let mut client = docs(&database, 400, 10..60, 64);
    run(
        &mut client,
        "ALTER TABLE docs SET (autovacuum_enabled = off);
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 64)",
    );
    let mut sizes = Vec::new();
    for round in 0..40 {
        run(
            &mut client,
            &format!(
                "UPDATE docs SET embedding = embedding, id = id + 1000 WHERE id % 2 = {round} % 2"
            ),
        );
        run(&mut client, "VACUUM docs");
        let size: i64 = client
            .query_one("SELECT pg_relation_size('docs_index')", &[])
            .expect("an index has a size")
            .get(0);
        sizes.push(size / 8192);
    }
    println!("blocks: {sizes:?}");
    // What half of the documents take more than all; after that nothing.
    assert!(sizes[39] <= sizes[5] + sizes[5] / 20, "{sizes:?}");
    check(&mut client, "docs_index");
}

#[test]
fn a_dimension_that_was_rolled_back_gives_way_after_a_vacuum() {
    let database = shared();
    let mut client = database.client();
    let mut other = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    run(
        &mut client,
        "BEGIN; INSERT INTO docs VALUES (1, '{{1,2,3}}'); ROLLBACK",
    );
    let insert = "INSERT INTO docs VALUES (2, '{{1,2}}')";
    let error = database_error(client.batch_execute(insert));
    assert_eq!(error.code().code(), "22000");
    assert_eq!(
        error.message(),
        "document has 2 dimensions, the index has 3"
    );
    run(&mut client, "VACUUM docs");
    // Nor while somebody else may be adding a document of the old dimension.
    run(&mut other, "BEGIN; DELETE FROM docs");
    let error = database_error(client.batch_execute(insert));
    assert_eq!(error.code().code(), "22000");
    run(&mut other, "COMMIT");
    run(&mut client, insert);
    agrees(&mut client, &nearest("{{1,1}}", "true"));
    check(&mut client, "docs_index");
}
