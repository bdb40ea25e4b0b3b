//! What is embedded, how it is stored, and what happens when that is defined anew.

use std::time::Duration;

use cluster_tests::{Cluster, database_error, wait_until};

use crate::{count, database, database_of, passages, process, server, waiting, wrong};

#[test]
fn several_columns_are_joined_and_each_of_them_counts() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        r#"CREATE TABLE docs (id int PRIMARY KEY, "the title" text, body varchar, pages int, embedding multivector);
        INSERT INTO docs VALUES (1, 'one', 'first', 7), (2, NULL, 'second', 8), (3, NULL, NULL, NULL), (4, 'four', '', 9);
        SELECT infinity_embed.auto_embed('docs', source => ARRAY['the title', 'body'], target => 'embedding')"#,
    );
    let mut client = database.client();
    let wrong = r#"(SELECT embedding, infinity_embed_text(nullif(concat_ws(E'\n', "the title", body), '')) AS fresh FROM docs) AS d
        WHERE num_nulls(embedding, fresh) = 1 OR multivector_tokens(embedding) <> array_length(fresh, 1)
              OR maxsim(embedding, fresh) < 0.999 * maxsim(fresh, fresh)"#;
    process(&mut client);
    assert_eq!((waiting(&mut client), count(&mut client, wrong)), (0, 0));
    assert_eq!(count(&mut client, "docs WHERE embedding IS NULL"), 1);
    client.batch_execute("UPDATE docs SET pages = 10").unwrap();
    assert_eq!(waiting(&mut client), 0);
    client
        .batch_execute(r#"UPDATE docs SET "the title" = 'two' WHERE id = 2; UPDATE docs SET body = 'third' WHERE id = 3"#)
        .unwrap();
    assert_eq!(waiting(&mut client), 2);
    process(&mut client);
    assert_eq!((waiting(&mut client), count(&mut client, wrong)), (0, 0));
}

#[test]
fn columns_that_cannot_be_joined_are_refused() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database
        .run("CREATE TABLE docs (id int PRIMARY KEY, body text, image bytea, embedding real[])");
    let mut client = database.client();
    for (columns, code) in [
        ("ARRAY['body', 'image']", "42804"),
        ("ARRAY['body', 'nothing']", "42703"),
        ("ARRAY['body', NULL]", "22004"),
        ("'{}'::text[]", "22004"),
        ("NULL::text[]", "22004"),
    ] {
        let error = database_error(client.batch_execute(&format!(
            "SELECT infinity_embed.auto_embed('docs', source => {columns}, target => 'embedding')"
        )));
        assert_eq!(error.code().code(), code, "{columns}: {error}");
    }
    client
        .batch_execute("SELECT infinity_embed.auto_embed('docs', source => ARRAY['image'], target => 'embedding')")
        .unwrap();
    assert_eq!(
        count(&mut client, "infinity_embed.targets WHERE kind = 'image'"),
        1
    );
}

#[test]
fn embeddings_are_pooled_before_they_are_written() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding multivector(128, f16), array_embedding real[]);
         INSERT INTO docs SELECT i, 'a text of quite some words, of which this is number ' || i FROM generate_series(1, 20) AS i;
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding', pooling => 3)",
    );
    let mut client = database.client();
    process(&mut client);
    let unlike = |factor: u32| {
        format!(
            "docs WHERE embedding IS NULL OR multivector_tokens(embedding) <>
                 multivector_tokens(multivector_pool(infinity_embed_text(body)::multivector, {factor}))"
        )
    };
    assert_eq!(count(&mut client, &unlike(3)), 0);
    // Another factor is another definition: all rows are embedded again, those that have an embedding too.
    client
        .batch_execute("SELECT infinity_embed.auto_embed('docs', 'body', 'embedding', pooling => 2, only_missing => true)")
        .unwrap();
    process(&mut client);
    assert_eq!(count(&mut client, &unlike(2)), 0);
    for (target, factor, code) in [
        ("array_embedding", "2", "42804"),
        ("embedding", "0", "22023"),
    ] {
        let error = database_error(client.batch_execute(&format!(
            "SELECT infinity_embed.auto_embed('docs', 'body', '{target}', pooling => {factor})"
        )));
        assert_eq!(error.code().code(), code, "{error}");
    }
}

#[test]
fn what_was_claimed_under_another_definition_is_not_written() {
    let server = server(Duration::from_secs(1));
    let database = passages(&server, 5);
    let mut owner = database.client();
    let mut client = database.client();
    owner
        .batch_execute("UPDATE passages SET note = 'note ' || id")
        .unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| process(&mut client));
        wait_until("a request is there", Duration::from_secs(20), || {
            !server.requests().is_empty()
        });
        owner
            .batch_execute("SELECT infinity_embed.auto_embed('passages', 'note', 'embedding', only_missing => true)")
            .unwrap();
        assert!(!call.is_finished());
        call.join().unwrap();
    });
    assert_eq!(waiting(&mut owner), 0);
    assert_eq!(
        count(&mut owner, "infinity_embed.targets WHERE written = 5"),
        1
    );
    assert_eq!(
        count(
            &mut owner,
            "passages WHERE maxsim(embedding, infinity_embed_text(note)) < 0.999 * maxsim(infinity_embed_text(note), infinity_embed_text(note))"
        ),
        0
    );
}

#[test]
fn what_is_in_flight_when_it_is_switched_off_is_not_written() {
    let server = server(Duration::from_secs(1));
    let database = passages(&server, 5);
    let mut owner = database.client();
    let mut client = database.client();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| process(&mut client));
        wait_until("a request is there", Duration::from_secs(20), || {
            !server.requests().is_empty()
        });
        owner
            .batch_execute("SELECT infinity_embed.stop_auto_embed('passages')")
            .unwrap();
        assert!(!call.is_finished());
        call.join().unwrap();
    });
    assert_eq!(count(&mut owner, "passages WHERE embedding IS NOT NULL"), 0);
    assert_eq!(count(&mut owner, "infinity_embed.queue"), 0);
}

