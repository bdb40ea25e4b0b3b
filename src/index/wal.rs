//! Buffers and the log: how pages are locked, added and changed so that a crash loses nothing.
//!
//! Not obvious: while an index is built nobody else sees it, and its pages go into the log as a whole
//! at the end ([`Log::AtEnd`]); afterwards each change is one record of PostgreSQL's generic WAL, with
//! at most four pages. Nothing here releases a lock while an error unwinds: the end of the transaction
//! does, and doing it twice would be an error of its own.

use pgrx::pg_sys;

use super::page::{Opaque, PAGE_BYTES, PageMut};

/// No block.
pub(super) const NO_BLOCK: u32 = pg_sys::InvalidBlockNumber;

/// When changes reach the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// With each change.
    AtOnce,
    /// When the build is done; also never, for tables without a log.
    AtEnd,
}

/// An index and how it is written.
#[derive(Clone, Copy)]
pub(super) struct Index {
    pub(super) relation: pg_sys::Relation,
    log: Log,
    fork: pg_sys::ForkNumber::Type,
}

/// A pinned buffer, locked until dropped.
pub(super) struct Locked {
    buffer: pg_sys::Buffer,
    block: u32,
}

impl Index {
    /// # Safety
    /// `relation` is an open index that stays open while this is used.
    pub(super) unsafe fn new(relation: pg_sys::Relation, log: Log) -> Index {
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        Index {
            relation,
            log,
            fork,
        }
    }

    /// The fork that stands for an unlogged index after a crash.
    pub(super) fn initial_fork(self) -> Index {
        let fork = pg_sys::ForkNumber::INIT_FORKNUM;
        Index { fork, ..self }
    }

    /// The number of blocks there are.
    pub(super) fn blocks(&self) -> u32 {
        // SAFETY: an open relation.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.relation, self.fork) }
    }

    /// The number of blocks, with whatever is being added finished.
    pub(super) fn blocks_settled(&self) -> u32 {
        let _lock = ExtensionLock::take(self.relation);
        self.blocks()
    }

    /// Locked against writers.
    pub(super) fn share(&self, block: u32) -> Locked {
        self.lock(block, pg_sys::BUFFER_LOCK_SHARE)
    }

