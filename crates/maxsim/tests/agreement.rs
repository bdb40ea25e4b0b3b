//! Every kernel this machine can run against the naive reference, over ragged shapes.

use maxsim::{
    Error, Kernel, Query, decode_bit, decode_f16, decode_int8, encode_bit, encode_f16, encode_int8,
    naive,
};

/// A small deterministic generator (SplitMix64), so that a failure is reproduced by its seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// `tokens` rows of unit length and `dim` components.
    fn unit_rows(&mut self, tokens: usize, dim: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..tokens * dim)
            .map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
            .collect();
        for row in values.chunks_exact_mut(dim) {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-20);
            row.iter_mut().for_each(|v| *v /= norm);
        }
        values
    }
}

fn compare_f32(n: usize, m: usize, dim: usize, seed: u64) {
    let mut random = Random(seed);
    let query = random.unit_rows(n, dim);
    // One value ahead of the document shifts it off every alignment above 4 bytes.
    let storage = [vec![0.0], random.unit_rows(m, dim)].concat();
    let document = &storage[1..];
    let expected = naive::score(&query, document, dim);
    let bound = n as f64 * dim as f64 * f64::from(f32::EPSILON);
    for kernel in Kernel::available() {
        let packed = Query::with_kernel(kernel, &query, dim).unwrap();
        let score = packed.score_f32(document).unwrap();
        assert!(
            (score - expected).abs() <= bound,
            "{} kernel, {n} x {m} tokens of {dim}, seed {seed}: {score} instead of {expected}",
            kernel.name()
        );
    }
}

/// Scores encoded documents by every kernel and by the naive reference over the decoded ones.
fn compare_compact(n: usize, m: usize, dim: usize, seed: u64) {
    let mut random = Random(seed);
    let query = random.unit_rows(n, dim);
    let document = random.unit_rows(m, dim);
    let exact = |decoded: &[f32]| naive::score(&query, decoded, dim);
    let f16 = encode_f16(&document, dim).unwrap();
    let int8 = encode_int8(&document, dim).unwrap();
    let bit = encode_bit(&document, dim).unwrap();
    let of_f16 = exact(&decode_f16(&f16, dim).unwrap());
    let of_int8 = exact(&decode_int8(&int8, dim).unwrap());
    let of_bit = exact(&decode_bit(&bit, dim).unwrap());
    // The documented bounds: rounding of f32 sums; and the query's own rounding to bytes, half a scale per component.
    let sums = n as f64 * dim as f64 * f64::from(f32::EPSILON);
    let bytes = n as f64 * (dim as f64).sqrt() / 254.0 + sums;
    // A token of signs has length scale × √dim, at most twice a unit token's; the mean adds rounding of its own.
    let signs = 2.0 * bytes + 2.0 * sums;
    for kernel in Kernel::available() {
        let packed = Query::with_kernel(kernel, &query, dim).unwrap();
        // One byte ahead puts the document at an odd address.
        let scored = |score: &dyn Fn(&[u8]) -> Result<f64, Error>, bytes: &[u8]| {
            score(&[&[0], bytes].concat()[1..]).unwrap()
        };
        let cases = [
            (
                "f16",
                scored(&|bytes| packed.score_f16(bytes), &f16),
                of_f16,
                sums,
            ),
            (
                "int8",
                scored(&|bytes| packed.score_int8(bytes), &int8),
                of_int8,
                bytes,
            ),
            (
                "bit",
                scored(&|bytes| packed.score_bit(bytes), &bit),
                of_bit,
                signs,
            ),
        ];
        for (element, score, expected, bound) in cases {
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
    for n in 1..=70 {
        for m in [1, 2, 3, 5, 7, 8, 11, 12, 13, 23, 24, 25, 47, 48, 49, 59] {
            for dim in [1, 2, 3, 4, 5, 7, 15, 16, 17, 33, 64] {
                compare_f32(n, m, dim, seed);
                compare_compact(n, m, dim, seed);
                seed += 1;
            }
        }
    }
}

#[test]
fn random_shapes_up_to_301_tokens_and_768_dimensions_agree_with_naive() {
    let mut random = Random(7);
    for seed in 0..150 {
        let (n, m) = (random.between(1, 301), random.between(1, 301));
        let dim = random.between(1, 768);
        compare_f32(n, m, dim, seed);
        compare_compact(n, m, dim, seed);
    }
    for dim in [
        64, 96, 127, 128, 129, 255, 256, 320, 767, 768, 1023, 1024, 1027, 2051,
    ] {
        for n in [1, 4, 5, 13, 16, 17, 20, 24, 25, 32, 33, 300] {
            let m = random.between(1, 301);
            compare_f32(n, m, dim, 11);
            compare_compact(n, m, dim, 11);
        }
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
    let mut random = Random(5);
    for (n, m, dim) in [(1, 1, 1), (3, 50, 7), (32, 180, 128), (20, 33, 96)] {
        let (query, document) = (random.unit_rows(n, dim), random.unit_rows(m, dim));
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
