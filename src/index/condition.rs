//! The condition of the plan node that scans an index (its `WHERE`): a row that fails it needs no score.
//!
//! PostgreSQL tells an access method nothing of the condition, and evaluates it on what the scan returns. Here it is
//! evaluated first, on the row that is fetched for its score anyway; PostgreSQL then does so again. Where the node is not
//! found, or the condition is not a plain one, a scan returns rows as they come.
//!
//! Not obvious: the node is found by a hook at the executor's start, which runs for every statement of a session
//! that has opened such an index. It must not catch PostgreSQL's errors, as pgrx would: what passed through it would lose
//! fields that errors of others have. An error of the condition itself does lose some (the names of a domain's constraint
//! and of its type), since frames of Rust lie between: message, SQLSTATE, detail and hint stay.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};

use pgrx::{pg_guard, pg_sys};

use super::opened::is_ours;

/// How dear a condition may be, in units of `cpu_operator_cost`: a score's tenth. Each function in C counts 1, one in
/// another language 100.
const DEAR: f64 = 90.0;

thread_local! {
    /// Who else had the hook.
    static OTHER: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
    /// Whether this process has opened a `maxsim` index: otherwise no plan has one.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
    /// Nodes being executed that scan such an index under a plain condition.
    static NODES: RefCell<Vec<*mut pg_sys::IndexScanState>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C-unwind" {
    /// The same as pgrx's, but for the error that is not caught.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
}

/// Called from `_PG_init`.
pub(super) fn define() {
    // SAFETY: on the main thread, while the library is loaded.
    unsafe {
        OTHER.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(start);
    }
}

/// From now on plans may scan such an index.
pub(super) fn expect() {
    EXPECTED.set(true);
}

/// The hook. Nothing here has a destructor, and an error of PostgreSQL's may jump over it.
unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: called by PostgreSQL as the hook; passed on to whom it would have called.
    unsafe {
        match OTHER.get() {
            Some(other) => other(query, flags),
            None => standard_ExecutorStart(query, flags),
        }
        if EXPECTED.get() {
            note((*query).planstate);
        }
    }
}

/// Notes the nodes of a plan that has been started.
#[pg_guard]
unsafe extern "C-unwind" fn note(plan: *mut pg_sys::PlanState) {
    // SAFETY: a plan state of PostgreSQL's; `visit` changes nothing in it.
    unsafe { visit(plan, std::ptr::null_mut()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::PlanState, nothing: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: a node says what it is. The callback lies in memory that lives as long as the node.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_IndexScanState && has_plain_condition(node.cast()) {
            let memory = (*(*node).state).es_query_cxt;
            let size = size_of::<pg_sys::MemoryContextCallback>();
            let callback =
                pg_sys::MemoryContextAlloc(memory, size).cast::<pg_sys::MemoryContextCallback>();
            (*callback).func = Some(forget);
            (*callback).arg = node.cast();
            pg_sys::MemoryContextRegisterResetCallback(memory, callback);
            NODES.with_borrow_mut(|nodes| nodes.push(node.cast()));
        }
        pg_sys::planstate_tree_walker(node, Some(visit), nothing)
    }
}

/// The node's memory goes.
unsafe extern "C-unwind" fn forget(node: *mut c_void) {
    NODES.with_borrow_mut(|nodes| nodes.retain(|known| known.cast() != node));
}

/// Whether a node scans a `maxsim` index under a condition that may be evaluated more than once, and on rows that
/// PostgreSQL would not come to.
///
/// # Safety
/// An initialised node.
unsafe fn has_plain_condition(node: *mut pg_sys::IndexScanState) -> bool {
    // SAFETY: the caller vouches for the node. It has no index where the plan is only explained.
    unsafe {
        let index = (*node).iss_RelationDesc;
        !index.is_null()
            && !(*node).ss.ps.qual.is_null()
            && is_ours(index)
            && is_plain((*(*node).ss.ps.plan).qual, std::ptr::null_mut())
    }
}

/// Whether a search asks a condition itself: the planner's estimate says the same as what is done then.
///
/// # Safety
/// A list of clauses; `root` is the planner's or null.
pub(super) unsafe fn is_plain(clauses: *mut pg_sys::List, root: *mut pg_sys::PlannerInfo) -> bool {
    // SAFETY: the caller vouches for both.
    unsafe {
        if clauses.is_null()
            || pg_sys::contain_volatile_functions(clauses.cast())
            || pg_sys::contain_subplans(clauses.cast())
        {
            return false;
        }
        let mut cost = pg_sys::QualCost::default();
        pg_sys::cost_qual_eval(&mut cost, clauses, root);
        cost.per_tuple <= DEAR * pg_sys::cpu_operator_cost
    }
}

/// The condition of a scan's node.
pub(super) struct Condition(*mut pg_sys::IndexScanState);

impl Condition {
    /// That of the node that executes the scan, if it has a plain one.
    pub(super) fn of(scan: pg_sys::IndexScanDesc) -> Option<Condition> {
        NODES.with_borrow(|nodes| {
            // SAFETY: they are forgotten before their memory goes.
            let is_its =
                |node: &&*mut pg_sys::IndexScanState| unsafe { (***node).iss_ScanDesc == scan };
            nodes.iter().find(is_its).copied().map(Condition)
        })
    }

    /// Whether the row fulfils the condition. Counted as PostgreSQL counts the rows that its own evaluation removes.
    ///
    /// # Safety
    /// The scan is being executed; the slot holds a row of its table.
    pub(super) unsafe fn holds(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: between two rows of the node nothing lies in its memory for one row, and it sets its row anew.
        unsafe {
            let state = &mut (*self.0).ss.ps;
            let context = state.ps_ExprContext;
            (*context).ecxt_scantuple = slot;
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            let caller = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
            let (condition, mut is_null) = (state.qual, false);
            let evaluate = (*condition).evalfunc.expect("initialised with its node");
            let holds =
                pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(condition, context, &mut is_null));
            pg_sys::MemoryContextSwitchTo(caller);
            (*context).ecxt_scantuple = std::ptr::null_mut();
            // A condition that is NULL has been made false.
            let holds = holds.value() != 0;
            if !holds && let Some(instrument) = state.instrument.as_mut() {
                instrument.nfiltered1 += 1.0;
            }
            holds
        }
    }
}
