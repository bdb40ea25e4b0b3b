//! One batch of jobs from claim to done: three short transactions and, between the second and the
//! third, the requests with no transaction open.
//!
//! Used by `process_queue()` and by the worker, which differ in how they end a transaction.
//! Not obvious: rows are locked before jobs, as their writers do, and nothing is waited for that a
//! writer may hold, so that the two cannot deadlock.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::fetch::{Problem, fetch};
use super::role::as_extension_owner;
use super::statement::{Row, Value, execute};
use super::subtransaction::{Failure, attempt};
use crate::encoding::to_utf8;
use crate::error::SqlError;
use crate::role::as_role;
use crate::settings;

/// Rounds of requests for texts per batch, so that the database's part weighs little beside them.
const TEXT_ROUNDS: usize = 8;
/// Rows beyond which a batch takes no second round: their embeddings are in memory together.
const MANY_ROWS: usize = 1024;
/// Sources that one batch reads, all together.
const MAX_SOURCE_BYTES: i64 = 64 * 1024 * 1024;
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
pub(super) struct Claim {
    number: i64,
    target: i64,
    version: i64,
    owner: pg_sys::Oid,
    pub(super) is_image: bool,
    pub(super) model: Vec<u8>,
    pub(super) dim: Option<i64>,
    pub(super) normalize: bool,
    /// Whether the last batch of the target could not be embedded at all.
    pub(super) is_probe: bool,
    keys: Vec<Vec<u8>>,
    lock_statement: Vec<u8>,
    read_statement: Vec<u8>,
    write_statement: Vec<u8>,
}

/// A row's source as it was read.
pub(super) struct Source {
    pub(super) key: Vec<u8>,
    /// None where the source is NULL: so will the embedding be.
    pub(super) content: Option<Content>,
    fingerprint: Option<Vec<u8>>,
}

pub(super) enum Content {
    Text(String),
    Image(Vec<u8>),
}

/// An embedding to be written: the index of its source, its vectors as bytes or None for NULL.
pub(super) type Embedded = (usize, Option<Vec<u8>>);

/// What is to be noted of the jobs.
#[derive(Default)]
pub(super) struct Verdicts {
    done: Vec<Vec<u8>>,
    released: Vec<Vec<u8>>,
    pub(super) given_back: Vec<Vec<u8>>,
    pub(super) failed: Vec<(Vec<u8>, String)>,
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
    let (embedded, dim, problem) = fetch(&claim, patient, &mut sources, &mut verdicts);
    session.transaction(|| {
        let written = match keep_definition(&claim) {
            true => as_role(claim.owner, || {
                write_embeddings(&claim, &sources, &embedded, dim, &mut verdicts)
            }),
            false => {
                verdicts = Verdicts {
                    given_back: claim.keys.clone(),
                    ..Verdicts::default()
                };
                0
            }
        };
        settle(
            &claim,
            &verdicts,
            problem.as_ref(),
            written,
            begun.elapsed(),
        );
        match problem {
            Some(problem) if written == 0 => Progress::Postponed(problem.error),
            _ => Progress::Done {
                embedded: written,
                failed: verdicts.failed.len(),
            },
        }
    })
}

/// Forgets what dropped tables and dead processes have left behind.
pub(super) fn tidy(session: &mut impl Session) {
    session.transaction(|| {
        as_extension_owner(|| execute("SELECT infinity_embed.tidy_queue()", &[], |_| ()));
    });
}

/// Whether any row waits, now or for a later attempt.
pub(super) fn is_anything_waiting() -> bool {
    execute(
        "SELECT EXISTS (SELECT FROM infinity_embed.changes)
             OR EXISTS (SELECT FROM infinity_embed.backfill)
             OR EXISTS (SELECT FROM infinity_embed.queue WHERE NOT dead)",
        &[],
        |row| row.boolean(1),
    )
    .pop()
    .unwrap_or_default()
}

