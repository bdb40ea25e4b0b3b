//! One batch of jobs from claim to done: three short transactions and, between the second and the
//! third, the requests with no transaction open.
//!
//! Used by `process_queue()` and by the worker, which differ in how they end a transaction.
//! Not obvious: rows are locked before jobs, as their writers do, and nothing is waited for that a
//! writer may hold, so that the two cannot deadlock.

use std::time::{Duration, Instant};

use infinity_client::{Config, Error, Outcome};
use pgrx::pg_sys;

use super::role::{as_role, extension_owner};
use super::statement::{Row, Value, execute};
use super::subtransaction::{Failure, attempt};
use crate::embed::client;
use crate::encoding::to_utf8;
use crate::error::SqlError;
use crate::interrupt::BackendWait;
use crate::settings;

/// Rounds of requests for texts per batch, so that the database's part weighs little beside them.
const TEXT_ROUNDS: usize = 8;
/// Sources that one batch reads, all together.
const MAX_SOURCE_BYTES: i64 = 64 * 1024 * 1024;
/// Retries within a request of one who comes back anyway: the waits between more would be longer than the pause.
const MOST_PATIENT_RETRIES: u32 = 2;
/// How long a target rests after a failure that passes by itself, and after another.
const PASSING_PAUSE_SECONDS: f64 = 0.5;
const LASTING_PAUSE_SECONDS: f64 = 10.0;

/// How transactions begin and end where the batch runs.
pub(super) trait Session {
    /// Runs `work` in a transaction of its own and commits it.
    fn transaction<T>(&mut self, work: impl FnOnce() -> T) -> T;
}

/// What a batch came to.
pub(super) enum Progress {
    /// There was nothing to do.
    Idle,
    /// Jobs are done.
    Done { embedded: usize, failed: usize },
    /// Nothing could be embedded; the jobs were given back.
    Postponed(SqlError),
}

/// What is claimed together: jobs of one target.
struct Claim {
    number: i64,
    target: i64,
    owner: pg_sys::Oid,
    is_image: bool,
    model: Vec<u8>,
    dim: Option<i64>,
    normalize: bool,
    keys: Vec<Vec<u8>>,
    read_statement: Vec<u8>,
    write_statement: Vec<u8>,
}

/// A row's source as it was read.
struct Source {
    key: Vec<u8>,
    /// None where the source is NULL: so will the embedding be.
    content: Option<Content>,
    fingerprint: Option<Vec<u8>>,
}

enum Content {
    Text(String),
    Image(Vec<u8>),
}

/// An embedding to be written: the index of its source, its vectors as bytes or None for NULL.
type Embedded = (usize, Option<Vec<u8>>);

/// What is to be noted of the jobs.
#[derive(Default)]
struct Verdicts {
    done: Vec<Vec<u8>>,
    released: Vec<Vec<u8>>,
    failed: Vec<(Vec<u8>, String)>,
}

/// Processes at most `max_jobs` jobs of one target. Only a `patient` caller leaves a target alone that
/// was given up a moment ago.
pub(super) fn run(session: &mut impl Session, max_jobs: usize, patient: bool) -> Progress {
    let begun = Instant::now();
    let Some(claim) = session.transaction(|| claim_jobs(max_jobs, patient)) else {
        return Progress::Idle;
    };
    let (mut sources, mut verdicts) =
        session.transaction(|| as_role(claim.owner, || read_sources(&claim)));
    let (embedded, dim) = match embed(&claim, patient, &mut sources, &mut verdicts) {
        Ok(embedded) => embedded,
        Err((error, pause)) => {
            let problem = error.summary();
            session.transaction(|| postpone(&claim, &problem, pause));
            return Progress::Postponed(error);
        }
    };
    session.transaction(|| {
        let written = as_role(claim.owner, || {
            write_embeddings(&claim, &sources, &embedded, dim, &mut verdicts)
        });
        settle(&claim, &verdicts, written, begun.elapsed());
        Progress::Done {
            embedded: written,
            failed: verdicts.failed.len(),
        }
    })
}

