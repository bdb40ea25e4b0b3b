//! The collections of the gate: real token vectors, documents resampled of them, made pages, lengthened vectors.
//!
//! Everything is made from fixed seeds, document by document, so that any run on any machine sees the same.

use std::error::Error;
use std::path::Path;

use crate::data::{Data, folder};
use crate::memory::Random;

/// Documents of f16 tokens and queries.
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) dim: usize,
    /// Each as [`maxsim::encode_f16`] stores it.
    pub(crate) documents: Vec<Vec<u8>>,
    pub(crate) queries: Vec<Vec<f32>>,
}

impl Set {
    pub(crate) fn values(&self, document: usize) -> Vec<f32> {
        maxsim::decode_f16(&self.documents[document], self.dim).expect("as it was encoded")
    }

    pub(crate) fn tokens(&self) -> usize {
        self.bytes() / 2 / self.dim
    }

    /// Bytes of the documents as f16.
    pub(crate) fn bytes(&self) -> usize {
        self.documents.iter().map(Vec::len).sum()
    }
}

/// 3000 abstracts of SciFact and 300 claims.
pub(crate) fn scifact() -> Result<Set, Box<dyn Error>> {
    let folder = folder("scifact3k").ok_or("scifact3k was not found")?;
    let data = Data::read(&folder)?;
    let f16 = |bounds: &[usize]| maxsim::encode_f16(&data.tokens(bounds[0], bounds[1]), data.dim);
    let query =
        |bounds: &[usize]| data.queries[bounds[0] * data.dim..bounds[1] * data.dim].to_vec();
    let set = Set {
        name: "scifact3k".into(),
        dim: data.dim,
        documents: data.offsets.windows(2).map(f16).collect::<Result<_, _>>()?,
        queries: data.query_offsets.windows(2).map(query).collect(),
    };
    // The data comes with its exact ranking: was it read as it was meant?
    for (query, best) in set
        .queries
        .iter()
        .zip(data.exact.chunks_exact(data.exact_len))
    {
        let query = maxsim::Query::new(query, set.dim)?;
        let (first, last) = (
            &set.documents[best[0]],
            &set.documents[best[data.exact_len - 1]],
        );
        if query.score_f16(first)? < query.score_f16(last)? {
            return Err("scifact3k is not ranked as its own exact results".into());
        }
    }
    Ok(set)
}

/// 35 passages and 5 queries of colbert-ir/colbertv2.0.
pub(crate) fn micro() -> Result<Set, Box<dyn Error>> {
    let folder = folder("colbertv2_micro").ok_or("colbertv2_micro was not found")?;
    let documents = arrays(&folder.join("documents.npz"))?;
    Ok(Set {
        name: "colbertv2_micro".into(),
        dim: 128,
        documents: documents
            .iter()
            .map(|values| maxsim::encode_f16(values, 128))
            .collect::<Result<_, _>>()?,
        queries: arrays(&folder.join("queries.npz"))?,
    })
}

/// The f32 matrices of an archive of NumPy's, in order.
fn arrays(file: &Path) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let mut arrays = Vec::new();
    let mut at = 0;
    // Members with their sizes in the extra field, as NumPy writes them.
    while bytes[at..].starts_with(b"PK\x03\x04") {
        let short = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let (name, extra) = (short(at + 26), short(at + 28));
        let sizes = &bytes[at + 30 + name + 4..];
        let size = u64::from_le_bytes(sizes[8..16].try_into()?) as usize;
        let start = at + 30 + name + extra;
        let member = miniz_oxide::inflate::decompress_to_vec(&bytes[start..start + size])
            .map_err(|error| format!("{error:?}"))?;
        let values = &member[10 + usize::from(member[8])..];
        if member[..200.min(member.len())]
            .windows(3)
            .any(|kind| kind == b"<f4")
        {
            let floats = values
                .as_chunks()
                .0
                .iter()
                .map(|value| f32::from_le_bytes(*value));
            arrays.push(floats.collect());
        }
        at = start + size;
    }
    Ok(arrays)
}

