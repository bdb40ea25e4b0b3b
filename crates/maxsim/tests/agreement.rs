//! Every kernel this machine can run against the naive reference, over ragged shapes and all element types.

use maxsim::{
    Error, Kernel, Query, decode_bit, decode_f16, decode_int8, encode_bit, encode_f16, encode_int8,
    naive,
};

#[path = "../examples/bench/random.rs"]
mod random;

use random::{Random, unit_rows};

/// Scores one random pair in every form by every kernel, and by the naive reference over what is stored.
fn compare(n: usize, m: usize, dim: usize, seed: u64) {
    let query = unit_rows(n, dim, 2 * seed);
    let document = unit_rows(m, dim, 2 * seed + 1);
    let f16 = encode_f16(&document, dim).unwrap();
    let int8 = encode_int8(&document, dim).unwrap();
    let bit = encode_bit(&document, dim, &mut || ()).unwrap();
    let exact = |stored: &[f32]| naive::score(&query, stored, dim);
    let of_f32 = exact(&document);
    let of_f16 = exact(&decode_f16(&f16, dim).unwrap());
    let of_int8 = exact(&decode_int8(&int8, dim).unwrap());
    let of_bit = exact(&decode_bit(&bit, dim).unwrap());

    // The documented bounds. Rounding of f32 products and sums:
    let sums = n as f64 * dim as f64 * f64::from(f32::EPSILON);
    // The query's own rounding to bytes: half a scale, of at most 1/127, in each component of a unit vector.
    let bytes = n as f64 * (dim as f64).sqrt() / 254.0 + sums;
    // A token of signs has length scale x sqrt(dim), at most twice a unit token's; the mean adds its own product.
    let signs = 2.0 * bytes + 2.0 * sums;

    // A value, or byte, ahead of the document puts it off every alignment it might be hoped to have.
    let document = [&[0.0], &document[..]].concat();
    let [f16, int8, bit] = [f16, int8, bit].map(|stored| [&[0], &stored[..]].concat());
    for kernel in Kernel::available() {
        let packed = Query::with_kernel(kernel, &query, dim).unwrap();
        let cases = [
            ("f32", packed.score_f32(&document[1..]), of_f32, sums),
            ("f16", packed.score_f16(&f16[1..]), of_f16, sums),
            ("int8", packed.score_int8(&int8[1..]), of_int8, bytes),
            ("bit", packed.score_bit(&bit[1..]), of_bit, signs),
        ];
        for (element, score, expected, bound) in cases {
            let score = score.unwrap();
            assert!(
                (score - expected).abs() <= bound,
                "{element}, {} kernel, {n} x {m} tokens of {dim}, seed {seed}: {score} instead of {expected}",
                kernel.name()
            );
        }
    }
}

#[test]
fn every_remainder_of_tokens_and_dimensions_agrees_with_naive() {
    let mut seed = 1;
    // Tiles hold up to 32 query tokens, blocks up to 12 document tokens, steps 4 units of up to 4 components.
    for n in 1..=67 {
        for m in [1, 2, 4, 5, 7, 11, 12, 13, 24, 25] {
            for dim in [1, 3, 8, 15, 18, 33] {
                compare(n, m, dim, seed);
                seed += 1;
            }
        }
    }
    for dim in 1..=67 {
        for m in 1..=25 {
            compare([1, 4, 16, 20, 32, 37][(dim + m) % 6], m, dim, seed);
            seed += 1;
        }
    }
}

#[test]
fn random_shapes_up_to_301_tokens_and_768_dimensions_agree_with_naive() {
    let mut random = Random(7);
    for seed in 0..60 {
        compare(
            random.between(1, 301),
            random.between(1, 301),
            random.between(1, 768),
            seed,
        );
    }
}

#[test]
fn dimensions_around_those_read_in_place_and_those_of_several_passes_agree_with_naive() {
    let mut random = Random(8);
    for dim in [
        63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 320, 767, 768, 1023, 1024, 1025, 1027, 2051,
    ] {
        for n in [1, 5, 13, 17, 24, 32] {
            compare(n, random.between(1, 60), dim, 11);
        }
    }
}

