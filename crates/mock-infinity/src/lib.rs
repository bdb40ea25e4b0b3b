//! A faithful, deterministic, fault-injecting Infinity embedding server, for tests and measurements only.
//!
//! It behaves, it does not replay: it validates, decodes images, forms batches, pads, jitters, closes idle connections
//! after 5 s and dies of bad images the way infinity-emb 0.0.78 does. Its vectors mean something: a MaxSim ranking of
//! texts by shared words works, the same picture gives the same vectors, and words of colour match pictures of that colour.
//!
//! ```
//! use mock_infinity::{Fault, Model, Options, Server, Times};
//!
//! let server = Server::start(Options::new(Model::colbert("minilm-colbert")));
//! server.inject(Fault::TooManyRequests { retry_after: None }, Times::Once);
//! assert!(server.url().starts_with("http://127.0.0.1:"));
//! assert!(server.requests().is_empty());
//! ```

mod answer;
mod connection;
mod control;
mod embeddings;
mod fault;
mod faulty;
mod journal;
mod options;
mod picture;
mod request;
mod routes;
mod server;
mod vectors;
mod worker;

pub use fault::{Endpoint, Fault, NonFinite, RetryAfter, Times};
pub use journal::Recorded;
pub use options::{Kind, Model, Options};
pub use server::Server;
