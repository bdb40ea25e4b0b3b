//! What most end-to-end tests need: a database whose settings point to a mock server of its own, and embeddings as Rust
//! values. Used by the tests about embedding, failures, cancellation and triggers.
//!
//! A session's first call learns the model's dimension by a request of its own. `Stage::client` gives a session that has
//! done so, with an empty journal, so that tests count their own requests only.

use mock_infinity::{Model, Options, Recorded, Server};
use postgres::Client;

use crate::{Cluster, Database};

/// A database with the extension, and the server that its settings name.
#[derive(Debug)]
pub struct Stage {
    /// The database; dropped before the server, so that sessions left over do not wait for it.
    pub database: Database<'static>,
    /// The server.
    pub server: Server,
}

impl Stage {
    /// One model, everything else as the mock server has it by default.
    pub fn new(model: Model) -> Self {
        Self::with_options(Options::new(model))
    }

    /// The settings follow from the options: URL, key, and name and dimension of the first model.
    pub fn with_options(options: Options) -> Self {
        let model = options.models[0].clone();
        let key = options.api_key.clone().unwrap_or_default();
        let server = Server::start(options);
        let database = Cluster::shared().database();
        database.set("infinity_embed.url", &server.url());
        database.set("infinity_embed.model_name", &model.name);
        database.set("infinity_embed.hidden_dim", &model.dim.to_string());
        database.set("infinity_embed.api_key", &key);
        Self { database, server }
    }

    /// A session that has embedded a word, and a journal without that.
    pub fn client(&self) -> Client {
        let mut client = self.database.client();
        client
            .batch_execute("SELECT infinity_embed_text('warm')")
            .unwrap_or_else(|error| panic!("the first embedding: {error:?}"));
        self.server.clear_requests();
        client
    }

    /// The requests for embeddings since then, in order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        let mut requests = self.server.requests();
        requests.retain(|request| request.path.ends_with("/embeddings"));
        requests
    }

    /// How many inputs each of them carried.
    pub fn batches(&self) -> Vec<usize> {
        let requests = self.requests();
        requests.iter().map(|request| request.inputs).collect()
    }
}

/// An embedding as SQL has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// `array_length(e, 1)`.
    pub tokens: usize,
    /// `array_length(e, 2)`.
    pub dim: usize,
    /// Row-major.
    pub values: Vec<f32>,
}

impl Matrix {
    /// The token vectors.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.dim)
    }

    /// The greatest difference between two values in the same place.
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn distance(&self, other: &Self) -> f32 {
        assert_eq!(
            (self.tokens, self.dim),
            (other.tokens, other.dim),
            "tokens and dim"
        );
        let pairs = self.values.iter().zip(&other.values);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }
}

/// The embedding that a scalar expression gives.
///
/// # Panics
/// When it fails or is NULL.
pub fn matrix(client: &mut Client, expression: &str) -> Matrix {
    // OFFSET 0 keeps the planner from evaluating the expression once per mention.
    let source = format!("(SELECT {expression} OFFSET 0) AS t(e)");
    let mut found = select(client, &format!("{COLUMNS} FROM {source}"));
    found
        .pop()
        .flatten()
        .unwrap_or_else(|| panic!("{expression} is NULL"))
}

/// The embeddings that a set-returning function gives, in its order.
///
/// # Panics
/// When it fails.
pub fn matrices(client: &mut Client, function: &str) -> Vec<Option<Matrix>> {
    let query = format!("{COLUMNS} FROM {function} WITH ORDINALITY AS t(e, n) ORDER BY n");
    select(client, &query)
}

const COLUMNS: &str = "SELECT array_length(e, 1), array_length(e, 2), ARRAY(SELECT unnest(e))";

fn select(client: &mut Client, query: &str) -> Vec<Option<Matrix>> {
    let rows = client
        .query(query, &[])
        .unwrap_or_else(|error| panic!("{query}: {error:?}"));
    rows.iter()
        .map(|row| {
            let tokens: Option<i32> = row.get(0);
            tokens.map(|tokens| Matrix {
                tokens: tokens as usize,
                dim: row.get::<_, i32>(1) as usize,
                values: row.get(2),
            })
        })
        .collect()
}
