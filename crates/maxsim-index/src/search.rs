//! One query: documents come in with their signatures, and come out ordered by their exact scores.
//!
//! All documents of one level wait in one heap ordered by the bare estimate, as what is added to it is the same for all
//! of them at any time; what changes while the search learns moves whole heaps against each other, never documents.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use maxsim::Query;

use crate::codebook::Codebook;
use crate::codes::{Codes, Residual};
use crate::error::Error;
use crate::spread::Spread;
use crate::table::Table;

/// Documents that go on to level 2, and to exact scores, before the errors of the level before are believed.
const FIRST_REFINED: u32 = 128;
const FIRST_SCORED: u32 = 16;
/// How many deviations an effort of 1 is. The errors of the best documents lie above the mean of those looked at, which
/// were chosen for high estimates: effort 3 then is what 3 deviations of a normal distribution would be.
const WIDTH: f64 = 4.0 / 3.0;
/// How many documents that suits. From more, those looked at are chosen for higher estimates.
const CROWD: f64 = 40_000.0;
/// How much wider, at most, the bound of level 1 is where tokens differ in length, as a signature does not say which of a list's
/// a document has, or where they lie farther from their centroids than those of the training.
const UNEVEN: f64 = 0.25;
/// Results after which the effort decreases, so that deep results, and conditions that the source does not know, stay cheap.
const UNDIMINISHED: f64 = 1024.0;
/// Documents that the source is asked about before it is known whether asking saves anything.
const FIRST_ASKED: u64 = 64;
/// Bytes that a query's table may take. Longer queries are estimated by part of their tokens.
const TABLE_SIZE: usize = 64 << 20;
/// Nor may one estimate take long, which cannot be interrupted: with so many a document of 32,768 tokens takes 30 ms.
const MOST_COLUMNS: usize = 2048;

/// A document, as its caller knows it: two numbers that mean nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Document {
    /// Which row it is.
    pub tid: u64,
    /// Where its codes are.
    pub place: u64,
}

/// What a search asks for while it runs.
pub trait Source {
    /// Replaces `codes` with a document's codes. False when another document's are in their place: then the document
    /// is scored exactly.
    fn codes(&mut self, document: &Document, codes: &mut Vec<u8>) -> bool;
    /// The exact score. None when there is no row to return.
    fn score(&mut self, document: &Document) -> Option<f64>;
    /// Whether the document fulfils the condition under which results are wanted. One that does not is left out, before
    /// its codes are read if this saves much, before it is scored in any case.
    fn keeps(&mut self, _document: &Document) -> bool {
        true
    }
    /// Called between steps; may unwind.
    fn poll(&mut self);
}

/// A result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The document.
    pub document: Document,
    /// Its exact score.
    pub score: f64,
}

/// What a search has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents added.
    pub swept: u64,
    /// Documents whose codes were read.
    pub refined: u64,
    /// Documents whose exact score was asked for.
    pub scored: u64,
    /// Documents that were left out because the source did not keep them.
    pub dropped: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.swept += other.swept;
        self.refined += other.refined;
        self.scored += other.scored;
        self.dropped += other.dropped;
    }
}

/// A document waiting at an estimate or, as f64, at its exact score.
#[derive(Debug, Clone, Copy)]
struct Waiting<T> {
    score: T,
    document: Document,
}

/// Kinds of codes: each is off by something else.
const FLAT: usize = 0;
const RESIDUAL: usize = 1;

/// One query over one collection.
#[derive(Debug)]
pub struct Search<'a> {
    dim: usize,
    effort: f64,
    codebook: Option<&'a Codebook>,
    /// What the bound of level 1 is widened by.
    widened: f64,
    /// As much of the query as estimates are made of, and how much more the whole is.
    query: Query,
    share: f64,
    table: Option<Table>,
    /// Documents without an estimate.
    unknown: Vec<Document>,
    swept: BinaryHeap<Waiting<f32>>,
    refined: [BinaryHeap<Waiting<f32>>; 2],
    exact: BinaryHeap<Waiting<f64>>,
    /// What the estimates of level 1 are off by from those of level 2, and those of each kind of codes from the score.
    sweep_error: Spread,
    code_error: [Spread; 2],
    counts: Counts,
    /// Documents that left the search, other than dropped.
    passed: u64,
    /// How often the source was asked whether it keeps a document.
    asked: u64,
    codes: Vec<u8>,
}