/// Forgets what dropped tables and dead processes have left behind.
pub(super) fn tidy(session: &mut impl Session) {
    session.transaction(|| {
        as_role(extension_owner(), || {
            execute("SELECT infinity_embed.tidy_queue()", &[], |_| ())
        });
    });
}

/// Whether any row waits, now or for a later attempt.
pub(super) fn is_anything_waiting() -> bool {
    execute(
        "SELECT EXISTS (SELECT FROM infinity_embed.changes)
             OR EXISTS (SELECT FROM infinity_embed.jobs WHERE NOT dead)",
        &[],
        |row| row.boolean(1),
    )
    .pop()
    .unwrap_or_default()
}

/// How many batches could be claimed now, up to `most`.
pub(super) fn batches_waiting(most: u32) -> u32 {
    let round = settings::inputs_per_round() as i64;
    as_role(extension_owner(), || {
        execute(
            "SELECT infinity_embed.batches_waiting($1::integer, $2::integer, $3::integer)",
            &[
                Value::Integer(Some(round * TEXT_ROUNDS as i64)),
                Value::Integer(Some(round)),
                Value::Integer(Some(most.into())),
            ],
            |row| row.integer(1),
        )
    })
    .pop()
    .flatten()
    .map_or(0, |batches| batches as u32)
}

fn claim_jobs(max_jobs: usize, patient: bool) -> Option<Claim> {
    let round = settings::inputs_per_round();
    let limit = |jobs: usize| Value::Integer(Some(jobs.min(max_jobs) as i64));
    // Generous: a claim is also lost with its process, and then at once.
    let lease = settings::timeout().as_secs_f64() * (TEXT_ROUNDS + 1) as f64 + 60.0;
    as_role(extension_owner(), || {
        execute(
            "SELECT claim, target_id::bigint, owner, is_image, model, dim::bigint, normalized, keys,
                    read_statement, write_statement
             FROM infinity_embed.claim_jobs($1::integer, $2::integer, $3 * interval '1 second', $4)",
            &[
                limit(round * TEXT_ROUNDS),
                limit(round),
                Value::Float(lease),
                Value::Boolean(patient),
            ],
            |row| Claim {
                number: row.integer(1).unwrap_or_default(),
                target: row.integer(2).unwrap_or_default(),
                owner: row.oid(3),
                is_image: row.boolean(4),
                model: row.bytes(5).unwrap_or_default(),
                dim: row.integer(6),
                normalize: row.boolean(7),
                keys: row.texts(8),
                read_statement: row.bytes(9).unwrap_or_default(),
                write_statement: row.bytes(10).unwrap_or_default(),
            },
        )
    })
    .pop()
}

/// The sources, as the table's owner. One that cannot be read or sent fails alone.
fn read_sources(claim: &Claim) -> (Vec<Source>, Verdicts) {
    let mut sources = Vec::with_capacity(claim.keys.len());
    let mut verdicts = Verdicts::default();
    one_by_one_if_need_be(
        &claim.keys,
        &mut verdicts,
        |keys, verdicts| {
            let read = read_rows(claim, keys)?;
            let mut missing: Vec<&Vec<u8>> = keys.iter().collect();
            for (source, left_out) in read {
                missing.retain(|key| **key != source.key);
                if left_out {
                    verdicts.released.push(source.key);
                } else {
                    sources.push(source);
                }
            }
            // Their rows are gone, and so is the reason to embed them.
            verdicts.done.extend(missing.into_iter().cloned());
            Ok(())
        },
        Vec::clone,
    );
    (sources, verdicts)
}

