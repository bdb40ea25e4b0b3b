//! Kinds of tables, keys, sources and targets.

use std::time::Duration;

use cluster_tests::{Cluster, database_error};

use crate::{count, database, process, server, waiting};

const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR42mP4z8AAR0jM/wxDSwIA6TA/wcg4RrMAAAAASUVORK5CYII=";

#[test]
fn quoted_names_composite_keys_and_several_columns() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        r#"CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema"."the ""docs" ("key" date, "Group %" text, title text, "Body" varchar(99), "Embed ding" real[],
            PRIMARY KEY ("key", "Group %"));
        INSERT INTO "My Schema"."the ""docs" VALUES ('2024-02-03', 'a,"b}', 'title', 'body'), ('2024-03-02', '', 't', NULL);
        SELECT infinity_embed.auto_embed('"My Schema"."the ""docs"', source => 'concat_ws(E''\n'', title, "Body")', target => 'Embed ding')"#,
    );
    let mut client = database.client();
    client.batch_execute("SET datestyle = 'SQL, DMY'").unwrap();
    process(&mut client);
    let table = r#""My Schema"."the ""docs""#;
    assert_eq!(
        count(
            &mut client,
            &format!(r#"{table} WHERE "Embed ding" IS NULL"#)
        ),
        0
    );
    client.batch_execute(&format!(r#"UPDATE {table} SET "Body" = 'new' WHERE "Group %" = ''; DELETE FROM {table} WHERE title = 'title'"#)).unwrap();
    assert_eq!(waiting(&mut client), 1);
    process(&mut client);
    assert_eq!(waiting(&mut client), 0);
}

#[test]
fn images_are_embedded_and_a_broken_one_fails_alone() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(&format!(
        "CREATE TABLE pages (id bigserial PRIMARY KEY, image bytea, embedding multivector);
         INSERT INTO pages (image) SELECT decode('{PIXEL}', 'base64') FROM generate_series(1, 5);
         INSERT INTO pages (image) VALUES ('not an image');
         SELECT infinity_embed.auto_embed('pages', source => 'image', target => 'embedding')"
    ));
    let mut client = database.client();
    process(&mut client);
    assert_eq!(
        count(
            &mut client,
            "pages WHERE embedding IS NOT NULL AND multivector_dims(embedding) = 128"
        ),
        5
    );
    let row = client
        .query_one("SELECT key, error FROM infinity_embed.queue", &[])
        .unwrap();
    assert_eq!(row.get::<_, &str>("key"), "6");
    assert!(
        row.get::<_, &str>("error")
            .contains("image cannot be embedded")
    );
}

#[test]
fn partitions_are_kept_whichever_table_a_statement_names() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF docs FOR VALUES FROM (0) TO (100);
         CREATE TABLE high PARTITION OF docs FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
         CREATE TABLE higher PARTITION OF high FOR VALUES FROM (100) TO (150);
         SELECT infinity_embed.auto_embed('docs', source => 'body', target => 'embedding');
         INSERT INTO docs VALUES (1, 'one'), (101, 'two');
         INSERT INTO low VALUES (2, 'three'); INSERT INTO higher VALUES (102, 'four')",
    );
    let mut client = database.client();
    process(&mut client);
    assert_eq!(count(&mut client, "docs WHERE embedding IS NOT NULL"), 4);
    client
        .batch_execute(
            "UPDATE docs SET id = 120, body = 'moved' WHERE id = 1;
             UPDATE higher SET body = 'new' WHERE id = 102; TRUNCATE low;
             CREATE TABLE late (id int PRIMARY KEY, body text, embedding real[]); INSERT INTO late VALUES (160, 'late');
             ALTER TABLE high ATTACH PARTITION late FOR VALUES FROM (150) TO (200);
             SELECT infinity_embed.auto_embed('docs', source => 'body', target => 'embedding', only_missing => true);
             INSERT INTO late VALUES (161, 'later')",
        )
        .unwrap();
    process(&mut client);
    assert_eq!(waiting(&mut client), 0);
    assert_eq!(count(&mut client, "docs WHERE embedding IS NULL"), 0);
    client
        .batch_execute("SELECT infinity_embed.stop_auto_embed('docs')")
        .unwrap();
    assert_eq!(
        count(
            &mut client,
            "pg_trigger WHERE tgname LIKE 'infinity_embed%'"
        ),
        0
    );
}

