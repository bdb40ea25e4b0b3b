//! The locks on a database's queue: who works it off, and who is about to add to it.
//!
//! Used by [`super::wake`] and [`super::worker`]. They stand beside the keys of pg_advisory_lock(), and
//! since they are PostgreSQL's own, the death of a process gives them back.

use pgrx::pg_sys;

/// What is locked.
#[derive(Clone, Copy)]
pub(super) enum Lock {
    /// Shared by every transaction that has noted changes, to its very end.
    Writers,
    /// Exclusively the worker's with this number while it lives. Number 0 is the first one.
    Worker(u32),
}

impl Lock {
    /// Takes it unless somebody has it in a mode that conflicts. For a session it outlives transactions.
    pub(super) fn try_take(self, mode: u32, for_session: bool) -> bool {
        // SAFETY: main thread, inside a transaction.
        let result = unsafe { pg_sys::LockAcquire(&self.tag(), mode as i32, for_session, true) };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// Waits for it, to the end of the transaction.
    pub(super) fn take(self, mode: u32) {
        // SAFETY: main thread, inside a transaction.
        unsafe { pg_sys::LockAcquire(&self.tag(), mode as i32, false, false) };
    }

    /// Gives back what `try_take` gave.
    pub(super) fn release(self, mode: u32, for_session: bool) {
        // SAFETY: main thread; the caller holds it.
        unsafe { pg_sys::LockRelease(&self.tag(), mode as i32, for_session) };
    }

    /// Whether nobody has it exclusively at this moment.
    pub(super) fn is_free(self) -> bool {
        let free = self.try_take(pg_sys::ShareLock, false);
        if free {
            self.release(pg_sys::ShareLock, false);
        }
        free
    }

    /// Whether this transaction or session has it in the mode.
    pub(super) fn is_mine(self, mode: u32) -> bool {
        // SAFETY: main thread; looks into the process's own table of locks.
        unsafe {
            pg_sys::LockHeldByMe(
                &self.tag(),
                mode as i32,
                #[cfg(any(feature = "pg17", feature = "pg18"))]
                false,
            )
        }
    }

    fn tag(self) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            // SAFETY: set once when the process connects.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: u32::from_be_bytes(*b"INFE"),
            locktag_field3: match self {
                Lock::Writers => 0,
                Lock::Worker(number) => number + 1,
            },
            // pg_advisory_lock() has 1 and 2 here.
            locktag_field4: 7997,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }
}
