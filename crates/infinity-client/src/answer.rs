//! What of an answer is believed: the model it is from, the dimension of its rows, and then each embedding.
//!
//! Not obvious: the dimension comes from the server alone, never from the settings, because base64 fits many of them; the
//! configured one is only compared.

use crate::Error;
use crate::batch::Item;
use crate::config::{Encoding, Modality, Outcome};
use crate::decode::{Flaw, finish, values_of_base64};
use crate::error::one_line;
use crate::exchange::{Accidents, Session};
use crate::request::PROBE_WORD;
use crate::response::{Answer, Embedding, parse_answer};
use crate::transport::Reply;

impl Session {
    /// The outcomes of a batch that was answered.
    pub(crate) async fn outcomes<T>(
        &self,
        reply: &Reply,
        batch: &[Item<T>],
    ) -> Result<Vec<(usize, Outcome)>, Error> {
        let embeddings = self.answer(reply, batch.len())?.embeddings;
        let dim = self.dim_of(&embeddings).await?;
        let outcomes = batch.iter().zip(embeddings).map(|(item, embedding)| {
            let outcome = self.outcome(item.index, embedding, dim)?;
            Ok((item.index, outcome))
        });
        outcomes.collect()
    }

    /// The one dimension of all rows of an answer, which is the configured one if there is one. Flat and empty embeddings
    /// have none; 0 when no other is there.
    async fn dim_of(&self, embeddings: &[Embedding<'_>]) -> Result<usize, Error> {
        let mut shapes = embeddings.iter().filter_map(|embedding| match embedding {
            Embedding::Rows { dim, .. } if *dim > 0 => Some(*dim),
            _ => None,
        });
        if let Some(dim) = shapes.next() {
            if let Some(other) = shapes.find(|other| *other != dim) {
                return Err(self.malformed(format!("rows of {dim} and of {other} values")));
            }
            self.check_dim(dim)?;
            return Ok(dim);
        }
        if !embeddings
            .iter()
            .any(|embedding| matches!(embedding, Embedding::Base64(_)))
        {
            return Ok(0);
        }
        let dim = self.dim().await?;
        if embeddings
            .iter()
            .all(|embedding| embedding.may_be_rows_of(dim))
        {
            return Ok(dim);
        }
        // The server may have become another one since its dimension was learnt.
        self.forget_dim();
        self.dim().await
    }

    /// The outer error is about the answer, the inner one about this input.
    fn outcome(
        &self,
        index: usize,
        embedding: Embedding<'_>,
        dim: usize,
    ) -> Result<Outcome, Error> {
        let values = match embedding {
            Embedding::Flat { dim } => return Err(self.single_vector(dim)),
            Embedding::Rows { values, .. } => Ok(values),
            Embedding::Base64(text) => values_of_base64(&text, dim),
        };
        match values.and_then(|values| finish(values, dim, self.config.normalize)) {
            Ok(rows) => Ok(Ok(rows)),
            Err(Flaw::NonFinite { token }) => Ok(Err(Error::NonFinite { index, token })),
            Err(Flaw::Empty) => Ok(Err(Error::EmptyEmbedding { index })),
            Err(Flaw::NotBase64(reason)) => Err(self.malformed(reason)),
            Err(Flaw::NotRows { values, dim }) => {
                Err(self.malformed(format!("{values} values are not whole rows of {dim}")))
            }
        }
    }

    /// Reads a reply's body and checks which model it is from.
    pub(crate) fn answer<'a>(
        &self,
        reply: &'a Reply,
        expected: usize,
    ) -> Result<Answer<'a>, Error> {
        let answer = parse_answer(&reply.body, expected).map_err(|reason| {
            if reply.content_type.contains("json") {
                return self.malformed(reason);
            }
            let beginning = String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)]);
            let reason = format!("not JSON but \"{}\": {beginning}", reply.content_type);
            self.malformed(one_line(&reason))
        })?;
        if answer.model != self.config.model {
            self.forget_dim();
            let served = one_line(&answer.model);
            return Err(Error::WrongModel {
                asked: self.config.model.clone(),
                served,
            });
        }
        Ok(answer)
    }

    /// The model's dimension: as learnt before, or by embedding one word as float.
    pub(crate) async fn dim(&self) -> Result<usize, Error> {
        let _one_at_a_time = self.learning.lock().await;
        if let Some(dim) = self.dimensions.get(&self.endpoint.base, &self.config.model) {
            self.check_dim(dim)?;
            return Ok(dim);
        }
        let reply = match self
            .embeddings(
                Modality::Text,
                Encoding::Float,
                &[PROBE_WORD],
                self.config.timeout,
                Accidents::Repeated,
            )
            .await
        {
            Err(Error::Rejected {
                status, message, ..
            }) => {
                return Err(Error::Refused {
                    url: self.url(),
                    status,
                    message,
                });
            }
            reply => reply?,
        };
        self.learn(&reply)
    }

    /// Learns the dimension from the answer to a probe.
    pub(crate) fn learn(&self, reply: &Reply) -> Result<usize, Error> {
        match self.answer(reply, 1)?.embeddings.pop() {
            Some(Embedding::Rows { dim, .. }) if dim > 0 => {
                self.check_dim(dim)?;
                self.dimensions
                    .learn(&self.endpoint.base, &self.config.model, dim);
                Ok(dim)
            }
            Some(Embedding::Flat { dim }) => Err(self.single_vector(dim)),
            _ => Err(self.malformed("the answer to a float probe has no rows of numbers")),
        }
    }

    /// # Errors
    /// [`Error::DimensionMismatch`]; what was learnt is then forgotten, so that a server set right is seen at once.
    fn check_dim(&self, served: usize) -> Result<(), Error> {
        match self.config.dim {
            Some(configured) if configured != served => {
                self.forget_dim();
                Err(Error::DimensionMismatch {
                    model: self.config.model.clone(),
                    configured,
                    served,
                })
            }
            _ => Ok(()),
        }
    }

    fn forget_dim(&self) {
        self.dimensions
            .forget(&self.endpoint.base, &self.config.model);
    }

    fn single_vector(&self, dim: usize) -> Error {
        Error::SingleVectorModel {
            model: self.config.model.clone(),
            dim,
        }
    }
}