#[test]
fn what_cannot_be_kept_embedded_is_refused() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, n int, embedding real[]);
         CREATE FUNCTION rolled(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1 || random(); END';
         CREATE TABLE keyless (body text, embedding real[]);
         CREATE TABLE later (id int PRIMARY KEY DEFERRABLE, body text, embedding real[]);
         CREATE VIEW seen AS SELECT * FROM docs;
         CREATE TABLE parent (LIKE docs INCLUDING ALL); CREATE TABLE child () INHERITS (parent)",
    );
    let mut client = database.client();
    for (table, source, target, code) in [
        ("docs", "n", "embedding", "42804"),
        ("docs", "nothing", "embedding", "42703"),
        ("docs", "body", "nothing", "42804"),
        ("docs", "body", "body", "42804"),
        ("docs", "'constant'", "embedding", "22023"),
        (
            "docs",
            "(SELECT max(body) FROM public.keyless)",
            "embedding",
            "22023",
        ),
        (
            "docs",
            "body) FROM docs; DROP TABLE docs; SELECT (1",
            "embedding",
            "42P01",
        ),
        ("docs", "body || random()", "embedding", "22023"),
        ("docs", "public.rolled(body)", "embedding", "22023"),
        ("docs", "upper(docs.body)", "embedding", "42P01"),
        ("keyless", "body", "embedding", "55000"),
        ("later", "body", "embedding", "55000"),
        ("seen", "body", "embedding", "42809"),
        ("parent", "body", "embedding", "0A000"),
    ] {
        let result = client.execute(
            "SELECT infinity_embed.auto_embed($1::text::regclass, $2, $3)",
            &[&table, &source, &target],
        );
        let error = database_error(result);
        assert_eq!(
            error.code().code(),
            code,
            "{table} {source} {target}: {error}"
        );
    }
    assert_eq!(count(&mut client, "pg_class WHERE relname = 'docs'"), 1);
}

#[test]
fn a_second_model_needs_a_column_of_its_own() {
    let server = server(Duration::ZERO);
    let database = crate::passages(&server, 5);
    let mut client = database.client();
    process(&mut client);
    let switch = |target: &str| {
        format!(
            "SELECT infinity_embed.auto_embed('passages', 'body', '{target}', model => 'other')"
        )
    };
    let error = database_error(client.batch_execute(&switch("embedding")));
    assert_eq!(error.code().code(), "55000", "{error}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("Add a column")),
        "{error:?}"
    );
    client
        .batch_execute("ALTER TABLE passages ADD COLUMN second real[]")
        .unwrap();
    client.batch_execute(&switch("second")).unwrap();
    assert_eq!(waiting(&mut client), 5);
}

#[test]
fn only_missing_does_not_fill_up_a_column_of_an_unknown_model() {
    let server = server(Duration::ZERO);
    let database = crate::passages(&server, 3);
    let mut client = database.client();
    process(&mut client);
    let switch_on = |only_missing: bool| {
        format!(
            "SELECT infinity_embed.auto_embed('passages', 'body', 'embedding', model => 'other', only_missing => {only_missing})"
        )
    };
    client
        .batch_execute(
            "SELECT infinity_embed.stop_auto_embed('passages'); INSERT INTO passages VALUES (4, 'four')",
        )
        .unwrap();
    let error = database_error(client.batch_execute(&switch_on(true)));
    assert_eq!(error.code().code(), "55000", "{error}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("only_missing")),
        "{error:?}"
    );
    client.batch_execute(&switch_on(false)).unwrap();
    assert_eq!(waiting(&mut client), 4);
}

#[test]
fn a_dropped_table_leaves_nothing_behind() {
    let server = server(Duration::ZERO);
    let database = crate::passages(&server, 5);
    let mut client = database.client();
    client.batch_execute("DROP TABLE passages").unwrap();
    process(&mut client);
    assert_eq!(
        waiting(&mut client) + count(&mut client, "infinity_embed.targets"),
        0
    );
}

#[test]
fn a_dump_carries_the_definitions_and_what_waits() {
    let server = server(Duration::ZERO);
    let database = crate::passages(&server, 5);
    process(&mut database.client());
    database.run("UPDATE passages SET body = 'waits' WHERE id = 3");
    let cluster = Cluster::shared();
    let dump = cluster
        .command("pg_dump")
        .arg(database.name())
        .output()
        .unwrap();
    assert!(dump.status.success());
    let copy = cluster.empty_database();
    copy.set("infinity_embed.url", &server.url());
    copy.set("infinity_embed.worker", "off");
    let restored = copy.psql(&String::from_utf8(dump.stdout).unwrap());
    assert_eq!(String::from_utf8_lossy(&restored.stderr), "");
    let mut client = copy.client();
    assert_eq!(waiting(&mut client), 1);
    client
        .batch_execute("INSERT INTO passages (id, body) VALUES (6, 'six')")
        .unwrap();
    process(&mut client);
    assert_eq!((waiting(&mut client), crate::wrong(&mut client)), (0, 0));
}

