//! What the planner makes of a ranking: parallel plans where the table says so, and costs that follow the documents' size.
//!
//! A table of TOASTed documents has a tiny heap of its own, from which PostgreSQL concludes that workers do not pay. The
//! documentation's advice, `ALTER TABLE … SET (parallel_workers = N)`, is held here to what it promises.

use cluster_tests::{Cluster, Database};
use postgres::{Client, SimpleQueryMessage};

const RANKING: &str =
    "SELECT id FROM passages ORDER BY embedding @# (SELECT embedding FROM queries), id LIMIT 10";

/// Passages of `tokens` tokens x 128 components, f16, all different: runs of consecutive tokens of a few random documents.
fn passages(database: &Database<'_>, table: &str, rows: u32, tokens: u32) {
    database.run(&format!(
        "SELECT setseed(0.5);
        CREATE TABLE {table} (id bigserial PRIMARY KEY, embedding multivector(128, f16));
        INSERT INTO {table} (embedding)
            WITH documents AS MATERIALIZED (
                SELECT multivector_agg(token) AS embedding FROM (
                    SELECT document, array_agg((random() - 0.5)::real) AS token
                    FROM generate_series(1, 10) AS document, generate_series(1, {tokens} + {rows} / 10) AS row,
                        generate_series(1, 128) AS component
                    GROUP BY document, row) AS tokens
                GROUP BY document)
            SELECT multivector_slice(embedding, first, first + {tokens} - 1)
            FROM documents, generate_series(1, {rows} / 10) AS first;
        ANALYZE {table}"
    ));
}

/// A query of 32 tokens.
fn query(database: &Database<'_>) {
    database.run(
        "SELECT setseed(0.25);
        CREATE TABLE queries (embedding multivector(128));
        INSERT INTO queries SELECT multivector_agg(token) FROM (
            SELECT array_agg((random() - 0.5)::real) AS token
            FROM generate_series(1, 32) AS row, generate_series(1, 128) AS component GROUP BY row) AS tokens",
    );
}

/// The first column of a statement's rows.
fn column(client: &mut Client, statement: &str) -> Vec<String> {
    let messages = client
        .simple_query(statement)
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect()
}

fn plan(client: &mut Client, statement: &str) -> String {
    column(client, &format!("EXPLAIN (FORMAT json) {statement}")).join("\n")
}

/// The number after the first `"name": ` of a plan, which is that of its topmost node.
fn number(plan: &str, name: &str) -> Option<f64> {
    let (_, rest) = plan.split_once(&format!("\"{name}\": "))?;
    rest.split(&[',', '\n'][..]).next()?.trim().parse().ok()
}

#[test]
fn parallel_workers_of_the_table_give_a_parallel_ranking_with_the_same_rows() {
    let database = Cluster::shared().database();
    passages(&database, "passages", 2000, 140);
    query(&database);
    let mut client = database.client();
    let without = plan(&mut client, RANKING);
    assert_eq!(number(&without, "Workers Planned"), None, "{without}");
    let serial = column(&mut client, RANKING);
    assert_eq!(serial.len(), 10);

    client
        .batch_execute("ALTER TABLE passages SET (parallel_workers = 2)")
        .expect("the owner may say so");
    let with = plan(&mut client, RANKING);
    assert_eq!(number(&with, "Workers Planned"), Some(2.0), "{with}");
    let scan = with
        .split("\"Node Type\"")
        .find(|node| node.contains("\"Relation Name\": \"passages\""))
        .unwrap_or_else(|| panic!("no scan of the table: {with}"));
    assert!(scan.contains("\"Parallel Aware\": true"), "{scan}");
    assert_eq!(column(&mut client, RANKING), serial);
}

#[test]
fn a_parallel_sum_of_scores_agrees_with_the_serial_one() {
    const SUM: &str =
        "SELECT sum(maxsim(embedding, (SELECT embedding FROM queries))) FROM passages";
    let database = Cluster::shared().database();
    passages(&database, "passages", 500, 140);
    query(&database);
    database.run("ALTER TABLE passages SET (parallel_workers = 2)");
    let mut client = database.client();
    // Costs aside: the rows are few, and what counts is that workers take part.
    client
        .batch_execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0")
        .expect("a session may say so");
    let analysed = column(
        &mut client,
        &format!("EXPLAIN (ANALYZE, FORMAT json) {SUM}"),
    )
    .join("\n");
    assert!(
        analysed.contains("\"Workers Launched\": 2")
            || analysed.contains("\"Workers Launched\": 1"),
        "{analysed}"
    );
    let parallel: f64 = column(&mut client, SUM)[0].parse().expect("a number");
    client
        .batch_execute("SET max_parallel_workers_per_gather = 0")
        .expect("a session may say so");
    let serial: f64 = column(&mut client, SUM)[0].parse().expect("a number");
    assert!(serial.abs() > 1.0, "{serial}");
    // Only the order of summation differs.
    assert!(
        (parallel - serial).abs() <= 1e-9 * serial.abs(),
        "{parallel} and {serial}"
    );
}

