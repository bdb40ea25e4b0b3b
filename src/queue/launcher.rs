//! The launcher: with the library in shared_preload_libraries, what waits after a restart or without
//! a slot is embedded without anybody's asking.
//!
//! Registered when the server starts. A process belongs to one database for life, so that this one, which
//! belongs to none, sends a visitor to each: it ends at once where nothing waits, and becomes the
//! database's worker otherwise. Not obvious: visitors go one after the other, so that however many
//! databases there are, looking takes one slot.

use std::time::{Duration, Instant};

use pgrx::{log, pg_guard, pg_sys};

use super::background::{Background, begin, nap, report};
use super::batch::{Session, is_anything_waiting};
use super::registration::{register_launcher, start_visit};
use super::role::extension_owner;
use super::worker;
use crate::settings;

/// How long it rests after a round, and after one for which slots were missing.
const REST: Duration = Duration::from_secs(60);
const SHORT_REST: Duration = Duration::from_secs(5);
/// A visitor that is still there after so long has found work.
const VISIT: Duration = Duration::from_secs(1);
/// Of a database that a failed DROP DATABASE left behind.
const INVALID_DATABASE: i32 = -2;

/// Called when the library is loaded; registers the launcher where that is the postmaster's doing, but
/// not for pg_upgrade.
pub(crate) fn define() {
    // SAFETY: flags of the process.
    let wanted =
        unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade };
    if wanted {
        register_launcher();
    }
}

/// Where the postmaster starts the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn infinity_embed_launcher_main(_argument: pg_sys::Datum) {
    begin(c"infinity_embed launcher", None);
    let mut slots_were_missing = false;
    loop {
        report(
            pg_sys::BackendState::STATE_RUNNING,
            "looking for databases with queued rows",
        );
        let all = databases().into_iter().all(visit);
        if !all && !slots_were_missing {
            log!("infinity_embed: no slot of max_worker_processes is free to look for queued rows");
        }
        slots_were_missing = !all;
        report(pg_sys::BackendState::STATE_IDLE, "");
        // Changed settings are a reason to look again at once.
        rest(if all { REST } else { SHORT_REST });
    }
}

/// Where the postmaster starts a visitor; the argument is the database's OID.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn infinity_embed_visitor_main(argument: pg_sys::Datum) {
    begin(
        c"infinity_embed worker",
        Some(pg_sys::Oid::from(argument.value() as u32)),
    );
    let is_needed = Background.transaction(|| {
        settings::wants_worker() && extension_owner() != pg_sys::InvalidOid && is_anything_waiting()
    });
    if is_needed {
        worker::run();
    }
}

/// Sends a visitor, and waits until it has gone or has found work; false if no slot is free.
fn visit(database: pg_sys::Oid) -> bool {
    let Some(visitor) = start_visit(database) else {
        return false;
    };
    let begun = Instant::now();
    while !visitor.has_ended() && begun.elapsed() < VISIT {
        nap(VISIT.saturating_sub(begun.elapsed()));
    }
    true
}

fn rest(at_most: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < at_most {
        if nap(at_most.saturating_sub(begun.elapsed())) {
            return;
        }
    }
}

/// The databases that one can connect to. Templates are left alone: a visitor would be in the way of
/// CREATE DATABASE.
fn databases() -> Vec<pg_sys::Oid> {
    Background.transaction(|| {
        let mut databases = Vec::new();
        // SAFETY: inside a transaction; without a database there is no SQL, but the shared catalogs can
        // be scanned. The tuples are read before the scan goes on.
        unsafe {
            let catalog =
                pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
            let scan = pg_sys::systable_beginscan(
                catalog,
                pg_sys::InvalidOid,
                false,
                std::ptr::null_mut(),
                0,
                std::ptr::null_mut(),
            );
            loop {
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
                if row.datallowconn && !row.datistemplate && row.datconnlimit != INVALID_DATABASE {
                    databases.push(row.oid);
                }
            }
            pg_sys::systable_endscan(scan);
            pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        }
        databases
    })
}