#[test]
fn a_row_has_one_key_whatever_the_sessions_settings() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE hours (hour timestamptz, span interval, body text, embedding real[], PRIMARY KEY (hour, span));
         SET timezone = 'Asia/Tokyo';
         SELECT infinity_embed.auto_embed('hours', 'body', 'embedding');
         INSERT INTO hours SELECT '2024-07-01 12:00+00', i * interval '1 month -1 day', 'hour ' || i FROM generate_series(1, 3) AS i",
    );
    let mut client = database.client();
    client
        .batch_execute(
            "SET timezone = 'America/New_York'; SET intervalstyle = 'sql_standard';
             UPDATE hours SET body = body || '!'",
        )
        .unwrap();
    let keys = "(SELECT DISTINCT key FROM infinity_embed.changes) AS w";
    assert_eq!(count(&mut client, keys), 3);
    process(&mut client);
    assert_eq!(count(&mut client, "hours WHERE embedding IS NOT NULL"), 3);
}

#[test]
fn keys_and_sources_may_have_collations_of_their_own() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        r#"CREATE DOMAIN label AS text COLLATE "POSIX";
           CREATE TABLE one (id text COLLATE "POSIX" PRIMARY KEY, body text COLLATE "C", embedding real[]);
           CREATE TABLE two (a text COLLATE "POSIX", b varchar(9) COLLATE "C", body label, note char(9) COLLATE "POSIX", embedding real[],
               PRIMARY KEY (a, b));
           SELECT infinity_embed.auto_embed('one', 'body', 'embedding'), infinity_embed.auto_embed('two', ARRAY['body', 'note'], 'embedding');
           INSERT INTO one VALUES ('a', 'one'), ('b', 'two'); INSERT INTO two VALUES ('a', 'x', 'one', 'n'), ('b', 'y', 'two', 'n')"#,
    );
    let mut client = database.client();
    process(&mut client);
    for table in ["one", "two"] {
        let embedded = format!("{table} WHERE embedding IS NOT NULL");
        assert_eq!(count(&mut client, &embedded), 2, "{table}");
    }
    client
        .batch_execute(
            "UPDATE one SET body = 'new' WHERE id = 'a'; UPDATE one SET id = 'c' WHERE id = 'a'; DELETE FROM one WHERE id = 'b';
             UPDATE two SET body = 'new', note = 'm' WHERE a = 'a'; UPDATE two SET b = 'z' WHERE a = 'a'; DELETE FROM two WHERE a = 'b'",
        )
        .unwrap();
    process(&mut client);
    assert_eq!(waiting(&mut client), 0);
}

#[test]
fn keys_that_shift_from_row_to_row_lose_none() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]);
         INSERT INTO docs VALUES (2, 'same');
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding')",
    );
    let mut client = database.client();
    process(&mut client);
    // What waits under 1 takes the key of a row that is embedded already, and lies behind it, so that it moves last.
    client
        .batch_execute("INSERT INTO docs VALUES (1, 'same'); UPDATE docs SET id = id + 1")
        .unwrap();
    assert_eq!(
        count(&mut client, "docs WHERE embedding IS NULL AND id = 2"),
        1
    );
    process(&mut client);
    assert_eq!(count(&mut client, "docs WHERE embedding IS NULL"), 0);
    // A statement that keeps its keys and sources makes no work.
    client.batch_execute("UPDATE docs SET body = body").unwrap();
    assert_eq!(waiting(&mut client), 0);
}

#[test]
fn a_changed_primary_key_stops_a_column_until_it_is_switched_on_again() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, tenant int DEFAULT 1, body text, embedding real[]);
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding');
         INSERT INTO docs VALUES (1, 1, 'one');
         ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (tenant, id);
         INSERT INTO docs VALUES (1, 2, 'another one')",
    );
    let mut client = database.client();
    process(&mut client);
    let embedded = "docs WHERE embedding IS NOT NULL";
    assert_eq!(count(&mut client, embedded), 0);
    let problem: String = client
        .query_one("SELECT problem FROM infinity_embed.status", &[])
        .unwrap()
        .get(0);
    assert_eq!(
        problem,
        "the primary key of public.docs has changed. Call infinity_embed.auto_embed() again."
    );
    client
        .batch_execute("SELECT infinity_embed.auto_embed('docs', 'body', 'embedding')")
        .unwrap();
    process(&mut client);
    assert_eq!((count(&mut client, embedded), waiting(&mut client)), (2, 0));
}
