//! The client against the real Infinity server, at its public API. One binary for every kind of model.
//!
//! `tests/run` starts the lite server and sets `INFINITY_LITE_URL`; `scripts/infinity_full.sh` starts ColQwen2, ColPali and
//! ColBERT and sets `INFINITY_FULL_URL`, `INFINITY_FULL_KIND` and `INFINITY_FULL_MODEL`. Without either every test prints "skipped".
//!
//! Not obvious: the tests take turns, because a server that works off another test's pages answers a probe late. Retries
//! are off, so that none hides what it cures.

mod access;
mod images;
mod server;
mod texts;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infinity_client::{BlockingWait, Client, Config, Encoding, Error, MultiVector, Outcome};

static CLIENT: Client = Client::new();
static TURN: Mutex<()> = Mutex::new(());

/// What the server serves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// tools/infinity-lite: MiniLM for texts, a page reader for images; normalised.
    Lite,
    /// Random weights, true shapes; texts are padded on the left; normalised.
    ColQwen2,
    /// Random weights, true shapes; texts are padded on the right; normalised.
    ColPali,
    /// MiniLM as Infinity serves a ColBERT: texts only, not normalised.
    ColBert,
}

impl Kind {
    fn dim(self) -> usize {
        if self == Kind::ColBert { 384 } else { 128 }
    }

    fn takes_images(self) -> bool {
        self != Kind::ColBert
    }

    fn is_normalised(self) -> bool {
        self != Kind::ColBert
    }

    /// Whether its weights are trained, so that what it gives means something.
    fn understands(self) -> bool {
        matches!(self, Kind::Lite | Kind::ColBert)
    }
}

/// The server under test, for as long as it is this test's turn.
struct Served {
    kind: Kind,
    config: Config,
    _turn: MutexGuard<'static, ()>,
}

impl Served {
    fn texts(&self, inputs: &[&str]) -> Vec<MultiVector> {
        texts(&self.config, inputs)
    }

    fn text(&self, input: &str) -> MultiVector {
        self.texts(&[input]).remove(0)
    }

    fn images(&self, files: Vec<Vec<u8>>) -> Vec<Outcome> {
        CLIENT
            .embed_images(&self.config, files, &mut BlockingWait)
            .unwrap()
    }

    fn with(&self, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = self.config.clone();
        change(&mut config);
        config
    }

    /// `/health` alone would prove nothing: it stays 200 when the worker is dead.
    fn assert_alive(&self) {
        let health = CLIENT.health(&self.config, &mut BlockingWait);
        assert_eq!(health.problem, None);
        assert_eq!(health.dim, Some(self.kind.dim()));
        assert!(self.text("probe").tokens > 0);
    }
}

fn texts(config: &Config, inputs: &[&str]) -> Vec<MultiVector> {
    let inputs = inputs.iter().map(|text| text.to_string()).collect();
    let outcomes = CLIENT.embed_texts(config, inputs, &mut BlockingWait);
    outcomes.unwrap().into_iter().map(Result::unwrap).collect()
}

/// The server under test, or `None` when there is none or it serves something else.
fn served_if(wanted: impl Fn(Kind) -> bool) -> Option<Served> {
    let variable = |name: &str| std::env::var(name).ok();
    let (kind, url, model) = if let Some(url) = variable("INFINITY_FULL_URL") {
        let kind = match variable("INFINITY_FULL_KIND").as_deref() {
            Some("colqwen2") => Kind::ColQwen2,
            Some("colpali") => Kind::ColPali,
            Some("colbert") => Kind::ColBert,
            other => panic!("INFINITY_FULL_KIND is {other:?}, not colqwen2, colpali or colbert"),
        };
        let model = variable("INFINITY_FULL_MODEL").expect("INFINITY_FULL_MODEL is not set");
        (kind, url, model)
    } else if let Some(url) = variable("INFINITY_LITE_URL") {
        (Kind::Lite, url, String::from(server::LITE_MODEL))
    } else {
        println!("skipped: neither INFINITY_LITE_URL nor INFINITY_FULL_URL is set");
        return None;
    };
    if !wanted(kind) {
        println!("skipped: not for {kind:?}");
        return None;
    }
    let mut config = Config::new(url, model);
    config.max_retries = 0;
    config.timeout = Duration::from_secs(120);
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Served {
        kind,
        config,
        _turn,
    })
}

