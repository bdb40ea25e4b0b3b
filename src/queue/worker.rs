//! The background worker: drains a database's queue, waits a little for more, and ends.
//!
//! Started by [`super::wake`], [`super::launcher`] and by another worker. A worker has a number. The first,
//! number 0, is the one that [`super::wake`] relies on; it calls others to help while more than a batch waits,
//! and they leave when they find nothing. Not obvious: all are registered alike and take the lowest number
//! that is free, so that a helper is there to become the first when that one was terminated.

use std::ffi::CString;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, log, pg_guard, pg_sys};

use super::background::{Background, begin, nap, read_settings_of_database, reload, report};
use super::batch::{self, Progress, Session};
use super::escape;
use super::lock::Lock;
use super::registration::start_worker;
use super::resting::Resting;
use super::role::extension_owner;
use crate::settings;

/// How long an idle worker stays.
const LINGER: Duration = Duration::from_secs(2);
/// How often it looks meanwhile, the less often the longer nothing came.
const SHORT_NAP: Duration = Duration::from_millis(100);
const LONG_NAP: Duration = Duration::from_secs(1);
/// How often claims of dead processes, and changed settings of the database, are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How many times as long as that has taken it is left alone: claims are looked for in the whole queue, and an index of them
/// would cost every batch more than it saves.
const TIDY_SHARE: u32 = 20;
/// How often others may be called to help.
const CALL_EVERY: Duration = Duration::from_millis(500);
/// Another process may hold a worker's lock for a moment, to see whether there is a worker.
const LOCK_ATTEMPTS: u32 = 10;
/// How long it rests after an error of its own, doubled each time.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Whether this process is a worker.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Where the postmaster starts the worker; the argument is the database's OID.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn infinity_embed_worker_main(argument: pg_sys::Datum) {
    begin(
        c"infinity_embed worker",
        Some(pg_sys::Oid::from(argument.value() as u32)),
    );
    run();
}

/// Whether this process is a worker, and no session.
pub(super) fn is_this_process() -> bool {
    RUNS.load(Ordering::Relaxed)
}

/// The life of a worker in a process that has begun.
pub(super) fn run() {
    RUNS.store(true, Ordering::Relaxed);
    escape::register();
    let mut worker = Worker::new();
    let mut rest = Duration::ZERO;
    loop {
        let turn = PgTryBuilder::new(AssertUnwindSafe(|| {
            if !rest.is_zero() {
                nap(rest);
            }
            Some(worker.turn())
        }))
        .catch_others(|error| {
            // SAFETY: ends the transaction in which the error was raised, if there was one.
            unsafe { pg_sys::AbortCurrentTransaction() };
            complain(&error)
        })
        .execute();
        rest = match turn {
            Some(Turn::Again) => Duration::ZERO,
            Some(Turn::Leave) => return,
            None => (rest * 2).clamp(FIRST_REST, LONGEST_REST),
        };
    }
}

/// What comes after a turn.
enum Turn {
    Again,
    Leave,
}

struct Worker {
    session: Background,
    number: Option<u32>,
    last_work: Instant,
    next_tidy: Instant,
    last_call: Option<Instant>,
    last_problem: String,
    resting: Resting,
    settings: Vec<CString>,
}

impl Worker {
    fn new() -> Worker {
        Worker {
            session: Background,
            number: None,
            last_work: Instant::now(),
            next_tidy: Instant::now(),
            last_call: None,
            last_problem: String::new(),
            resting: Resting::new(false),
            settings: Vec::new(),
        }
    }

    /// A batch, or a nap where there is none.
    fn turn(&mut self) -> Turn {
        reload();
        // A table's own code may have called pg_advisory_unlock_all().
        self.number = self
            .number
            .filter(|&number| Lock::Worker(number).is_mine(pg_sys::ExclusiveLock));
        if self.number.is_none() {
            self.number = self.take_number();
        }
        report(pg_sys::BackendState::STATE_RUNNING, &self.activity());
        if !self.is_wanted() {
            return Turn::Leave;
        }
        if Instant::now() >= self.next_tidy {
            let begun = Instant::now();
            if !self.follow_settings() {
                return Turn::Leave;
            }
            batch::tidy(&mut self.session);
            self.next_tidy = Instant::now() + tidy_pause(begun.elapsed());
        }
        self.call_for_help();
        match batch::run(&mut self.session, usize::MAX, true, &mut self.resting) {
            Progress::Done { .. } => {
                self.last_work = Instant::now();
                self.last_problem.clear();
                Turn::Again
            }
            Progress::Postponed(error) => {
                self.last_work = Instant::now();
                let problem = error.summary();
                // Once, not at every attempt.
                if problem != self.last_problem {
                    log!("infinity_embed: {problem}");
                    self.last_problem = problem;
                }
                // To try it again, one is enough.
                if self.is_first() {
                    Turn::Again
                } else {
                    Turn::Leave
                }
            }
            Progress::Idle => self.idle(),
        }
    }

    fn is_first(&self) -> bool {
        self.number == Some(0)
    }

