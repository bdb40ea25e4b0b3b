//! Inserting a row; and, once there are enough, training the index.
//!
//! Not obvious: a document that came before the codebook keeps its flat codes for ever, so training
//! changes nothing that is in the index, and whoever still inserts flat documents meanwhile is right
//! too. The backend that trains reads rows of the table: vacuum could not, because others ignore its
//! snapshot.

use maxsim_index::{Codebook, encode_flat};
use pgrx::{check_for_interrupts, pg_guard, pg_sys};

use super::codebook;
use super::document::DocumentType;
use super::heap::Rows;
use super::meta::Meta;
use super::sample::{Reservoir, Tokens};
use super::signature::{sweep, tid_number};
use super::store::Store;
use super::training_lock::TrainingLock;
use super::wal::{Index, Log};
use super::{maintenance_bytes, options};
use crate::error::SqlError;

/// Entries of a page between two looks at whether the index wants training.
const LOOK_EVERY: u16 = 32;
/// Tokens in a flat index from which it is trained: about 2,000 passages, or 160 pages.
pub(super) const TRAIN_AT: u64 = 160_000;
/// As how many tokens a shorter document counts there: reading its codes takes a search as long.
const FEWEST_TOKENS: u64 = 16;
/// Seed of the training: an index built twice of the same rows is the same.
pub(super) const SEED: u64 = 1;

/// What a document counts towards [`TRAIN_AT`].
pub(super) fn weight(tokens: u64) -> u64 {
    tokens.max(FEWEST_TOKENS)
}

#[pg_guard]
#[allow(clippy::too_many_arguments)] // PostgreSQL's signature
pub(super) unsafe extern "C-unwind" fn insert(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    tid: pg_sys::ItemPointer,
    heap: pg_sys::Relation,
    _unique: pg_sys::IndexUniqueCheck::Type,
    #[cfg(not(feature = "pg13"))] _unchanged: bool,
    _info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: called by PostgreSQL with open relations and one value.
    unsafe {
        if !*nulls {
            let tid = tid_number(&*tid);
            insert_document(index, heap, *values, tid).unwrap_or_else(|error| error.raise());
        }
    }
    false
}

/// # Safety
/// Open relations, a document of the index's type.
unsafe fn insert_document(
    relation: pg_sys::Relation,
    heap: pg_sys::Relation,
    datum: pg_sys::Datum,
    tid: u64,
) -> Result<(), SqlError> {
    // SAFETY: the caller vouches for the arguments.
    let (index, (document, dim)) = unsafe {
        let index = Index::new(relation, Log::AtOnce);
        (index, DocumentType::of(relation).values(datum)?)
    };
    let meta = agree_on_dimension(&index, heap, dim)?;
    let codebook = codebook::get(&index, &meta)?;
    let mut poll = || {
        check_for_interrupts!();
    };
    let encoded = match &codebook {
        Some(codebook) => codebook.encode(&document, &mut poll),
        None => encode_flat(&document, dim, &mut poll),
    };
    drop(document);
    let mut store = Store::remembered(index, &meta);
    let count = store.put(tid, &encoded, meta.is_trained())?;
    store.remember();
    if !meta.is_trained() && count % LOOK_EVERY == 1 {
        // SAFETY: as above.
        unsafe { train_if_due(&index, heap)? };
    }
    Ok(())
}

/// The first document fixes an index's dimension; an index that is empty again takes another.
fn agree_on_dimension(index: &Index, heap: pg_sys::Relation, dim: usize) -> Result<Meta, SqlError> {
    let meta = Meta::read(index)?;
    if meta.dim as usize == dim {
        return Ok(meta);
    }
    if meta.dim != 0 {
        // SAFETY: the caller's table is open. Nobody may be about to add a document of the old dimension.
        if meta.is_trained() || !unsafe { is_only_writer(heap) } {
            return Err(SqlError::index_dimension(dim, meta.dim));
        }
        let mut is_empty = true;
        sweep(index, &meta, |_, _, _| {
            is_empty = false;
            Ok(())
        })?;
        if !is_empty {
            return Err(SqlError::index_dimension(dim, meta.dim));
        }
    }
    let meta = Meta::update(index, |now| {
        if now.dim == meta.dim {
            now.dim = dim as u32;
        }
    })?;
    if meta.dim as usize != dim {
        return Err(SqlError::index_dimension(dim, meta.dim));
    }
    Ok(meta)
}

