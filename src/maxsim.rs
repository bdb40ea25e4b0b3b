//! `maxsim(document, query)` and the operator `@#` on arrays.
//!
//! The query of a ranking is the same for every row, so its packed form is kept in the call site's
//! `fn_extra`. It is recognised by its values, never by its address: PostgreSQL reuses addresses.

use maxsim::Query;
use pgrx::{PgMemoryContexts, pg_extern, pg_sys};

use crate::error::SqlError;
use crate::matrix::Matrix;

/// The query that a call site scored with last.
struct PreparedQuery {
    values: Vec<f32>,
    dim: usize,
    packed: Query,
}

/// `Σ_i max_j ⟨query_i, document_j⟩`.
#[pg_extern(sql = false)]
fn maxsim(document: Matrix, query: Matrix, fcinfo: pg_sys::FunctionCallInfo) -> f64 {
    score(&document, &query, fcinfo).unwrap_or_else(|error| error.raise())
}

/// The negative score, so that ascending order is best first.
#[pg_extern(sql = false)]
fn maxsim_negative(document: Matrix, query: Matrix, fcinfo: pg_sys::FunctionCallInfo) -> f64 {
    -score(&document, &query, fcinfo).unwrap_or_else(|error| error.raise())
}

fn score(
    document: &Matrix,
    query: &Matrix,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<f64, SqlError> {
    let (query, query_dim) = query.values("query")?;
    let (document, dim) = document.values("document")?;
    if dim != query_dim {
        return Err(SqlError::dimensions_differ(dim, query_dim));
    }
    if !maxsim::all_finite(&document) {
        return Err(SqlError::not_finite("document", &document, dim));
    }
    // SAFETY: PostgreSQL passes a valid fcinfo; its flinfo is null only in direct calls from C.
    let score = match unsafe { (*fcinfo).flinfo.as_mut() } {
        Some(function) => prepared(function, &query, dim)?.score_f32(&document),
        None => prepare(&query, dim)?.packed.score_f32(&document),
    };
    Ok(score?)
}

/// The packed form of `query`: the call site's own where the values are the same, else made anew.
fn prepared<'site>(
    function: &'site mut pg_sys::FmgrInfo,
    query: &[f32],
    dim: usize,
) -> Result<&'site Query, SqlError> {
    let kept = function.fn_extra.cast::<PreparedQuery>();
    // SAFETY: `fn_extra` is ours alone: null, or the PreparedQuery that the lines below put there,
    // which lives as long as fn_mcxt, and so as the call site.
    if let Some(kept) = unsafe { kept.as_mut() } {
        if kept.dim != dim || !same_bytes(&kept.values, query) {
            *kept = prepare(query, dim)?;
        }
        return Ok(&kept.packed);
    }
    let made = prepare(query, dim)?;
    let made = PgMemoryContexts::For(function.fn_mcxt).leak_and_drop_on_delete(made);
    function.fn_extra = made.cast();
    // SAFETY: leaked into fn_mcxt just now.
    Ok(unsafe { &(*made).packed })
}

fn prepare(values: &[f32], dim: usize) -> Result<PreparedQuery, SqlError> {
    if !maxsim::all_finite(values) {
        return Err(SqlError::not_finite("query", values, dim));
    }
    Ok(PreparedQuery {
        values: values.to_vec(),
        dim,
        packed: Query::new(values, dim)?,
    })
}

/// One memcmp, where comparing floats one by one would cost a good part of a small score.
fn same_bytes(left: &[f32], right: &[f32]) -> bool {
    fn bytes(values: &[f32]) -> &[u8] {
        // SAFETY: floats have no padding, and any byte may be read as u8.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }
    bytes(left) == bytes(right)
}
