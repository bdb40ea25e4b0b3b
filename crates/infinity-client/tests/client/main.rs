//! The client against servers: the faithful mock for behaviour, a scripted one for bytes no library would send, and the
//! captures of a real server where they are present. One binary, so that it links once.

mod answers;
mod batches;
mod bytes;
mod captures;
mod connections;
mod images;
mod retries;
mod scripted;
mod tls;

use std::time::{Duration, Instant};

use infinity_client::{Config, Encoding};
use mock_infinity::{Model, Options, Server};

/// Settings for a server that answers at once or never; short, so that a test of a timeout is short.
fn config(url: &str) -> Config {
    Config {
        timeout: Duration::from_secs(20),
        ..Config::new(url, "m")
    }
}

/// The same, asking for float: no probe goes ahead of the inputs.
fn float(url: &str) -> Config {
    Config {
        encoding: Encoding::Float,
        ..config(url)
    }
}

/// A mock server with one model called `m`.
fn serve(model: fn(&str) -> Model) -> Server {
    Server::start(Options::new(model("m")))
}

fn texts(inputs: &[&str]) -> Vec<String> {
    inputs.iter().map(|text| text.to_string()).collect()
}

/// Waits for a condition, at most ten seconds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
