//! An end to SQL that would run for ever: PostgreSQL's own timer for statements.
//!
//! Used by [`super::subtransaction`] in a worker. A session's timer is started for its client's statement; for what a
//! background worker runs nobody starts it, so that it is free. Not obvious: it ends a statement as pg_cancel_backend()
//! does, and only the time tells the two apart.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

/// STATEMENT_TIMEOUT of `enum TimeoutId` in utils/timeout.h, the same since PostgreSQL 9.3.
const STATEMENT: c_int = 3;
/// PostgreSQL measures by another clock, which may be a little ahead of ours.
const CLOCKS_DIFFER: Duration = Duration::from_millis(5);

unsafe extern "C-unwind" {
    // pgrx has no bindings for this header.
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn get_timeout_indicator(id: c_int, reset_indicator: bool) -> bool;
}

/// A timer that runs.
pub(super) struct TimeLimit {
    end: Instant,
}

impl TimeLimit {
    /// Starts it.
    pub(super) fn begin(time: Duration) -> TimeLimit {
        let milliseconds = c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
        let end = Instant::now() + time;
        // SAFETY: main thread of a background worker, whose connection to the database has registered the timer.
        unsafe { enable_timeout_after(STATEMENT, milliseconds.max(1)) };
        TimeLimit { end }
    }

    /// Stops it. True if the time is over.
    pub(super) fn end(self) -> bool {
        // SAFETY: as above. A cancel that came too late to end anything must not end what comes next.
        unsafe {
            disable_timeout(STATEMENT, true);
            if get_timeout_indicator(STATEMENT, true) {
                pg_sys::QueryCancelPending = 0;
            }
        }
        Instant::now() + CLOCKS_DIFFER >= self.end
    }
}