/// Locks other writers out of a table until the transaction ends, unless there are any.
///
/// # Safety
/// The table is open.
unsafe fn is_only_writer(heap: pg_sys::Relation) -> bool {
    let mode = pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: an open relation.
    unsafe { pg_sys::ConditionalLockRelation(heap, mode) }
}

/// Trains the index if it has grown enough and nobody else is at it.
///
/// # Safety
/// Open relations.
unsafe fn train_if_due(index: &Index, heap: pg_sys::Relation) -> Result<(), SqlError> {
    let meta = Meta::read(index)?;
    let (mut tokens, mut weights) = (0, 0);
    let mut picked = Reservoir::new(maintenance_bytes());
    sweep(index, &meta, |_, entry, _| {
        tokens += u64::from(entry.tokens);
        weights += weight(entry.tokens.into());
        picked.offer(size_of::<u64>(), || entry.tid());
        Ok(())
    })?;
    // SAFETY: reading documents needs a snapshot that keeps them.
    if meta.is_trained() || weights < meta.train_at || unsafe { !pg_sys::ActiveSnapshotSet() } {
        return Ok(());
    }
    // SAFETY: an open index.
    let Some(lock) = (unsafe { TrainingLock::try_take(index.relation) }) else {
        return Ok(());
    };
    // If this is cancelled or fails, the next try is when there are twice as many: nobody's inserts
    // are to fail one after the other.
    let mut is_due = false;
    let meta = Meta::update(index, |now| {
        is_due = !now.is_trained() && now.train_at == meta.train_at;
        if is_due {
            now.train_at = 2 * weights;
        }
    })?;
    if is_due {
        // SAFETY: as above.
        unsafe { train(index, heap, &meta, picked, tokens)? };
    }
    lock.release();
    Ok(())
}

/// # Safety
/// Open relations; the caller has the lock on training.
unsafe fn train(
    index: &Index,
    heap: pg_sys::Relation,
    meta: &Meta,
    picked: Reservoir<u64>,
    tokens: u64,
) -> Result<(), SqlError> {
    let dim = meta.dim as usize;
    // SAFETY: an open index.
    let lists =
        unsafe { options::lists(index.relation) }.unwrap_or_else(|| Codebook::lists_for(tokens));
    let wanted = Codebook::sample_size(lists, tokens, dim, maintenance_bytes());
    let mut sample = Tokens::new(dim);
    // SAFETY: open relations. SnapshotSelf also sees the rows of the statement that runs; what it sees
    // of others' rows the transaction's own snapshot keeps from being removed.
    unsafe {
        let type_ = DocumentType::of(index.relation);
        let snapshot = &raw mut pg_sys::SnapshotSelfData;
        let mut rows = Rows::open(heap, index.relation, snapshot);
        let picked = picked.shuffled();
        let count = picked.len();
        for (at, tid) in picked.into_iter().enumerate() {
            if sample.len() >= wanted {
                break;
            }
            sample.want(wanted, count - at);
            rows.with_document(tid, |datum| sample.add(type_, datum))
                .transpose()?;
        }
        rows.close();
    }
    sample.values.truncate(wanted * dim);
    // Of memory, not of rows, there may be less than so many lists want.
    let lists = lists.min(wanted);
    if sample.len() < lists {
        return Ok(());
    }
    let mut poll = || {
        check_for_interrupts!();
    };
    let codebook = Codebook::train(&sample.values, dim, lists, SEED, 1, &mut poll);
    drop(sample);
    let written = codebook::write(index, &codebook);
    Meta::update(index, |now| now.set_codebook(&codebook, &written))?;
    Ok(())
}
