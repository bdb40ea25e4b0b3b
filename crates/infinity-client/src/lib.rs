//! Multi-vector embeddings from an [Infinity](https://github.com/michaelfeil/infinity) server: ColBERT, ColPali, ColQwen2.
//!
//! The client is blocking to its caller and interruptible by it: HTTP runs on one thread of its own, and the caller waits
//! in a [`Wait`] of its choosing, which may unwind at any moment. Answers are bounded and checked before anything is
//! believed; what the server is known to get wrong (padding rows, a worker that dies of one bad image, names of models it
//! does not check) is dealt with here, so that the caller sees rows it may score or an [`Error`] that says what to do.
//!
//! ```no_run
//! use infinity_client::{BlockingWait, Client, Config};
//!
//! static CLIENT: Client = Client::new();
//!
//! let mut config = Config::new("http://localhost:7997", "michaelfeil/colqwen2-v0.1");
//! config.dim = Some(128);
//! let questions = vec![String::from("how do plants eat?"), String::from("what is a quark?")];
//! for outcome in CLIENT.embed_texts(&config, questions, &mut BlockingWait)? {
//!     match outcome {
//!         Ok(rows) => println!("{} rows of {} values", rows.tokens, rows.dim),
//!         Err(error) => println!("not embedded: {error}"),
//!     }
//! }
//! # Ok::<(), infinity_client::Error>(())
//! ```
//!
//! Inside: `client` → `network` (thread and doorbell) → `embed` and `answer` (a whole call) → `exchange` (one request with its retries)
//! → `transport` (the only HTTP). Beside them: `endpoint`, `request`, `response`, `decode`, `image`, `batch`, `retry`,
//! `dimension`, `health`, `worker` (what blocks).

mod answer;
mod batch;
mod client;
mod config;
mod decode;
mod dimension;
mod embed;
mod endpoint;
mod error;
mod exchange;
mod health;
mod image;
mod network;
mod request;
mod response;
mod retry;
mod transport;
mod worker;

pub use client::Client;
pub use config::{
    Attempt, Config, Encoding, Health, Inputs, MAX_IMAGE_RATIO, MAX_IMAGES_PER_REQUEST,
    MAX_REQUEST_BYTES, MAX_TEXT_CHARS, MAX_TEXTS_PER_REQUEST, MIN_IMAGE_SIDE, Modality, Model,
    MultiVector, Outcome, Secret,
};
pub use error::{ConnectKind, Error, ImageProblem, MAX_MESSAGE_CHARS};
pub use network::{BlockingWait, Wait};
