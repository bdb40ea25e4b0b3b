//! No answer makes the client take more memory than a small multiple of the bound on answers, whatever it announces.
//!
//! A process of its own, because it counts every allocation.

#[path = "client/scripted.rs"]
#[allow(dead_code, reason = "the other tests that include it use more of it")]
mod scripted;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use infinity_client::{BlockingWait, Client, Config, Encoding};
use scripted::{Reaction, Scripted, answer, reply};

/// The system's allocator, with the bytes in use and the most there ever were.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(used, Relaxed);
        // SAFETY: the caller keeps GlobalAlloc's contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; the memory came from the system's allocator with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const BOUND: usize = 1 << 20;
/// The body, the values it holds at two bytes of text each, their vector's growth, and the server's own buffers.
const ALLOWED: usize = 10 * BOUND;

fn json(body: Vec<u8>) -> Reaction {
    Reaction::Send(reply(200, "application/json", body))
}

/// Bodies just below the bound, built to become large, and bodies without any bound.
fn hostile(number: usize) -> Reaction {
    let fill = |piece: &str, end: &str| {
        let start = r#"{"model":"m","data":[{"index":0,"embedding":["#;
        let pieces = (BOUND - start.len() - end.len() - 2) / piece.len();
        json(
            [start, &piece.repeat(pieces)[..], "0", end]
                .concat()
                .into_bytes(),
        )
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    match number {
        0 => fill("0,", "]}]}"),
        1 => fill("[0],", "]}]}"),
        2 => fill("[],", "]}]}"),
        3 => json(vec![b'['; BOUND - 1]),
        4 => json(
            format!(
                r#"{{"model":"m","data":[{}"#,
                r#"{"index":0,"embedding":[]},"#.repeat(BOUND / 28)
            )
            .into(),
        ),
        5 => json(
            format!(
                r#"{{"model":"{}","data":[]}}"#,
                "\\n".repeat(BOUND / 2 - 100)
            )
            .into(),
        ),
        6 => Reaction::Hang(format!("{head}content-length: 999999\r\n\r\n").into()),
        7 => Reaction::Hang(format!("{head}content-length: 18446744073709551615\r\n\r\n").into()),
        8 => Reaction::SendForEver(format!("{head}\r\n").into(), vec![b' '; 64 << 10]),
        9 => Reaction::SendForEver(
            format!("{head}transfer-encoding: chunked\r\n\r\n").into(),
            [b"10000\r\n", &vec![b' '; 64 << 10][..], b"\r\n"].concat(),
        ),
        10 => Reaction::SendForEver("HTTP/1.1 500 X\r\n\r\n".into(), vec![b'x'; 64 << 10]),
        11 => Reaction::SendForEver("HTTP/1.1 200 OK\r\nx: ".into(), vec![b'x'; 64 << 10]),
        _ => unreachable!(),
    }
}

#[test]
fn hostile_answers_take_no_more_memory_than_the_bound_allows() {
    let config = |url: &str| Config {
        encoding: Encoding::Float,
        max_response_bytes: BOUND as u64,
        max_retries: 0,
        timeout: Duration::from_secs(5),
        ..Config::new(url, "m")
    };
    let client = Client::new();
    let embed = |url: &str| client.embed_texts(&config(url), vec!["a".into()], &mut BlockingWait);
    let tame = Scripted::start(|_, _| Reaction::Send(answer(&["[[1]]"])));
    embed(&tame.url).unwrap();
    for number in 0..12 {
        let server = Scripted::start(move |_, _| hostile(number));
        let before = USED.load(Relaxed);
        MOST.store(before, Relaxed);
        let result = embed(&server.url);
        let took = MOST.load(Relaxed).saturating_sub(before);
        println!(
            "answer {number}: {took} bytes, {:?}",
            result.as_ref().map(|_| ()).map_err(ToString::to_string)
        );
        let spoilt =
            result.is_err() || result.is_ok_and(|outcomes| outcomes.iter().all(Result::is_err));
        assert!(spoilt, "answer {number} was believed");
        assert!(took < ALLOWED, "answer {number} took {took} bytes");
    }
}
