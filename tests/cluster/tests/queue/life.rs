//! The life of a worker: what signals, barriers, changed settings, errors and an absent server do to it.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster_tests::{Backend, Cluster, Database, database_error, wait_until};
use mock_infinity::Server;
use postgres::Client;

use crate::worker::{SOON, passages_with_worker, start_worker, workers};
use crate::{passages, passages_of, server, waiting, wrong};

/// Longer than anything here may take.
const SLOW: Duration = Duration::from_secs(5);
const PROMPT: Duration = Duration::from_secs(1);

fn await_request(server: &Server) {
    wait_until("a request is there", SOON, || !server.requests().is_empty());
}

fn await_outage(database: &Database, client: &mut Client) -> Backend {
    let worker = start_worker(database, client);
    wait_until("the outage is noticed", SOON, || {
        crate::count(client, "infinity_embed.targets WHERE problem IS NOT NULL") == 1
    });
    worker
}

fn assert_drained_by(worker: Backend, database: &Database, client: &mut Client) {
    wait_until("nothing waits", SOON, || waiting(client) == 0);
    assert_eq!(workers(database, client), [worker]);
    // In a session that knows the settings of now.
    assert_eq!(wrong(&mut database.client()), 0);
}

/// What the worker has written into the server's log.
fn complaints(database: &Database, worker: Backend) -> Vec<String> {
    let process = format!("[{}]", worker.pid());
    let log = database.cluster().log();
    let lines = log.lines().filter(|line| line.contains(&process));
    lines.map(str::to_owned).collect()
}

#[test]
fn sighup_gives_a_running_worker_the_new_settings() {
    let mut gone = server(Duration::ZERO);
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[("infinity_embed.url", &gone.url())]);
    let database = cluster.database();
    gone.stop();
    database.set("infinity_embed.max_retries", "0");
    database.run(
        "CREATE TABLE passages (id int PRIMARY KEY, body text, embedding real[]);
         INSERT INTO passages SELECT i, 'passage number ' || i FROM generate_series(1, 50) AS i;
         SELECT infinity_embed.auto_embed('passages', 'body', 'embedding')",
    );
    let mut client = database.client();
    let worker = await_outage(&database, &mut client);
    let alter = format!("ALTER SYSTEM SET infinity_embed.url = '{}'", server.url());
    client.batch_execute(&alter).unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    assert_drained_by(worker, &database, &mut client);
}

#[test]
fn sighup_reaches_a_worker_that_is_never_idle() {
    let server = server(Duration::from_millis(50));
    let cluster = Cluster::start_new(&[("infinity_embed.embed_batch_size", "1")]);
    let database = passages_of(&cluster, &server, 2_000);
    database.set("infinity_embed.worker", "on");
    let mut client = database.client();
    let worker = start_worker(&database, &mut client);
    await_request(&server);
    client
        .batch_execute("ALTER SYSTEM SET infinity_embed.embed_batch_size = 200")
        .unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until("larger batches are sent", SOON, || {
        server.requests().iter().any(|request| request.inputs > 1)
    });
    assert!(waiting(&mut client) > 0);
    assert_drained_by(worker, &database, &mut client);
}

#[test]
fn a_setting_of_the_database_ends_an_outage() {
    let mut gone = server(Duration::ZERO);
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&gone, 50);
    gone.stop();
    let mut client = database.client();
    let worker = await_outage(&database, &mut client);
    database.set("infinity_embed.url", &server.url());
    assert_drained_by(worker, &database, &mut client);
}

#[test]
fn a_setting_that_is_reset_ends_an_outage() {
    let mut gone = server(Duration::ZERO);
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[("infinity_embed.url", &server.url())]);
    let database = passages_of(&cluster, &gone, 50);
    database.set("infinity_embed.worker", "on");
    gone.stop();
    let mut client = database.client();
    await_outage(&database, &mut client);
    database.run(&format!(
        "ALTER DATABASE {} RESET infinity_embed.url",
        database.name()
    ));
    wait_until("the queue is drained", SOON, || waiting(&mut client) == 0);
    assert_eq!(workers(&database, &mut client).len(), 1);
}

#[test]
fn a_worker_writes_whatever_transactions_the_database_prefers() {
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 50);
    database.set("default_transaction_isolation", "serializable");
    database.set("default_transaction_read_only", "on");
    let mut client = database.client();
    client
        .batch_execute("SET default_transaction_read_only = off")
        .unwrap();
    client
        .batch_execute("UPDATE passages SET body = body || '!'")
        .unwrap();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    assert_eq!(wrong(&mut client), 0);
}

