//! Cancelling a call in flight: how fast, what is left over, and in which of its phases it may be.
//!
//! Times are measured from sending the cancel until the client has the error, so they include two round trips to the
//! server. Conditions are looked at from outside: the mock server's journal, and /proc of the backend.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cluster_tests::{Backend, Stage, database_error, lift_timeout, wait_until};
use mock_infinity::{Fault, Model, RetryAfter, Times};
use postgres::Client;

/// The bounds of the specification.
const P95: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_millis(500);
/// How long a test waits for what must come.
const BOUND: Duration = Duration::from_secs(20);

const CALL: &str = "SELECT infinity_embed_text('never answered')";
const STALL: Fault = Fault::Hang { ms: 600_000 };

fn run(client: &mut Client, statements: &str) {
    client
        .batch_execute(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// Runs `statement` in the session, cancels it as soon as `ready` holds, and gives the SQLSTATE and how long that took.
fn cancelled(
    client: &mut Client,
    other: &mut Client,
    statement: &str,
    what: &str,
    ready: impl FnMut() -> bool,
) -> Duration {
    let backend = Backend::of(client);
    let (sender, receiver) = mpsc::channel();
    let (code, took) = std::thread::scope(|scope| {
        scope.spawn(move || {
            let error = database_error(client.batch_execute(statement));
            let at = Instant::now();
            sender.send((error.code().code().to_owned(), at)).unwrap();
        });
        wait_until(what, BOUND, ready);
        let sent = Instant::now();
        backend.cancel(other);
        let (code, at) = receiver.recv_timeout(BOUND).expect("the call ends");
        (code, at - sent)
    });
    assert_eq!(code, "57014", "{what}");
    took
}

/// Whether the server has one request that it has not answered.
fn one_in_flight(stage: &Stage) -> bool {
    in_flight(stage) == 1
}

fn in_flight(stage: &Stage) -> usize {
    let requests = stage.requests();
    requests.iter().filter(|r| r.ended.is_none()).count()
}

/// The session goes on, nothing is left over, and the next call works.
fn healthy(stage: &Stage, client: &mut Client) {
    stage.server.clear_faults();
    let row = client
        .query_one(
            "SELECT 1, infinity_embed_text('all is well') IS NOT NULL",
            &[],
        )
        .unwrap();
    assert!(row.get::<_, bool>(1));
}

fn print_and_hold(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[(times.len() as f64 * share).ceil() as usize - 1];
    println!(
        "{what}: {} times, p50 {:?}, p95 {:?}, max {:?}",
        times.len(),
        at(0.5),
        at(0.95),
        at(1.0)
    );
    assert!(at(0.95) <= P95, "{what}: p95 is {:?}", at(0.95));
    assert!(at(1.0) <= MAX, "{what}: max is {:?}", at(1.0));
}

#[test]
fn two_hundred_cancels_in_a_row_are_quick_and_leave_nothing_behind() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let mut other = stage.database.client();
    let backend = Backend::of(&mut client);
    stage.server.inject(STALL, Times::Always);
    let threads = backend.threads();
    let mut descriptors = 0;
    let mut times = Vec::new();
    for round in 0..200 {
        stage.server.clear_requests();
        times.push(cancelled(
            &mut client,
            &mut other,
            CALL,
            "the request is in flight",
            || one_in_flight(&stage),
        ));
        wait_until("the server sees the connection closed", BOUND, || {
            stage.requests()[0].client_gone && stage.server.open_connections() == 0
        });
        if round == 10 {
            // By now the catalogs that an error reads are open too.
            descriptors = backend.descriptors();
        }
    }
    // The network thread clears up behind the caller's back.
    wait_until("there are no more threads or descriptors", BOUND, || {
        backend.threads() == threads && backend.descriptors() <= descriptors
    });
    print_and_hold("pg_cancel_backend", times);
    healthy(&stage, &mut client);
}

#[test]
fn statement_timeout_ends_a_call_in_flight() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    stage.server.inject(STALL, Times::Always);
    run(&mut client, "SET statement_timeout = '100ms'");
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let error = database_error(client.batch_execute(CALL));
        times.push(start.elapsed().saturating_sub(Duration::from_millis(100)));
        assert_eq!(error.code().code(), "57014", "{error}");
        assert_eq!(
            error.message(),
            "canceling statement due to statement timeout"
        );
    }
    wait_until("the server sees the connections closed", BOUND, || {
        stage.server.open_connections() == 0
    });
    print_and_hold("statement_timeout, beyond its 100 ms", times);
    lift_timeout(&mut client);
    healthy(&stage, &mut client);
}

