//! Cancelling what takes long elsewhere: a large picture while it is decoded, the rounds of a large array, a trigger.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use cluster_tests::{Backend, Stage, database_error, wait_until};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use mock_infinity::{Fault, Model, Recorded, Times};
use postgres::Client;

const MAX: Duration = Duration::from_millis(500);
const BOUND: Duration = Duration::from_secs(60);
const STALL: Fault = Fault::Hang { ms: 600_000 };

/// As in cancellation.rs, for a query with or without a picture.
fn cancelled(
    client: &mut Client,
    other: &mut Client,
    work: impl FnOnce(&mut Client) -> Result<(), postgres::Error> + Send,
    what: &str,
    ready: impl FnMut() -> bool,
) -> Duration {
    let backend = Backend::of(client);
    let (sender, receiver) = mpsc::channel();
    let (code, took) = std::thread::scope(|scope| {
        scope.spawn(move || {
            let error = database_error(work(client));
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
    println!("cancelled when {what}: {took:?}");
    took
}

fn works(stage: &Stage, client: &mut Client) {
    stage.server.clear_faults();
    let call = "SELECT infinity_embed_text('all is well') IS NOT NULL";
    assert!(client.query_one(call, &[]).unwrap().get::<_, bool>(0));
}

#[test]
fn a_large_picture_that_is_being_decoded() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let mut other = stage.database.client();
    let backend = Backend::of(&mut client);
    // Grey stripes: the encoder's time is the test's, the decoder's is what is cancelled.
    let (width, height) = (7_000, 5_000);
    let row: Vec<u8> = (0..width).map(|x| (x % 251) as u8).collect();
    let mut picture = Vec::new();
    JpegEncoder::new(&mut picture)
        .encode(
            &row.repeat(height as usize),
            width,
            height,
            ExtendedColorType::L8,
        )
        .unwrap();
    let before = (backend.threads().len(), backend.descriptors());
    let took = cancelled(
        &mut client,
        &mut other,
        |client| {
            client
                .query_one("SELECT infinity_embed_image($1)", &[&picture])
                .map(drop)
        },
        "the picture is being decoded",
        || backend.threads().contains(&"infinity-work".to_owned()),
    );
    assert!(took <= MAX, "{took:?}");
    assert!(stage.requests().is_empty(), "the picture was sent already");
    works(&stage, &mut client);
    // The decoder cannot be interrupted: it ends by itself, and its thread with it.
    wait_until("the decoder's thread has gone", BOUND, || {
        backend.threads().len() == before.0
    });
    assert!(backend.descriptors() <= before.1 + 1);
    let texts = |requests: &[Recorded]| {
        requests
            .iter()
            .all(|request| request.modality.as_deref() == Some("text"))
    };
    assert!(
        texts(&stage.requests()),
        "a cancelled picture was sent after all"
    );
    client
        .query_one("SELECT infinity_embed_image($1)", &[&picture])
        .unwrap();
    assert!(!texts(&stage.requests()));
}

#[test]
fn a_large_array_in_the_middle_of_its_rounds() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let mut other = stage.database.client();
    // The first round and half of the second are answered.
    stage.server.inject(Fault::Hang { ms: 0 }, Times::Count(6));
    stage.server.inject(STALL, Times::Always);
    let took = cancelled(
        &mut client,
        &mut other,
        |client| {
            client.batch_execute(
                "SELECT infinity_embed_texts(array_agg(i::text)) FROM generate_series(1, 400) i",
            )
        },
        "the second round is in flight",
        || {
            let requests = stage.requests();
            requests.len() == 8 && requests.iter().filter(|r| r.ended.is_none()).count() == 2
        },
    );
    assert!(took <= MAX, "{took:?}");
    wait_until("the server sees the connections closed", BOUND, || {
        let requests = stage.requests();
        requests
            .iter()
            .filter(|request| request.client_gone)
            .count()
            == 2
    });
    works(&stage, &mut client);
}

#[test]
fn a_trigger_and_the_row_is_kept_out() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let mut other = stage.database.client();
    client
        .batch_execute(
            "CREATE TABLE docs (body text, embedding real[]);
             CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs
                 FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding')",
        )
        .unwrap();
    stage.server.inject(STALL, Times::Always);
    let took = cancelled(
        &mut client,
        &mut other,
        |client| client.batch_execute("INSERT INTO docs VALUES ('a')"),
        "the trigger's request is in flight",
        || stage.requests().iter().any(|r| r.ended.is_none()),
    );
    assert!(took <= MAX, "{took:?}");
    works(&stage, &mut client);
    client
        .batch_execute("INSERT INTO docs VALUES ('b')")
        .unwrap();
    let row = client
        .query_one("SELECT string_agg(body, ',') FROM docs", &[])
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "b");
}

#[test]
fn a_failure_caught_in_plpgsql_rolls_back_its_block_only() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    stage.server.inject(STALL, Times::Once);
    client
        .batch_execute(
            "CREATE TABLE kept (n int);
             BEGIN;
             INSERT INTO kept VALUES (1);
             DO $$
             BEGIN
                 SET LOCAL infinity_embed.timeout = '300ms';
                 PERFORM infinity_embed_text('never answered');
             EXCEPTION WHEN connection_failure THEN
                 INSERT INTO kept VALUES (2);
             END $$;
             COMMIT",
        )
        .unwrap();
    let row = client
        .query_one("SELECT array_agg(n ORDER BY n) FROM kept", &[])
        .unwrap();
    assert_eq!(row.get::<_, Vec<i32>>(0), [1, 2]);
    works(&stage, &mut client);
}
