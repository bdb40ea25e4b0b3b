//! A background process of ours: how it begins, waits, tells what it does and runs transactions.
//!
//! Used by the worker and the launcher. Not obvious: PostgreSQL's own handlers serve its signals, so
//! that SIGTERM ends it wherever it waits, in the middle of a request too.

use std::ffi::{CStr, CString, c_int};
use std::time::Duration;

#[cfg(not(feature = "pg18"))]
use pgrx::pg_sys::pqsignal;
#[cfg(feature = "pg18")]
use pgrx::pg_sys::pqsignal_be as pqsignal;
use pgrx::{check_for_interrupts, pg_sys};

use super::batch::Session;
use super::role::as_extension_owner;
use super::statement::execute;

/// Whatever the database's sessions prefer: a worker writes, and each of its statements must see what others
/// have committed until then.
const TRANSACTIONS: [(&CStr, &CStr); 3] = [
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
];

unsafe extern "C-unwind" {
    // The handlers themselves: pgrx's are wrappers, which are no signal handlers.
    pub(super) fn die(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// Begins the process: its signals, its name, and its database or only what databases share.
pub(super) fn begin(name: &CStr, database: Option<pg_sys::Oid>) {
    // SAFETY: a fresh background worker, in the order that PostgreSQL asks for.
    unsafe {
        pqsignal(pg_sys::SIGTERM as i32, Some(die));
        pqsignal(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
        match database {
            Some(oid) => {
                pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0);
            }
            None => {
                pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0)
            }
        }
        for (setting, value) in [(c"application_name", name)]
            .into_iter()
            .chain(TRANSACTIONS)
        {
            set(
                setting,
                value,
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
            );
        }
    }
}

/// # Safety
/// Main thread, and a value that the setting takes, or else nothing happens.
unsafe fn set(
    name: &CStr,
    value: &CStr,
    context: pg_sys::GucContext::Type,
    source: pg_sys::GucSource::Type,
) {
    // SAFETY: the strings are copied.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            context,
            source,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            // What a session's begin complains of, it has complained of when this one began.
            pg_sys::DEBUG5 as i32,
            false,
        );
    }
}

/// Waits until something happens, at most so long. True if the settings were read again.
pub(super) fn nap(at_most: Duration) -> bool {
    // SAFETY: main thread, own latch.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            at_most.as_millis() as _,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
    reload()
}

/// Reads postgresql.conf again if SIGHUP asked for it.
pub(super) fn reload() -> bool {
    // SAFETY: outside of a transaction, as for any backend between two statements.
    unsafe {
        let asked = pg_sys::ConfigReloadPending != 0;
        if asked {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
        asked
    }
}

/// Takes on what ALTER DATABASE ... SET has changed of our settings since the process began: a session
/// need not, but a worker may wait for the server that only such a setting names. Gives the names of those that are set.
pub(super) fn read_settings_of_database() -> Vec<CString> {
    let settings = as_extension_owner(|| {
        execute(
            "SELECT split_part(s.setting, '=', 1), substr(s.setting, strpos(s.setting, '=') + 1)
             FROM pg_db_role_setting AS d, unnest(d.setconfig) AS s (setting)
             WHERE d.setrole = 0 AND d.setdatabase = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
               AND s.setting LIKE 'infinity\\_embed.%'",
            &[],
            |row| [row.bytes(1), row.bytes(2)].map(Option::unwrap_or_default),
        )
    });
    let mut names = Vec::with_capacity(settings.len());
    for setting in settings {
        // Catalogs hold no NUL.
        let [name, value] = setting.map(|text| CString::new(text).unwrap_or_default());
        // SAFETY: inside a transaction, which keeps it.
        unsafe {
            set(
                &name,
                &value,
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_DATABASE,
            );
        }
        names.push(name);
    }
    names
}

/// What pg_stat_activity shows; it also marks off claims of now from earlier ones.
pub(super) fn report(state: pg_sys::BackendState::Type, what: &str) {
    let text = CString::new(what).unwrap_or_default();
    // SAFETY: the string is copied.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::pgstat_report_activity(state, text.as_ptr());
    }
}

/// The transactions of a process of our own.
pub(super) struct Background;

impl Session for Background {
    fn transaction<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: no transaction is open; this one is ended below, or by whoever catches its error.
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
