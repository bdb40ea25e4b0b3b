//! `maxsim`, `@#`, `maxsim_normalized` and `maxsim_explain`, on arrays and on multivectors.
//!
//! Documents are read where they lie after one detoast. The query of a ranking is the same for every
//! row, so `prepared` keeps its packed form at the call site.

mod cost;
mod place;
mod prepared;

use maxsim::{Match, Query};
use multivector::Payload;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

use crate::detoast::RawDatum;
use crate::error::SqlError;
use crate::interrupt::poll;
use crate::matrix::Matrix;
use crate::multivector::Multivector;
use prepared::with_prepared;

pub(crate) use cost::document_pages;
pub(crate) use prepared::Prepared;

/// Components looked at between two looks at interrupts: a millisecond's work at most.
const BLOCK: usize = 1 << 18;

/// An argument that holds token vectors.
pub(crate) enum Vectors {
    Array(Matrix),
    Multivector(Multivector),
}

/// What is made of a score.
#[derive(Clone, Copy)]
enum Form {
    Score,
    /// `@#`: ascending order is best first.
    Negative,
    /// Divided by the number of query tokens.
    Normalized,
}

/// Defines the symbols of one pair of argument types; SQL declares them in sql/20-maxsim.sql and
/// sql/50-maxsim-multivector.sql.
macro_rules! score_functions {
    ($document:ident, $query:ident, $score:ident, $negative:ident, $normalized:ident, $explain:ident) => {
        #[pg_extern(sql = false)]
        fn $score(document: $document, query: RawDatum, fcinfo: pg_sys::FunctionCallInfo) -> f64 {
            score(document.into(), query, $query::read, fcinfo, Form::Score)
        }

        #[pg_extern(sql = false)]
        fn $negative(
            document: $document,
            query: RawDatum,
            fcinfo: pg_sys::FunctionCallInfo,
        ) -> f64 {
            score(document.into(), query, $query::read, fcinfo, Form::Negative)
        }

        #[pg_extern(sql = false)]
        fn $normalized(
            document: $document,
            query: RawDatum,
            fcinfo: pg_sys::FunctionCallInfo,
        ) -> f64 {
            score(
                document.into(),
                query,
                $query::read,
                fcinfo,
                Form::Normalized,
            )
        }

        #[pg_extern(sql = false)]
        #[allow(clippy::type_complexity)] // pgrx reads the type as it is written here
        fn $explain(
            document: $document,
            query: $query,
        ) -> TableIterator<
            'static,
            (
                name!(query_token, i32),
                name!(document_token, i32),
                name!(similarity, f32),
            ),
        > {
            explain(&document.into(), &query.into()).unwrap_or_else(|error| error.raise())
        }
    };
}

score_functions!(
    Matrix,
    Matrix,
    maxsim,
    maxsim_negative,
    maxsim_normalized,
    maxsim_explain
);
score_functions!(
    Multivector,
    Multivector,
    maxsim_multivector,
    maxsim_multivector_negative,
    maxsim_multivector_normalized,
    maxsim_multivector_explain
);
score_functions!(
    Multivector,
    Matrix,
    maxsim_multivector_array,
    maxsim_multivector_array_negative,
    maxsim_multivector_array_normalized,
    maxsim_multivector_array_explain
);

impl From<Matrix> for Vectors {
    fn from(array: Matrix) -> Vectors {
        Vectors::Array(array)
    }
}

impl From<Multivector> for Vectors {
    fn from(value: Multivector) -> Vectors {
        Vectors::Multivector(value)
    }
}

/// A type of argument that is read only where it must be.
trait Read: Sized + Into<Vectors> {
    /// # Safety
    /// A non-null datum of this type that stays valid while the result lives.
    unsafe fn read(datum: pg_sys::Datum) -> Vectors;
}

impl Read for Matrix {
    unsafe fn read(datum: pg_sys::Datum) -> Vectors {
        // SAFETY: the caller vouches for it.
        unsafe { Matrix::from_datum(datum) }.into()
    }
}

impl Read for Multivector {
    unsafe fn read(datum: pg_sys::Datum) -> Vectors {
        // SAFETY: the caller vouches for it.
        unsafe { Multivector::from_datum(datum) }.into()
    }
}

impl Vectors {
    /// The bytes that tell this value from every other of its type.
    fn identity(&self) -> &[u8] {
        match self {
            Vectors::Array(array) => array.detoasted().bytes(),
            Vectors::Multivector(value) => value.detoasted().bytes(),
        }
    }

