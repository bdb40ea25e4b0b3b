//! The table's part of a batch: its sources are read, and later its embeddings written, as its owner.
//!
//! Used by [`super::batch`], in transactions of their own. Not obvious: no lock is waited for longer than a moment, and a
//! worker gives the owner's expressions and triggers an end, since the other tables' rows wait meanwhile.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::batch::{Claim, Obstacle, Verdicts, keys};
use super::echo;
use super::escape::Trial;
use super::parts::{MAX_WRITTEN_BYTES, parts};
use super::role::as_extension_owner;
use super::statement::{Row, Value, execute};
use super::subtransaction::{Cause, Failure, attempt};
use super::wake;
use crate::encoding::to_utf8;
use crate::error::SqlError;
use crate::role::as_role;

/// Sources that one batch reads, all together.
const MAX_SOURCE_BYTES: i64 = 64 * 1024 * 1024;
/// How long a lock of others is waited for, and how long for each row when that was in vain.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
const ROW_LOCK_TIMEOUT: Duration = Duration::from_millis(1);
/// How long locks may keep a batch, all together.
const LONGEST_CONFLICT: Duration = Duration::from_secs(2);

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

/// The sources. One that cannot be read or sent fails alone. A table that could not be written now is not read.
pub(super) fn read_sources(claim: &Claim, within: Option<Duration>) -> (Vec<Source>, Verdicts) {
    let mut sources = Vec::with_capacity(claim.keys.len());
    let mut verdicts = Verdicts::default();
    match keep_definition(claim) {
        Ok(true) => as_table_owner(claim, || {
            read_all(claim, within, &mut sources, &mut verdicts);
        }),
        Ok(false) => verdicts = all_given_back(claim, None),
        Err(obstacle) => verdicts = all_given_back(claim, Some(obstacle)),
    }
    (sources, verdicts)
}

