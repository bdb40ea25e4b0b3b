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

/// The ids of a statement's rows.
fn ids(client: &mut Client, statement: &str) -> Vec<i32> {
    let rows = client.query(statement, &[]).expect(statement);
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn generic_plans_scrolling_cursors_and_writes_ask_the_condition_as_it_is_then() {
    let database = shared();
    let mut client = docs(&database, 600, 3..12, 16);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 64);
         CREATE TABLE found (id int PRIMARY KEY, hits int DEFAULT 1);
         SET plan_cache_mode = force_generic_plan;
         PREPARE p(int, real[]) AS SELECT id FROM docs WHERE id % $1 = 1 ORDER BY embedding @# $2",
    );
    let query = Random::new(4).document(5, 16);
    let by = format!("ORDER BY embedding @# '{query}'::real[]");
    for modulus in [2, 7, 100, 7] {
        let execute = format!("EXECUTE p({modulus}, '{query}')");
        let exact = format!("SELECT id FROM docs WHERE id % {modulus} = 1 {by}");
        run(&mut client, EXACT);
        let exact = ids(&mut client, &exact);
        run(&mut client, WHOLE);
        assert_eq!(ids(&mut client, &execute), exact, "{modulus}");
        assert!(filtered(&mut client) > 0);
    }
    // Without the index's own compilation: a condition is compiled where it is first asked.
    run(
        &mut client,
        "SET jit = on; SET jit_above_cost = 0; SET jit_optimize_above_cost = 0; SET jit_inline_above_cost = 0",
    );
    let tenth = format!("SELECT id FROM docs WHERE id % 10 = 3 {by}");
    let exact = ids(&mut client, &tenth);
    assert_eq!(exact.len(), 60);
    run(&mut client, "SET jit = off");
    assert_eq!(ids(&mut client, &tenth), exact);

    run(
        &mut client,
        &format!("BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR {tenth}; MOVE 5 FROM c"),
    );
    assert_eq!(ids(&mut client, "FETCH 5 FROM c"), exact[5..10]);
    run(
        &mut client,
        "SAVEPOINT s; UPDATE docs SET note = 'x'; ROLLBACK TO s",
    );
    let mut back = ids(&mut client, "FETCH BACKWARD 9 FROM c");
    back.reverse();
    assert_eq!(back, exact[..9]);
    run(&mut client, "COMMIT; MOVE ABSOLUTE 20 FROM c");
    assert_eq!(ids(&mut client, "FETCH ALL FROM c"), exact[20..]);
    run(&mut client, "CLOSE c");

    let best = format!("SELECT id FROM docs WHERE id % 10 = 3 {by} LIMIT 8");
    run(
        &mut client,
        &format!(
            "INSERT INTO found {best};
             INSERT INTO found {best} ON CONFLICT (id) DO UPDATE SET hits = found.hits + 1"
        ),
    );
    assert!(filtered(&mut client) > 0);
    let mut best = exact[..8].to_vec();
    best.sort_unstable();
    assert_eq!(
        ids(
            &mut client,
            "SELECT id FROM found WHERE hits = 2 ORDER BY id"
        ),
        best
    );
}

#[test]
fn an_error_of_a_condition_leaves_the_session_and_its_other_searches_whole() {
    let database = shared();
    let mut client = docs(&database, 600, 3..12, 16);
    run(
        &mut client,
        "CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 64);
         CREATE FUNCTION tries(q real[]) RETURNS SETOF int LANGUAGE plpgsql AS $$
         DECLARE r record;
         BEGIN
             FOR r IN SELECT id FROM docs WHERE id % 5 = 2 ORDER BY embedding @# q LIMIT 20 LOOP
                 BEGIN
                     PERFORM id FROM docs WHERE 10 / (id % 3) > 0 ORDER BY embedding @# q LIMIT 500;
                 EXCEPTION WHEN division_by_zero THEN
                     RETURN NEXT r.id;
                 END;
             END LOOP;
         END $$",
    );
    run(&mut client, WHOLE);
    let query = Random::new(5).document(5, 16);
    let caught = ids(&mut client, &format!("SELECT tries('{query}')"));
    let by = format!("ORDER BY embedding @# '{query}'::real[] LIMIT 20");
    let best = ids(
        &mut client,
        &format!("SELECT id FROM docs WHERE id % 5 = 2 {by}"),
    );
    assert_eq!(caught, best);
    // What guards a division comes first, here as in PostgreSQL.
    let guarded = format!("SELECT id FROM docs WHERE id % 3 <> 0 AND 10 / (id % 3) > 5 {by}");
    assert_eq!(ids(&mut client, &guarded).len(), 20);
    assert!(filtered(&mut client) > 0);
    let error = client
        .query(
            &format!("SELECT id FROM docs WHERE ('x' || id)::int > 0 {by}"),
            &[],
        )
        .expect_err("no number");
    let error = error.as_db_error().expect("of the server's");
    assert_eq!(error.code().code(), "22P02");
    assert!(
        error.message().starts_with("invalid input syntax"),
        "{error:?}"
    );
}

#[test]
fn a_row_that_another_session_changes_meanwhile_is_asked_again() {
    let database = shared();
    let mut client = docs(&database, 300, 3..12, 16);
    run(
        &mut client,
        "ALTER TABLE docs DROP COLUMN note, ADD COLUMN wanted boolean DEFAULT true;
         CREATE INDEX docs_index ON docs USING maxsim (embedding) WITH (lists = 64)",
    );
    let query = Random::new(6).document(5, 16);
    let locking = format!(
        "SELECT id FROM docs WHERE wanted AND id % 10 = 3 ORDER BY embedding @# '{query}'::real[] LIMIT 30 FOR UPDATE"
    );
    run(&mut client, WHOLE);
    let all = ids(&mut client, &locking.replace(" FOR UPDATE", ""));
    assert_eq!(all.len(), 30);
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("a session")
        .get(0);
    let mut other = database.client();
    run(
        &mut other,
        &format!(
            "BEGIN; UPDATE docs SET wanted = false WHERE id = {}",
            all[3]
        ),
    );
    let waiting = std::thread::spawn(move || ids(&mut client, &locking));
    let start = std::time::Instant::now();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    while other
        .query_one(waits, &[&pid])
        .expect("a count")
        .get::<_, i64>(0)
        == 0
    {
        assert!(start.elapsed() < crate::BOUND, "it does not wait");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run(&mut other, "COMMIT");
    let kept: Vec<i32> = all.iter().copied().filter(|id| *id != all[3]).collect();
    assert_eq!(waiting.join().expect("rows"), kept);
}
