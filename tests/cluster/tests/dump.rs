//! What pg_dump and COPY write of multivectors comes back as the very bytes, in every form; what is none is refused.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use cluster_tests::{Cluster, Database, database_error};
use postgres::Client;

/// Every kind of place that a multivector can have in a database. `made` has 40 documents of 1 to 40 tokens, one of them NULL.
const OBJECTS: &str = "
    SELECT setseed(0.5);
    CREATE TABLE made AS
        SELECT id, CASE WHEN id <> 7 THEN (
            SELECT multivector_agg(ARRAY[random() - 0.3, random() - 0.5, exp(9 * random()), 0, random() / 1e9 * row]::real[])
            FROM generate_series(1, id) AS row) END AS value
        FROM generate_series(1, 40) AS id;

    CREATE DOMAIN page AS multivector(5, f16) CHECK (multivector_tokens(VALUE) <= 40);
    CREATE TYPE pair AS (plain multivector, sketch multivector(5, bit));
    CREATE TABLE typed (
        id bigint PRIMARY KEY, f32 multivector(5), f16 multivector(5, f16), int8 multivector(5, int8), bit multivector(5, bit),
        page page, pair pair, pages page[], any_array multivector[],
        defaulted multivector(2, bit) DEFAULT 'bit:[[1,2],[3,5]]', computed multivector DEFAULT multivector_slice('int8:[[0.1,3],[2,1]]', 1, 1),
        sketch multivector(5, bit) GENERATED ALWAYS AS (f32) STORED,
        pooled multivector GENERATED ALWAYS AS (multivector_pool(int8, 2)) STORED,
        CHECK (f16 <> 'f16:[[0,0,0,0,0]]'));
    INSERT INTO typed (id, f32, f16, int8, bit, page, pair, pages, any_array)
        SELECT id, value, value, value, value, value, ROW(value::multivector(5, f16), value)::pair, ARRAY[value, NULL, value]::page[],
            ARRAY[value, value::multivector(5, int8), value::multivector(5, bit)]
        FROM made;
    CREATE INDEX ON typed USING hash (int8);
    CREATE INDEX typed_f16 ON typed USING maxsim (f16) WITH (lists = 16);
    CREATE INDEX typed_sketch ON typed USING maxsim ((int8::multivector(5, bit))) WHERE id > 3;

    CREATE TABLE mixed (id bigint, value multivector);
    INSERT INTO mixed SELECT id, (CASE id % 4 WHEN 0 THEN value WHEN 1 THEN value::multivector(5, f16)
        WHEN 2 THEN value::multivector(5, int8) ELSE value::multivector(5, bit) END)::multivector FROM made;
    INSERT INTO mixed SELECT id + 100, multivector_normalize(value) FROM mixed;
    INSERT INTO mixed SELECT id + 200, multivector_slice(value, 1, 1) FROM mixed WHERE id <= 40;

    CREATE TABLE hashed (id bigint, value multivector) PARTITION BY HASH (value);
    CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE hashed_2 PARTITION OF hashed FOR VALUES WITH (MODULUS 3, REMAINDER 2);
    INSERT INTO hashed SELECT * FROM mixed;

    CREATE VIEW literal AS SELECT 'bit:[[1,2],[3,5]]'::multivector(2, bit) AS value;
    CREATE MATERIALIZED VIEW best AS SELECT id, value FROM mixed WHERE value @# '[[1,2,3,4,5]]'::multivector < -3";

