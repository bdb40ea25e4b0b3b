//! Where a query lies in TOAST, as what it is recognised by.
//!
//! Used by `prepared`. A TOAST pointer names a relation and a value in it; a value never changes, and PostgreSQL gives its
//! number to another only after the numbers of the whole cluster have wrapped around (2^32 of them) and vacuum has
//! removed the first. While a statement runs, nothing that it could see is removed. But a call site can outlive its
//! statement: PL/pgSQL keeps those of its expressions for a transaction, whose statements see one after the other. So the
//! pointer counts only where the query comes out of a plan, as a column or as the result of a subquery, which PL/pgSQL's
//! own expressions never have: such call sites are made for one execution, with one snapshot.

use pgrx::{pg_sys, varlena};

/// The bytes of a TOAST pointer: a header of two bytes, sizes, number and relation.
const POINTER_BYTES: usize = 2 + size_of::<pg_sys::varatt_external>();

/// A TOAST pointer's bytes.
pub(super) type Place = [u8; POINTER_BYTES];

/// Where in TOAST a varlena lies; `None` where it does not, or where that would not identify it.
pub(super) fn place_of(datum: pg_sys::Datum, is_in_plan: bool) -> Option<Place> {
    let start: *const pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: a varlena argument. A pointer into TOAST is as long as `Place`, and aligned to nothing.
    unsafe {
        let is_on_disk = is_in_plan
            && varlena::varatt_is_1b_e(start)
            && u32::from(varlena::vartag_external(start)) == pg_sys::vartag_external::VARTAG_ONDISK;
        is_on_disk.then(|| start.cast::<Place>().read())
    }
}

/// Whether the second argument of a call is a column, or the result of a subquery.
pub(super) fn query_is_of_a_plan(function: &pg_sys::FmgrInfo) -> bool {
    // SAFETY: fn_expr is null or the call's node, which lives as long as the call site; each cast follows
    // the look at the tag.
    unsafe {
        let Some(call) = function.fn_expr.as_ref() else {
            return false;
        };
        let arguments = match call.type_ {
            pg_sys::NodeTag::T_FuncExpr => (*function.fn_expr.cast::<pg_sys::FuncExpr>()).args,
            pg_sys::NodeTag::T_OpExpr => (*function.fn_expr.cast::<pg_sys::OpExpr>()).args,
            _ => return false,
        };
        if arguments.is_null() || (*arguments).length != 2 {
            return false;
        }
        let query: *mut pg_sys::Node = pg_sys::list_nth(arguments, 1).cast();
        match (*query).type_ {
            pg_sys::NodeTag::T_Var => true,
            pg_sys::NodeTag::T_Param => {
                (*query.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXEC
            }
            _ => false,
        }
    }
}
