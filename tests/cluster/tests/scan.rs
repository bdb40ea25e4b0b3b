//! Long scans end when PostgreSQL says so, and corrupt documents end a statement, never a server.

use std::time::{Duration, Instant};

use cluster_tests::{Backend, Cluster, Database, database_error};
use postgres::Client;

/// f16, 180 tokens x 128 components, each 46 KB in TOAST: about half a second of scoring, ten times the timeout.
const PASSAGES: u32 = 20_000;
const TRIES: usize = 100;
const TIMEOUT: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

#[test]
fn a_statement_timeout_ends_a_scan_of_20000_passages_within_20_ms() {
    let cluster = Cluster::start_new(&[("shared_buffers", "256MB"), ("autovacuum", "off")]);
    let database = cluster.database();
    let mut client = many_passages(&database);
    client
        .batch_execute("SET max_parallel_workers_per_gather = 0; SET statement_timeout = '50ms'")
        .expect("a session may say so");
    let ranking =
        "SELECT id FROM passages ORDER BY embedding @# (SELECT embedding FROM queries) LIMIT 10";
    let (mut late, mut control) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        late.push(lateness(&mut client, ranking));
        // What PostgreSQL itself can end at once, but which wants a processor as much as a scan does.
        control.push(lateness(&mut client, "DO 'BEGIN LOOP END LOOP; END'"));
    }
    let ([p50, p95, max], [control_p50, control_p95, control_max]) =
        (percentiles(late), percentiles(control));
    println!(
        "after the timeout: p50 {p50:.1?}, p95 {p95:.1?}, max {max:.1?}; \
        an empty loop: p50 {control_p50:.1?}, p95 {control_p95:.1?}, max {control_max:.1?}"
    );
    // On a machine whose processors are taken, an empty loop ends late as well: that much is not the scan's.
    assert!(p95 <= PATIENCE + control_p95, "p95 {p95:?}");
    assert!(max <= LONGEST + control_max, "max {max:?}");
}

#[test]
fn explaining_and_pooling_a_long_value_obey_the_timeout() {
    let database = Cluster::shared().database();
    let mut client = database.client();
    client
        .batch_execute(
            "CREATE TABLE long AS SELECT array_agg(array_fill(random()::real, ARRAY[128]))::multivector AS value
             FROM generate_series(1, 20000);
             SET statement_timeout = '50ms'",
        )
        .expect("a long value can be made");
    for statement in [
        "SELECT count(*) FROM long, maxsim_explain(value, value)",
        "SELECT multivector_pool(value, 2) FROM long",
    ] {
        let late = lateness(&mut client, statement);
        println!("{statement}: {late:.1?} after the timeout");
        assert!(late <= LONGEST, "{statement}: {late:?}");
    }
}

/// How long after the timeout the statement's error arrives.
fn lateness(client: &mut Client, statement: &str) -> Duration {
    let start = Instant::now();
    let result = client.batch_execute(statement);
    let elapsed = start.elapsed();
    let error = database_error(result);
    assert_eq!(error.code().code(), "57014", "{error:?}");
    elapsed.saturating_sub(TIMEOUT)
}

/// The median, the 95th percentile and the maximum of 100.
fn percentiles(mut samples: Vec<Duration>) -> [Duration; 3] {
    samples.sort();
    [
        samples[TRIES / 2 - 1],
        samples[TRIES * 95 / 100 - 1],
        samples[TRIES - 1],
    ]
}

/// A session with a table of passages and a query. What lies in them does not matter for time: 10 differ.
fn many_passages(database: &Database<'_>) -> Client {
    let mut client = database.client();
    client
        .batch_execute(&format!(
            "SELECT setseed(0.5);
            CREATE UNLOGGED TABLE passages (id bigserial, embedding multivector(128, f16));
            INSERT INTO passages (embedding)
                WITH documents AS MATERIALIZED (
                    SELECT multivector_agg(token)::multivector(128, f16) AS embedding FROM (
                        SELECT document, array_agg((random() - 0.5)::real) AS token
                        FROM generate_series(1, 10) AS document, generate_series(1, 180) AS row,
                            generate_series(1, 128) AS component
                        GROUP BY document, row) AS tokens
                    GROUP BY document)
                SELECT embedding FROM documents, generate_series(1, {PASSAGES} / 10);
            CREATE TABLE queries AS SELECT multivector_slice(embedding, 1, 32) AS embedding FROM passages LIMIT 1"
        ))
        .expect("passages can be made");
    let rows: i64 = client
        .query_one("SELECT count(*) FROM passages", &[])
        .expect("a table")
        .get(0);
    assert_eq!(rows, i64::from(PASSAGES));
    client
}