/// `count` passages of 40 to 120 tokens: shuffled runs of 10 to 40 consecutive tokens of real documents, with noise.
/// Queries are the real ones, and resampled ones up to `queries`.
pub(crate) fn resampled(real: &Set, count: usize, queries: usize) -> Set {
    let mut random = Random(42);
    let documents = (0..count)
        .map(|_| {
            let tokens = random.between(40, 120);
            let run = |random: &mut Random| {
                let document = random.between(0, real.documents.len() - 1);
                part(&real.values(document), real.dim, 10, 40, random)
            };
            let values = noisy(
                &runs(tokens, real.dim, &mut random, run),
                real.dim,
                &mut random,
            );
            maxsim::encode_f16(&values, real.dim).expect("unit vectors")
        })
        .collect();
    let made = (real.queries.len()..queries).map(|_| {
        let tokens = random.between(8, 32);
        let run = |random: &mut Random| {
            let query = random.between(0, real.queries.len() - 1);
            part(&real.queries[query], real.dim, 4, 10, random)
        };
        let values = runs(tokens, real.dim, &mut random, run);
        noisy(&values, real.dim, &mut random)
    });
    let queries = real
        .queries
        .iter()
        .take(queries)
        .cloned()
        .chain(made)
        .collect();
    Set {
        name: format!("resampled {}k", count / 1000),
        dim: real.dim,
        documents,
        queries,
    }
}

/// Runs one after another up to `tokens`.
fn runs(
    tokens: usize,
    dim: usize,
    random: &mut Random,
    run: impl Fn(&mut Random) -> Vec<f32>,
) -> Vec<f32> {
    let mut values = Vec::with_capacity((tokens + 40) * dim);
    while values.len() < tokens * dim {
        values.extend(run(random));
    }
    values.truncate(tokens * dim);
    values
}

/// Some consecutive tokens.
fn part(
    values: &[f32],
    dim: usize,
    shortest: usize,
    longest: usize,
    random: &mut Random,
) -> Vec<f32> {
    let tokens = values.len() / dim;
    let len = random.between(shortest, longest).min(tokens);
    let first = random.between(0, tokens - len);
    values[first * dim..(first + len) * dim].to_vec()
}

/// Unit vectors near the given ones: at an angle of about 0.22.
fn noisy(values: &[f32], dim: usize, random: &mut Random) -> Vec<f32> {
    let spread = 0.22 / (dim as f32).sqrt();
    let mut values: Vec<f32> = values
        .iter()
        .map(|value| value + spread * random.normal())
        .collect();
    values.chunks_exact_mut(dim).for_each(normalise);
    values
}

fn normalise(row: &mut [f32]) {
    let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    row.iter_mut().for_each(|value| *value /= norm);
}

/// `count` pages of 1030 patches as page encoders make them: a third to two thirds background that is alike on all
/// pages, the rest regions of 5 to 40 patches about one of 4000 things, each region in its own way. A query is about 3 to
/// 6 regions of one page.
pub(crate) fn pages(count: usize, queries: usize) -> Set {
    const DIM: usize = 128;
    const PATCHES: usize = 1030;
    let mut random = Random(7);
    let mut vector = |weight: f32, common: &[f32]| {
        let mut row: Vec<f32> = (0..DIM)
            .map(|k| common.get(k).map_or(0.0, |common| common * weight) + random.normal() / 11.3)
            .collect();
        normalise(&mut row);
        row
    };
    let common = vector(0.0, &[]);
    let background: Vec<Vec<f32>> = (0..8).map(|_| vector(1.0, &common)).collect();
    let things: Vec<Vec<f32>> = (0..4000).map(|_| vector(0.6, &common)).collect();
    let near = |centre: &[f32], spread: f32, random: &mut Random| {
        let off = spread / (DIM as f32).sqrt();
        let mut row: Vec<f32> = centre
            .iter()
            .map(|value| value + off * random.normal())
            .collect();
        normalise(&mut row);
        row
    };
    let (mut documents, mut made) = (Vec::new(), Vec::new());
    for page in 0..count {
        let plain = random.between(PATCHES / 3, PATCHES * 2 / 3);
        let mut values = Vec::with_capacity(PATCHES * DIM);
        for _ in 0..plain {
            let kind = random.between(0, 7);
            values.extend(near(&background[kind], 0.35, &mut random));
        }
        let mut regions = Vec::new();
        while values.len() < PATCHES * DIM {
            let thing = random.between(0, things.len() - 1);
            let region = near(&things[thing], 0.5, &mut random);
            for _ in 0..random.between(5, 40) {
                values.extend(near(&region, 0.5, &mut random));
            }
            regions.push(region);
        }
        values.truncate(PATCHES * DIM);
        if page % count.div_ceil(queries) == 0 {
            let mut query = Vec::new();
            for _ in 0..random.between(3, 6) {
                let region = random.between(0, regions.len() - 1);
                for _ in 0..random.between(2, 5) {
                    query.extend(near(&regions[region], 0.6, &mut random));
                }
            }
            made.push(query);
        }
        documents.push(maxsim::encode_f16(&values, DIM).expect("unit vectors"));
    }
    Set {
        name: format!("pages {}k", count / 1000),
        dim: DIM,
        documents,
        queries: made,
    }
}

