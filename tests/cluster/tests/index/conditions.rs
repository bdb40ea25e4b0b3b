//! Conditions: rows that fail a plain one are neither scored nor returned, and any other is left to the executor.

use postgres::Client;

use crate::{EXACT, INDEX, Random, WHOLE, docs, is_same, nearest, ranking, run, shared};

/// What the last search left out.
fn filtered(client: &mut Client) -> i64 {
    let row = client
        .query_one("SELECT filtered FROM infinity_embed.last_search()", &[])
        .expect("there was a search");
    row.get(0)
}

#[test]
fn rows_under_a_condition_are_ranked_as_without_an_index() {
    let database = shared();
    let mut client = docs(&database, 2000, 3..12, 16);
    run(
        &mut client,
        "ALTER TABLE docs DROP CONSTRAINT docs_pkey;
         ALTER TABLE docs ALTER note TYPE text USING 'n' || id % 7;
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 128);
         CREATE TABLE wanted AS SELECT id FROM docs WHERE id % 5 = 0;
         ANALYZE;
         CREATE FUNCTION dear(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n % 50 = 7; END'",
    );
    let query = Random::new(3).document(6, 16);
    // Whether the search knows the condition.
    for (condition, is_plain) in [
        ("id % 50 = 7", true),
        ("note = 'n3' AND id > 1000", true),
        ("note IS NULL", true),
        ("id % 2 = 0 OR note < 'n2'", true),
        ("NULL::boolean OR id < 5", true),
        ("ctid >= '(3,1)' AND tableoid = 'docs'::regclass", true),
        ("id < (SELECT max(id) / 10 FROM wanted)", true),
        ("id NOT IN (SELECT id FROM wanted)", false),
        ("dear(id)", false),
        ("random() >= 0 AND id % 50 = 7", false),
        ("true", true),
    ] {
        let query = format!("{} LIMIT 20", nearest(&query, condition));
        let exact = ranking(&mut client, EXACT, &query);
        let found = ranking(&mut client, WHOLE, &query);
        assert!(is_same(&exact, &found), "{condition}");
        let quick = ranking(&mut client, INDEX, &query);
        let same = quick.iter().filter(|row| exact.contains(row)).count();
        assert!(
            20 * same >= 19 * exact.len(),
            "{condition}: {same} of {}",
            exact.len()
        );
        let left_out = filtered(&mut client);
        assert_eq!(
            left_out > 0,
            is_plain && condition != "true",
            "{condition}: {left_out}"
        );
    }
}

#[test]
fn a_condition_of_a_join_of_a_cursor_and_of_a_function_is_known_to_its_own_scan() {
    let database = shared();
    let mut client = docs(&database, 1000, 3..12, 16);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 64);
         CREATE TABLE parted (id int, embedding real[]) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (500);
         CREATE TABLE high PARTITION OF parted FOR VALUES FROM (500) TO (1000);
         INSERT INTO parted SELECT id, embedding FROM docs;
         CREATE INDEX ON parted USING maxsim (embedding);
         CREATE FUNCTION best(q real[], n int) RETURNS SETOF int LANGUAGE plpgsql STABLE AS
             'BEGIN RETURN QUERY SELECT id FROM docs WHERE id % 10 = n ORDER BY embedding @# q LIMIT 3; END';
         ANALYZE",
    );
    for query in [
        // The condition changes with each rescan.
        "SELECT d.id, d.distance FROM docs AS q, LATERAL (
            SELECT id, embedding @# q.embedding AS distance FROM docs
            WHERE id % 20 = q.id % 20 AND id <> q.id ORDER BY embedding @# q.embedding LIMIT 5) AS d
         WHERE q.id < 40 ORDER BY q.id, d.distance",
        // Two scans with conditions of their own, and a function that searches within.
        "SELECT a.id, b.distance FROM
            (SELECT id, embedding @# '{{1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}}'::real[] AS distance FROM docs
             WHERE id % 3 = 0 ORDER BY 2 LIMIT 50) AS a
            JOIN (SELECT id, embedding @# '{{0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0}}'::real[] AS distance FROM docs
             WHERE id % 2 = 0 ORDER BY 2 LIMIT 200) AS b USING (id) ORDER BY b.distance",
        "SELECT b, 0::float8 FROM docs, best(embedding, id % 7) AS b WHERE id < 20 ORDER BY docs.id",
        "SELECT id, embedding @# '{{1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}}'::real[] FROM parted
         WHERE id % 9 = 4 ORDER BY 2 LIMIT 30",
    ] {
        let exact = ranking(&mut client, EXACT, query);
        assert!(!exact.is_empty());
        assert!(is_same(&exact, &ranking(&mut client, WHOLE, query)), "{query}");
        assert!(filtered(&mut client) > 0, "{query}");
    }
    run(&mut client, WHOLE);
    let statement = client
        .prepare("SELECT id FROM docs WHERE id % $1 = 1 ORDER BY embedding @# (SELECT embedding FROM docs WHERE id = 5) LIMIT 4")
        .expect("a statement");
    for modulus in [2, 10, 100, 1000] {
        let rows = client.query(&statement, &[&modulus]).expect("rows");
        assert!(rows.iter().all(|row| row.get::<_, i32>(0) % modulus == 1));
        assert_eq!(rows.len(), if modulus == 1000 { 1 } else { 4 });
    }
    run(
        &mut client,
        "BEGIN; DECLARE c CURSOR FOR SELECT id FROM docs WHERE id % 4 = 1
             ORDER BY embedding @# (SELECT embedding FROM docs WHERE id = 5); FETCH 3 FROM c;
         SAVEPOINT s",
    );
    let failed = "SELECT id FROM docs WHERE 1 / (id % 7) >= 0 ORDER BY embedding @# (SELECT embedding FROM docs WHERE id = 6)";
    let error = client.query(failed, &[]).expect_err("0 is no divisor");
    assert_eq!(error.code().map(|code| code.code()), Some("22012"));
    run(&mut client, "ROLLBACK TO s");
    let rest = client.query("FETCH ALL FROM c", &[]).expect("a cursor");
    assert_eq!(rest.len(), 247);
    assert!(rest.iter().all(|row| row.get::<_, i32>(0) % 4 == 1));
    run(&mut client, "COMMIT");
}

#[test]
fn explain_counts_the_rows_that_a_condition_removes() {
    let database = shared();
    let mut client = docs(&database, 500, 3..12, 16);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 64)",
    );
    run(&mut client, WHOLE);
    let query = nearest(&Random::new(8).document(4, 16), "id % 10 = 3");
    let plan = client
        .query(
            &format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}"),
            &[],
        )
        .expect("a plan");
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(
        plan.iter()
            .any(|line| line.ends_with("Rows Removed by Filter: 450")),
        "{plan:#?}"
    );
}
