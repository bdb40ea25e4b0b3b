//! The packed query of a call site: never another's score, and no reading of TOAST for what is known.

use cluster_tests::{Cluster, Database};
use postgres::{Client, SimpleQueryMessage};

/// Documents that lie in the table itself, with one component that is not zero; queries of one shape, 16 KB in TOAST, with
/// nothing but their number in them: so scores tell them apart.
fn documents_and_queries(database: &Database<'_>) -> Client {
    let mut client = database.client();
    client
        .batch_execute(
            "CREATE TABLE documents AS SELECT id, ('bit:[[' || repeat('0,', 126) || '0,' || id || ']]')::multivector AS value
                FROM generate_series(1, 2000) AS id;
            CREATE TABLE queries (id int, value multivector);
            INSERT INTO queries SELECT id, array_fill(id::real, ARRAY[32, 128])::multivector FROM generate_series(1, 6) AS id;
            CREATE TABLE arrays (id int, value real[]);
            ALTER TABLE arrays ALTER value SET STORAGE external;
            INSERT INTO arrays SELECT id, value FROM queries;
            ANALYZE; SET max_parallel_workers_per_gather = 0; SET jit = off",
        )
        .expect("tables can be made");
    client
}

/// The rows of the last statement, their columns joined.
fn rows(client: &mut Client, statements: &str) -> Vec<String> {
    let messages = client
        .simple_query(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let columns = (0..row.len()).map(|column| row.get(column).unwrap_or("NULL"));
            Some(columns.collect::<Vec<_>>().join("\t"))
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

#[test]
fn a_query_in_toast_is_read_once_for_all_documents() {
    let database = Cluster::shared().database();
    let mut client = documents_and_queries(&database);
    let mut blocks = |query: &str| {
        let plan = rows(
            &mut client,
            &format!(
                "EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off) SELECT sum(maxsim(d.value, {query})) FROM documents d"
            ),
        );
        let line = plan.iter().find(|line| line.contains("Buffers: shared"));
        let line = line.unwrap_or_else(|| panic!("{plan:?}"));
        let counts = line
            .split(&[' ', '='][..])
            .filter_map(|word| word.parse::<u32>().ok());
        counts.sum::<u32>()
    };
    // A cast result lies in memory; reading the query for every document would take 4 blocks each time.
    let in_memory = blocks("(SELECT value::real[] FROM queries WHERE id = 1)");
    for query in [
        "(SELECT value FROM queries WHERE id = 1)",
        "(SELECT value FROM arrays WHERE id = 1)",
    ] {
        let in_toast = blocks(query);
        assert!(
            in_toast < in_memory + 100,
            "{query}: {in_toast}, {in_memory} from memory"
        );
    }
}

#[test]
fn queries_in_toast_that_alternate_are_told_apart() {
    let database = Cluster::shared().database();
    let mut client = documents_and_queries(&database);
    for table in ["queries", "arrays"] {
        // Document 3 has one component of (nearly) 3: 32 query tokens of n score 32 * 3 * n.
        let score = "round(maxsim(d.value, q.value)::numeric, -1)";
        let expected = ["1\t100", "2\t190", "3\t290", "4\t380", "5\t480", "6\t580"];
        let joined = format!(
            "SELECT q.id, {score} FROM {table} q, documents d WHERE d.id = 3 ORDER BY q.id"
        );
        assert_eq!(rows(&mut client, &joined), expected, "{table}, a join");
        let lateral = format!(
            "SELECT q.id, (SELECT {score} FROM documents d WHERE d.id = 3) FROM {table} q ORDER BY q.id"
        );
        assert_eq!(rows(&mut client, &lateral), expected, "{table}, a rescan");
        // In pairs, so that each query comes again after another one.
        let again = format!(
            "SELECT q.id, {score} FROM (VALUES (1), (2), (1), (2), (1)) AS n(id) JOIN LATERAL
                (SELECT id, value FROM {table} WHERE {table}.id = n.id OFFSET 0) AS q ON true, documents d WHERE d.id = 3"
        );
        let mut found = rows(&mut client, &again);
        found.sort();
        assert_eq!(
            found,
            ["1\t100", "1\t100", "1\t100", "2\t190", "2\t190"],
            "{table}"
        );
        let cursor = format!(
            "BEGIN; DECLARE c CURSOR FOR {joined}; FETCH 2 FROM c; UPDATE {table} SET value = (SELECT value FROM {table} WHERE id = 1);
            FETCH 4 FROM c; ROLLBACK"
        );
        assert_eq!(rows(&mut client, &cursor), expected, "{table}, a cursor");
    }
}

#[test]
fn statements_of_a_function_see_the_query_as_it_is() {
    let database = Cluster::shared().database();
    let mut client = documents_and_queries(&database);
    // Call sites of PL/pgSQL outlive its statements: those of expressions a transaction, those of statements their plans.
    let scores = "CREATE FUNCTION scores() RETURNS SETOF numeric LANGUAGE plpgsql AS $$
        DECLARE query multivector; document multivector := (SELECT value FROM documents WHERE id = 3);
        BEGIN
            FOR n IN 1..4 LOOP
                UPDATE queries SET value = (SELECT value FROM queries q WHERE q.id = 2 + n % 2) WHERE id = 1;
                SELECT value INTO query FROM queries WHERE id = 1;
                RETURN NEXT round(maxsim(document, query)::numeric, -1);
                RETURN NEXT (SELECT round(maxsim(value, (SELECT value FROM queries WHERE id = 1))::numeric, -1) FROM documents WHERE id = 3);
            END LOOP;
        END $$";
    client.batch_execute(scores).expect("a function");
    let found = rows(&mut client, "SELECT * FROM scores()");
    assert_eq!(
        found,
        ["290", "290", "190", "190", "290", "290", "190", "190"]
    );
}
