//! A worker for the changes that this transaction has noted, asked for when it commits.
//!
//! Called by the trigger function. Not obvious: nothing may fail after a commit, so that everything
//! which could is done before. The registration is made ready here, and that it is needed at all is
//! decided here too, by two locks on the database's queue:
//!
//! - a worker holds [`Lock::Worker`] while it lives;
//! - a transaction that has noted changes holds [`Lock::Writers`] in shared mode to its very end, and a
//!   worker that finds nothing to do takes it exclusively before it looks a last time and leaves.
//!
//! So a worker that is seen from here cannot leave before this transaction has ended, and its changes
//! with it become visible.

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::{pg_extern, pg_sys};

use crate::settings;

/// Whether a worker is to be registered when the open transaction commits.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Whether the callback is in place.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The locks on a database's queue, beside the keys of pg_advisory_lock().
#[derive(Clone, Copy)]
pub(super) enum Lock {
    Worker = 1,
    Writers = 2,
}

impl Lock {
    /// Takes it unless somebody has it in a mode that conflicts. For a session it outlives transactions.
    pub(super) fn try_take(self, mode: u32, for_session: bool) -> bool {
        // SAFETY: main thread, inside a transaction.
        let result = unsafe { pg_sys::LockAcquire(&self.tag(), mode as i32, for_session, true) };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// Waits for it, to the end of the transaction.
    fn take(self, mode: u32) {
        // SAFETY: main thread, inside a transaction.
        unsafe { pg_sys::LockAcquire(&self.tag(), mode as i32, false, false) };
    }

    /// Gives back what `try_take` gave.
    pub(super) fn release(self, mode: u32, for_session: bool) {
        // SAFETY: main thread; the caller holds it.
        unsafe { pg_sys::LockRelease(&self.tag(), mode as i32, for_session) };
    }

    fn tag(self) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            // SAFETY: set once when the process connects.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: u32::from_be_bytes(*b"INFE"),
            locktag_field3: self as u32,
            // pg_advisory_lock() has 1 and 2 here.
            locktag_field4: 7997,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }
}

/// Sees to it that a worker finds what this transaction has noted.
#[pg_extern(sql = false)]
fn queue_wake() {
    // SAFETY: a flag of the process.
    if !settings::wants_worker() || unsafe { pg_sys::IsBinaryUpgrade } {
        return;
    }
    if WANTED.load(Ordering::Relaxed) {
        return;
    }
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the callbacks are functions of this library, which is never unloaded.
        unsafe {
            pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
        }
    }
    // Again in every statement: the rollback to a savepoint gives it back.
    Lock::Writers.take(pg_sys::ShareLock);
    if Lock::Worker.try_take(pg_sys::ShareLock, false) {
        Lock::Worker.release(pg_sys::ShareLock, false);
        WANTED.store(true, Ordering::Relaxed);
    }
}

/// Neither allocates nor locks nor can panic, but in PostgreSQL's own registration.
unsafe extern "C-unwind" fn at_transaction_end(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT if WANTED.swap(false, Ordering::Relaxed) => register(),
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            WANTED.store(false, Ordering::Relaxed);
        }
        _ => {}
    }
}

unsafe extern "C-unwind" {
    // Declared here because pgrx's own sets up a jump for errors, of which a valid registration has none.
    fn RegisterDynamicBackgroundWorker(
        worker: *mut pg_sys::BackgroundWorker,
        handle: *mut *mut c_void,
    ) -> bool;
}

/// Asks the postmaster for a worker; when it has no slot left, the next writer asks again.
fn register() {
    // SAFETY: an integer-only struct, for which all zeroes are valid; PostgreSQL copies it.
    unsafe {
        let mut worker: pg_sys::BackgroundWorker = std::mem::zeroed();
        fill(&mut worker.bgw_name, c"infinity_embed worker");
        fill(&mut worker.bgw_type, c"infinity_embed worker");
        fill(&mut worker.bgw_library_name, c"infinity_embed");
        fill(&mut worker.bgw_function_name, c"infinity_embed_worker_main");
        worker.bgw_flags =
            (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as i32;
        worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
        worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
        worker.bgw_main_arg = pg_sys::Datum::from(pg_sys::MyDatabaseId.to_u32());
        RegisterDynamicBackgroundWorker(&mut worker, std::ptr::null_mut());
    }
}

fn fill(field: &mut [c_char], text: &CStr) {
    for (slot, &byte) in field.iter_mut().zip(text.to_bytes()) {
        *slot = byte as c_char;
    }
}