#[test]
fn switching_it_off_ends_a_running_worker_after_its_batch() {
    // Slow enough that three batches take longer than the worker takes to notice.
    let server = server(Duration::from_millis(200));
    let database = passages_with_worker(&server, 1_000);
    let mut client = database.client();
    let worker = start_worker(&database, &mut client);
    await_request(&server);
    database.set("infinity_embed.worker", "off");
    wait_until("it has gone", SOON, || !worker.is_alive());
    assert!(waiting(&mut client) > 0);
    assert_eq!(
        crate::count(&mut client, "infinity_embed.queue WHERE claim IS NOT NULL"),
        0
    );
}

#[test]
fn pg_stat_activity_says_what_a_worker_does() {
    let mut server = server(PROMPT);
    let database = passages_with_worker(&server, 5);
    let mut client = database.client();
    let worker = start_worker(&database, &mut client);
    let activity = |client: &mut Client| -> (String, String, String) {
        let row = client
            .query_one(
                "SELECT backend_type, state, query FROM pg_stat_activity WHERE pid = $1",
                &[&worker.pid()],
            )
            .expect("the worker is there");
        (row.get(0), row.get(1), row.get(2))
    };
    await_request(&server);
    let (kind, state, query) = activity(&mut client);
    assert_eq!(
        (kind.as_str(), state.as_str()),
        ("infinity_embed worker", "active")
    );
    assert_eq!(query, "embedding queued rows");
    server.stop();
    wait_until("it says what is wrong", SOON, || {
        activity(&mut client)
            .2
            .contains("could not connect to the Infinity server")
    });
    server.restart_on_same_port();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    wait_until("it is idle", SOON, || activity(&mut client).1 == "idle");
}

#[test]
fn a_barrier_is_absorbed_in_the_middle_of_a_request() {
    let server = server(SLOW);
    let cluster = Cluster::start_new(&[]);
    let database = passages_of(&cluster, &server, 5);
    database.set("infinity_embed.worker", "on");
    let mut client = database.client();
    let worker = start_worker(&database, &mut client);
    client.batch_execute("CREATE DATABASE one").unwrap();
    client.batch_execute("CREATE DATABASE two").unwrap();
    await_request(&server);
    // Every process must have absorbed the barrier before the files go.
    let begun = Instant::now();
    client.batch_execute("DROP DATABASE one").unwrap();
    let taken = begun.elapsed();
    assert!(taken < PROMPT, "the barrier took {taken:?}");
    assert_eq!(server.requests().last().unwrap().status, None);

    // Which is to say that it does wait for the worker.
    worker.signal("STOP");
    client
        .batch_execute("SET statement_timeout = '500ms'")
        .unwrap();
    let error = database_error(client.batch_execute("DROP DATABASE two"));
    worker.signal("CONT");
    assert_eq!(error.code().code(), "57014", "{error}");
}

#[test]
fn a_cancelled_worker_gives_up_its_batch_and_goes_on() {
    let server = server(Duration::from_secs(1));
    let database = passages_with_worker(&server, 5);
    let mut client = database.client();
    let worker = start_worker(&database, &mut client);
    await_request(&server);
    worker.cancel(&mut client);
    wait_until("the request is given up", PROMPT, || {
        server.requests()[0].client_gone
    });
    assert_drained_by(worker, &database, &mut client);
    let failed = crate::count(&mut client, "infinity_embed.errors");
    assert_eq!(failed, 0);
}

#[test]
fn an_error_of_its_own_does_not_end_a_worker() {
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 5);
    let mut client = database.client();
    // A full disk, say: the queue cannot be written for a while.
    client
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'no space left, just now' USING ERRCODE = 'disk_full'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON infinity_embed.queue FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .unwrap();
    let worker = start_worker(&database, &mut client);
    wait_until("it has complained", SOON, || {
        complaints(&database, worker)
            .iter()
            .any(|line| line.contains("infinity_embed worker: no space left"))
    });
    assert_eq!(server.requests().len(), 0);
    client
        .batch_execute("DROP TRIGGER refuse ON infinity_embed.queue")
        .unwrap();
    assert_drained_by(worker, &database, &mut client);
}

#[test]
fn an_idle_worker_is_in_no_plain_drop_databases_way() {
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 5);
    let name = database.name().to_owned();
    let mut observer = Cluster::shared().connect("postgres");
    let worker = start_worker(&database, &mut observer);
    let mut client = database.client();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    drop(client);
    assert!(worker.is_alive());
    // PostgreSQL itself waits five seconds for others to leave.
    observer
        .batch_execute(&format!("DROP DATABASE {name}"))
        .unwrap();
    assert!(!worker.is_alive());
    observer
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .unwrap();
}

#[test]
fn dropping_the_extension_during_a_request_leaves_no_error_behind() {
    let server = server(Duration::from_secs(1));
    let database = passages_with_worker(&server, 5);
    let mut observer = database.client();
    let worker = start_worker(&database, &mut observer);
    await_request(&server);
    observer
        .batch_execute("DROP EXTENSION infinity_embed CASCADE")
        .unwrap();
    assert_eq!(server.requests().last().unwrap().status, None);
    wait_until("it has gone", SOON, || !worker.is_alive());
    assert_eq!(complaints(&database, worker), [""; 0]);
}

