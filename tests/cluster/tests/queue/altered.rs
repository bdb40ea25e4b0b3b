//! Tables that are altered after auto_embed(): writers and owners are told, and no row pays for it.

use std::time::Duration;

use cluster_tests::{Backend, Database, database_error, wait_until};
use postgres::Client;

use crate::worker::{SOON, passages_with_worker, start_worker, workers};
use crate::{count, database, notices, passages, process, server, waiting, wrong};

fn problem(client: &mut Client) -> Option<String> {
    client
        .query_one("SELECT problem FROM infinity_embed.status", &[])
        .unwrap()
        .get(0)
}

/// Attempts that were spent, and jobs that were given up.
fn blamed(client: &mut Client) -> i64 {
    count(
        client,
        "infinity_embed.jobs WHERE attempts > 0 OR state = 'dead'",
    )
}

fn refused(client: &mut Client, statement: &str, column: &str) {
    let error = database_error(client.batch_execute(statement));
    assert_eq!(error.code().code(), "42703", "{statement}: {error}");
    assert_eq!(
        error.message(),
        format!("column \"{column}\" of public.passages does not exist")
    );
    assert_eq!(
        (error.table(), error.column()),
        (Some("passages"), Some(column))
    );
    let detail = error.detail().unwrap();
    assert!(
        detail.contains("\"embedding\" of public.passages"),
        "{detail}"
    );
    let hint = error.hint().unwrap();
    for way in [
        "auto_embed()",
        "stop_auto_embed('public.passages', 'embedding')",
    ] {
        assert!(hint.contains(way), "{hint}");
    }
}

#[test]
fn a_writer_is_told_of_a_source_that_is_gone_until_it_is_defined_anew() {
    let server = server(Duration::ZERO);
    for (alter, again) in [
        (
            "RENAME body TO text",
            "auto_embed('passages', 'text', 'embedding')",
        ),
        ("DROP COLUMN body", "stop_auto_embed('passages')"),
    ] {
        let database = passages(&server, 3);
        let mut client = database.client();
        client
            .batch_execute(&format!("ALTER TABLE passages {alter}"))
            .unwrap();
        for statement in [
            "INSERT INTO passages (id) VALUES (4)",
            "UPDATE passages SET note = 'n'",
        ] {
            refused(&mut client, statement, "body");
        }
        client
            .batch_execute("DELETE FROM passages WHERE id = 3")
            .unwrap();
        process(&mut client);
        assert_eq!(blamed(&mut client), 0);
        assert!(problem(&mut client).unwrap().contains("\"body\""));
        client
            .batch_execute(&format!(
                "SELECT infinity_embed.{again}; UPDATE passages SET note = 'n'"
            ))
            .unwrap();
        process(&mut client);
        assert_eq!(waiting(&mut client), 0, "{alter}");
    }
}

#[test]
fn a_writer_is_told_of_a_key_that_is_gone_until_it_is_defined_anew() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    client
        .batch_execute("ALTER TABLE passages RENAME id TO number")
        .unwrap();
    for statement in [
        "INSERT INTO passages VALUES (4, 'four')",
        "UPDATE passages SET note = 'n'",
        "DELETE FROM passages",
    ] {
        refused(&mut client, statement, "id");
    }
    process(&mut client);
    assert_eq!((blamed(&mut client), waiting(&mut client)), (0, 3));
    client
        .batch_execute("SELECT infinity_embed.auto_embed('passages', 'body', 'embedding'); DELETE FROM passages WHERE number = 1")
        .unwrap();
    process(&mut client);
    let embedded = count(&mut client, "passages WHERE embedding IS NOT NULL");
    assert_eq!((embedded, waiting(&mut client)), (2, 0));
}

