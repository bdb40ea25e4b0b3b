//! Collections of any shape and any values, with any fate of their documents, and any damage: what proptest draws.

mod memory;

use std::collections::BTreeMap;

use maxsim_index::{Codebook, Document, Error, Search, Source, encode_flat, inspect};
use memory::{Collection, Memory, drain, signature};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The same cases in every run, and no files of failures. `MAXSIM_FUZZ_CASES` and `MAXSIM_FUZZ_SEED` draw others.
fn config() -> ProptestConfig {
    let of = |name, otherwise| {
        std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
    };
    ProptestConfig {
        cases: of("MAXSIM_FUZZ_CASES", 400) as u32,
        rng_seed: RngSeed::Fixed(of("MAXSIM_FUZZ_SEED", 20_261_128)),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Embeddings' components, and the odd: zeros of both signs, subnormals, and magnitudes whose sums of products stay finite.
fn component() -> impl Strategy<Value = f32> + Clone {
    prop_oneof![
        8 => -1.0f32..1.0,
        1 => (-40i32..16, -9.0f32..9.0).prop_map(|(power, value)| value * 10f32.powi(power)),
        1 => prop::sample::select(vec![0.0, -0.0, 1.0, -1.0, f32::MIN_POSITIVE, f32::from_bits(1)]),
    ]
}

fn tokens(dim: usize, count: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<f32>> {
    count.prop_flat_map(move |count| vec(component(), count * dim))
}

/// What has become of a document.
#[derive(Clone, Copy, Debug)]
struct Fate {
    is_gone: bool,
    is_kept: bool,
    is_recycled: bool,
    is_flat: bool,
    has_signature: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    let often = || prop::bool::weighted(0.85);
    (often(), often(), often(), often(), often()).prop_map(|(here, kept, same, coded, signed)| {
        Fate {
            is_gone: !here,
            is_kept: kept,
            is_recycled: !same,
            is_flat: !coded,
            has_signature: signed,
        }
    })
}

#[derive(Clone, Debug)]
struct Case {
    dim: usize,
    documents: Vec<Vec<f32>>,
    fates: Vec<Fate>,
    query: Vec<f32>,
    lists: Option<usize>,
    effort: f64,
    drift: f64,
    order: Vec<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    (1usize..20, 1usize..40).prop_flat_map(|(dim, count)| {
        (
            vec(tokens(dim, 1usize..9), count),
            vec(fate(), count),
            tokens(dim, prop_oneof![9 => 1usize..12, 1 => 60usize..140]),
            prop::option::weighted(0.8, 1usize..40),
            prop_oneof![4 => 0.0f64..6.0, 1 => Just(f64::INFINITY)],
            0.5f64..3.0,
            Just((0..count).collect::<Vec<_>>()).prop_shuffle(),
        )
            .prop_map(
                move |(documents, fates, query, lists, effort, drift, order)| Case {
                    dim,
                    documents,
                    fates,
                    query,
                    lists,
                    effort,
                    drift,
                    order,
                },
            )
    })
}

impl Case {
    fn collection(&self) -> Collection {
        let documents = self.documents.clone();
        let Some(lists) = self.lists else {
            return Collection::flat(documents, self.dim);
        };
        let mut collection = Collection::trained(documents, self.dim, lists);
        for (encoded, (document, fate)) in collection
            .encoded
            .iter_mut()
            .zip(self.documents.iter().zip(&self.fates))
        {
            if fate.is_flat {
                *encoded = encode_flat(document, self.dim, &mut || ());
            } else if !fate.has_signature {
                encoded.signature.clear();
            }
        }
        collection
    }

    /// The documents that a search is to return, with their scores.
    fn expected(&self) -> BTreeMap<u64, f64> {
        let query = maxsim::Query::new(&self.query, self.dim).expect("finite");
        let all = (0..).zip(self.documents.iter().zip(&self.fates));
        all.filter(|(_, (_, fate))| fate.is_kept && !fate.is_gone)
            .map(|(place, (document, _))| (place, query.score_f32(document).expect("finite")))
            .collect()
    }
}

/// A source whose documents have their fates.
struct Fated<'a> {
    memory: Memory<'a>,
    fates: &'a [Fate],
}

impl Fated<'_> {
    fn fate(&self, document: &Document) -> Fate {
        self.fates[document.place as usize]
    }
}

impl Source for Fated<'_> {
    fn codes(&mut self, document: &Document, codes: &mut Vec<u8>) -> bool {
        self.memory.codes(document, codes) && !self.fate(document).is_recycled
    }

    fn score(&mut self, document: &Document) -> Option<f64> {
        let score = self.memory.score(document);
        score.filter(|_| !self.fate(document).is_gone)
    }

    fn keeps(&mut self, document: &Document) -> bool {
        self.fate(document).is_kept
    }

    fn poll(&mut self) {}
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_row_that_is_there_and_kept_comes_once_with_its_score(case in case()) {
        let collection = case.collection();
        let source = || Fated { memory: Memory::new(&collection, &case.query), fates: &case.fates };
        let mut search = collection.search(&case.query, case.effort, &case.order);
        search.set_drift(case.drift);
        let hits = drain(&mut search, &mut source());
        let found: BTreeMap<u64, f64> = hits.iter().map(|hit| (hit.document.place, hit.score)).collect();
        prop_assert_eq!(found.len(), hits.len(), "one came twice");
        prop_assert_eq!(found, case.expected());
        if case.effort.is_infinite() {
            prop_assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
        }
        let counts = search.counts();
        prop_assert_eq!(counts.swept, case.documents.len() as u64);
        prop_assert_eq!(counts.dropped, case.fates.iter().filter(|fate| !fate.is_kept).count() as u64);
        prop_assert!(counts.scored <= counts.swept && counts.refined <= counts.swept);

        let sorted: Vec<usize> = (0..case.documents.len()).collect();
        let mut again = collection.search(&case.query, case.effort, &sorted);
        again.set_drift(case.drift);
        prop_assert_eq!(drain(&mut again, &mut source()), hits, "the order of arrival counts");
    }

    /// A damaged page ends a search with `Corrupt`, or is not told from a right one: never a panic, nor a row twice.
    #[test]
    fn damage_is_an_error_or_not_noticed(case in case(), changes in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6)) {
        let mut collection = case.collection();
        let mut signatures: Vec<_> = collection.encoded.iter().map(signature).collect();
        for (document, at, byte, is_cut) in changes {
            let document = document.index(case.documents.len());
            for bytes in [&mut collection.encoded[document].codes, &mut signatures[document]] {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    if is_cut { bytes.truncate(at) } else { bytes[at] = byte }
                }
            }
            let inspected = inspect(&collection.encoded[document].codes, case.dim, collection.codebook.as_ref());
            let is_told = matches!(inspected, Ok(_) | Err(Error::Corrupt { .. }));
            prop_assert!(is_told);
        }
        let mut search = Search::new(&case.query, case.dim, case.effort, collection.codebook.as_ref(), &mut || ());
        let mut source = Fated { memory: Memory::new(&collection, &case.query), fates: &case.fates };
        let expected = case.expected();
        for &at in &case.order {
            if let Err(error) = search.add(collection.document(at), &signatures[at]) {
                let is_corrupt = matches!(error, Error::Corrupt { .. });
                    prop_assert!(is_corrupt, "{error}");
            }
        }
        let mut found = BTreeMap::new();
        loop {
            match search.next(&mut source) {
                Ok(Some(hit)) => {
                    prop_assert_eq!(expected.get(&hit.document.place), Some(&hit.score));
                    prop_assert!(found.insert(hit.document.place, hit.score).is_none(), "one came twice");
                }
                Ok(None) => break,
                Err(error) => {
                    let is_corrupt = matches!(error, Error::Corrupt { .. });
                    prop_assert!(is_corrupt, "{error}");
                    break;
                }
            }
        }
    }

    #[test]
    fn a_damaged_codebook_is_refused_or_usable(sample in (1usize..8).prop_flat_map(|dim| (Just(dim), tokens(dim, 1usize..60))),
        lists in 1usize..30, changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (dim, sample) = sample;
        let mut bytes = Codebook::train(&sample, dim, lists, 1, 1, &mut || ()).to_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(codebook) = Codebook::from_bytes(&bytes) {
            let document = &sample[..codebook.dim().min(sample.len())];
            if document.len() == codebook.dim() {
                let encoded = codebook.encode(document, &mut || ());
                let mut search = Search::new(document, codebook.dim(), 3.0, Some(&codebook), &mut || ());
                let added = search.add(Document { tid: 1, place: 0 }, &signature(&encoded));
                prop_assert!(added.is_ok());
            }
        }
    }
}
