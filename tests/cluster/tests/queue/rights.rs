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
        "SELECT * FROM infinity_embed.queue",
        "SELECT * FROM infinity_embed.claim_jobs(1, 1, '1 s', false, '{}')",
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
         CREATE FUNCTION theirs.source(body text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
             INSERT INTO theirs.log VALUES (current_user, current_setting('search_path'), 'source');
             RETURN current_user || ' ' || body; END $$;
         CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[]);
         CREATE TRIGGER before BEFORE UPDATE ON theirs.docs FOR EACH ROW EXECUTE FUNCTION theirs.note();
         RESET ROLE;
         SELECT infinity_embed.auto_embed('theirs.docs', source => 'theirs.source(body)', target => 'embedding');
         ALTER FUNCTION theirs.source VOLATILE;
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
        .query_one("SELECT error FROM infinity_embed.queue", &[])
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

#[test]
fn who_may_only_insert_queues_and_learns_and_changes_nothing() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let (owner, writer) = (database.role("owner"), database.role("writer"));
    database.run(&format!(
        "CREATE SCHEMA theirs AUTHORIZATION {owner}; GRANT USAGE ON SCHEMA theirs TO {writer};
         SET ROLE {owner};
         CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[]);
         GRANT INSERT ON theirs.docs TO {writer};
         RESET ROLE;
         SELECT infinity_embed.auto_embed('theirs.docs', source => 'body', target => 'embedding')"
    ));
    let mut client = database.client_as(&writer);
    client
        .batch_execute("INSERT INTO theirs.docs VALUES (1, 'one')")
        .unwrap();
    let tables = ["targets", "changes", "backfill", "queue"];
    let mut refused: Vec<String> = [
        "SELECT embedding FROM theirs.docs",
        "INSERT INTO infinity_embed.changes (target_id, key) VALUES (1, '1')",
        "INSERT INTO infinity_embed.backfill (target_id, key) VALUES (1, '1')",
        "UPDATE infinity_embed.targets SET source = 'pg_read_file(body)'",
        "DELETE FROM infinity_embed.queue",
        "TRUNCATE infinity_embed.changes",
        "SELECT nextval('infinity_embed.claims')",
        "SELECT infinity_embed.make_jobs(1)",
        "SELECT infinity_embed.forget_rows(ARRAY[1])",
        "SELECT infinity_embed.claimed_jobs(1, 1, ARRAY['1'])",
        "SELECT infinity_embed.define_target('theirs.docs', 'body', '{body}', 'text', 'embedding', 'm', 128, false, 1, false, 'postgres')",
        "SELECT infinity_embed.retry_dead('theirs.docs')",
        "SELECT infinity_embed.auto_embed('theirs.docs', ARRAY['body'], 'embedding')",
        "SELECT infinity_embed.stop_auto_embed('theirs.docs')",
        "ALTER TABLE theirs.docs DISABLE TRIGGER ALL",
    ]
    .map(str::to_owned)
    .to_vec();
    refused.extend(
        tables
            .iter()
            .map(|name| format!("SELECT * FROM infinity_embed.{name}")),
    );
    for statement in refused {
        let error = database_error(client.batch_execute(&statement));
        assert_eq!(error.code().code(), "42501", "{statement}: {error}");
    }
    for view in ["jobs", "status", "errors"] {
        assert_eq!(count(&mut client, &format!("infinity_embed.{view}")), 0);
    }
    process(&mut database.client());
    let mut observer = database.client();
    assert_eq!(
        count(&mut observer, "theirs.docs WHERE embedding IS NOT NULL"),
        1
    );
}

