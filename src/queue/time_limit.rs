//! An end to SQL that would run for ever: PostgreSQL's own timer for statements, and one of ours behind it.
//!
//! Used by [`super::subtransaction`] in a worker. A session's timer is started for its client's statement; for what a
//! background worker runs nobody starts it, so that it is free. Not obvious: it ends a statement as pg_cancel_backend()
//! does, and only the time tells the two apart. SQL may catch that cancel and go on; what still runs after as long again
//! is ended with its process, since nothing less cannot be caught.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::background::die;

/// STATEMENT_TIMEOUT of `enum TimeoutId` in utils/timeout.h, the same since PostgreSQL 9.3.
const STATEMENT: c_int = 3;
/// No timer of PostgreSQL's own, whose number depends on its version: the first free one is taken then.
const ANY_FREE: c_int = c_int::MAX;
/// PostgreSQL measures by another clock, which may be a little ahead of ours.
const CLOCKS_DIFFER: Duration = Duration::from_millis(5);

/// The timer that ends the process; 0, which is no free one's, until it is registered.
static LAST: AtomicI32 = AtomicI32::new(0);
/// Whether it has gone off.
static HAS_ESCAPED: AtomicBool = AtomicBool::new(false);

unsafe extern "C-unwind" {
    // pgrx has no bindings for this header.
    fn RegisterTimeout(id: c_int, handler: unsafe extern "C-unwind" fn()) -> c_int;
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn get_timeout_indicator(id: c_int, reset_indicator: bool) -> bool;
}

/// A timer that runs.
pub(super) struct TimeLimit {
    end: Instant,
}

impl TimeLimit {
    /// Registers the timer of ours, once in the life of a worker.
    pub(super) fn register() {
        // SAFETY: main thread of a background worker that is connected to its database. The handler does what the
        // process' own handler of SIGTERM does, and sets a flag.
        let id = unsafe { RegisterTimeout(ANY_FREE, end_process) };
        LAST.store(id, Ordering::Relaxed);
    }

    /// Whether SQL has escaped its limit, so that this process is about to end.
    pub(super) fn was_escaped() -> bool {
        HAS_ESCAPED.load(Ordering::Relaxed)
    }

    /// Starts it.
    pub(super) fn begin(time: Duration) -> TimeLimit {
        let milliseconds = c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX / 2);
        let milliseconds = milliseconds.clamp(1, c_int::MAX / 2);
        let end = Instant::now() + time;
        // SAFETY: main thread of a worker; the one timer was registered with its connection, the other when it began.
        unsafe {
            enable_timeout_after(LAST.load(Ordering::Relaxed), 2 * milliseconds);
            enable_timeout_after(STATEMENT, milliseconds);
        }
        TimeLimit { end }
    }

    /// Stops it. True if the time is over.
    pub(super) fn end(self) -> bool {
        // SAFETY: as above. A cancel that came too late to end anything must not end what comes next.
        unsafe {
            disable_timeout(LAST.load(Ordering::Relaxed), false);
            disable_timeout(STATEMENT, true);
            if get_timeout_indicator(STATEMENT, true) {
                pg_sys::QueryCancelPending = 0;
            }
        }
        Instant::now() + CLOCKS_DIFFER >= self.end
    }
}

/// Runs in the handler of a signal, as those of all timers.
unsafe extern "C-unwind" fn end_process() {
    HAS_ESCAPED.store(true, Ordering::Relaxed);
    // SAFETY: a handler of a signal, called in one.
    unsafe { die(pg_sys::SIGTERM as c_int) };
}
