//! A collection in memory, as the tests and the gate search it: made tokens, documents with their codes, a source.

// Each test uses part of it.
#![allow(dead_code)]

use maxsim_index::{Codebook, Counts, Document, Encoded, Hit, Search, Source, encode_flat};

/// SplitMix64: a failure is reproduced by its seed alone.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Both ends included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// Nearly normal, of variance 1.
    pub(crate) fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12)
            .map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32)
            .sum();
        sum - 6.0
    }
}

/// Tokens around some topics, as trained encoders make them: `topics` centres, some spread, lengths as they come.
pub(crate) struct Maker {
    pub(crate) random: Random,
    pub(crate) dim: usize,
    centres: Vec<f32>,
}

impl Maker {
    pub(crate) fn new(seed: u64, dim: usize, topics: usize) -> Maker {
        let mut random = Random(seed);
        let centres = (0..topics * dim).map(|_| random.normal()).collect();
        Maker {
            random,
            dim,
            centres,
        }
    }

    pub(crate) fn tokens(&mut self, count: usize) -> Vec<f32> {
        let topics = self.centres.len() / self.dim;
        let mut values = Vec::with_capacity(count * self.dim);
        for _ in 0..count {
            let topic = self.random.between(0, topics - 1);
            for k in 0..self.dim {
                values.push(self.centres[topic * self.dim + k] + 0.5 * self.random.normal());
            }
        }
        values
    }

    pub(crate) fn documents(
        &mut self,
        count: usize,
        shortest: usize,
        longest: usize,
    ) -> Vec<Vec<f32>> {
        (0..count)
            .map(|_| {
                let tokens = self.random.between(shortest, longest);
                self.tokens(tokens)
            })
            .collect()
    }
}

/// Documents with what the index stores of them. A document's tid is its place plus one.
pub(crate) struct Collection {
    pub(crate) dim: usize,
    pub(crate) documents: Vec<Vec<f32>>,
    pub(crate) encoded: Vec<Encoded>,
    pub(crate) codebook: Option<Codebook>,
}

impl Collection {
    pub(crate) fn flat(documents: Vec<Vec<f32>>, dim: usize) -> Collection {
        let encoded = documents
            .iter()
            .map(|document| encode_flat(document, dim, &mut || ()))
            .collect();
        Collection {
            dim,
            documents,
            encoded,
            codebook: None,
        }
    }

    pub(crate) fn trained(documents: Vec<Vec<f32>>, dim: usize, lists: usize) -> Collection {
        let codebook = Codebook::train(&documents.concat(), dim, lists, 1, 1, &mut || ());
        let encoded = codebook.encode_many(&documents, 1, &mut || ());
        Collection {
            dim,
            documents,
            encoded,
            codebook: Some(codebook),
        }
    }

    pub(crate) fn document(&self, at: usize) -> Document {
        Document {
            tid: at as u64 + 1,
            place: at as u64,
        }
    }

    /// A search to which the documents `order` have been added.
    pub(crate) fn search(&self, query: &[f32], effort: f64, order: &[usize]) -> Search<'_> {
        let mut search = Search::new(query, self.dim, effort, self.codebook.as_ref(), &mut || ());
        for &at in order {
            search
                .add(self.document(at), &signature(&self.encoded[at]))
                .unwrap();
        }
        search
    }

    /// All results.
    pub(crate) fn results(&self, query: &[f32], effort: f64) -> (Vec<Hit>, Counts) {
        let order: Vec<usize> = (0..self.documents.len()).collect();
        let mut search = self.search(query, effort, &order);
        let hits = drain(&mut search, &mut Memory::new(self, query));
        (hits, search.counts())
    }

    /// The exact scores, best first.
    pub(crate) fn exact(&self, query: &[f32]) -> Vec<f64> {
        let packed = maxsim::Query::new(query, self.dim).unwrap();
        let mut scores: Vec<f64> = self
            .documents
            .iter()
            .map(|document| packed.score_f32(document).unwrap())
            .collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores
    }
}

pub(crate) fn drain(search: &mut Search, source: &mut dyn Source) -> Vec<Hit> {
    std::iter::from_fn(|| search.next(source).unwrap()).collect()
}

pub(crate) fn signature(encoded: &Encoded) -> Vec<u8> {
    encoded
        .signature
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect()
}

/// The source of a collection, with what can go wrong at one.
pub(crate) struct Memory<'a> {
    collection: &'a Collection,
    query: maxsim::Query,
    /// Documents whose codes were overwritten.
    pub(crate) recycled: fn(u64) -> bool,
    /// Documents without a visible row.
    pub(crate) gone: fn(u64) -> bool,
    /// Documents that fulfil a condition.
    pub(crate) kept: fn(u64) -> bool,
    pub(crate) polls: usize,
}

impl<'a> Memory<'a> {
    pub(crate) fn new(collection: &'a Collection, query: &[f32]) -> Memory<'a> {
        Memory {
            collection,
            query: maxsim::Query::new(query, collection.dim).unwrap(),
            recycled: |_| false,
            gone: |_| false,
            kept: |_| true,
            polls: 0,
        }
    }
}

impl Source for Memory<'_> {
    fn codes(&mut self, document: &Document, codes: &mut Vec<u8>) -> bool {
        assert_eq!(document.tid, document.place + 1);
        codes.clear();
        codes.extend_from_slice(&self.collection.encoded[document.place as usize].codes);
        !(self.recycled)(document.place)
    }

    fn score(&mut self, document: &Document) -> Option<f64> {
        let row = &self.collection.documents[document.place as usize];
        (!(self.gone)(document.place)).then(|| self.query.score_f32(row).unwrap())
    }

    fn keeps(&mut self, document: &Document) -> bool {
        (self.kept)(document.place)
    }

    fn poll(&mut self) {
        self.polls += 1;
    }
}
