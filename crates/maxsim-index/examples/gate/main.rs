//! The gate of the index: does the algorithm find what it promises, at what cost? Every case prints a table row or more.
//!
//! ```text
//! cargo run --release -p maxsim-index --example gate -- [CASE …]
//! ```
//! Cases: scifact micro 40k 240k pages wide other growth filter flat; without any, all. 240k takes 7 GB of memory.
//! `MEMORY_MB=64` takes the sample that the extension takes with such a `maintenance_work_mem`.

use std::error::Error;

use maxsim_index::{Codebook, Encoded};

mod collections;
#[path = "../../../maxsim/examples/bench/data.rs"]
mod data;
mod measure;
#[path = "../../tests/memory/mod.rs"]
mod memory;

use collections::Set;
use measure::{Condition, NONE, Truth, encode, encode_one_by_one, search, train};

fn main() -> Result<(), Box<dyn Error>> {
    let cases: Vec<String> = std::env::args().skip(1).collect();
    let runs = |case: &str| cases.is_empty() || cases.iter().any(|name| name == case);
    println!("kernel: {}", maxsim::kernel_name());
    let real = collections::scifact()?;
    if runs("scifact") {
        whole(&real);
    }
    if runs("micro") {
        whole(&collections::micro()?);
    }
    if runs("wide") {
        whole(&collections::wide(&real));
    }
    if runs("pages") {
        whole(&collections::pages(3000, 300));
    }
    if runs("other") {
        other(&real);
        foreign(&real, &collections::micro()?);
    }
    if ["40k", "growth", "filter", "flat"].into_iter().any(runs) {
        let mut set = collections::resampled(&real, 40_000, 500);
        if runs("40k") {
            whole(&set);
        }
        // For the rest fewer do.
        set.queries.truncate(150);
        if runs("filter") {
            filter(&set);
        }
        if runs("growth") {
            growth(&set);
        }
        if runs("flat") {
            flat(&real, set);
        }
    }
    if runs("240k") {
        whole(&collections::resampled(&real, 240_000, 150));
    }
    Ok(())
}

fn head(set: &Set, truth: &Truth) {
    println!(
        "\n{}: {} documents, {} tokens of {}, {} queries; exact f16 sweep {:.2} ms",
        set.name,
        set.documents.len(),
        set.tokens(),
        set.dim,
        set.queries.len(),
        1e3 * truth.seconds
    );
}

/// Rows of recall and cost.
fn table(
    set: &Set,
    codebook: Option<&Codebook>,
    encoded: &[Encoded],
    truth: &Truth,
    cases: &[(usize, f64)],
) {
    for &(count, effort) in cases {
        let outcome = search(set, codebook, encoded, truth, count, effort, NONE);
        println!(
            "  z {effort}: recall@{count} {:.4}, refined {:.0}, scored {:.0}, inversions {:.3} %, \
             CPU {:.2} ms (table {:.2}, sweep {:.2} = {:.3} us/doc, exact scores {:.2}), 1/{:.0} of exact",
            outcome.recall,
            outcome.refined,
            outcome.scored,
            100.0 * outcome.inversions,
            outcome.cpu_ms,
            outcome.prepare_ms,
            outcome.sweep_ms,
            1e3 * outcome.sweep_ms / set.documents.len() as f64,
            outcome.score_ms,
            1e3 * truth.seconds / outcome.cpu_ms
        );
    }
}

const CASES: &[(usize, f64)] = &[(10, 3.0), (100, 3.0), (1000, 3.0), (10, 3.5), (10, 4.0)];

/// Trained on itself.
fn whole(set: &Set) {
    let truth = Truth::find(set, NONE.keeps);
    head(set, &truth);
    let lists = Codebook::lists_for(set.tokens() as u64);
    let all: Vec<usize> = (0..set.documents.len()).collect();
    let (codebook, seconds) = train(set, &all, lists);
    println!(
        "  {} lists trained in {seconds:.2} s CPU, mean residual {:.3}",
        codebook.lists(),
        codebook.mean_residual()
    );
    let (encoded, seconds) = encode(set, Some(&codebook));
    let count = set.documents.len() as f64;
    let (signatures, codes) = sizes(&encoded);
    println!(
        "  encode {:.3} ms CPU a document, {:.3} alone; {:.0} + {:.0} bytes a document, {:.1} % of f32",
        1e3 * seconds / count,
        1e3 * encode_one_by_one(set, &codebook),
        signatures / count,
        codes / count,
        100.0 * (signatures + codes) / (2 * set.bytes()) as f64
    );
    table(set, Some(&codebook), &encoded, &truth, CASES);
}

