//! What a search promises whatever the data: every document once, exact scores, the exact order when asked for.

mod memory;

use maxsim_index::{Codebook, Document, Error, Search, encode_flat};
use memory::{Collection, Maker, Memory, Random, drain, signature};

/// Small collections of every kind, with a query each.
fn collections() -> Vec<(String, Collection, Vec<f32>)> {
    let mut cases = Vec::new();
    for (seed, dim, count, longest, lists, query) in [
        (1, 1, 40, 5, 8, 3),
        (2, 7, 150, 9, 20, 1),
        (3, 16, 300, 20, 64, 17),
        (4, 64, 200, 12, 128, 33),
        (5, 128, 120, 30, 256, 32),
        (6, 300, 40, 6, 30, 65),
        (7, 24, 1, 1, 256, 1),
        (8, 24, 2, 1, 256, 200),
    ] {
        let mut maker = Maker::new(seed, dim, 12);
        let documents = maker.documents(count, 1, longest);
        let query = maker.tokens(query);
        let name = format!("seed {seed}: {count} documents of dim {dim}");
        cases.push((
            format!("{name}, flat"),
            Collection::flat(documents.clone(), dim),
            query.clone(),
        ));
        cases.push((name, Collection::trained(documents, dim, lists), query));
    }
    // Zeros, duplicates, lengths of all magnitudes.
    let mut maker = Maker::new(9, 32, 5);
    let mut documents = maker.documents(60, 1, 10);
    documents.extend([vec![0.0; 32], vec![0.0; 96]]);
    documents.extend(vec![documents[7].clone(); 30]);
    for (at, document) in documents.iter_mut().enumerate().take(40) {
        let factor = 10f32.powi(at as i32 / 2 - 10);
        document.iter_mut().for_each(|value| *value *= factor);
    }
    for query in [maker.tokens(20), vec![0.0; 64]] {
        cases.push((
            "odd ones, flat".into(),
            Collection::flat(documents.clone(), 32),
            query.clone(),
        ));
        cases.push((
            "odd ones".into(),
            Collection::trained(documents.clone(), 32, 50),
            query,
        ));
    }
    cases.push((
        "the same everywhere".into(),
        Collection::trained(vec![vec![0.5; 64]; 100], 32, 16),
        vec![0.25; 96],
    ));
    let huge = vec![vec![f32::MAX; 8], vec![-f32::MAX; 16], vec![1.0; 8]];
    cases.push((
        "the largest values".into(),
        Collection::trained(huge, 8, 3),
        vec![f32::MAX; 8],
    ));
    cases
}

#[test]
fn every_document_comes_once_with_its_exact_score_at_any_effort() {
    for (name, collection, query) in collections() {
        let packed = maxsim::Query::new(&query, collection.dim).unwrap();
        for effort in [0.0, 0.5, 3.0, 50.0, f64::INFINITY] {
            let (hits, counts) = collection.results(&query, effort);
            let mut places: Vec<u64> = hits.iter().map(|hit| hit.document.place).collect();
            places.sort_unstable();
            let all = collection.documents.len() as u64;
            assert_eq!(
                places,
                (0..all).collect::<Vec<_>>(),
                "{name}, effort {effort}"
            );
            assert_eq!((counts.swept, counts.scored), (all, all));
            for hit in hits {
                let row = &collection.documents[hit.document.place as usize];
                assert_eq!(hit.score, packed.score_f32(row).unwrap(), "{name}");
            }
        }
    }
}

#[test]
fn infinite_effort_returns_the_exact_order() {
    for (name, collection, query) in collections() {
        let (hits, counts) = collection.results(&query, f64::INFINITY);
        let scores: Vec<f64> = hits.iter().map(|hit| hit.score).collect();
        assert_eq!(scores, collection.exact(&query), "{name}");
        assert_eq!(counts.refined, 0, "{name}");
    }
}

