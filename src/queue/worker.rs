//! The background worker: drains a database's queue, waits a little for more, and ends.
//!
//! Started by [`super::wake`]. Not obvious: PostgreSQL's own handlers serve its signals, so SIGTERM ends
//! it wherever it waits, in the middle of a request too, and DROP DATABASE ... WITH (FORCE) with it;
//! what it had claimed is taken over by whoever comes next.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::{check_for_interrupts, log, pg_guard, pg_sys};

use super::batch::{self, Progress, Session};
use super::role::extension_owner;
use super::wake::Lock;

/// How long an idle worker stays, and how often it looks.
const LINGER: Duration = Duration::from_secs(2);
const NAP_MS: i64 = 100;
/// How often claims of dead processes are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// Another process may hold the worker's lock for a moment, to see whether there is a worker.
const LOCK_ATTEMPTS: u32 = 10;

unsafe extern "C-unwind" {
    // The handlers themselves: pgrx's are wrappers, which are no signal handlers.
    fn die(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// Where the postmaster starts the worker; the argument is the database's OID.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn infinity_embed_worker_main(argument: pg_sys::Datum) {
    let database = pg_sys::Oid::from(argument.value() as u32);
    // SAFETY: a fresh background worker, in the order that PostgreSQL asks for.
    unsafe {
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(die));
        pg_sys::pqsignal(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        pg_sys::set_config_option(
            c"application_name".as_ptr(),
            c"infinity_embed worker".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            0,
            false,
        );
    }
    let mut session = Background;
    if become_the_worker(&mut session) {
        work(&mut session);
    }
}

/// Takes the lock that only one worker of a database has.
fn become_the_worker(session: &mut Background) -> bool {
    for _ in 0..LOCK_ATTEMPTS {
        if session.transaction(|| Lock::Worker.try_take(pg_sys::ExclusiveLock, true)) {
            return true;
        }
        nap();
    }
    false
}

fn work(session: &mut Background) {
    let mut last_work = Instant::now();
    let mut last_tidy: Option<Instant> = None;
    let mut last_problem = String::new();
    loop {
        report(pg_sys::BackendState::STATE_RUNNING);
        // The extension may have been dropped since.
        if session.transaction(extension_owner) == pg_sys::InvalidOid {
            return;
        }
        if last_tidy.is_none_or(|last| last.elapsed() >= TIDY_EVERY) {
            batch::tidy(session);
            last_tidy = Some(Instant::now());
        }
        match batch::run(session, usize::MAX, true) {
            Progress::Done { .. } => {
                last_work = Instant::now();
                last_problem.clear();
            }
            Progress::Postponed(error) => {
                last_work = Instant::now();
                let problem = error.summary();
                // Once, not at every attempt.
                if problem != last_problem {
                    log!("infinity_embed: {problem}");
                    last_problem = problem;
                }
            }
            Progress::Idle => {
                report(pg_sys::BackendState::STATE_IDLE);
                if last_work.elapsed() >= LINGER && !has_work(session) && leave(session) {
                    return;
                }
                nap();
            }
        }
    }
}

/// Whether anything waits, be it for later.
fn has_work(session: &mut Background) -> bool {
    session.transaction(batch::is_anything_waiting)
}

/// Gives up the worker's lock, unless a writer is about to commit or has committed just now.
fn leave(session: &mut Background) -> bool {
    session.transaction(|| {
        let alone = Lock::Writers.try_take(pg_sys::ExclusiveLock, false);
        alone && {
            // SAFETY: inside a transaction; the changes of writers that have ended are to be seen.
            let empty = unsafe {
                pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
                let empty = !batch::is_anything_waiting();
                pg_sys::PopActiveSnapshot();
                empty
            };
            if empty {
                Lock::Worker.release(pg_sys::ExclusiveLock, true);
            }
            empty
        }
    })
}

/// Sleeps until something happens, a tenth of a second at most.
fn nap() {
    // SAFETY: main thread, own latch.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            NAP_MS,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
    // SAFETY: outside of a transaction, as for any backend between two statements.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// What pg_stat_activity shows; it also marks off claims of now from earlier ones.
fn report(state: pg_sys::BackendState::Type) {
    // SAFETY: the string is copied.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::pgstat_report_activity(state, c"embedding queued rows".as_ptr());
    }
}

/// The transactions of a process of our own.
struct Background;

impl Session for Background {
    fn transaction<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: no transaction is open; this one is ended below, or by the end of the process.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let result = work();
        // SAFETY: as above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            pg_sys::pgstat_report_stat(false);
        }
        result
    }
}
