//! A whole call: inputs checked and dealt out to requests, several in flight, refused batches halved until the bad input
//! is alone, answers checked and put back in order.
//!
//! A server that fails (500) over some inputs while it embeds a word well has trouble with an input: that is a refusal too.
//! Not obvious: all requests of a call live inside one future. When one fails for a reason that is no input's, or the
//! caller goes away, dropping that future closes every connection at once.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::batch::{Item, by_count, cut_by_bytes, cut_in_half};
use crate::config::{Attempt, Encoding, MAX_TEXT_CHARS, Modality, Outcome};
use crate::error::ImageProblem;
use crate::exchange::{Accidents, Session};
use crate::image;
use crate::worker::on_worker;

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

/// What goes into one request, as far as it fits.
struct Batch {
    items: Vec<Item<Input>>,
    accidents: Accidents,
}

/// What became of a batch: outcomes for some of its items, and batches still to be sent for the others.
#[derive(Default)]
struct Done {
    outcomes: Vec<(usize, Outcome)>,
    again: Vec<Batch>,
}

/// A failure that ends the call, and which inputs were in the request that failed, if one did.
struct Failed {
    error: Error,
    inputs: Vec<usize>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        let inputs = Vec::new();
        Failed { error, inputs }
    }
}

impl Session {
    /// Embeds the inputs; one outcome each, in their order. A failure that is no single input's ends it: requests in flight
    /// are then dropped, and their inputs have no outcome.
    pub(crate) async fn embed(&self, modality: Modality, inputs: Vec<Input>) -> Attempt {
        let mut outcomes: Vec<Option<Outcome>> = inputs.iter().map(|_| None).collect();
        let items = inputs
            .into_iter()
            .enumerate()
            .map(|(index, input)| Item { index, input })
            .collect();
        let size = self.config.batch_size.clamp(1, modality.max_per_request());
        let mut pending: VecDeque<Batch> = by_count(items, size)
            .into_iter()
            .map(|items| Batch {
                items,
                accidents: Accidents::Repeated,
            })
            .collect();
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
            } = match done {
                Ok(done) => done,
                Err(Failed { error, inputs }) => {
                    return Attempt {
                        outcomes,
                        failure: Some(error),
                        failed_together: inputs,
                    };
                }
            };
            found
                .into_iter()
                .for_each(|(index, outcome)| outcomes[index] = Some(outcome));
            again
                .into_iter()
                .rev()
                .for_each(|batch| pending.push_front(batch));
        }
        let lost = outcomes.iter().position(Option::is_none);
        Attempt {
            outcomes,
            failure: lost.map(|index| Error::Internal {
                reason: format!("input {} was lost", index + 1),
            }),
            failed_together: Vec::new(),
        }
    }

    /// Sends one batch, or as much of it as fits into a request. What making it ready takes is lost to the request: both
    /// are under one deadline.
    async fn embed_batch(&self, modality: Modality, batch: Batch) -> Result<Done, Failed> {
        let timeout = self.config.timeout;
        let mut done = Done::default();
        let mut ready = Vec::with_capacity(batch.items.len());
        let begun = Instant::now();
        for item in batch.items {
            let index = item.index;
            match timeout_at(begun + timeout, self.make_ready(modality, item)).await {
                Ok(Ok(item)) => ready.push(item),
                Ok(Err(error)) => done.outcomes.push((index, Err(error))),
                Err(_) => {
                    let problem = ImageProblem::TooSlow { limit: timeout };
                    return Err(Error::Image { index, problem }.into());
                }
            }
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if ready.is_empty() {
            return Ok(done);
        }
        let rest = cut_by_bytes(&mut ready, |input| input.as_sent().len());
        done.again.extend((!rest.is_empty()).then_some(Batch {
            items: rest,
            accidents: batch.accidents,
        }));
        if self.config.encoding == Encoding::Base64 {
            // Before the inputs go out: a wrong dimension is found by one word, not by a thousand pages.
            self.dim().await?;
        }
        let input: Vec<&str> = ready.iter().map(|item| item.input.as_sent()).collect();
        let reply = self
            .embeddings(
                modality,
                self.config.encoding,
                &input,
                left,
                batch.accidents,
            )
            .await;
        match reply {
            Ok(reply) => done.outcomes.extend(self.outcomes(&reply, &ready).await?),
            Err(error) if self.is_about_inputs(&error).await => {
                let tail = cut_in_half(&mut ready);
                if tail.is_empty() {
                    let index = ready[0].index;
                    done.outcomes.push((index, Err(error.at(index))));
                } else {
                    let half = |items| Batch {
                        items,
                        accidents: Accidents::Believed,
                    };
                    done.again.splice(0..0, [half(ready), half(tail)]);
                }
            }
            Err(error) => {
                let inputs = ready.iter().map(|item| item.index).collect();
                return Err(Failed { error, inputs });
            }
        }
        Ok(done)
    }

    /// Whether a request failed because of what it carried.
    async fn is_about_inputs(&self, error: &Error) -> bool {
        match error {
            Error::Rejected { .. } => true,
            Error::ServerFailed { status: 500, .. } => self.embeds_a_word().await,
            _ => false,
        }
    }

    /// Checks an input and makes of it what is sent. Images are decoded on a thread of their own, so that this one
    /// stays free to close connections and to keep the deadline.
    async fn make_ready(
        &self,
        modality: Modality,
        item: Item<Input>,
    ) -> Result<Item<Input>, Error> {
        let index = item.index;
        let bytes = match item.input {
            Input::Image(bytes) => bytes,
            Input::Ready(text) if modality == Modality::Text => {
                // As the server counts: code points, after white space is stripped.
                let chars = text.trim().chars().count();
                if chars > MAX_TEXT_CHARS {
                    return Err(Error::TextTooLong {
                        index,
                        chars,
                        limit: MAX_TEXT_CHARS,
                    });
                }
                return Ok(Item {
                    index,
                    input: Input::Ready(text),
                });
            }
            input => return Ok(Item { index, input }),
        };
        let max_pixels = self.config.max_image_pixels;
        let prepared = on_worker(move |stop| image::data_uri(&bytes, max_pixels, stop)).await;
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
        Err(Error::Image { index, problem })
    }
}