#[test]
fn the_default_effort_finds_the_best_without_looking_at_all() {
    let mut maker = Maker::new(11, 64, 200);
    let collection = Collection::trained(maker.documents(3000, 5, 25), 64, 512);
    let order: Vec<usize> = (0..3000).collect();
    let (mut found, mut refined, mut scored) = (0, 0, 0);
    for _ in 0..20 {
        let query = maker.tokens(16);
        let mut search = collection.search(&query, 3.0, &order);
        let mut source = Memory::new(&collection, &query);
        let tenth = collection.exact(&query)[9];
        for _ in 0..10 {
            let hit = search.next(&mut source).unwrap().unwrap();
            found += usize::from(hit.score >= tenth);
        }
        refined += search.counts().refined;
        scored += search.counts().scored;
    }
    println!(
        "{found} of 200 found, {refined} refined and {scored} scored of {}",
        20 * 3000
    );
    assert!(found >= 196, "{found} of 200 of the best 10");
    assert!(
        refined < 20 * 1500 && scored < 20 * 300,
        "{refined} refined, {scored} scored"
    );
}

#[test]
fn documents_that_have_drifted_from_their_centroids_are_looked_at_more_closely() {
    let mut maker = Maker::new(12, 64, 200);
    let documents = maker.documents(2000, 5, 40);
    let collection = Collection::trained(documents, 64, 256);
    let order: Vec<usize> = (0..collection.documents.len()).collect();
    let queries: Vec<Vec<f32>> = (0..20).map(|_| maker.tokens(8)).collect();
    let mut refined = Vec::new();
    for drift in [f64::NAN, 0.5, 1.0, 1.05, 100.0, f64::INFINITY] {
        let mut sum = 0;
        for query in &queries {
            let mut search = collection.search(query, 3.0, &order);
            search.set_drift(drift);
            let mut source = Memory::new(&collection, query);
            for _ in 0..10 {
                search.next(&mut source).unwrap().expect("there are more");
            }
            sum += search.counts().refined;
        }
        refined.push(sum);
    }
    println!("refined: {refined:?}");
    assert!(refined[0] == refined[1] && refined[1] == refined[2]);
    assert!(refined[2] < refined[3] && refined[3] < refined[4]);
    assert_eq!(refined[4], refined[5]);
}

#[test]
fn results_depend_neither_on_the_order_of_arrival_nor_on_the_run() {
    for (name, collection, query) in collections() {
        let mut order: Vec<usize> = (0..collection.documents.len()).collect();
        let (expected, counts) = collection.results(&query, 3.0);
        let mut random = Random(3);
        for _ in 0..3 {
            for at in (1..order.len()).rev() {
                order.swap(at, random.between(0, at));
            }
            let mut search = collection.search(&query, 3.0, &order);
            let hits = drain(&mut search, &mut Memory::new(&collection, &query));
            assert_eq!(hits, expected, "{name}");
            assert_eq!(search.counts(), counts, "{name}");
        }
    }
}

#[test]
fn rows_that_are_gone_are_skipped_and_recycled_codes_replaced_by_exact_scores() {
    for (name, collection, query) in collections() {
        let order: Vec<usize> = (0..collection.documents.len()).collect();
        for effort in [3.0, f64::INFINITY] {
            let mut source = Memory::new(&collection, &query);
            source.gone = |place| place % 3 == 0;
            source.recycled = |place| place % 5 == 0;
            let hits = drain(&mut collection.search(&query, effort, &order), &mut source);
            let mut places: Vec<u64> = hits.iter().map(|hit| hit.document.place).collect();
            places.sort_unstable();
            let all = 0..order.len() as u64;
            assert_eq!(
                places,
                all.filter(|at| at % 3 != 0).collect::<Vec<_>>(),
                "{name}"
            );
            assert!(source.polls >= hits.len());
            source.gone = |_| true;
            assert!(drain(&mut collection.search(&query, effort, &order), &mut source).is_empty());
        }
    }
}

