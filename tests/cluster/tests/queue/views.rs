//! What one sees of the queue, and who sees it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_tests::{database_error, wait_until};
use mock_infinity::{Fault, Times};
use postgres::{Client, NoTls};

use crate::worker::SOON;
use crate::{count, database, passages, process, server};

/// What `status` says of the only target; whether something has a time since when it waits.
fn status(client: &mut Client) -> ([i64; 6], bool) {
    let row = client
        .query_one("SELECT * FROM infinity_embed.status", &[])
        .unwrap();
    let names = ["rows", "embedded", "pending", "failed", "dead", "written"];
    let oldest = row.get::<_, Option<std::time::SystemTime>>("oldest_pending");
    (names.map(|name| row.get(name)), oldest.is_some())
}

/// The statistics of a session are there for others a little later.
fn await_statistics(client: &mut Client, table: &str, rows: i64) {
    wait_until("the rows are counted", SOON, || {
        let counted =
            format!("pg_stat_user_tables WHERE relname = '{table}' AND n_live_tup = {rows}");
        count(client, &counted) == 1
    });
}

/// The jobs, one per line: key, state, attempts, whether there is an error and a next attempt, whether it is the backfill's.
fn jobs(client: &mut Client) -> Vec<String> {
    client
        .query(
            "SELECT concat_ws(' ', key, state, attempts, error IS NOT NULL, next_attempt IS NOT NULL, is_backfill)
             FROM infinity_embed.jobs ORDER BY key",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn the_views_tell_what_is_pending_failed_and_dead() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 10);
    let monitor = database.role("monitor");
    database.run(&format!("GRANT pg_monitor TO {monitor}"));
    let mut watcher = database.client_as(&monitor);
    await_statistics(&mut watcher, "passages", 10);
    assert_eq!(status(&mut watcher), ([10, 0, 10, 0, 0, 0], true));
    database.run("UPDATE passages SET body = 'POISON' WHERE id = 3");
    assert_eq!(status(&mut watcher), ([10, 0, 10, 0, 0, 0], true));
    server.inject(
        Fault::Poison {
            marker: "POISON".into(),
            status: 422,
        },
        Times::Always,
    );
    process(&mut database.client());
    assert_eq!(status(&mut watcher), ([10, 9, 1, 1, 0, 9], true));
    database.set("infinity_embed.max_attempts", "1");
    database.run("UPDATE passages SET body = 'more POISON' WHERE id = 3");
    process(&mut database.client());
    assert_eq!(status(&mut watcher), ([10, 9, 0, 0, 1, 9], false));
    let row = database
        .client_as(&monitor)
        .query_one(
            "SELECT relation::text, target::text, key, error, dead FROM infinity_embed.errors",
            &[],
        )
        .unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2), row.get(4)),
        ("passages", "embedding", "3", true)
    );
    assert!(row.get::<_, &str>(3).contains("refused the input"));
    // Of 10 rows no more than 10 are embedded, however often.
    database.run("UPDATE passages SET body = 'good ' || id");
    process(&mut database.client());
    assert_eq!(status(&mut watcher), ([10, 10, 0, 0, 0, 19], false));
}

#[test]
fn rows_of_all_partitions_are_counted() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    database.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF docs FOR VALUES FROM (0) TO (10);
         CREATE TABLE high PARTITION OF docs FOR VALUES FROM (10) TO (100);
         SELECT infinity_embed.auto_embed('docs', 'body', 'embedding');
         INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 20) AS i",
    );
    let mut client = database.client();
    await_statistics(&mut client, "low", 9);
    await_statistics(&mut client, "high", 11);
    assert_eq!(status(&mut client), ([20, 0, 20, 0, 0, 0], true));
    process(&mut client);
    assert_eq!(status(&mut client), ([20, 20, 0, 0, 0, 20], false));
}

#[test]
fn jobs_has_one_row_for_each_that_waits_and_says_how_it_stands() {
    let mut server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    // The one noted again three times, the other new.
    client
        .batch_execute(
            "UPDATE passages SET body = 'POISON' WHERE id = 2; UPDATE passages SET body = 'more POISON' WHERE id = 2;
             UPDATE passages SET body = 'new' WHERE id = 1; INSERT INTO passages VALUES (4, 'four')",
        )
        .unwrap();
    let first = [
        "1 waiting 0 f t f",
        "2 waiting 0 f t f",
        "3 waiting 0 f t t",
        "4 waiting 0 f t f",
    ];
    assert_eq!(jobs(&mut client), first);
    client
        .batch_execute("SELECT infinity_embed.make_jobs(10)")
        .unwrap();
    assert_eq!(jobs(&mut client), first);
    let poison = Fault::Poison {
        marker: "POISON".into(),
        status: 422,
    };
    server.inject(poison, Times::Always);
    process(&mut client);
    assert_eq!(jobs(&mut client), ["2 failed 1 t t f"]);
    client
        .batch_execute(
            "SET infinity_embed.max_attempts = 1; UPDATE passages SET body = 'POISON' WHERE id = 2",
        )
        .unwrap();
    assert_eq!(jobs(&mut client), ["2 waiting 0 f t f"]);
    process(&mut client);
    assert_eq!(jobs(&mut client), ["2 dead 1 t f f"]);
    client
        .batch_execute("UPDATE passages SET body = 'good' WHERE id = 2")
        .unwrap();
    assert_eq!(jobs(&mut client), ["2 waiting 0 f t f"]);
    server.stop();
    let slow = crate::server(Duration::from_secs(1));
    database.set("infinity_embed.url", &slow.url());
    let mut caller = database.client();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| process(&mut caller));
        wait_until("a request is there", SOON, || !slow.requests().is_empty());
        assert_eq!(jobs(&mut client), ["2 embedding 0 f f f"]);
        call.join().unwrap();
    });
    assert_eq!(jobs(&mut client), [""; 0]);
}