fn served() -> Option<Served> {
    served_if(|_| true)
}

fn norms(embedding: &MultiVector) -> Vec<f32> {
    let norm = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>().sqrt();
    embedding.values.chunks(embedding.dim).map(norm).collect()
}

/// The greatest difference of two values, as a part of the longest row; infinite when the shapes differ.
fn distance(left: &MultiVector, right: &MultiVector) -> f32 {
    if (left.tokens, left.dim) != (right.tokens, right.dim) {
        return f32::INFINITY;
    }
    let longest = norms(left).into_iter().fold(0.0, f32::max);
    let pairs = left.values.iter().zip(&right.values);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / longest
}

/// Equal but for what the server's batches change in the last digits.
#[track_caller]
fn assert_same(left: &MultiVector, right: &MultiVector, what: &str) {
    assert_eq!(
        (left.tokens, left.dim),
        (right.tokens, right.dim),
        "{what}: other shape"
    );
    assert!(
        distance(left, right) < 1e-4,
        "{what}: distance {}",
        distance(left, right)
    );
}

/// MaxSim per query row, straight from its definition.
fn score(document: &MultiVector, query: &MultiVector) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let best = |row: &[f32]| {
        let products = document.values.chunks(document.dim).map(|d| dot(d, row));
        products.fold(f32::NEG_INFINITY, f32::max)
    };
    query.values.chunks(query.dim).map(best).sum::<f32>() / query.tokens as f32
}

#[test]
fn the_server_tells_its_one_model_and_what_it_can_do() {
    let Some(served) = served() else { return };
    let models = CLIENT.models(&served.config, &mut BlockingWait).unwrap();
    let [model] = &models[..] else {
        panic!("{models:?}")
    };
    println!("{model:?}");
    assert_eq!(model.id, served.config.model);
    let can = |what: &str| model.capabilities.iter().any(|can| can == what);
    assert!(can("embed"));
    assert_eq!(can("image_embed"), served.kind.takes_images());
    assert!((0.0..=1.0).contains(&model.queue_fraction));
    assert_eq!(model.batch_size, 8);
    assert!(!model.backend.is_empty());
}

#[test]
fn health_tells_model_dimension_and_latency() {
    let Some(served) = served() else { return };
    let health = CLIENT.health(&served.config, &mut BlockingWait);
    assert_eq!(health.problem, None);
    assert!(health.reachable);
    assert_eq!(health.model.as_deref(), Some(&served.config.model[..]));
    assert_eq!(health.dim, Some(served.kind.dim()));
    assert!(health.latency.unwrap() > Duration::ZERO);
}

#[test]
fn the_dimension_is_learnt_and_a_wrong_one_is_told_with_both_numbers() {
    let Some(served) = served() else { return };
    assert_eq!(served.text("learn").dim, served.kind.dim());
    for encoding in [Encoding::Base64, Encoding::Float] {
        // 64 and 256 fit into what comes as base64: only the server can tell that they are wrong.
        for wrong in [64, 100, 256] {
            let config = served.with(|config| {
                config.encoding = encoding;
                config.dim = Some(wrong);
            });
            // A client that has learnt nothing, and one that has.
            for client in [&Client::new(), &CLIENT] {
                let error = client
                    .embed_texts(&config, vec![String::from("learn")], &mut BlockingWait)
                    .unwrap_err();
                let expected = Error::DimensionMismatch {
                    model: config.model.clone(),
                    configured: wrong,
                    served: served.kind.dim(),
                };
                assert_eq!(error, expected);
            }
        }
        let right = served.with(|config| {
            config.encoding = encoding;
            config.dim = Some(served.kind.dim());
        });
        assert_eq!(texts(&right, &["learn"])[0].dim, served.kind.dim());
    }
}

#[test]
fn a_model_that_is_not_served_is_told_with_both_names() {
    let Some(served) = served() else { return };
    let config = served.with(|config| config.model = String::from("no/such-model"));
    let expected = Error::WrongModel {
        asked: String::from("no/such-model"),
        served: served.config.model.clone(),
    };
    let asked = Client::new().embed_texts(&config, vec![String::from("x")], &mut BlockingWait);
    assert_eq!(asked, Err(expected.clone()));
    let health = CLIENT.health(&config, &mut BlockingWait);
    assert!(health.reachable);
    assert_eq!(health.problem, Some(expected));
}