#[test]
fn code_of_a_tables_owner_cannot_become_anybody_else() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE TABLE public.secrets (secret text); INSERT INTO public.secrets VALUES ('the secret');
         CREATE SCHEMA theirs AUTHORIZATION {owner}"
    ));
    // Everything of the owner's that a write runs: a source, a trigger, an index's expression, a constraint. In a session of
    // the owner's own: in one of ours under SET ROLE the attack would succeed.
    let setup = format!(
        r#"CREATE TABLE theirs.log (place text, attempt text, outcome text);
         CREATE FUNCTION theirs.attack(place text) RETURNS void LANGUAGE plpgsql AS $$
         DECLARE attempt text;
         BEGIN
             INSERT INTO theirs.log VALUES (place, 'who', current_user);
             FOREACH attempt IN ARRAY ARRAY[
                 'RESET ROLE', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
                 'ALTER ROLE {owner} SUPERUSER', 'CREATE TEMPORARY TABLE pg_class_of_mine (x int)',
                 'SELECT * FROM public.secrets', 'UPDATE infinity_embed.targets SET source = ''secret''',
                 'INSERT INTO infinity_embed.changes (target_id, key) VALUES (1, ''1'')',
                 'SET infinity_embed.url = ''http://elsewhere''', 'SELECT infinity_embed.allow(''{owner}'')']
             LOOP
                 BEGIN
                     EXECUTE attempt;
                     INSERT INTO theirs.log VALUES (place, attempt, 'succeeded as ' || current_user);
                 EXCEPTION WHEN OTHERS THEN
                     INSERT INTO theirs.log VALUES (place, attempt, SQLSTATE);
                 END;
             END LOOP;
         END $$;
         CREATE FUNCTION theirs.source(body text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
             PERFORM theirs.attack('source'); RETURN body; END $$;
         CREATE FUNCTION theirs.rise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM theirs.attack(TG_NAME); RETURN NEW; END $$;
         CREATE FUNCTION theirs.checked(real[]) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
             PERFORM theirs.attack('constraint'); RETURN true; END $$;
         CREATE FUNCTION theirs.indexed(real[]) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             PERFORM theirs.attack('index'); RETURN 1; END $$;
         CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[] CHECK (theirs.checked(embedding)));
         CREATE INDEX ON theirs.docs (theirs.indexed(embedding));
         CREATE TRIGGER "before" BEFORE UPDATE ON theirs.docs FOR EACH ROW EXECUTE FUNCTION theirs.rise();
         CREATE TRIGGER "after" AFTER UPDATE ON theirs.docs FOR EACH ROW EXECUTE FUNCTION theirs.rise();
         INSERT INTO theirs.docs VALUES (1, 'one');
         TRUNCATE theirs.log"#
    );
    database.client_as(&owner).batch_execute(&setup).unwrap();
    database.run(
        "SELECT infinity_embed.auto_embed('theirs.docs', source => 'theirs.source(body)', target => 'embedding');
         ALTER FUNCTION theirs.source VOLATILE",
    );
    let mut client = database.client();
    process(&mut client);
    assert_eq!(
        count(&mut client, "theirs.docs WHERE embedding IS NOT NULL"),
        1
    );
    let places: String = client
        .query_one(
            "SELECT string_agg(DISTINCT place, ' ' ORDER BY place) FROM theirs.log",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(places, "after before constraint index source");
    let risen: Vec<String> = client
        .query(
            &format!(
                "SELECT concat_ws(': ', place, attempt, outcome) FROM theirs.log
                 WHERE CASE attempt WHEN 'who' THEN outcome <> '{owner}' ELSE outcome LIKE 'succeeded%' END"
            ),
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(risen, Vec::<String>::new());
    let me: String = client
        .query_one("SELECT current_user::text", &[])
        .unwrap()
        .get(0);
    assert_eq!(me, "postgres");
}

#[test]
fn functions_named_like_those_of_the_system_are_not_called() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE SCHEMA theirs AUTHORIZATION {owner};
         SET ROLE {owner};
         CREATE TABLE theirs.log (who name);
         CREATE FUNCTION theirs.spy() RETURNS text LANGUAGE sql AS $$ INSERT INTO theirs.log VALUES (current_user) RETURNING 'spied' $$;
         CREATE FUNCTION theirs.concat(text, text) RETURNS text LANGUAGE sql AS 'SELECT theirs.spy()';
         CREATE FUNCTION theirs.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT theirs.spy()';
         CREATE FUNCTION theirs.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT length(theirs.spy())';
         CREATE FUNCTION theirs.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS 'SELECT theirs.spy()';
         CREATE FUNCTION theirs.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT theirs.spy() IS NULL';
         CREATE OPERATOR theirs.= (LEFTARG = text, RIGHTARG = text, FUNCTION = theirs.same);
         CREATE TABLE theirs.docs (id text PRIMARY KEY, title text, body text, embedding real[]);
         RESET ROLE;
         SET search_path = theirs, pg_catalog;
         SELECT infinity_embed.auto_embed('docs', source => 'concat(title, body)', target => 'embedding');
         INSERT INTO docs VALUES ('a', 'b', 'c');
         UPDATE docs SET title = 'd';
         UPDATE docs SET id = 'e'"
    ));
    let mut client = database.client();
    client
        .batch_execute("SET search_path = theirs, pg_catalog")
        .unwrap();
    process(&mut client);
    assert_eq!(pg_count(&mut client, "theirs.log"), 0);
    assert_eq!(
        pg_count(&mut client, "theirs.docs WHERE embedding IS NOT NULL"),
        1
    );
}

