//! How well each element type ranks: agreement of its best 10 with the exact best 10 on `scifact3k`.
//!
//! Used by the bench and by a test that holds the project's bars.

use std::error::Error;

use maxsim::{Query, encode_bit, encode_f16, encode_int8};

use crate::data::{Data, folder};

/// The result for one element type, both means over all queries.
pub(crate) struct Agreement {
    pub element: &'static str,
    /// The share of the exact best 10 among its own best 10.
    pub best_10: f64,
    /// The share of them among its best 100: what is left after scoring those exactly.
    pub of_best_100: f64,
}

/// Ranks the collection by every compact element type. Nothing when the data is not there.
pub(crate) fn measure() -> Result<Vec<Agreement>, Box<dyn Error>> {
    let Some(folder) = folder("scifact3k") else {
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
