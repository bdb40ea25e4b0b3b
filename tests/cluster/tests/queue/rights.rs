//! Who may switch it on, and as whom the rows are read and written.

use std::time::Duration;

use cluster_tests::database_error;

use crate::{count, database, process, server, waiting};

#[test]
fn a_table_owner_who_is_allowed_may_and_others_may_not() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let (owner, other) = (database.role("owner"), database.role("other"));
    database.run(&format!(
        "CREATE SCHEMA theirs AUTHORIZATION {owner}; GRANT USAGE ON SCHEMA theirs TO {other}"
    ));
    let mut client = database.client_as(&owner);
    client
        .batch_execute("CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[]); GRANT ALL ON theirs.docs TO PUBLIC")
        .unwrap();
    let switch_on =
        "SELECT infinity_embed.auto_embed('theirs.docs', source => 'body', target => 'embedding')";
    assert_eq!(
        database_error(client.batch_execute(switch_on))
            .code()
            .code(),
        "42501"
    );
    database.run(&format!(
        "SELECT infinity_embed.allow('{owner}'), infinity_embed.allow('{other}')"
    ));
    let error = database_error(database.client_as(&other).batch_execute(switch_on));
    assert_eq!(
        (error.code().code(), error.message()),
        ("42501", "must be owner of table docs")
    );
    client.batch_execute(switch_on).unwrap();
    // Whoever may write the table queues, and needs no right of ours.
    database
        .client_as(&other)
        .batch_execute("INSERT INTO theirs.docs VALUES (1, 'one')")
        .unwrap();
    for statement in [
        "CALL infinity_embed.process_queue()",
        "SELECT * FROM infinity_embed.jobs",
        "SELECT * FROM infinity_embed.claim_jobs(1, 1, '1 s', false)",
    ] {
        assert_eq!(
            database_error(client.batch_execute(statement))
                .code()
                .code(),
            "42501",
            "{statement}"
        );
    }
    process(&mut database.client());
    assert_eq!(
        count(
            &mut database.client(),
            "theirs.docs WHERE embedding IS NOT NULL"
        ),
        1
    );
    let error = database_error(
        database
            .client_as(&other)
            .batch_execute("SELECT infinity_embed.stop_auto_embed('theirs.docs')"),
    );
    assert_eq!(error.code().code(), "42501");
    client
        .batch_execute(
            "SELECT infinity_embed.stop_auto_embed('theirs.docs'); DROP TABLE theirs.docs",
        )
        .unwrap();
}

#[test]
fn a_role_that_may_only_process_can() {
    let server = server(Duration::ZERO);
    let database = crate::passages(&server, 10);
    let role = database.role("cron");
    database.run(&format!(
        "GRANT EXECUTE ON PROCEDURE infinity_embed.process_queue TO {role}"
    ));
    process(&mut database.client_as(&role));
    assert_eq!(waiting(&mut database.client()), 0);
}

#[test]
fn the_code_of_a_tables_owner_runs_as_its_owner_even_without_login() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE SCHEMA theirs AUTHORIZATION {owner};
         ALTER ROLE {owner} NOLOGIN;
         SET ROLE {owner};
         CREATE TABLE theirs.log (who name, path text, fired text);
         CREATE FUNCTION theirs.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO theirs.log VALUES (current_user, current_setting('search_path'), TG_NAME);
             PERFORM set_config('search_path', 'theirs', false);
             RETURN NEW; END $$;
         CREATE FUNCTION theirs.source(body text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO theirs.log VALUES (current_user, current_setting('search_path'), 'source');
             RETURN current_user || ' ' || body; END $$;
         CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[]);
         CREATE TRIGGER before BEFORE UPDATE ON theirs.docs FOR EACH ROW EXECUTE FUNCTION theirs.note();
         RESET ROLE;
         SELECT infinity_embed.auto_embed('theirs.docs', source => 'theirs.source(body)', target => 'embedding');
         INSERT INTO theirs.docs VALUES (1, 'one')"
    ));
    let mut client = database.client();
    process(&mut client);
    let row = client
        .query_one(
            "SELECT min(who::text), min(path), count(DISTINCT fired) FROM theirs.log
             HAVING min(who::text) = max(who::text) AND min(path) = max(path)",
            &[],
        )
        .unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get::<_, i64>(2)),
        (owner.as_str(), "pg_catalog, pg_temp", 2)
    );
    let path: String = client.query_one("SHOW search_path", &[]).unwrap().get(0);
    assert_eq!(path, "\"$user\", public");
}

#[test]
fn a_deferred_trigger_cannot_run_as_the_process() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE SCHEMA theirs AUTHORIZATION {owner};
         SET ROLE {owner};
         CREATE FUNCTION theirs.rise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             EXECUTE 'ALTER ROLE {owner} SUPERUSER'; RETURN NULL; END $$;
         CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[]);
         INSERT INTO theirs.docs VALUES (1, 'one');
         CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON theirs.docs DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION theirs.rise();
         RESET ROLE;
         SELECT infinity_embed.auto_embed('theirs.docs', source => 'body', target => 'embedding')"
    ));
    let mut client = database.client();
    process(&mut client);
    let error: String = client
        .query_one("SELECT error FROM infinity_embed.jobs", &[])
        .unwrap()
        .get(0);
    assert!(error.contains("security-restricted operation"), "{error}");
    assert_eq!(
        count(
            &mut client,
            &format!("pg_roles WHERE rolname = '{owner}' AND rolsuper")
        ),
        0
    );
}

#[test]
fn enqueuing_evaluates_no_expression_of_a_user() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE SCHEMA theirs AUTHORIZATION {owner};
         SET ROLE {owner};
         CREATE TYPE theirs.mood AS ENUM ('sad', 'ok');
         CREATE TABLE theirs.log (who name);
         CREATE FUNCTION theirs.spy(theirs.mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO theirs.log VALUES (current_user); RETURN 'x'; END $$;
         CREATE CAST (theirs.mood AS text) WITH FUNCTION theirs.spy(theirs.mood) AS ASSIGNMENT;
         CREATE TABLE theirs.docs (id theirs.mood PRIMARY KEY, body text, m theirs.mood, embedding real[]);
         RESET ROLE;
         SELECT infinity_embed.auto_embed('theirs.docs', source => 'concat(body, m)', target => 'embedding');
         INSERT INTO theirs.docs VALUES ('sad', 'one', 'ok');
         UPDATE theirs.docs SET m = 'sad', id = 'ok';
         UPDATE theirs.docs SET m = 'ok'"
    ));
    let mut client = database.client();
    assert_eq!(count(&mut client, "theirs.log"), 0);
    process(&mut client);
    assert_eq!(
        count(&mut client, "theirs.docs WHERE embedding IS NOT NULL"),
        1
    );
}
