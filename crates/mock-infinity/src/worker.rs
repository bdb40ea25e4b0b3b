//! One model's worker: its vectors, its batches, its queue and its death. Used by the routes only.
//!
//! What an input comes back as depends on its company: padded kinds take the longest of their batch and of whatever other
//! requests were in flight, and every value carries a jitter of 1e-6 that the composition of the batch decides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::RgbImage;

use crate::options::{Kind, Model};
use crate::picture;
use crate::request::Modality;
use crate::vectors::{Lexicon, add, hash, scale, tokens, uniform};

/// Relative size of the jitter.
const JITTER: f32 = 1e-6;

/// Rows around the words of a query, by kind: 13 for ColQwen2 and 16 for ColPali, as measured.
const COLQWEN2_QUERY: ([&str; 3], usize) = (["query", ":", "[space]"], 10);
const COLPALI_QUERY: ([&str; 5], usize) = (["[bos]", "question", ":", "[space]", "[query]"], 11);
/// Rows before and after the patches of a ColQwen2 image, and after those of a ColPali image.
const COLQWEN2_IMAGE: (usize, usize) = (4, 9);
const COLPALI_IMAGE: usize = 6;

/// One input's vectors.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    /// Row-major.
    pub(crate) values: Vec<f32>,
    pub(crate) dim: usize,
    /// A single vector, which float answers do not nest.
    pub(crate) flat: bool,
}

impl Embedding {
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.dim
    }
}

/// One model and its worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) model: Model,
    lexicon: Lexicon,
    batch_size: usize,
    latency_per_item: Duration,
    dead: AtomicBool,
    load: Mutex<Load>,
}

#[derive(Debug, Default)]
struct Load {
    /// When the work accepted so far is done, abandoned work included.
    busy_until: Option<Instant>,
    next: u64,
    in_flight: HashMap<u64, Company>,
    /// Inputs that a dead worker holds for ever.
    stuck: usize,
}

/// What one request in flight is, and what it shares its batches with.
#[derive(Clone, Copy, Debug)]
struct Company {
    modality: Modality,
    inputs: usize,
    longest: usize,
    others: usize,
    others_longest: usize,
}

/// A request's place in the worker; leaves when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    worker: Arc<Worker>,
    number: u64,
    /// When the worker will have done it.
    pub(crate) done_at: Instant,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.worker
            .load
            .lock()
            .unwrap()
            .in_flight
            .remove(&self.number);
    }
}

