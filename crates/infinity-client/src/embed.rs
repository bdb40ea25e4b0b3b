//! A whole call: inputs checked and dealt out to requests, several in flight, refused batches halved until the bad input
//! is alone, answers checked and put back in order.
//!
//! Not obvious: all requests of a call live inside one future. When one fails for a reason that is no input's, or the
//! caller goes away, dropping that future closes every connection at once.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::Error;
use crate::batch::{Item, by_count, cut_by_bytes, cut_in_half};
use crate::config::{Encoding, MAX_TEXT_CHARS, Modality, Outcome};
use crate::decode::{Flaw, finish, values_of_base64};
use crate::error::{ImageProblem, one_line};
use crate::exchange::Session;
use crate::image;
use crate::network::on_worker;
use crate::request::PROBE_WORD;
use crate::response::{Answer, Embedding, parse_answer};
use crate::transport::Reply;

/// One input on its way to the server.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// As it goes into the request: a text, or an image's data URI.
    Ready(String),
    /// An image file as the caller has it.
    Image(Vec<u8>),
}

impl Input {
    fn as_sent(&self) -> &str {
        match self {
            Input::Ready(text) => text,
            Input::Image(_) => "",
        }
    }
}

/// What became of a batch: outcomes for some of its items, and batches still to be sent for the others.
#[derive(Default)]
struct Done {
    outcomes: Vec<(usize, Outcome)>,
    again: Vec<Vec<Item<Input>>>,
}

