//! What a table has that the queue did not expect: names of its own, triggers that are gone or left over, another type.

use std::time::Duration;

use cluster_tests::database_error;
use postgres::Client;

use crate::{count, database, passages, process, server, waiting, wrong};

fn problem(client: &mut Client) -> Option<String> {
    client
        .query_one("SELECT problem FROM infinity_embed.status", &[])
        .unwrap()
        .get(0)
}

#[test]
fn a_column_with_the_queues_own_name_is_no_hindrance_but_as_a_source() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    client
        .batch_execute(
            "ALTER TABLE passages ADD infinity_embed_key text, ADD infinity_embed_fingerprint text, ADD second real[];
             UPDATE passages SET body = 'new', infinity_embed_key = 'k' WHERE id = 2",
        )
        .unwrap();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
    for source in ["infinity_embed_key", "lower(infinity_embed_fingerprint)"] {
        let error = database_error(client.batch_execute(&format!(
            "SELECT infinity_embed.auto_embed('passages', '{source}', 'second')"
        )));
        assert_eq!(error.code().code(), "42939", "{error}");
    }
}

#[test]
fn triggers_that_are_missing_or_disabled_are_told_of_while_rows_are_embedded() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    assert_eq!(problem(&mut client), None);
    for spoil in [
        "ALTER TABLE passages DISABLE TRIGGER ALL",
        "DROP TRIGGER infinity_embed_insert ON passages",
    ] {
        client.batch_execute(spoil).unwrap();
        let told = problem(&mut client).unwrap();
        assert!(told.contains("\"infinity_embed_insert\""), "{told}");
        process(&mut client);
        assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
        client
            .batch_execute("SELECT infinity_embed.auto_embed('passages', 'body', 'embedding')")
            .unwrap();
        assert_eq!((problem(&mut client), waiting(&mut client)), (None, 3));
    }
}

#[test]
fn triggers_of_a_detached_partition_can_be_dropped() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF docs FOR VALUES FROM (0) TO (10);
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding');
         CREATE TABLE high PARTITION OF docs FOR VALUES FROM (10) TO (20)",
    );
    let mut client = database.client();
    let told = problem(&mut client).unwrap();
    assert!(told.contains("public.high is missing"), "{told}");
    let triggers = "pg_trigger WHERE tgrelid = 'low'::regclass";
    let stop = "SELECT infinity_embed.stop_auto_embed('low')";
    // The parent needs them.
    let error = database_error(client.batch_execute(stop));
    assert_eq!(error.code().code(), "42704", "{error}");
    assert_eq!(count(&mut client, triggers), 4);
    client
        .batch_execute("ALTER TABLE docs DETACH PARTITION low")
        .unwrap();
    client.batch_execute(stop).unwrap();
    assert_eq!(count(&mut client, triggers), 0);
    let error = database_error(client.batch_execute(stop));
    assert_eq!(error.code().code(), "42704", "{error}");
}

#[test]
fn a_pooled_target_may_become_an_array() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding multivector);
         INSERT INTO docs VALUES (1, 'one text of some words');
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding', pooling => 2);
         ALTER TABLE docs ALTER embedding TYPE real[] USING NULL",
    );
    let mut client = database.client();
    process(&mut client);
    assert_eq!((problem(&mut client), waiting(&mut client)), (None, 0));
    let right = "docs WHERE embedding = multivector_pool(infinity_embed_text(body)::multivector, 2)::real[]";
    assert_eq!(count(&mut client, right), 1);
}

#[test]
fn how_a_session_quotes_and_isolates_changes_nothing() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    process(&mut client);
    client
        .batch_execute(
            "SET quote_all_identifiers = on;
             SELECT infinity_embed.auto_embed('passages', 'body', 'embedding', only_missing => true)",
        )
        .unwrap();
    assert_eq!(waiting(&mut client), 0);
    client
        .batch_execute(
            "CREATE TABLE seen (level text);
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO public.seen VALUES (current_setting('transaction_isolation')); RETURN NULL; END $$;
             UPDATE passages SET body = 'new';
             CREATE TRIGGER look AFTER UPDATE ON passages EXECUTE FUNCTION look();
             SET default_transaction_isolation = 'serializable'",
        )
        .unwrap();
    process(&mut client);
    assert_eq!(count(&mut client, "seen WHERE level = 'read committed'"), 1);
}

#[test]
fn a_row_whose_keys_text_is_out_of_date_is_named_as_dead() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.set("infinity_embed.max_attempts", "1");
    database.run(
        "CREATE TYPE mood AS ENUM ('glad', 'sad');
         CREATE TABLE docs (id mood PRIMARY KEY, body text, embedding real[]);
         INSERT INTO docs VALUES ('glad', 'one'), ('sad', 'two');
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding');
         ALTER TYPE mood RENAME VALUE 'sad' TO 'gloomy'",
    );
    let mut client = database.client();
    process(&mut client);
    let dead = "infinity_embed.errors WHERE dead AND key = 'sad' AND error LIKE '%sad%'";
    assert_eq!((count(&mut client, dead), waiting(&mut client)), (1, 0));
    client
        .batch_execute(
            "SELECT infinity_embed.auto_embed('docs', 'body', 'embedding', only_missing => true)",
        )
        .unwrap();
    process(&mut client);
    assert_eq!(count(&mut client, "docs WHERE embedding IS NULL"), 0);
}

#[test]
fn dead_jobs_are_not_read_to_learn_that_none_waits() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 1);
    let mut client = database.client();
    process(&mut client);
    client
        .batch_execute(
            "INSERT INTO infinity_embed.queue (target_id, key, is_backfill, dead)
             SELECT t.id, i, false, true FROM infinity_embed.targets AS t, generate_series(1, 20000) AS i",
        )
        .unwrap();
    for question in [
        "infinity_embed.is_anything_waiting()",
        "(SELECT pending FROM infinity_embed.pending(NULL))",
        "infinity_embed.is_served()",
    ] {
        let mut transaction = client.transaction().unwrap();
        let read = "SELECT pg_stat_get_xact_tuples_returned(c) + pg_stat_get_xact_tuples_fetched(c)
                    FROM CAST('infinity_embed.queue'::regclass AS oid) AS c";
        let answer: bool = transaction
            .query_one(&format!("SELECT {question}"), &[])
            .unwrap()
            .get(0);
        let read: i64 = transaction.query_one(read, &[]).unwrap().get(0);
        assert!(!answer && read < 100, "{question}: {answer}, {read} read");
    }
}