impl Worker {
    pub(crate) fn new(model: Model, batch_size: usize, latency_per_item: Duration) -> Self {
        Self {
            lexicon: Lexicon::new(model.dim, model.normalized),
            model,
            batch_size,
            latency_per_item,
            dead: AtomicBool::new(false),
            load: Mutex::default(),
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// A new worker in the dead one's place, with an empty queue.
    pub(crate) fn revive(&self) {
        self.dead.store(false, Ordering::Relaxed);
        let mut load = self.load.lock().unwrap();
        load.stuck = 0;
        load.busy_until = None;
    }

    /// Counts inputs that a dead worker will never do.
    pub(crate) fn stick(&self, inputs: usize) {
        self.load.lock().unwrap().stuck += inputs;
    }

    /// Inputs waiting or being worked on, those of clients that have gone included.
    pub(crate) fn waiting(&self) -> usize {
        let load = self.load.lock().unwrap();
        let in_flight: usize = load.in_flight.values().map(|company| company.inputs).sum();
        let left = load.busy_until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let owed = if self.latency_per_item.is_zero() {
            0
        } else {
            left.as_nanos().div_ceil(self.latency_per_item.as_nanos()) as usize
        };
        // The batch that a dead worker was at is no longer in the queue.
        load.stuck.saturating_sub(self.batch_size) + in_flight.max(owed)
    }

    /// Takes work in; `longest` is the rows of its longest input.
    pub(crate) fn enter(
        self: &Arc<Self>,
        modality: Modality,
        inputs: usize,
        longest: usize,
    ) -> Ticket {
        let mut load = self.load.lock().unwrap();
        let now = Instant::now();
        let begin = load.busy_until.map_or(now, |until| until.max(now));
        let done_at = begin + self.latency_per_item * inputs as u32;
        load.busy_until = Some(done_at);
        let mut company = Company {
            modality,
            inputs,
            longest,
            others: 0,
            others_longest: 0,
        };
        for other in load
            .in_flight
            .values_mut()
            .filter(|other| other.modality == modality)
        {
            other.others += 1;
            other.others_longest = other.others_longest.max(longest);
            company.others += 1;
            company.others_longest = company.others_longest.max(other.longest);
        }
        load.next += 1;
        let number = load.next;
        load.in_flight.insert(number, company);
        Ticket {
            worker: self.clone(),
            number,
            done_at,
        }
    }

    /// The rows of a text, before padding.
    pub(crate) fn text(&self, text: &str) -> Embedding {
        let mut words = tokens(text);
        let around = |before: &[&str], words: Vec<String>, after: usize| {
            let before = before.iter().map(|word| (*word).to_owned());
            let after = (0..after).map(|place| format!("[augment {place}]"));
            before.chain(words).chain(after).collect()
        };
        let words = match self.model.kind {
            Kind::ColBert => {
                if self.model.max_rows > 0 {
                    words.truncate(self.model.max_rows.saturating_sub(2));
                }
                words.insert(0, "[cls]".to_owned());
                words.push("[sep]".to_owned());
                words
            }
            Kind::ColQwen2 => around(&COLQWEN2_QUERY.0, words, COLQWEN2_QUERY.1),
            Kind::ColPali => around(&COLPALI_QUERY.0, words, COLPALI_QUERY.1),
            Kind::SingleVector => return self.mean(&words),
        };
        self.rows(words.iter().map(String::as_str))
    }

    /// The rows of an image, before padding.
    pub(crate) fn image(&self, picture: &RgbImage) -> Embedding {
        let kind = self.model.kind;
        let (before, after) = match kind {
            Kind::ColQwen2 => COLQWEN2_IMAGE,
            Kind::ColPali => (0, COLPALI_IMAGE),
            Kind::ColBert | Kind::SingleVector => (0, 0),
        };
        let prompt: Vec<String> = (0..before + after)
            .map(|place| format!("[prompt {place}]"))
            .collect();
        let mut embedding = self.rows(prompt[..before].iter().map(String::as_str));
        let grid = picture::grid(
            kind,
            self.model.image_patches,
            picture.width(),
            picture.height(),
        );
        picture::embed(picture, grid, &self.lexicon, &mut embedding.values);
        let mut tail = self.rows(prompt[before..].iter().map(String::as_str));
        embedding.values.append(&mut tail.values);
        embedding
    }

    fn rows<'a>(&self, words: impl Iterator<Item = &'a str>) -> Embedding {
        let mut values = Vec::with_capacity(words.size_hint().0 * self.model.dim);
        for word in words {
            values.extend_from_slice(&self.lexicon.vector(word));
        }
        Embedding {
            values,
            dim: self.model.dim,
            flat: false,
        }
    }

    fn mean(&self, words: &[String]) -> Embedding {
        let mut values = self.lexicon.vector("[cls]").to_vec();
        for word in words {
            add(&mut values, &self.lexicon.vector(word), 1.0);
        }
        scale(&mut values, self.lexicon.norm("[mean]"));
        Embedding {
            values,
            dim: self.model.dim,
            flat: true,
        }
    }

    /// Makes of the inputs of one request what the batches they were in make of them.
    pub(crate) fn finish(&self, embeddings: &mut [Embedding], ticket: &Ticket) {
        let company = self.load.lock().unwrap().in_flight[&ticket.number];
        let mut order: Vec<usize> = (0..embeddings.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(embeddings[*place].rows()));
        for batch in order.chunks(self.batch_size) {
            let longest = embeddings[batch[0]].rows().max(company.others_longest);
            let composition = [batch.len() + company.others, longest]
                .map(usize::to_le_bytes)
                .concat();
            for place in batch {
                jitter(&mut embeddings[*place].values, hash(&composition));
                self.pad(&mut embeddings[*place], longest);
            }
        }
    }

    fn pad(&self, embedding: &mut Embedding, rows: usize) {
        let missing = (rows - embedding.rows()) * embedding.dim;
        match self.model.kind {
            Kind::ColBert | Kind::SingleVector => {}
            Kind::ColQwen2 => {
                // Masking multiplies by zero, which leaves the sign of what was there.
                let zeros = (0..missing).map(|place| if place % 3 == 1 { -0.0 } else { 0.0 });
                embedding.values = zeros.chain(std::mem::take(&mut embedding.values)).collect();
            }
            Kind::ColPali => embedding.values.resize(rows * embedding.dim, 0.0),
        }
    }
}

fn jitter(values: &mut [f32], seed: u64) {
    let mut state = seed;
    for value in values {
        *value *= 1.0 + JITTER * uniform(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(model: Model) -> Arc<Worker> {
        Arc::new(Worker::new(model, 32, Duration::ZERO))
    }

    #[test]
    fn rows_are_counted_as_on_the_true_models() {
        let rows = |model: Model, text: &str| worker(model).text(text).rows();
        assert_eq!(rows(Model::colbert("m"), "This is a test"), 6);
        assert_eq!(rows(Model::colbert("m"), ""), 2);
        assert_eq!(rows(Model::colbert("m"), &"word ".repeat(5000)), 256);
        assert_eq!(rows(Model::colqwen2("m"), "hi"), 14);
        assert_eq!(rows(Model::colpali("m"), "hi"), 17);
        assert_eq!(rows(Model::single_vector("m", 384), "hello there"), 1);
        let picture = RgbImage::new(64, 64);
        assert_eq!(worker(Model::colqwen2("m")).image(&picture).rows(), 17);
        assert_eq!(worker(Model::colpali("m")).image(&picture).rows(), 1030);
    }

    #[test]
    fn company_is_felt_by_both_sides_in_either_order_of_leaving() {
        let worker = worker(Model::colqwen2("m"));
        let mut short = [worker.text("hi")];
        let first = worker.enter(Modality::Text, 1, short[0].rows());
        let long = worker.text("a much longer text that pads the short one");
        drop(worker.enter(Modality::Text, 1, long.rows()));
        worker.finish(&mut short, &first);
        assert_eq!(short[0].rows(), long.rows());
        assert!(short[0].values[..128].iter().all(|value| *value == 0.0));
        assert!(
            short[0].values[..128]
                .iter()
                .any(|value| value.is_sign_negative())
        );
    }

    #[test]
    fn the_jitter_is_small_and_depends_on_the_batch() {
        let worker = worker(Model::lite("m"));
        let exact = worker.text("late interaction");
        let answer = |company: usize| {
            let mut batch = vec![exact.clone(); company];
            let ticket = worker.enter(Modality::Text, company, exact.rows());
            worker.finish(&mut batch, &ticket);
            batch.swap_remove(0).values
        };
        assert_eq!(answer(1), answer(1));
        assert_ne!(answer(1), answer(2));
        let worst = exact
            .values
            .iter()
            .zip(answer(3))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < 2e-6, "{worst}");
    }
}