    fn activity(&self) -> String {
        if !self.last_problem.is_empty() {
            return format!(
                "trying again to embed queued rows after: {}",
                self.last_problem
            );
        }
        self.resting.reasons().fold(
            "embedding queued rows".to_owned(),
            |text, (table, reason)| format!("{text}; those of {table} later: {reason}"),
        )
    }

    /// Takes on changed settings of the database. One that was reset has in this process no value to go back to: then
    /// another worker is started, and this one has to leave.
    fn follow_settings(&mut self) -> bool {
        let settings = self.session.transaction(read_settings_of_database);
        let is_reset = self.settings.iter().any(|name| !settings.contains(name));
        if is_reset && start_worker() {
            return false;
        }
        // Without a free slot it is tried again.
        if !is_reset {
            self.settings = settings;
        }
        true
    }

    /// The lowest number that no worker of the database has.
    fn take_number(&mut self) -> Option<u32> {
        for _ in 0..LOCK_ATTEMPTS {
            let number = self.session.transaction(|| {
                (0..settings::max_workers())
                    .find(|&number| Lock::Worker(number).try_take(pg_sys::ExclusiveLock, true))
            });
            if number.is_some() {
                return number;
            }
            nap(SHORT_NAP);
        }
        None
    }

    /// Whether there is a place for this worker; the extension may have been dropped, and settings changed.
    fn is_wanted(&mut self) -> bool {
        let Some(number) = self.number else {
            return false;
        };
        (number == 0 || number < settings::max_workers())
            && settings::wants_worker()
            && self.session.transaction(extension_owner) != pg_sys::InvalidOid
    }

    /// The first worker starts others, as many as batches wait beside its own.
    fn call_for_help(&mut self) {
        let most = settings::max_workers();
        let is_early = self
            .last_call
            .is_some_and(|last| last.elapsed() < CALL_EVERY);
        // Of a server that does not embed others would only be told the same.
        if !self.is_first() || most < 2 || is_early || !self.last_problem.is_empty() {
            return;
        }
        self.last_call = Some(Instant::now());
        let missing = self.session.transaction(|| {
            let helpers = (1..most).filter(|&number| !Lock::Worker(number).is_free());
            let wanted = batch::batches_waiting(most).saturating_sub(1);
            wanted.min(most - 1).saturating_sub(helpers.count() as u32)
        });
        for _ in 0..missing {
            start_worker();
        }
    }

    /// Nothing to do just now.
    fn idle(&mut self) -> Turn {
        report(pg_sys::BackendState::STATE_IDLE, &self.activity());
        let idle = self.last_work.elapsed();
        if self.is_first() {
            if idle >= LINGER && self.leave() {
                return Turn::Leave;
            }
        } else if !self.becomes_first() && idle >= LINGER {
            return Turn::Leave;
        }
        nap((idle / 20).clamp(SHORT_NAP, LONG_NAP));
        Turn::Again
    }

    /// Takes the first worker's place if that has gone.
    fn becomes_first(&mut self) -> bool {
        let Some(number) = self.number else {
            return false;
        };
        let moved = self.session.transaction(|| {
            let moved = Lock::Worker(0).try_take(pg_sys::ExclusiveLock, true);
            if moved {
                Lock::Worker(number).release(pg_sys::ExclusiveLock, true);
            }
            moved
        });
        if moved {
            self.number = Some(0);
        }
        moved
    }

    /// Gives up the first worker's lock, unless something waits, be it for later, or a writer is about to
    /// commit or has committed just now.
    fn leave(&mut self) -> bool {
        self.session.transaction(|| {
            // Looks before, too: the queue's tables are locked then, and nothing is waited for while
            // writers may wait for us.
            let empty = !batch::is_anything_waiting()
                && Lock::Writers.try_take(pg_sys::ExclusiveLock, false)
                && !batch::is_anything_waiting();
            if empty {
                Lock::Worker(0).release(pg_sys::ExclusiveLock, true);
            }
            empty
        })
    }
}

/// For how long there is no need to tidy after it has taken so long.
fn tidy_pause(taken: Duration) -> Duration {
    TIDY_EVERY.max(taken * TIDY_SHARE)
}

/// What comes after a failure of the worker's own, no row's and not the server's: None is a rest.
fn complain(error: &CaughtError) -> Option<Turn> {
    // Dropped between two of our transactions, with all that was queued.
    if Background.transaction(extension_owner) == pg_sys::InvalidOid {
        return Some(Turn::Leave);
    }
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic {
        ereport: report, ..
    }) = error;
    let detail = report
        .detail()
        .map_or(String::new(), |detail| format!(": {detail}"));
    log!("infinity_embed worker: {}{detail}", report.message());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tidying_takes_no_more_than_a_twentieth_of_the_time() {
        assert_eq!(tidy_pause(Duration::from_millis(3)), TIDY_EVERY);
        assert_eq!(
            tidy_pause(Duration::from_millis(200)),
            Duration::from_secs(4)
        );
    }
}