fn read_rows(claim: &Claim, keys: &[Vec<u8>]) -> Result<Vec<(Source, bool)>, SqlError> {
    let content = |row: &Row| -> Result<Option<Content>, SqlError> {
        Ok(match row.bytes(2) {
            None => None,
            Some(bytes) if claim.is_image => Some(Content::Image(bytes)),
            Some(bytes) => Some(Content::Text(to_utf8(&bytes)?)),
        })
    };
    execute(
        claim.read_statement.as_slice(),
        &[self::keys(keys), Value::Integer(Some(MAX_SOURCE_BYTES))],
        |row| {
            let source = Source {
                key: row.bytes(1).unwrap_or_default(),
                content: content(row)?,
                fingerprint: row.bytes(3),
            };
            Ok((source, row.boolean(4)))
        },
    )
    .into_iter()
    .collect()
}

/// Embeds with no transaction open. Inputs that the server refuses go to the verdicts.
fn embed(
    claim: &Claim,
    patient: bool,
    sources: &mut [Source],
    verdicts: &mut Verdicts,
) -> Result<(Vec<Embedded>, usize), (SqlError, f64)> {
    let mut config = config(claim).map_err(|error| (error, LASTING_PAUSE_SECONDS))?;
    if patient {
        config.max_retries = config.max_retries.min(MOST_PATIENT_RETRIES);
    }
    let (mut texts, mut images, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut embedded = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter_mut().enumerate() {
        match source.content.take() {
            None => embedded.push((index, None)),
            Some(Content::Text(text)) => texts.push(text),
            Some(Content::Image(image)) => images.push(image),
        }
        if embedded.last().is_none_or(|&(last, _)| last != index) {
            places.push(index);
        }
    }
    let outcomes: Result<Vec<Outcome>, Error> = if claim.is_image {
        client().embed_images(&config, images, &mut BackendWait)
    } else {
        client().embed_texts(&config, texts, &mut BackendWait)
    };
    let outcomes = outcomes.map_err(|error| {
        let pause = if error.is_transient() {
            PASSING_PAUSE_SECONDS
        } else {
            LASTING_PAUSE_SECONDS
        };
        (SqlError::from(error), pause)
    })?;
    let mut dim = 0;
    for (index, outcome) in places.into_iter().zip(outcomes) {
        match outcome {
            Ok(vectors) => {
                dim = vectors.dim;
                let bytes = vectors.values.iter().flat_map(|v| v.to_ne_bytes());
                embedded.push((index, Some(bytes.collect())));
            }
            Err(error) => {
                let message = SqlError::from(error).sentence();
                verdicts.failed.push((sources[index].key.clone(), message));
            }
        }
    }
    Ok((embedded, dim))
}

fn config(claim: &Claim) -> Result<Config, SqlError> {
    let mut identity = settings::identity(Some(&String::from_utf8_lossy(&claim.model)))?;
    identity.dim = claim.dim.map(|dim| dim as usize);
    identity.normalize = claim.normalize;
    settings::config(identity)
}

/// Writes what is still the embedding of its row, as the table's owner; gives how many rows.
fn write_embeddings(
    claim: &Claim,
    sources: &[Source],
    embedded: &[Embedded],
    dim: usize,
    verdicts: &mut Verdicts,
) -> usize {
    let mut written = 0;
    one_by_one_if_need_be(
        embedded,
        verdicts,
        |embedded, verdicts| {
            let mut locked: Vec<&Vec<u8>> = keys_of(sources, embedded).collect();
            for (key, is_fresh, is_written) in write_rows(claim, sources, embedded, dim) {
                locked.retain(|other| **other != key);
                match (is_fresh, is_written) {
                    (true, true) => {
                        written += 1;
                        verdicts.done.push(key);
                    }
                    (true, false) => {
                        let reason = SqlError::row_not_written().sentence();
                        verdicts.failed.push((key, reason));
                    }
                    (false, _) => verdicts.released.push(key),
                }
            }
            verdicts.released.extend(locked.into_iter().cloned());
            Ok(())
        },
        |(index, _)| sources[*index].key.clone(),
    );
    written
}

fn write_rows(
    claim: &Claim,
    sources: &[Source],
    embedded: &[Embedded],
    dim: usize,
) -> Vec<(Vec<u8>, bool, bool)> {
    if embedded.is_empty() {
        return Vec::new();
    }
    let fingerprints = embedded.iter();
    execute(
        claim.write_statement.as_slice(),
        &[
            Value::Texts(
                keys_of(sources, embedded)
                    .map(|key| Some(key.as_slice()))
                    .collect(),
            ),
            Value::Texts(
                fingerprints
                    .map(|(index, _)| sources[*index].fingerprint.as_deref())
                    .collect(),
            ),
            Value::Bytes(embedded.iter().map(|(_, bytes)| bytes.as_deref()).collect()),
            Value::Integer(Some(dim as i64)),
        ],
        |row| {
            let key = row.bytes(1).unwrap_or_default();
            (key, row.boolean(2), row.boolean(3))
        },
    )
}

fn keys_of<'a>(
    sources: &'a [Source],
    embedded: &'a [Embedded],
) -> impl Iterator<Item = &'a Vec<u8>> {
    embedded.iter().map(|(index, _)| &sources[*index].key)
}

