//! Triggers that change the source when the embedding is written: such a row is not embedded for ever.

use std::time::Duration;

use cluster_tests::{Database, wait_until};
use mock_infinity::Server;
use postgres::Client;

use crate::worker::{SOON, start_worker};
use crate::{count, passages, process, server, waiting, wrong};

/// The time of the last change, as part of the source of rows 10 and 20.
const BEFORE: &str = "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN IF NEW.id % 10 = 0 THEN NEW.body := ''at '' || now(); END IF; RETURN NEW; END';
    CREATE TRIGGER stamp BEFORE UPDATE ON passages FOR EACH ROW EXECUTE FUNCTION stamp()";
/// The same by a statement of its own.
const AFTER: &str = "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN UPDATE public.passages SET body = ''at '' || now() WHERE id = NEW.id AND id % 10 = 0; RETURN NULL; END';
    CREATE TRIGGER stamp AFTER UPDATE ON passages FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION stamp()";

fn stamped(server: &Server, trigger: &str) -> Database<'static> {
    let database = passages(server, 20);
    database.set("infinity_embed.max_attempts", "2");
    database.run(trigger);
    database
}

fn dead(client: &mut Client) -> i64 {
    count(client, "infinity_embed.errors WHERE dead")
}

fn is_settled(server: &Server, client: &mut Client) {
    let row = client
        .query_one(
            "SELECT string_agg(key, ' ' ORDER BY key), min(attempts), min(error), max(error) FROM infinity_embed.errors WHERE dead",
            &[],
        )
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), ("10 20", 2));
    let (error, other): (String, String) = (row.get(2), row.get(3));
    assert!(
        error.starts_with("a trigger of table public.passages changes the source whenever the embedding is written: ")
            && error == other,
        "{error}"
    );
    assert_eq!(waiting(client), 0);
    // All once, these two again, and in each of their two attempts; the dimension is one more.
    let inputs: usize = server.requests().iter().map(|request| request.inputs).sum();
    assert!(inputs <= 20 + 2 + 2 * 2 + 1, "{inputs} inputs");
    client
        .batch_execute(
            "DROP TRIGGER stamp ON passages; SELECT infinity_embed.retry_dead('passages')",
        )
        .unwrap();
}

#[test]
fn rows_whose_source_every_write_changes_are_dead_in_the_end() {
    for trigger in [BEFORE, AFTER] {
        let server = server(Duration::ZERO);
        let database = stamped(&server, trigger);
        let mut client = database.client();
        wait_until("they are dead", SOON, || {
            process(&mut client);
            dead(&mut client) == 2
        });
        is_settled(&server, &mut client);
        process(&mut client);
        assert_eq!((waiting(&mut client), wrong(&mut client)), (0, 0));
    }
}

#[test]
fn the_worker_comes_to_an_end_with_them() {
    let server = server(Duration::ZERO);
    let database = stamped(&server, BEFORE);
    database.set("infinity_embed.worker", "on");
    let mut observer = database.client();
    start_worker(&database, &mut observer);
    wait_until("they are dead", SOON, || dead(&mut observer) == 2);
    assert_eq!(count(&mut observer, "passages WHERE embedding IS NULL"), 0);
}

#[test]
fn a_trigger_that_comes_to_rest_fails_no_row() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 20);
    database.set("infinity_embed.max_attempts", "1");
    database.run(
        "CREATE FUNCTION trimmed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.body := trim(NEW.body); RETURN NEW; END';
         UPDATE passages SET body = '  ' || body || ' ';
         CREATE TRIGGER trim BEFORE UPDATE ON passages FOR EACH ROW EXECUTE FUNCTION trimmed()",
    );
    let mut client = database.client();
    process(&mut client);
    assert_eq!((dead(&mut client), waiting(&mut client)), (0, 0));
    assert_eq!(count(&mut client, "passages WHERE body LIKE ' %'"), 0);
    assert_eq!(wrong(&mut client), 0);
}

#[test]
fn a_trigger_may_change_other_rows() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 20);
    database.set("infinity_embed.max_attempts", "1");
    // Each row's write changes the source of the next, to the last.
    database.run(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN UPDATE public.passages SET body = body || ''.'' WHERE id = NEW.id + 1; RETURN NULL; END';
         CREATE TRIGGER tell AFTER UPDATE OF embedding ON passages FOR EACH ROW EXECUTE FUNCTION tell()",
    );
    let mut client = database.client();
    process(&mut client);
    assert_eq!((dead(&mut client), waiting(&mut client)), (0, 0));
    assert_eq!(wrong(&mut client), 0);
}