#[test]
fn only_documents_that_are_kept_come_and_few_others_are_scored() {
    for (name, collection, query) in collections() {
        let order: Vec<usize> = (0..collection.documents.len()).collect();
        for effort in [0.5, 3.0, f64::INFINITY] {
            let mut source = Memory::new(&collection, &query);
            source.kept = |place| place % 7 == 3;
            let mut search = collection.search(&query, effort, &order);
            let hits = drain(&mut search, &mut source);
            let mut places: Vec<u64> = hits.iter().map(|hit| hit.document.place).collect();
            places.sort_unstable();
            let all = order.len() as u64;
            let kept: Vec<u64> = (0..all).filter(|at| at % 7 == 3).collect();
            assert_eq!(places, kept, "{name}, effort {effort}");
            let counts = search.counts();
            assert_eq!(counts.dropped, all - kept.len() as u64, "{name}");
            assert!(
                counts.scored <= kept.len() as u64 + 16,
                "{name}: {counts:?}"
            );
        }
    }
}

#[test]
fn a_condition_that_few_fulfil_saves_refinements_and_loses_nothing() {
    let mut maker = Maker::new(13, 64, 200);
    let collection = Collection::trained(maker.documents(3000, 5, 25), 64, 512);
    let order: Vec<usize> = (0..3000).collect();
    let (mut found, mut refined) = (0, [0, 0]);
    for _ in 0..20 {
        let query = maker.tokens(16);
        let packed = maxsim::Query::new(&query, 64).unwrap();
        let mut best: Vec<f64> = (7..3000)
            .step_by(50)
            .map(|at| packed.score_f32(&collection.documents[at]).unwrap())
            .collect();
        best.sort_by(|a, b| b.total_cmp(a));
        for (is_told, refined) in [false, true].into_iter().zip(&mut refined) {
            let mut search = collection.search(&query, 3.0, &order);
            let mut source = Memory::new(&collection, &query);
            if is_told {
                source.kept = |place| place % 50 == 7;
            }
            let mut wanted = 0;
            while wanted < 10 {
                let hit = search.next(&mut source).unwrap().unwrap();
                if hit.document.place % 50 == 7 {
                    wanted += 1;
                    found += usize::from(is_told && hit.score >= best[9]);
                }
            }
            *refined += search.counts().refined;
        }
    }
    println!("{found} of 200 found, refined {refined:?} without and with being told");
    assert!(found >= 196, "{found} of 200 of the best 10");
    assert!(4 * refined[1] < refined[0], "{refined:?}");
}

#[test]
fn documents_with_and_without_signature_and_codes_of_both_kinds_are_searched_together() {
    let mut maker = Maker::new(21, 48, 30);
    let mut collection = Collection::trained(maker.documents(900, 2, 20), 48, 256);
    for at in 0..900 {
        match at % 3 {
            0 => collection.encoded[at] = encode_flat(&collection.documents[at], 48, &mut || ()),
            1 => collection.encoded[at].signature.clear(),
            _ => {}
        }
    }
    let mut found = 0;
    for _ in 0..20 {
        let query = maker.tokens(12);
        let (hits, counts) = collection.results(&query, 3.0);
        assert_eq!(hits.len(), 900);
        assert!(counts.refined >= 600);
        let tenth = collection.exact(&query)[9];
        found += hits[..10].iter().filter(|hit| hit.score >= tenth).count();
    }
    assert!(found >= 196, "{found} of 200 of the best 10");
}

#[test]
fn a_query_of_thousands_of_tokens_is_estimated_by_part_of_them() {
    let mut maker = Maker::new(31, 16, 40);
    let collection = Collection::trained(maker.documents(400, 10, 60), 16, 16_384);
    let query = maker.tokens(3000);
    let (hits, _) = collection.results(&query, 3.0);
    let tenth = collection.exact(&query)[9];
    assert_eq!(hits.len(), 400);
    assert!(hits[..10].iter().filter(|hit| hit.score >= tenth).count() >= 9);
}

