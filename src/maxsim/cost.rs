//! What a score costs, for the planner: the pages of the document that must be read.
//!
//! A constant cost per call would make a page of 1,030 tokens as cheap as a sentence, and a TOASTed
//! table looks tiny besides. Measured, scoring takes about as long as reading the document from the
//! buffer cache, so a call costs its TOAST pages at `seq_page_cost` each.

use pgrx::{fcinfo, pg_extern, pg_sys};

use crate::sql_type::sql_type;

/// Average width of a column whose values lie in TOAST, at most: 18 bytes each, and some that are short.
const WIDTH_OF_POINTERS: i32 = 24;
/// The call itself, in units of `cpu_operator_cost`.
const CALL_OPERATORS: f64 = 100.0;
/// Of so many partitions the sizes are looked up, spread evenly; planning asks several times.
const MAX_TABLES: usize = 32;

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

/// The first argument of the call, where it is a column, cast or as it stands: what is read is the same.
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
        let mut argument = first(arguments)?;
        while let Some(inner) = cast_argument(argument) {
            argument = inner;
        }
        let is_column = (*argument).type_ == pg_sys::NodeTag::T_Var;
        is_column.then_some(argument.cast())
    }
}

/// What a cast is applied to; `None` of what is no cast.
///
/// # Safety
/// `node` is a node.
unsafe fn cast_argument(node: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: each cast follows the look at the tag; the nodes' arguments are expressions.
    let argument: *mut pg_sys::Expr = unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_RelabelType => (*node.cast::<pg_sys::RelabelType>()).arg,
            pg_sys::NodeTag::T_CoerceViaIO => (*node.cast::<pg_sys::CoerceViaIO>()).arg,
            pg_sys::NodeTag::T_ArrayCoerceExpr => (*node.cast::<pg_sys::ArrayCoerceExpr>()).arg,
            pg_sys::NodeTag::T_FuncExpr => {
                let call = &*node.cast::<pg_sys::FuncExpr>();
                return match call.funcformat {
                    pg_sys::CoercionForm::COERCE_EXPLICIT_CAST
                    | pg_sys::CoercionForm::COERCE_IMPLICIT_CAST => first(call.args),
                    _ => None,
                };
            }
            _ => return None,
        }
    };
    (!argument.is_null()).then_some(argument.cast())
}

/// # Safety
/// `list` is null or a list of nodes.
unsafe fn first(list: *mut pg_sys::List) -> Option<*mut pg_sys::Node> {
    // SAFETY: a list that is not empty has a first element.
    unsafe {
        let list = list.as_ref().filter(|list| list.length > 0)?;
        Some(pg_sys::list_nth(list, 0).cast())
    }
}

/// What is known about a column of one table.
#[derive(Clone, Copy, Default)]
struct Column {
    tuples: f64,
    toast_blocks: f64,
    /// Bytes of all tuples' values in the table itself.
    bytes: f64,
}

/// Pages of a row's document on average: those of the table's TOAST relation shared among its rows,
/// or the column's width where nothing is TOASTed. Of partitions and heirs, those of all together.
///
/// # Safety
/// `root` is the planner's, `variable` a column of its query.
unsafe fn column_pages(root: *mut pg_sys::PlannerInfo, variable: *mut pg_sys::Var) -> Option<f64> {
    // SAFETY: the caller's promises.
    let columns = unsafe {
        if (*variable).varlevelsup != 0 {
            return None;
        }
        let mut tables = Vec::new();
        collect_tables(
            &*root,
            (*variable).varno as usize,
            (*variable).varattno,
            &mut tables,
        );
        let step = tables.len().div_ceil(MAX_TABLES).max(1);
        let tables = tables.into_iter().step_by(step);
        tables.map(|(relation, entry, column)| column_of(relation, entry, column))
    };
    let sum = columns.reduce(|a, b| Column {
        tuples: a.tuples + b.tuples,
        toast_blocks: a.toast_blocks + b.toast_blocks,
        bytes: a.bytes + b.bytes,
    })?;
    let blocks = sum.toast_blocks + sum.bytes / f64::from(pg_sys::BLCKSZ);
    Some(blocks / sum.tuples.max(1.0))
}

/// A table of the planner's, and the number of the column in it.
type Table = (*mut pg_sys::RelOptInfo, *mut pg_sys::RangeTblEntry, i16);

/// The table with this number, or the tables below it that hold its rows.
///
/// # Safety
/// `root` is the planner's.
unsafe fn collect_tables(
    root: &pg_sys::PlannerInfo,
    index: usize,
    column: i16,
    tables: &mut Vec<Table>,
) {
    // SAFETY: range table, relation and heir arrays have simple_rel_array_size entries; the heirs' array
    // may be missing, and entries of it null. Translated variables follow the parent's columns.
    unsafe {
        let size = root.simple_rel_array_size as usize;
        if index >= size || column <= 0 {
            return;
        }
        let entry = *root.simple_rte_array.add(index);
        let relation = *root.simple_rel_array.add(index);
        if entry.is_null()
            || relation.is_null()
            || (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION
        {
            return;
        }
        if !(*entry).inh {
            tables.push((relation, entry, column));
            return;
        }
        if root.append_rel_array.is_null() {
            return;
        }
        for child in 0..size {
            let Some(heir) = (*root.append_rel_array.add(child)).as_ref() else {
                continue;
            };
            if heir.parent_relid as usize != index {
                continue;
            }
            let of_child: *mut pg_sys::Var =
                pg_sys::list_nth(heir.translated_vars, i32::from(column) - 1).cast();
            if let Some(of_child) = of_child.as_ref()
                && of_child.xpr.type_ == pg_sys::NodeTag::T_Var
            {
                collect_tables(root, child, of_child.varattno, tables);
            }
        }
    }
}

/// # Safety
/// Both are the planner's, of one table, on which it holds a lock, and with it on its TOAST relation.
unsafe fn column_of(
    relation: *mut pg_sys::RelOptInfo,
    entry: *mut pg_sys::RangeTblEntry,
    column: i16,
) -> Column {
    // SAFETY: the caller's promise.
    unsafe {
        let tuples = (*relation).tuples.max(0.0);
        let width = pg_sys::get_attavgwidth((*entry).relid, column).max(0);
        // Wider values than a TOAST pointer lie in the table itself; what another column has there is not theirs.
        let is_inline = width > WIDTH_OF_POINTERS;
        Column {
            tuples,
            toast_blocks: if is_inline {
                0.0
            } else {
                toast_blocks((*entry).relid)
            },
            bytes: tuples * f64::from(width),
        }
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