/// Runs `work` for all items, or for each alone when that fails: then only that item is to blame.
fn one_by_one_if_need_be<T>(
    items: &[T],
    verdicts: &mut Verdicts,
    mut work: impl FnMut(&[T], &mut Verdicts) -> Result<(), SqlError>,
    key: impl Fn(&T) -> Vec<u8>,
) {
    let mut tried = |items: &[T], verdicts: &mut Verdicts| match attempt(|| work(items, verdicts)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure {
            message: error.sentence(),
            is_conflict: false,
        }),
        Err(failure) => Err(failure),
    };
    if items.len() > 1 && tried(items, verdicts).is_ok() {
        return;
    }
    for item in items {
        match tried(std::slice::from_ref(item), verdicts) {
            Ok(()) => {}
            Err(failure) if failure.is_conflict => verdicts.released.push(key(item)),
            Err(failure) => verdicts.failed.push((key(item), failure.message)),
        }
    }
}

fn settle(claim: &Claim, verdicts: &Verdicts, written: usize, elapsed: Duration) {
    as_role(extension_owner(), || {
        execute(
            "SELECT infinity_embed.settle_jobs($1::integer, $2, $3, $4, $5, $6, $7, $8, $9::integer)",
            &[
                Value::Integer(Some(claim.target)),
                Value::Integer(Some(claim.number)),
                Value::Integer(Some(written as i64)),
                Value::Float(elapsed.as_secs_f64()),
                keys(&verdicts.done),
                keys(&verdicts.released),
                Value::Texts(
                    verdicts
                        .failed
                        .iter()
                        .map(|(key, _)| Some(key.as_slice()))
                        .collect(),
                ),
                Value::Texts(
                    verdicts
                        .failed
                        .iter()
                        .map(|(_, why)| Some(why.as_bytes()))
                        .collect(),
                ),
                Value::Integer(Some(settings::max_attempts().into())),
            ],
            |_| (),
        )
    });
}

fn postpone(claim: &Claim, problem: &str, pause_seconds: f64) {
    as_role(extension_owner(), || {
        execute(
            "SELECT infinity_embed.postpone_jobs($1::integer, $2, $3, $4, $5 * interval '1 second')",
            &[
                Value::Integer(Some(claim.target)),
                Value::Integer(Some(claim.number)),
                keys(&claim.keys),
                Value::Text(problem.as_bytes()),
                Value::Float(pause_seconds),
            ],
            |_| (),
        )
    });
}

fn keys(keys: &[Vec<u8>]) -> Value<'_> {
    Value::Texts(keys.iter().map(|key| Some(key.as_slice())).collect())
}