#[test]
fn damaged_signatures_and_codes_are_errors() {
    let mut maker = Maker::new(41, 8, 4);
    let mut collection = Collection::trained(maker.documents(5, 3, 3), 8, 4);
    let query = maker.tokens(2);
    let mut search = Search::new(&query, 8, 3.0, collection.codebook.as_ref(), &mut || ());
    let document = Document { tid: 1, place: 0 };
    for bad in [&[4u8, 0][..], &[0], &[0, 0, 255, 255]] {
        assert!(matches!(
            search.add(document, bad),
            Err(Error::Corrupt { .. })
        ));
    }
    let good = collection.encoded[0].codes.clone();
    let mut truncated: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    let mut damage = |at: usize, byte: u8| {
        let mut codes = good.clone();
        codes[at] = byte;
        truncated.push(codes);
    };
    damage(0, 0); // another kind
    damage(0, 2);
    damage(1, 2); // the tokens
    damage(8, 0xFF); // the unit
    damage(9, 0xFF); // a centroid
    for codes in truncated {
        collection.encoded[0].codes = codes;
        let mut search = collection.search(&query, 3.0, &[0]);
        let result = search.next(&mut Memory::new(&collection, &query));
        assert!(
            matches!(result, Err(Error::Corrupt { .. })),
            "{:?}",
            collection.encoded[0].codes
        );
        assert_nothing(&collection, &query, collection.search(&query, 3.0, &[0]));
    }
    collection.encoded[0].codes = good;
    let untrained = || {
        let mut search = Search::new(&query, 8, 3.0, None, &mut || ());
        search
            .add(document, &signature(&collection.encoded[0]))
            .unwrap();
        search
    };
    assert_nothing(&collection, &query, untrained());
    let result = untrained().next(&mut Memory::new(&collection, &query));
    assert!(
        matches!(result, Err(Error::Corrupt { .. })),
        "residual codes without a codebook"
    );
}

/// A row that is gone has no codes that could be damaged: those in their place are another's.
fn assert_nothing(collection: &Collection, query: &[f32], mut search: Search<'_>) {
    let mut source = Memory::new(collection, query);
    source.gone = |_| true;
    assert!(matches!(search.next(&mut source), Ok(None)));
}

#[test]
fn codes_of_random_bytes_never_panic() {
    let mut maker = Maker::new(51, 8, 4);
    let mut collection = Collection::trained(maker.documents(1, 3, 3), 8, 4);
    let query = maker.tokens(2);
    let mut random = Random(1);
    for _ in 0..20_000 {
        let mut codes: Vec<u8> = (0..random.between(0, 40))
            .map(|_| random.next() as u8)
            .collect();
        if let Some(kind) = codes.first_mut() {
            *kind %= 3;
        }
        for byte in codes.iter_mut().skip(1).take(10) {
            *byte &= random.next() as u8 & random.next() as u8;
        }
        collection.encoded[0].codes = codes;
        let mut search = collection.search(&query, 3.0, &[0]);
        let _ = search.next(&mut Memory::new(&collection, &query));
    }
}

#[test]
fn a_search_is_polled_while_it_is_prepared_and_may_unwind() {
    let mut maker = Maker::new(61, 16, 30);
    let sample = maker.tokens(20_000);
    let codebook = Codebook::train(&sample, 16, 4096, 1, 1, &mut || ());
    let query = maker.tokens(100);
    let mut polls = 0;
    let _ = Search::new(&query, 16, 3.0, Some(&codebook), &mut || polls += 1);
    assert!(polls > 5, "{polls} polls");
    let cancelled = std::panic::catch_unwind(|| {
        let _ = Search::new(&query, 16, 3.0, Some(&codebook), &mut || {
            panic!("cancelled")
        });
    });
    assert!(cancelled.is_err());
}
