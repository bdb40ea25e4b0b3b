//! One collection through training, encoding and all its queries: what it costs and what it finds.

use maxsim_index::{Codebook, Counts, Document, Encoded, Search, Source, encode_flat};

use nix::time::{ClockId, clock_gettime};

use crate::collections::Set;
use crate::memory::{Random, signature};

/// CPU time of the calling thread, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock");
    time.tv_sec() as f64 + 1e-9 * time.tv_nsec() as f64
}

/// A codebook of part of a set, and the CPU seconds it took. The sample is what the extension takes: in `$MEMORY_MB` (2048), as
/// many tokens of each document, 32 at least.
pub(crate) fn train(set: &Set, documents: &[usize], lists: usize) -> (Codebook, f64) {
    let memory = std::env::var("MEMORY_MB").map_or(2048, |mb| mb.parse().expect("megabytes"));
    let bytes: usize = documents.iter().map(|&at| set.documents[at].len()).sum();
    let count = (bytes / 2 / set.dim) as u64;
    let wanted = Codebook::sample_size(lists, count, set.dim, memory << 20);
    let mut random = Random(7);
    let mut picked = documents.to_vec();
    for end in (1..picked.len()).rev() {
        picked.swap(end, random.between(0, end));
    }
    let mut sample = Vec::with_capacity(wanted * set.dim);
    for (taken, at) in picked.iter().enumerate() {
        let missing = wanted.saturating_sub(sample.len() / set.dim);
        if missing == 0 {
            break;
        }
        let values = set.values(*at);
        let tokens = values.len() / set.dim;
        let mut left = missing.div_ceil(picked.len() - taken).max(32).min(tokens);
        for (first, token) in values.chunks_exact(set.dim).enumerate() {
            if random.between(0, tokens - first - 1) < left {
                sample.extend_from_slice(token);
                left -= 1;
            }
        }
    }
    sample.truncate(wanted * set.dim);
    let start = cpu_seconds();
    let codebook = Codebook::train(&sample, set.dim, lists, 1, 1, &mut || ());
    (codebook, cpu_seconds() - start)
}

/// Every document encoded, some without codebook, and the CPU seconds.
pub(crate) fn encode(set: &Set, codebook: Option<&Codebook>) -> (Vec<Encoded>, f64) {
    let (mut encoded, mut seconds) = (Vec::with_capacity(set.documents.len()), 0.0);
    for first in (0..set.documents.len()).step_by(128) {
        let last = set.documents.len().min(first + 128);
        let documents: Vec<Vec<f32>> = (first..last).map(|at| set.values(at)).collect();
        let start = cpu_seconds();
        match codebook {
            Some(codebook) => encoded.extend(codebook.encode_many(&documents, 1, &mut || ())),
            None => encoded.extend(
                documents
                    .iter()
                    .map(|values| encode_flat(values, set.dim, &mut || ())),
            ),
        }
        seconds += cpu_seconds() - start;
    }
    (encoded, seconds)
}

/// CPU seconds per document when they come one at a time.
pub(crate) fn encode_one_by_one(set: &Set, codebook: &Codebook) -> f64 {
    let count = set.documents.len().min(500);
    let documents: Vec<Vec<f32>> = (0..count).map(|at| set.values(at)).collect();
    let start = cpu_seconds();
    for document in &documents {
        std::hint::black_box(codebook.encode(document, &mut || ()));
    }
    (cpu_seconds() - start) / count as f64
}

/// The exact scores of the best of a query, among those a filter keeps, and what the sweep took.
pub(crate) struct Truth {
    pub(crate) best: Vec<Vec<f64>>,
    /// CPU seconds of one exact sweep.
    pub(crate) seconds: f64,
}

impl Truth {
    pub(crate) fn find(set: &Set, keeps: fn(usize) -> bool) -> Truth {
        let sweep = |query: &Vec<f32>| {
            let start = cpu_seconds();
            let query = maxsim::Query::new(query, set.dim).expect("a query");
            let kept = set
                .documents
                .iter()
                .enumerate()
                .filter(|(at, _)| keeps(*at));
            let mut scores: Vec<f64> = kept
                .map(|(_, document)| query.score_f16(document).expect("a document"))
                .collect();
            let depth = 999.min(scores.len() - 1);
            scores.select_nth_unstable_by(depth, |a, b| b.total_cmp(a));
            scores.truncate(depth + 1);
            scores.sort_by(|a, b| b.total_cmp(a));
            (scores, cpu_seconds() - start)
        };
        let half = set.queries.len().div_ceil(2);
        let results: Vec<(Vec<f64>, f64)> = std::thread::scope(|scope| {
            let threads: Vec<_> = set
                .queries
                .chunks(half)
                .map(|queries| scope.spawn(move || queries.iter().map(sweep).collect::<Vec<_>>()))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("scores"))
                .collect()
        });
        let mut seconds: Vec<f64> = results.iter().map(|result| result.1).collect();
        Truth {
            seconds: median(&mut seconds),
            best: results.into_iter().map(|result| result.0).collect(),
        }
    }
}