impl<'a> Search<'a> {
    /// Prepares a query of tokens × `dim` finite values.
    ///
    /// `effort` is how many standard deviations an estimate is given the benefit of: 3 finds about 99 % of the best 10.
    /// With infinity every document is scored exactly, and the order is the exact one.
    ///
    /// # Panics
    /// When the query has no token, `dim` does not divide its length, or the codebook is of another dimension.
    pub fn new(
        query: &[f32],
        dim: usize,
        effort: f64,
        codebook: Option<&'a Codebook>,
        poll: &mut dyn FnMut(),
    ) -> Search<'a> {
        let tokens = query.len() / dim;
        assert!(
            tokens > 0 && query.len().is_multiple_of(dim),
            "a query of whole tokens"
        );
        assert!(codebook.is_none_or(|codebook| codebook.dim() == dim));
        let lists = codebook.map_or(1, Codebook::lists);
        let columns = (TABLE_SIZE / (lists * (size_of::<f32>() + 1))).clamp(16, MOST_COLUMNS);
        let used = tokens.min(columns);
        let mut part: Vec<f32> = (0..used)
            .flat_map(|at| &query[at * tokens / used * dim..][..dim])
            .copied()
            .collect();
        // Tokens of zeros add nothing.
        part.resize(used.next_multiple_of(4) * dim, 0.0);
        let packed = Query::new(&part, dim).expect("whole tokens");
        let table = codebook
            .filter(|_| effort < f64::INFINITY)
            .map(|codebook| Table::new(&packed, codebook, poll));
        Search {
            dim,
            effort,
            codebook,
            widened: widened(codebook, 1.0),
            share: tokens as f64 / used as f64,
            query: packed,
            table,
            unknown: Vec::new(),
            swept: BinaryHeap::new(),
            refined: [BinaryHeap::new(), BinaryHeap::new()],
            exact: BinaryHeap::new(),
            sweep_error: Spread::default(),
            code_error: [Spread::default(); 2],
            counts: Counts::default(),
            passed: 0,
            asked: 0,
            codes: Vec::new(),
        }
    }

    /// Takes in a document with its signature, little-endian numbers of 16 bits, or without.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a signature that does not belong to the codebook.
    pub fn add(&mut self, document: Document, signature: &[u8]) -> Result<(), Error> {
        self.counts.swept += 1;
        match &self.table {
            Some(table) if !signature.is_empty() => {
                let score = (table.score(signature)? * self.share) as f32;
                self.swept.push(Waiting { score, document });
            }
            _ => self.unknown.push(document),
        }
        Ok(())
    }

    /// The next best document; none when all have been returned.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for codes, of a document that can be scored, that are damaged or do not belong to the codebook.
    pub fn next(&mut self, source: &mut dyn Source) -> Result<Option<Hit>, Error> {
        loop {
            source.poll();
            match self.step() {
                Step::Look(document) if self.effort == f64::INFINITY => {
                    self.score(source, document, None);
                }
                Step::Look(document) => self.refine(source, document, None)?,
                Step::Refine => {
                    let waiting = self.swept.pop().expect("chosen for its top");
                    self.refine(source, waiting.document, Some(waiting.score))?;
                }
                Step::Score(kind) => {
                    let waiting = self.refined[kind].pop().expect("chosen for its top");
                    self.score(source, waiting.document, Some((kind, waiting.score)));
                }
                Step::Return(Waiting { score, document }) => {
                    self.exact.pop();
                    self.passed += 1;
                    return Ok(Some(Hit { document, score }));
                }
                Step::End => return Ok(None),
            }
        }
    }

    /// Tells how far the documents' tokens are from their centroids, as a mean squared distance over that of the documents
    /// it was made for (or of its sample, [`Codebook::mean_residual`]). Where that is more than 1, their estimates are less
    /// sure than they look.
    pub fn set_drift(&mut self, drift: f64) {
        self.widened = widened(self.codebook, drift);
    }

    /// What the search has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What to do next.
    fn step(&mut self) -> Step {
        if let Some(document) = self.unknown.pop() {
            return Step::Look(document);
        }
        if !self.swept.is_empty() && self.sweep_error.count() < FIRST_REFINED {
            return Step::Refine;
        }
        for kind in [FLAT, RESIDUAL] {
            if !self.refined[kind].is_empty() && self.code_error[kind].count() < FIRST_SCORED {
                return Step::Score(kind);
            }
        }
        let decay = (UNDIMINISHED / self.passed as f64).sqrt().min(1.0);
        let width = WIDTH * self.effort * decay * crowded(self.counts.swept);
        let code = |kind: usize| {
            let (top, error) = (self.refined[kind].peek()?, &self.code_error[kind]);
            Some(f64::from(top.score) + error.mean() + width * error.deviation())
        };
        let sweep = self.swept.peek().map(|top| {
            let (first, second) = (&self.sweep_error, &self.code_error[RESIDUAL]);
            let deviation = first.deviation().hypot(second.deviation());
            let width = self.widened * width;
            f64::from(top.score) + first.mean() + second.mean() + width * deviation
        });
        let exact = self.exact.peek();
        let candidates = [
            (
                exact.map(|top| top.score),
                exact.map_or(Step::End, |top| Step::Return(*top)),
            ),
            (code(FLAT), Step::Score(FLAT)),
            (code(RESIDUAL), Step::Score(RESIDUAL)),
            (sweep, Step::Refine),
        ];
        // Equals are returned rather than refined. A bound that is not a number counts as the largest, so that nothing
        // is returned before its time.
        let stays = |best: f64, other: f64| best.is_nan() || other <= best;
        candidates
            .into_iter()
            .filter_map(|(bound, step)| Some((bound?, step)))
            .reduce(|best, other| if stays(best.0, other.0) { best } else { other })
            .map_or(Step::End, |(_, step)| step)
    }

    /// Takes a document to level 2, and notes what the estimate of level 1, if any, was off by.
    fn refine(
        &mut self,
        source: &mut dyn Source,
        document: Document,
        swept: Option<f32>,
    ) -> Result<(), Error> {
        // What is learnt from comes as it comes.
        let is_lesson = swept.is_some() && self.sweep_error.count() < FIRST_REFINED;
        if !is_lesson && self.asks_early() && !self.keeps(source, &document) {
            return Ok(());
        }
        let mut codes = std::mem::take(&mut self.codes);
        let known = source.codes(&document, &mut codes);
        if !known {
            self.codes = codes;
            self.score(source, document, None);
            return Ok(());
        }
        self.counts.refined += 1;
        let parsed = match Codes::parse(&codes, self.dim, self.codebook) {
            Ok(parsed) => parsed,
            // The codes of a row that is gone may have become another one's while they were read, piece by piece.
            Err(error) => return source.score(&document).map_or(Ok(()), |_| Err(error)),
        };
        let (kind, score) = match parsed {
            Codes::Flat(document) => (FLAT, self.query.score_bit(document).expect("checked codes")),
            Codes::Residual(document) => (RESIDUAL, self.estimate(&document)),
        };
        let score = (score * self.share) as f32;
        if let Some(swept) = swept {
            self.sweep_error.add(f64::from(score) - f64::from(swept));
        }
        self.refined[kind].push(Waiting { score, document });
        self.codes = codes;
        Ok(())
    }

    /// The estimate of level 2: for every query token the best of the approximate tokens.
    fn estimate(&self, document: &Residual) -> f64 {
        let table = self.table.as_ref().expect("made along with the codebook");
        let scales = (document.scales, document.unit);
        self.query
            .score_residual(scales, document.signs, table.products(), document.ids)
            .expect("checked codes")
    }

    /// Takes a document to its exact score, and notes what the estimate of level 2, if any, was off by.
    fn score(
        &mut self,
        source: &mut dyn Source,
        document: Document,
        refined: Option<(usize, f32)>,
    ) {
        let is_kept = self.keeps(source, &document);
        let is_lesson =
            refined.is_some_and(|(kind, _)| self.code_error[kind].count() < FIRST_SCORED);
        if !is_kept && !is_lesson {
            return;
        }
        self.counts.scored += 1;
        let Some(score) = source.score(&document) else {
            self.passed += u64::from(is_kept);
            return;
        };
        if let Some((kind, estimate)) = refined {
            self.code_error[kind].add(score - f64::from(estimate));
        }
        if is_kept {
            self.exact.push(Waiting { score, document });
        }
    }

    fn keeps(&mut self, source: &mut dyn Source, document: &Document) -> bool {
        let is_kept = source.keeps(document);
        self.asked += 1;
        self.counts.dropped += u64::from(!is_kept);
        is_kept
    }

    /// Whether to ask before a document is refined, and not only before it is scored: an answer takes about a quarter of
    /// the time.
    fn asks_early(&self) -> bool {
        self.asked < FIRST_ASKED || 4 * self.counts.dropped > self.asked
    }
}

