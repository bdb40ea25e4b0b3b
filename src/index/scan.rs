//! Searching: sweep all signatures once, then give rows best first for as long as they are asked for.
//!
//! Not obvious: everything a search keeps between two rows hangs on a memory context of the scan, so
//! that an error frees it too; pins and snapshots are PostgreSQL's and are given back in `end` only.
//! Rows are told apart from those that took their place by the snapshot: what vacuum frees while we
//! search can only be reused by rows younger than the snapshot, which it does not see.

use std::cell::Cell;
use std::sync::Arc;

use maxsim_index::{Codebook, Counts, Document, Search, Source};
use pgrx::{PgMemoryContexts, check_for_interrupts, pg_guard, pg_sys};

use super::codebook;
use super::codes;
use super::condition::Condition;
use super::document::DocumentType;
use super::heap::{Rows, check_place};
use super::meta::Meta;
use super::signature::{FLAT, LATER, sweep, tid_pointer};
use super::wal::{Index, Log};
use crate::error::SqlError;
use crate::maxsim::{Prepared, score_document};
use crate::settings;

thread_local! {
    /// What the last search of this backend did.
    static LAST: Cell<Option<Counts>> = const { Cell::new(None) };
}

/// What the last search of this backend did.
pub(super) fn last_counts() -> Option<Counts> {
    LAST.get()
}

/// Our part of a scan.
struct State {
    context: pg_sys::MemoryContext,
    running: *mut Running,
    /// Of the searches before, where a scan is repeated.
    before: Counts,
}

/// A search under way. Dropped with the scan's memory context.
enum Running {
    /// `@# NULL` is NULL for every row: they come in any order.
    Unordered(Vec<u64>),
    Ordered(Box<Ordered>),
}

