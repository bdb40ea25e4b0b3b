//! Work on one huge value ends when PostgreSQL says so, whatever is done with it.
//!
//! Each statement gets a timeout again and again, each three times as long as the one before, until it is done sooner; so
//! every part of its work is met by one of them.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Database, database_error};
use postgres::Client;

/// 128 MB as f32.
const TOKENS: u32 = 32_768;
const DIM: u32 = 1_024;
/// What an interrupt may wait, and PostgreSQL itself with the statement's end.
const PATIENCE: Duration = Duration::from_millis(50);
/// So often a late end is tried again: a busy machine is late at times, work without a look at interrupts always.
const TRIES: usize = 4;

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
fn whatever_is_done_with_128_mb_ends_within_50_ms_of_a_timeout() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let mut client = database.client();
    let data = cluster.data().display().to_string();
    make_values(&database, &data);
    for expression in EXPRESSIONS {
        let statement = format!("SELECT ({expression}) IS NULL FROM long");
        check(
            &mut client,
            &statement,
            "SELECT count(sha256(bytes)) FROM bytes",
        );
    }
    // What PostgreSQL itself reads from a file is not ours.
    let copy = |table| format!("COPY {table} FROM '{data}/long' (FORMAT binary)");
    check(&mut client, &copy("received"), &copy("bytes"));
}

/// Runs a statement until it is done before the timeout, or the timeout has met all that its first second does.
fn check(client: &mut Client, statement: &str, control: &str) {
    let mut latest = Duration::ZERO;
    for step in 0..5 {
        let timeout = Duration::from_millis(10) * 3u32.pow(step);
        let Some(late) = least_lateness(client, statement, control, timeout) else {
            break;
        };
        assert!(late <= PATIENCE, "{statement}: {late:?} after {timeout:?}");
        latest = latest.max(late);
    }
    println!("{latest:>10.1?} at most: {statement}");
}

/// How late a statement ends after the timeout, at best; a late end is compared with its control's. `None` where the
/// statement is done sooner.
fn least_lateness(
    client: &mut Client,
    statement: &str,
    control: &str,
    timeout: Duration,
) -> Option<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..TRIES {
        let late = lateness(client, statement, timeout)?;
        let own = match late > PATIENCE {
            true => lateness(client, control, timeout).unwrap_or_default(),
            false => Duration::ZERO,
        };
        least = least.min(late.saturating_sub(own));
        if least <= PATIENCE {
            break;
        }
    }
    Some(least)
}

/// How long after the timeout the statement's error arrives.
fn lateness(client: &mut Client, statement: &str, timeout: Duration) -> Option<Duration> {
    client
        .batch_execute(&format!(
            "SET statement_timeout = '{}ms'",
            timeout.as_millis()
        ))
        .expect("a session may say so");
    let start = Instant::now();
    let result = client.batch_execute(statement);
    let elapsed = start.elapsed();
    if result.is_ok() {
        return None;
    }
    let error = database_error(result);
    assert_eq!(error.code().code(), "57014", "{statement}: {error:?}");
    Some(elapsed.saturating_sub(timeout))
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
