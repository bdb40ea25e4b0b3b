//! The cache of query embeddings and what the planner makes of the functions: how many requests a ranking costs, what
//! distinguishes two entries, how much memory they take, and parallel plans.

use cluster_tests::{Backend, Stage};
use mock_infinity::Model;
use postgres::Client;

fn run(client: &mut Client, statements: &str) {
    client
        .batch_execute(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// A table of fifty embedded rows, made by one statement.
fn ranked(stage: &Stage) -> Client {
    let mut client = stage.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         INSERT INTO docs SELECT n, e FROM infinity_embed_texts(
             (SELECT array_agg('topic ' || i ORDER BY i) FROM generate_series(1, 50) i)
         ) WITH ORDINALITY AS t(e, n);
         ANALYZE docs",
    );
    stage.server.clear_requests();
    client
}

const BARE: &str =
    "SELECT id FROM docs ORDER BY embedding @# infinity_embed_text('topic 17') LIMIT 3";

#[test]
fn a_bare_order_by_over_fifty_rows_makes_one_request() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = ranked(&stage);
    let best: i32 = client.query(BARE, &[]).unwrap()[0].get(0);
    assert_eq!(best, 17);
    assert_eq!(stage.batches(), [1]);
}

#[test]
fn without_the_cache_it_makes_one_per_row_and_a_subselect_one_in_all() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = ranked(&stage);
    run(&mut client, "SET infinity_embed.cache_size = 0");
    let best: i32 = client.query(BARE, &[]).unwrap()[0].get(0);
    assert_eq!(best, 17);
    assert_eq!(stage.batches(), [1; 50]);
    stage.server.clear_requests();
    let subselect = BARE.replace(
        "infinity_embed_text('topic 17')",
        "(SELECT infinity_embed_text('topic 17'))",
    );
    let best: i32 = client.query(&subselect, &[]).unwrap()[0].get(0);
    assert_eq!(best, 17);
    assert_eq!(stage.batches(), [1]);
}

#[test]
fn what_decides_the_vectors_makes_another_entry() {
    let mut options = mock_infinity::Options::new(Model::lite("one"));
    options.models.push(Model::lite("two"));
    let stage = Stage::with_options(options);
    let other = Stage::new(Model::lite("one"));
    let mut client = stage.client();
    // Both models' dimensions are learnt before counting.
    run(&mut client, "SELECT infinity_embed_text('warm', 'two')");
    let mut misses = |statements: &str, call: &str| {
        stage.server.clear_requests();
        run(&mut client, statements);
        run(&mut client, call);
        run(&mut client, call);
        stage.requests().len()
    };
    let call = "SELECT infinity_embed_text('q')";
    assert_eq!(misses("", call), 1);
    assert_eq!(misses("", "SELECT infinity_embed_text('Q')"), 1);
    assert_eq!(misses("SET infinity_embed.normalize = on", call), 1);
    assert_eq!(misses("SET infinity_embed.hidden_dim = 0", call), 1);
    assert_eq!(misses("SET infinity_embed.model_name = 'two'", call), 1);
    // Back where it began, the entry is still there; the argument and the setting are the same thing.
    let back = "RESET infinity_embed.normalize; RESET infinity_embed.hidden_dim; SET infinity_embed.model_name = 'two'";
    assert_eq!(misses(back, "SELECT infinity_embed_text('q', 'one')"), 0);
    assert_eq!(misses("RESET infinity_embed.model_name", call), 0);
    // What only decides how the vectors travel does not.
    assert_eq!(misses("SET infinity_embed.encoding = 'float'", call), 0);
    let url = format!("SET infinity_embed.url = '{}'", other.server.url());
    assert_eq!(misses(&url, call), 0);
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn an_error_is_not_kept() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    stage.server.inject(
        mock_infinity::Fault::Status { status: 422 },
        mock_infinity::Times::Once,
    );
    let call = "SELECT infinity_embed_text('q')";
    assert!(client.batch_execute(call).is_err());
    run(&mut client, call);
    assert_eq!(stage.requests().len(), 2);
}

#[test]
fn the_memory_of_the_cache_is_bounded_and_the_latest_entries_stay() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let backend = Backend::of(&mut client);
    // The planner would compile the query just in time, and the compiler alone takes 75 MB.
    run(
        &mut client,
        "SET jit = off; SET infinity_embed.cache_size = '1MB'",
    );
    // About 16 kB each, so that a megabyte holds about sixty.
    let fill = |client: &mut Client, from: i32, to: i32| {
        run(
            client,
            &format!(
                "SELECT count(infinity_embed_text(repeat('w ', 29) || i)) FROM generate_series({from}, {to}) i"
            ),
        );
    };
    fill(&mut client, 1, 300);
    let before = backend.resident_memory();
    fill(&mut client, 301, 2_300);
    let after = backend.resident_memory();
    // Unbounded, two thousand of them would take 32 MB.
    assert!(
        after < before + 8 * 1024 * 1024,
        "{before} bytes before, {after} after"
    );
    stage.server.clear_requests();
    fill(&mut client, 2_261, 2_300);
    assert_eq!(stage.requests().len(), 0, "the latest forty are not there");
    fill(&mut client, 1, 1);
    assert_eq!(stage.requests().len(), 1, "the oldest is still there");
    // A smaller limit takes effect at once.
    run(&mut client, "SET infinity_embed.cache_size = '64kB'");
    stage.server.clear_requests();
    fill(&mut client, 2_261, 2_300);
    assert_eq!(stage.requests().len(), 40);
}

#[test]
fn a_ranking_runs_in_parallel_workers_while_the_leader_embeds() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = ranked(&stage);
    run(
        &mut client,
        "INSERT INTO docs SELECT id + 50 * i, embedding FROM docs, generate_series(1, 19) i;
         ALTER TABLE docs SET (parallel_workers = 2);
         SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query'); SET parallel_leader_participation = off",
    );
    let query =
        "SELECT id % 50, maxsim(embedding, (SELECT infinity_embed_text('topic 17'))) AS score
                 FROM docs ORDER BY score DESC, id LIMIT 20";
    let plan: String = client
        .query(
            &format!("EXPLAIN (ANALYZE, VERBOSE, COSTS off) {query}"),
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get::<_, String>(0) + "\n")
        .collect();
    assert!(plan.contains("Workers Launched: 2"), "{plan}");
    let gather = plan.find("Gather").expect("a Gather node");
    let scored = plan.rfind("maxsim").expect("the score in the plan");
    assert!(scored > gather, "maxsim is above the Gather:\n{plan}");
    // The leader has embedded the question once, for all workers.
    assert_eq!(stage.batches(), [1]);
    let rows = client.query(query, &[]).unwrap();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row.get::<_, i32>(0) == 17));
    // A query in the target list of a forced parallel plan stays with the leader.
    run(
        &mut client,
        "SELECT infinity_embed_text('another'), count(*) FROM docs",
    );
}