/// What the planner takes one score of this document expression to cost.
fn cost_of_a_score(client: &mut Client, document: &str, table: &str, rows: f64) -> f64 {
    let statement = format!("SELECT {document} @# (SELECT embedding FROM queries) FROM {table}");
    let scored = plan(client, &statement);
    let bare = plan(client, &format!("SELECT id FROM {table}"));
    let total = |plan: &str| number(plan, "Total Cost").expect("a plan has a cost");
    (total(&scored) - total(&bare)) / rows
}

#[test]
fn a_score_costs_more_the_larger_its_documents_are() {
    let database = Cluster::shared().database();
    passages(&database, "passages", 200, 180);
    passages(&database, "pages", 200, 1030);
    query(&database);
    let mut client = database.client();
    let mut cost =
        |document: &str, table: &str| cost_of_a_score(&mut client, document, table, 200.0);
    let (passage, page) = (cost("embedding", "passages"), cost("embedding", "pages"));
    // 46 KB are 6 pages of TOAST or more, and 264 KB are 33 or more, at seq_page_cost = 1 each.
    assert!((6.0..9.0).contains(&passage), "{passage} per passage");
    assert!((33.0..45.0).contains(&page), "{page} per page");
    for cast in [
        "embedding::multivector(128)",
        "embedding::real[]::multivector",
        "(embedding::multivector)",
    ] {
        let with_cast = cost(cast, "pages");
        assert!(
            (page..page + 5.0).contains(&with_cast),
            "{with_cast} of {cast}"
        );
    }
}

#[test]
fn a_score_of_heirs_and_partitions_costs_their_documents_on_average() {
    let database = Cluster::shared().database();
    passages(&database, "passages", 200, 180);
    passages(&database, "pages", 200, 1030);
    query(&database);
    let mut client = database.client();
    // The columns' numbers are others than in the tables below.
    client
        .batch_execute(
            "SET max_parallel_workers_per_gather = 0;
            CREATE TABLE parent (embedding multivector(128, f16), id bigint);
            ALTER TABLE passages INHERIT parent;
            ALTER TABLE pages INHERIT parent;
            ANALYZE parent",
        )
        .expect("tables of the same columns");
    let average = |cost: f64| (19.5..27.0).contains(&cost);
    let of_heirs = cost_of_a_score(&mut client, "embedding", "parent", 400.0);
    assert!(average(of_heirs), "{of_heirs} per heir");

    client
        .batch_execute(
            "ALTER TABLE passages NO INHERIT parent;
            ALTER TABLE pages NO INHERIT parent;
            UPDATE pages SET id = id + 1000;
            CREATE TABLE parted (embedding multivector(128, f16), id bigint NOT NULL) PARTITION BY RANGE (id);
            CREATE TABLE upper (embedding multivector(128, f16), id bigint NOT NULL) PARTITION BY RANGE (id);
            ALTER TABLE parted ATTACH PARTITION passages FOR VALUES FROM (0) TO (1000);
            ALTER TABLE upper ATTACH PARTITION pages FOR VALUES FROM (1000) TO (2000);
            ALTER TABLE parted ATTACH PARTITION upper FOR VALUES FROM (1000) TO (2000);
            ANALYZE parted",
        )
        .expect("tables of the same columns");
    // Sorting by the score is done above the partitions.
    let sorted = plan(
        &mut client,
        "SELECT id FROM parted ORDER BY embedding @# (SELECT embedding FROM queries)",
    );
    let bare = plan(&mut client, "SELECT id FROM parted ORDER BY id + 1");
    let total = |plan: &str| number(plan, "Total Cost").expect("a plan has a cost");
    let of_partitions = (total(&sorted) - total(&bare)) / 400.0;
    assert!(
        average(of_partitions),
        "{of_partitions} per row of partitions"
    );
    // Partitions that are not looked at do not count.
    let statement = "SELECT id FROM parted WHERE id < 1000 ORDER BY embedding @# (SELECT embedding FROM queries)";
    let of_small = total(&plan(&mut client, statement)) / 200.0;
    assert!((6.0..9.0).contains(&of_small), "{of_small} per passage");
}