impl Session {
    /// Embeds the inputs; one outcome each, in their order.
    ///
    /// # Errors
    /// Whatever is no single input's fault. Requests in flight are then dropped.
    pub(crate) async fn embed(
        &self,
        modality: Modality,
        inputs: Vec<Input>,
    ) -> Result<Vec<Outcome>, Error> {
        let mut outcomes: Vec<Option<Outcome>> = inputs.iter().map(|_| None).collect();
        let items = inputs
            .into_iter()
            .enumerate()
            .map(|(index, input)| Item { index, input })
            .collect();
        let size = self.config.batch_size.clamp(1, modality.max_per_request());
        let mut pending = VecDeque::from(by_count(items, size));
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < self.config.max_concurrency.max(1) {
                let Some(batch) = pending.pop_front() else {
                    break;
                };
                in_flight.push(self.embed_batch(modality, batch));
            }
            let Some(done) = in_flight.next().await else {
                break;
            };
            let Done {
                outcomes: found,
                again,
            } = done?;
            found
                .into_iter()
                .for_each(|(index, outcome)| outcomes[index] = Some(outcome));
            again
                .into_iter()
                .rev()
                .for_each(|batch| pending.push_front(batch));
        }
        let missing = |index| Error::Internal {
            reason: format!("input {} was lost", index + 1),
        };
        outcomes
            .into_iter()
            .enumerate()
            .map(|(index, outcome)| outcome.ok_or_else(|| missing(index)))
            .collect()
    }

    /// Sends one batch, or as much of it as fits into a request.
    async fn embed_batch(
        &self,
        modality: Modality,
        batch: Vec<Item<Input>>,
    ) -> Result<Done, Error> {
        let mut done = Done::default();
        let mut ready = Vec::with_capacity(batch.len());
        for item in batch {
            match self.make_ready(modality, item).await {
                Ok(item) => ready.push(item),
                Err((index, error)) => done.outcomes.push((index, Err(error))),
            }
        }
        if ready.is_empty() {
            return Ok(done);
        }
        let rest = cut_by_bytes(&mut ready, |input| input.as_sent().len());
        done.again.extend((!rest.is_empty()).then_some(rest));
        if self.config.encoding == Encoding::Base64 {
            // Before the inputs go out: a wrong dimension is found by one word, not by a thousand pages.
            self.dim().await?;
        }
        let input: Vec<&str> = ready.iter().map(|item| item.input.as_sent()).collect();
        match self
            .embeddings(modality, self.config.encoding, &input)
            .await
        {
            Ok(reply) => done.outcomes.extend(self.outcomes(&reply, &ready).await?),
            Err(Error::Rejected {
                status, message, ..
            }) => {
                let tail = cut_in_half(&mut ready);
                if tail.is_empty() {
                    let index = ready[0].index;
                    done.outcomes.push((
                        index,
                        Err(Error::Rejected {
                            index,
                            status,
                            message,
                        }),
                    ));
                } else {
                    done.again.splice(0..0, [ready, tail]);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(done)
    }

    /// Checks an input and makes of it what is sent. Images are decoded on a thread of their own, so that this one
    /// stays free to close connections.
    async fn make_ready(
        &self,
        modality: Modality,
        item: Item<Input>,
    ) -> Result<Item<Input>, (usize, Error)> {
        let index = item.index;
        let bytes = match item.input {
            Input::Image(bytes) => bytes,
            Input::Ready(text) if modality == Modality::Text => {
                // As the server counts: code points, after white space is stripped.
                let chars = text.trim().chars().count();
                if chars > MAX_TEXT_CHARS {
                    return Err((
                        index,
                        Error::TextTooLong {
                            index,
                            chars,
                            limit: MAX_TEXT_CHARS,
                        },
                    ));
                }
                return Ok(Item {
                    index,
                    input: Input::Ready(text),
                });
            }
            input => return Ok(Item { index, input }),
        };
        let max_pixels = self.config.max_image_pixels;
        let prepared = on_worker(move || image::data_uri(&bytes, max_pixels)).await;
        let problem = match prepared {
            Ok(Ok(data_uri)) => {
                return Ok(Item {
                    index,
                    input: Input::Ready(data_uri),
                });
            }
            Ok(Err(problem)) => problem,
            Err(panic) => ImageProblem::Corrupt {
                format: "image",
                reason: format!("the decoder failed: {panic}"),
            },
        };
        Err((index, Error::Image { index, problem }))
    }

    /// The outcomes of a batch that was answered.
    async fn outcomes(
        &self,
        reply: &Reply,
        batch: &[Item<Input>],
    ) -> Result<Vec<(usize, Outcome)>, Error> {
        let answer = self.answer(reply, batch.len())?;
        let mut dim = None;
        let mut asked_again = false;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (item, embedding) in batch.iter().zip(answer.embeddings) {
            let values = match embedding {
                Embedding::Flat { dim } => return Err(self.single_vector(dim)),
                Embedding::Rows { values, dim: found } => {
                    self.settle(&mut dim, found, values.is_empty())?;
                    Ok(values)
                }
                Embedding::Base64(text) => {
                    let mut values = values_of_base64(&text, self.dim().await?);
                    if matches!(values, Err(Flaw::NotRows { .. })) && !asked_again {
                        // The server may have become another one since its dimension was learnt.
                        asked_again = true;
                        self.forget_dim();
                        values = values_of_base64(&text, self.dim().await?);
                    }
                    let found = self.dim().await?;
                    self.settle(&mut dim, found, text.is_empty())?;
                    values
                }
            };
            let index = item.index;
            let outcome = match values
                .and_then(|values| finish(values, dim.unwrap_or(0), self.config.normalize))
            {
                Ok(rows) => Ok(rows),
                Err(Flaw::NonFinite { token }) => Err(Error::NonFinite { index, token }),
                Err(Flaw::Empty) => Err(Error::EmptyEmbedding { index }),
                Err(Flaw::NotBase64(reason)) => return Err(self.malformed(reason)),
                Err(Flaw::NotRows { values, dim }) => {
                    return Err(
                        self.malformed(format!("{values} values are not whole rows of {dim}"))
                    );
                }
            };
            outcomes.push((index, outcome));
        }
        Ok(outcomes)
    }

    /// Holds all embeddings of one answer to one dimension, and that to the configured one. An empty one has none.
    fn settle(&self, dim: &mut Option<usize>, found: usize, empty: bool) -> Result<(), Error> {
        match *dim {
            _ if empty => Ok(()),
            Some(dim) if dim != found => {
                Err(self.malformed(format!("rows of {dim} and of {found} values")))
            }
            _ => {
                *dim = Some(found);
                self.check_dim(found)
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
                self.malformed(reason)
            } else {
                let beginning = String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)]);
                {
                    let reason = format!("not JSON but \"{}\": {beginning}", reply.content_type);
                    self.malformed(one_line(&reason))
                }
            }
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
            .embeddings(Modality::Text, Encoding::Float, &[PROBE_WORD])
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
