//! As whom SQL runs: the extension's owner for the queue, the table's owner for its rows and expressions.
//!
//! Used by `queue` and `index`. Not obvious: SECURITY_RESTRICTED_OPERATION is what keeps a table's owner
//! from leaving anything behind for us to run. Within it no temporary object can be made, no role set, and
//! no deferred trigger queued that would fire at commit, when we are ourselves again.

use std::ffi::CStr;

use pgrx::pg_sys;

/// No JIT: the queue's statements forbid sequential scans, which makes their plans look costly, and
/// compiling them would take longer than running them. A batch of vectors fits into 64 MB, so that none
/// goes through temporary files. Keys are read as the queue's triggers have printed them,
/// and a source is the same text in every session.
const SETTINGS: [(&CStr, &CStr); 6] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"jit", c"off"),
    (c"work_mem", c"64MB"),
    (c"intervalstyle", c"postgres"),
    (c"lc_monetary", c"C"),
    (c"quote_all_identifiers", c"off"),
];

/// Runs `work` as `role`, with a pinned search_path; whatever setting it changes is undone.
///
/// An error inside leaves the role to the abort of the transaction or subtransaction around it.
pub(crate) fn as_role<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let (mut caller, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: inside a transaction, which restores user and settings when it aborts; the
    // strings are NUL-terminated.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        let restricted =
            pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(role, context | restricted as i32);
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in SETTINGS {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        level
    };
    let result = work();
    // SAFETY: undoes exactly what was done above.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(caller, context);
    }
    result
}
