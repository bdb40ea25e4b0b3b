//! The queue's entry points: what keeps a column embedded behind its writers' backs.
//!
//! Used from SQL alone. The SQL in `sql/6*.sql` decides what is queued, claimed and written; this
//! module decides as whom it runs, embeds between two transactions, and says when they end.

mod background;
mod batch;
mod echo;
mod escape;
mod fetch;
pub(crate) mod launcher;
mod lock;
mod parts;
mod process;
mod registration;
mod resting;
mod role;
mod rows;
mod source;
mod statement;
mod subtransaction;
mod time_limit;
mod wake;
mod worker;

use std::rc::Rc;

use infinity_client::MultiVector;
use pgrx::{pg_extern, pg_sys};

use crate::encoding::{to_database, to_utf8};
use crate::error::SqlError;
use crate::matrix::RealArray;
use crate::settings;
use role::{as_extension_owner, check_owner};
use statement::{Value, execute};

#[pg_extern(sql = false)]
fn queue_auto_embed(
    relation: Option<pg_sys::Oid>,
    source: Option<&[u8]>,
    target: Option<&[u8]>,
    model: Option<&[u8]>,
    normalized: Option<bool>,
    pooling: Option<i32>,
    only_missing: Option<bool>,
) -> Vec<u8> {
    let wishes = Wishes {
        model,
        normalized,
        pooling: pooling.unwrap_or(1),
        only_missing: only_missing.unwrap_or(false),
    };
    auto_embed(relation, source, target, wishes).unwrap_or_else(|error| error.raise())
}

/// What may be left out in a call of `auto_embed()`.
struct Wishes<'a> {
    model: Option<&'a [u8]>,
    normalized: Option<bool>,
    pooling: i32,
    only_missing: bool,
}

/// The source is checked as the caller, the definition kept as the extension's owner.
fn auto_embed(
    relation: Option<pg_sys::Oid>,
    source: Option<&[u8]>,
    target: Option<&[u8]>,
    wishes: Wishes,
) -> Result<Vec<u8>, SqlError> {
    let (Some(relation), Some(source), Some(target)) = (relation, source, target) else {
        return Err(SqlError::null_argument("relation, source and target"));
    };
    check_owner(relation)?;
    let model = wishes.model.map(to_utf8).transpose()?;
    let identity = settings::identity(model.as_deref())?;
    // First of all, because nothing can be said of a source where there is no table.
    administer(
        "SELECT infinity_embed.checked_key($1::regclass)::text",
        &[Value::Oid(relation)],
    );
    let definition = source::define(relation, source)?;
    let model = to_database(&identity.model);
    let caller = execute("SELECT CURRENT_USER::pg_catalog.text", &[], |row| {
        row.bytes(1).unwrap_or_default()
    });
    let arguments = [
        Value::Oid(relation),
        Value::Text(&definition.expression),
        Value::Texts(
            definition
                .columns
                .iter()
                .map(|name| Some(name.as_slice()))
                .collect(),
        ),
        Value::Text(match definition.is_image {
            true => b"image".as_slice(),
            false => b"text",
        }),
        Value::Text(target),
        Value::Text(model.as_bytes()),
        Value::Integer(identity.dim.map(|dim| dim as i64)),
        Value::Boolean(wishes.normalized.unwrap_or(identity.normalize)),
        Value::Integer(Some(wishes.pooling.into())),
        Value::Boolean(wishes.only_missing),
        Value::Text(&caller.concat()),
    ];
    Ok(administer(
        "SELECT infinity_embed.define_target($1::regclass, $2, $3::name[], $4, $5::name, $6, $7::integer, $8, $9::integer, $10, $11::name)",
        &arguments,
    ))
}

#[pg_extern(sql = false)]
fn queue_stop_auto_embed(relation: Option<pg_sys::Oid>, target: Option<&[u8]>) -> Vec<u8> {
    let relation = owned(relation);
    administer(
        "SELECT infinity_embed.remove_target($1::regclass, $2::name)",
        &[Value::Oid(relation), Value::MaybeText(target)],
    )
}

#[pg_extern(sql = false)]
fn queue_retry_dead(relation: Option<pg_sys::Oid>) -> i64 {
    let relation = owned(relation);
    as_extension_owner(|| {
        execute(
            "SELECT infinity_embed.requeue_dead($1::regclass)",
            &[Value::Oid(relation)],
            |row| row.integer(1),
        )
    })
    .pop()
    .flatten()
    .unwrap_or_default()
}

/// The vectors of a row on their way into the statement that writes them.
#[pg_extern(sql = false)]
fn queue_vectors(bytes: &[u8], dim: i32) -> RealArray {
    let row_bytes = usize::try_from(dim).unwrap_or_default() * size_of::<f32>();
    if row_bytes == 0 || bytes.is_empty() || !bytes.len().is_multiple_of(row_bytes) {
        SqlError::not_vectors(bytes.len(), dim).raise();
    }
    let values = bytes
        .as_chunks()
        .0
        .iter()
        .map(|&component| f32::from_ne_bytes(component))
        .collect();
    RealArray::embedding(Rc::new(MultiVector {
        values,
        tokens: bytes.len() / row_bytes,
        dim: dim as usize,
    }))
}

/// The relation, if it was given and is the caller's; raises otherwise.
fn owned(relation: Option<pg_sys::Oid>) -> pg_sys::Oid {
    relation
        .ok_or_else(|| SqlError::null_argument("relation"))
        .and_then(|relation| check_owner(relation).map(|()| relation))
        .unwrap_or_else(|error| error.raise())
}

/// Runs a statement that gives one text, as the extension's owner.
fn administer(sql: &str, arguments: &[Value]) -> Vec<u8> {
    as_extension_owner(|| execute(sql, arguments, |row| row.bytes(1)))
        .pop()
        .flatten()
        .unwrap_or_default()
}
