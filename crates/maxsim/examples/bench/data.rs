//! The evaluation data of real token vectors, which is not part of the repository: it is looked for in
//! `$INFINITY_EMBED_SHARED/data`, and in `../shared/data` beside the repository.
//!
//! Used by this crate's bench and test of recall, and by the gate of `maxsim-index`.

use std::error::Error;
use std::path::{Path, PathBuf};

/// The folder of a collection, if it is there.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("INFINITY_EMBED_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("data").join(name);
    folder.is_dir().then_some(folder)
}

/// `scifact3k`.
pub(crate) struct Data {
    pub(crate) dim: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    rotation: Vec<f32>,
    pub(crate) offsets: Vec<usize>,
    pub(crate) queries: Vec<f32>,
    pub(crate) query_offsets: Vec<usize>,
    /// The exact best documents of each query.
    pub(crate) exact: Vec<usize>,
    /// How many there are of each query.
    pub(crate) exact_len: usize,
}

impl Data {
    pub(crate) fn read(folder: &Path) -> Result<Data, Box<dyn Error>> {
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
    pub(crate) fn tokens(&self, from: usize, to: usize) -> Vec<f32> {
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
pub(crate) struct Array {
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

    pub(crate) fn floats(&self) -> Vec<f32> {
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