/// How many batches could be claimed now, up to `most`.
pub(super) fn batches_waiting(most: u32) -> u32 {
    let round = settings::inputs_per_round() as i64;
    as_extension_owner(|| {
        execute(
            "SELECT infinity_embed.batches_waiting($1::integer, $2::integer, $3::integer)",
            &[
                Value::Integer(Some(texts_at_once() as i64)),
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

/// Texts that one batch takes.
fn texts_at_once() -> usize {
    let round = settings::inputs_per_round();
    (round * TEXT_ROUNDS).min(MANY_ROWS.max(round))
}

fn claim_jobs(max_jobs: usize, patient: bool) -> Option<Claim> {
    let round = settings::inputs_per_round();
    let limit = |jobs: usize| Value::Integer(Some(jobs.min(max_jobs) as i64));
    // Generous: a claim is also lost with its process, and then at once.
    let lease = settings::timeout().as_secs_f64() * (TEXT_ROUNDS + 1) as f64 + 60.0;
    as_extension_owner(|| {
        execute(
            "SELECT claim, target_id::bigint, version::bigint, owner, is_image, model, dim::bigint, normalized,
                    is_probe, keys, lock_statement, read_statement, write_statement
             FROM infinity_embed.claim_jobs($1::integer, $2::integer, $3 * interval '1 second', $4)",
            &[
                limit(texts_at_once()),
                limit(round),
                Value::Float(lease),
                Value::Boolean(patient),
            ],
            |row| Claim {
                number: row.integer(1).unwrap_or_default(),
                target: row.integer(2).unwrap_or_default(),
                version: row.integer(3).unwrap_or_default(),
                owner: row.oid(4),
                is_image: row.boolean(5),
                model: row.bytes(6).unwrap_or_default(),
                dim: row.integer(7),
                normalize: row.boolean(8),
                is_probe: row.boolean(9),
                keys: row.texts(10),
                lock_statement: row.bytes(11).unwrap_or_default(),
                read_statement: row.bytes(12).unwrap_or_default(),
                write_statement: row.bytes(13).unwrap_or_default(),
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
                    verdicts.given_back.push(source.key);
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

/// Whether the target is still defined as when its jobs were claimed, which it then is until the transaction ends.
fn keep_definition(claim: &Claim) -> bool {
    as_role(claim.owner, || {
        // A table that cannot be locked cannot be written either, which is then each row's failure.
        let _ = attempt(|| execute(claim.lock_statement.as_slice(), &[], |_| ()));
    });
    as_extension_owner(|| {
        execute(
            "SELECT EXISTS (SELECT FROM infinity_embed.targets AS t WHERE t.id = $1::integer AND t.version = $2::integer
                 AND t.key_columns = infinity_embed.primary_key(t.relation))",
            &[
                Value::Integer(Some(claim.target)),
                Value::Integer(Some(claim.version)),
            ],
            |row| row.boolean(1),
        )
    })
    .pop()
    .unwrap_or_default()
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

fn settle(
    claim: &Claim,
    verdicts: &Verdicts,
    problem: Option<&Problem>,
    written: usize,
    elapsed: Duration,
) {
    let (failed, errors): (Vec<_>, Vec<_>) = verdicts
        .failed
        .iter()
        .map(|(key, why)| (Some(key.as_slice()), Some(why.as_bytes())))
        .unzip();
    let summary = problem.map(|problem| problem.error.summary());
    as_extension_owner(|| {
        execute(
            "SELECT infinity_embed.settle_jobs($1::integer, $2, $3, $4, $5, $6, $7, $8, $9, $10::integer,
                 $11, $12 * interval '1 second')",
            &[
                Value::Integer(Some(claim.target)),
                Value::Integer(Some(claim.number)),
                Value::Integer(Some(written as i64)),
                Value::Float(elapsed.as_secs_f64()),
                keys(&verdicts.done),
                keys(&verdicts.released),
                keys(&verdicts.given_back),
                Value::Texts(failed),
                Value::Texts(errors),
                Value::Integer(Some(settings::max_attempts().into())),
                Value::MaybeText(summary.as_deref().map(str::as_bytes)),
                Value::Float(problem.map_or(0.0, |problem| problem.pause.as_secs_f64())),
            ],
            |_| (),
        )
    });
}

fn keys(keys: &[Vec<u8>]) -> Value<'_> {
    Value::Texts(keys.iter().map(|key| Some(key.as_slice())).collect())
}