    /// Row-major values, all finite, and the dimension.
    pub(crate) fn values(
        &self,
        role: &'static str,
    ) -> Result<(std::borrow::Cow<'_, [f32]>, usize), SqlError> {
        match self {
            Vectors::Array(array) => {
                let (values, dim) = array.rows(role)?;
                check_finite(role, &values, dim)?;
                Ok((values, dim))
            }
            Vectors::Multivector(value) => {
                let view = value.view()?;
                Ok((view.values(&mut poll)?, view.dim()))
            }
        }
    }
}

fn check_finite(role: &'static str, values: &[f32], dim: usize) -> Result<(), SqlError> {
    for (block, values) in values.chunks(BLOCK).enumerate() {
        poll();
        if !maxsim::all_finite(values) {
            let at = values.iter().position(|value| !value.is_finite());
            let at = at.expect("all_finite saw one");
            return Err(SqlError::not_finite(
                role,
                values[at],
                block * BLOCK + at,
                dim,
            ));
        }
    }
    Ok(())
}

fn score(
    document: Vectors,
    query: RawDatum,
    read: unsafe fn(pg_sys::Datum) -> Vectors,
    fcinfo: pg_sys::FunctionCallInfo,
    form: Form,
) -> f64 {
    // SAFETY: `read` is that of the type which SQL declares the argument to be of.
    let read = |datum| unsafe { read(datum) };
    let score = with_prepared(query.0, read, fcinfo, |prepared| {
        let score = score_document(&document, prepared)?;
        Ok(match form {
            Form::Score => score,
            Form::Negative => -score,
            Form::Normalized => score / prepared.tokens() as f64,
        })
    });
    score.unwrap_or_else(|error| error.raise())
}

/// The score of a document.
///
/// # Errors
/// Those of reading it, and 22003 where the score is not finite.
pub(crate) fn score_document(document: &Vectors, query: &Prepared) -> Result<f64, SqlError> {
    let score = match document {
        Vectors::Array(array) => {
            let (values, dim) = array.rows("document")?;
            query.check_dim(dim)?;
            check_finite("document", &values, dim)?;
            query.sum(|chunk| chunk.score_f32(&values))
        }
        Vectors::Multivector(value) => {
            let view = value.view()?;
            query.check_dim(view.dim())?;
            view.check_values(&mut poll)
                .map_err(multivector::Error::Corrupt)?;
            match view.payload() {
                Payload::F32(values) => query.sum(|chunk| chunk.score_f32(&values)),
                Payload::F16(bytes) => query.sum(|chunk| chunk.score_f16(bytes)),
                Payload::Int8(bytes) => query.sum(|chunk| chunk.score_int8(bytes)),
                Payload::Bit(bytes) => query.sum(|chunk| chunk.score_bit(bytes)),
            }
        }
    }?;
    if score.is_finite() {
        return Ok(score);
    }
    Err(SqlError::score_overflows())
}

type Matches = TableIterator<'static, (i32, i32, f32)>;

/// Which document token each query token matched, both counted from 1.
fn explain(document: &Vectors, query: &Vectors) -> Result<Matches, SqlError> {
    let (query_values, query_dim) = query.values("query")?;
    let (values, dim) = document.values("document")?;
    if dim != query_dim {
        return Err(SqlError::dimensions_differ(dim, query_dim));
    }
    let mut matches = Vec::with_capacity(query_values.len() / dim);
    for (token, row) in query_values.chunks_exact(dim).enumerate() {
        let found = best_match(&Query::new(row, dim)?, &values)?;
        if !found.similarity.is_finite() {
            return Err(SqlError::score_overflows());
        }
        matches.push((
            token as i32 + 1,
            found.document_token as i32 + 1,
            found.similarity,
        ));
    }
    Ok(TableIterator::new(matches))
}

/// The document token that matches a query of one token; the first of equals.
fn best_match(query: &Query, document: &[f32]) -> Result<Match, SqlError> {
    let tokens = (BLOCK / query.dim()).max(1);
    let mut best: Option<Match> = None;
    for (block, rows) in document.chunks(tokens * query.dim()).enumerate() {
        poll();
        for found in query.matches(rows)? {
            if best.is_none_or(|best| found.similarity > best.similarity) {
                best = Some(Match {
                    document_token: block * tokens + found.document_token,
                    ..found
                });
            }
        }
    }
    Ok(best.expect("a document has a token"))
}
