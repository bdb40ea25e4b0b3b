//! Training, encoding, and the bytes of a codebook.

mod memory;

use std::panic::{AssertUnwindSafe, catch_unwind};

use maxsim_index::{Codebook, Error, encode_flat};
use memory::{Maker, Random};

#[test]
fn sizes_follow_the_number_of_tokens() {
    for (tokens, lists) in [
        (0, 256),
        (1000, 256),
        (160_000, 4096),
        (3_200_000, 16_384),
        (1 << 40, 65_536),
    ] {
        assert_eq!(Codebook::lists_for(tokens), lists, "{tokens} tokens");
    }
    assert_eq!(Codebook::sample_size(256, 1000, 128, 64 << 20), 1000);
    assert_eq!(Codebook::sample_size(256, 1 << 40, 128, 1 << 30), 12_288);
    assert_eq!(
        Codebook::sample_size(65_536, 1 << 40, 128, 16 << 30),
        1_200_000
    );
    let sample = Codebook::sample_size(65_536, 1 << 40, 128, 64 << 20);
    assert!(sample * 128 * 4 < 64 << 20 && sample > 50_000, "{sample}");
}

#[test]
fn threads_change_nothing_and_the_seed_does() {
    let mut maker = Maker::new(1, 24, 40);
    let documents = maker.documents(800, 1, 30);
    let sample = documents.concat();
    let train = |seed, threads| Codebook::train(&sample, 24, 300, seed, threads, &mut || ());
    let one = train(5, 1);
    let encoded = one.encode_many(&documents, 1, &mut || ());
    for threads in [2, 3, 8] {
        assert_eq!(train(5, threads).to_bytes(), one.to_bytes());
        assert_eq!(one.encode_many(&documents, threads, &mut || ()), encoded);
    }
    assert_ne!(train(6, 1).to_bytes(), one.to_bytes());
    assert_eq!((one.dim(), one.lists()), (24, 300));
}

#[test]
fn a_document_is_encoded_alone_as_among_others() {
    let mut maker = Maker::new(2, 32, 40);
    let documents = maker.documents(200, 1, 30);
    let codebook = Codebook::train(&documents.concat(), 32, 128, 1, 1, &mut || ());
    let together = codebook.encode_many(&documents, 1, &mut || ());
    for (document, encoded) in documents.iter().zip(together) {
        let alone = codebook.encode(document, &mut || ());
        assert_eq!(alone, encoded);
        assert!(alone.signature.is_sorted() && !alone.signature.is_empty());
        assert!(
            alone
                .signature
                .iter()
                .all(|&id| usize::from(id) < codebook.lists())
        );
        assert_eq!(alone.tokens as usize, document.len() / 32);
        assert_eq!(alone.codes.len(), 9 + (document.len() / 32) * (3 + 4));
    }
}

#[test]
fn tokens_around_centres_are_found_in_their_lists() {
    // 100 centres far apart, a hundred tokens around each: the residual is what they are spread by.
    let mut random = Random(9);
    let centres: Vec<f32> = (0..100 * 16).map(|_| 10.0 * random.normal()).collect();
    let sample: Vec<f32> = (0..10_000 * 16)
        .map(|at| centres[at / 16 % 100 * 16 + at % 16] + 0.1 * random.normal())
        .collect();
    let codebook = Codebook::train(&sample, 16, 800, 1, 1, &mut || ());
    assert!(
        codebook.mean_residual() < 0.2,
        "{}",
        codebook.mean_residual()
    );
    let encoded = codebook.encode(&sample[..1600], &mut || ());
    assert_eq!(encoded.signature.len(), 100);
    assert!(encoded.residual / 100.0 < 0.2, "{}", encoded.residual);
    let moved: Vec<f32> = sample[..1600].iter().map(|value| value + 5.0).collect();
    assert!(codebook.encode(&moved, &mut || ()).residual / 100.0 > 10.0);
}