fn read_all(
    claim: &Claim,
    within: Option<Duration>,
    sources: &mut Vec<Source>,
    verdicts: &mut Verdicts,
) {
    let work = Work {
        what: "reading the source",
        claim,
        within,
    };
    work.one_by_one_if_need_be(
        &claim.keys,
        verdicts,
        |keys, verdicts| {
            let read = read_rows(claim, keys, MAX_SOURCE_BYTES)?;
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
}

fn read_rows(
    claim: &Claim,
    keys: &[Vec<u8>],
    most_bytes: i64,
) -> Result<Vec<(Source, bool)>, SqlError> {
    let content = |row: &Row| -> Result<Option<Content>, SqlError> {
        Ok(match row.bytes(2) {
            None => None,
            Some(bytes) if claim.is_image => Some(Content::Image(bytes)),
            Some(bytes) => Some(Content::Text(to_utf8(&bytes)?)),
        })
    };
    execute(
        claim.read_statement.as_slice(),
        &[self::keys(keys), Value::Integer(Some(most_bytes))],
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

/// Writes what is still the embedding of its row; gives how many rows.
pub(super) fn write_embeddings(
    claim: &Claim,
    within: Option<Duration>,
    sources: &[Source],
    embedded: &[Embedded],
    dim: usize,
    verdicts: &mut Verdicts,
) -> usize {
    if embedded.is_empty() && verdicts.obstacle.is_some() {
        return 0;
    }
    match keep_definition(claim) {
        Ok(true) => as_table_owner(claim, || {
            write_all(claim, within, sources, embedded, dim, verdicts)
        }),
        Ok(false) => {
            *verdicts = all_given_back(claim, None);
            0
        }
        Err(obstacle) => {
            *verdicts = all_given_back(claim, Some(obstacle));
            0
        }
    }
}

/// Takes the lock that writing needs, which keeps out ALTER TABLE, CREATE INDEX and auto_embed(), or is kept out by them. Whether
/// the target and its table are still what they were when the jobs were claimed, which they then are until the transaction
/// ends: the statements, made at that time, name the table, its columns and, by their role, its owner.
fn keep_definition(claim: &Claim) -> Result<bool, Obstacle> {
    let locked = as_table_owner(claim, || {
        attempt(None, || {
            execute(claim.lock_statement.as_slice(), &[], |_| ());
            Ok(())
        })
    });
    let obstacle = |reason| Obstacle {
        reason,
        rest: LOCK_TIMEOUT,
        is_problem: true,
    };
    let failure = locked.err();
    if let Some(failure) = &failure
        && failure.cause == Cause::Conflict
    {
        let reason = SqlError::table_locked(&claim.table_name, LOCK_TIMEOUT);
        return Err(obstacle(reason));
    }
    let kept = as_extension_owner(|| {
        execute(
            "SELECT EXISTS (SELECT FROM infinity_embed.targets AS t
                 JOIN pg_catalog.pg_class AS c ON c.oid = t.relation AND c.relowner = $4
                 WHERE t.id = $1::integer AND t.version = $2::integer AND t.relation::text = $3
                 AND (SELECT p.problem FROM infinity_embed.definition_problem(t) AS p) IS NULL)",
            &[
                Value::Integer(Some(claim.target)),
                Value::Integer(Some(claim.version)),
                Value::Text(&claim.relation),
                Value::Oid(claim.owner),
            ],
            |row| row.boolean(1),
        )
    });
    match failure {
        _ if kept.first() != Some(&true) => Ok(false),
        // No row is to blame for what keeps all of them.
        Some(failure) => Err(obstacle(SqlError::not_lockable(
            &claim.table_name,
            &failure.message,
        ))),
        None => Ok(true),
    }
}

fn all_given_back(claim: &Claim, obstacle: Option<Obstacle>) -> Verdicts {
    Verdicts {
        given_back: claim.keys.clone(),
        obstacle,
        ..Verdicts::default()
    }
}

/// Runs `work` as the table's owner, waiting but a moment for any lock.
fn as_table_owner<T>(claim: &Claim, work: impl FnOnce() -> T) -> T {
    as_role(claim.owner, || {
        set_lock_timeout(LOCK_TIMEOUT);
        work()
    })
}

/// Until [`as_role`] undoes it.
fn set_lock_timeout(time: Duration) {
    let milliseconds = format!("{}\0", time.as_millis());
    // SAFETY: main thread; NUL-terminated strings, which are copied.
    unsafe {
        pg_sys::set_config_option(
            c"lock_timeout".as_ptr(),
            milliseconds.as_ptr().cast(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

fn write_all(
    claim: &Claim,
    within: Option<Duration>,
    sources: &[Source],
    embedded: &[Embedded],
    dim: usize,
    verdicts: &mut Verdicts,
) -> usize {
    let work = Work {
        what: "writing the embedding",
        claim,
        within,
    };
    let mut written = 0;
    work.one_by_one_if_need_be(
        embedded,
        verdicts,
        |embedded, verdicts| {
            wake::watch();
            let mut rows = Vec::with_capacity(embedded.len());
            for part in parts(embedded, MAX_WRITTEN_BYTES) {
                rows.extend(write_rows(claim, sources, part, dim));
            }
            let echoes = echoes(claim, sources, embedded, &rows)?;
            let mut locked: Vec<&Vec<u8>> = keys_of(sources, embedded).collect();
            for (key, is_fresh, is_written) in rows {
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
            verdicts.echoes.extend(echoes);
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

/// Which of the rows that were written have another source now; an error if one of them had so the last time, too. Only where
/// the queue's own triggers have noted a row is there anything to look for.
fn echoes(
    claim: &Claim,
    sources: &[Source],
    embedded: &[Embedded],
    rows: &[(Vec<u8>, bool, bool)],
) -> Result<Vec<Vec<u8>>, SqlError> {
    let written = rows.iter().filter(|(_, _, is_written)| *is_written);
    let mut echoes: Vec<Vec<u8>> = written.map(|(key, ..)| key.clone()).collect();
    if wake::has_noted() {
        let now = read_rows(claim, &echoes, i64::MAX)?;
        let now: HashSet<_> = now
            .iter()
            .map(|(source, _)| (&source.key, &source.fingerprint))
            .collect();
        for (index, _) in embedded {
            let Source {
                key, fingerprint, ..
            } = &sources[*index];
            if now.contains(&(key, fingerprint)) {
                echoes.retain(|other| other != key);
                echo::forget(claim.target, key);
            }
        }
        if !echoes.iter().all(|key| echo::may_happen(claim.target, key)) {
            return Err(SqlError::source_changes(&claim.table_name));
        }
    } else {
        for key in echoes.drain(..) {
            echo::forget(claim.target, &key);
        }
    }
    Ok(echoes)
}

fn keys_of<'a>(
    sources: &'a [Source],
    embedded: &'a [Embedded],
) -> impl Iterator<Item = &'a Vec<u8>> {
    embedded.iter().map(|(index, _)| &sources[*index].key)
}

/// SQL of the table's owner that is tried for many rows.
struct Work<'a> {
    what: &'static str,
    claim: &'a Claim,
    within: Option<Duration>,
}

/// How trying went.
#[derive(Default)]
struct Tally {
    successes: usize,
    conflict: Option<String>,
    is_too_slow: bool,
}

impl Work<'_> {
    /// Runs `run` for all items, or for each alone when that fails: then only that item is to blame. What time or patience does
    /// not suffice for waits for later.
    fn one_by_one_if_need_be<T>(
        &self,
        items: &[T],
        verdicts: &mut Verdicts,
        mut run: impl FnMut(&[T], &mut Verdicts) -> Result<(), SqlError>,
        key: impl Fn(&T) -> Vec<u8>,
    ) {
        let begun = Instant::now();
        let mut tally = Tally::default();
        let mut tried = |items: &[T], verdicts: &mut Verdicts, tally: &mut Tally| {
            let _trial = self.within.map(|within| {
                let keys = items.iter().map(&key).collect();
                let claim = self.claim;
                let reason = SqlError::endless(self.what, &claim.table_name, within);
                Trial::begin(claim, keys, reason, within)
            });
            let result = attempt(self.within, || run(items, verdicts));
            match &result {
                Ok(()) => tally.successes += items.len(),
                Err(failure) => tally.note(failure),
            }
            result
        };
        if items.len() > 1 && tried(items, verdicts, &mut tally).is_ok() {
            return;
        }
        for item in items {
            if tally.conflict.is_some() && begun.elapsed() >= LONGEST_CONFLICT {
                verdicts.released.push(key(item));
            } else if self
                .within
                .is_some_and(|within| begun.elapsed() >= within * 2)
            {
                // Once for all together, and once for each alone.
                verdicts.given_back.push(key(item));
            } else if let Err(failure) = tried(std::slice::from_ref(item), verdicts, &mut tally) {
                self.blame(key(item), failure, verdicts);
            }
        }
        if let Some((reason, is_problem)) = self.reason_to_rest(&tally, items.len()) {
            verdicts.obstacle = Some(Obstacle {
                reason,
                // Others shall have as much time.
                rest: begun.elapsed(),
                is_problem,
            });
        }
    }

    /// Notes the failure of a single row.
    fn blame(&self, key: Vec<u8>, failure: Failure, verdicts: &mut Verdicts) {
        match failure.cause {
            Cause::Conflict => verdicts.released.push(key),
            Cause::Time => {
                verdicts.suspects.push(key.clone());
                verdicts.failed.push((key, self.too_slow().sentence()));
            }
            Cause::Row => verdicts.failed.push((key, failure.message)),
        }
    }

    /// Why the target had better rest, and whether that is in the way of all rows.
    fn reason_to_rest(&self, tally: &Tally, rows: usize) -> Option<(SqlError, bool)> {
        match &tally.conflict {
            _ if tally.is_too_slow => Some((self.too_slow(), rows > 1)),
            Some(why) if tally.successes == 0 => {
                let table_name = &self.claim.table_name;
                Some((SqlError::rows_locked(self.what, table_name, why), false))
            }
            _ => None,
        }
    }

    fn too_slow(&self) -> SqlError {
        SqlError::too_slow(
            self.what,
            &self.claim.table_name,
            self.within.unwrap_or_default(),
        )
    }
}

impl Tally {
    fn note(&mut self, failure: &Failure) {
        match failure.cause {
            Cause::Conflict => {
                // Whoever has it now will have it for the next row too.
                set_lock_timeout(ROW_LOCK_TIMEOUT);
                self.conflict = Some(failure.message.clone());
            }
            Cause::Time => self.is_too_slow = true,
            Cause::Row => {}
        }
    }
}