/// What is done with a corrupt value, in SQL; `{}` stands for it.
const USES: [&str; 22] = [
    "maxsim({}, '[[1,2,3,4],[5,6,7,8]]'::multivector)",
    "maxsim({}, '{{1,2,3,4}}'::real[])",
    "maxsim('[[1,2,3,4]]'::multivector, {})",
    "maxsim({}, {})",
    "{} @# '[[1,2,3,4]]'::multivector",
    "maxsim_normalized({}, '[[1,2,3,4]]'::multivector)",
    "maxsim_explain({}, '[[1,2,3,4]]'::multivector)",
    "{}::text",
    "infinity_embed.multivector_send({})",
    "multivector_dims({})",
    "multivector_tokens({})",
    "multivector_element_type({})",
    "multivector_normalize({})",
    "multivector_slice({}, 1, 1)",
    "multivector_mean({})",
    "multivector_pool({}, 2)",
    "multivector_unnest({})",
    "{} = {} AND NOT {} <> {}",
    "infinity_embed.multivector_hash({})",
    "{}::real[]",
    "{}::double precision[]",
    "{}::multivector(4, int8)",
];

#[test]
fn corrupt_documents_are_data_corruption_or_harmless_and_never_a_crash() {
    let cluster = Cluster::start_new(&[]);
    let database = cluster.database();
    let mut client = database.client();
    let server = Backend::of(&mut client);
    let sound = sound_values(&mut client);
    let corrupt: Vec<Vec<u8>> = sound.iter().flat_map(|value| corruptions(value)).collect();
    let places = store(&mut client, &corrupt);
    let outcomes = client
        .prepare("SELECT usage, outcome($1, usage) FROM unnest($2::text[]) AS usage")
        .expect("the function was made");
    let (mut refused, mut read) = (0, 0);
    for (value, place) in corrupt.iter().zip(&places) {
        let rows = client.query(&outcomes, &[place, &USES.as_slice()]);
        // The server's end is the end of the session.
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error:?}", shown(value)));
        let is_unreadable = |usage: &str| {
            rows.iter()
                .any(|row| row.get::<_, &str>(0) == usage && row.get::<_, &str>(1) == "XX001")
        };
        // What cannot be read is not scored either.
        for usage in USES.iter().filter(|usage| usage.contains("maxsim")) {
            assert!(
                !is_unreadable("{}::real[]") || is_unreadable(usage),
                "{usage} takes {}",
                shown(value)
            );
        }
        for row in &rows {
            match row.get(1) {
                "XX001" => refused += 1,
                // Huge numbers are sound ones, but their products overflow.
                "00000" | "22003" => read += 1,
                state => panic!("{state} for {} of {}", row.get::<_, &str>(0), shown(value)),
            }
        }
    }
    client
        .batch_execute("ANALYZE corrupt; SELECT count(DISTINCT value::text) FROM corrupt LIMIT 0")
        .expect("statistics and plans read no elements");
    println!(
        "{} values: {refused} uses refused, {read} read",
        corrupt.len()
    );
    assert!(refused > 5 * corrupt.len(), "{refused} refused");
    assert!(server.is_alive());
    let log = cluster.log();
    let crash = log
        .lines()
        .find(|line| line.contains("terminated by signal") || line.contains("PANIC"));
    assert_eq!(crash, None);
}

/// A value's length and first bytes.
fn shown(value: &[u8]) -> String {
    format!(
        "{} bytes, {:02x?}",
        value.len(),
        &value[..value.len().min(64)]
    )
}

