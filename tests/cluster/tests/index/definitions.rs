//! Tables and indexes that are emptied, rewritten, moved, and made while others go on or until somebody cancels.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cluster_tests::{database_error, lift_timeout, wait_until};
use postgres::Client;

use super::{BOUND, End, Random, agrees, check, copy, docs, lists, nearest, run, shared};

const DIM: usize = 8;

fn is_right(client: &mut Client) {
    for seed in [1, 2] {
        let query = Random::new(seed).document(4, DIM);
        agrees(client, &nearest(&query, "true"));
    }
    let (documents, rows) = check(client, "docs_index");
    assert!(documents >= rows);
}

#[test]
fn a_table_truncated_and_filled_in_one_transaction_has_a_right_index() {
    let database = shared();
    let mut client = docs(&database, 300, 2..10, DIM);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16);
         CREATE TABLE more AS SELECT id, embedding FROM docs",
    );
    let fill = "INSERT INTO docs SELECT id, NULL, embedding FROM more";
    for end in ["ROLLBACK", "COMMIT"] {
        run(
            &mut client,
            &format!(
                "BEGIN; TRUNCATE docs; {fill} WHERE id < 100; SAVEPOINT s; TRUNCATE docs; {fill} WHERE id < 50"
            ),
        );
        is_right(&mut client);
        run(
            &mut client,
            &format!("ROLLBACK TO s; {fill} WHERE id >= 200"),
        );
        is_right(&mut client);
        run(&mut client, end);
        is_right(&mut client);
    }
    assert_eq!(check(&mut client, "docs_index"), (200, 200));
    // Made in the same transaction: emptied in place.
    run(
        &mut client,
        &format!(
            "BEGIN; DROP TABLE docs; CREATE TABLE docs (id int, note text, embedding real[]);
             CREATE INDEX docs_index ON docs USING maxsim (embedding); {fill};
             TRUNCATE docs; {fill} WHERE id < 70; SAVEPOINT s; TRUNCATE docs; {fill}; ROLLBACK TO s; {fill} WHERE id > 270"
        ),
    );
    is_right(&mut client);
    run(&mut client, "COMMIT");
    is_right(&mut client);
    assert_eq!(check(&mut client, "docs_index"), (99, 99));
}

#[test]
fn every_rewrite_of_a_table_leaves_a_right_index() {
    let database = shared();
    let mut client = docs(&database, 300, 2..10, DIM);
    let place = format!("{}_place", database.name());
    run(&mut client, "SET allow_in_place_tablespaces = on");
    run(
        &mut client,
        &format!("CREATE TABLESPACE {place} LOCATION ''"),
    );
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)",
    );
    let statements = [
        "VACUUM FULL docs".to_owned(),
        "CLUSTER docs USING docs_pkey".to_owned(),
        format!("ALTER TABLE docs SET TABLESPACE {place}"),
        format!("ALTER INDEX docs_index SET TABLESPACE {place}"),
        "ALTER TABLE docs SET UNLOGGED".to_owned(),
        "ALTER TABLE docs SET TABLESPACE pg_default".to_owned(),
        "ALTER INDEX docs_index SET TABLESPACE pg_default".to_owned(),
        "ALTER TABLE docs SET LOGGED".to_owned(),
        "ALTER TABLE docs ALTER note TYPE varchar(20), ADD COLUMN made timestamptz DEFAULT clock_timestamp()".to_owned(),
        format!("ALTER TABLE docs ALTER embedding TYPE multivector({DIM}, f16)"),
        format!("ALTER TABLE docs ALTER embedding TYPE multivector({DIM}, int8)"),
        "ALTER TABLE docs ALTER embedding TYPE real[]".to_owned(),
        format!("REINDEX (TABLESPACE {place}) TABLE docs"),
        "REINDEX (TABLESPACE pg_default) TABLE CONCURRENTLY docs".to_owned(),
    ];
    for (number, statement) in statements.iter().enumerate() {
        println!("{statement}");
        run(&mut client, statement);
        is_right(&mut client);
        run(
            &mut client,
            &format!(
                "INSERT INTO docs (id, embedding) SELECT id + 1000 + 100 * {number}, embedding FROM docs WHERE id < 20;
                 DELETE FROM docs WHERE id % 40 = {number}"
            ),
        );
        is_right(&mut client);
        run(&mut client, "VACUUM docs");
        let (documents, rows) = check(&mut client, "docs_index");
        assert_eq!(documents, rows, "{statement}");
    }
    run(&mut client, &format!("DROP TABLESPACE {place}"));
}

