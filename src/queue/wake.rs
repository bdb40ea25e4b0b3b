//! A worker for the changes that this transaction has noted, asked for when it commits.
//!
//! Called by the trigger function. Not obvious: nothing may fail after a commit, so that everything
//! which could is done before. That a worker is needed is decided here, by two locks on the database's
//! queue:
//!
//! - the first worker holds [`Lock::Worker`]`(0)` while it lives;
//! - a transaction that has noted changes holds [`Lock::Writers`] in shared mode to its very end, and a
//!   worker that finds nothing to do takes it exclusively before it looks a last time and leaves.
//!
//! So a worker that is seen from here cannot leave before this transaction has ended, and its changes
//! with it become visible.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::{pg_extern, pg_sys};

use super::lock::Lock;
use super::registration::start_worker;
use super::worker;
use crate::settings;

/// Whether a worker is to be registered when the open transaction commits.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Whether the queue's triggers have noted a row in this process since [`watch`].
static NOTED: AtomicBool = AtomicBool::new(false);
/// Whether the callback is in place.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Sees to it that a worker finds what this transaction has noted.
#[pg_extern(sql = false)]
fn queue_wake() {
    NOTED.store(true, Ordering::Relaxed);
    // SAFETY: a flag of the process.
    let is_upgrade = unsafe { pg_sys::IsBinaryUpgrade };
    // A worker looks for itself, at what its own writes have queued too.
    if is_upgrade || worker::is_this_process() {
        return;
    }
    // Again in every statement: the rollback to a savepoint gives it back. Without a worker too: by it
    // infinity_embed.wait() knows whose rows they are.
    Lock::Writers.take(pg_sys::ShareLock);
    if !settings::wants_worker() {
        return;
    }
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the callback is a function of this library, which is never unloaded.
        unsafe {
            pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
        }
    }
    if !WANTED.load(Ordering::Relaxed) && Lock::Worker(0).is_free() {
        WANTED.store(true, Ordering::Relaxed);
    }
}

/// Begins to watch for rows that are noted.
pub(super) fn watch() {
    NOTED.store(false, Ordering::Relaxed);
}

/// Whether one was noted since.
pub(super) fn has_noted() -> bool {
    NOTED.load(Ordering::Relaxed)
}

/// Whether this transaction has noted rows, which nobody else can see yet.
#[pg_extern(sql = false)]
fn queue_has_noted() -> bool {
    Lock::Writers.is_mine(pg_sys::ShareLock)
}

#[pg_extern(sql = false)]
fn queue_has_worker() -> bool {
    !Lock::Worker(0).is_free()
}

/// Neither allocates nor locks nor can panic, but in PostgreSQL's own registration.
///
/// No process hears of COMMIT PREPARED, so that the worker is there from PREPARE TRANSACTION on: it
/// cannot leave before, because the prepared transaction keeps its lock.
unsafe extern "C-unwind" fn at_transaction_end(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_PREPARE
            if WANTED.swap(false, Ordering::Relaxed) =>
        {
            // Without a free slot the next writer asks again.
            start_worker();
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => WANTED.store(false, Ordering::Relaxed),
        _ => {}
    }
}
