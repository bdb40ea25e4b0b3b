//! The harness of the end-to-end tests: scratch clusters with the extension installed, fresh databases, backends to cancel
//! or kill, and waiting for conditions. Used by the files in `tests/`, each of which is one subject.
//!
//! Everything about servers goes through `scripts/cluster.sh`, which knows how to run one as root and where. So
//! `cargo test -p cluster-tests` works by itself after `scripts/build_extension.sh release`.
//!
//! ```no_run
//! use cluster_tests::{Cluster, wait_until};
//! use mock_infinity::{Model, Options, Server};
//!
//! let server = Server::start(Options::new(Model::lite("test")));
//! let database = Cluster::shared().database();
//! database.set("infinity_embed.url", &server.url());
//! let rows = database.client().query("SELECT infinity_embed_text('one')", &[]).unwrap();
//! assert_eq!(rows.len(), 1);
//! ```

mod backend;
mod cluster;
mod database;
mod report;
mod stage;
mod wait;

pub use backend::Backend;
pub use cluster::{Cluster, repository};
pub use database::{Database, database_error, lift_timeout};
pub use report::Report;
pub use stage::{Matrix, Stage, matrices, matrix};
pub use wait::wait_until;