#[test]
fn pg_terminate_backend_ends_the_process_in_order() {
    let stage = Stage::new(Model::lite("lite"));
    let mut other = stage.database.client();
    let mut times = Vec::new();
    for _ in 0..20 {
        let mut client = stage.client();
        run(&mut client, "SET log_error_verbosity = verbose");
        let backend = Backend::of(&mut client);
        stage.server.inject(STALL, Times::Once);
        let took = std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            scope.spawn(move || {
                let error = client.batch_execute(CALL).expect_err("it is terminated");
                // The client reports a connection that is closed rather than the error it read just before, if it finds
                // both at once. What the server said is in its log.
                let code = error.code().map(|code| code.code().to_owned());
                sender.send((code, Instant::now())).unwrap();
            });
            wait_until("the request is in flight", BOUND, || one_in_flight(&stage));
            let sent = Instant::now();
            backend.terminate(&mut other);
            let (code, at) = receiver.recv_timeout(BOUND).expect("the call ends");
            assert!(code.is_none_or(|code| code == "57P01"));
            at - sent
        });
        times.push(took);
        wait_until("the process has gone", BOUND, || !backend.is_alive());
        wait_until("the server sees the connection closed", BOUND, || {
            stage.server.open_connections() == 0
        });
        let log = stage.database.cluster().log();
        let mut said = log
            .lines()
            .filter(|line| line.contains(&format!("[{}]", backend.pid())));
        let farewell = "FATAL:  57P01: terminating connection due to administrator command";
        assert!(said.any(|line| line.ends_with(farewell)));
        let crash = format!("(PID {}) was terminated by signal", backend.pid());
        assert!(!log.contains(&crash), "the backend crashed");
        let exit = format!("(PID {}) exited with exit code", backend.pid());
        assert!(!log.contains(&exit), "the backend did not exit in order");
    }
    print_and_hold("pg_terminate_backend", times);
    // The cluster goes on without a restart of the others.
    healthy(&stage, &mut stage.client());
}

#[test]
fn a_call_that_is_still_connecting_can_be_cancelled() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let mut other = stage.database.client();
    let backend = Backend::of(&mut client);
    // A backlog of none takes one connection; the next stays in SYN_SENT.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let filling = std::net::TcpStream::connect(address).unwrap();
    run(
        &mut client,
        &format!("SET infinity_embed.url = 'http://{address}'"),
    );
    let before = (backend.threads().len(), backend.descriptors());
    let mut times = Vec::new();
    for _ in 0..20 {
        let connecting = || backend.is_connecting_to(address.port());
        times.push(cancelled(
            &mut client,
            &mut other,
            CALL,
            "it is connecting",
            connecting,
        ));
        wait_until("the socket is closed", BOUND, || {
            !backend.is_connecting_to(address.port())
                && backend.threads().len() == before.0
                && backend.descriptors() <= before.1
        });
    }
    print_and_hold("cancel while connecting", times);
    drop((filling, socket));
    run(
        &mut client,
        &format!("SET infinity_embed.url = '{}'", stage.server.url()),
    );
    healthy(&stage, &mut client);
}

#[test]
fn a_call_to_a_server_that_accepts_and_never_answers_can_be_cancelled() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let mut other = stage.database.client();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    run(
        &mut client,
        &format!("SET infinity_embed.url = 'http://{address}'"),
    );
    let mut accepted = None;
    silent.set_nonblocking(true).unwrap();
    let took = cancelled(&mut client, &mut other, CALL, "it has connected", || {
        accepted = accepted.take().or_else(|| silent.accept().ok());
        accepted.is_some()
    });
    assert!(took <= MAX, "{took:?}");
    let (stream, _) = accepted.unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut rest = Vec::new();
    // What had been written may be there; then the end, or a reset.
    let _ = std::io::Read::read_to_end(&mut &stream, &mut rest);
    run(
        &mut client,
        &format!("SET infinity_embed.url = '{}'", stage.server.url()),
    );
    healthy(&stage, &mut client);
}

#[test]
fn a_call_that_waits_to_retry_can_be_cancelled() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let mut other = stage.database.client();
    let retry_after = Some(RetryAfter::Seconds(30));
    stage
        .server
        .inject(Fault::TooManyRequests { retry_after }, Times::Always);
    let mut times = Vec::new();
    for _ in 0..20 {
        stage.server.clear_requests();
        let refused = || {
            let requests = stage.requests();
            requests.len() == 1 && requests[0].ended.is_some()
        };
        times.push(cancelled(
            &mut client,
            &mut other,
            CALL,
            "it has been refused",
            refused,
        ));
        assert_eq!(stage.requests().len(), 1);
    }
    print_and_hold("cancel while waiting to retry", times);
    healthy(&stage, &mut client);
}
