//! Somebody's open transaction: what it has locked waits for it, and nothing else does.

use std::time::Duration;

use cluster_tests::{Database, wait_until};
use postgres::Client;

use crate::worker::{SOON, start_worker};
use crate::{count, notices, passages, process, server, waiting, wrong};

/// What another session leaves open.
const TABLE_LOCKS: [&str; 3] = [
    "ALTER TABLE others ADD COLUMN more text",
    // As CREATE INDEX has it for as long as it takes.
    "LOCK TABLE others IN SHARE MODE",
    "SELECT infinity_embed.auto_embed('others', 'body', 'embedding')",
];

/// A second table with so many rows that are kept embedded.
fn add_others(database: &Database, rows: u32) {
    database.run(&format!(
        "CREATE TABLE others (id int PRIMARY KEY, body text, embedding real[]);
         INSERT INTO others SELECT i, 'other number ' || i FROM generate_series(1, {rows}) AS i;
         SELECT infinity_embed.auto_embed('others', 'body', 'embedding')"
    ));
}

/// CALL, of a caller who does not wait for ever.
fn process_soon(client: &mut Client) {
    client
        .batch_execute("SET statement_timeout = '20s'")
        .unwrap();
    process(client);
}

fn embedded(client: &mut Client, table: &str) -> i64 {
    count(client, &format!("{table} WHERE embedding IS NOT NULL"))
}

/// Changes of rows that have jobs already.
fn change_twice(database: &Database, table: &str) {
    let change = format!("UPDATE {table} SET body = body || '.'");
    database.run(&change);
    // As often as it takes to come to those behind 10,000.
    database.run("SELECT infinity_embed.make_jobs(1000000) FROM generate_series(1, 3)");
    database.run(&change);
}

#[test]
fn jobs_that_an_open_transaction_has_locked_hold_up_no_others() {
    for statement in [
        "DELETE FROM others WHERE id < 3",
        "UPDATE others SET id = id + 100 WHERE id < 3",
        "TRUNCATE others",
        "SELECT infinity_embed.stop_auto_embed('others')",
        "SELECT infinity_embed.auto_embed('others', 'upper(body)', 'embedding')",
    ] {
        let server = server(Duration::ZERO);
        let database = passages(&server, 20);
        add_others(&database, 5);
        change_twice(&database, "passages");
        change_twice(&database, "others");
        let mut writer = database.client();
        let mut client = database.client();
        let mut transaction = writer.transaction().unwrap();
        transaction.batch_execute(statement).unwrap();
        process_soon(&mut client);
        assert_eq!(embedded(&mut client, "passages"), 20, "{statement}");
        if statement.contains("id < 3") {
            assert_eq!(embedded(&mut client, "others"), 3, "{statement}");
        }
        transaction.rollback().unwrap();
        process_soon(&mut client);
        assert_eq!(embedded(&mut client, "others"), 5, "{statement}");
        assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
    }
}

#[test]
fn any_number_of_locked_jobs_does_not_starve_what_was_noted_after_them() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    add_others(&database, 10_500);
    change_twice(&database, "others");
    let mut writer = database.client();
    let mut client = database.client();
    let mut transaction = writer.transaction().unwrap();
    transaction.batch_execute("DELETE FROM others").unwrap();
    database.run("INSERT INTO passages (id, body) VALUES (4, 'later')");
    process_soon(&mut client);
    assert_eq!(embedded(&mut client, "passages"), 4);
    transaction.commit().unwrap();
    process_soon(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn call_leaves_a_locked_table_and_says_so() {
    for statement in TABLE_LOCKS {
        let server = server(Duration::ZERO);
        let database = passages(&server, 500);
        add_others(&database, 5);
        let mut writer = database.client();
        let (mut client, notices) = notices(&database);
        let mut transaction = writer.transaction().unwrap();
        transaction.batch_execute(statement).unwrap();
        process_soon(&mut client);
        assert_eq!(embedded(&mut client, "passages"), 500, "{statement}");
        let told = notices.try_iter().collect::<Vec<_>>().join("\n");
        assert!(told.contains("500 rows embedded"), "{statement}: {told}");
        assert!(
                told.contains("rows of public.others were left for a later call: could not lock table public.others"),
                "{statement}: {told}"
            );
        assert_eq!(
            count(
                &mut client,
                "infinity_embed.queue WHERE attempts > 0 OR claim IS NOT NULL"
            ),
            0,
            "{statement}"
        );
        transaction.rollback().unwrap();
        process_soon(&mut client);
        assert_eq!(embedded(&mut client, "others"), 5, "{statement}");
        assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
    }
}

#[test]
fn the_worker_goes_on_beside_a_locked_table_and_returns_to_it() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 50);
    add_others(&database, 400);
    database.set("infinity_embed.worker", "on");
    let mut observer = database.client();
    let mut writer = database.client();
    let mut transaction = writer.transaction().unwrap();
    transaction.batch_execute(TABLE_LOCKS[0]).unwrap();
    start_worker(&database, &mut observer);
    wait_until("the other table is embedded", SOON, || {
        embedded(&mut observer, "passages") == 50 && wrong(&mut observer) == 0
    });
    wait_until("the problem is told", SOON, || {
        count(
            &mut observer,
            "infinity_embed.targets WHERE problem LIKE 'could not lock table public.others within 100 ms%'",
        ) == 1
    });
    // Again and again, not only once.
    database.run("UPDATE passages SET body = 'newer ' || id");
    wait_until("what comes later is embedded too", SOON, || {
        wrong(&mut observer) == 0
    });
    transaction.commit().unwrap();
    wait_until("the table is returned to", SOON, || {
        waiting(&mut observer) == 0
    });
    assert_eq!(embedded(&mut observer, "others"), 400);
    assert_eq!(
        count(
            &mut observer,
            "infinity_embed.targets WHERE problem IS NOT NULL"
        ),
        0
    );
}

