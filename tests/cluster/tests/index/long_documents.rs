//! Documents from one token to 32,768: codes that share a page with others, and chains of pages.

use cluster_tests::Backend;
use postgres::Client;

use super::{Random, agrees, check, doubling, lists, nearest, run, shared};

const DIM: usize = 16;

/// A table `docs` with documents of these numbers of tokens, all powers of two.
fn documents(client: &mut Client, powers: &[u32]) {
    doubling(client);
    run(client, "CREATE TABLE docs (id serial, embedding real[])");
    let mut random = Random::new(1);
    for power in powers {
        // Sixteen different tokens again and again, of which one differs.
        let (some, one) = (random.document(16, DIM), random.document(1, DIM));
        let document = match power {
            0..4 => format!("'{}'", random.document(1 << power, DIM)),
            _ => format!(
                "(doubled('{some}', {}))[:{}][:] || '{one}'::real[]",
                power - 4,
                (1 << power) - 1
            ),
        };
        run(
            client,
            &format!("INSERT INTO docs (embedding) VALUES ({document})"),
        );
    }
}

#[test]
fn documents_of_one_token_and_of_32768_are_ranked_as_without_an_index() {
    let database = shared();
    let mut client = database.client();
    documents(&mut client, &[0, 0, 1, 2, 3, 9, 10, 12, 13, 15]);
    let mut random = Random::new(2);
    for lists in [0, 16] {
        run(
            &mut client,
            &format!(
                "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = {lists});
                 INSERT INTO docs (embedding) SELECT embedding FROM docs WHERE id <= 10;
                 DELETE FROM docs WHERE id > 10 AND id % 2 = 1;
                 UPDATE docs SET embedding = embedding || embedding[1:1][:] WHERE cardinality(embedding) < {DIM} * 32768 AND id < 10"
            ),
        );
        for tokens in [1, 32, 2000] {
            agrees(&mut client, &nearest(&random.document(tokens, DIM), "true"));
        }
        check(&mut client, "docs_index");
        run(&mut client, "VACUUM docs");
        let (documents, rows) = check(&mut client, "docs_index");
        assert_eq!(documents, rows);
        agrees(&mut client, &nearest(&random.document(8, DIM), "true"));
        run(&mut client, "DROP INDEX docs_index");
    }
}

#[test]
fn few_long_documents_are_enough_to_learn_many_lists_from() {
    let database = shared();
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         INSERT INTO docs SELECT document, (SELECT array_agg(ARRAY[sin(token * document), cos(token), sin(token * 1.7), cos(document * 0.3 + token)]::real[])
            FROM generate_series(1, 10000) AS token) FROM generate_series(1, 4) AS document;
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 4096)",
    );
    // Some centroids end up without a token.
    assert!(lists(&mut client, "docs_index") > 3000);
    check(&mut client, "docs_index");
    agrees(
        &mut client,
        &nearest(&Random::new(1).document(8, 4), "true"),
    );
}

#[test]
fn vacuum_makes_room_of_long_documents_that_is_used_again() {
    let database = shared();
    let mut client = database.client();
    documents(&mut client, &[11, 12, 11, 12, 13, 12]);
    run(
        &mut client,
        "INSERT INTO docs (embedding) SELECT embedding FROM docs, generate_series(1, 9);
         ALTER TABLE docs SET (autovacuum_enabled = off);
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)",
    );
    let mut blocks = Vec::new();
    for round in 0..12 {
        run(
            &mut client,
            &format!(
                "UPDATE docs SET embedding = embedding || embedding[1:1][:] WHERE id % 2 = {round} % 2"
            ),
        );
        run(&mut client, "VACUUM docs");
        let size: i64 = client
            .query_one("SELECT pg_relation_size('docs_index') / 8192", &[])
            .expect("an index has a size")
            .get(0);
        blocks.push(size);
    }
    println!("blocks: {blocks:?}");
    assert!(blocks[11] <= blocks[2] + blocks[2] / 20, "{blocks:?}");
    check(&mut client, "docs_index");
    agrees(
        &mut client,
        &nearest(&Random::new(3).document(8, DIM), "true"),
    );
}

/// An expression gives whole documents, where a table has but pointers to TOAST.
#[test]
fn a_build_on_an_expression_keeps_within_maintenance_work_mem() {
    let database = shared();
    let mut client = database.client();
    documents(&mut client, &[12, 12, 12, 12]);
    // 256 KB each, 256 MB in all.
    run(
        &mut client,
        "INSERT INTO docs (embedding) SELECT embedding FROM docs, generate_series(1, 256);
         CREATE INDEX docs_index ON docs USING maxsim ((embedding[1:4095][:])) WHERE id < 8",
    );
    let backend = Backend::of(&mut client);
    let before = backend.peak_memory();
    run(
        &mut client,
        "SET maintenance_work_mem = '16MB'; SET max_parallel_maintenance_workers = 0;
         CREATE INDEX docs_sliced ON docs USING maxsim ((embedding[1:4095][:])) WITH (lists = 16)",
    );
    let more = (backend.peak_memory() - before) >> 20;
    println!("{more} MB more");
    assert!(more < 64, "{more} MB");
    check(&mut client, "docs_sliced");
}
