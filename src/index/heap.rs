//! Rows of the indexed table: a document fetched by its row's place, as a snapshot sees it.
//!
//! Used by searches, for exact scores, and by training. Not obvious: nothing is released in a destructor,
//! because after an error PostgreSQL has already released it; [`Rows::close`] ends a use that went well.

use pgrx::pg_sys;

use super::signature::tid_pointer;
use crate::error::SqlError;

/// A way to the rows of a table.
pub(super) struct Rows {
    heap: pg_sys::Relation,
    fetch: *mut pg_sys::IndexFetchTableData,
    snapshot: pg_sys::Snapshot,
    slot: *mut pg_sys::TupleTableSlot,
    info: *mut pg_sys::IndexInfo,
    estate: *mut pg_sys::EState,
    /// Blocks that the table is known to have, and the row in the slot.
    blocks: u32,
    fetched: Option<u64>,
}

impl Rows {
    /// Memory is that of the current context, which must live as long.
    ///
    /// # Safety
    /// Table and index are open, the snapshot is registered; all stay so.
    pub(super) unsafe fn open(
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        snapshot: pg_sys::Snapshot,
    ) -> Rows {
        // SAFETY: the caller vouches for the arguments. An executor state is for expressions only, and
        // the description of the index is one of our own, because it keeps their state.
        unsafe {
            let info = pg_sys::BuildIndexInfo(index);
            let slot = pg_sys::table_slot_create(heap, std::ptr::null_mut());
            let estate = pg_sys::CreateExecutorState();
            (*pg_sys::MakePerTupleExprContext(estate)).ecxt_scantuple = slot;
            Rows {
                heap,
                fetch: pg_sys::table_index_fetch_begin(heap),
                snapshot,
                slot,
                info,
                estate,
                blocks: 0,
                fetched: None,
            }
        }
    }

    /// The row, if the snapshot sees one there; it stays pinned until the next, or until it is released.
    pub(super) fn fetch(&mut self, tid: u64) -> Option<*mut pg_sys::TupleTableSlot> {
        if self.fetched == Some(tid) {
            return Some(self.slot);
        }
        self.release();
        if tid >> 16 >= u64::from(self.blocks) {
            self.blocks = check_place(self.heap, tid).unwrap_or_else(|error| error.raise());
        }
        let mut place = tid_pointer(tid);
        let (mut again, mut dead) = (false, false);
        // SAFETY: opened by `open`.
        let found = unsafe {
            pg_sys::table_index_fetch_tuple(
                self.fetch,
                &mut place,
                self.snapshot,
                self.slot,
                &mut again,
                &mut dead,
            )
        };
        self.fetched = found.then_some(tid);
        found.then_some(self.slot)
    }

    /// Calls `body` with the document of the row, if the snapshot sees a row there that has one.
    pub(super) fn with_document<R>(
        &mut self,
        tid: u64,
        body: impl FnOnce(pg_sys::Datum) -> R,
    ) -> Option<R> {
        let slot = self.fetch(tid)?;
        let (mut values, mut nulls) = ([pg_sys::Datum::from(0); 1], [true; 1]);
        // SAFETY: opened by `open`. The index has one column, and so one value is formed. What it
        // allocates, and what `body` does in PostgreSQL's memory, goes with the next row's reset.
        unsafe {
            let context = (*(*self.estate).es_per_tuple_exprcontext).ecxt_per_tuple_memory;
            pg_sys::MemoryContextReset(context);
            let caller = pg_sys::MemoryContextSwitchTo(context);
            pg_sys::FormIndexDatum(
                self.info,
                slot,
                self.estate,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let result = (!nulls[0]).then(|| body(values[0]));
            pg_sys::MemoryContextSwitchTo(caller);
            result
        }
    }

    /// Gives back the page of the row in the slot.
    pub(super) fn release(&mut self) {
        if self.fetched.take().is_some() {
            // SAFETY: opened by `open`.
            unsafe { pg_sys::ExecClearTuple(self.slot) };
        }
    }

    pub(super) fn close(self) {
        // SAFETY: opened by `open`, closed once. The state of expressions was made in `estate`.
        unsafe {
            pg_sys::table_index_fetch_end(self.fetch);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            (*self.info).ii_ExpressionsState = std::ptr::null_mut();
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}

/// How many blocks the table has.
///
/// # Errors
/// XX002 for a place beyond the table's end, which PostgreSQL must not be asked to read: of the last block
/// that there could be it would make a new one.
pub(super) fn check_place(heap: pg_sys::Relation, tid: u64) -> Result<u32, SqlError> {
    let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
    // SAFETY: an open table.
    let blocks = unsafe { pg_sys::RelationGetNumberOfBlocksInFork(heap, fork) };
    if tid >> 16 >= u64::from(blocks) {
        return Err(SqlError::index_row(tid, "does not exist"));
    }
    Ok(blocks)
}
