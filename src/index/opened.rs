//! An index opened by its name in SQL, for the functions that look at it.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::wal::{Index, Log};
use crate::error::SqlError;

/// An index and its table, locked until they are closed.
pub(super) struct Opened {
    lock: u32,
    pub(super) heap: pg_sys::Relation,
    pub(super) relation: pg_sys::Relation,
}

impl Opened {
    /// The table is locked first, as whoever drops or reindexes does.
    ///
    /// # Errors
    /// 42809 where it is not a `maxsim` index. Where it is no relation at all PostgreSQL raises.
    pub(super) fn open(oid: pg_sys::Oid, lock: u32) -> Result<Opened, SqlError> {
        // SAFETY: PostgreSQL checks the number, and a relation's row outlives its lock.
        unsafe {
            let table = pg_sys::IndexGetRelation(oid, true);
            if table == pg_sys::InvalidOid {
                return Err(SqlError::not_a_maxsim_index(&name(oid)));
            }
            let heap = pg_sys::table_open(table, lock as pg_sys::LOCKMODE);
            let relation = pg_sys::index_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            let opened = Opened {
                lock,
                heap,
                relation,
            };
            // That of a partitioned table has no pages.
            let is_whole = (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_INDEX;
            if !is_whole || !is_ours(relation) {
                opened.close();
                return Err(SqlError::not_a_maxsim_index(&name(oid)));
            }
            Ok(opened)
        }
    }

    pub(super) fn index(&self) -> Index {
        // SAFETY: open.
        unsafe { Index::new(self.relation, Log::AtOnce) }
    }

    /// # Errors
    /// 55000 where making it concurrently was not finished: rows are missing.
    pub(super) fn expect_valid(&self) -> Result<(), SqlError> {
        // SAFETY: an open index has its row of pg_index.
        unsafe {
            if (*(*self.relation).rd_index).indisvalid {
                return Ok(());
            }
            Err(SqlError::index_not_valid(&name((*self.relation).rd_id)))
        }
    }

    /// For whoever may read the table, without any lock that holds up more than DROP and ALTER.
    ///
    /// # Errors
    /// As [`Opened::open`]; 42501 is raised.
    pub(super) fn open_to_read(oid: pg_sys::Oid) -> Result<Opened, SqlError> {
        // SAFETY: PostgreSQL checks the numbers. Before anything is locked.
        unsafe {
            let table = pg_sys::IndexGetRelation(oid, true);
            if table != pg_sys::InvalidOid {
                let user = pg_sys::GetUserId();
                let result =
                    pg_sys::pg_class_aclcheck(table, user, pg_sys::ACL_SELECT as pg_sys::AclMode);
                if result != pg_sys::AclResult::ACLCHECK_OK {
                    let name = pg_sys::get_rel_name(table);
                    pg_sys::aclcheck_error(result, pg_sys::ObjectType::OBJECT_TABLE, name);
                }
            }
        }
        Opened::open(oid, pg_sys::AccessShareLock)
    }

    /// With its locks. After an error PostgreSQL closes.
    pub(super) fn close(self) {
        // SAFETY: opened by `open`.
        unsafe {
            pg_sys::index_close(self.relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            pg_sys::table_close(self.heap, self.lock as pg_sys::LOCKMODE);
        }
    }
}

/// Whether its access method is this one.
///
/// # Safety
/// The index is open.
pub(super) unsafe fn is_ours(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open index has its routines.
    let build = unsafe { (*relation).rd_indam.as_ref() }.and_then(|routines| routines.ambuild);
    build.is_some_and(|build| build as usize == super::build::build as *const () as usize)
}

fn name(oid: pg_sys::Oid) -> String {
    // SAFETY: a string of PostgreSQL's, or null.
    unsafe {
        let name = pg_sys::get_rel_name(oid);
        if name.is_null() {
            return oid.to_u32().to_string();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}