/// The stored bytes of sound values: every element type, in one row and in TOAST.
fn sound_values(client: &mut Client) -> Vec<Vec<u8>> {
    client
        .batch_execute(
            "CREATE TABLE sound (value multivector);
            INSERT INTO sound
                SELECT (CASE element
                    WHEN 1 THEN embedding::multivector(4, f32)
                    WHEN 2 THEN embedding::multivector(4, f16)
                    WHEN 3 THEN embedding::multivector(4, int8)
                    ELSE embedding::multivector(4, bit) END)::multivector
                FROM (
                    SELECT tokens, multivector_agg(ARRAY[sin(row), cos(row), sin(2 * row), cos(3 * row)]::real[] ORDER BY row) AS embedding
                    FROM (VALUES (3), (300)) AS sizes(tokens), generate_series(1, tokens) AS row GROUP BY tokens) AS documents,
                    generate_series(1, 4) AS element",
        )
        .expect("sound values can be stored");
    retype(client, "sound", "bytea", 'i');
    let rows = client
        .query("SELECT value FROM sound", &[])
        .expect("bytea can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Every single bit of the header flipped and each of its bytes inverted; lengths that do not fit; NaN, infinity and all
/// ones in every element of the first tokens.
fn corruptions(sound: &[u8]) -> Vec<Vec<u8>> {
    const HEADER_BYTES: usize = 12;
    let mut corrupt = Vec::new();
    let mut put = |at: usize, bytes: &[u8]| {
        if at + bytes.len() <= sound.len() {
            let mut changed = sound.to_vec();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            corrupt.push(changed);
        }
    };
    for (at, byte) in sound[..HEADER_BYTES].iter().enumerate() {
        for mask in (0..8).map(|bit| 1 << bit).chain([0xFF]) {
            put(at, &[byte ^ mask]);
        }
    }
    for at in (HEADER_BYTES..HEADER_BYTES + 32).step_by(4) {
        for wrong in [f32::NAN, f32::INFINITY, -1.0e38] {
            put(at, &wrong.to_le_bytes());
        }
        // NaN and infinity as f16, and a NaN with all bits set.
        for wrong in [[0x00, 0x7E], [0x00, 0xFC], [0xFF, 0xFF]] {
            put(at, &wrong);
        }
    }
    let shorter = (0..HEADER_BYTES + 2).chain([sound.len() - 4, sound.len() - 1]);
    corrupt.extend(shorter.map(|len| sound[..len].to_vec()));
    for more in [1, 4, 8, 4096] {
        corrupt.push([sound, &vec![0; more]].concat());
    }
    corrupt
}

/// Stores bytes as they are in a column that is of type multivector afterwards; returns each row's place. Makes the
/// function `outcome(place, usage)`, which uses the value there and says with which SQLSTATE that ended.
fn store(client: &mut Client, values: &[Vec<u8>]) -> Vec<String> {
    client
        .batch_execute(
            "CREATE TABLE corrupt (value bytea);
            ALTER TABLE corrupt ALTER value SET STORAGE external;
            CREATE FUNCTION outcome(place text, usage text) RETURNS text LANGUAGE plpgsql AS $$
            BEGIN
                EXECUTE format('SELECT count(used::text) FROM (SELECT %s AS used FROM corrupt WHERE ctid = %L::tid) AS t',
                    replace(usage, '{}', 'value'), place);
                RETURN '00000';
            EXCEPTION WHEN OTHERS THEN
                RETURN SQLSTATE;
            END $$",
        )
        .expect("a table of one column and a function");
    let places = values
        .iter()
        .map(|value| {
            client
                .query_one(
                    "INSERT INTO corrupt VALUES ($1) RETURNING ctid::text",
                    &[value],
                )
                .expect("bytea takes any bytes")
                .get(0)
        })
        .collect();
    retype(client, "corrupt", "multivector", 'd');
    places
}

/// Gives a table's only column another type without touching its rows, as no SQL command does. A single column starts
/// where a row's data starts, which suits every alignment.
fn retype(client: &mut Client, table: &str, name: &str, align: char) {
    let changed = client
        .execute(
            &format!(
                "UPDATE pg_attribute SET atttypid = '{name}'::regtype, attalign = '{align}'
                WHERE attrelid = '{table}'::regclass AND attname = 'value'"
            ),
            &[],
        )
        .expect("a superuser may damage the catalogs");
    assert_eq!(changed, 1);
}
