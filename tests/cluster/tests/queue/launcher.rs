//! The library preloaded: what waits is embedded without anybody's asking.

use std::time::{Duration, Instant};

use cluster_tests::{Backend, Cluster, Database, database_error, wait_until};
use mock_infinity::Server;
use postgres::{Client, NoTls};

use crate::worker::{SOON, workers};
use crate::{passages_of, server, waiting, wrong};

pub(crate) const PRELOAD: (&str, &str) = ("shared_preload_libraries", "infinity_embed");

/// Kills the postmaster, and starts the cluster when its children have gone.
pub(crate) fn crash(cluster: &Cluster) {
    let postmaster = cluster.postmaster();
    let mut observer = cluster.connect("postgres");
    postmaster.kill();
    wait_until("the sessions have ended", SOON, || {
        observer.simple_query("").is_err()
    });
    cluster.start_after_crash();
}

/// A table whose rows wait for the server, which is away, in a database that starts workers.
fn waiting_passages<'a>(cluster: &'a Cluster, server: &mut Server, rows: u32) -> Database<'a> {
    server.stop();
    let database = passages_of(cluster, server, rows);
    database.set("infinity_embed.worker", "on");
    database
}

fn launcher(observer: &mut Client) -> Option<Backend> {
    observer
        .query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'infinity_embed launcher'",
            &[],
        )
        .expect("everybody may look")
        .first()
        .map(|row| Backend::new(row.get(0)))
}

fn await_launcher(observer: &mut Client) -> Backend {
    wait_until("there is a launcher", SOON, || launcher(observer).is_some());
    launcher(observer).expect("just seen")
}

fn assert_drained(database: &Database) {
    let mut client = database.client();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    assert_eq!(wrong(&mut client), 0);
}

#[test]
fn after_a_crash_every_database_is_worked_off_without_anybodys_asking() {
    let mut server = server(Duration::from_millis(5));
    let cluster = Cluster::start_new(&[PRELOAD]);
    let databases = [200, 300].map(|rows| waiting_passages(&cluster, &mut server, rows));
    let empty = cluster.empty_database();
    crash(&cluster);
    server.restart_on_same_port();
    databases.iter().for_each(assert_drained);

    // A backend's death makes the postmaster start all anew.
    server.stop();
    let mut client = databases[0].client();
    client
        .batch_execute("UPDATE passages SET body = body || '!'")
        .unwrap();
    Backend::of(&mut client).kill();
    // Not only by the session: until the postmaster knows, it still lets others in, and then ends them.
    wait_until("the crash is noticed", SOON, || {
        cluster.log().contains("reinitializing")
    });
    wait_until("the cluster accepts sessions", SOON, || {
        cluster
            .config("postgres", "postgres")
            .connect(NoTls)
            .is_ok()
    });
    server.restart_on_same_port();
    databases.iter().for_each(assert_drained);
    let mut observer = cluster.connect("postgres");
    assert!(workers(&empty, &mut observer).is_empty());
}

#[test]
fn preloading_starts_no_thread_and_takes_the_settings_of_the_file() {
    let server = server(Duration::ZERO);
    let url = server.url();
    let cluster = Cluster::start_new(&[
        PRELOAD,
        ("infinity_embed.url", &url),
        ("infinity_embed.model_name", "of the file"),
    ]);
    let database = cluster.database();
    let mut client = database.client();
    let show = |client: &mut Client, name: &str| -> String {
        client
            .query_one(&format!("SHOW infinity_embed.{name}"), &[])
            .unwrap()
            .get(0)
    };
    assert_eq!(show(&mut client, "url"), url);
    assert_eq!(show(&mut client, "model_name"), "of the file");
    assert_eq!(show(&mut client, "max_workers"), "1");
    database.set("infinity_embed.model_name", "of the database");
    let mut client = database.client();
    assert_eq!(show(&mut client, "model_name"), "of the database");
    let error = database_error(client.batch_execute("SELECT infinity_embed_text('a')"));
    assert!(error.message().contains("\"of the database\""), "{error}");
    // Nobody who may not set it comes in with a URL of their own.
    let mut config = cluster.config(database.name(), &database.role("guest"));
    config.options("-c infinity_embed.url=http://127.0.0.1:1");
    let error = database_error(config.connect(NoTls).map(|_| ()));
    assert_eq!(error.code().code(), "42501", "{error}");
    let launcher = await_launcher(&mut client);
    for process in [cluster.postmaster(), launcher] {
        assert_eq!(process.threads().len(), 1, "{:?}", process.threads());
    }
    assert!(Backend::of(&mut client).threads().len() > 1);
}

