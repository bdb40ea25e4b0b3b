//! What a search did, in `EXPLAIN (ANALYZE)`: PostgreSQL lets extensions add lines to a node's since 18. Earlier majors
//! have `infinity_embed.last_search()`.
//!
//! Not obvious: the hook runs for every node of every plan that is explained. It does not catch PostgreSQL's errors, as
//! pgrx would: what passed through it would lose fields that errors of others have.

use std::cell::Cell;
use std::ffi::c_char;

use pgrx::pg_sys;

use super::opened::is_ours;
use super::scan;

thread_local! {
    /// Who else had the hook.
    static OTHER: Cell<pg_sys::explain_per_node_hook_type> = const { Cell::new(None) };
}

unsafe extern "C-unwind" {
    /// The same as pgrx's, but for the error that is not caught.
    fn ExplainPropertyInteger(
        label: *const c_char,
        unit: *const c_char,
        value: i64,
        state: *mut pg_sys::ExplainState,
    );
}

/// Called from `_PG_init`.
pub(super) fn define() {
    // SAFETY: on the main thread, while the library is loaded.
    unsafe {
        OTHER.set(pg_sys::explain_per_node_hook);
        pg_sys::explain_per_node_hook = Some(explain);
    }
}

/// The hook. Nothing here has a destructor, and an error of PostgreSQL's may jump over it.
unsafe extern "C-unwind" fn explain(
    node: *mut pg_sys::PlanState,
    ancestors: *mut pg_sys::List,
    relationship: *const c_char,
    plan_name: *const c_char,
    state: *mut pg_sys::ExplainState,
) {
    // SAFETY: called by PostgreSQL as the hook, with a node of the kind that its tag says.
    unsafe {
        if let Some(other) = OTHER.get() {
            other(node, ancestors, relationship, plan_name, state);
        }
        if !(*state).analyze || (*node).type_ != pg_sys::NodeTag::T_IndexScanState {
            return;
        }
        let node = &*node.cast::<pg_sys::IndexScanState>();
        // Made when the first row is asked for.
        if node.iss_ScanDesc.is_null() || !is_ours(node.iss_RelationDesc) {
            return;
        }
        let counts = scan::counts(node.iss_ScanDesc);
        for (label, count) in [
            (c"Documents Swept", counts.swept),
            (c"Documents Refined", counts.refined),
            (c"Documents Scored", counts.scored),
        ] {
            ExplainPropertyInteger(label.as_ptr(), std::ptr::null(), count as i64, state);
        }
    }
}
