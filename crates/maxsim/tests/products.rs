//! The matrix of all products, by every kernel this machine can run, against the naive inner product.

use maxsim::{Error, Kernel, Query, decode_int8, encode_int8, naive};

#[path = "../examples/bench/random.rs"]
mod random;

use random::{Random, unit_rows};

fn compare(n: usize, m: usize, dim: usize, seed: u64) {
    let query = unit_rows(n, dim, 2 * seed);
    let document = unit_rows(m, dim, 2 * seed + 1);
    let int8 = encode_int8(&document, dim).unwrap();
    let range = seed as usize % m..m;
    let mut random = Random(seed);
    let signs: Vec<u8> = (0..m * dim.div_ceil(8))
        .map(|_| random.next() as u8)
        .collect();
    let scales: Vec<u8> = (0..m).map(|_| random.next() as u8).collect();
    let unit = 1e-3;
    let signed: Vec<f32> = (0..m * dim)
        .map(|at| {
            let (row, k) = (at / dim, at % dim);
            let plus = signs[row * dim.div_ceil(8) + k / 8] >> (k % 8) & 1 == 1;
            f32::from(scales[row]) * unit * if plus { 1.0 } else { -1.0 }
        })
        .collect();

    let shared: Vec<f32> = (0..3 * n)
        .map(|_| random.next() as i32 as f32 / 1e10)
        .collect();
    let ids: Vec<[u8; 2]> = (0..m).map(|_| [random.between(0, 2) as u8, 0]).collect();
    let exact_residual: f64 = (0..n)
        .map(|i| {
            let similarity = |j: usize| {
                let shift = f64::from(shared[usize::from(ids[j][0]) * n + i]);
                shift + naive::dot(&query[i * dim..][..dim], &signed[j * dim..][..dim])
            };
            (0..m).map(similarity).fold(f64::NEG_INFINITY, f64::max)
        })
        .sum();

    let sums = dim as f64 * f64::from(f32::EPSILON) + 1e-9;
    let bytes = (dim as f64).sqrt() / 254.0 + sums;
    let longest = 0.255 * (dim as f64).sqrt();
    for kernel in Kernel::available() {
        let packed = Query::with_kernel(kernel, &query, dim).unwrap();
        let check = |found: &[f32], stored: &[f32], bound: f64, what: &str| {
            for (at, found) in found.iter().enumerate() {
                let (i, j) = (at % n, at / n);
                let exact = naive::dot(&query[i * dim..][..dim], &stored[j * dim..][..dim]);
                assert!(
                    (f64::from(*found) - exact).abs() <= bound,
                    "{what} {i}, {j} of {n} x {m} x {dim}, {} kernel: {found} instead of {exact}",
                    kernel.name()
                );
            }
        };
        let mut found = vec![f32::NAN; n * m];
        packed.products_f32(&document, &mut found).unwrap();
        check(&found, &document, sums, "f32");
        if n.is_multiple_of(4) {
            let found = packed
                .score_residual((&scales, unit), &signs, &shared, &ids)
                .unwrap();
            let bound = n as f64 * (bytes * longest + sums);
            assert!(
                (found - exact_residual).abs() <= bound,
                "{n} x {m} x {dim}, {} kernel: {found} instead of {exact_residual}",
                kernel.name()
            );
        }
        let mut found = vec![f32::NAN; n * range.len()];
        packed
            .products_int8(&int8, range.clone(), &mut found)
            .unwrap();
        check(
            &found,
            &decode_int8(&int8, dim).unwrap()[range.start * dim..],
            bytes,
            "int8",
        );
    }
}

#[test]
fn products_agree_with_naive_over_ragged_shapes() {
    let mut random = Random(3);
    for dim in [
        1, 3, 8, 15, 16, 33, 64, 96, 127, 128, 256, 300, 384, 1025, 2051,
    ] {
        for n in [1, 2, 3, 4, 5, 8, 9, 16, 17, 20, 21, 24, 31, 32, 33, 64, 65] {
            for m in [1, 2, 5, 6, 11, 12, 13, random.between(20, 60)] {
                compare(n, m, dim, (dim * 1000 + n * 100 + m) as u64);
            }
        }
    }
    compare(300, 40, 128, 5);
}

#[test]
fn products_of_huge_tokens_and_tiny_scales_are_finite() {
    let (dim, huge) = (32, 3e36);
    let document = encode_int8(&vec![1e-3; dim], dim).unwrap();
    for kernel in Kernel::available() {
        for n in 1..=9 {
            let query = Query::with_kernel(kernel, &vec![huge; n * dim], dim).unwrap();
            let mut products = vec![0.0; n];
            query.products_int8(&document, 0..1, &mut products).unwrap();
            for product in products {
                let error = (product / (dim as f32 * 3e33) - 1.0).abs();
                assert!(
                    error < 0.01,
                    "{n} tokens, {} kernel: {product}",
                    kernel.name()
                );
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let query = Query::new(&[1.0; 8], 4).unwrap();
    let mut room = [0.0; 8];
    assert_eq!(query.products_f32(&[], &mut room), Err(Error::Empty));
    assert_eq!(
        query.products_f32(&[1.0; 5], &mut room),
        Err(Error::Ragged { len: 5, dim: 4 })
    );
    assert_eq!(
        query.products_int8(&[0; 16], 1..1, &mut room),
        Err(Error::Empty)
    );
    assert_eq!(
        query.products_int8(&[0; 9], 0..1, &mut room),
        Err(Error::Ragged { len: 9, dim: 8 })
    );
    let query = Query::new(&[1.0; 16], 4).unwrap();
    let score = |scales: &[u8], signs: &[u8]| {
        query.score_residual((scales, 1.0), signs, &[0.0; 4], &[[0, 0]])
    };
    assert_eq!(score(&[], &[]), Err(Error::Empty));
    assert_eq!(score(&[1], &[0, 0]), Err(Error::Ragged { len: 2, dim: 1 }));
    assert_eq!(score(&[0], &[0]), Ok(0.0));
}
