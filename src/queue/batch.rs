//! One batch of jobs from claim to done: three short transactions and, between the second and the
//! third, the requests with no transaction open.
//!
//! Used by `process_queue()` and by the worker, which differ in how they end a transaction.
//! Not obvious: rows are locked before jobs, as their writers do, and nothing is waited for that a
//! writer may hold, so that the two cannot deadlock.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::echo;
use super::fetch::{Problem, fetch};
use super::resting::Resting;
use super::role::as_extension_owner;
use super::rows::{read_sources, write_embeddings};
use super::statement::{Value, execute};
use crate::error::SqlError;
use crate::settings;

/// Rounds of requests for texts per batch, so that the database's part weighs little beside them.
const TEXT_ROUNDS: usize = 8;
/// Rows beyond which a batch takes no second round: their embeddings are in memory together.
const MANY_ROWS: usize = 1024;

/// How transactions begin and end where the batch runs.
pub(super) trait Session {
    /// Runs `work` in a transaction of its own and commits it.
    fn transaction<T>(&mut self, work: impl FnOnce() -> T) -> T;
}

/// What a batch came to.
pub(super) enum Progress {
    /// There was nothing to do.
    Idle,
    /// Jobs are done, or their target rests.
    Done { embedded: usize, failed: usize },
    /// Nothing could be embedded; the jobs were given back.
    Postponed(SqlError),
}

/// What is claimed together: jobs of one target.
pub(super) struct Claim {
    pub(super) number: i64,
    pub(super) target: i64,
    pub(super) version: i64,
    pub(super) owner: pg_sys::Oid,
    /// The table's name as SQL has it, in the database's encoding, and for messages.
    pub(super) relation: Vec<u8>,
    pub(super) table_name: String,
    pub(super) is_image: bool,
    pub(super) model: Vec<u8>,
    pub(super) dim: Option<i64>,
    pub(super) normalize: bool,
    /// Whether the last batch of the target could not be embedded at all.
    pub(super) is_probe: bool,
    /// Whether it is of one job, over which time may have run out before.
    pub(super) is_suspect: bool,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) lock_statement: Vec<u8>,
    pub(super) read_statement: Vec<u8>,
    pub(super) write_statement: Vec<u8>,
}

/// What is to be noted of the jobs.
#[derive(Default)]
pub(super) struct Verdicts {
    pub(super) done: Vec<Vec<u8>>,
    pub(super) released: Vec<Vec<u8>>,
    pub(super) given_back: Vec<Vec<u8>>,
    /// Those of the failed and the given back over which time ran out.
    pub(super) suspects: Vec<Vec<u8>>,
    pub(super) failed: Vec<(Vec<u8>, String)>,
    /// Those of the done whose source has changed with the write.
    pub(super) echoes: Vec<Vec<u8>>,
    pub(super) obstacle: Option<Obstacle>,
}

/// Why the target's rows had better be left alone for a while, although the server embeds.
pub(super) struct Obstacle {
    pub(super) reason: SqlError,
    pub(super) rest: Duration,
    /// Whether it is in the way of all rows.
    pub(super) is_problem: bool,
}

