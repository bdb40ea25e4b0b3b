//! What the planner and the executor make of a ranking around the scan itself: prepared statements, partitions, statements that
//! write, partial indexes, several indexes, queries that are none.

use cluster_tests::database_error;
use postgres::Client;

use super::{EXACT, INDEX, Random, WHOLE, docs, nearest, ranking, run, shared, uses_index};

const DIM: usize = 8;

fn numbers(client: &mut Client, query: &str) -> Vec<i64> {
    let rows = client
        .query(query, &[])
        .unwrap_or_else(|error| panic!("{query:.200}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_partial_index_is_never_scanned_without_the_order() {
    let database = shared();
    let mut client = docs(&database, 200, 2..10, DIM);
    run(
        &mut client,
        "CREATE INDEX docs_even ON docs USING maxsim (embedding) WHERE id % 2 = 0;
         ANALYZE docs;
         SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET enable_material = off;
         SET enable_hashjoin = off; SET enable_mergejoin = off",
    );
    for (query, expected) in [
        ("SELECT count(*) FROM docs WHERE id % 2 = 0", 100),
        (
            "SELECT count(embedding) FROM docs WHERE id % 2 = 0 AND cardinality(embedding) > 0",
            100,
        ),
        (
            "SELECT count(*) FROM docs AS a, docs AS b WHERE a.id % 2 = 0 AND b.id % 2 = 0",
            10_000,
        ),
        (
            "SELECT count(*) FROM docs AS a, LATERAL (SELECT b.id FROM docs AS b WHERE b.id % 2 = 0 AND b.id <> a.id OFFSET 0) AS c WHERE a.id < 3",
            298,
        ),
        (
            "WITH changed AS (UPDATE docs SET note = 'x' WHERE id % 2 = 0 RETURNING 1) SELECT count(*) FROM changed",
            100,
        ),
        (
            "SELECT count(*) FROM (SELECT id FROM docs WHERE id % 2 = 0 ORDER BY embedding @# '{{1,0,0,0,0,0,0,0}}'::real[]) AS s",
            100,
        ),
    ] {
        assert_eq!(numbers(&mut client, query), [expected], "{query}");
    }
}

#[test]
fn prepared_statements_take_the_query_and_the_limit_as_parameters() {
    let database = shared();
    let mut client = docs(&database, 400, 2..10, DIM);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)",
    );
    let mut random = Random::new(1);
    for mode in ["auto", "force_custom_plan", "force_generic_plan"] {
        run(
            &mut client,
            &format!("{WHOLE}; SET plan_cache_mode = {mode}"),
        );
        let statement = client
            .prepare(
                "SELECT id, embedding @# $1::text::real[] FROM docs WHERE id % 10 < $3 ORDER BY embedding @# $1::text::real[] LIMIT $2",
            )
            .expect("a statement");
        for round in 0..8 {
            let query = random.document(1 + round, DIM);
            let (limit, digits) = (5 * round as i64, 1 + round as i32);
            let found = client
                .query(&statement, &[&query, &limit, &digits])
                .expect("a ranking");
            let found: Vec<(i32, f64)> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
            let mut other = database.client();
            let condition = format!("id % 10 < {digits}");
            let exact = format!("{} LIMIT {limit}", nearest(&query, &condition));
            assert_eq!(found, ranking(&mut other, EXACT, &exact), "{mode}");
        }
    }
}

