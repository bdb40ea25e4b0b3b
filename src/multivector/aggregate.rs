//! `multivector_agg(real[])`: rows become one multivector.
//!
//! The state is a [`Builder`] in the aggregate's memory context, dropped with it. It never holds
//! more than a multivector can.

use multivector::{Builder, ElementType};
use pgrx::{PgMemoryContexts, fcinfo, pg_extern, pg_sys};

use super::datum::Stored;
use crate::error::SqlError;
use crate::matrix::Matrix;

/// The state's address, as PostgreSQL's `internal` carries it.
struct State(*mut Builder);

#[pg_extern(sql = false)]
fn multivector_agg_step(fcinfo: pg_sys::FunctionCallInfo) -> State {
    // SAFETY: SQL declares (internal, real[]) or (internal, double precision[]) and makes it the
    // transition function of an aggregate.
    unsafe { step(fcinfo) }.unwrap_or_else(|error| error.raise())
}

/// # Safety
/// `fcinfo` is what PostgreSQL passed to the transition function.
unsafe fn step(fcinfo: pg_sys::FunctionCallInfo) -> Result<State, SqlError> {
    let mut context = std::ptr::null_mut();
    // SAFETY: a valid fcinfo; the state is null or what an earlier step returned.
    unsafe {
        if pg_sys::AggCheckCallContext(fcinfo, &mut context) == 0 {
            return Err(SqlError::not_in_an_aggregate("multivector_agg_step"));
        }
        let builder = match fcinfo::pg_getarg_datum(fcinfo, 0) {
            Some(state) => state.cast_mut_ptr::<Builder>(),
            None => PgMemoryContexts::For(context).leak_and_drop_on_delete(Builder::new()),
        };
        // As in other aggregates, a NULL row does not count.
        if let Some(row) = fcinfo::pg_getarg_datum(fcinfo, 1) {
            let row = Matrix::from_datum(row);
            (*builder).push(&row.row("row")?)?;
        }
        Ok(State(builder))
    }
}

/// NULL where there was no row.
#[pg_extern(sql = false)]
fn multivector_agg_final(fcinfo: pg_sys::FunctionCallInfo) -> Option<Stored> {
    // SAFETY: the state is null or what the transition function returned.
    let builder = unsafe { &*fcinfo::pg_getarg_datum(fcinfo, 0)?.cast_mut_ptr::<Builder>() };
    if builder.tokens() == 0 {
        return None;
    }
    let stored = builder
        .rows()
        .map_err(SqlError::from)
        .and_then(|(values, shape)| Stored::encode(values, shape, ElementType::F32));
    Some(stored.unwrap_or_else(|error| error.raise()))
}

// SAFETY: `internal` is a pointer passed by value.
unsafe impl pgrx::callconv::BoxRet for State {
    unsafe fn box_into<'fcx>(
        self,
        fcinfo: &mut pgrx::callconv::FcInfo<'fcx>,
    ) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: the aggregate's memory context owns what it points to.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

crate::sql_type::sql_type!(State, "internal");
