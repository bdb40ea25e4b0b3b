//! SQL of a table's owner that has no end: the worker gives it up, and the row over which it happens, also where the SQL
//! catches its cancel and goes on, so that the worker has to end.

use std::time::Duration;

use cluster_tests::{Database, wait_until};
use mock_infinity::Server;
use postgres::Client;

use crate::worker::{SOON, start_worker};
use crate::{count, passages, server, wrong};

/// What SQL does when its time is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Ends,
    GoesOn,
}

/// A table `others` of 20 rows, in one of which the source, or the trigger, sleeps; and `passages`. The worker gives up after a second.
fn endless(server: &Server, in_trigger: bool, over: When) -> Database<'static> {
    let database = passages(server, 50);
    database.set("infinity_embed.timeout", "1s");
    database.set("infinity_embed.max_attempts", "1");
    let sleep = match over {
        When::Ends => "PERFORM pg_sleep(3600)",
        When::GoesOn => {
            "LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP"
        }
    };
    database.run(&format!(
        "CREATE FUNCTION endless(body text) RETURNS text STABLE LANGUAGE plpgsql AS
             'BEGIN IF body LIKE ''%endless%'' THEN {sleep}; END IF; RETURN body; END';
         CREATE FUNCTION endless() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM public.endless(NEW.body); RETURN NEW; END';
         CREATE TABLE others (id int PRIMARY KEY, body text, embedding real[]);
         INSERT INTO others SELECT i, CASE i WHEN 7 THEN 'endless' ELSE 'other' END FROM generate_series(1, 20) AS i"
    ));
    database.run(match in_trigger {
        true => {
            "CREATE TRIGGER endless BEFORE UPDATE ON others FOR EACH ROW EXECUTE FUNCTION endless();
             SELECT infinity_embed.auto_embed('others', 'body', 'embedding')"
        }
        false => "SELECT infinity_embed.auto_embed('others', 'public.endless(body)', 'embedding')",
    });
    database.set("infinity_embed.worker", "on");
    database
}

fn sleeps(client: &mut Client) -> bool {
    count(
        client,
        "pg_stat_activity WHERE backend_type = 'infinity_embed worker' AND wait_event = 'PgSleep'
             AND datname = current_database()",
    ) == 1
}

fn fails_alone(in_trigger: bool, over: When, what: &str) {
    let server = server(Duration::ZERO);
    let database = endless(&server, in_trigger, over);
    let mut observer = database.client();
    start_worker(&database, &mut observer);
    wait_until("all others are embedded", SOON, || {
        count(&mut observer, "others WHERE embedding IS NOT NULL") == 19
            && wrong(&mut observer) == 0
    });
    wait_until("the endless row is dead", SOON, || {
        count(&mut observer, "infinity_embed.queue WHERE dead") == 1
    });
    let row = observer
        .query_one(
            "SELECT key, attempts, is_suspect, error FROM infinity_embed.queue",
            &[],
        )
        .unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("7", 1, true));
    let error: String = row.get(3);
    assert!(
        error.starts_with(&format!(
            "{what} of table public.others took longer than 1 s"
        )),
        "{error}"
    );
    assert_eq!(error.contains("caught its cancel"), over == When::GoesOn);
}

#[test]
fn a_source_without_end_fails_alone() {
    fails_alone(false, When::Ends, "reading the source");
}

#[test]
fn a_trigger_without_end_fails_alone() {
    fails_alone(true, When::Ends, "writing the embedding");
}

#[test]
fn a_source_that_catches_its_cancel_fails_alone() {
    fails_alone(false, When::GoesOn, "reading the source");
}

#[test]
fn a_trigger_that_catches_its_cancel_fails_alone() {
    fails_alone(true, When::GoesOn, "writing the embedding");
}

fn leaves_the_others_their_time(over: When) {
    let server = server(Duration::ZERO);
    let database = endless(&server, false, over);
    database.set("infinity_embed.max_attempts", "100");
    let mut observer = database.client();
    database.run("UPDATE others SET body = 'endless'");
    start_worker(&database, &mut observer);
    for round in 0..3 {
        wait_until("others' source has been tried", SOON, || {
            sleeps(&mut observer)
        });
        database.run(&format!(
            "UPDATE passages SET body = 'round {round} of ' || id"
        ));
        wait_until(
            "the other table is embedded",
            Duration::from_secs(10),
            || wrong(&mut observer) == 0,
        );
    }
    assert_eq!(
        count(&mut observer, "others WHERE embedding IS NOT NULL"),
        0
    );
}

#[test]
fn a_table_of_endless_rows_leaves_the_others_their_time() {
    leaves_the_others_their_time(When::Ends);
}

#[test]
fn a_table_whose_rows_catch_their_cancel_leaves_the_others_their_time() {
    leaves_the_others_their_time(When::GoesOn);
}

#[test]
fn nobody_is_blamed_for_the_end_of_a_worker_that_others_end() {
    let server = server(Duration::ZERO);
    let database = endless(&server, true, When::GoesOn);
    database.set("infinity_embed.timeout", "60s");
    let mut observer = database.client();
    let worker = start_worker(&database, &mut observer);
    wait_until("it sleeps", SOON, || sleeps(&mut observer));
    worker.cancel(&mut observer);
    worker.terminate(&mut observer);
    wait_until("it has gone", Duration::from_secs(1), || !worker.is_alive());
    let blamed = "infinity_embed.queue WHERE attempts > 0 OR is_suspect";
    assert_eq!(count(&mut observer, blamed), 0);
}

#[test]
fn a_worker_in_endless_sql_can_be_cancelled_and_terminated() {
    let server = server(Duration::ZERO);
    let database = endless(&server, false, When::Ends);
    database.set("infinity_embed.timeout", "60s");
    let mut observer = database.client();
    let worker = start_worker(&database, &mut observer);
    wait_until("it sleeps", SOON, || sleeps(&mut observer));
    worker.cancel(&mut observer);
    wait_until("it rests", Duration::from_secs(1), || {
        !sleeps(&mut observer)
    });
    assert!(worker.is_alive());
    wait_until("it sleeps again", SOON, || sleeps(&mut observer));
    assert_eq!(
        count(&mut observer, "infinity_embed.queue WHERE attempts > 0"),
        0
    );
    worker.terminate(&mut observer);
    wait_until("it has gone", Duration::from_secs(1), || !worker.is_alive());
}