fn sizes(encoded: &[Encoded]) -> (f64, f64) {
    let signatures: usize = encoded
        .iter()
        .map(|encoded| 2 * encoded.signature.len())
        .sum();
    let codes: usize = encoded.iter().map(|encoded| encoded.codes.len()).sum();
    (signatures as f64, codes as f64)
}

/// Trained on one half by topic, searched in the other.
fn other(real: &Set) {
    let (known, unknown) = collections::halves(real);
    let set = Set {
        name: format!(
            "the other topic, trained on {} documents of one",
            known.len()
        ),
        dim: real.dim,
        documents: unknown
            .iter()
            .map(|&at| real.documents[at].clone())
            .collect(),
        queries: real.queries.clone(),
    };
    let truth = Truth::find(&set, NONE.keeps);
    head(&set, &truth);
    let tokens: usize = known
        .iter()
        .map(|&at| real.documents[at].len() / 2 / real.dim)
        .sum();
    let (codebook, _) = train(real, &known, Codebook::lists_for(tokens as u64));
    drift(&set, &codebook, &truth);
}

/// Trained on vectors of another model.
fn foreign(real: &Set, micro: &Set) {
    let truth = Truth::find(real, NONE.keeps);
    println!(
        "\ntrained on colbertv2_micro, another model, {} tokens:",
        micro.tokens()
    );
    head(real, &truth);
    let all: Vec<usize> = (0..micro.documents.len()).collect();
    let (codebook, _) = train(micro, &all, 1024);
    drift(real, &codebook, &truth);
}

fn drift(set: &Set, codebook: &Codebook, truth: &Truth) {
    let (encoded, _) = encode(set, Some(codebook));
    let residual: f64 = encoded.iter().map(|encoded| encoded.residual).sum();
    println!(
        "  {} lists, mean residual {:.3} of the sample, {:.3} of the documents",
        codebook.lists(),
        codebook.mean_residual(),
        residual / set.tokens() as f64
    );
    table(set, Some(codebook), &encoded, truth, CASES);
}

/// Trained on the first documents, then grown.
fn growth(set: &Set) {
    let truth = Truth::find(set, NONE.keeps);
    for (first, lists) in [(2000, 4096), (2000, 1024), (500, 2048)] {
        println!("\ntrained on the first {first}:");
        head(set, &truth);
        let documents: Vec<usize> = (0..first).collect();
        let (codebook, seconds) = train(set, &documents, lists);
        println!("  trained in {seconds:.2} s CPU");
        drift(set, &codebook, &truth);
    }
}

/// A filter that keeps 1 %, which the search is told of, or is not.
fn filter(set: &Set) {
    let one_percent: fn(usize) -> bool = |at| at % 100 == 17;
    let all: Vec<usize> = (0..set.documents.len()).collect();
    let (codebook, _) = train(set, &all, Codebook::lists_for(set.tokens() as u64));
    let (encoded, _) = encode(set, Some(&codebook));
    let truth = Truth::find(set, NONE.keeps);
    let filtered = Truth::find(set, one_percent);
    println!("\na filter that keeps 1 %:");
    head(set, &truth);
    for count in [10, 100] {
        let run =
            |truth, condition| search(set, Some(&codebook), &encoded, truth, count, 3.0, condition);
        let plain = run(&truth, NONE);
        for is_told in [true, false] {
            let keeps = one_percent;
            let outcome = run(&filtered, Condition { keeps, is_told });
            println!(
                "  {}: recall@{count} {:.4}, refined {:.0}, scored {:.0}, CPU {:.2} ms, {:.1} times the {:.2} without",
                if is_told { "told" } else { "not told" },
                outcome.recall,
                outcome.refined,
                outcome.scored,
                outcome.cpu_ms,
                outcome.cpu_ms / plain.cpu_ms,
                plain.cpu_ms
            );
        }
    }
}

/// Without a codebook.
fn flat(real: &Set, mut resampled: Set) {
    for count in [4000, 2000, 1000, 500] {
        resampled.documents.truncate(count);
        resampled.name = format!("flat, resampled {count}");
        flat_set(&resampled);
    }
    let set = Set {
        name: "flat, scifact3k's first 2000".into(),
        dim: real.dim,
        documents: real.documents[..2000].to_vec(),
        queries: real.queries.clone(),
    };
    flat_set(&set);
}

fn flat_set(set: &Set) {
    let truth = Truth::find(set, NONE.keeps);
    head(set, &truth);
    let (encoded, seconds) = encode(set, None);
    println!(
        "  encode {:.3} ms CPU a document",
        1e3 * seconds / set.documents.len() as f64
    );
    table(set, None, &encoded, &truth, CASES);
}