/// Real tokens turned into 384 dimensions by a random map, with noise there and lengths between about 0.4 and 2.5.
pub(crate) fn wide(real: &Set) -> Set {
    const DIM: usize = 384;
    let mut random = Random(11);
    let map: Vec<f32> = (0..real.dim * DIM)
        .map(|_| random.normal() / (DIM as f32).sqrt())
        .collect();
    let mut widen = |values: &[f32]| {
        let mut wide = Vec::with_capacity(values.len() / real.dim * DIM);
        for row in values.chunks_exact(real.dim) {
            let mut to = vec![0.0f32; DIM];
            for (value, map) in row.iter().zip(map.chunks_exact(DIM)) {
                to.iter_mut()
                    .zip(map)
                    .for_each(|(to, map)| *to += value * map);
            }
            let length = (0.35 * random.normal()).exp();
            let spread = 0.22 / (DIM as f32).sqrt();
            wide.extend(
                to.iter()
                    .map(|value| length * (value + spread * random.normal())),
            );
        }
        wide
    };
    let document = |at| maxsim::encode_f16(&widen(&real.values(at)), DIM).expect("short vectors");
    Set {
        name: "unnormalised 384".into(),
        dim: DIM,
        documents: (0..real.documents.len()).map(document).collect(),
        queries: real.queries.iter().map(|query| widen(query)).collect(),
    }
}

/// The documents on either side of the direction in which means of documents differ most: two topics.
pub(crate) fn halves(set: &Set) -> (Vec<usize>, Vec<usize>) {
    let means: Vec<Vec<f32>> = (0..set.documents.len())
        .map(|at| {
            let values = set.values(at);
            let mut mean = vec![0.0f32; set.dim];
            for row in values.chunks_exact(set.dim) {
                mean.iter_mut()
                    .zip(row)
                    .for_each(|(mean, value)| *mean += value);
            }
            normalise(&mut mean);
            mean
        })
        .collect();
    let mut centre = vec![0.0f32; set.dim];
    for mean in &means {
        let scale = 1.0 / means.len() as f32;
        centre
            .iter_mut()
            .zip(mean)
            .for_each(|(centre, value)| *centre += scale * value);
    }
    let along = |axis: &[f32], mean: &[f32]| -> f32 {
        axis.iter()
            .zip(mean)
            .zip(&centre)
            .map(|((axis, value), centre)| axis * (value - centre))
            .sum()
    };
    let mut axis: Vec<f32> = (0..set.dim).map(|k| (k as f32).sin()).collect();
    for _ in 0..50 {
        let mut next = vec![0.0f32; set.dim];
        for mean in &means {
            let weight = along(&axis, mean);
            for ((next, value), centre) in next.iter_mut().zip(mean).zip(&centre) {
                *next += weight * (value - centre);
            }
        }
        normalise(&mut next);
        axis = next;
    }
    (0..means.len()).partition(|&at| along(&axis, &means[at]) < 0.0)
}