#[test]
fn an_owner_sees_his_own_tables_and_nobody_anothers() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let [owner, member, other, stranger, monitor] =
        ["owner", "member", "other", "stranger", "monitor"].map(|name| database.role(name));
    database.set("infinity_embed.max_attempts", "1");
    database.run(&format!(
        "GRANT {owner} TO {member}; GRANT pg_monitor TO {monitor};
         CREATE TABLE first (id text PRIMARY KEY, body text, embedding real[]); ALTER TABLE first OWNER TO {owner};
         CREATE TABLE second (LIKE first INCLUDING ALL); ALTER TABLE second OWNER TO {other};
         SELECT infinity_embed.auto_embed('first', 'body', 'embedding'), infinity_embed.auto_embed('second', 'body', 'embedding');
         INSERT INTO first VALUES ('secret 1', 'POISON'); INSERT INTO second VALUES ('secret 2', 'POISON')"
    ));
    server.inject(
        Fault::Poison {
            marker: "POISON".into(),
            status: 422,
        },
        Times::Always,
    );
    process(&mut database.client());
    for (role, tables) in [
        (&owner, "first"),
        (&member, "first"),
        (&other, "second"),
        (&stranger, ""),
        (&monitor, "first second"),
    ] {
        let (mut client, notices) = listener(&database, role);
        for view in ["status", "jobs", "errors"] {
            let query = format!(
                "SELECT coalesce(string_agg(relation::text, ' ' ORDER BY relation::text), '') FROM infinity_embed.{view}"
            );
            let seen: String = client.query_one(&query, &[]).unwrap().get(0);
            assert_eq!(seen, tables, "{view} {role}");
        }
        // A function that costs next to nothing would be called first of all.
        client
            .batch_execute(
                "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
                     'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END';
                 SELECT * FROM infinity_embed.jobs WHERE pg_temp.leak(key);
                 SELECT * FROM infinity_embed.errors WHERE pg_temp.leak(key)",
            )
            .unwrap();
        let notices = notices.lock().unwrap();
        let expected = 2 * tables.split_whitespace().count();
        assert_eq!(notices.len(), expected, "{role}: {notices:?}");
        for table in ["queue", "targets", "changes", "backfill"] {
            let read = client.batch_execute(&format!("SELECT FROM infinity_embed.{table}"));
            match *role == monitor {
                true => read.unwrap(),
                false => assert_eq!(database_error(read).code().code(), "42501"),
            }
        }
    }
}

#[test]
fn a_dropped_table_is_seen_no_more() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 3);
    let mut client = database.client();
    client
        .batch_execute(
            "SELECT infinity_embed.make_jobs(10); UPDATE passages SET body = 'new' WHERE id = 1; DROP TABLE passages",
        )
        .unwrap();
    for view in ["status", "jobs", "errors"] {
        assert_eq!(count(&mut client, &format!("infinity_embed.{view}")), 0);
    }
    // Nor is it waited for; and whoever defines the next column clears up.
    let waited: bool = client
        .query_one("SELECT infinity_embed.wait(timeout => '0.1 s')", &[])
        .unwrap()
        .get(0);
    assert!(waited);
    client
        .batch_execute(
            "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]);
             SELECT infinity_embed.auto_embed('docs', 'body', 'embedding')",
        )
        .unwrap();
    let targets = count(&mut client, "infinity_embed.targets");
    assert_eq!((targets, crate::waiting(&mut client)), (1, 0));
}

/// A session and what it is told.
pub(crate) fn listener(
    database: &cluster_tests::Database,
    role: &str,
) -> (Client, Arc<Mutex<Vec<String>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    let client = database
        .cluster()
        .config(database.name(), role)
        .notice_callback(move |notice| {
            let hint = notice.hint().unwrap_or_default();
            let text = format!("{}: {} {hint}", notice.severity(), notice.message());
            heard.lock().unwrap().push(text);
        })
        .connect(NoTls)
        .unwrap();
    (client, notices)
}