#[test]
fn a_target_column_that_is_gone_is_a_problem_that_no_row_pays_for() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 5);
    let mut client = database.client();
    client
        .batch_execute("ALTER TABLE passages RENAME embedding TO vectors; UPDATE passages SET body = 'new' WHERE id = 1")
        .unwrap();
    let gone = "column \"embedding\" of public.passages does not exist. \
                Call infinity_embed.auto_embed() again, or infinity_embed.stop_auto_embed('public.passages', 'embedding').";
    assert_eq!(problem(&mut client).as_deref(), Some(gone));
    process(&mut client);
    let kept: String = client
        .query_one("SELECT problem FROM infinity_embed.targets", &[])
        .unwrap()
        .get(0);
    assert_eq!(kept, gone);
    assert_eq!((blamed(&mut client), waiting(&mut client)), (0, 5));
    assert_eq!(server.requests().len(), 0);
    client
        .batch_execute("ALTER TABLE passages RENAME vectors TO embedding")
        .unwrap();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
    assert_eq!(problem(&mut client), None);
    // What belongs to a column that is gone for good goes with the next definition.
    client
        .batch_execute(
            "ALTER TABLE passages DROP COLUMN embedding, ADD COLUMN vectors real[];
             SELECT infinity_embed.auto_embed('passages', 'body', 'vectors')",
        )
        .unwrap();
    assert_eq!(count(&mut client, "infinity_embed.targets"), 1);
    process(&mut client);
    let embedded = count(&mut client, "passages WHERE vectors IS NOT NULL");
    assert_eq!((embedded, waiting(&mut client)), (5, 0));
}

#[test]
fn rows_that_row_level_security_hides_from_the_owner_are_not_lost() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]); ALTER TABLE docs OWNER TO {owner};
         INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 5) AS i;
         CREATE POLICY odd ON docs USING (id % 2 = 1);
         ALTER TABLE docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    ));
    let mut client = database.client();
    let switch_on = "SELECT infinity_embed.auto_embed('docs', 'body', 'embedding')";
    let error = database_error(client.batch_execute(switch_on));
    assert_eq!(error.code().code(), "55000", "{error}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains("NO FORCE ROW LEVEL SECURITY")
    );
    client
        .batch_execute(&format!(
            "ALTER ROLE {owner} BYPASSRLS; {switch_on}; ALTER ROLE {owner} NOBYPASSRLS"
        ))
        .unwrap();
    let embedded = "docs WHERE embedding IS NOT NULL";
    process(&mut client);
    assert_eq!((count(&mut client, embedded), waiting(&mut client)), (0, 5));
    assert_eq!(blamed(&mut client), 0);
    let problem = problem(&mut client).unwrap();
    assert!(problem.contains("row-level security"), "{problem}");
    client
        .batch_execute("ALTER TABLE docs NO FORCE ROW LEVEL SECURITY")
        .unwrap();
    process(&mut client);
    assert_eq!((count(&mut client, embedded), waiting(&mut client)), (5, 0));
}

/// Five rows of a table `docs` whose owner is no superuser.
fn docs(database: &Database) -> String {
    let owner = database.role("owner");
    database.run(&format!(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]); ALTER TABLE docs OWNER TO {owner};
         INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 5) AS i;
         SELECT infinity_embed.allow('{owner}');
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding')"
    ));
    owner
}

/// CALL, while the statement commits as soon as CALL waits for the table. Whether it did so in time.
fn process_during(database: &Database, alter: &str) -> bool {
    let (mut client, notices) = notices(database);
    let mut writer = database.client();
    let mut observer = database.client();
    let pid = Backend::of(&mut client).pid();
    let mut transaction = writer.transaction().unwrap();
    transaction.batch_execute(alter).unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| process(&mut client));
        wait_until("CALL waits for the table, or has waited", SOON, || {
            call.is_finished()
                || count(
                    &mut observer,
                    &format!("pg_locks WHERE pid = {pid} AND NOT granted"),
                ) == 1
        });
        if call.is_finished() {
            transaction.rollback().unwrap();
        } else {
            transaction.commit().unwrap();
        }
        call.join().unwrap();
    });
    !notices
        .try_iter()
        .any(|told| told.contains("could not lock"))
}