/// All that is stored, in the form that binary clients see, with the element type and the partition; and what is indexed.
const CONTENTS: [&str; 6] = [
    "SELECT id, 'typed', concat_ws(' ', send(f32), send(f16), send(int8), send(bit), send(page), send((pair).plain), send((pair).sketch),
        send(pages[1]), send(pages[3]), send(any_array[1]), send(any_array[2]), send(any_array[3]), send(defaulted), send(computed),
        send(sketch), send(pooled)) FROM typed",
    "SELECT id, multivector_element_type(value), send(value) FROM mixed",
    "SELECT id, tableoid::regclass::text, send(value) FROM hashed",
    "SELECT 1, multivector_element_type(value), send(value) FROM literal",
    "SELECT id, multivector_element_type(value), send(value) FROM best",
    "SELECT documents, indexdef, rows FROM pg_indexes, infinity_embed.check_index(indexname::regclass, content => true)
        WHERE indexdef LIKE '%USING maxsim%'",
];
const SEND: &str =
    "CREATE FUNCTION pg_temp.send(value multivector) RETURNS text LANGUAGE sql STRICT
    RETURN encode(infinity_embed.multivector_send(value), 'hex')";

#[test]
fn dumps_of_every_form_come_back_as_the_same_bytes() {
    let database = Cluster::shared().database();
    database.run(OBJECTS);
    let before = contents(&database);
    let counts: Vec<usize> = before.iter().map(Vec::len).collect();
    assert_eq!(counts[..4], [40, 120, 120, 1]);
    assert!((1..120).contains(&counts[4]), "{counts:?}");
    assert_eq!(counts[5], 2);
    for (options, is_archive) in [
        (&["--format=plain"][..], false),
        (&["--format=plain", "--inserts"], false),
        (&["--format=plain", "--load-via-partition-root"], false),
        (&["--format=custom"], true),
    ] {
        let restored = restore(&database, options, is_archive);
        assert_eq!(contents(&restored), before, "{options:?}");
    }
}

#[test]
fn binary_copies_come_back_as_the_same_bytes() {
    let database = Cluster::shared().database();
    database.run(OBJECTS);
    let before = contents(&database);
    let mut client = database.client();
    for table in ["mixed", "hashed"] {
        let message = copy_out(&mut client, table);
        client
            .batch_execute(&format!("TRUNCATE {table}"))
            .expect("a table");
        copy_in(&mut client, table, &message).expect("what was copied out");
    }
    assert_eq!(contents(&database), before);
}

#[test]
fn binary_values_of_another_form_are_refused_by_their_sqlstate() {
    let database = Cluster::shared().database();
    database.run("CREATE TABLE one AS SELECT 'int8:[[1,2],[3,-4]]'::multivector(2, int8) AS value");
    let mut client = database.client();
    let message = copy_out(&mut client, "one");
    // Signature, flags, extension; the row's number of fields, and the field's length.
    const FIELD: usize = 19 + 2 + 4;
    for (at, bytes, code) in [
        (0, &[2][..], "22P03"),                       // version
        (1, &[9], "22P03"),                           // element type
        (1, &[1], "22P03"),                           // f32 would be longer
        (2, &[1], "22P03"),                           // reserved
        (4, &[0, 0, 0, 0], "22000"),                  // no dimension
        (4, &[0, 0, 0, 3], "22P03"),                  // more than there is
        (4, &[0, 0, 255, 255], "54000"),              // too many
        (8, &[0, 0, 0, 0], "22000"),                  // no token
        (8, &[255, 255, 255, 255], "54000"),          // too many
        (4, &[0, 0, 16, 0, 0, 0, 128, 0], "22P03"),   // 128 MB that are not there
        (4, &[0, 0, 62, 128, 0, 0, 128, 0], "54000"), // would be 2 GB decoded
        (12, &f32::NAN.to_be_bytes(), "22P03"),       // a scale
        (12, &(-1.0f32).to_be_bytes(), "22P03"),
        (20, &[0], "22P03"), // a code
    ] {
        let mut changed = message.clone();
        changed[FIELD + at..][..bytes.len()].copy_from_slice(bytes);
        let error = database_error(copy_in(&mut client, "one", &changed));
        assert_eq!(error.code().code(), code, "{bytes:?} at {at}: {error:?}");
    }
    copy_in(&mut client, "one", &message).expect("the message itself");
    let rows = client
        .query("SELECT DISTINCT value::text FROM one", &[])
        .expect("a table");
    assert_eq!(rows.len(), 1);
}

