//! What an index is made of, and what the last search of this session did.

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

use super::insert::weight;
use super::meta::Meta;
use super::opened::Opened;
use super::page::PAGE_BYTES;
use super::signature::{Extents, FLAT, LATER, sweep};
use crate::error::SqlError;

/// Mean residual of later documents over that of those built, or trained on, from which other centroids would be better: at
/// 1.18, 40,000 passages in an index trained on the first 2,000 of them, a search refines a fifth more documents to keep
/// their order.
const DRIFTED: f64 = 1.15;
/// Documents without centroids from which a search notices them.
const MANY_FLAT: u64 = 5_000;

/// `infinity_embed.index_info(regclass)`
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // pgrx reads the type as it is written here
fn maxsim_index_info(
    index: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(documents, i64),
        name!(tokens, i64),
        name!(flat_documents, i64),
        name!(dimensions, i32),
        name!(lists, i32),
        name!(signature_bytes, i64),
        name!(code_bytes, i64),
        name!(codebook_bytes, i64),
        name!(drift, Option<f64>),
        name!(advice, String),
    ),
> {
    let parts = Parts::of(index).unwrap_or_else(|error| error.raise());
    let blocks = |number: u32| i64::from(number) * PAGE_BYTES as i64;
    let advice = parts.advice();
    TableIterator::once((
        parts.documents as i64,
        parts.tokens as i64,
        parts.flat as i64,
        parts.meta.dim as i32,
        parts.meta.lists as i32,
        blocks(parts.signature_blocks),
        blocks(parts.blocks - 1 - parts.signature_blocks - parts.codebook_blocks),
        blocks(parts.codebook_blocks),
        parts.drift(),
        advice,
    ))
}

struct Parts {
    meta: Meta,
    documents: u64,
    tokens: u64,
    flat: u64,
    /// Tokens that came after training, and the sum of |token − centroid|² over them.
    later_tokens: u64,
    later_residual: f64,
    blocks: u32,
    signature_blocks: u32,
    codebook_blocks: u32,
}

impl Parts {
    fn of(oid: pg_sys::Oid) -> Result<Parts, SqlError> {
        let opened = Opened::open_to_read(oid)?;
        let index = opened.index();
        let meta = Meta::read(&index)?;
        let codebook_blocks = super::codebook::blocks(&index, &meta).count() as u32;
        let mut parts = Parts {
            meta,
            documents: 0,
            tokens: 0,
            flat: 0,
            later_tokens: 0,
            later_residual: 0.0,
            blocks: 0,
            signature_blocks: 0,
            codebook_blocks,
        };
        for extent in Extents::new(&index, meta.first_extent) {
            parts.signature_blocks += extent?.1;
        }
        sweep(&index, &meta, |_, entry, _| {
            let tokens = u64::from(entry.tokens);
            parts.documents += 1;
            parts.tokens += tokens;
            parts.flat += u64::from(entry.flags & FLAT != 0);
            if entry.flags & LATER != 0 {
                parts.later_tokens += tokens;
                parts.later_residual += f64::from(entry.residual) * tokens as f64;
            }
            Ok(())
        })?;
        parts.blocks = index
            .blocks()
            .max(1 + parts.signature_blocks + codebook_blocks);
        opened.close();
        Ok(parts)
    }

    /// How much farther later tokens are from their centroids than those of the build, or the training, were: 1 is as
    /// far. None where none came later.
    fn drift(&self) -> Option<f64> {
        let later = self.later_residual / self.later_tokens as f64;
        (self.later_tokens > 0 && self.meta.mean_residual > 0.0)
            .then(|| later / self.meta.mean_residual)
    }

    fn advice(&self) -> String {
        if self.documents == 0 {
            return "The index is empty.".to_owned();
        }
        if !self.meta.is_trained() {
            return format!(
                "The index is not trained yet; it will be, by an insert, at {} tokens (of a document at least {}). Until then all its codes are read by every search.",
                self.meta.train_at,
                weight(0)
            );
        }
        match self.drift() {
            Some(drift) if drift > DRIFTED => format!(
                "Later documents differ from those of the training (drift {drift:.2}): REINDEX INDEX CONCURRENTLY gives the index centroids that fit."
            ),
            _ if self.flat > MANY_FLAT => format!(
                "{} documents came before the index was trained: REINDEX INDEX CONCURRENTLY makes searches faster.",
                self.flat
            ),
            _ => "Nothing to do.".to_owned(),
        }
    }
}

/// `infinity_embed.last_search()`: no row where this session has not searched an index.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // pgrx reads the type as it is written here
fn maxsim_last_search() -> TableIterator<
    'static,
    (
        name!(swept, i64),
        name!(refined, i64),
        name!(scored, i64),
        name!(filtered, i64),
    ),
> {
    let counts = super::scan::last_counts();
    TableIterator::new(counts.into_iter().map(|counts| {
        (
            counts.swept as i64,
            counts.refined as i64,
            counts.scored as i64,
            counts.dropped as i64,
        )
    }))
}
