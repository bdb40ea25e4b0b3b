//! SQL of a table's owner that catches its cancel and goes on: what is left to do for the worker that ends because of it.
//!
//! Used by [`super::rows`], which says what is tried, and by [`super::worker`]. Not obvious: the ending process itself notes
//! over which rows it ended, before PostgreSQL takes its database away from it. Whoever came later could not tell this end
//! from pg_terminate_backend(), kill -9 or a crash, for which no row is to blame.

use std::cell::RefCell;
use std::ffi::c_int;
use std::time::Duration;

use pgrx::{log, pg_guard, pg_sys};

use super::background::Background;
use super::batch::{Claim, Session, Verdicts, settle};
use super::registration::start_worker;
use super::time_limit::TimeLimit;
use crate::error::SqlError;

thread_local! {
    /// What the process is trying at this moment.
    static UNDER_WAY: RefCell<Option<UnderWay>> = const { RefCell::new(None) };
}

struct UnderWay {
    target: i64,
    claim: i64,
    keys: Vec<Vec<u8>>,
    reason: SqlError,
    limit: Duration,
}

/// Rows over which SQL runs, until it is dropped.
pub(super) struct Trial;

impl Trial {
    /// `reason` is what is said of them if the SQL does not end within the limit, nor let itself be ended.
    pub(super) fn begin(
        claim: &Claim,
        keys: Vec<Vec<u8>>,
        reason: SqlError,
        limit: Duration,
    ) -> Trial {
        UNDER_WAY.set(Some(UnderWay {
            target: claim.target,
            claim: claim.number,
            keys,
            reason,
            limit,
        }));
        Trial
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        UNDER_WAY.set(None);
    }
}

/// Has the end of this process looked after.
pub(super) fn register() {
    TimeLimit::register();
    // SAFETY: main thread; a function of this library, which is never unloaded. It is called before the one that
    // disconnects from the database, which was registered earlier.
    unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::from(0)) };
}

/// One row alone has failed; several become suspects, which are tried alone. Either way the target rests, as long as the others
/// had to wait, and a successor is called, since nobody else may come.
#[pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: c_int, _argument: pg_sys::Datum) {
    if !TimeLimit::was_escaped() {
        return;
    }
    // SAFETY: as PostgreSQL's own callback for temporary tables does it. An error from here on ends the process at once,
    // and leaves its jobs to whoever comes next.
    unsafe { pg_sys::AbortOutOfAnyTransaction() };
    if let Some(trial) = UNDER_WAY.take() {
        let summary = trial.reason.summary();
        log!("infinity_embed worker ends: {summary}");
        let rest = trial.limit * 2;
        let mut verdicts = Verdicts {
            suspects: trial.keys.clone(),
            ..Verdicts::default()
        };
        match <[_; 1]>::try_from(trial.keys) {
            Ok([key]) => verdicts.failed.push((key, trial.reason.sentence())),
            Err(keys) => verdicts.given_back = keys,
        }
        Background.transaction(|| {
            let problem = Some((summary, rest));
            settle(trial.target, trial.claim, &verdicts, problem, 0, rest);
        });
    }
    if !start_worker() {
        log!("infinity_embed: no slot of max_worker_processes is free for the next worker");
    }
}