#[test]
fn any_sample_makes_a_codebook() {
    for (name, sample, dim) in [
        ("one token", vec![1.0, 2.0], 2),
        ("zeros", vec![0.0; 3000], 3),
        ("one value, many times", vec![0.1; 5000], 5),
        ("dim 1", (0..5000).map(|at| at as f32).collect(), 1),
        (
            "the largest",
            vec![f32::MAX, -f32::MAX, f32::MAX, f32::MAX, 1.0, 0.0],
            2,
        ),
        ("the smallest", vec![f32::from_bits(1); 600], 2),
        (
            "a dim of 16,000",
            Maker::new(1, 16_000, 2).tokens(20),
            16_000,
        ),
    ] {
        let codebook = Codebook::train(&sample, dim, 256, 1, 1, &mut || ());
        let tokens = sample.len() / dim;
        assert!((1..=tokens.min(256)).contains(&codebook.lists()), "{name}");
        let encoded = codebook.encode(&sample, &mut || ());
        assert_eq!(encoded.tokens as usize, tokens, "{name}");
        let flat = encode_flat(&sample, dim, &mut || ());
        assert!(flat.signature.is_empty());
        let again = Codebook::from_bytes(&codebook.to_bytes());
        assert_eq!(again.unwrap().to_bytes(), codebook.to_bytes(), "{name}");
    }
}

#[test]
fn a_codebook_survives_its_bytes() {
    let mut maker = Maker::new(3, 20, 10);
    let documents = maker.documents(100, 1, 20);
    let codebook = Codebook::train(&documents.concat(), 20, 70, 1, 1, &mut || ());
    let again = Codebook::from_bytes(&codebook.to_bytes()).unwrap();
    assert_eq!(again.mean_residual(), codebook.mean_residual());
    assert_eq!(
        again.encode_many(&documents, 1, &mut || ()),
        codebook.encode_many(&documents, 1, &mut || ())
    );
}

#[test]
fn damaged_bytes_are_errors_and_never_panics() {
    let sample = Maker::new(4, 6, 10).tokens(500);
    let bytes = Codebook::train(&sample, 6, 70, 1, 1, &mut || ()).to_bytes();
    for len in 0..bytes.len() {
        assert!(Codebook::from_bytes(&bytes[..len]).is_err(), "cut to {len}");
    }
    let mut other = bytes.clone();
    other[4] = 9;
    assert!(matches!(
        Codebook::from_bytes(&other),
        Err(Error::Version { found: 9 })
    ));
    let mut random = Random(1);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut damaged = bytes.clone();
        for _ in 0..random.between(1, 3) {
            let end = [400, bytes.len() - 1][random.between(0, 1)];
            let at = random.between(0, end);
            damaged[at] = random.next() as u8;
        }
        match Codebook::from_bytes(&damaged) {
            Ok(codebook) => {
                let encoded = codebook.encode(&sample[..12], &mut || ());
                assert!(
                    encoded
                        .signature
                        .iter()
                        .all(|&id| usize::from(id) < codebook.lists())
                );
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn training_and_encoding_are_polled_and_may_unwind() {
    let mut maker = Maker::new(5, 32, 10);
    let documents = maker.documents(1000, 10, 30);
    let sample = documents.concat();
    for threads in [1, 3] {
        let mut polls = 0;
        let codebook = Codebook::train(&sample, 32, 256, 1, threads, &mut || polls += 1);
        for cancel_at in [1, 2, polls / 2] {
            let mut left = cancel_at;
            let mut poll = || {
                left -= 1;
                assert!(left > 0, "cancelled");
            };
            let train = || Codebook::train(&sample, 32, 256, 1, threads, &mut poll);
            assert!(catch_unwind(AssertUnwindSafe(train)).is_err());
        }
        let mut poll = || panic!("cancelled");
        let encode = || codebook.encode_many(&documents, threads, &mut poll);
        assert!(catch_unwind(AssertUnwindSafe(encode)).is_err());
    }
}