#[test]
fn what_is_altered_while_a_batch_waits_for_the_table_neither_blames_nor_loses_a_row() {
    let server = server(Duration::ZERO);
    for (alter, undo) in [
        (
            "ALTER TABLE docs RENAME body TO text",
            "ALTER TABLE docs RENAME text TO body",
        ),
        (
            "ALTER TABLE docs RENAME embedding TO vectors",
            "ALTER TABLE docs RENAME vectors TO embedding",
        ),
        (
            "ALTER TABLE docs RENAME TO papers",
            "ALTER TABLE papers RENAME TO docs",
        ),
        (
            "ALTER TABLE docs RENAME TO papers; CREATE TABLE docs AS SELECT id, 'another' AS body, NULL::real[] AS embedding FROM papers",
            "DROP TABLE docs; ALTER TABLE papers RENAME TO docs",
        ),
        ("ALTER TABLE docs OWNER TO postgres", ""),
        (
            "CREATE POLICY none ON docs USING (false); ALTER TABLE docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "ALTER TABLE docs NO FORCE ROW LEVEL SECURITY; DROP POLICY none ON docs",
        ),
    ] {
        let database = database(&server);
        docs(&database);
        let mut client = database.client();
        let mut tries = 0;
        while !process_during(&database, alter) {
            client.batch_execute(undo).unwrap();
            tries += 1;
            assert!(tries < 20, "{alter}: always too late");
        }
        let failed = count(
            &mut client,
            "infinity_embed.queue WHERE attempts > 0 OR is_suspect",
        );
        assert_eq!(failed, 0, "{alter}");
        client.batch_execute(undo).unwrap();
        process(&mut client);
        let embedded = count(&mut client, "docs WHERE embedding IS NOT NULL");
        assert_eq!((embedded, waiting(&mut client)), (5, 0), "{alter}");
    }
}

#[test]
fn a_table_that_gets_children_waits_until_it_has_none() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    client
        .batch_execute(
            "CREATE TABLE kid () INHERITS (passages); INSERT INTO kid (id, body) VALUES (1, 'another')",
        )
        .unwrap();
    process(&mut client);
    let told = problem(&mut client).unwrap();
    assert!(
        told.starts_with("public.passages has child tables. "),
        "{told}"
    );
    assert_eq!((blamed(&mut client), waiting(&mut client)), (0, 3));
    client
        .batch_execute("ALTER TABLE kid NO INHERIT passages")
        .unwrap();
    process(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn an_owner_who_may_not_write_his_table_is_a_problem_that_no_row_pays_for() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let owner = docs(&database);
    let (mut client, notices) = notices(&database);
    client
        .batch_execute(&format!("REVOKE ALL ON docs FROM {owner}"))
        .unwrap();
    process(&mut client);
    let told = notices.try_iter().collect::<Vec<_>>().join("\n");
    assert!(
        told.contains("rows of public.docs were left for a later call: could not lock table public.docs as its owner: permission denied"),
        "{told}"
    );
    assert_eq!((blamed(&mut client), waiting(&mut client)), (0, 5));
    assert_eq!(server.requests().len(), 0);
    client
        .batch_execute(&format!("GRANT ALL ON docs TO {owner}"))
        .unwrap();
    process(&mut client);
    let embedded = count(&mut client, "docs WHERE embedding IS NOT NULL");
    assert_eq!((embedded, waiting(&mut client)), (5, 0));
}

#[test]
fn no_worker_stays_for_rows_whose_table_has_to_be_altered_first() {
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 5);
    let mut client = database.client();
    client
        .batch_execute("ALTER TABLE passages RENAME embedding TO vectors")
        .unwrap();
    start_worker(&database, &mut client);
    wait_until("it has left", SOON, || {
        workers(&database, &mut client).is_empty()
    });
    assert_eq!((blamed(&mut client), waiting(&mut client)), (0, 5));
    client
        .batch_execute("ALTER TABLE passages RENAME vectors TO embedding")
        .unwrap();
    start_worker(&database, &mut client);
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    assert_eq!(wrong(&mut client), 0);
}
