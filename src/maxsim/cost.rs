//! What a score costs, for the planner: the pages of the document that must be read.
//!
//! A constant cost per call would make a page of 1,030 tokens as cheap as a sentence, and a TOASTed
//! table looks tiny besides. Measured, scoring takes about as long as reading the document from the
//! buffer cache, so a call costs its TOAST pages at `seq_page_cost` each.

use pgrx::{fcinfo, pg_extern, pg_sys};

use crate::sql_type::sql_type;

/// The call itself, in units of `cpu_operator_cost`.
const CALL_OPERATORS: f64 = 100.0;

/// The planner support function of every function that scores.
#[pg_extern(sql = false)]
fn maxsim_support(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    // SAFETY: SQL declares (internal) → internal and uses it as a support function only: the argument
    // is a node whose tag says which request it is. Nodes of the plan outlive the call.
    unsafe {
        let request =
            fcinfo::pg_getarg_datum(fcinfo, 0).expect("a support function gets a request");
        let request: *mut pg_sys::SupportRequestCost = request.cast_mut_ptr();
        if (*request).type_ != pg_sys::NodeTag::T_SupportRequestCost || (*request).root.is_null() {
            return Answer(std::ptr::null_mut());
        }
        let Some(pages) = document_pages((*request).root, (*request).node) else {
            return Answer(std::ptr::null_mut());
        };
        (*request).startup = 0.0;
        (*request).per_tuple =
            pages * pg_sys::seq_page_cost + CALL_OPERATORS * pg_sys::cpu_operator_cost;
        Answer(request)
    }
}

/// Pages that must be read for the document of a call, where it is a plain column.
///
/// # Safety
/// `root` is the planner's; `node` is null or a node of its query.
pub(crate) unsafe fn document_pages(
    root: *mut pg_sys::PlannerInfo,
    node: *mut pg_sys::Node,
) -> Option<f64> {
    // SAFETY: the caller vouches for both.
    unsafe { document_argument(node).and_then(|variable| column_pages(root, variable)) }
}

/// The first argument of the call, where it is a plain column.
///
/// # Safety
/// `node` is null or a node.
unsafe fn document_argument(node: *mut pg_sys::Node) -> Option<*mut pg_sys::Var> {
    // SAFETY: each cast follows the look at the tag.
    unsafe {
        let arguments = match node.as_ref()?.type_ {
            pg_sys::NodeTag::T_FuncExpr => (*node.cast::<pg_sys::FuncExpr>()).args,
            pg_sys::NodeTag::T_OpExpr => (*node.cast::<pg_sys::OpExpr>()).args,
            _ => return None,
        };
        if arguments.is_null() || (*arguments).length == 0 {
            return None;
        }
        let first = pg_sys::list_nth(arguments, 0).cast::<pg_sys::Node>();
        let is_column = (*first).type_ == pg_sys::NodeTag::T_Var;
        is_column.then_some(first.cast())
    }
}

/// Pages of a row's document on average: those of the table's TOAST relation shared among its rows,
/// or the column's width where nothing is TOASTed.
///
/// # Safety
/// `root` is the planner's, `variable` a column of its query.
unsafe fn column_pages(root: *mut pg_sys::PlannerInfo, variable: *mut pg_sys::Var) -> Option<f64> {
    // SAFETY: range table and relation arrays have simple_rel_array_size entries; the planner holds a
    // lock on the table, and with it on its TOAST relation.
    unsafe {
        let (root, variable) = (&*root, &*variable);
        let index = usize::try_from(variable.varno).ok()?;
        if index >= root.simple_rel_array_size as usize || variable.varlevelsup != 0 {
            return None;
        }
        let entry = (*root.simple_rte_array.add(index)).as_ref()?;
        let relation = (*root.simple_rel_array.add(index)).as_ref()?;
        // The parent of partitions or heirs has no TOAST relation that would stand for theirs.
        let is_parent = entry.inh;
        if entry.rtekind != pg_sys::RTEKind::RTE_RELATION || is_parent || variable.varattno <= 0 {
            return None;
        }
        let width = pg_sys::get_attavgwidth(entry.relid, variable.varattno).max(0);
        let toasted = toast_blocks(entry.relid) / relation.tuples.max(1.0);
        Some(toasted + f64::from(width) / f64::from(pg_sys::BLCKSZ))
    }
}

/// # Safety
/// The table is locked.
unsafe fn toast_blocks(table: pg_sys::Oid) -> f64 {
    // SAFETY: opened and closed here, without errors in between that could leak the reference
    // beyond the transaction's end.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        let toast = (*(*relation).rd_rel).reltoastrelid;
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        if toast == pg_sys::InvalidOid {
            return 0.0;
        }
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let toast = pg_sys::table_open(toast, lock);
        let blocks =
            pg_sys::RelationGetNumberOfBlocksInFork(toast, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::table_close(toast, lock);
        f64::from(blocks)
    }
}

/// A node, or null for "no answer", as a support function returns it.
struct Answer(*mut pg_sys::SupportRequestCost);

// SAFETY: `internal` is a pointer passed by value, null included.
unsafe impl pgrx::callconv::BoxRet for Answer {
    unsafe fn box_into<'fcx>(
        self,
        fcinfo: &mut pgrx::callconv::FcInfo<'fcx>,
    ) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: the planner's own node, or null.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

sql_type!(Answer, "internal");
