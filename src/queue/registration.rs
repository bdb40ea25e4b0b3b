//! How the postmaster is asked for a background worker: the form, filled in.
//!
//! Used by whoever starts one. Not obvious: [`start_worker`] is called after a commit too, where nothing
//! may fail, so that it neither allocates nor can panic but in PostgreSQL's own function, whose one
//! possible answer to a valid form is that no slot is free.

use std::ffi::{CStr, c_char, c_void};

use pgrx::pg_sys;

/// Restarted after it was terminated or failed; a crash of another process restarts it at once.
const LAUNCHER_RESTART_SECONDS: i32 = 5;

/// What a new process is to do in its database.
#[derive(Clone, Copy)]
pub(super) enum Task {
    /// There is work.
    Work,
    /// There may be work, or no extension at all.
    Visit,
}

/// A registered process, of which PostgreSQL can tell whether it still runs.
pub(super) struct Handle(*mut pg_sys::BackgroundWorkerHandle);

unsafe extern "C-unwind" {
    // Declared here because pgrx's own sets up a jump for errors, of which a valid registration has none.
    fn RegisterDynamicBackgroundWorker(
        worker: *mut pg_sys::BackgroundWorker,
        handle: *mut *mut c_void,
    ) -> bool;
}

/// Asks for a worker of this database; false when there is no slot left.
pub(super) fn start_worker() -> bool {
    // SAFETY: set once when the process connects.
    let database = unsafe { pg_sys::MyDatabaseId };
    let mut worker = form(Task::Work, database);
    // SAFETY: a valid form, which PostgreSQL copies; no handle is asked for.
    unsafe { RegisterDynamicBackgroundWorker(&mut worker, std::ptr::null_mut()) }
}

/// Asks for a process that looks whether there is work in a database; None when there is no slot left.
/// This process' latch is set when it has ended.
pub(super) fn start_visit(database: pg_sys::Oid) -> Option<Handle> {
    let mut worker = form(Task::Visit, database);
    let mut handle = std::ptr::null_mut();
    // SAFETY: a valid form, which PostgreSQL copies. The handle is allocated where we are.
    let registered = unsafe {
        worker.bgw_notify_pid = pg_sys::MyProcPid;
        pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle)
    };
    // Not then_some(), which would make one of NULL too, and drop it.
    registered.then(|| Handle(handle))
}

/// The launcher, which is there from the server's start on. For the postmaster only.
pub(super) fn register_launcher() {
    let mut launcher = empty(c"infinity_embed launcher", c"infinity_embed_launcher_main");
    launcher.bgw_restart_time = LAUNCHER_RESTART_SECONDS;
    // SAFETY: a valid form, while libraries are preloaded.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut launcher) };
}

impl Handle {
    /// Whether the process has ended, or will never begin.
    pub(super) fn has_ended(&self) -> bool {
        let mut pid = 0;
        // SAFETY: what registration gave.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        matches!(
            status,
            pg_sys::BgwHandleStatus::BGWH_STOPPED | pg_sys::BgwHandleStatus::BGWH_POSTMASTER_DIED
        )
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: PostgreSQL allocated it for us.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

fn form(task: Task, database: pg_sys::Oid) -> pg_sys::BackgroundWorker {
    let function = match task {
        Task::Work => c"infinity_embed_worker_main",
        Task::Visit => c"infinity_embed_visitor_main",
    };
    let mut worker = empty(c"infinity_embed worker", function);
    // The next writer, or the launcher, asks again.
    worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
    worker.bgw_main_arg = pg_sys::Datum::from(database.to_u32());
    worker
}

fn empty(name: &CStr, function: &CStr) -> pg_sys::BackgroundWorker {
    // SAFETY: an integer-only struct, for which all zeroes are valid.
    let mut worker: pg_sys::BackgroundWorker = unsafe { std::mem::zeroed() };
    fill(&mut worker.bgw_name, name);
    fill(&mut worker.bgw_type, name);
    fill(&mut worker.bgw_library_name, c"infinity_embed");
    fill(&mut worker.bgw_function_name, function);
    worker.bgw_flags =
        (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as i32;
    // Not on a standby, until it is promoted.
    worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
    worker
}

fn fill(field: &mut [c_char], text: &CStr) {
    for (slot, &byte) in field.iter_mut().zip(text.to_bytes()) {
        *slot = byte as c_char;
    }
}