/// As docs/queue.md says of a role that is no superuser: it needs EXECUTE on the trigger function, and nothing else.
#[test]
fn a_role_restores_its_tables_with_the_queues_triggers() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE SCHEMA theirs AUTHORIZATION {owner};
         CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[]); ALTER TABLE theirs.docs OWNER TO {owner};
         INSERT INTO theirs.docs VALUES (1, 'one');
         SELECT infinity_embed.auto_embed('theirs.docs', 'body', 'embedding')"
    ));
    let script = dump(&database, &["--schema=theirs", "--format=plain"]);
    let script = String::from_utf8(script).expect("the dump is UTF-8");
    for is_granted in [false, true] {
        let copy = cluster.database();
        copy.run(&format!(
            "GRANT CREATE ON DATABASE {} TO {owner}; SELECT infinity_embed.allow('{owner}')",
            copy.name()
        ));
        if is_granted {
            copy.run(&format!(
                "GRANT EXECUTE ON FUNCTION infinity_embed.enqueue() TO {owner}"
            ));
        }
        let restored = copy.psql(&format!("\\connect - {owner}\n{script}"));
        let complaints = String::from_utf8_lossy(&restored.stderr).into_owned();
        let refused = complaints
            .matches("permission denied for function infinity_embed.enqueue")
            .count();
        let errors = complaints.matches("ERROR:").count();
        let expected = if is_granted { 0 } else { 4 };
        assert_eq!((refused, errors), (expected, expected), "{complaints}");
        let mut client = copy.client_as(&owner);
        client
            .batch_execute(
                "INSERT INTO theirs.docs VALUES (2, 'two');
                 SELECT infinity_embed.auto_embed('theirs.docs', 'body', 'embedding')",
            )
            .expect("its own table");
        let pending: i64 = client
            .query_one("SELECT pending FROM infinity_embed.status", &[])
            .expect("its own table")
            .get(0);
        assert_eq!(pending, 2);
    }
}

fn copy_out(client: &mut Client, table: &str) -> Vec<u8> {
    let statement = format!("COPY (SELECT * FROM {table}) TO STDOUT (FORMAT binary)");
    let mut message = Vec::new();
    let mut reader = client.copy_out(&statement).expect("a table");
    reader
        .read_to_end(&mut message)
        .expect("the server sends it");
    message
}

fn copy_in(client: &mut Client, table: &str, message: &[u8]) -> Result<u64, postgres::Error> {
    let mut writer = client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)"))?;
    writer.write_all(message).expect("it is kept until the end");
    writer.finish()
}

fn contents(database: &Database<'_>) -> Vec<Vec<String>> {
    let mut client = database.client();
    client
        .batch_execute(SEND)
        .expect("a function of the session");
    let mut lines = |query: &str| {
        let query = query.replace("send(", "pg_temp.send(");
        let rows = client.query(
            &format!("SELECT t::text FROM ({query}) AS t ORDER BY 1"),
            &[],
        );
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    };
    CONTENTS.iter().map(|query| lines(query)).collect()
}

fn dump(database: &Database<'_>, options: &[&str]) -> Vec<u8> {
    output(
        database
            .cluster()
            .command("pg_dump")
            .args(options)
            .arg(database.name()),
    )
}

fn restore<'a>(database: &Database<'a>, options: &[&str], is_archive: bool) -> Database<'a> {
    let restored = database.cluster().empty_database();
    let dumped = dump(database, options);
    if is_archive {
        let folder = std::env::temp_dir().join(format!("{}.dump", restored.name()));
        std::fs::write(&folder, dumped).expect("a file can be written");
        output(
            database
                .cluster()
                .command("pg_restore")
                .args(["--exit-on-error", "--dbname", restored.name()])
                .arg(&folder),
        );
        std::fs::remove_file(&folder).expect("it was written");
    } else {
        let script = String::from_utf8(dumped).expect("the dump is UTF-8");
        let result = restored.psql(&script);
        assert_eq!(String::from_utf8_lossy(&result.stderr), "", "{options:?}");
    }
    restored
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("PostgreSQL's programs can be run");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
