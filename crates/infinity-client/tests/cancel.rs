//! The caller goes away while a call is in flight: sockets close at once, and nothing is left over, however often.
//!
//! A process of its own, because it counts its descriptors and threads.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use infinity_client::{BlockingWait, Client, Config, Encoding, Wait};
use mock_infinity::{Fault, Model, Options, Server, Times};

/// Unwinds as soon as the server has the request in its hands, as PostgreSQL does on a cancel.
struct Cancelled<'s> {
    server: &'s Server,
    requests: usize,
}

impl Wait for Cancelled<'_> {
    fn wait(&mut self, _: BorrowedFd<'_>) {
        until("the requests arrive", || {
            self.server.requests().len() >= self.requests
        });
        resume_unwind(Box::new("cancelled"));
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How many threads there are of each name.
fn threads() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        *names.entry(name.trim().to_owned()).or_default() += 1;
    }
    names
}

fn noise() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(600, 600, |x, y| {
        image::Rgb([
            (x * y) as u8,
            (x ^ y) as u8,
            (x.wrapping_mul(2_654_435_761) >> 24) as u8,
        ])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

#[test]
fn two_hundred_and_fifty_cancelled_calls_close_their_sockets_at_once_and_leave_nothing() {
    let server = Server::start(Options::new(Model::colqwen2("m")));
    let client = Client::new();
    let config = Config {
        encoding: Encoding::Float,
        batch_size: 1,
        max_concurrency: 3,
        ..Config::new(server.url(), "m")
    };
    let inputs = || ["a", "b", "c"].map(String::from).to_vec();
    // The first call makes what stays: the thread, its runtime, the connection pool.
    client
        .embed_texts(&config, inputs(), &mut BlockingWait)
        .unwrap();
    until("idle connections close", || server.open_connections() == 0);
    let (descriptors_before, threads_before) = (descriptors(), threads());
    assert_eq!(threads_before["infinity-net"], 1);

    let mut closing = Vec::new();
    for _ in 0..250 {
        server.clear_requests();
        server.inject(Fault::Hang { ms: 600_000 }, Times::Count(3));
        let mut wait = Cancelled {
            server: &server,
            requests: 3,
        };
        let call = AssertUnwindSafe(|| client.embed_texts(&config, inputs(), &mut wait));
        assert!(catch_unwind(call).is_err());
        let unwound = Instant::now();
        until("the server sees its clients go", || {
            server.open_connections() == 0
        });
        closing.push(unwound.elapsed());
    }
    closing.sort();
    println!(
        "sockets closed after {:?} (median), {:?} (worst of 250)",
        closing[125], closing[249]
    );
    assert!(closing[125] < Duration::from_millis(50) && closing[249] < Duration::from_millis(500));

    // Images too: a decoder at work must not keep the caller.
    for _ in 0..20 {
        server.clear_requests();
        let image = noise();
        struct AtOnce;
        impl Wait for AtOnce {
            fn wait(&mut self, _: BorrowedFd<'_>) {
                resume_unwind(Box::new("cancelled"));
            }
        }
        let begun = Instant::now();
        let call = AssertUnwindSafe(|| client.embed_images(&config, vec![image; 4], &mut AtOnce));
        assert!(catch_unwind(call).is_err());
        assert!(begun.elapsed() < Duration::from_millis(500));
    }
    until("the decoders' threads end", || {
        threads().keys().all(|name| name != "infinity-work")
    });
    until("every connection is closed", || {
        server.open_connections() == 0
    });
    until("descriptors are as before", || {
        descriptors() == descriptors_before
    });
    assert_eq!(threads(), threads_before);

    client
        .embed_texts(&config, inputs(), &mut BlockingWait)
        .unwrap();
    drop(client);
    assert!(!threads().contains_key("infinity-net"));
}