#[test]
fn a_materialized_view_has_a_right_index_after_every_refresh() {
    let database = shared();
    let mut client = docs(&database, 200, 2..10, DIM);
    run(
        &mut client,
        "ALTER TABLE docs RENAME TO source;
         CREATE MATERIALIZED VIEW docs AS SELECT * FROM source WHERE id % 3 <> 0;
         CREATE UNIQUE INDEX ON docs (id);
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)",
    );
    is_right(&mut client);
    for how in ["", "CONCURRENTLY"] {
        run(
            &mut client,
            &format!(
                "UPDATE source SET id = id + 1000 WHERE id % 5 = 1;
                 UPDATE source SET embedding = embedding || embedding WHERE id % 7 = 1;
                 REFRESH MATERIALIZED VIEW {how} docs"
            ),
        );
        is_right(&mut client);
    }
}

#[test]
fn an_index_made_concurrently_has_what_others_write_meanwhile() {
    let database = shared();
    let mut client = docs(&database, 600, 20..40, DIM);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..4)
            .map(|seed| {
                let (mut client, done) = (database.client(), &done);
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut changes = 0;
                    while !done.load(Ordering::Relaxed) {
                        let id = seed as usize * 100_000 + random.below(1000);
                        let tokens = random.of(20..40);
                        let document = random.document(tokens, DIM);
                        run(
                            &mut client,
                            &match random.below(4) {
                                0 => format!("DELETE FROM docs WHERE id % 1000 = {id} % 1000"),
                                1 => format!("BEGIN; INSERT INTO docs VALUES ({id}, 'no', '{document}') ON CONFLICT DO NOTHING; ROLLBACK"),
                                _ => format!("INSERT INTO docs VALUES ({id}, 'yes', '{document}') ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding"),
                            },
                        );
                        changes += 1;
                    }
                    changes
                })
            })
            .collect();
        let end = End(&done);
        for number in 0..6 {
            run(&mut client, "REINDEX INDEX CONCURRENTLY docs_index");
            // Two rankings of one state.
            run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
            is_right(&mut client);
            run(&mut client, "COMMIT");
            let with = ["", "WITH (lists = 64)"][number % 2];
            run(
                &mut client,
                &format!(
                    "CREATE INDEX CONCURRENTLY docs_other ON docs USING maxsim (embedding) {with}"
                ),
            );
            check(&mut client, "docs_other");
            run(&mut client, "DROP INDEX CONCURRENTLY docs_other");
        }
        drop(end);
        for writer in writers {
            let changes = writer.join().expect("no write fails");
            println!("{changes} changes");
            assert!(changes > 0);
        }
    });
    is_right(&mut client);
    run(&mut client, "VACUUM docs");
    let (documents, rows) = check(&mut client, "docs_index");
    assert_eq!(documents, rows);
}

/// Cancels `work` at so many moments of its time, and writes after each.
fn cancel_everywhere(client: &mut Client, work: &str, tidy: &str) {
    let begin = Instant::now();
    run(client, work);
    let whole = begin.elapsed();
    run(client, tidy);
    let mut cancelled = 0;
    for number in 1..30 {
        let timeout = (whole * number / 30).as_millis().max(1);
        run(client, &format!("SET statement_timeout = {timeout}"));
        let result = client.batch_execute(work);
        lift_timeout(client);
        if result.is_err() {
            assert_eq!(database_error(result).code().code(), "57014");
            cancelled += 1;
        }
        // Others go on with what it left behind.
        run(
            client,
            "INSERT INTO docs SELECT id + 10000, NULL, embedding FROM docs WHERE id < 20;
             DELETE FROM docs WHERE id > 9999",
        );
        run(client, "VACUUM docs");
        run(client, tidy);
    }
    println!("{work}: {whole:.0?}, cancelled {cancelled} times");
    assert!(cancelled > 3);
}