#[test]
fn the_launcher_goes_at_once_when_terminated_and_comes_back() {
    let cluster = Cluster::start_new(&[PRELOAD]);
    let mut observer = cluster.connect("postgres");
    let first = await_launcher(&mut observer);
    first.terminate(&mut observer);
    wait_until("it has gone", Duration::from_secs(1), || !first.is_alive());
    let second = await_launcher(&mut observer);
    assert_ne!(first, second);
    let begun = Instant::now();
    cluster.stop();
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "the stop took {:?}",
        begun.elapsed()
    );
    assert!(!second.is_alive());
    cluster.start();
}

#[test]
fn a_reload_makes_it_look_at_once() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[PRELOAD]);
    let database = passages_of(&cluster, &server, 50);
    let mut observer = cluster.connect("postgres");
    let launcher = await_launcher(&mut observer);
    // Now it is allowed, but nobody writes.
    database.set("infinity_embed.worker", "on");
    assert_eq!(waiting(&mut database.client()), 50);
    observer.batch_execute("SELECT pg_reload_conf()").unwrap();
    assert_drained(&database);
    assert_eq!(await_launcher(&mut observer), launcher);
}

#[test]
fn databases_take_turns_where_slots_are_few() {
    let mut server = server(Duration::from_millis(5));
    let cluster = Cluster::start_new(&[
        PRELOAD,
        // The launcher's and one more.
        ("max_worker_processes", "2"),
        ("max_logical_replication_workers", "0"),
    ]);
    let databases = [30, 40, 50].map(|rows| waiting_passages(&cluster, &mut server, rows));
    server.restart_on_same_port();
    cluster.restart();
    databases.iter().for_each(assert_drained);
    let complaint = "no slot of max_worker_processes is free";
    assert_eq!(cluster.log().matches(complaint).count(), 1);
}

#[test]
fn it_is_in_nobodys_way() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[PRELOAD]);
    let mut observer = cluster.connect("postgres");
    await_launcher(&mut observer);
    let database = passages_of(&cluster, &server, 3);
    let name = database.name();
    // While visitors come, too.
    for round in 0..5 {
        observer.batch_execute("SELECT pg_reload_conf()").unwrap();
        for statement in [
            "CREATE DATABASE copy TEMPLATE original",
            "ALTER DATABASE copy RENAME TO renamed",
            "DROP DATABASE renamed",
            "CREATE DATABASE another",
            "DROP DATABASE another",
        ] {
            let begun = Instant::now();
            let statement = statement.replace("original", name);
            if let Err(error) = observer.batch_execute(&statement) {
                panic!("round {round}: {statement}: {error:?}");
            }
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{statement} took {:?}",
                begun.elapsed()
            );
        }
    }
}

#[test]
fn a_transaction_prepared_before_a_crash_is_found_by_the_next_round() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[PRELOAD, ("max_prepared_transactions", "2")]);
    let database = passages_of(&cluster, &server, 20);
    crate::process(&mut database.client());
    database.set("infinity_embed.worker", "on");
    database
        .run("BEGIN; UPDATE passages SET body = 'prepared ' || id; PREPARE TRANSACTION 'later'");
    crash(&cluster);
    let mut client = database.client();
    await_launcher(&mut client);
    wait_until("the first round is over", SOON, || {
        count_idle_launchers(&mut client) == 1
    });
    assert_eq!(waiting(&mut client), 0);
    client.batch_execute("COMMIT PREPARED 'later'").unwrap();
    assert_eq!(waiting(&mut client), 20);
    // A round a minute.
    wait_until("nothing waits", Duration::from_secs(75), || {
        waiting(&mut client) == 0
    });
    assert_eq!(wrong(&mut client), 0);
}

fn count_idle_launchers(client: &mut Client) -> i64 {
    crate::count(
        client,
        "pg_stat_activity WHERE backend_type = 'infinity_embed launcher' AND state = 'idle'",
    )
}