#[test]
fn partitions_are_merged_also_by_parallel_workers() {
    let database = shared();
    let mut client = docs(&database, 400, 2..10, DIM);
    run(
        &mut client,
        "CREATE TABLE parts (id int, embedding real[]) PARTITION BY HASH (id);
         CREATE TABLE part_0 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 0);
         CREATE TABLE part_1 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 1);
         CREATE TABLE part_2 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 2);
         INSERT INTO parts SELECT id, embedding FROM docs;
         CREATE INDEX ON parts USING maxsim (embedding);
         ANALYZE parts",
    );
    let query = Random::new(2).document(4, DIM);
    let by_distance = format!("ORDER BY embedding @# '{query}'::real[]");
    let merged =
        format!("SELECT id, embedding @# '{query}'::real[] FROM parts {by_distance} LIMIT 50");
    let each = |part: u32| {
        format!(
            "(SELECT id, embedding @# '{query}'::real[] AS distance FROM part_{part} {by_distance} LIMIT 50)"
        )
    };
    let union = format!(
        "SELECT * FROM ({} UNION ALL {} UNION ALL {}) AS u ORDER BY distance LIMIT 50",
        each(0),
        each(1),
        each(2)
    );
    let exact = ranking(&mut client, EXACT, &merged);
    assert_eq!(exact.len(), 50);
    for parallel in ["off", "on"] {
        run(
            &mut client,
            &format!(
                "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
                 SET enable_parallel_append = {parallel}; SET max_parallel_workers_per_gather = 3"
            ),
        );
        for query in [&merged, &union] {
            run(&mut client, WHOLE);
            assert!(uses_index(&mut client, query), "{query}");
            assert_eq!(ranking(&mut client, WHOLE, query), exact);
        }
    }
}

#[test]
fn statements_that_write_what_they_rank_see_each_row_once() {
    let database = shared();
    let mut client = docs(&database, 200, 2..10, DIM);
    run(
        &mut client,
        "ALTER TABLE docs DROP CONSTRAINT docs_pkey;
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16)",
    );
    let query = nearest(&Random::new(3).document(4, DIM), "true");
    let best: Vec<i32> = ranking(&mut client, EXACT, &format!("{query} LIMIT 20"))
        .iter()
        .map(|row| row.0)
        .collect();
    run(&mut client, WHOLE);
    // Into the table that is read: nearer rows come while it is read.
    run(
        &mut client,
        &format!(
            "INSERT INTO docs SELECT s.id + 1000, 'copy', d.embedding || d.embedding FROM ({query}) AS s JOIN docs AS d USING (id)"
        ),
    );
    assert_eq!(numbers(&mut client, "SELECT count(*) FROM docs"), [400]);
    run(
        &mut client,
        &format!(
            "UPDATE docs SET note = 'best', embedding = embedding || embedding FROM ({query} LIMIT 400) AS s WHERE s.id = docs.id"
        ),
    );
    assert_eq!(
        numbers(&mut client, "SELECT count(*) FROM docs WHERE note = 'best'"),
        [400]
    );
    run(&mut client, "DELETE FROM docs WHERE id >= 1000");
    let deleted = format!(
        "WITH gone AS (DELETE FROM docs WHERE id IN (SELECT id FROM ({query} LIMIT 20) AS s) RETURNING id)
         SELECT id::bigint FROM gone ORDER BY id"
    );
    let gone = numbers(&mut client, &deleted);
    let mut best: Vec<i64> = best.into_iter().map(i64::from).collect();
    best.sort_unstable();
    assert_eq!(gone, best);
    assert_eq!(super::check(&mut client, "docs_index").1, 180);
}

