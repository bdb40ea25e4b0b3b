//! How well each element type ranks: agreement of its best 10 with the exact best 10 on `scifact3k`.
//!
//! The data is not part of the repository: it is looked for in `$INFINITY_EMBED_SHARED/data/scifact3k`, and in
//! `../shared` beside the repository. Used by the bench and by a test that holds the project's bars.

use std::error::Error;
use std::path::{Path, PathBuf};

use maxsim::{Query, encode_bit, encode_f16, encode_int8};

/// The result for one element type, both means over all queries.
pub(crate) struct Agreement {
    pub element: &'static str,
    /// The share of the exact best 10 among its own best 10.
    pub best_10: f64,
    /// The share of them among its best 100: what is left after scoring those exactly.
    pub of_best_100: f64,
}

/// The folder of the data, if it is there.
pub(crate) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("INFINITY_EMBED_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("data/scifact3k");
    folder.is_dir().then_some(folder)
}

/// Ranks the collection by every compact element type. Nothing when the data is not there.
pub(crate) fn measure() -> Result<Vec<Agreement>, Box<dyn Error>> {
    let Some(folder) = folder() else {
        println!("skipped: scifact3k was not found");
        return Ok(Vec::new());
    };
    let data = Data::read(&folder)?;
    let mut documents = [Vec::new(), Vec::new(), Vec::new()];
    for document in data.offsets.windows(2) {
        let values = data.tokens(document[0], document[1]);
        documents[0].push(encode_f16(&values, data.dim)?);
        documents[1].push(encode_int8(&values, data.dim)?);
        documents[2].push(encode_bit(&values, data.dim, &mut || ())?);
    }
    let score = [Query::score_f16, Query::score_int8, Query::score_bit];
    let mut agreements = Vec::new();
    for ((element, score), documents) in ["f16", "int8", "bit"]
        .into_iter()
        .zip(score)
        .zip(&documents)
    {
        let (mut best_10, mut of_best_100) = (0usize, 0usize);
        for (bounds, exact) in data
            .query_offsets
            .windows(2)
            .zip(data.exact.chunks_exact(data.exact_len))
        {
            let query = Query::new(
                &data.queries[bounds[0] * data.dim..bounds[1] * data.dim],
                data.dim,
            )?;
            let mut ranked: Vec<(f64, usize)> = Vec::with_capacity(documents.len());
            for (at, document) in documents.iter().enumerate() {
                ranked.push((score(&query, document)?, at));
            }
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            let found = |depth: usize| {
                exact[..10]
                    .iter()
                    .filter(|&id| ranked[..depth].iter().any(|r| r.1 == *id))
                    .count()
            };
            best_10 += found(10);
            of_best_100 += found(100);
        }
        let all = (10 * (data.query_offsets.len() - 1)) as f64;
        agreements.push(Agreement {
            element,
            best_10: best_10 as f64 / all,
            of_best_100: of_best_100 as f64 / all,
        });
    }
    Ok(agreements)
}

struct Data {
    dim: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    rotation: Vec<f32>,
    offsets: Vec<usize>,
    queries: Vec<f32>,
    query_offsets: Vec<usize>,
    /// The exact best documents of each query.
    exact: Vec<usize>,
    exact_len: usize,
}

impl Data {
    fn read(folder: &Path) -> Result<Data, Box<dyn Error>> {
        let read = |name: &str, kind: &str| Array::read(&folder.join(name), kind);
        let (codes, scales) = (read("docs.i8.npy", "|i1")?, read("docs.scale.npy", "<f2")?);
        let exact = ["<i4", "<i8"]
            .iter()
            .find_map(|kind| read("gt.ids.npy", kind).ok())
            .ok_or("gt.ids.npy")?;
        Ok(Data {
            dim: codes.columns,
            codes: codes.bytes.iter().map(|&byte| byte as i8).collect(),
            scales: maxsim::decode_f16(&scales.bytes, 1)?,
            rotation: read("rot.npy", "<f4")?.floats(),
            offsets: read("docs.off.npy", "<i8")?.integers(),
            queries: read("queries.f32.npy", "<f4")?.floats(),
            query_offsets: read("queries.off.npy", "<i8")?.integers(),
            exact_len: exact.columns,
            exact: exact.integers(),
        })
    }

    /// The unit vectors of tokens `from..to`: rows of codes × scale × rotation.
    fn tokens(&self, from: usize, to: usize) -> Vec<f32> {
        let mut values = vec![0.0f32; (to - from) * self.dim];
        for (token, row) in (from..to).zip(values.chunks_exact_mut(self.dim)) {
            let codes = &self.codes[token * self.dim..][..self.dim];
            for (&code, rotation) in codes.iter().zip(self.rotation.chunks_exact(self.dim)) {
                let code = f32::from(code) * self.scales[token];
                row.iter_mut()
                    .zip(rotation)
                    .for_each(|(value, rotation)| *value += code * rotation);
            }
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            row.iter_mut().for_each(|value| *value /= norm);
        }
        values
    }
}

/// An array in NumPy's format, as far as the data needs it: version 1, row-major, one or two axes.
struct Array {
    bytes: Vec<u8>,
    columns: usize,
    size: usize,
}

impl Array {
    fn read(file: &Path, kind: &str) -> Result<Array, Box<dyn Error>> {
        let wrong = |what: &str| format!("{}: {what}", file.display());
        let bytes = std::fs::read(file).map_err(|error| wrong(&error.to_string()))?;
        let header = bytes
            .get(10..10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]])))
            .ok_or(wrong("short"))?;
        let header = std::str::from_utf8(header)?;
        if !header.contains(&format!("'{kind}'")) || !header.contains("'fortran_order': False") {
            return Err(wrong(&format!("not {kind}, row-major")).into());
        }
        let shape = header
            .split_once("'shape': (")
            .and_then(|(_, rest)| rest.split_once(')'))
            .ok_or(wrong("no shape"))?
            .0;
        let columns = shape
            .split(',')
            .nth(1)
            .and_then(|columns| columns.trim().parse().ok())
            .unwrap_or(1);
        let size = kind[2..].parse()?;
        Ok(Array {
            bytes: bytes[10 + header.len()..].to_vec(),
            columns,
            size,
        })
    }

    fn floats(&self) -> Vec<f32> {
        self.bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    }

    fn integers(&self) -> Vec<usize> {
        let integer = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | usize::from(byte))
        };
        self.bytes.chunks_exact(self.size).map(integer).collect()
    }
}
