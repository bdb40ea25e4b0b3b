//! `CALL infinity_embed.process_queue()`: the worker's work in the foreground, for cron and for servers
//! that allow no background worker.
//!
//! Not obvious: between two transactions of a procedure SPI has already begun the next one, but it has
//! neither a snapshot nor an id, so nothing holds back VACUUM while the requests run.

use std::time::{Duration, Instant};

use pgrx::{notice, pg_extern, pg_sys, warning};

use super::batch::{self, Progress, Session};
use super::resting::Resting;
use crate::error::SqlError;

/// How often the user is told.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

#[pg_extern(sql = false)]
fn queue_process(max_jobs: Option<i64>, fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: PostgreSQL calls with a valid fcinfo, whose context is a CallContext in CALL.
    let may_commit = unsafe {
        let context = (*fcinfo).context.cast::<pg_sys::CallContext>();
        !context.is_null()
            && (*context).type_ == pg_sys::NodeTag::T_CallContext
            && !(*context).atomic
    };
    if !may_commit {
        SqlError::in_a_transaction().raise();
    }
    let max_jobs = max_jobs.map_or(usize::MAX, |jobs| usize::try_from(jobs).unwrap_or(0));
    let mut session = Foreground::begin();
    let result = drain(&mut session, max_jobs);
    session.end();
    result.unwrap_or_else(|error| error.raise());
}

/// Processes until nothing is left that can be done now.
fn drain(session: &mut Foreground, max_jobs: usize) -> Result<(), SqlError> {
    let (mut embedded, mut failed) = (0, 0);
    let mut told = Instant::now();
    let mut resting = Resting::new(true);
    batch::tidy(session);
    while embedded + failed < max_jobs {
        match batch::run(session, max_jobs - embedded - failed, false, &mut resting) {
            Progress::Idle => break,
            Progress::Postponed(error) => return Err(error),
            Progress::Done {
                embedded: more,
                failed: bad,
            } => {
                embedded += more;
                failed += bad;
            }
        }
        if told.elapsed() >= NOTICE_EVERY {
            told = Instant::now();
            notice!("{embedded} rows embedded, {failed} failed so far");
        }
    }
    notice!("{embedded} rows embedded, {failed} failed");
    for (table, reason) in resting.reasons() {
        notice!("rows of {table} were left for a later call: {reason}");
    }
    for (table, problem) in session.transaction(|| batch::targets_left(&resting)) {
        warning!("rows of {table} wait: {problem}");
    }
    Ok(())
}

/// The transactions of a procedure.
struct Foreground;

impl Foreground {
    fn begin() -> Foreground {
        // SAFETY: in a non-atomic CALL. The transaction that CALL was started in is ended at once,
        // and its snapshot with it.
        unsafe {
            let status = pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
            assert_eq!(status as u32, pg_sys::SPI_OK_CONNECT);
            pg_sys::SPI_commit();
        }
        Foreground
    }

    fn end(self) {
        // SAFETY: the connection that `begin` opened is the innermost one.
        unsafe { pg_sys::SPI_finish() };
    }
}

impl Session for Foreground {
    fn transaction<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: SPI_commit has begun a transaction, and nothing has been read in it. It wants no snapshot to be active but
        // its own. Whatever isolation the session prefers: what others settle meanwhile is no failure.
        unsafe {
            pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let result = work();
        // SAFETY: as above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::SPI_commit();
        }
        result
    }
}