#[test]
fn an_expression_is_taken_apart_and_what_a_row_does_not_decide_is_refused() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        r#"CREATE SCHEMA mine; CREATE TABLE mine.docs (id int PRIMARY KEY, title text, "the Body" text, image bytea, embedding real[]);
           CREATE TABLE mine.other (id int, title text);
           CREATE FUNCTION mine.rolled(text) RETURNS text LANGUAGE sql AS 'SELECT $1 || random()';
           CREATE FUNCTION mine.f(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1';
           CREATE OPERATOR mine.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat);
           CREATE OPERATOR mine.- (RIGHTARG = text, FUNCTION = mine.rolled)"#,
    );
    let mut client = database.client();
    client.batch_execute("SET search_path = mine").unwrap();
    let switch_on = "SELECT infinity_embed.auto_embed($1::text::regclass, $2::text, 'embedding')";
    for (source, columns) in [
        ("title", "title"),
        ("the Body", "the Body"),
        (
            r#"concat_ws(' ', "the Body", t.title, image)"#,
            "title,the Body,image",
        ),
        ("mine.f(title) -- of no consequence", "title"),
        (r#"title OPERATOR(mine.+) "the Body""#, "title,the Body"),
        ("left(title, id)", "id,title"),
        ("decode(title, 'hex')", "title"),
    ] {
        client
            .execute(switch_on, &[&"docs", &source])
            .unwrap_or_else(|error| panic!("{source}: {error:?}"));
        let known: String = client
            .query_one(
                "SELECT array_to_string(source_columns, ',') FROM infinity_embed.targets",
                &[],
            )
            .unwrap()
            .get(0);
        assert_eq!(known, columns, "{source}");
    }
    for (source, code, said) in [
        ("title || random()", "22023", "volatile"),
        ("mine.rolled(title)", "22023", "volatile"),
        ("OPERATOR(mine.-) title", "22023", "volatile"),
        ("title || clock_timestamp()", "22023", "volatile"),
        ("title || (SELECT 'x')", "22023", "subquery"),
        (
            "CASE WHEN EXISTS (SELECT FROM mine.other) THEN title END",
            "22023",
            "subquery",
        ),
        ("max(title)", "22023", "aggregate"),
        ("first_value(title) OVER ()", "22023", "window"),
        (
            "regexp_split_to_table(title, ' ')",
            "22023",
            "set-returning",
        ),
        ("title || ctid", "22023", "system column"),
        ("title || tableoid", "22023", "system column"),
        ("t::text", "22023", "whole row"),
        ("'constant'", "22023", "no column"),
        ("title), (id", "22023", "not one expression"),
        (
            "title) FROM mine.docs; SELECT (title",
            "22023",
            "not one expression",
        ),
        ("'x') UNION SELECT (title", "22023", "not one expression"),
        (
            "title) FROM mine.other AS t WHERE (true",
            "42601",
            "syntax error",
        ),
        ("title) -- and", "42601", "syntax error"),
        ("", "42601", "syntax error"),
        ("title ||", "42601", "syntax error"),
        ("f(title)", "42883", "f(text) does not exist"),
        ("$1", "42P02", "no parameter"),
        ("body", "42703", "body"),
        ("id", "42804", "integer"),
        ("(title, id)", "42804", "record"),
        ("docs.title", "42P01", "docs"),
    ] {
        let error = database_error(client.execute(switch_on, &[&"docs", &source]));
        let words = [Some(error.message()), error.detail()];
        assert_eq!(error.code().code(), code, "{source}: {error:?}");
        assert!(
            words.iter().flatten().any(|words| words.contains(said)),
            "{source}: {error:?}"
        );
    }
    // It is said where.
    let error = database_error(client.execute(switch_on, &[&"docs", &"upper(titel)"]));
    assert_eq!(error.message(), "column \"titel\" does not exist");
    assert_eq!(
        error.detail(),
        Some("This is at character 7 of the source.")
    );
    assert!(error.hint().unwrap().contains("t.title"), "{error:?}");
}

#[test]
fn an_owner_needs_no_right_to_temporary_tables_and_may_prepare_the_transaction() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[("max_prepared_transactions", "1")]);
    let database = database_of(&cluster, &server);
    let owner = database.role("owner");
    database.run(&format!(
        "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC; SELECT infinity_embed.allow('{owner}');
         CREATE TABLE docs (id int PRIMARY KEY, title text, body text, embedding real[]); ALTER TABLE docs OWNER TO {owner}",
        database.name()
    ));
    database
        .client_as(&owner)
        .batch_execute(
            "BEGIN; SELECT infinity_embed.auto_embed('docs', ARRAY['title', 'body'], 'embedding');
             SELECT infinity_embed.auto_embed('docs', 'upper(title)', 'embedding'); PREPARE TRANSACTION 'definition'",
        )
        .unwrap();
    database.run("COMMIT PREPARED 'definition'");
    database.run("INSERT INTO docs VALUES (1, 'title')");
    let mut client = database.client();
    process(&mut client);
    assert_eq!(count(&mut client, "docs WHERE embedding IS NOT NULL"), 1);
}

#[test]
fn a_source_may_name_a_collation() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    client
        .batch_execute(
            "SELECT infinity_embed.auto_embed('passages', source => 'lower(body COLLATE \"POSIX\")', target => 'embedding')",
        )
        .unwrap();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}
