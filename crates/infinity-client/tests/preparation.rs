//! Images that take long to prepare: a call given up leaves no decoder at work behind it, and the deadline holds.
//!
//! A process of its own and one test, because it counts the process's threads and the time they take.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use infinity_client::{BlockingWait, Client, Config, Error, ImageProblem, Wait};
use mock_infinity::{Model, Options, Server};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a busy machine takes to start two threads.
const WORKERS_COME_WITHIN: Duration = Duration::from_secs(10);
/// How long an idle worker stays (1 s), and what a busy machine adds.
const WORKERS_GO_WITHIN: Duration = Duration::from_secs(6);

/// How long a call for a small image may take behind cancelled ones. The large ones would take it a quarter of a minute
/// optimised, five minutes unoptimised.
const NEXT_CALL_WITHIN: Duration = Duration::from_secs(3);

/// Unwinds when the answer is not there after 60 ms, as PostgreSQL does on `statement_timeout`; not before decoding has
/// begun.
struct Impatient;

impl Wait for Impatient {
    fn wait(&mut self, doorbell: BorrowedFd<'_>) {
        let mut bell = [PollFd::new(doorbell, PollFlags::POLLIN)];
        let rang = poll(&mut bell, PollTimeout::from(60u16)).unwrap();
        if rang == 0 {
            let begun = Instant::now();
            while workers() < 2 {
                assert!(begun.elapsed() < WORKERS_COME_WITHIN, "nothing is decoded");
                std::thread::yield_now();
            }
            resume_unwind(Box::new("cancelled"));
        }
    }
}

/// A white square as PNG: a hundred kilobytes that unfold to a hundred megabytes.
fn white(side: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_pixel(side, side, image::Rgb([255; 3]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// How many threads decode images, or wait for more to decode.
fn workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.trim() == "infinity-work")
        .count()
}

/// How long it takes until the workers are gone.
fn workers_gone() -> Duration {
    let begun = Instant::now();
    while workers() > 0 {
        assert!(begun.elapsed() < WORKERS_GO_WITHIN, "a decoder goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}

#[test]
fn cancelled_and_timed_out_calls_leave_no_decoder_at_work() {
    let server = Server::start(Options::new(Model::colqwen2("m")));
    let config = Config {
        batch_size: 1,
        ..Config::new(server.url(), "m")
    };
    let client = Client::new();
    let embed = |config: &Config, images| client.embed_images(config, images, &mut BlockingWait);
    let (large, small) = (white(6300), white(300));

    // Two of the four images are at work when the call is given up, two wait for a worker.
    for _ in 0..12 {
        let images = vec![large.clone(); 4];
        let call = AssertUnwindSafe(|| client.embed_images(&config, images, &mut Impatient));
        assert!(catch_unwind(call).is_err());
    }
    let begun = Instant::now();
    embed(&config, vec![small]).unwrap()[0].as_ref().unwrap();
    let next = begun.elapsed();
    let gone = workers_gone();
    println!("next call after {next:?}, the workers gone {gone:?} later");
    assert!(next < NEXT_CALL_WITHIN);

    // A whole batch, of which one image alone is slow: the deadline comes first.
    let hurried = Config {
        timeout: Duration::from_secs(1),
        batch_size: 32,
        ..config
    };
    let asked = server.requests().len();
    let begun = Instant::now();
    let error = embed(&hurried, vec![large; 32]).unwrap_err();
    let took = begun.elapsed();
    let gone = workers_gone();
    println!("timeout of 1 s: {took:?}, the workers gone {gone:?} later: {error}");
    let Error::Image { problem, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        *problem,
        ImageProblem::TooSlow {
            limit: hurried.timeout
        }
    );
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3));
    assert_eq!(server.requests().len(), asked, "nothing was sent");
}
