//! The access method `maxsim` under several sessions, old snapshots, cancels, crashes and damage. What it finds is compared
//! with the exact order, which is the same query without the index. INFINITY_EMBED_LONG makes what is short here long.

mod cancels;
mod conditions;
mod crash;
mod damage;
mod definitions;
mod long_documents;
mod order;
mod plans;

mod standby;
mod stress;
mod training;
mod transactions;
mod versions;

use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_tests::{Cluster, Database};
use postgres::Client;

const BOUND: Duration = Duration::from_secs(60);

/// Whether this is a run that may take minutes.
fn is_long() -> bool {
    std::env::var_os("INFINITY_EMBED_LONG").is_some()
}

/// xorshift64*: the same documents in every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.end - range.start)
    }

    /// A document or a query, as the text of a real[].
    fn document(&mut self, tokens: usize, dim: usize) -> String {
        let rows: Vec<String> = (0..tokens)
            .map(|_| {
                let values: Vec<String> = (0..dim)
                    .map(|_| format!("{:.3}", self.below(2001) as f64 / 1000.0 - 1.0))
                    .collect();
                format!("{{{}}}", values.join(","))
            })
            .collect();
        format!("{{{}}}", rows.join(","))
    }
}

/// Copies documents into a table of columns `id` and `embedding`.
fn copy(
    client: &mut Client,
    table: &str,
    ids: Range<usize>,
    tokens: Range<usize>,
    dim: usize,
    random: &mut Random,
) -> Result<(), postgres::Error> {
    let mut writer = client.copy_in(&format!("COPY {table} (id, embedding) FROM STDIN"))?;
    for id in ids {
        let count = random.of(tokens.clone());
        writeln!(writer, "{id}\t{}", random.document(count, dim)).expect("the server takes it");
    }
    writer.finish().map(drop)
}

/// Ends what others do, also when a check fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A session with a table `docs (id, note, embedding real[])` of so many documents of `dim` dimensions; no index.
fn docs(database: &Database<'_>, rows: usize, tokens: Range<usize>, dim: usize) -> Client {
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int PRIMARY KEY, note text, embedding real[])",
    );
    copy(
        &mut client,
        "docs",
        0..rows,
        tokens,
        dim,
        &mut Random::new(rows as u64),
    )
    .expect("documents are copied");
    client
}

/// Makes the function `doubled(document, times)`, which appends a document to itself: a long one need not be sent.
fn doubling(client: &mut Client) {
    run(
        client,
        "CREATE FUNCTION doubled(document real[], times int) RETURNS real[] LANGUAGE plpgsql IMMUTABLE AS $$
         BEGIN
            FOR time IN 1..times LOOP document := document || document; END LOOP;
            RETURN document;
         END $$",
    );
}

fn run(client: &mut Client, statements: &str) {
    if let Err(error) = client.batch_execute(statements) {
        panic!("{}: {error:?}", &statements[..statements.len().min(300)]);
    }
}

/// `infinity_embed.check_index()`: documents in the index, and rows of the table.
fn check(client: &mut Client, index: &str) -> (i64, i64) {
    let row = client
        .query_one(
            &format!("SELECT * FROM infinity_embed.check_index('{index}', content => true)"),
            &[],
        )
        .unwrap_or_else(|error| panic!("{index}: {error:?}"));
    (row.get(0), row.get(1))
}

/// Rows best first: number and distance.
type Ranking = Vec<(i32, f64)>;

/// By which plan rows are ranked, with which effort.
const EXACT: &str =
    "SET enable_indexscan = off; SET enable_seqscan = on; SET infinity_embed.search_effort = 3";
const INDEX: &str =
    "SET enable_indexscan = on; SET enable_seqscan = off; SET infinity_embed.search_effort = 3";
const WHOLE: &str = "SET enable_indexscan = on; SET enable_seqscan = off; SET infinity_embed.search_effort = 'Infinity'";

/// Runs a query of columns id and distance.
fn ranking(client: &mut Client, plan: &str, query: &str) -> Ranking {
    run(client, plan);
    let rows = client
        .query(query, &[])
        .unwrap_or_else(|error| panic!("{}: {error:?}", &query[..query.len().min(300)]));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Rows of `docs` that are not NULL, nearest to the query first.
fn nearest(query: &str, condition: &str) -> String {
    format!(
        "SELECT id, embedding @# '{query}'::real[] FROM docs WHERE embedding IS NOT NULL AND ({condition})
         ORDER BY embedding @# '{query}'::real[]"
    )
}

/// The index finds what the exact order finds: in that order with all effort, and all of it with little. Gives the share of
/// the best ten that it finds first with little.
fn agrees(client: &mut Client, query: &str) -> f64 {
    let (exact, found) = (ranking(client, EXACT, query), ranking(client, WHOLE, query));
    assert!(uses_index(client, query));
    // Not shown: they would be thousands of numbers.
    assert!(is_same(&exact, &found), "another ranking");
    let quick = ranking(client, INDEX, query);
    assert!(
        rows(&exact) == rows(&quick),
        "other rows with little effort"
    );
    let best = exact.len().min(10);
    let hits = quick[..best]
        .iter()
        .filter(|row| row.1 <= exact[best - 1].1);
    hits.count() as f64 / best.max(1) as f64
}

/// By number, then by distance.
fn rows(ranking: &Ranking) -> Ranking {
    let mut ranking = ranking.clone();
    ranking.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    ranking
}

/// The same rows in the same order, but for equal distances.
fn is_same(first: &Ranking, second: &Ranking) -> bool {
    let distances = |ranking: &Ranking| ranking.iter().map(|row| row.1).collect::<Vec<_>>();
    distances(first) == distances(second) && rows(first) == rows(second)
}

/// Whether the plan scans a maxsim index.
fn uses_index(client: &mut Client, query: &str) -> bool {
    let plan = client
        .query(&format!("EXPLAIN (COSTS OFF) {query}"), &[])
        .expect("a query has a plan");
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    plan.iter().any(|line| line.contains("Index Scan using"))
        && plan.iter().any(|line| line.contains("Order By: "))
}

/// The number of lists of an index: 0 before training.
fn lists(client: &mut Client, index: &str) -> i32 {
    client
        .query_one(
            &format!("SELECT lists FROM infinity_embed.index_info('{index}')"),
            &[],
        )
        .unwrap_or_else(|error| panic!("{index}: {error:?}"))
        .get(0)
}

fn shared() -> Database<'static> {
    Cluster::shared().database()
}