/// The index that a plan's topmost scan goes by, or the kind of its scan where it goes by none.
fn way(client: &mut Client, statement: &str) -> String {
    let plan = plan(client, statement);
    let index = plan.split_once("\"Index Name\": \"").map(|(_, rest)| rest);
    match index.filter(|rest| rest.starts_with("documents")) {
        Some(rest) => rest
            .split('"')
            .next()
            .expect("a name ends with a quote")
            .to_owned(),
        None => "no index".to_owned(),
    }
}

const LITTLE: &str = "SELECT id FROM documents ORDER BY embedding @# (SELECT embedding::real[] FROM queries) LIMIT 10";

#[test]
fn the_index_is_taken_where_it_is_cheaper_and_left_where_it_is_not() {
    let database = Cluster::shared().database();
    query(&database);
    passages(&database, "documents", 50, 100);
    let mut client = database.client();
    let index = |client: &mut Client| {
        client
            .batch_execute(
                "DROP INDEX IF EXISTS documents_embedding_idx;
                CREATE INDEX ON documents USING maxsim (embedding);
                ANALYZE documents",
            )
            .expect("a table of passages can be indexed");
    };
    index(&mut client);
    assert_eq!(
        way(&mut client, LITTLE),
        "no index",
        "50 documents are ranked sooner than searched"
    );

    client
        .batch_execute("DROP TABLE documents")
        .expect("it is ours");
    passages(&database, "documents", 3000, 100);
    index(&mut client);
    client
        .batch_execute(
            "ALTER TABLE documents ADD COLUMN tenant integer;
            UPDATE documents SET tenant = id % 1000;
            CREATE INDEX documents_tenant ON documents (tenant)",
        )
        .expect("it is ours");
    client
        .batch_execute("VACUUM ANALYZE documents")
        .expect("it is ours");
    assert_eq!(way(&mut client, LITTLE), "documents_embedding_idx");
    let everything = LITTLE.replace("LIMIT 10", "");
    assert_eq!(
        way(&mut client, &everything),
        "no index",
        "a ranking of all documents is a sort"
    );
    let of_a_tenant = LITTLE.replace("ORDER BY", "WHERE tenant = 7 ORDER BY");
    assert_eq!(
        way(&mut client, &of_a_tenant),
        "documents_tenant",
        "three documents are scored sooner than searched for"
    );
    let of_most = LITTLE.replace("ORDER BY", "WHERE tenant > 100 ORDER BY");
    assert_eq!(way(&mut client, &of_most), "documents_embedding_idx");
    let without_order = "SELECT id FROM documents WHERE embedding IS NOT NULL LIMIT 10";
    assert_eq!(way(&mut client, without_order), "no index");
}

#[test]
fn a_condition_that_the_search_asks_itself_is_cheap_in_its_estimate() {
    let database = Cluster::shared().database();
    query(&database);
    passages(&database, "documents", 3000, 100);
    database.run(
        "ALTER TABLE documents ADD COLUMN tenant integer, ADD COLUMN grade integer;
        UPDATE documents SET tenant = id % 1000, grade = id % 100;
        CREATE INDEX ON documents USING maxsim (embedding)",
    );
    database.run("VACUUM ANALYZE documents");
    let mut client = database.client();
    // The search asks plain conditions itself, which need no index of their own. It pays down to some percent: the exact
    // scores of fewer documents are cheaper than the answers of those that fail.
    for (condition, wanted) in [
        ("grade < 50", "documents_embedding_idx"),
        ("grade < 25 AND tenant <> 3", "documents_embedding_idx"),
        ("grade = 7", "no index"),
    ] {
        let statement = LITTLE.replace("ORDER BY", &format!("WHERE {condition} ORDER BY"));
        assert_eq!(way(&mut client, &statement), wanted, "{condition}");
    }
    // One that is not asked first, here for being volatile, is paid for by each row that fails it.
    client
        .batch_execute("SET enable_sort = off")
        .expect("a session may say so");
    let cost = |client: &mut Client, condition: &str| {
        let statement = LITTLE.replace("ORDER BY", &format!("WHERE {condition} ORDER BY"));
        number(&plan(client, &statement), "Total Cost").expect("a plan has a cost")
    };
    let first = cost(&mut client, "grade < 10");
    let later = cost(&mut client, "grade < 10 AND random() < 2");
    assert!(
        6.0 * first < later,
        "{first} where it is asked first, {later} where not"
    );
}