#[test]
fn an_open_auto_embed_does_not_stop_the_worker() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 50);
    add_others(&database, 400);
    database.set("infinity_embed.worker", "on");
    let mut observer = database.client();
    let mut writer = database.client();
    let mut transaction = writer.transaction().unwrap();
    transaction.batch_execute(TABLE_LOCKS[2]).unwrap();
    start_worker(&database, &mut observer);
    for round in 0..3 {
        database.run(&format!(
            "UPDATE passages SET body = 'round {round} of ' || id"
        ));
        wait_until("the other table is embedded", SOON, || {
            wrong(&mut observer) == 0
        });
    }
    transaction.commit().unwrap();
    wait_until("the table is returned to", SOON, || {
        waiting(&mut observer) == 0
    });
    assert_eq!(embedded(&mut observer, "others"), 400);
}

#[test]
fn a_locked_table_costs_the_server_nothing() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 300);
    let mut writer = database.client();
    let mut client = database.client();
    let mut transaction = writer.transaction().unwrap();
    transaction
        .batch_execute("LOCK TABLE passages IN SHARE MODE")
        .unwrap();
    for _ in 0..3 {
        process_soon(&mut client);
    }
    assert!(server.requests().is_empty());
    transaction.rollback().unwrap();
    process_soon(&mut client);
    assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
}

#[test]
fn what_a_trigger_waits_for_stops_neither_the_other_rows_nor_the_other_tables() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 20);
    add_others(&database, 200);
    database.run(
        "CREATE TABLE gates (id int PRIMARY KEY);
         INSERT INTO gates SELECT generate_series(0, 1);
         CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM FROM public.gates WHERE id = (NEW.id > 100)::int FOR UPDATE; RETURN NEW; END';
         CREATE TRIGGER pass BEFORE UPDATE ON others FOR EACH ROW EXECUTE FUNCTION pass()",
    );
    let mut writer = database.client();
    let (mut client, notices) = notices(&database);
    let mut transaction = writer.transaction().unwrap();
    // All rows, and then those up to 100.
    transaction
        .batch_execute("SELECT FROM gates FOR UPDATE")
        .unwrap();
    process_soon(&mut client);
    assert_eq!(embedded(&mut client, "passages"), 20);
    let told = notices.try_iter().collect::<Vec<_>>().join("\n");
    assert!(
        told.contains("rows of public.others were left for a later call"),
        "{told}"
    );
    transaction.rollback().unwrap();
    let mut transaction = writer.transaction().unwrap();
    transaction
        .batch_execute("SELECT FROM gates WHERE id = 0 FOR UPDATE")
        .unwrap();
    wait_until(
        "those behind the open gate are written",
        Duration::from_secs(60),
        || {
            process_soon(&mut client);
            count(
                &mut client,
                "others WHERE embedding IS NOT NULL AND id > 100",
            ) == 100
        },
    );
    assert_eq!(
        count(&mut client, "infinity_embed.queue WHERE attempts > 0"),
        0
    );
    transaction.rollback().unwrap();
    wait_until("all are written", Duration::from_secs(60), || {
        process_soon(&mut client);
        embedded(&mut client, "others") == 200
    });
}

#[test]
fn call_tells_of_rows_that_wait_for_a_definition() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    add_others(&database, 3);
    database
        .run("ALTER TABLE others DROP CONSTRAINT others_pkey, ADD COLUMN code serial PRIMARY KEY");
    let (mut client, notices) = notices(&database);
    process_soon(&mut client);
    let told = notices.try_iter().collect::<Vec<_>>().join("\n");
    assert!(
        told.contains("rows of public.others wait: the primary key of public.others has changed. Call infinity_embed.auto_embed() again."),
        "{told}"
    );
    assert_eq!(embedded(&mut client, "passages"), 3);
}

#[test]
fn the_backfill_of_a_table_does_not_wait_behind_that_of_one_that_cannot_be_worked_on() {
    for statement in [
        "LOCK TABLE passages IN SHARE MODE",
        "ALTER TABLE passages RENAME embedding TO vectors",
    ] {
        let server = server(Duration::ZERO);
        let database = passages(&server, 2_000);
        let mut writer = database.client();
        let mut client = database.client();
        // Its jobs are made, more than a batch takes.
        client
            .batch_execute("CALL infinity_embed.process_queue(max_jobs => 1)")
            .unwrap();
        add_others(&database, 5);
        let mut transaction = writer.transaction().unwrap();
        transaction.batch_execute(statement).unwrap();
        let mut open = Some(transaction);
        if statement.starts_with("ALTER") {
            open.take().unwrap().commit().unwrap();
        }
        process_soon(&mut client);
        assert_eq!(embedded(&mut client, "others"), 5, "{statement}");
        drop(open);
    }
}
