//! The order and the completeness of what a scan gives, however it is called.

use cluster_tests::{Backend, database_error, lift_timeout};

use super::{
    EXACT, INDEX, Random, WHOLE, agrees, check, copy, docs, nearest, ranking, run, shared,
};

#[test]
fn random_tables_are_ranked_as_without_an_index() {
    let database = shared();
    let mut client = database.client();
    let mut random = Random::new(1);
    let mut recall = Vec::new();
    for number in 0..12 {
        let (rows, dim) = (random.below(250), random.of(1..40));
        let type_ = ["real[]", "multivector", "multivector(f16)"][number % 3]
            .replace("(f16)", &format!("({dim}, f16)"));
        println!("{number}: {rows} rows of {dim} dimensions, {type_}");
        run(
            &mut client,
            &format!("DROP TABLE IF EXISTS docs; CREATE TABLE docs (id int, embedding {type_})"),
        );
        copy(&mut client, "docs", 0..rows, 1..60, dim, &mut random).expect("documents");
        let lists = if number % 2 == 0 {
            random.below(rows + 1)
        } else {
            0
        };
        run(
            &mut client,
            &format!(
                "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = {lists})"
            ),
        );
        copy(
            &mut client,
            "docs",
            rows..rows + 50,
            1..60,
            dim,
            &mut random,
        )
        .expect("documents");
        // Equal rows, rows without a document, and tokens of zeros.
        run(
            &mut client,
            "INSERT INTO docs SELECT id + 1000, embedding FROM docs WHERE id < 20;
             INSERT INTO docs SELECT id + 2000, NULL FROM docs WHERE id < 20;
             INSERT INTO docs SELECT 3000, array_fill(0::real, ARRAY[3, multivector_dims(embedding::multivector)]) FROM docs LIMIT 1",
        );
        for (tokens, condition) in [(1, "true"), (7, "id % 7 = 0"), (40, "id > 30")] {
            let query = random.document(tokens, dim);
            recall.push(agrees(&mut client, &nearest(&query, condition)));
        }
        check(&mut client, "docs_index");
    }
    let mean = recall.iter().sum::<f64>() / recall.len() as f64;
    println!("recall with little effort: {mean:.3}");
    assert!(mean > 0.97, "{mean}");
}

#[test]
fn huge_and_tiny_numbers_are_ranked_as_without_an_index() {
    let database = shared();
    let mut client = docs(&database, 40, 1..20, 4);
    run(
        &mut client,
        "INSERT INTO docs SELECT id + 100, NULL, ARRAY[ARRAY[power(10, id - 20), 0, id % 3, -1]]::real[] FROM docs WHERE id < 38;
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16);
         INSERT INTO docs SELECT id + 100, NULL, embedding FROM docs WHERE id > 99",
    );
    for query in [
        "{{1,0,0,0}}",
        "{{1e-18,1,-1,0},{0,0,0,-1}}",
        "{{-1,1e10,0,1}}",
    ] {
        agrees(&mut client, &nearest(query, "true"));
    }
    check(&mut client, "docs_index");
}

#[test]
fn a_query_for_each_row_finds_what_the_exact_order_finds() {
    let database = shared();
    let mut client = docs(&database, 400, 5..30, 16);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 64)",
    );
    for query in [
        "SELECT d.id, d.distance FROM docs AS q, LATERAL (
            SELECT id, embedding @# q.embedding AS distance FROM docs ORDER BY embedding @# q.embedding LIMIT 5) AS d
         WHERE q.id < 60 ORDER BY q.id, d.distance",
        "SELECT q.id, (SELECT embedding @# q.embedding FROM docs WHERE id % 3 = q.id % 3
            ORDER BY embedding @# q.embedding LIMIT 1 OFFSET 2)
         FROM docs AS q WHERE q.id < 60 ORDER BY q.id",
        "SELECT q.id, d.distance FROM generate_series(1, 20) AS n JOIN docs AS q ON q.id = n,
            LATERAL (SELECT o.id, o.embedding @# q.embedding AS distance FROM docs AS o
                JOIN generate_series(1, n) AS m ON m <= o.id ORDER BY o.embedding @# q.embedding LIMIT 7) AS d
         ORDER BY 1, 2",
    ] {
        let exact = ranking(&mut client, EXACT, query);
        assert_eq!(exact, ranking(&mut client, WHOLE, query));
        let found = ranking(&mut client, INDEX, query);
        let same = found.iter().zip(&exact).filter(|(a, b)| a == b).count();
        println!("{same} of {} the same with little effort", exact.len());
        assert!(found.len() == exact.len() && same * 10 > exact.len() * 9);
    }
}

