//! The kernels' bench: microseconds per pair of query and document, and the share of the machine's own peak.
//!
//! ```text
//! cargo run --release -p maxsim --example bench -- [--rounds N] [--json FILE] [--recall]
//! ```
//!
//! Every round measures every case once, next to the peak it is compared with, so that a busy machine disturbs all
//! alike; times are the lower decile over the rounds, shares the median of the rounds' quotients. `--recall` adds the
//! agreement with exact ranking on `scifact3k`, if it is found.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use maxsim::{Kernel, Query, encode_bit, encode_f16, encode_int8};
use memmap2::{Advice, MmapMut};

mod data;
mod peak;
mod random;
mod recall;
mod report;

use peak::Peak;
use report::Row;

/// The shapes of the project's figures: query tokens, document tokens, dimensions.
const SHAPES: [(&str, [usize; 3]); 3] = [
    ("T", [32, 180, 128]),
    ("T20", [20, 180, 128]),
    ("P", [20, 1030, 128]),
];
/// Cold documents come out of this much memory, one after another; larger than the caches of one core's share.
const POOL_BYTES: usize = 400 << 20;
/// A sample repeats its case until about this long, to be far above the clock's resolution.
const SAMPLE_SECONDS: f64 = 100e-6;

/// How documents are stored, and which peak bounds their kernel.
const ELEMENTS: [&str; 4] = ["f32", "f16", "int8", "bit"];

struct Pool {
    element: &'static str,
    /// In pages of 2 MB where the system has them, which numpy asks for its arrays too.
    memory: MmapMut,
    /// Bytes per document.
    len: usize,
    documents: usize,
}

struct Case<'a> {
    shape: &'static str,
    pool: &'a Pool,
    query: Query,
    peak: Option<&'a Peak>,
    multiply_adds: f64,
    /// The next cold document.
    next: usize,
    cached: Vec<f64>,
    cold: Vec<f64>,
    shares: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut rounds, mut json, mut with_recall) = (60, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().ok_or("--rounds needs a number")?.parse()?,
            "--json" => json = Some(arguments.next().ok_or("--json needs a file")?),
            "--recall" => with_recall = true,
            other => return Err(format!("unknown argument {other:?}").into()),
        }
    }
    let peaks = peak::available();
    let pools: Vec<[Pool; 4]> = SHAPES
        .iter()
        .map(|(_, [_, m, dim])| ELEMENTS.map(|element| Pool::new(element, *m, *dim)))
        .collect();
    let mut cases = Vec::new();
    for ((shape, [n, m, dim]), pools) in SHAPES.into_iter().zip(&pools) {
        let tokens = random::unit_rows(n, dim, 1);
        for (pool, kernel) in pools
            .iter()
            .flat_map(|pool| Kernel::available().into_iter().map(move |k| (pool, k)))
        {
            if kernel == Kernel::Avx512
                && Kernel::Avx512Vnni.is_available()
                && pool.element.starts_with('f')
            {
                continue; // the same routines
            }
            cases.push(Case {
                shape,
                pool,
                query: Query::with_kernel(kernel, &tokens, dim)?,
                peak: peaks.iter().find(|peak| peak.bounds(kernel, pool.element)),
                multiply_adds: (n * m * dim) as f64,
                next: 0,
                cached: Vec::new(),
                cold: Vec::new(),
                shares: Vec::new(),
            });
        }
    }
    let mut clocks: Vec<f64> = Vec::new();
    let mut peak_rates: Vec<Vec<f64>> = vec![Vec::new(); peaks.len()];
    for _ in 0..rounds {
        clocks.push(peak::clock());
        for (rates, peak) in peak_rates.iter_mut().zip(&peaks) {
            rates.push(peak.rate());
        }
        for case in &mut cases {
            case.measure();
        }
    }
    let clock = upper_decile(&mut clocks);
    let peak_rows: Vec<(&str, f64, f64)> = peaks
        .iter()
        .zip(&mut peak_rates)
        .map(|(peak, rates)| (peak.name, upper_decile(rates), peak.per_cycle * clock))
        .collect();
    let rows: Vec<Row> = cases.into_iter().map(Case::finish).collect();
    let recall = if with_recall {
        recall::measure()?
    } else {
        Vec::new()
    };
    report::print(clock, &peak_rows, &rows, &recall);
    if let Some(file) = json {
        std::fs::write(
            file,
            report::json(rounds, clock, &peak_rows, &rows, &recall),
        )?;
    }
    Ok(())
}

impl Pool {
    fn new(element: &'static str, tokens: usize, dim: usize) -> Pool {
        // A few different documents, repeated: what counts is where they lie.
        let some: Vec<Vec<u8>> = (0..8)
            .map(|seed| {
                let document = random::unit_rows(tokens, dim, 100 + seed);
                match element {
                    "f32" => Ok(bytemuck::cast_slice(&document).to_vec()),
                    "f16" => encode_f16(&document, dim),
                    "int8" => encode_int8(&document, dim),
                    _ => encode_bit(&document, dim, &mut || ()),
                }
            })
            .collect::<Result<_, _>>()
            .expect("unit vectors can be stored in any form");
        let len = some[0].len();
        let documents = POOL_BYTES / len;
        let mut memory = MmapMut::map_anon(documents * len).expect("memory for the documents");
        // Refused by a system without huge pages, which then measures with the pages it has.
        let _ = memory.advise(Advice::HugePage);
        for (place, document) in memory.chunks_exact_mut(len).zip(some.iter().cycle()) {
            place.copy_from_slice(document);
        }
        Pool {
            element,
            memory,
            len,
            documents,
        }
    }

    fn score(&self, query: &Query, document: usize) -> f64 {
        let document = &self.memory[document * self.len..][..self.len];
        let score = match self.element {
            "f32" => query.score_f32(bytemuck::cast_slice(document)),
            "f16" => query.score_f16(document),
            "int8" => query.score_int8(document),
            _ => query.score_bit(document),
        };
        score.expect("the shapes fit")
    }
}

impl Case<'_> {
    /// One sample cached, one cold, and one of the peak in between.
    fn measure(&mut self) {
        let (pool, query) = (self.pool, &self.query);
        let once = seconds(1, |_| pool.score(query, 0));
        let times = (SAMPLE_SECONDS / once).ceil().clamp(1.0, 1e4) as usize;
        let cached = seconds(times, |_| pool.score(query, 0));
        if let Some(peak) = self.peak {
            self.shares
                .push(2.0 * self.multiply_adds / cached / peak.rate());
        }
        let first = self.next;
        let cold = seconds(times, |at| pool.score(query, (first + at) % pool.documents));
        self.next = (first + times) % pool.documents;
        self.cached.push(cached);
        self.cold.push(cold);
    }

    fn finish(mut self) -> Row {
        self.shares.sort_by(f64::total_cmp);
        Row {
            shape: self.shape,
            element: self.pool.element,
            kernel: self.query.kernel().name(),
            cached_us: lower_decile(&mut self.cached) * 1e6,
            cold_us: lower_decile(&mut self.cold) * 1e6,
            peak: self
                .peak
                .map(|peak| (peak.name, self.shares[self.shares.len() / 2])),
        }
    }
}

/// Seconds per run of `work`, which is told how often it ran before.
fn seconds(times: usize, mut work: impl FnMut(usize) -> f64) -> f64 {
    let start = Instant::now();
    for at in 0..times {
        black_box(work(black_box(at)));
    }
    start.elapsed().as_secs_f64() / times as f64
}

fn lower_decile(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 10]
}

fn upper_decile(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() * 9 / 10]
}