#[test]
fn a_prepared_transaction_is_worked_off_when_another_session_commits_it() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[("max_prepared_transactions", "2")]);
    let database = passages_of(&cluster, &server, 20);
    let mut client = database.client();
    crate::process(&mut client);
    database.set("infinity_embed.worker", "on");
    database
        .run("BEGIN; UPDATE passages SET body = 'prepared ' || id; PREPARE TRANSACTION 'later'");
    let prepared = Instant::now();
    // A worker without work would leave after two seconds.
    wait_until("a while has gone by", SOON, || {
        prepared.elapsed() > Duration::from_secs(5)
    });
    assert_eq!(workers(&database, &mut client).len(), 1);
    let begun = Instant::now();
    client.batch_execute("COMMIT PREPARED 'later'").unwrap();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(wrong(&mut client), 0);
    wait_until("the worker has left", SOON, || {
        workers(&database, &mut client).is_empty()
    });
}

#[test]
fn what_a_worker_queues_itself_is_its_own_to_do() {
    let server = server(Duration::from_millis(10));
    let database = passages_with_worker(&server, 1_000);
    // Each embedding that is written queues a row of another table.
    database.run(
        "CREATE TABLE copies (id int PRIMARY KEY, body text, embedding real[]);
         SELECT infinity_embed.auto_embed('copies', source => 'body', target => 'embedding');
         CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.copies (id, body) VALUES (NEW.id, NEW.body) ON CONFLICT DO NOTHING; RETURN NULL; END $$;
         CREATE TRIGGER copy AFTER UPDATE OF embedding ON passages FOR EACH ROW EXECUTE FUNCTION copy()",
    );
    let mut client = database.client();
    let worker = start_worker(&database, &mut client);
    wait_until("nothing waits", SOON, || {
        assert_eq!(workers(&database, &mut client), [worker]);
        waiting(&mut client) == 0
    });
    let embedded = crate::count(&mut client, "copies WHERE embedding IS NOT NULL");
    assert_eq!(embedded, 1_000);
}

#[test]
fn a_transaction_asks_for_one_worker_however_much_it_writes() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[("log_min_messages", "debug1")]);
    let database = passages_of(&cluster, &server, 5);
    database.set("infinity_embed.worker", "on");
    let mut client = database.client();
    client
        .batch_execute(
            "DO $$ BEGIN FOR i IN 1..50 LOOP
                 BEGIN UPDATE passages SET body = body || i; EXCEPTION WHEN division_by_zero THEN NULL; END;
             END LOOP; END $$",
        )
        .unwrap();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    let asked = "registering background worker \"infinity_embed worker\"";
    assert_eq!(cluster.log().matches(asked).count(), 1);
    assert_eq!(wrong(&mut client), 0);
}

#[test]
fn an_absent_server_is_probed_at_least_every_second() {
    // Takes connections and closes them at once, as the proxy of a dead server does.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().unwrap());
    let probes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&probes);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            seen.lock().unwrap().push(Instant::now());
        }
    });
    let server = server(Duration::ZERO);
    let database = passages_with_worker(&server, 100);
    database.set("infinity_embed.url", &url);
    // However patient a session is to be.
    database.set("infinity_embed.max_retries", "20");
    let mut client = database.client();
    let worker = start_worker(&database, &mut client);
    wait_until(
        "it has probed for ten seconds",
        Duration::from_secs(30),
        || {
            let probes = probes.lock().unwrap();
            probes
                .last()
                .is_some_and(|last| *last - probes[0] > Duration::from_secs(10))
        },
    );
    let longest = probes
        .lock()
        .unwrap()
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap();
    assert!(longest < PROMPT, "{longest:?} between two probes");
    database.set("infinity_embed.url", &server.url());
    assert_drained_by(worker, &database, &mut client);
    let tried = crate::count(&mut client, "infinity_embed.queue WHERE attempts > 0");
    assert_eq!(tried, 0);
}

#[test]
fn a_trigger_that_gives_up_all_advisory_locks_makes_no_second_worker() {
    let server = server(Duration::from_millis(50));
    let database = passages(&server, 300);
    database.run(
        "CREATE FUNCTION unlock() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_unlock_all(); RETURN NEW; END';
         CREATE TRIGGER unlock BEFORE UPDATE ON passages FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION unlock()",
    );
    database.set("infinity_embed.worker", "on");
    let mut observer = database.client();
    let worker = start_worker(&database, &mut observer);
    wait_until("the row is written", SOON, || {
        crate::count(
            &mut observer,
            "passages WHERE id = 7 AND embedding IS NOT NULL",
        ) == 1
    });
    let held = "pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted";
    let held = format!("{held} AND pid = {}", worker.pid());
    wait_until("it has taken its place again", SOON, || {
        crate::count(&mut observer, &held) == 1
    });
}