/// What bounds are widened by among so many documents: the largest of n normal errors grows with the root of ln n.
fn crowded(documents: u64) -> f64 {
    ((documents as f64).ln() / CROWD.ln()).max(1.0).sqrt()
}

/// What the bound of level 1 is widened by. A drift that is not a number counts as none.
fn widened(codebook: Option<&Codebook>, drift: f64) -> f64 {
    let unevenness = codebook.map_or(0.0, Codebook::unevenness);
    1.0 + (unevenness + (drift - 1.0).max(0.0)).min(UNEVEN)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A document without an estimate.
    Look(Document),
    /// The best of level 1 goes on to level 2.
    Refine,
    /// The best of level 2 with this kind of codes is scored.
    Score(usize),
    Return(Waiting<f64>),
    End,
}

/// The order of estimates and scores, ties by document: the same whatever the order of arrival.
trait Score: Copy {
    fn order(self, other: Self) -> Ordering;
}

impl Score for f32 {
    fn order(self, other: f32) -> Ordering {
        self.total_cmp(&other)
    }
}

impl Score for f64 {
    fn order(self, other: f64) -> Ordering {
        self.total_cmp(&other)
    }
}

impl<T: Score> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .order(other.score)
            .then(other.document.cmp(&self.document))
    }
}

impl<T: Score> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Score> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T: Score> Eq for Waiting<T> {}

#[cfg(test)]
mod tests {
    use super::crowded;

    #[test]
    fn bounds_are_wider_among_more_documents_and_never_narrower() {
        assert_eq!([0, 1, 3_000, 40_000].map(crowded), [1.0; 4]);
        assert!((crowded(240_000) - 1.081).abs() < 1e-3);
        assert!(crowded(100_000_000) < 1.4);
    }
}