#[test]
fn queries_too_long_for_the_stack_agree_with_naive() {
    for n in [255, 256, 257, 300, 1031] {
        compare(n, 30, 16, 3);
        compare(n, 5, 300, 4);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_their_numbers() {
    assert_eq!(Query::new(&[], 4).unwrap_err(), Error::Empty);
    assert_eq!(Query::new(&[1.0], 0).unwrap_err(), Error::ZeroDim);
    assert_eq!(
        Query::new(&[1.0; 5], 4).unwrap_err(),
        Error::Ragged { len: 5, dim: 4 }
    );
    let query = Query::new(&[1.0; 4], 4).unwrap();
    assert_eq!(query.score_f32(&[]).unwrap_err(), Error::Empty);
    assert_eq!(
        query.score_f32(&[1.0; 6]).unwrap_err(),
        Error::Ragged { len: 6, dim: 4 }
    );
    assert_eq!(
        query.matches(&[1.0; 6]).unwrap_err().to_string(),
        "length 6 is not a multiple of 4"
    );
}

#[test]
fn nan_similarities_are_passed_over_and_alone_give_minus_infinity() {
    for kernel in Kernel::available() {
        let query = Query::with_kernel(kernel, &[1.0, 2.0], 2).unwrap();
        for at in 0..30 {
            let mut document = vec![0.5; 60];
            document[2 * at] = f32::NAN;
            assert_eq!(
                query.score_f32(&document).unwrap(),
                1.5,
                "{}, token {at}",
                kernel.name()
            );
            document[2 * at] = f32::INFINITY;
            assert_eq!(
                query.score_f32(&document).unwrap(),
                f64::INFINITY,
                "{}",
                kernel.name()
            );
        }
        assert_eq!(
            query.score_f32(&[f32::NAN; 8]).unwrap(),
            f64::NEG_INFINITY,
            "{}",
            kernel.name()
        );
    }
}

#[test]
fn matches_name_the_best_token_and_add_up_to_the_score() {
    for (n, m, dim) in [(1, 1, 1), (3, 50, 7), (32, 180, 128), (20, 33, 96)] {
        let (query, document) = (unit_rows(n, dim, 5), unit_rows(m, dim, 6));
        let packed = Query::new(&query, dim).unwrap();
        let matches = packed.matches(&document).unwrap();
        assert_eq!(matches.len(), n);
        for (q, found) in query.chunks_exact(dim).zip(&matches) {
            let row = &document[found.document_token * dim..][..dim];
            assert_eq!(found.similarity, naive::dot(q, row) as f32);
            for d in document.chunks_exact(dim) {
                assert!(naive::dot(q, d) as f32 <= found.similarity);
            }
        }
        let sum: f64 = matches
            .iter()
            .map(|found| f64::from(found.similarity))
            .sum();
        assert!((sum - packed.score_f32(&document).unwrap()).abs() < 1e-5);
    }
}

#[test]
fn an_infinity_next_to_padding_stays_an_infinity() {
    for dim in [5, 257, 1025] {
        for kernel in Kernel::available() {
            let query = Query::with_kernel(kernel, &vec![1.0; dim], dim).unwrap();
            let mut document = vec![1.0; dim];
            document[dim.saturating_sub(6)] = f32::INFINITY;
            assert_eq!(
                query.score_f32(&document).unwrap(),
                f64::INFINITY,
                "{} kernel, {dim}",
                kernel.name()
            );
            let f16 = encode_f16(&document, dim).unwrap();
            assert_eq!(
                query.score_f16(&f16).unwrap(),
                f64::INFINITY,
                "{} kernel, {dim}",
                kernel.name()
            );
        }
    }
}

#[test]
fn compact_documents_of_any_bytes_are_scored_or_refused_without_a_crash() {
    let mut random = Random(9);
    for dim in [1, 2, 3, 7, 8, 9, 64, 128, 130, 1025] {
        for kernel in Kernel::available() {
            let query = Query::with_kernel(kernel, &unit_rows(5, dim, 1), dim).unwrap();
            for len in (0..60).chain([
                dim,
                dim + 4,
                2 * dim,
                2 * dim + 8,
                13 * (dim + 4),
                26 * dim,
                3000,
            ]) {
                let document: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                let refused = |per_token: usize, head: usize| {
                    len <= head || !(len - head).is_multiple_of(per_token)
                };
                assert_eq!(query.score_f16(&document).is_err(), refused(2 * dim, 0));
                assert_eq!(query.score_int8(&document).is_err(), refused(dim + 4, 0));
                assert_eq!(
                    query.score_bit(&document).is_err(),
                    refused(1 + dim.div_ceil(8), 8 + dim)
                );
            }
        }
    }
}

#[test]
fn a_query_shared_by_threads_scores_as_it_does_alone() {
    let (query, document) = (unit_rows(20, 128, 1), unit_rows(50, 128, 2));
    let int8 = encode_int8(&document, 128).unwrap();
    let alone = Query::new(&query, 128).unwrap();
    let expected = (
        alone.score_f32(&document).unwrap(),
        alone.score_int8(&int8).unwrap(),
    );
    let size_packed = alone.size_bytes();
    let shared = Query::new(&query, 128).unwrap();
    assert!(
        shared.size_bytes() < size_packed,
        "forms are packed when first needed"
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let found = (
                    shared.score_f32(&document).unwrap(),
                    shared.score_int8(&int8).unwrap(),
                );
                assert_eq!(found, expected);
            });
        }
    });
    assert_eq!(shared.size_bytes(), size_packed);
}

static POLLS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[test]
fn a_long_document_is_polled_and_scored_as_ever() {
    use std::sync::atomic::Ordering::Relaxed;
    for (m, dim) in [(20_000, 128), (3_500, 770)] {
        let (query, document) = (unit_rows(20, dim, 1), unit_rows(m, dim, 2));
        let f16 = encode_f16(&document, dim).unwrap();
        let int8 = encode_int8(&document, dim).unwrap();
        let bit = encode_bit(&document, dim, &mut || ()).unwrap();
        let scores = |query: &Query| {
            [
                query.score_f32(&document),
                query.score_f16(&f16),
                query.score_int8(&int8),
                query.score_bit(&bit),
            ]
        };
        for kernel in Kernel::available() {
            let packed = Query::with_kernel(kernel, &query, dim).unwrap();
            let alone = scores(&packed);
            POLLS.store(0, Relaxed);
            let count = || {
                POLLS.fetch_add(1, Relaxed);
            };
            assert_eq!(scores(&packed.polling(count)), alone, "{}", kernel.name());
            let expected = 4 * ((m * dim) >> 18);
            let polls = POLLS.load(Relaxed);
            assert!(
                (expected..3 * expected).contains(&(polls + 4)),
                "{polls} of {expected}"
            );
        }
    }
}
