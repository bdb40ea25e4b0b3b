//! A server that is not there, goes away, comes back or hangs, and addresses at which there is none.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use cluster_tests::{Stage, database_error, wait_until};
use mock_infinity::{Fault, Model, Recorded, Times};
use postgres::Client;
use postgres::error::DbError;

const BOUND: Duration = Duration::from_secs(20);
/// Longer than the client takes the end of a reused connection for that of a stale one (1 s).
const STALE: Duration = Duration::from_millis(1500);
const CALL: &str = "SELECT infinity_embed_text('a')";

fn run(client: &mut Client, statements: &str) {
    client
        .batch_execute(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

fn failure(client: &mut Client, statement: &str) -> DbError {
    let start = Instant::now();
    let error = database_error(client.batch_execute(statement));
    assert!(
        start.elapsed() < BOUND,
        "{statement} took {:?}",
        start.elapsed()
    );
    error
}

#[test]
fn a_server_killed_in_the_middle_of_a_batch_fails_the_statement_only() {
    let mut stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(
        &mut client,
        "SET infinity_embed.max_retries = 0; CREATE TABLE docs (n bigint, embedding real[])",
    );
    let fill = "INSERT INTO docs SELECT n, e FROM infinity_embed_texts(
        (SELECT array_agg('text ' || i) FROM generate_series(1, 95) i)) WITH ORDINALITY AS t(e, n)";
    // Half of the second round's requests are answered when the server dies.
    stage.server.inject(Fault::Hang { ms: 0 }, Times::Count(6));
    stage
        .server
        .inject(Fault::Hang { ms: 600_000 }, Times::Always);
    let (sender, receiver) = mpsc::channel();
    let mut client = std::thread::scope(|scope| {
        scope.spawn(move || {
            let error = failure(&mut client, fill);
            sender.send((client, error)).unwrap();
        });
        // For long enough that the end of their connections is not met with one silent resend.
        wait_until("two requests of the second round hang", BOUND, || {
            let requests = stage.requests();
            let hangs = |r: &&Recorded| r.ended.is_none() && r.started.elapsed() > STALE;
            requests.len() == 8 && requests.iter().filter(hangs).count() == 2
        });
        stage.server.stop();
        let (client, error) = receiver.recv_timeout(BOUND).expect("nothing hangs");
        assert_eq!(error.code().code(), "08006", "{error:?}");
        assert!(
            error.message().starts_with("lost the connection"),
            "{error}"
        );
        client
    });
    let error = failure(&mut client, CALL);
    assert_eq!(error.code().code(), "08001", "{error:?}");
    assert_eq!(error.detail(), Some("Connection refused."));
    let count = "SELECT count(*) FROM docs";
    assert_eq!(client.query_one(count, &[]).unwrap().get::<_, i64>(0), 0);
    stage.server.clear_faults();
    stage.server.restart_on_same_port();
    run(&mut client, fill);
    assert_eq!(client.query_one(count, &[]).unwrap().get::<_, i64>(0), 95);
}

#[test]
fn a_restart_between_two_calls_is_not_noticed() {
    let mut stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(
        &mut client,
        "SET infinity_embed.max_retries = 0; SET infinity_embed.cache_size = 0",
    );
    for _ in 0..5 {
        run(&mut client, CALL);
        stage.server.stop();
        stage.server.restart_on_same_port();
        run(&mut client, CALL);
    }
}

#[test]
fn a_server_that_is_down_for_a_moment_is_waited_for() {
    let mut stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    stage.server.stop();
    run(&mut client, "SET infinity_embed.max_retries = 50");
    std::thread::scope(|scope| {
        scope.spawn(move || run(&mut client, CALL));
        // In vain at first: the backend waits between its attempts.
        let mut other = stage.database.client();
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Extension'";
        wait_until("the call waits", BOUND, || {
            other.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 1
        });
        stage.server.restart_on_same_port();
    });
    assert!(!stage.requests().is_empty());
}

#[test]
fn a_wedged_server_is_called_that() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(&mut client, "SET infinity_embed.timeout = '500ms'");
    stage.server.inject(Fault::Wedge, Times::Once);
    let error = failure(&mut client, CALL);
    assert_eq!(error.code().code(), "08006", "{error:?}");
    let url = stage.server.url();
    assert_eq!(
        error.message(),
        format!("the Infinity server at \"{url}\" is wedged")
    );
    assert!(
        error.hint().unwrap().contains("estart Infinity"),
        "{error:?}"
    );
    let row = client
        .query_one(
            "SELECT reachable, problem FROM infinity_embed_health()",
            &[],
        )
        .unwrap();
    assert!(row.get::<_, bool>(0));
    let problem: String = row.get(1);
    assert!(problem.contains("wedged"), "{problem}");
    stage.server.clear_faults();
    run(&mut client, CALL);
    let row = client
        .query_one(
            "SELECT model, dimension, latency_ms > 0, problem FROM infinity_embed_health()",
            &[],
        )
        .unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), ("lite", 128));
    assert!(row.get::<_, bool>(2));
    assert_eq!(row.get::<_, Option<&str>>(3), None);
}

#[test]
fn an_address_without_a_server_is_told_by_its_kind() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(
        &mut client,
        "SET infinity_embed.max_retries = 0; SET infinity_embed.timeout = '15s'",
    );
    let tls = stage.server.url().replace("http:", "https:");
    // Bound and not listening: refused for as long as it is held.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let refused = socket.local_addr().unwrap().as_socket().unwrap();
    let refused = format!("http://{refused}");
    for (url, detail) in [
        (refused.as_str(), "Connection refused."),
        (
            "http://no-such-host.invalid:7997",
            "The host name does not resolve",
        ),
        (tls.as_str(), "The TLS handshake failed"),
    ] {
        run(&mut client, &format!("SET infinity_embed.url = '{url}'"));
        let error = failure(&mut client, CALL);
        assert_eq!(error.code().code(), "08001", "{error:?}");
        assert_eq!(
            error.message(),
            format!("could not connect to the Infinity server at \"{url}\"")
        );
        assert!(error.detail().unwrap().starts_with(detail), "{error:?}");
        let health = "SELECT reachable, url, problem FROM infinity_embed_health()";
        let row = client.query_one(health, &[]).unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, &str>(1)), (false, url));
        assert!(row.get::<_, &str>(2).contains(detail), "{row:?}");
    }
    run(&mut client, "RESET infinity_embed.url");
    run(&mut client, CALL);
}

#[test]
fn a_url_that_cannot_be_called_is_refused_without_its_password() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    for url in [
        "localhost:7997",
        "ftp://localhost",
        "http://user:hunter2@localhost:7997",
        "http://localhost:7997/?key=hunter2",
        "http://localhost:99999",
        "nonsense",
    ] {
        run(&mut client, &format!("SET infinity_embed.url = '{url}'"));
        let error = failure(&mut client, CALL);
        assert_eq!(error.code().code(), "22023", "{url}: {error:?}");
        let shown = format!("{} {:?}", error.message(), error.detail());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    run(&mut client, "SET infinity_embed.url = ''");
    assert_eq!(failure(&mut client, CALL).code().code(), "55000");
    run(&mut client, "RESET infinity_embed.url");
    run(&mut client, CALL);
}
