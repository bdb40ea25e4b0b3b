//! How soon building, searching, inserting (which may train) and vacuum obey: by statement timeouts at all times of their work.

use std::time::{Duration, Instant};

use cluster_tests::lift_timeout;
use postgres::Client;

use super::{INDEX, Random, copy, is_long, run, shared};

const PATIENCE: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(500);
const DIM: usize = 64;

/// Cancels of each kind of work.
fn tries() -> u32 {
    if is_long() { 100 } else { 20 }
}

/// How late `work` ends after timeouts spread evenly over the time that it takes; `again` makes it ready for the next.
fn lateness(client: &mut Client, what: &str, work: &str, again: &str) {
    // The second time tells: the first one also tidies up what is there.
    let mut whole = Duration::ZERO;
    for _ in 0..2 {
        run(client, again);
        let begin = Instant::now();
        run(client, work);
        whole = begin.elapsed();
    }
    let (mut late, mut control) = (Vec::new(), Vec::new());
    for number in 0..tries() {
        run(client, again);
        let timeout = 1 + u64::from(number) * whole.as_millis() as u64 / u64::from(tries());
        late.extend(cancelled(client, work, timeout));
        // What PostgreSQL itself can end at once, but which wants a processor as well.
        control.extend(cancelled(client, "DO 'BEGIN LOOP END LOOP; END'", 5));
    }
    let count = late.len();
    let ([p95, max], [control_p95, control_max]) = (percentiles(late), percentiles(control));
    println!(
        "{what} of {whole:.1?}, {count} cancels: p95 {p95:.1?}, max {max:.1?}; an empty loop: p95 {control_p95:.1?}, max {control_max:.1?}"
    );
    assert!(count >= tries() as usize / 4, "{what}: {count}");
    assert!(p95 <= PATIENCE + control_p95, "{what}: {p95:?}");
    assert!(max <= LONGEST + control_max, "{what}: {max:?}");
}

/// How long after the timeout the error arrives; nothing where the work was done before.
fn cancelled(client: &mut Client, work: &str, timeout_ms: u64) -> Option<Duration> {
    run(client, &format!("SET statement_timeout = {timeout_ms}"));
    let begin = Instant::now();
    let result = client.batch_execute(work);
    let elapsed = begin.elapsed();
    lift_timeout(client);
    let error = result.err()?;
    let code = error.code().expect("an error of the server").code();
    assert_eq!(code, "57014", "{error:?}");
    Some(elapsed.saturating_sub(Duration::from_millis(timeout_ms)))
}

/// The 95th percentile and the maximum.
fn percentiles(mut samples: Vec<Duration>) -> [Duration; 2] {
    samples.sort();
    [
        samples[(samples.len() * 95 / 100).max(1) - 1],
        samples[samples.len() - 1],
    ]
}

#[test]
fn build_search_insert_and_vacuum_obey_a_cancel_at_once() {
    let database = shared();
    let mut client = database.client();
    // Compiling a plan, which a switched-off sequential scan makes look worth it, takes 100 ms and cannot be cancelled.
    run(
        &mut client,
        "SET jit = off;
         CREATE TABLE docs (id int, embedding real[]) WITH (autovacuum_enabled = off);
         CREATE TABLE few (id int, embedding real[])",
    );
    let tokens = 90..110;
    copy(&mut client, "few", 0..100, tokens, DIM, &mut Random::new(1)).expect("documents");
    let fill = "INSERT INTO docs SELECT n, embedding FROM generate_series(1, 1590) AS n JOIN few ON few.id = n % 100";
    run(&mut client, fill);
    let build = "CREATE INDEX docs_index ON docs USING maxsim (embedding)";
    let search = "SELECT id FROM docs ORDER BY embedding @# (SELECT embedding FROM few WHERE id = 5) LIMIT 2000";
    let drop = "DROP INDEX IF EXISTS docs_index";
    // Untrained: the codes of all are read.
    run(&mut client, build);
    lateness(
        &mut client,
        "a search",
        &format!("{INDEX}; {search}"),
        "SELECT",
    );
    // With these it is trained.
    lateness(
        &mut client,
        "an insert that trains",
        "INSERT INTO docs SELECT id + 5000, embedding FROM few",
        &format!("DELETE FROM docs WHERE id >= 5000; {drop}; {build}"),
    );
    run(&mut client, "DELETE FROM docs WHERE id >= 5000");
    run(&mut client, &fill.replace("n,", "n + 10000,"));
    lateness(&mut client, "a build", build, drop);
    // Many short documents: vacuum looks at rows and pages, not at tokens.
    run(
        &mut client,
        "CREATE TABLE short (id int, embedding real[]) WITH (autovacuum_enabled = off);
         INSERT INTO short SELECT n, embedding[1:4] FROM generate_series(1, 35000) AS n JOIN few ON few.id = n % 100;
         CREATE INDEX ON short USING maxsim (embedding)",
    );
    lateness(
        &mut client,
        "a vacuum",
        "VACUUM (INDEX_CLEANUP on) short",
        "DELETE FROM short WHERE id % 4 = 0;
         INSERT INTO short SELECT n * 4, embedding[1:4] FROM generate_series(1, 8750) AS n JOIN few ON few.id = n % 100",
    );
}
