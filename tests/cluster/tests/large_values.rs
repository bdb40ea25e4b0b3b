//! Work on one huge value ends when PostgreSQL says so, whatever is done with it.
//!
//! Each statement is cancelled again and again, each time three times as late as before, until it is done sooner; so every
//! part of its work is met by a cancel. What counts is the processor's time from there to the end: a busy machine is no excuse.

use std::thread;
use std::time::Duration;

use cluster_tests::{Backend, Cluster, Database, database_error};
use postgres::Client;

/// 128 MB as f32.
const TOKENS: u32 = 32_768;
const DIM: u32 = 1_024;
/// What an interrupt may wait, and PostgreSQL itself with the statement's end.
const PATIENCE: Duration = Duration::from_millis(50);

/// Expressions over a row of `long`.
const EXPRESSIONS: [&str; 20] = [
    "infinity_embed.multivector_out(passages)",
    "infinity_embed.multivector_in(textout(printed), 0, -1)",
    "infinity_embed.multivector_send(f32)",
    "f32::multivector(1024, f16)",
    "f32::multivector(1024, int8)",
    "f32::multivector(1024, bit)",
    "bit::multivector(1024, f32)",
    "f32::real[]",
    "f16::double precision[]",
    "reals::multivector",
    "reals::multivector(1024, int8)",
    "multivector_normalize(f32)",
    "multivector_normalize(bit)",
    "multivector_slice(int8, 1, 32768)",
    "multivector_mean(f32)",
    "multivector_pool(f32, 2)",
    "f32 = f32",
    "infinity_embed.multivector_hash(f32)",
    "maxsim(f32, multivector_slice(f32, 1, 64))",
    "(SELECT count(*) FROM maxsim_explain(f32, f32))",
];

#[test]
fn whatever_is_done_with_128_mb_ends_within_50_ms_of_a_cancel() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let mut client = database.client();
    let data = cluster.data().display().to_string();
    make_values(&database, &data);
    for expression in EXPRESSIONS {
        let statement = format!("SELECT ({expression}) IS NULL FROM long");
        let late = latest(&mut client, &statement);
        println!("{late:>10.1?} at most: {statement}");
        assert!(late <= PATIENCE, "{statement}: {late:?}");
    }
    // What PostgreSQL itself reads from a file is not ours.
    let mut copy = |table| {
        latest(
            &mut client,
            &format!("COPY {table} FROM '{data}/long' (FORMAT binary)"),
        )
    };
    let (late, own) = (copy("received"), copy("bytes"));
    println!("{late:>10.1?} at most: COPY, {own:.1?} of bytea");
    assert!(late <= PATIENCE + own, "{late:?}, of bytea {own:?}");
}

/// The longest that a statement worked on after a cancel. Cancels go on until it is done before one, or has met one at all
/// that its first second does.
fn latest(client: &mut Client, statement: &str) -> Duration {
    let mut latest = Duration::ZERO;
    for step in 0..5 {
        let delay = Duration::from_millis(10) * 3u32.pow(step);
        match lateness(client, statement, delay) {
            Some(late) => latest = latest.max(late),
            None => break,
        }
    }
    latest
}

/// How long the statement's process was on a processor between a cancel after this delay and the statement's end; `None`
/// where it ended by itself.
fn lateness(client: &mut Client, statement: &str, delay: Duration) -> Option<Duration> {
    let backend = Backend::of(client);
    thread::scope(|scope| {
        let running = scope.spawn(|| client.batch_execute(statement));
        thread::sleep(delay);
        // What a cancel sends in the end.
        backend.signal("INT");
        let cancelled = backend.processor_time();
        let result = running.join().expect("the thread does not panic");
        if result.is_ok() {
            return None;
        }
        let error = database_error(result);
        assert_eq!(error.code().code(), "57014", "{statement}: {error:?}");
        Some(backend.processor_time() - cancelled)
    })
}

fn make_values(database: &Database<'_>, data: &str) {
    database.run(&format!(
        "CREATE UNLOGGED TABLE long (reals real[], f32 multivector, f16 multivector, int8 multivector, bit multivector,
            passages multivector, printed text);
        ALTER TABLE long ALTER reals SET STORAGE external, ALTER printed SET STORAGE external;
        INSERT INTO long
            SELECT reals, reals::multivector, reals::multivector({DIM}, f16), reals::multivector({DIM}, int8),
                reals::multivector({DIM}, bit), multivector_slice(reals::multivector, 1, 4096)
            FROM (SELECT array_agg(array_fill(random()::real, ARRAY[{DIM}])) AS reals FROM generate_series(1, {TOKENS})) AS made;
        UPDATE long SET printed = passages::text;
        COPY (SELECT f32 FROM long) TO '{data}/long' (FORMAT binary);
        CREATE UNLOGGED TABLE received (value multivector);
        CREATE UNLOGGED TABLE bytes (bytes bytea);
        ALTER TABLE bytes ALTER bytes SET STORAGE external;
        COPY bytes FROM '{data}/long' (FORMAT binary)"
    ));
}