/// What a run over all queries of a set came to, per query.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) recall: f64,
    pub(crate) refined: f64,
    pub(crate) scored: f64,
    /// Adjacent pairs out of order, as a share.
    pub(crate) inversions: f64,
    /// CPU milliseconds: the median, and its parts.
    pub(crate) cpu_ms: f64,
    pub(crate) prepare_ms: f64,
    pub(crate) sweep_ms: f64,
    /// Of that, what was spent on exact scores.
    pub(crate) score_ms: f64,
}

struct Rows<'a> {
    set: &'a Set,
    encoded: &'a [Encoded],
    query: maxsim::Query,
    condition: Condition,
    seconds: f64,
}

/// Which documents are wanted, and whether the search is told before it scores them.
#[derive(Clone, Copy)]
pub(crate) struct Condition {
    pub(crate) keeps: fn(usize) -> bool,
    pub(crate) is_told: bool,
}

pub(crate) const NONE: Condition = Condition {
    keeps: |_| true,
    is_told: false,
};

impl Source for Rows<'_> {
    fn codes(&mut self, document: &Document, codes: &mut Vec<u8>) -> bool {
        codes.clear();
        codes.extend_from_slice(&self.encoded[document.place as usize].codes);
        true
    }

    fn score(&mut self, document: &Document) -> Option<f64> {
        let at = document.place as usize;
        let start = cpu_seconds();
        let score = self.query.score_f16(&self.set.documents[at]);
        self.seconds += cpu_seconds() - start;
        Some(score.expect("a document"))
    }

    fn keeps(&mut self, document: &Document) -> bool {
        !self.condition.is_told || (self.condition.keeps)(document.place as usize)
    }

    fn poll(&mut self) {}
}

/// Asks for the best `count` of every query.
pub(crate) fn search(
    set: &Set,
    codebook: Option<&Codebook>,
    encoded: &[Encoded],
    truth: &Truth,
    count: usize,
    effort: f64,
    condition: Condition,
) -> Outcome {
    // As pages hold them: one after another.
    let mut signatures: Vec<u8> = Vec::new();
    let mut bounds = vec![0];
    for encoded in encoded {
        signatures.extend(signature(encoded));
        bounds.push(signatures.len());
    }
    let (mut found, mut wanted, mut inverted, mut pairs) = (0, 0, 0, 0);
    let (mut refined, mut scored) = (0, 0);
    let mut times = [const { Vec::new() }; 4];
    for (query, best) in set.queries.iter().zip(&truth.best) {
        let start = cpu_seconds();
        let mut search = Search::new(query, set.dim, effort, codebook, &mut || ());
        let prepared = cpu_seconds();
        for (at, bounds) in bounds.windows(2).enumerate() {
            let document = Document {
                tid: at as u64,
                place: at as u64,
            };
            search
                .add(document, &signatures[bounds[0]..bounds[1]])
                .expect("good signatures");
        }
        let swept = cpu_seconds();
        let mut rows = Rows {
            set,
            encoded,
            query: maxsim::Query::new(query, set.dim).expect("a query"),
            condition,
            seconds: 0.0,
        };
        let mut scores = Vec::with_capacity(count);
        while scores.len() < count.min(best.len())
            && let Some(hit) = search.next(&mut rows).expect("good codes")
        {
            if (condition.keeps)(hit.document.place as usize) {
                scores.push(hit.score);
            }
        }
        let end = cpu_seconds();
        times[0].push(end - start);
        times[1].push(prepared - start);
        times[2].push(swept - prepared);
        times[3].push(rows.seconds);
        let last = best[count.min(best.len()) - 1];
        found += scores.iter().filter(|&&score| score >= last).count();
        wanted += count.min(best.len());
        inverted += scores.windows(2).filter(|pair| pair[0] < pair[1]).count();
        pairs += scores.len() - 1;
        let Counts {
            refined: more_refined,
            scored: more_scored,
            ..
        } = search.counts();
        refined += more_refined;
        scored += more_scored;
    }
    let queries = set.queries.len() as f64;
    let [cpu_ms, prepare_ms, sweep_ms, score_ms] =
        times.map(|mut seconds| 1e3 * median(&mut seconds));
    Outcome {
        recall: found as f64 / wanted as f64,
        refined: refined as f64 / queries,
        scored: scored as f64 / queries,
        inversions: inverted as f64 / pairs.max(1) as f64,
        cpu_ms,
        prepare_ms,
        sweep_ms,
        score_ms,
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