#[test]
fn cursors_go_forward_back_and_to_the_start() {
    let database = shared();
    let mut client = docs(&database, 200, 5..30, 16);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 32)",
    );
    let query = nearest(&Random::new(5).document(6, 16), "true");
    let exact = ranking(&mut client, EXACT, &query);
    run(&mut client, WHOLE);
    let mut fetch = |statement: &str| -> Vec<i32> {
        let rows = client.query(statement, &[]).expect("a cursor moves");
        rows.iter().map(|row| row.get(0)).collect()
    };
    let ids = |range: std::ops::Range<usize>| -> Vec<i32> {
        exact[range].iter().map(|row| row.0).collect()
    };
    let reversed = |range: std::ops::Range<usize>| -> Vec<i32> {
        exact[range].iter().rev().map(|row| row.0).collect()
    };
    fetch("BEGIN");
    fetch(&format!("DECLARE c SCROLL CURSOR FOR {query}"));
    assert_eq!(fetch("FETCH 10 FROM c"), ids(0..10));
    assert_eq!(fetch("FETCH BACKWARD 4 FROM c"), reversed(5..9));
    assert_eq!(fetch("FETCH FIRST FROM c"), ids(0..1));
    assert_eq!(fetch("FETCH LAST FROM c"), ids(199..200));
    assert_eq!(fetch("FETCH ABSOLUTE 50 FROM c"), ids(49..50));
    assert_eq!(fetch("FETCH RELATIVE -20 FROM c"), ids(29..30));
    assert!(fetch("MOVE BACKWARD ALL FROM c").is_empty());
    assert_eq!(fetch("FETCH ALL FROM c"), ids(0..200));
    assert_eq!(fetch("FETCH BACKWARD ALL FROM c"), reversed(0..200));
    // Two scans of one index at a time, and rows fetched after the transaction.
    fetch(&format!("DECLARE d NO SCROLL CURSOR FOR {query}"));
    fetch(&format!("DECLARE e CURSOR WITH HOLD FOR {query}"));
    assert_eq!(fetch("FETCH 3 FROM d"), ids(0..3));
    assert_eq!(fetch("FETCH 5 FROM e"), ids(0..5));
    assert_eq!(fetch("FETCH 3 FROM d"), ids(3..6));
    fetch("COMMIT");
    assert_eq!(fetch("FETCH 5 FROM e"), ids(5..10));
    fetch("CLOSE e");
}

#[test]
fn a_cursor_survives_a_subtransaction_that_is_rolled_back() {
    let database = shared();
    let mut client = docs(&database, 100, 5..30, 16);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    let query = nearest(&Random::new(6).document(6, 16), "true");
    let exact = ranking(&mut client, EXACT, &query);
    run(&mut client, WHOLE);
    run(&mut client, &format!("BEGIN; DECLARE c CURSOR FOR {query}"));
    let mut found = Vec::new();
    for round in 0..10 {
        run(&mut client, "SAVEPOINT s");
        if round % 2 == 0 {
            run(
                &mut client,
                "INSERT INTO docs SELECT id + 1000, NULL, embedding FROM docs WHERE id < 50",
            );
        } else {
            let error = database_error(client.batch_execute(&format!("{query} LIMIT 1 / 0")));
            assert_eq!(error.code().code(), "22012");
        }
        run(&mut client, "ROLLBACK TO s");
        let rows = client
            .query("FETCH 10 FROM c", &[])
            .expect("the cursor is open");
        found.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
    }
    run(&mut client, "COMMIT");
    let exact: Vec<i32> = exact.iter().map(|row| row.0).collect();
    assert_eq!(found, exact);
    check(&mut client, "docs_index");
}

#[test]
fn searches_cancelled_in_the_middle_leave_the_session_whole() {
    let database = shared();
    let mut client = docs(&database, 500, 20..60, 32);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 128)",
    );
    let query = nearest(&Random::new(7).document(8, 32), "true");
    agrees(&mut client, &query);
    // Nothing is kept by the executor itself, whose memory would be measured.
    run(&mut client, "SET enable_material = off; SET jit = off");
    let many = "SELECT count(*) FROM docs AS p, docs AS q, LATERAL (
        SELECT id FROM docs ORDER BY embedding @# q.embedding LIMIT 20) AS d";
    let mut memory = Vec::new();
    for tries in 0..90 {
        run(
            &mut client,
            &format!("{INDEX}; SET statement_timeout = {}", 3 + 2 * (tries % 30)),
        );
        let error = database_error(client.batch_execute(many));
        assert_eq!(error.code().code(), "57014");
        lift_timeout(&mut client);
        if tries % 30 == 29 {
            memory.push(Backend::of(&mut client).private_memory() >> 10);
        }
    }
    agrees(&mut client, &query);
    println!("KB after 30, 60 and 90 cancels: {memory:?}");
    assert!(memory[2] < memory[0] + 4096, "{memory:?}");
}