#[test]
fn making_an_index_concurrently_can_be_cancelled_at_any_time() {
    let database = shared();
    let mut client = docs(&database, 800, 60..100, 32);
    run(
        &mut client,
        "ALTER TABLE docs SET (autovacuum_enabled = off)",
    );
    let is_right = |client: &mut Client| {
        agrees(client, &nearest(&Random::new(1).document(4, 32), "true"));
        check(client, "docs_index");
    };
    cancel_everywhere(
        &mut client,
        "CREATE INDEX CONCURRENTLY docs_index ON docs USING maxsim (embedding) WITH (lists = 512)",
        "DROP INDEX IF EXISTS docs_index",
    );
    run(
        &mut client,
        "CREATE INDEX CONCURRENTLY docs_index ON docs USING maxsim (embedding) WITH (lists = 512)",
    );
    is_right(&mut client);
    cancel_everywhere(
        &mut client,
        "REINDEX INDEX CONCURRENTLY docs_index",
        "DROP INDEX IF EXISTS docs_index_ccnew, docs_index_ccold",
    );
    is_right(&mut client);
    let left: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_index WHERE indrelid = 'docs'::regclass AND NOT indisvalid",
            &[],
        )
        .expect("a catalog")
        .get(0);
    assert_eq!(left, 0);
    // Waiting for somebody's transaction.
    let mut other = database.client();
    run(&mut other, "BEGIN; DELETE FROM docs WHERE id = 1");
    run(&mut client, "SET statement_timeout = '300ms'");
    let again = "CREATE INDEX CONCURRENTLY docs_again ON docs USING maxsim (embedding)";
    assert_eq!(
        database_error(client.batch_execute(again)).code().code(),
        "57014"
    );
    lift_timeout(&mut client);
    let unfinished = "SELECT infinity_embed.check_index('docs_again')";
    let error = database_error(client.batch_execute(unfinished));
    assert_eq!(
        (error.code().code(), error.message()),
        ("55000", "index \"docs_again\" is not valid")
    );
    run(&mut other, "COMMIT");
    run(&mut client, "REINDEX INDEX docs_again");
    check(&mut client, "docs_again");
}

#[test]
fn the_second_pass_of_a_concurrent_build_may_find_what_the_first_did_not() {
    let database = shared();
    let mut client = database.client();
    // The row without a document holds the first pass up.
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         INSERT INTO docs VALUES (0, NULL);
         CREATE FUNCTION waiting(document real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE AS $$
         BEGIN
            IF document IS NULL THEN
                PERFORM pg_advisory_lock(77);
                PERFORM pg_advisory_unlock(77);
            END IF;
            RETURN document;
         END $$",
    );
    let mut holder = database.client();
    run(&mut holder, "SELECT pg_advisory_lock(77)");
    std::thread::scope(|scope| {
        let mut builder = database.client();
        let building = scope.spawn(move || {
            builder.batch_execute(
                "CREATE INDEX CONCURRENTLY docs_index ON docs USING maxsim (waiting(embedding))",
            )
        });
        wait_until("the first pass waits", BOUND, || {
            let waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            !client.query(waiting, &[]).expect("a view").is_empty()
        });
        copy(&mut client, "docs", 1..6, 1..5, DIM, &mut Random::new(1)).expect("documents");
        run(&mut holder, "SELECT pg_advisory_unlock(77)");
        building
            .join()
            .expect("no panic")
            .expect("the build succeeds");
    });
    assert_eq!(check(&mut client, "docs_index"), (5, 5));
    let error = client.batch_execute("INSERT INTO docs VALUES (7, '{{1,2}}')");
    assert_eq!(
        database_error(error).message(),
        "document has 2 dimensions, the index has 8"
    );
}

#[test]
fn the_least_memory_there_can_be_is_enough() {
    let database = shared();
    let mut client = docs(&database, 1500, 20..40, 32);
    run(
        &mut client,
        "SET maintenance_work_mem = '1MB'; SET work_mem = '64kB'; SET temp_buffers = '800kB'; SET jit = off;
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 512)",
    );
    println!("{} lists", lists(&mut client, "docs_index"));
    run(
        &mut client,
        "INSERT INTO docs SELECT id + 10000, NULL, embedding FROM docs WHERE id < 500;
         DELETE FROM docs WHERE id % 3 = 0",
    );
    agrees(
        &mut client,
        &nearest(&Random::new(1).document(8, 32), "true"),
    );
    run(&mut client, "VACUUM docs");
    agrees(
        &mut client,
        &nearest(&Random::new(2).document(8, 32), "id % 5 = 0"),
    );
    let (documents, rows) = check(&mut client, "docs_index");
    assert_eq!(documents, rows);
}

#[test]
fn an_index_can_be_made_by_dynamic_sql_and_within_exception_blocks() {
    let database = shared();
    let mut client = docs(&database, 300, 2..10, DIM);
    run(
        &mut client,
        "DO $$
         BEGIN
            FOR number IN 1..3 LOOP
                BEGIN
                    EXECUTE 'CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)';
                    IF number < 3 THEN
                        PERFORM 1 / 0;
                    END IF;
                EXCEPTION WHEN division_by_zero THEN
                    NULL;
                END;
            END LOOP;
         END $$",
    );
    is_right(&mut client);
    assert!(lists(&mut client, "docs_index") > 0);
}
