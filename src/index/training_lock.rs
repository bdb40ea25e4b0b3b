//! One session at a time trains an index or looks for what an ended training left there. Nobody waits.

use pgrx::pg_sys;

const MODE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

/// Held until it is released or the transaction ends.
///
/// It is a lock of an object, a part of the index that nothing in PostgreSQL names. A lock of a page would say as much, but who holds one
/// may not take others up to PostgreSQL 16 (an assertion), and training reads documents.
pub(super) struct TrainingLock(pg_sys::LOCKTAG);

impl TrainingLock {
    /// Takes it, unless somebody else has it.
    ///
    /// # Safety
    /// The index is open.
    pub(super) unsafe fn try_take(index: pg_sys::Relation) -> Option<TrainingLock> {
        // SAFETY: an open relation; MyDatabaseId is set once, at the start.
        let (database, relation) = unsafe { (pg_sys::MyDatabaseId, (*index).rd_id) };
        let tag = pg_sys::LOCKTAG {
            locktag_field1: database.to_u32(),
            locktag_field2: pg_sys::RelationRelationId.to_u32(),
            locktag_field3: relation.to_u32(),
            locktag_field4: 1,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        // SAFETY: a whole tag, of a lock of this transaction, not waited for.
        let taken = unsafe { pg_sys::LockAcquire(&tag, MODE, false, true) };
        (taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL).then_some(TrainingLock(tag))
    }

    pub(super) fn release(self) {
        // SAFETY: taken by `try_take` in this transaction.
        unsafe { pg_sys::LockRelease(&self.0, MODE, false) };
    }
}
