//! What a server is started with: its models, its gate, its speed. Used by tests and by the binary's command line.
//!
//! `dim` and `normalized` are free of `kind`, so that a normalised 128-dimensional ColBERT (what ranking tests want) is
//! one field away from the faithful 384-dimensional, unnormalised one.

use std::time::Duration;

/// How a model lays out its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One row per token, ragged, never padded.
    ColBert,
    /// Padded on the left with zero rows, some of them -0.0.
    ColQwen2,
    /// Text padded on the right with zero rows; images of a fixed number of rows.
    ColPali,
    /// One flat vector per input.
    SingleVector,
}

/// One served model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The served name, which every answer carries.
    pub name: String,
    /// The layout of its rows.
    pub kind: Kind,
    /// Length of a row.
    pub dim: usize,
    /// Rows of length one; otherwise their norms lie between 6 and 13, as a raw ColBERT's do.
    pub normalized: bool,
    /// Whether `modality: image` is supported.
    pub images: bool,
    /// Image rows that carry patches, for the kinds in which it does not depend on the picture. A square number.
    pub image_patches: usize,
    /// Text is cut silently to this many rows (0: never), as ColBERT does.
    pub max_rows: usize,
}

impl Model {
    /// A ColBERT as Infinity serves it: 384 dimensions, unnormalised, text only, cut at 256 rows.
    pub fn colbert(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::ColBert,
            dim: 384,
            normalized: false,
            images: false,
            image_patches: 64,
            max_rows: 256,
        }
    }

    /// A ColQwen2: 128 dimensions, text and images, padded on the left.
    pub fn colqwen2(name: &str) -> Self {
        Self {
            kind: Kind::ColQwen2,
            dim: 128,
            normalized: true,
            images: true,
            max_rows: 0,
            ..Self::colbert(name)
        }
    }

    /// A ColPali: 128 dimensions, text padded on the right, images of 1024 patches and 6 prompt rows.
    pub fn colpali(name: &str) -> Self {
        Self {
            kind: Kind::ColPali,
            image_patches: 1024,
            ..Self::colqwen2(name)
        }
    }

    /// A sentence encoder: one normalised vector per text.
    pub fn single_vector(name: &str, dim: usize) -> Self {
        Self {
            kind: Kind::SingleVector,
            dim,
            normalized: true,
            ..Self::colbert(name)
        }
    }

    /// What a ranking test wants: ragged, 128 dimensions, normalised, images of 64 rows, no padding and no prompt rows.
    pub fn lite(name: &str) -> Self {
        Self {
            dim: 128,
            normalized: true,
            images: true,
            ..Self::colbert(name)
        }
    }

    /// The same model with another row length.
    pub fn with_dim(mut self, dim: usize) -> Self {
        self.dim = dim;
        self
    }

    /// Parses `NAME=KIND[:dim]` with KIND one of colbert, colqwen2, colpali, single, lite.
    ///
    /// # Errors
    /// A sentence naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once('=')
            .ok_or_else(|| format!("expected NAME=KIND[:dim], got \"{text}\""))?;
        let (kind, dim) = match rest.split_once(':') {
            Some((kind, dim)) => (kind, Some(dim)),
            None => (rest, None),
        };
        let model = match kind {
            "colbert" => Self::colbert(name),
            "colqwen2" => Self::colqwen2(name),
            "colpali" => Self::colpali(name),
            "single" => Self::single_vector(name, 384),
            "lite" => Self::lite(name),
            other => {
                return Err(format!(
                    "unknown kind \"{other}\", expected colbert, colqwen2, colpali, single or lite"
                ));
            }
        };
        match dim.map(str::parse::<usize>) {
            None => Ok(model),
            Some(Ok(dim)) if dim > 0 => Ok(model.with_dim(dim)),
            Some(_) => Err(format!("bad dimension in \"{text}\"")),
        }
    }

    /// What `/models` lists; the first is always `embed`.
    pub(crate) fn capabilities(&self) -> &'static [&'static str] {
        if self.images {
            &["embed", "image_embed"]
        } else {
            &["embed"]
        }
    }
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The served models. With one, any model name in a request is accepted; with more, an unknown name is a 400.
    pub models: Vec<Model>,
    /// Address to listen on.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// The Bearer key that everything but `/health` and `/metrics` asks for.
    pub api_key: Option<String>,
    /// Path in front of the endpoints, such as `/v1`; empty for none.
    pub url_prefix: String,
    /// Added to every embedding request; requests wait side by side.
    pub latency: Duration,
    /// Added for every input; one worker per model, so that requests wait for each other, abandoned ones included.
    pub latency_per_item: Duration,
    /// Inputs waiting beyond which a request is answered with 429.
    pub queue_size: usize,
    /// Inputs that one batch of the server takes: what is padded together.
    pub batch_size: usize,
    /// How long an idle connection stays open.
    pub keep_alive: Duration,
    /// Whether `/mock/…` is served.
    pub control: bool,
}

impl Options {
    /// One model, everything else as a fresh Infinity has it.
    pub fn new(model: Model) -> Self {
        Self {
            models: vec![model],
            host: "127.0.0.1".to_owned(),
            port: 0,
            api_key: None,
            url_prefix: String::new(),
            latency: Duration::ZERO,
            latency_per_item: Duration::ZERO,
            queue_size: 32_000,
            batch_size: 32,
            keep_alive: Duration::from_secs(5),
            control: false,
        }
    }
}