/// With nothing of anybody's in the way.
fn pg_count(client: &mut postgres::Client, query: &str) -> i64 {
    client
        .batch_execute("SET search_path = pg_catalog")
        .unwrap();
    count(client, query)
}

#[test]
fn errors_do_not_show_the_row_to_who_may_only_monitor() {
    let server = server(Duration::ZERO);
    let database = crate::passages(&server, 3);
    let monitor = database.role("monitor");
    database.run(&format!(
        "GRANT pg_monitor TO {monitor};
         UPDATE passages SET body = 'the secret' WHERE id = 2;
         ALTER TABLE passages ADD CONSTRAINT never CHECK (id <> 2 OR embedding IS NULL)"
    ));
    process(&mut database.client());
    let mut watcher = database.client_as(&monitor);
    let row = watcher
        .query_one("SELECT key, error FROM infinity_embed.errors", &[])
        .unwrap();
    let error: &str = row.get(1);
    assert_eq!(row.get::<_, &str>(0), "2");
    assert!(
        error.contains("never") && !error.contains("secret"),
        "{error}"
    );
    let refused = database_error(watcher.batch_execute("SELECT body FROM passages"));
    assert_eq!(refused.code().code(), "42501");
}

#[test]
fn a_trigger_of_somebody_elses_making_cannot_run_his_code_as_the_extensions_owner() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let attacker = database.role("attacker");
    database.run(&format!("CREATE SCHEMA theirs AUTHORIZATION {attacker}"));
    let mut client = database.client_as(&attacker);
    client
        .batch_execute(
            "CREATE TABLE theirs.log (who name);
             CREATE FUNCTION theirs.attack() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO theirs.log VALUES (current_user); RETURN 1; END $$;
             CREATE TABLE theirs.docs (id int PRIMARY KEY, body text, embedding real[])",
        )
        .unwrap();
    database.run("SELECT infinity_embed.auto_embed('theirs.docs', 'body', 'embedding')");
    let views = "CREATE TEMPORARY VIEW infinity_embed_new AS SELECT theirs.attack() AS id, 'x'::text AS body, NULL::real[] AS embedding;
                 CREATE TEMPORARY VIEW infinity_embed_old AS TABLE infinity_embed_new";
    client.batch_execute(views).unwrap();
    let trigger = "CREATE TRIGGER a_mine AFTER INSERT OR UPDATE OR DELETE ON theirs.docs
                   FOR EACH STATEMENT EXECUTE FUNCTION infinity_embed.enqueue()";
    let error = database_error(client.batch_execute(trigger));
    assert_eq!(error.code().code(), "42501", "{error}");
    // Nor if somebody lets him make triggers of it, with and without transition tables of their own names.
    database.run(&format!(
        "GRANT EXECUTE ON FUNCTION infinity_embed.enqueue() TO {attacker}"
    ));
    let statements = [
        "INSERT INTO theirs.docs VALUES (1, 'one')",
        "UPDATE theirs.docs SET body = 'two'",
        "DELETE FROM theirs.docs",
    ];
    for drop_views in ["", "DROP VIEW infinity_embed_new CASCADE"] {
        client.batch_execute(drop_views).unwrap();
        client
            .batch_execute("DROP TRIGGER IF EXISTS a_mine ON theirs.docs")
            .unwrap();
        client
            .batch_execute("INSERT INTO theirs.docs VALUES (2, 'two')")
            .ok();
        client.batch_execute(trigger).unwrap();
        for statement in statements {
            let error = database_error(client.batch_execute(statement));
            assert_eq!(error.code().code(), "39P01", "{statement}: {error}");
        }
    }
    assert_eq!(count(&mut client, "theirs.log"), 0);
    client
        .batch_execute(&format!(
            "DROP TRIGGER a_mine ON theirs.docs; {}",
            statements.join(";")
        ))
        .unwrap();
}