struct Ordered {
    /// Borrows from `codebook`, which is not touched and outlives it: fields are dropped in order.
    search: Search<'static>,
    _codebook: Option<Arc<Codebook>>,
    query: Prepared,
    rows: Option<Rows>,
    condition: Option<Condition>,
    /// Blocks that the index is known to have.
    blocks: u32,
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn begin(
    index: pg_sys::Relation,
    keys: std::ffi::c_int,
    orders: std::ffi::c_int,
) -> pg_sys::IndexScanDesc {
    // SAFETY: called by PostgreSQL with an open index; the memory is the scan's.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, keys, orders);
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"maxsim index scan".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let state = pg_sys::palloc0(size_of::<State>()).cast::<State>();
        (*state).context = context;
        (*scan).opaque = state.cast();
        if orders > 0 {
            (*scan).xs_orderbyvals =
                pg_sys::palloc0(size_of::<pg_sys::Datum>() * orders as usize).cast();
            (*scan).xs_orderbynulls = pg_sys::palloc0(orders as usize).cast();
        }
        scan
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn rescan(
    scan: pg_sys::IndexScanDesc,
    keys: pg_sys::ScanKey,
    key_count: std::ffi::c_int,
    orders: pg_sys::ScanKey,
    order_count: std::ffi::c_int,
) {
    // SAFETY: called by PostgreSQL with as many keys as `begin` was told of.
    unsafe {
        stop(scan);
        if !keys.is_null() && key_count > 0 {
            std::ptr::copy(keys, (*scan).keyData, key_count as usize);
        }
        if !orders.is_null() && order_count > 0 {
            std::ptr::copy(orders, (*scan).orderByData, order_count as usize);
        }
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn next(
    scan: pg_sys::IndexScanDesc,
    _direction: pg_sys::ScanDirection::Type,
) -> bool {
    // SAFETY: called by PostgreSQL between `rescan` and `end`; the state is ours alone.
    unsafe {
        let state = &mut *(*scan).opaque.cast::<State>();
        if state.running.is_null() {
            let running = start(scan, state).unwrap_or_else(|error| error.raise());
            state.running = PgMemoryContexts::For(state.context).leak_and_drop_on_delete(running);
        }
        let found = match &mut *state.running {
            Running::Unordered(rows) => rows.pop().map(|tid| (tid, None)),
            Running::Ordered(ordered) => ordered
                .next(scan)
                .unwrap_or_else(|error| error.raise())
                .map(|(tid, score)| (tid, Some(score))),
        };
        let Some((tid, score)) = found else {
            return false;
        };
        (*scan).xs_heaptid = tid_pointer(tid);
        (*scan).xs_recheck = false;
        (*scan).xs_recheckorderby = false;
        *(*scan).xs_orderbyvals = pg_sys::Float8GetDatum(-score.unwrap_or_default());
        *(*scan).xs_orderbynulls = score.is_none();
        true
    }
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn end(scan: pg_sys::IndexScanDesc) {
    // SAFETY: called by PostgreSQL once.
    unsafe {
        stop(scan);
        let state = (*scan).opaque.cast::<State>();
        pg_sys::MemoryContextDelete((*state).context);
    }
}

/// Ends the search, if one is under way.
///
/// # Safety
/// A scan that `begin` made.
unsafe fn stop(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the state is ours alone.
    unsafe {
        let state = &mut *(*scan).opaque.cast::<State>();
        if let Some(Running::Ordered(ordered)) = state.running.as_mut()
            && let Some(rows) = ordered.rows.take()
        {
            rows.close();
            state.before += ordered.search.counts();
        }
        state.running = std::ptr::null_mut();
        pg_sys::MemoryContextReset(state.context);
    }
}

/// What all searches of a scan did so far, for EXPLAIN.
///
/// # Safety
/// A scan that `begin` made.
#[cfg(feature = "pg18")]
pub(super) unsafe fn counts(scan: pg_sys::IndexScanDesc) -> Counts {
    // SAFETY: the state is ours alone.
    unsafe {
        let state = &*(*scan).opaque.cast::<State>();
        let mut counts = state.before;
        if let Some(Running::Ordered(ordered)) = state.running.as_ref() {
            counts += ordered.search.counts();
        }
        counts
    }
}

/// Sweeps the signatures.
///
/// # Safety
/// A scan that `begin` made and `rescan` gave its keys.
unsafe fn start(scan: pg_sys::IndexScanDesc, state: &State) -> Result<Running, SqlError> {
    // SAFETY: keys and relations of an open scan.
    unsafe {
        if (*scan).numberOfOrderBys != 1 {
            return Err(SqlError::index_without_order());
        }
        let snapshot = (*scan).xs_snapshot;
        if snapshot.is_null() || (*snapshot).snapshot_type != pg_sys::SnapshotType::SNAPSHOT_MVCC {
            return Err(SqlError::index_needs_mvcc());
        }
        count_scan((*scan).indexRelation);
        #[cfg(feature = "pg18")]
        if let Some(instrument) = (*scan).instrument.as_mut() {
            instrument.nsearches += 1; // EXPLAIN (ANALYZE) shows it
        }
        let index = Index::new((*scan).indexRelation, Log::AtOnce);
        let meta = Meta::read(&index)?;
        let order = &*(*scan).orderByData;
        if order.sk_flags & pg_sys::SK_ISNULL as i32 != 0 {
            let mut rows = Vec::new();
            sweep(&index, &meta, |_, entry, _| {
                rows.push(entry.tid());
                check_place((*scan).heapRelation, entry.tid()).map(drop)
            })?;
            return Ok(Running::Unordered(rows));
        }
        let query = DocumentType::named(order.sk_subtype).vectors(order.sk_argument);
        let mut ordered = Ordered::new(&index, &meta, &query)?;
        let now = Meta::read(&index)?;
        if (now.dim, now.codebook_id) != (meta.dim, meta.codebook_id) {
            // An insert trained it while we swept, so that entries may name centroids we do not know.
            ordered = Ordered::new(&index, &now, &query)?;
        }
        let caller = pg_sys::MemoryContextSwitchTo(state.context);
        let rows = Rows::open((*scan).heapRelation, (*scan).indexRelation, snapshot);
        pg_sys::MemoryContextSwitchTo(caller);
        Ok(Running::Ordered(Box::new(Ordered {
            rows: Some(rows),
            condition: Condition::of(scan),
            ..ordered
        })))
    }
}

impl Ordered {
    fn new(
        index: &Index,
        meta: &Meta,
        query: &crate::maxsim::Vectors,
    ) -> Result<Ordered, SqlError> {
        let prepared = Prepared::new(query)?;
        let (values, dim) = query.values("query")?;
        if meta.dim != 0 {
            prepared.check_dim(meta.dim as usize)?;
        }
        let codebook = codebook::get(index, meta)?;
        let borrowed = codebook.as_deref().map(|codebook| {
            // SAFETY: behind an Arc that the result keeps, and drops after the search.
            unsafe { &*std::ptr::from_ref(codebook) }
        });
        let mut poll = || {
            check_for_interrupts!();
        };
        let mut search = Search::new(&values, dim, settings::search_effort(), borrowed, &mut poll);
        let (mut tokens, mut residual) = (0.0, 0.0);
        sweep(index, meta, |block, entry, ids| {
            // What a build had before it is what drift is measured against.
            if entry.flags & FLAT == 0 {
                let is_later = entry.flags & LATER != 0;
                let each = if is_later {
                    entry.residual.into()
                } else {
                    meta.mean_residual
                };
                tokens += f64::from(entry.tokens);
                residual += each * f64::from(entry.tokens);
            }
            let document = Document {
                tid: entry.tid(),
                place: entry.place(),
            };
            search
                .add(document, ids)
                .map_err(|_| SqlError::index_page(block))
        })?;
        search.set_drift(residual / tokens / meta.mean_residual);
        Ok(Ordered {
            search,
            _codebook: codebook,
            query: prepared,
            rows: None,
            condition: None,
            blocks: 0,
        })
    }

    /// The next row and its score.
    ///
    /// # Safety
    /// The scan this belongs to.
    unsafe fn next(&mut self, scan: pg_sys::IndexScanDesc) -> Result<Option<(u64, f64)>, SqlError> {
        // SAFETY: open relations of an open scan.
        let (index, type_) = unsafe {
            let relation = (*scan).indexRelation;
            (
                Index::new(relation, Log::AtOnce),
                DocumentType::of(relation),
            )
        };
        let mut source = Pages {
            index,
            type_,
            query: &self.query,
            rows: self.rows.as_mut().expect("opened by `start`"),
            condition: self.condition.as_ref(),
            blocks: &mut self.blocks,
        };
        let hit = self.search.next(&mut source);
        source.rows.release();
        LAST.set(Some(self.search.counts()));
        let hit = hit.map_err(|_| SqlError::index_page(super::meta::META_BLOCK))?;
        Ok(hit.map(|hit| (hit.document.tid, hit.score)))
    }
}

/// What a search reads: codes from the index, documents from the table.
struct Pages<'a> {
    index: Index,
    type_: DocumentType,
    query: &'a Prepared,
    rows: &'a mut Rows,
    condition: Option<&'a Condition>,
    blocks: &'a mut u32,
}

impl Source for Pages<'_> {
    fn codes(&mut self, document: &Document, codes: &mut Vec<u8>) -> bool {
        codes::read(
            &self.index,
            self.blocks,
            document.tid,
            document.place,
            codes,
        )
        .unwrap_or_else(|error| error.raise())
    }

    fn score(&mut self, document: &Document) -> Option<f64> {
        let score = self.rows.with_document(document.tid, |datum| {
            // SAFETY: a document of the index's type, valid until the next row.
            let vectors = unsafe { self.type_.vectors(datum) };
            score_document(&vectors, self.query)
        })?;
        Some(score.unwrap_or_else(|error| error.raise()))
    }

    fn keeps(&mut self, document: &Document) -> bool {
        let Some(condition) = self.condition else {
            return true;
        };
        let slot = self.rows.fetch(document.tid);
        // SAFETY: the node of this scan, which is being executed, and a row of its table.
        slot.is_some_and(|slot| unsafe { condition.holds(slot) })
    }

    fn poll(&mut self) {
        check_for_interrupts!();
    }
}

/// For `pg_stat_user_indexes.idx_scan`.
///
/// # Safety
/// The index is open.
unsafe fn count_scan(index: pg_sys::Relation) {
    #[cfg(feature = "pg15")]
    // SAFETY: as PostgreSQL's own macro does it.
    unsafe {
        if (*index).pgstat_info.is_null() && (*index).pgstat_enabled {
            pg_sys::pgstat_assoc_relation(index);
        }
        if let Some(info) = (*index).pgstat_info.as_mut() {
            info.t_counts.t_numscans += 1;
        }
    }
    #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
    // SAFETY: as PostgreSQL's own macro does it.
    unsafe {
        if (*index).pgstat_info.is_null() && (*index).pgstat_enabled {
            pg_sys::pgstat_assoc_relation(index);
        }
        if let Some(info) = (*index).pgstat_info.as_mut() {
            info.counts.numscans += 1;
        }
    }
    #[cfg(any(feature = "pg13", feature = "pg14"))]
    let _ = index;
}
