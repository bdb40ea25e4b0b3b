//! `infinity_embed_health()` and `infinity_embed_models()`: what a user looks at when a call fails.

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

use crate::embed::client;
use crate::encoding::to_database;
use crate::error::SqlError;
use crate::interrupt::BackendWait;
use crate::settings;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn infinity_embed_health() -> TableIterator<
    'static,
    (
        name!(url, String),
        name!(reachable, bool),
        name!(model, Option<String>),
        name!(dimension, Option<i32>),
        name!(latency_ms, Option<f64>),
        name!(problem, Option<String>),
    ),
> {
    let config = settings::identity(None)
        .and_then(settings::config)
        .unwrap_or_else(|error| error.raise());
    let health = client().health(&config, &mut BackendWait);
    TableIterator::once((
        to_database(&health.url),
        health.reachable,
        health.model.map(|model| to_database(&model)),
        health.dim.map(|dim| dim as i32),
        health.latency.map(|latency| latency.as_secs_f64() * 1000.0),
        health
            .problem
            .map(|problem| SqlError::from(problem).sentence()),
    ))
}

#[pg_extern(sql = false)]
fn infinity_embed_models() -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(backend, String),
        name!(capabilities, Vec<String>),
    ),
> {
    let config = settings::identity(None)
        .and_then(settings::config)
        .unwrap_or_else(|error| error.raise());
    let models = client()
        .models(&config, &mut BackendWait)
        .unwrap_or_else(|error| SqlError::from(error).raise());
    TableIterator::new(models.into_iter().map(|model| {
        let capabilities = model
            .capabilities
            .iter()
            .map(|name| to_database(name))
            .collect();
        (
            to_database(&model.id),
            to_database(&model.backend),
            capabilities,
        )
    }))
}