#[test]
fn the_planner_chooses_among_several_indexes() {
    let database = shared();
    let mut client = docs(&database, 100, 30..50, 64);
    run(
        &mut client,
        "INSERT INTO docs SELECT id + 100 * n, NULL, embedding FROM docs, generate_series(1, 29) AS n;
         CREATE INDEX docs_all ON docs USING maxsim (embedding);
         CREATE INDEX docs_old ON docs USING maxsim (embedding) WHERE id < 1500;
         CREATE INDEX docs_sketch ON docs USING maxsim ((embedding::multivector(64, bit)))",
    );
    run(&mut client, "VACUUM ANALYZE docs");
    let query = Random::new(4).document(8, 64);
    let order = format!("ORDER BY embedding @# '{query}'::real[] LIMIT 10");
    let sketch = format!("ORDER BY embedding::multivector(64, bit) @# '{query}'::real[] LIMIT 10");
    for (condition, order, index) in [
        ("true", &order, "docs_all"),
        ("id < 1400", &order, "docs_old"),
        ("id = 7", &order, "docs_pkey"),
        ("true", &sketch, "docs_sketch"),
    ] {
        let explain = format!("EXPLAIN SELECT id FROM docs WHERE {condition} {order}");
        let plan = client.query(&explain, &[]).expect("a plan");
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{plan:#?}");
    }
    // Two searches of two indexes at a time.
    let both = format!(
        "SELECT count(*) FROM (SELECT id FROM docs WHERE id < 1400 {order}) AS a JOIN (SELECT id FROM docs {sketch}) AS b ON a.id <= b.id OR true"
    );
    assert_eq!(numbers(&mut client, &both), [100]);
}

#[test]
fn queries_that_are_none_are_refused_whatever_is_in_the_index() {
    let database = shared();
    let mut client = database.client();
    for rows in [
        "SELECT 1 WHERE false",
        "INSERT INTO docs VALUES (1, NULL), (2, NULL)",
        "INSERT INTO docs SELECT n, array_fill(n::real, ARRAY[3, 8]) FROM generate_series(1, 30) AS n",
    ] {
        run(
            &mut client,
            &format!(
                "DROP TABLE IF EXISTS docs; CREATE TABLE docs (id int, embedding multivector(8)); {rows};
                 CREATE INDEX ON docs USING maxsim (embedding); {INDEX}"
            ),
        );
        for (query, code) in [
            ("'{{1,2,3}}'::real[]", "22000"),
            ("'{{1,2,3,4,5,6,7,NaN}}'::real[]", "22000"),
            ("'{{1,2,3,4,5,6,7,Infinity}}'::double precision[]", "22000"),
            ("'{{1,2,3,4,5,6,7,1e300}}'::double precision[]", "22003"),
            ("'{1,2,3,4,5,6,7,8}'::real[]", "22000"),
            ("'{{1,2,3,4,5,6,7,NULL}}'::real[]", "22004"),
            ("'{}'::real[]", "22000"),
        ] {
            let search = format!("SELECT id FROM docs ORDER BY embedding @# {query} LIMIT 3");
            let error = database_error(client.batch_execute(&search));
            assert_eq!(error.code().code(), code, "{query}: {error:?}");
            // As a parameter, too.
            let search = format!(
                "SELECT id FROM docs ORDER BY embedding @# (SELECT {query} FROM generate_series(1, 1)) LIMIT 3"
            );
            let error = database_error(client.batch_execute(&search));
            assert_eq!(error.code().code(), code, "{query}: {error:?}");
        }
        let all = numbers(
            &mut client,
            "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding @# '{{1,2,3,4,5,6,7,8}}'::real[] LIMIT 1000) AS s",
        );
        let with = numbers(
            &mut client,
            "SELECT count(*) FROM docs WHERE embedding IS NOT NULL",
        );
        assert_eq!(all, with);
    }
}

#[test]
fn explain_tells_what_all_searches_of_a_scan_did_where_postgresql_lets_it() {
    let database = shared();
    let mut client = docs(&database, 200, 2..10, DIM);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 16); SET enable_seqscan = off",
    );
    let version: i32 = client
        .query_one("SELECT current_setting('server_version_num')::int", &[])
        .expect("a setting")
        .get(0);
    let query = Random::new(1).document(4, DIM);
    let ranking = format!("SELECT id FROM docs ORDER BY embedding @# '{query}'::real[] LIMIT 3");
    let for_each = "SELECT q.id, d.id FROM generate_series(1, 3) AS q(id),
        LATERAL (SELECT id FROM docs ORDER BY embedding @# array_fill(q.id::real, ARRAY[2, 8]) LIMIT 3) AS d";
    for (query, swept) in [(ranking.as_str(), 200), (for_each, 600)] {
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}");
        let plan = client.query(&explain, &[]).expect("a plan");
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        let told = plan.contains(&format!("Documents Swept: {swept}\n"))
            && plan.contains("Documents Refined: ")
            && plan.contains("Documents Scored: ");
        assert_eq!(told, version >= 180_000, "{plan}");
    }
}
