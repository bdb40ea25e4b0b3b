//! Interrupts: looked at while a long value is worked on, and while a backend waits for the network thread.
//!
//! [`poll`] is what the pure crates call between blocks of work. Waiting is on the latch and the client's doorbell, by
//! every call that goes out. A cancel, a timeout or a termination arrives as a signal that
//! sets the latch; `CHECK_FOR_INTERRUPTS` then raises PostgreSQL's own error, which unwinds through
//! the client and so aborts the request.

use std::os::fd::{AsRawFd, BorrowedFd};

use infinity_client::Wait;
use pgrx::{check_for_interrupts, pg_sys};

/// Raises PostgreSQL's error when the backend is to stop.
pub(crate) fn poll() {
    check_for_interrupts!();
}

/// Waits in `WaitLatchOrSocket`; raises PostgreSQL's error when the backend is to stop.
pub(crate) struct BackendWait;

impl Wait for BackendWait {
    fn wait(&mut self, doorbell: BorrowedFd<'_>) {
        let events =
            pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: main thread of a backend, so MyLatch is ours; the descriptor is open for as long
        // as the borrow lasts. The latch is reset before interrupts are looked at, so that a signal
        // in between sets it again.
        unsafe {
            let happened = pg_sys::WaitLatchOrSocket(
                pg_sys::MyLatch,
                events as i32,
                doorbell.as_raw_fd(),
                -1,
                pg_sys::PG_WAIT_EXTENSION,
            );
            if happened as u32 & pg_sys::WL_LATCH_SET != 0 {
                pg_sys::ResetLatch(pg_sys::MyLatch);
            }
        }
        poll();
    }
}
