//! The packed query of a call site, kept in its `fn_extra`.
//!
//! It is recognised by all its bytes; never by its address, which PostgreSQL reuses for other values,
//! nor by get_fn_expr_arg_stable(): a variable of PL/pgSQL is "stable" to that and changes between
//! calls all the same. Comparing takes well under a microsecond; where a query lies in TOAST, fetching
//! it takes more, and its place there tells as much.

use maxsim::Query;
use pgrx::{PgMemoryContexts, pg_sys};

use super::place::{Place, place_of, query_is_of_a_plan};
use super::{Vectors, check_finite};
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::varlena::{self, equal};

/// Query tokens scored between two looks at interrupts. A page against as many takes far below a
/// millisecond; over a long document crate `maxsim` polls too.
const TOKENS_PER_CHUNK: usize = 64;

/// A query ready for scoring.
pub(crate) struct Prepared {
    identity: Vec<u8>,
    dim: usize,
    tokens: usize,
    chunks: Vec<Query>,
}

impl Prepared {
    /// # Errors
    /// Those of reading the query.
    pub(crate) fn new(query: &Vectors) -> Result<Prepared, SqlError> {
        let (values, dim) = query.values("query")?;
        check_finite("query", &values, dim)?;
        let chunks: Result<Vec<Query>, maxsim::Error> = values
            .chunks(TOKENS_PER_CHUNK * dim.max(1))
            .map(|chunk| {
                poll();
                Ok(Query::new(chunk, dim)?.polling(poll))
            })
            .collect();
        Ok(Prepared {
            identity: varlena::to_vec(query.identity())?,
            dim,
            tokens: values.len() / dim,
            chunks: chunks?,
        })
    }

    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// # Errors
    /// 22000 where a document has another dimension.
    pub(crate) fn check_dim(&self, document: usize) -> Result<(), SqlError> {
        if document == self.dim {
            return Ok(());
        }
        Err(SqlError::dimensions_differ(document, self.dim))
    }

    /// The score of one document: a query's score is the sum of its tokens'.
    pub(super) fn sum(
        &self,
        score: impl Fn(&Query) -> Result<f64, maxsim::Error>,
    ) -> Result<f64, SqlError> {
        let mut sum = 0.0;
        for (index, chunk) in self.chunks.iter().enumerate() {
            if index > 0 {
                poll();
            }
            sum += score(chunk)?;
        }
        Ok(sum)
    }
}

/// What a call site keeps.
struct Kept {
    prepared: Prepared,
    place: Option<Place>,
    is_in_plan: bool,
}

/// Calls `body` with the prepared form of the query that `datum` is.
pub(super) fn with_prepared<Result_>(
    datum: pg_sys::Datum,
    read: impl FnOnce(pg_sys::Datum) -> Vectors,
    fcinfo: pg_sys::FunctionCallInfo,
    body: impl FnOnce(&Prepared) -> Result<Result_, SqlError>,
) -> Result<Result_, SqlError> {
    // SAFETY: PostgreSQL passes a valid fcinfo; its flinfo is null only in direct calls from C.
    let Some(function) = (unsafe { (*fcinfo).flinfo.as_mut() }) else {
        return body(&Prepared::new(&read(datum))?);
    };
    let kept = function.fn_extra.cast::<Kept>();
    // SAFETY: `fn_extra` is ours alone: null, or the Kept that the lines below put there, which
    // lives as long as fn_mcxt, and so as the call site. Nothing else refers to it during a call.
    if let Some(kept) = unsafe { kept.as_mut() } {
        let place = place_of(datum, kept.is_in_plan);
        if place.is_none() || place != kept.place {
            let query = read(datum);
            if !equal(&kept.prepared.identity, query.identity()) {
                kept.prepared = Prepared::new(&query)?;
            }
            kept.place = place;
        }
        return body(&kept.prepared);
    }
    let is_in_plan = query_is_of_a_plan(function);
    let made = PgMemoryContexts::For(function.fn_mcxt).leak_and_drop_on_delete(Kept {
        prepared: Prepared::new(&read(datum))?,
        place: place_of(datum, is_in_plan),
        is_in_plan,
    });
    function.fn_extra = made.cast();
    // SAFETY: leaked into fn_mcxt just now.
    body(unsafe { &(*made).prepared })
}