/// Processes at most `max_jobs` jobs of one target. Only a `patient` caller leaves a target alone that
/// was given up a moment ago.
pub(super) fn run(
    session: &mut impl Session,
    max_jobs: usize,
    patient: bool,
    resting: &mut Resting,
) -> Progress {
    let begun = Instant::now();
    let Some(claim) = session.transaction(|| claim_jobs(max_jobs, patient, resting)) else {
        return Progress::Idle;
    };
    // A caller's own statement_timeout bounds what CALL runs.
    let within = patient.then(settings::statement_limit);
    let (mut sources, mut verdicts) = session.transaction(|| read_sources(&claim, within));
    let (embedded, dim, problem) = fetch(&claim, patient, &mut sources, &mut verdicts);
    let progress = session.transaction(|| {
        let written = write_embeddings(&claim, within, &sources, &embedded, dim, &mut verdicts);
        let hindrance = match &verdicts.obstacle {
            Some(obstacle) => {
                let reason = obstacle.reason.summary();
                let rest = resting.begin(claim.target, &claim.table_name, &reason, obstacle.rest);
                obstacle.is_problem.then_some((reason, rest))
            }
            None => {
                if written > 0 {
                    resting.end(claim.target);
                }
                None
            }
        };
        let problem_found = problem
            .as_ref()
            .map(|Problem { error, pause }| (error.summary(), *pause));
        settle(
            claim.target,
            claim.number,
            &verdicts,
            problem_found.or(hindrance),
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
    });
    echo::keep(claim.target, &verdicts.echoes);
    progress
}

/// Forgets what dropped tables and dead processes have left behind.
pub(super) fn tidy(session: &mut impl Session) {
    session.transaction(|| {
        as_extension_owner(|| execute("SELECT infinity_embed.tidy_queue()", &[], |_| ()));
    });
}

/// Whether any row waits, now or for a later attempt, but for those whose table has to be altered first.
pub(super) fn is_anything_waiting() -> bool {
    execute("SELECT infinity_embed.is_anything_waiting()", &[], |row| {
        row.boolean(1)
    })
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

fn claim_jobs(max_jobs: usize, patient: bool, resting: &Resting) -> Option<Claim> {
    let round = settings::inputs_per_round();
    let limit = |jobs: usize| Value::Integer(Some(jobs.min(max_jobs) as i64));
    // Generous: a claim is also lost with its process, and then at once.
    let lease = settings::timeout().as_secs_f64() * (TEXT_ROUNDS + 1) as f64 + 60.0;
    let resting: Vec<_> = resting.targets().map(|target| target.to_string()).collect();
    as_extension_owner(|| {
        execute(
            "SELECT claim, target_id::bigint, version::bigint, owner, table_name, is_image, model, dim::bigint, normalized,
                    is_probe, is_suspect, keys, lock_statement, read_statement, write_statement
             FROM infinity_embed.claim_jobs($1::integer, $2::integer, $3 * interval '1 second', $4, $5::integer[])",
            &[
                limit(texts_at_once()),
                limit(round),
                Value::Float(lease),
                Value::Boolean(patient),
                Value::Texts(resting.iter().map(|target| Some(target.as_bytes())).collect()),
            ],
            |row| Claim {
                number: row.integer(1).unwrap_or_default(),
                target: row.integer(2).unwrap_or_default(),
                version: row.integer(3).unwrap_or_default(),
                owner: row.oid(4),
                relation: row.bytes(5).unwrap_or_default(),
                table_name: text(row.bytes(5)),
                is_image: row.boolean(6),
                model: row.bytes(7).unwrap_or_default(),
                dim: row.integer(8),
                normalize: row.boolean(9),
                is_probe: row.boolean(10),
                is_suspect: row.boolean(11),
                keys: row.texts(12),
                lock_statement: row.bytes(13).unwrap_or_default(),
                read_statement: row.bytes(14).unwrap_or_default(),
                write_statement: row.bytes(15).unwrap_or_default(),
            },
        )
    })
    .pop()
}

/// Notes what became of a claim's jobs, and why its target rests.
pub(super) fn settle(
    target: i64,
    claim: i64,
    verdicts: &Verdicts,
    problem: Option<(String, Duration)>,
    written: usize,
    elapsed: Duration,
) {
    let (failed, errors): (Vec<_>, Vec<_>) = verdicts
        .failed
        .iter()
        .map(|(key, why)| (Some(key.as_slice()), Some(why.as_bytes())))
        .unzip();
    let (problem, pause) = problem.unzip();
    as_extension_owner(|| {
        execute(
            "SELECT infinity_embed.settle_jobs($1::integer, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::integer,
                 $12, $13 * interval '1 second')",
            &[
                Value::Integer(Some(target)),
                Value::Integer(Some(claim)),
                Value::Integer(Some(written as i64)),
                Value::Float(elapsed.as_secs_f64()),
                keys(&verdicts.done),
                keys(&verdicts.released),
                keys(&verdicts.given_back),
                keys(&verdicts.suspects),
                Value::Texts(failed),
                Value::Texts(errors),
                Value::Integer(Some(settings::max_attempts().into())),
                Value::MaybeText(problem.as_deref().map(str::as_bytes)),
                Value::Float(pause.unwrap_or_default().as_secs_f64()),
            ],
            |_| (),
        )
    });
}

/// Targets that cannot be worked on and have rows that wait, and why, but for those that rest.
pub(super) fn targets_left(resting: &Resting) -> Vec<(String, String)> {
    let resting: Vec<_> = resting.targets().map(|target| target.to_string()).collect();
    as_extension_owner(|| {
        execute(
            "SELECT t.relation::text, t.problem FROM infinity_embed.targets AS t
             WHERE t.problem IS NOT NULL AND t.id <> ALL ($1::integer[])
               AND infinity_embed.has_live_jobs(t.id)
             ORDER BY t.id",
            &[Value::Texts(
                resting
                    .iter()
                    .map(|target| Some(target.as_bytes()))
                    .collect(),
            )],
            |row| (text(row.bytes(1)), text(row.bytes(2))),
        )
    })
}

/// For a message.
fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

pub(super) fn keys(keys: &[Vec<u8>]) -> Value<'_> {
    Value::Texts(keys.iter().map(|key| Some(key.as_slice())).collect())
}