    /// As [`Index::exclusive`], by way of the ring of buffers that vacuum gives itself.
    pub(super) fn exclusive_with(
        &self,
        block: u32,
        strategy: pg_sys::BufferAccessStrategy,
    ) -> Locked {
        let buffer = self.pin(block, strategy);
        // SAFETY: pinned just now.
        unsafe { pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32) };
        Locked { buffer, block }
    }

    /// Locked against everybody.
    pub(super) fn exclusive(&self, block: u32) -> Locked {
        self.lock(block, pg_sys::BUFFER_LOCK_EXCLUSIVE)
    }

    /// Adds blocks at the end, of which `then` gets the first and the last locked before anybody else can.
    /// There may be only one, which then is both.
    pub(super) fn extend<R>(
        &self,
        count: u32,
        then: impl FnOnce(&Locked, Option<&Locked>) -> R,
    ) -> R {
        let _lock = ExtensionLock::take(self.relation);
        let first = self.add_block();
        let mut last = None;
        for _ in 1..count {
            last = Some(self.add_block());
        }
        then(&first, last.as_ref())
    }

    fn add_block(&self) -> Locked {
        let new = pg_sys::InvalidBlockNumber; // P_NEW
        let mode = pg_sys::ReadBufferMode::RBM_ZERO_AND_LOCK;
        let none = std::ptr::null_mut();
        // SAFETY: an open relation whose extension lock we hold.
        unsafe {
            let buffer = pg_sys::ReadBufferExtended(self.relation, self.fork, new, mode, none);
            let block = pg_sys::BufferGetBlockNumber(buffer);
            Locked { buffer, block }
        }
    }

    fn lock(&self, block: u32, mode: u32) -> Locked {
        let buffer = self.pin(block, std::ptr::null_mut());
        // SAFETY: pinned just now.
        unsafe { pg_sys::LockBuffer(buffer, mode as i32) };
        Locked { buffer, block }
    }

    fn pin(&self, block: u32, strategy: pg_sys::BufferAccessStrategy) -> pg_sys::Buffer {
        let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
        // SAFETY: an open relation; a block that does not exist is an error of PostgreSQL's.
        unsafe { pg_sys::ReadBufferExtended(self.relation, self.fork, block, mode, strategy) }
    }

    /// Changes the pages of exclusively locked buffers in one step.
    pub(super) fn change<const N: usize, R>(
        &self,
        buffers: [&Locked; N],
        apply: impl FnOnce(&mut [PageMut; N]) -> R,
    ) -> R {
        const { assert!(N <= pg_sys::MAX_GENERIC_XLOG_PAGES as usize) };
        match self.log {
            Log::AtOnce => self.change_logged(buffers, apply),
            Log::AtEnd => {
                // SAFETY: pages in buffers that are locked exclusively while `buffers` is borrowed.
                let pages = buffers
                    .map(|locked| unsafe { PageMut::new(pg_sys::BufferGetPage(locked.buffer)) });
                let result = apply(&mut { pages });
                for locked in buffers {
                    // SAFETY: pinned and locked.
                    unsafe { pg_sys::MarkBufferDirty(locked.buffer) };
                }
                result
            }
        }
    }

    fn change_logged<const N: usize, R>(
        &self,
        buffers: [&Locked; N],
        apply: impl FnOnce(&mut [PageMut; N]) -> R,
    ) -> R {
        // SAFETY: exclusively locked buffers of this relation; the images are the record's own. If
        // `apply` unwinds, nothing has been changed, and the record's memory goes with its context.
        unsafe {
            let record = pg_sys::GenericXLogStart(self.relation);
            let mut pages = buffers.map(|locked| {
                let is_new = locked.bytes()[14..16] == [0, 0];
                let flags = if is_new {
                    pg_sys::GENERIC_XLOG_FULL_IMAGE
                } else {
                    0
                };
                let image = pg_sys::GenericXLogRegisterBuffer(record, locked.buffer, flags as i32);
                PageMut::new(image)
            });
            let result = apply(&mut pages);
            pg_sys::GenericXLogFinish(record);
            result
        }
    }

    /// A page as it is to be from now on, whatever it was.
    pub(super) fn initialise(&self, buffer: &Locked, opaque: Opaque) {
        self.change([buffer], |[page]| page.init(opaque));
    }

    /// Puts all pages into the log. Called when a build is done.
    pub(super) fn log_all(&self) {
        // SAFETY: an open relation that nobody else sees; its pages have the standard layout.
        unsafe {
            if self.relation_needs_wal() {
                pg_sys::log_newpage_range(self.relation, self.fork, 0, self.blocks(), true);
            }
        }
    }

    /// PostgreSQL's RelationNeedsWAL. A relation made in this transaction is not logged at wal_level minimal,
    /// and then not in part either: replaying these pages would undo changes that came later without a log.
    ///
    /// # Safety
    /// The relation is open.
    unsafe fn relation_needs_wal(&self) -> bool {
        if self.fork == pg_sys::ForkNumber::INIT_FORKNUM {
            return true;
        }
        let permanent = pg_sys::RELPERSISTENCE_PERMANENT;
        let none = 0; // InvalidSubTransactionId
        // SAFETY: an open relation has its row of pg_class; a setting is read on the main thread.
        unsafe {
            let relation = &*self.relation;
            #[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15"))]
            let file_made_in = relation.rd_firstRelfilenodeSubid;
            #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
            let file_made_in = relation.rd_firstRelfilelocatorSubid;
            let is_old = relation.rd_createSubid == none && file_made_in == none;
            let logs_all = pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32;
            (*relation.rd_rel).relpersistence as u8 == permanent && (logs_all || is_old)
        }
    }
}

impl Locked {
    pub(super) fn block(&self) -> u32 {
        self.block
    }

    pub(super) fn bytes(&self) -> &[u8; PAGE_BYTES] {
        // SAFETY: a pinned page, locked against writers at least.
        unsafe { &*pg_sys::BufferGetPage(self.buffer).cast() }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: pinned and locked by us.
        unsafe { pg_sys::UnlockReleaseBuffer(self.buffer) };
    }
}

/// Held while the file grows.
struct ExtensionLock(pg_sys::Relation);

impl ExtensionLock {
    fn take(relation: pg_sys::Relation) -> ExtensionLock {
        // SAFETY: an open relation.
        unsafe {
            pg_sys::LockRelationForExtension(relation, pg_sys::ExclusiveLock as pg_sys::LOCKMODE);
        }
        ExtensionLock(relation)
    }
}

impl Drop for ExtensionLock {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
        // SAFETY: taken by us.
        unsafe { pg_sys::UnlockRelationForExtension(self.0, mode) };
    }
}
